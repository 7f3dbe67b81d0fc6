"""The operations of `unitrow.torch` in torch operations, for devices that the Rust kernels do not reach.

Same contract as the kernels: norms accumulate in float64 and results are rounded once. On a device without
float64 (MPS) every sum is carried as a pair of float32 numbers, which keeps norms within 2^-24 relative.
Work goes through bounded pieces, so that the wide temporaries stay small beside the tensor.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from unitrow.errors import ArrayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

# Elements whose float64 copies are alive at a time.
_PIECE = 1 << 24

# Scaling by 2^-exponent stays in range up to here, and squares of what is scaled neither overflow nor vanish.
_EXPONENT_LIMIT = 1000

# What the squared norm may be off by through float64 arithmetic alone; the kernels' step divides float32 rows
# by less exact means.
_MEASURE_SLACK = 18 * 2.0**-53
_MEASURE_SLACK_FLOAT32 = _MEASURE_SLACK + 2.0**-45

# Formats that torch.compile gives the same bits; float8 it refuses.
_COMPILED = {torch.float32, torch.float16, torch.bfloat16}

# No rounding doubles a norm.
_FAR = 2.0

# The bias of a format's exponents and the bits of its fraction. Not asked of torch.finfo: that of torch 2.11
# gives float8_e5m2fnuz half its eps.
_LAYOUTS = {
    torch.float64: (1023, 52),
    torch.float32: (127, 23),
    torch.float16: (15, 10),
    torch.bfloat16: (127, 7),
    torch.float8_e4m3fn: (7, 3),
    torch.float8_e5m2: (15, 2),
    torch.float8_e4m3fnuz: (8, 3),
    torch.float8_e5m2fnuz: (16, 2),
}

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}

# The last of the thirteen leading bits of a float64.
_ODD_BIT = 40

_MATRIX = 2

# Every finite float8 converts exactly, and most operations exist, from here on.
_HALF_BYTES = 2


class Wide(NamedTuple):
    """Numbers as `high + low`; `low` is zero where float64 carries them alone."""

    high: Tensor
    low: Tensor


def row_norms(x: Tensor, dim: int, *, compensated: bool) -> Tensor:
    """Norms along `dim`: float64, or float32 where `compensated`."""
    if x.shape[dim] == 0:
        return x.to(torch.float32 if compensated else torch.float64).sum(dim)
    if compensated:
        return _compensated_norms(x, dim).high.squeeze(dim)
    return _float64_norms(x, dim).squeeze(dim)


def unit_norm_(w: Tensor, dim: int, on_degenerate: str, *, compensated: bool, compiled: bool = False) -> None:
    """Divides rows along `dim` by their norms, but for those unit to rounding or without direction."""
    if on_degenerate == "raise":
        found = row_norms(w, dim, compensated=compensated)
        zero, nonfinite = int((found == 0).sum()), int((~found.isfinite()).sum())
        if zero or nonfinite:
            msg = f"{zero} zero rows and {nonfinite} rows with NaN or Inf cannot be normalised"
            raise ArrayError(msg)
    compiled = compiled and not compensated and w.dtype in _COMPILED
    normalize = _normalize_compensated_ if compensated else _normalize_
    for rows in _pieces(w, dim, compiled=compiled):
        (_compiled(normalize) if compiled else normalize)(rows)


def remove_parallel_(
    grad: Tensor, rows: Tensor, dim: int, *, compensated: bool, compiled: bool = False
) -> None:
    """Subtracts from each row of `grad` its projection on the row of `rows`, where both are finite."""
    compiled = compiled and not compensated and {grad.dtype, rows.dtype} <= _COMPILED
    remove = _remove_parallel_compensated_ if compensated else _remove_parallel_
    pieces = (_pieces(x, dim, compiled=compiled) for x in (grad, rows))
    for g, r in zip(*pieces, strict=True):
        (_compiled(remove) if compiled else remove)(g, r)


def _compiled(work: Callable[..., None]) -> Callable[..., None]:
    """One kernel or two of all the operations: none of the wide temporaries reaches memory."""
    # Within a region that is being compiled it is so already.
    return work if torch.compiler.is_compiling() else _compile(work)


_compile = cache(torch.compile)


def _normalize_(rows: Tensor) -> None:
    norms = _float64_norms(rows, -1)
    keep = _is_within_bound(rows, norms, None) | (norms == 0) | ~norms.isfinite()
    if rows.dtype == torch.float32:
        # Promoted inside the operation: computed in float64 and rounded once, without a wide copy.
        rows.div_(torch.where(keep, 1, norms))
        return
    unit = _float64_directions(rows) if rows.dtype == torch.float64 else _single(rows) / norms
    rows.copy_(torch.where(keep, rows, _rounded_once(unit, rows.dtype)))


def _normalize_compensated_(rows: Tensor) -> None:
    norms, rest = _compensated_norms(rows, -1)
    keep = _is_within_bound(rows, norms, rest) | (norms == 0) | ~norms.isfinite()
    unit = _compensated_quotient(_single(rows), Wide(norms, rest))
    rows.copy_(torch.where(keep, rows, unit.to(rows.dtype)))


def _remove_parallel_(grad: Tensor, rows: Tensor) -> None:
    norms = _float64_norms(rows, -1)
    if rows.dtype == torch.float64:
        along, square = _float64_directions(rows), torch.ones_like(norms)
    else:
        along, square = _single(rows), norms * norms  # in range for every narrower format
    wide = _single(grad)
    coefficient = wide.to(torch.float64, copy=True).mul_(along).sum(-1, keepdim=True) / square
    usable = (norms != 0) & norms.isfinite() & coefficient.isfinite()
    if grad.dtype == torch.float32 and not torch.compiler.is_compiling():
        # Promoted inside the operation, as in `_normalize_`. What is compiled needs no such help.
        tangent = torch.addcmul(grad, along, coefficient, value=-1, out=torch.empty_like(grad))
    else:
        tangent = _rounded_once(torch.addcmul(wide, along, coefficient, value=-1), grad.dtype)
    grad.copy_(torch.where(usable, tangent, grad))


def _remove_parallel_compensated_(grad: Tensor, rows: Tensor) -> None:
    unit = _single(rows) / _compensated_norms(rows, -1).high
    wide = _single(grad)
    along = (wide * unit).sum(-1, keepdim=True)
    tangent = wide - along * unit
    # What the first pass left over is removed by a second.
    tangent = tangent - (tangent * unit).sum(-1, keepdim=True) * unit
    # The direction of a row without one is not finite either.
    grad.copy_(torch.where(along.isfinite(), tangent.to(grad.dtype), grad))


def _rows(x: Tensor, dim: int) -> Tensor:
    """A view of `x` with `dim` last and another before it, beside autograd."""
    x = x.detach().movedim(dim, -1)
    return x if x.ndim > 1 else x.unsqueeze(0)


def _pieces(x: Tensor, dim: int, *, compiled: bool) -> Iterator[Tensor]:
    """Views of `x` with `dim` last, of a bounded number of elements each."""
    x = _rows(x, dim)
    # Bounded even so: after a few kinds of arguments torch.compile calls the operations one by one.
    most = 4 * _PIECE if compiled else _PIECE
    if x.numel() == 0:
        return
    if x.numel() <= most:
        yield x
        return
    for part in torch.split(x, max(1, most * len(x) // x.numel())):
        if part.numel() > most and len(part) == 1 and part.ndim > _MATRIX:
            yield from _pieces(part[0], -1, compiled=compiled)
        else:
            yield part


def _single(x: Tensor) -> Tensor:
    """Narrower formats as float32, which holds them all; float8 lacks most operations, and conversions."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)


def _float64_norms(x: Tensor, dim: int) -> Tensor:
    if x.dtype != torch.float64:
        # The squares of every narrower format fit float64; the conversion happens inside the reduction.
        x = x.to(torch.float32) if x.dtype.itemsize < _HALF_BYTES else x
        norms: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float64)
        return norms
    scaled, peak, exponent = _scaled(x, dim)
    norms = _tree_norms(scaled.movedim(dim, -1)).movedim(-1, dim)
    return torch.where(peak.isfinite(), torch.ldexp(norms, exponent), peak)


def _float64_directions(x: Tensor) -> Tensor:
    """Each row by its norm, which itself may have few bits left where it is subnormal."""
    scaled, _, _ = _scaled(x, -1)
    return scaled / _tree_norms(scaled)


def _tree_norms(x: Tensor) -> Tensor:
    """Norms of float64 rows along the last dimension, summed in a tree.

    A running sum is off by more than `_MEASURE_SLACK` in long rows, which would be divided again and again.
    """
    squares = x * x
    while squares.shape[-1] > 1:
        if squares.shape[-1] % 2:
            squares = torch.nn.functional.pad(squares, (0, 1))
        lower, upper = squares.chunk(2, -1)
        squares = lower + upper
    return squares.sqrt()


def _scaled(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of float64 scaled so that their squares stay in range, their peaks, and the exponents of that."""
    peak = x.abs().amax(dim, keepdim=True)
    exponent = torch.frexp(torch.where(peak.isfinite(), peak, 0)).exponent
    exponent = exponent.clamp(-_EXPONENT_LIMIT, _EXPONENT_LIMIT)
    return torch.ldexp(x, -exponent), peak, exponent


def _compensated_norms(x: Tensor, dim: int) -> Wide:
    """Norms along `dim` in float32 alone: scaled by a power of two, exact squares, a tree of exact sums."""
    x = _single(x).movedim(dim, -1)
    peak = x.abs().amax(-1, keepdim=True)
    scale, back = _powers_of_two(peak)
    x = torch.where(peak.isfinite(), x, 0) * scale  # exact, but for what is too small to count
    total = _pairwise_sum(_product(x, x))
    root = (total.high + total.low).sqrt()
    squared = _product(root, root)
    correction = ((total.high - squared.high) - squared.low + total.low) / (2 * root)
    correction = torch.where(root == 0, 0, correction)
    high = root + correction
    low = (root - high) + correction
    finite = peak.isfinite()
    high, low = torch.where(finite, high * back, peak), torch.where(finite, low * back, 0)
    return Wide(high.movedim(-1, dim), low.movedim(-1, dim))


def _compensated_quotient(x: Tensor, norms: Wide) -> Tensor:
    """`x / norms`, nearly always to nearest: the remainder corrects a first quotient."""
    scale, _ = _powers_of_two(norms.high)
    x, high, low = x * scale, norms.high * scale, norms.low * scale
    quotient = x / high
    product = _product(quotient, high)
    return quotient + (((x - product.high) - product.low) - quotient * low) / high


def _powers_of_two(x: Tensor) -> tuple[Tensor, Tensor]:
    """The power of two that brings each float32 number near 1, and its inverse."""
    exponent = ((x.view(torch.int32) >> 23) & 0xFF).clamp(1, 253)
    return ((254 - exponent) << 23).view(torch.float32), (exponent << 23).view(torch.float32)


def _product(x: Tensor, y: Tensor) -> Wide:
    """`x * y` exactly (Dekker 1971), for magnitudes near 1."""
    (x_upper, x_lower), (y_upper, y_lower) = _halves(x), _halves(y)
    high = x * y
    low = ((x_upper * y_upper - high) + x_upper * y_lower + x_lower * y_upper) + x_lower * y_lower
    return Wide(high, low)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two float32 numbers of 12 bits whose sum is `x` (Veltkamp)."""
    split = x * 4097.0
    upper = split - (split - x)
    return upper, x - upper


def _pairwise_sum(terms: Wide) -> Wide:
    """Sum along the last dimension; each addition keeps its rounding error (Knuth's TwoSum)."""
    high, low = terms
    while high.shape[-1] > 1:
        if high.shape[-1] % 2:
            high, low = (torch.nn.functional.pad(part, (0, 1)) for part in (high, low))
        (a, b), (a_low, b_low) = high.chunk(2, -1), low.chunk(2, -1)
        high = a + b
        b_part = high - a
        low = a_low + b_low + ((a - (high - b_part)) + (b - b_part))
    return Wide(high, low)


def _is_within_bound(rows: Tensor, norms: Tensor, rest: Tensor | None) -> Tensor:
    """Whether rounding to their dtype alone can have left the norms where they are, as the kernels decide it.

    With half a step h at each element w, rounding moved the squared norm from 1 to a value between
    1 - 2 sum |w| h - sum h^2 and 1 + 2 sum |w| h. `rest` is what `norms` lack to be exact.
    """
    bias, fraction_bits = _LAYOUTS[rows.dtype]
    slack = _MEASURE_SLACK_FLOAT32 if rows.dtype == torch.float32 else _MEASURE_SLACK
    eps = 2.0**-fraction_bits  # a step by its binade
    rows = _single(rows)
    wide_bias, wide_fraction_bits = _LAYOUTS[rows.dtype]
    exponents = rows.view(_INTEGERS[rows.dtype]) & ((2 * wide_bias + 1) << wide_fraction_bits)
    binades = exponents.clamp_(min=(1 - bias + wide_bias) << wide_fraction_bits).view(rows.dtype)
    linear: Tensor = torch.linalg.vector_norm(rows * binades, ord=1, dim=-1, keepdim=True, dtype=norms.dtype)
    squares: Tensor = torch.linalg.vector_norm(binades, dim=-1, keepdim=True, dtype=norms.dtype).square()
    excess = norms - 1 if rest is None else (norms - 1) + rest
    excess = excess * (norms + 1)
    bound = linear * eps + slack
    below = squares * (eps * eps / 4)
    # Far from 1 the sums, or the excess itself, may have left their range.
    return (norms < _FAR) & (excess <= bound) & (-excess <= bound + below)


def _rounded_once(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """`wide` in `dtype`, to nearest.

    torch converts float64 to the 16-bit and 8-bit formats by way of float32, which rounds twice. Rounding to
    odd on the way makes the second rounding see that something was cut off (Boldo and Melquiond 2008): two
    bits more than the widest of them has are enough, and so few that float32's subnormal numbers hold them.
    """
    if wide.dtype != torch.float64 or dtype.itemsize > _HALF_BYTES:
        return wide.to(dtype)
    bits = wide.view(torch.int64)
    kept = bits & -(1 << _ODD_BIT)
    odd = torch.where(bits == kept, bits, kept | 1 << _ODD_BIT)
    return odd.view(torch.float64).to(torch.float32).to(dtype)
