"""Row norms of arrays that already are in memory, without a copy.

An array is a numpy array (ml_dtypes included), a torch CPU tensor, or anything with DLPack, the buffer
protocol or `__array_interface__`, of float64, float32, float16, bfloat16, float8_e4m3fn, float8_e5m2 or the
fnuz kin of those two. A *row* is a slice along `axis`: with the default `axis=-1` of a decoder `W_dec` of
shape `(d_sae, d_out)`, the vector of one latent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrow import _native

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["row_norms"]


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
