"""Data parallel training: each process takes its part of the same batch, and gradients are averaged.

All of it does nothing in a single process.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


def join(device: torch.device) -> None:
    """Join the processes that `torchrun` started, unless the caller has done so."""
    if dist.is_available() and not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        dist.barrier()


def sum_(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over the processes."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather(tensor: Tensor) -> Tensor:
    """The processes' parts of a batch, joined along the first dimension."""
    if world() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def broadcast_(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by those of the main process."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def average_gradients_(parameters: Sequence[Tensor]) -> None:
    """Replace gradients by their means over the processes."""
    if world() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world()


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean over the processes of a mean over each one's part of the batch.

    Differentiable so that gradients come out right after `average_gradients_`: where a loss is no sum over
    tokens, each process must see the whole batch's figure, and pass the gradient to its own part alone.
    """
    if world() == 1:
        return x
    mean: Tensor = _MeanOverRanks.apply(x)
    return mean


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return sum_(x.clone()) / world()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return grad
