"""What is minimised."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from unitrow.training.distributed import gather, mean_over_ranks, sum_, world

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
        threshold: The one that all latents had, where the largest pre-activations were active.
    """

    total: Tensor
    error: Tensor
    parts: dict[str, Tensor]
    activations: Tensor
    outputs: Tensor
    threshold: Tensor | None


class Weights(NamedTuple):
    """What changes from step to step.

    Attributes:
        sparsity: λ.
        target_l0: T.
        dead: Which latents are dead, (d_sae,), bool.
    """

    sparsity: Tensor
    target_l0: Tensor
    dead: Tensor


def losses(
    model: JumpReLUTranscoder,
    config: TrainerConfig,
    x: Tensor,
    target: Tensor,
    weights: Weights,
    *,
    topk: bool,
) -> Losses:
    """The loss of a batch.

    Args:
        model: The transcoder.
        config: The run.
        x: Scaled inputs, (batch, d_in).
        target: Scaled targets, (batch, d_out).
        weights: What holds for this step.
        topk: Whether the largest pre-activations are active, and not those above their thresholds.
    """
    z = model.pre_activations(x)
    threshold = batch_threshold(z.detach(), config.topk) if topk else None
    f = model.activate(z) if threshold is None else torch.where(z > threshold, z, 0)
    y = model.decode(f, x).to(target.dtype)
    residual = target - y
    error = residual.square().sum(-1).mean()
    parts = {}
    if threshold is None:
        parts["sparsity"] = weights.sparsity * _sparsity(model, config, z, f, weights.target_l0)
    if config.preact_coefficient:
        reach = torch.relu(model.threshold - z) * _row_norms(model, config)
        parts["preact"] = config.preact_coefficient * reach.sum(-1).mean()
    if config.frequency_coefficient:
        frequency = mean_over_ranks(model.step(z).mean(0))
        excess = torch.relu(frequency - config.frequency_limit).sum()
        parts["frequency"] = config.frequency_coefficient * excess
    if config.dead_latents != "none":
        parts["dead_loss"] = config.dead_coefficient * _dead(model, config, z, target, residual, weights.dead)
    total = torch.stack([error, *parts.values()]).sum()
    return Losses(total, error, parts, f.detach(), y.detach(), threshold)


def batch_threshold(z: Tensor, k: float) -> Tensor:
    """The threshold, at least 0, above which lie the largest k of each token's pre-activations on average.

    Args:
        z: This process's pre-activations, (batch, d_sae); counted are those of all processes.
        k: How many.
    """
    count = round(k * len(z) * world())
    values = z.flatten()
    if world() > 1:  # whatever is among the largest of all is among the largest of its process
        values = gather(values.topk(min(count + 1, values.numel())).values)
    return values.kthvalue(values.numel() - count).values.clamp(min=0)


def _sparsity(
    model: JumpReLUTranscoder, config: TrainerConfig, z: Tensor, f: Tensor, target_l0: Tensor
) -> Tensor:
    if config.sparsity == "tanh":
        return torch.tanh(config.tanh_scale * f * _row_norms(model, config)).sum(-1).mean()
    l0 = model.step(z).sum(-1)
    if config.sparsity == "l0":
        return l0.mean()
    if config.target_l0_over == "batch" or config.sparsity == "l0-control":
        l0 = mean_over_ranks(l0.mean())
    if config.sparsity == "l0-control":
        excess = (l0 / target_l0 - 1).detach()
        return torch.relu(1 + config.control_gain * excess) * l0
    return (2 / target_l0) * (l0 - target_l0).square().mean()


def _dead(
    model: JumpReLUTranscoder,
    config: TrainerConfig,
    z: Tensor,
    target: Tensor,
    residual: Tensor,
    dead: Tensor,
) -> Tensor:
    if config.dead_latents == "pre-activation":
        return (torch.relu(model.threshold - z) * dead).sum(-1).mean()
    active = config.d_out // 2 if config.dead_k is None else config.dead_k
    values, places = torch.where(dead, z, -torch.inf).topk(min(max(active, 1), config.d_sae), dim=-1)
    # Where fewer latents are dead than may be active the rest is -inf, which ReLU turns into nothing.
    f = torch.zeros_like(z).scatter(-1, places, torch.relu(values))
    residual = residual.detach()
    missed = (residual - (f @ model.W_dec).to(residual.dtype)).square().sum(-1).mean()
    # Gao et al. divide this loss by the residual's variance and the main one by that of the targets; here
    # the main one is left as it is, so this one is multiplied by the targets'.
    left = variance(residual)
    scale = torch.where(left > 0, variance(target) / left, 0)
    # With nobody to revive, what is missed is no one's loss.
    return missed * scale * dead.any()


@torch.no_grad()
def variance(x: Tensor) -> Tensor:
    """Squared distances from the mean, summed over dimensions, mean over all processes' rows of a batch."""
    rows = len(x) * world()
    mean = sum_(x.sum(0)) / rows
    return sum_((x - mean).square().sum()) / rows


def _row_norms(model: JumpReLUTranscoder, config: TrainerConfig) -> Tensor | float:
    """Norms of the decoder's rows, (d_sae,); where they are kept at 1, nothing needs computing."""
    return 1.0 if config.decoder == "unit" else torch.linalg.vector_norm(model.W_dec, dim=-1)
