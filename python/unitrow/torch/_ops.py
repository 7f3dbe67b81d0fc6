"""The custom operators `unitrow::row_norms`, `unitrow::unit_norm_` and `unitrow::remove_parallel_`.

Registered with torch, so that `torch.compile` keeps a graph whole, fake tensors get shapes without memory,
and the version counters that autograd checks are bumped by what changes a tensor. Inside a compiled region a
mutating operator may be handed a copy of its argument, which is then copied back: call the projection
outside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unitrow import _native
from unitrow.errors import ArrayError, ArrayTypeError
from unitrow.torch import _reference
from unitrow.torch._dispatch import check, check_memory, is_compensated, local, norm_dtype, uses_rust


@torch.library.custom_op("unitrow::row_norms", mutates_args=())
def _row_norms(x: Tensor, dim: int) -> Tensor:
    check(x, "x")
    _check_dim(x, dim)
    if uses_rust(x):
        return torch.from_numpy(_native.row_norms(x, dim))
    return _reference.row_norms(x, dim, compensated=is_compensated(x))


@_row_norms.register_fake
def _(x: Tensor, dim: int) -> Tensor:
    check(x, "x")
    _check_dim(x, dim)
    shape = list(x.shape)
    del shape[dim]
    return x.new_empty(shape, dtype=norm_dtype(x))


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.dim = inputs
    ctx.save_for_backward(x, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    x, norms = ctx.saved_tensors
    norms = norms.unsqueeze(ctx.dim)
    # The norm has no derivative at zero; zero is the subgradient that moves nothing.
    scale = torch.where(norms == 0, 0, grad.unsqueeze(ctx.dim) / norms)
    return (scale * x.to(norms.dtype)).to(x.dtype), None


_row_norms.register_autograd(_backward, setup_context=_keep_for_backward)


@torch.library.custom_op("unitrow::unit_norm_", mutates_args=("w",))
def _unit_norm_(w: Tensor, dim: int, on_degenerate: str) -> None:
    check(w, "w")
    _check_dim(w, dim)
    if uses_rust(w):
        _native.normalize_rows_(w, dim, on_degenerate=on_degenerate)
    else:
        check_memory(w, "w")
        _reference.unit_norm_(w, dim, on_degenerate, compensated=is_compensated(w))


@_unit_norm_.register_fake
def _(w: Tensor, dim: int, on_degenerate: str) -> None:  # noqa: ARG001
    check(w, "w")
    _check_dim(w, dim)


@torch.library.custom_op("unitrow::remove_parallel_", mutates_args=("grad",))
def _remove_parallel_(grad: Tensor, rows: Tensor, dim: int) -> None:
    _check_pair(grad, rows)
    _check_dim(grad, dim)
    if uses_rust(grad, rows):
        _native.remove_parallel_(grad, rows, dim)
    else:
        check_memory(grad, "grad", rows)
        _reference.remove_parallel_(grad, rows, dim, compensated=is_compensated(grad))


@_remove_parallel_.register_fake
def _(grad: Tensor, rows: Tensor, dim: int) -> None:
    _check_pair(grad, rows)
    _check_dim(grad, dim)


def _check_int(dim: object) -> None:
    # Before torch's dispatcher, whose own words name neither.
    if not isinstance(dim, int):
        msg = f"dim must be one int, and is {dim!r}"
        raise ArrayTypeError(msg)


def _check_dim(x: Tensor, dim: int) -> None:
    if not -x.ndim <= dim < x.ndim:
        msg = f"a tensor of {x.ndim} dimensions has no rows along dim {dim}"
        raise ArrayError(msg)


def _check_pair(grad: Tensor, rows: Tensor) -> None:
    check(grad, "grad")
    check(rows, "rows")
    if grad.shape != rows.shape or grad.device != rows.device:
        msg = (
            f"grad and rows must agree: {tuple(grad.shape)} on {grad.device} "
            f"against {tuple(rows.shape)} on {rows.device}"
        )
        raise ArrayError(msg)


def _check_in_place(x: Tensor, what: str) -> None:
    if x.requires_grad and not x.is_leaf:
        msg = f"{what} was computed by autograd, which would not see a change in place; pass {what}.detach()"
        raise ArrayError(msg)
    if not torch.compiler.is_compiling() and x.is_neg():  # of which torch.compile makes no graph
        msg = f"{what} is a lazily negated view; {what}.resolve_neg() makes it plain memory"
        raise ArrayError(msg)


def row_norms(x: Tensor, dim: int = -1) -> Tensor:
    """Euclidean norms of the rows of `x`, accumulated in float64; differentiable once.

    Args:
        x: Dense floating-point tensor on any device.
        dim: The dimension that rows run along; it is the one that disappears.

    Returns:
        float64 tensor on the device of `x`; float32 on MPS, which has no float64, within 2^-24 relative. For
        a DTensor, the norms of this rank's rows.

    Raises:
        ArrayTypeError: `x` is not a dense floating-point tensor, or a DTensor whose rows are split;
            or `dim` no int.
        ArrayError: `dim` out of range, or rank 0.
    """
    check(x, "x")
    _check_int(dim)
    norms: Tensor = _row_norms(local(x, dim, "x"), dim)
    return norms


def unit_norm_(w: Tensor, dim: int = -1, *, on_degenerate: str = "keep", compiled: bool = False) -> Tensor:
    """Makes the rows of `w` unit vectors in place, as an initialiser does: without autograd.

    Rows are divided by their float64 norm and rounded once. A row whose norm is 1 to within the rounding of
    its own elements stays bit for bit as it is, so a second call changes nothing.

    Args:
        w: Dense floating-point tensor on any device, usually a parameter. Of a DTensor, this rank's rows.
        dim: The dimension that rows run along.
        on_degenerate: What to do about zero rows and rows with NaN or Inf: `"keep"` leaves them as they are,
            `"raise"` changes nothing and raises.
        compiled: Have `torch.compile` make one kernel or two of the torch operations that do this on a GPU:
            several times as fast, from the second call on. Results are the same but for the last bit of
            float64, which one rounding in 2^29 shows. For float32 and the 16-bit formats; without effect
            elsewhere, on the CPU and on MPS.

    Returns:
        `w` itself.

    Raises:
        ArrayTypeError: `w` is not a dense floating-point tensor, or a DTensor whose rows are split.
        ArrayError: `dim` out of range; `w` is the result of a recorded computation or an overlapping view; or
            rows without direction and `on_degenerate="raise"`.
    """
    if on_degenerate not in ("keep", "raise"):
        msg = f"on_degenerate is 'keep' or 'raise', not {on_degenerate!r}"
        raise ArrayError(msg)
    with torch.no_grad():
        check(w, "w")
        _check_int(dim)
        _check_in_place(w, "w")
        shard = local(w, dim, "w")
        if compiled and not uses_rust(shard):
            _check_dim(shard, dim)
            check_memory(shard, "w")
            _reference.unit_norm_(shard, dim, on_degenerate, compensated=is_compensated(shard), compiled=True)
        else:
            _unit_norm_(shard, dim, on_degenerate)
    return w


def remove_parallel_(grad: Tensor, rows: Tensor, dim: int = -1, *, compiled: bool = False) -> Tensor:
    """Removes from each row of `grad` the part parallel to the same row of `rows`, in place.

    What is left is the gradient on the sphere through that row. Exact for rows of any norm: the coefficient
    is (g.r)/(r.r), in float64. Where the row of `rows` is zero or not finite the gradient is left alone.

    Args:
        grad: Dense floating-point tensor, usually `W_dec.grad`.
        rows: Tensor of the same shape and device, usually `W_dec`; it is not changed.
        dim: The dimension that rows run along.
        compiled: As for `unit_norm_`.

    Returns:
        `grad` itself.

    Raises:
        ArrayTypeError: not dense floating-point tensors, or DTensors whose rows are split.
        ArrayError: shapes or devices differ, `dim` out of range, or memory that is shared.
    """
    with torch.no_grad():
        check(grad, "grad")
        check(rows, "rows")
        _check_int(dim)
        _check_in_place(grad, "grad")
        g, r = local(grad, dim, "grad"), local(rows, dim, "rows")
        if compiled and not uses_rust(g, r):
            _check_pair(g, r)
            _check_dim(g, dim)
            check_memory(g, "grad", r)
            _reference.remove_parallel_(g, r, dim, compensated=is_compensated(g), compiled=True)
        else:
            _remove_parallel_(g, r, dim)
    return grad
