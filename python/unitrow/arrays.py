"""Row norms of arrays that already are in memory, without a copy.

An array is a numpy array (ml_dtypes included), a torch CPU tensor, or anything with DLPack, the buffer
protocol or `__array_interface__`, of float64, float32, float16, bfloat16, float8_e4m3fn, float8_e5m2 or the
fnuz kin of those two. A *row* is a slice along `axis`: with the default `axis=-1` of a decoder `W_dec` of
shape `(d_sae, d_out)`, the vector of one latent.

Large arrays are shared by threads of our own, without the interpreter's lock: as many as the environment
variable `UNITROW_NUM_THREADS` says at the first call, else as the affinity mask and the control group allow.
Their number changes no bit of any result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from unitrow import _native

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Normalized", "normalize_rows_", "remove_parallel_", "row_norms"]


class Normalized(NamedTuple):
    """What `normalize_rows_` did, in rows."""

    changed: int
    """Divided by their norm."""

    unchanged: int
    """Already unit to within the rounding of their own elements, and not written."""

    zero: int
    """All elements zero: without direction, left alone."""

    nonfinite: int
    """With a NaN or an infinity: left alone."""


def row_norms(x: Any, axis: int = -1) -> npt.NDArray[np.float64]:
    """Euclidean norms of the rows of `x`, accumulated in float64.

    Within 4 ulp of float64 for rows of up to 65,536 elements, without overflow or underflow on the way, and
    the same bits on every instruction set, for every number of threads and for every memory layout.

    Args:
        x: Array of rank 1 or more. A tensor that requires grad is read as if detached.
        axis: The axis that rows run along; it is the one that disappears.

    Returns:
        float64 array of the shape of `x` without `axis`. A row with a NaN has norm NaN, one with an infinity
        and no NaN has norm inf, an empty row has norm 0.

    Raises:
        ArrayTypeError: `x` is no array, or of another dtype, layout or device (a `TypeError`).
        ArrayError: Rank 0, `axis` out of range, swapped bytes, or rows that run backwards in memory (a
            `ValueError`).
    """
    return _native.row_norms(x, axis)


def normalize_rows_(
    x: Any,
    axis: int = -1,
    *,
    on_degenerate: Literal["keep", "raise"] = "keep",
    compat: Literal["torch"] | None = None,
) -> Normalized:
    """Makes the rows of `x` unit vectors, in place.

    A row is divided by its float64 norm and rounded once. A row whose norm is 1 to within the rounding of its
    own elements is not written, so a second call changes nothing.

    Args:
        x: Writable array of rank 1 or more. A torch tensor that requires grad must be detached, or the call
            made under `torch.no_grad()`; autograd is told of the change.
        axis: The axis that rows run along.
        on_degenerate: What to do about zero rows and rows with NaN or Inf: `"keep"` leaves them alone and
            counts them, `"raise"` raises before any row is written.
        compat: `"torch"` gives the bits of `torch.nn.functional.normalize` on a CPU instead, its epsilon and
            its overflow included.

    Returns:
        Counts of rows.

    Raises:
        ArrayTypeError: `x` is no array, or of another dtype, layout or device (a `TypeError`).
        ArrayError: `x` is read-only, overlaps itself or requires grad; rank 0 or `axis` out of range; rows
            without direction and `on_degenerate="raise"` (a `ValueError`).
    """
    return Normalized(*_native.normalize_rows_(x, axis, on_degenerate=on_degenerate, compat=compat))


def remove_parallel_(grad: Any, rows: Any, axis: int = -1) -> None:
    """Removes from each row of `grad` the part parallel to the same row of `rows`, in place.

    The result is the gradient on the sphere through that row, for rows of any norm: the coefficient is
    (g.r)/(r.r), in float64. Where the row of `rows` is zero or not finite the gradient is left alone.

    Args:
        grad: Writable array of rank 1 or more.
        rows: Array of the same shape, not changed; its dtype may differ.
        axis: The axis that rows run along.

    Raises:
        ArrayTypeError: an argument is no array, or of another dtype, layout or device (a `TypeError`).
        ArrayError: shapes differ, memory is shared, or `grad` is read-only, overlaps itself or requires grad
            (a `ValueError`).
    """
    _native.remove_parallel_(grad, rows, axis)
