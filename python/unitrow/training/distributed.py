"""Data parallel training: each process takes its part of the same batch, and gradients are averaged.

All of it does nothing in a single process.
"""

from __future__ import annotations

import atexit
import importlib
import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from unitrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def join(device: torch.device) -> torch.device:
    """Join the processes that `torchrun` started, unless the caller has done so.

    Returns:
        The device of this process; see `own_device`.
    """
    if not dist.is_available():
        return device
    begins = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not begins and world() == 1:
        return device
    device = own_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what NCCL and everything else that names no GPU then uses
    if begins:
        on_gpu = device.type == "cuda"
        if not on_gpu:
            # Its default arguments keep the group that there is when it is first imported, which torch's
            # optimizers do: then the group would outlive `_leave`.
            importlib.import_module("torch.distributed.nn")
            atexit.register(_leave)
        dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
    return device


def _leave() -> None:
    # A thread of gloo that still holds a tensor aborts an interpreter that is ending
    # (pytorch/pytorch#179291), and torchrun then takes a run for failed that is done. NCCL has no such
    # threads, and would wait here for a process that an error keeps from coming.
    if dist.is_initialized():
        dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """Of several GPUs the one whose number torchrun gave this process as `LOCAL_RANK`.

    A device that has a number already is the caller's choice. Where each process is shown one GPU alone, as
    batch systems do, that is the one.

    Raises:
        ConfigError: There are fewer GPUs than processes on this machine.
    """
    local = os.environ.get("LOCAL_RANK")
    if device.type != "cuda" or device.index is not None or local is None:
        return device
    count = torch.cuda.device_count()
    number = 0 if count == 1 and os.environ.get("CUDA_VISIBLE_DEVICES") else int(local)
    if number >= count:
        raise ConfigError(f"device: process {local} of this machine has no GPU of its own, there are {count}")
    return torch.device("cuda", number)


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
