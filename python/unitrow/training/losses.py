"""What is minimised."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from unitrow.training.distributed import mean_over_ranks

if TYPE_CHECKING:
    from unitrow.training.config import TrainerConfig
    from unitrow.transcoder.model import JumpReLUTranscoder


class Losses(NamedTuple):
    """One batch.

    Attributes:
        total: The sum of all parts, with their coefficients.
        error: Squared error, summed over outputs, mean over tokens.
        parts: The parts beside the error, with their coefficients.
        activations: f, (batch, d_sae), detached.
        outputs: y, (batch, d_out), detached.
    """

    total: Tensor
    error: Tensor
    parts: dict[str, Tensor]
    activations: Tensor
    outputs: Tensor


def losses(
    model: JumpReLUTranscoder,
    config: TrainerConfig,
    x: Tensor,
    target: Tensor,
    sparsity_coefficient: float | Tensor,
    dead: Tensor,
) -> Losses:
    """The loss of a batch.

    Args:
        model: The transcoder.
        config: The run.
        x: Scaled inputs, (batch, d_in).
        target: Scaled targets, (batch, d_out).
        sparsity_coefficient: λ at this step.
        dead: Which latents are dead, (d_sae,), bool.
    """
    z = model.pre_activations(x)
    f = model.activate(z)
    y = model.decode(f, x).to(target.dtype)
    residual = target - y
    error = residual.square().sum(-1).mean()
    parts = {"sparsity": sparsity_coefficient * _sparsity(model, config, z, f)}
    if config.preact_coefficient:
        reach = torch.relu(model.threshold - z) * _row_norms(model, config)
        parts["preact"] = config.preact_coefficient * reach.sum(-1).mean()
    if config.frequency_coefficient:
        frequency = mean_over_ranks(model.step(z).mean(0))
        excess = torch.relu(frequency - config.frequency_limit).sum()
        parts["frequency"] = config.frequency_coefficient * excess
    if config.dead_latents != "none":
        parts["dead"] = config.dead_coefficient * _dead(model, config, z, residual, dead)
    total = torch.stack([error, *parts.values()]).sum()
    return Losses(total, error, parts, f.detach(), y.detach())


def _sparsity(model: JumpReLUTranscoder, config: TrainerConfig, z: Tensor, f: Tensor) -> Tensor:
    if config.sparsity == "tanh":
        return torch.tanh(config.tanh_scale * f * _row_norms(model, config)).sum(-1).mean()
    l0 = model.step(z).sum(-1)
    if config.sparsity == "l0" or config.target_l0 is None:
        return l0.mean()
    if config.target_l0_over == "batch":
        l0 = mean_over_ranks(l0.mean())
    return (2 / config.target_l0) * (l0 - config.target_l0).square().mean()


def _dead(
    model: JumpReLUTranscoder, config: TrainerConfig, z: Tensor, residual: Tensor, dead: Tensor
) -> Tensor:
    if config.dead_latents == "pre-activation":
        return (torch.relu(model.threshold - z) * dead).sum(-1).mean()
    values, places = torch.where(dead, z, -torch.inf).topk(min(config.dead_k, config.d_sae), dim=-1)
    # Where fewer latents are dead than may be active the rest is -inf, which ReLU turns into nothing.
    f = torch.zeros_like(z).scatter(-1, places, torch.relu(values))
    return (residual.detach() - (f @ model.W_dec).to(residual.dtype)).square().sum(-1).mean()


def _row_norms(model: JumpReLUTranscoder, config: TrainerConfig) -> Tensor | float:
    """Norms of the decoder's rows, (d_sae,); where they are kept at 1, nothing needs computing."""
    return 1.0 if config.decoder == "unit" else torch.linalg.vector_norm(model.W_dec, dim=-1)
