"""JumpReLU and the Heaviside step, differentiated by straight-through estimators.

With pre-activation z, threshold θ, bandwidth ε and the rectangle K(u) = 1 for |u| < 1/2, else 0:

    JumpReLU(z) = z · H(z − θ)      ∂/∂z := H(z − θ)      ∂/∂θ := −(θ/ε) · K((z − θ)/ε)
    Step(z)     =     H(z − θ)      ∂/∂z := 0             ∂/∂θ := −(1/ε) · K((z − θ)/ε)

summed over the batch for θ (Rajamanoharan et al. 2024, arXiv 2407.14435). With `ste_to_input` the estimate
with respect to z − θ also flows to z: the negative of the one for θ is added to ∂/∂z.

The windows open around pre-activations: of an activation, which is 0 below the threshold, only the upper half
of a window would be left. All arithmetic on θ is done in its own dtype, so that θ in float32 is compared,
and its gradient summed, in float32 also where z is bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def jump_relu(z: Tensor, threshold: Tensor, bandwidth: float, *, ste_to_input: bool = False) -> Tensor:
    """JumpReLU of the pre-activations.

    Args:
        z: Pre-activations, (..., d_sae).
        threshold: Thresholds, (d_sae,), at least 0.
        bandwidth: Width of the estimators' window.
        ste_to_input: Whether the estimate also reaches `z`.

    Returns:
        Activations, shape and dtype of `z`; NaN stays NaN.
    """
    activations: Tensor = _JumpReLU.apply(z, threshold, bandwidth, ste_to_input)
    return activations


def step(z: Tensor, threshold: Tensor, bandwidth: float, *, ste_to_input: bool = False) -> Tensor:
    """1 where a latent is active, 0 elsewhere; summed over latents, the L0 of the activations.

    Args:
        z: Pre-activations, (..., d_sae).
        threshold: Thresholds, (d_sae,), at least 0.
        bandwidth: Width of the estimators' window.
        ste_to_input: Whether the estimate also reaches `z`.

    Returns:
        Ones and zeros, shape of `z`, dtype of `threshold`: sums of bfloat16 ones would be rounded.
    """
    ones: Tensor = _Step.apply(z, threshold, bandwidth, ste_to_input)
    return ones


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, threshold: Tensor, bandwidth: float, ste_to_input: bool) -> Tensor:  # noqa: ARG004
        return z.masked_fill(z <= threshold, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float, bool], output: Tensor) -> None:  # noqa: ARG004
        _keep(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        z, threshold = ctx.saved_tensors
        estimate = _in_window(grad, z, threshold, ctx.bandwidth)
        slope = threshold / ctx.bandwidth
        grad_z = grad_threshold = None
        if ctx.needs_input_grad[0]:
            grad_z = grad.masked_fill(z <= threshold, 0)
            if ctx.ste_to_input:
                grad_z = (grad_z + slope * estimate).to(grad.dtype)
        if ctx.needs_input_grad[1]:
            grad_threshold = -slope * _over_batch(estimate, threshold)
        return grad_z, grad_threshold, None, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, threshold: Tensor, bandwidth: float, ste_to_input: bool) -> Tensor:  # noqa: ARG004
        return (z > threshold).to(threshold.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float, bool], output: Tensor) -> None:  # noqa: ARG004
        _keep(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        z, threshold = ctx.saved_tensors
        estimate = _in_window(grad, z, threshold, ctx.bandwidth)
        grad_z = grad_threshold = None
        if ctx.needs_input_grad[0] and ctx.ste_to_input:
            grad_z = (estimate / ctx.bandwidth).to(z.dtype)
        if ctx.needs_input_grad[1]:
            grad_threshold = -_over_batch(estimate, threshold) / ctx.bandwidth
        return grad_z, grad_threshold, None, None


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, float, bool]) -> None:
    z, threshold, ctx.bandwidth, ctx.ste_to_input = inputs
    ctx.save_for_backward(z, threshold)


def _in_window(grad: Tensor, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """The gradient where K((z − θ)/ε) = 1, zero elsewhere."""
    distance = z - threshold  # as large as the activations of a batch: worked on in place
    outside = distance.div_(bandwidth).abs_() >= 0.5
    return grad.masked_fill(outside, 0)


def _over_batch(values: Tensor, threshold: Tensor) -> Tensor:
    return values.reshape(-1, *threshold.shape).sum(0, dtype=threshold.dtype)
