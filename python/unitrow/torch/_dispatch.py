"""Which tensors go to the Rust kernels and which to torch operations."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from unitrow.errors import ArrayError, ArrayTypeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

FLOATING = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
)


@dataclass
class _Switch:
    torch_only: bool = False
    compensated: bool = False


_SWITCH = _Switch()


@contextmanager
def _force_torch(*, compensated: bool = False) -> Iterator[None]:
    """Runs CPU tensors through torch operations, as if they lay on a GPU (or, `compensated`, on MPS)."""
    before = (_SWITCH.torch_only, _SWITCH.compensated)
    _SWITCH.torch_only, _SWITCH.compensated = True, compensated
    try:
        yield
    finally:
        _SWITCH.torch_only, _SWITCH.compensated = before


def uses_rust(*tensors: Tensor) -> bool:
    """Whether the Rust kernels take these tensors."""
    return not _SWITCH.torch_only and all(x.device.type == "cpu" and not _is_dtensor(x) for x in tensors)


def _is_dtensor(x: Tensor) -> bool:
    module = sys.modules.get("torch.distributed.tensor")  # where it was never imported nothing is a DTensor
    return module is not None and isinstance(x, module.DTensor)


def is_compensated(x: Tensor) -> bool:
    """Whether sums over `x` must do without float64."""
    return _SWITCH.compensated or x.device.type == "mps"


def norm_dtype(x: Tensor) -> torch.dtype:
    """The dtype of norms of `x`."""
    return torch.float32 if is_compensated(x) else torch.float64


def check(x: Tensor, what: str) -> None:
    """Refuses what has no rows of numbers.

    Raises:
        ArrayTypeError: not a dense tensor of a floating dtype.
    """
    if not isinstance(x, torch.Tensor):
        msg = f"{what} must be a torch.Tensor, and is {type(x).__name__}; for other arrays use unitrow itself"
        raise ArrayTypeError(msg)
    if x.layout != torch.strided:
        msg = f"{what} has layout {x.layout}; only dense tensors have rows here (x.to_dense() makes one)"
        raise ArrayTypeError(msg)
    if x.is_nested:
        msg = (
            f"{what} is a nested tensor, whose rows are no rows of one length; call it for each of x.unbind()"
        )
        raise ArrayTypeError(msg)
    if x.dtype not in FLOATING:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATING)
        msg = f"{what} has dtype {x.dtype}; norms are taken of {known}"
        raise ArrayTypeError(msg)


def check_memory(x: Tensor, what: str, other: Tensor | None = None) -> None:
    """Refuses to change in place what the kernels refuse: elements that share memory, or lie among `other`'s.

    Raises:
        ArrayError: as said.
    """
    if x.is_meta or x.numel() == 0 or torch.compiler.is_compiling():
        return  # what has no memory shares none; torch.compile looks at its arguments itself
    extent = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size > 1 and stride < extent:
            msg = (
                f"{what} has elements that share memory (broadcast or overlapping view) and cannot be "
                f"changed in place; copy it first"
            )
            raise ArrayError(msg)
        extent += (size - 1) * stride
    if other is not None:
        (start, end), (other_start, other_end) = _span(x), _span(other)
        if start < other_end and other_start < end:
            msg = f"{what} shares memory with another argument; copy one of them"
            raise ArrayError(msg)


def _span(x: Tensor) -> tuple[int, int]:
    """The addresses from the first element of `x` to the end of its last."""
    elements = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + elements * x.element_size()


def local(x: Tensor, dim: int, what: str) -> Tensor:
    """This rank's rows of a DTensor, and any other tensor as it is.

    Raises:
        ArrayTypeError: the rows themselves are split or pending a reduction, so that no rank has one whole.
    """
    if not _is_dtensor(x):
        return x
    dtensor: Any = x
    along = dim % x.ndim if x.ndim else 0
    for placement in dtensor.placements:
        if not (placement.is_replicate() or (placement.is_shard() and placement.dim % x.ndim != along)):
            msg = (
                f"{what} is a DTensor placed {dtensor.placements}: no rank has whole rows along dim {dim}; "
                f"shard another dimension, or redistribute"
            )
            raise ArrayTypeError(msg)
    shard: Tensor = dtensor.to_local()
    return shard
