"""The operations of `unitrow.torch` in torch operations, for devices that the Rust kernels do not reach.

Same contract as the kernels: norms accumulate in float64 and results are rounded once. On a device without
float64 (MPS) every sum is carried as a pair of float32 numbers, which keeps norms within 2^-24 relative.
Work goes through bounded pieces, so that the wide temporaries stay small beside the tensor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from unitrow.errors import ArrayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

# Elements whose float64 copies are alive at a time.
_PIECE = 1 << 24

# Scaling by 2^-exponent stays in range up to here, and squares of what is scaled neither overflow nor vanish.
_EXPONENT_LIMIT = 1000

# What the squared norm may be off by through float64 arithmetic alone.
_MEASURE_SLACK = 12 * 2.0**-53

# Every finite float8 converts exactly, and most operations exist, from here on.
_HALF_BYTES = 2


class Wide(NamedTuple):
    """Numbers as `high + low`; `low` is zero where float64 carries them alone."""

    high: Tensor
    low: Tensor


def row_norms(x: Tensor, dim: int, *, compensated: bool) -> Tensor:
    """Norms along `dim`: float64, or float32 where `compensated`."""
    if x.shape[dim] == 0:
        return _wide_dtype(x, compensated=compensated).sum(dim)
    if compensated:
        return _compensated_norms(x, dim).high.squeeze(dim)
    return _float64_norms(x, dim).squeeze(dim)


def unit_norm_(w: Tensor, dim: int, on_degenerate: str, *, compensated: bool) -> None:
    """Divides rows along `dim` by their norms, but for those unit to rounding or without direction."""
    if on_degenerate == "raise":
        found = row_norms(w, dim, compensated=compensated)
        zero, nonfinite = int((found == 0).sum()), int((~found.isfinite()).sum())
        if zero or nonfinite:
            msg = f"{zero} zero rows and {nonfinite} rows with NaN or Inf cannot be normalised"
            raise ArrayError(msg)
    for rows in _pieces(w, dim):
        if compensated:
            norms = _compensated_norms(rows, -1)
        else:
            norms = Wide(_float64_norms(rows, -1), torch.zeros(()))
        wide = _wide_dtype(rows, compensated=compensated)
        keep = _is_within_bound(wide, norms, rows.dtype) | (norms.high == 0) | ~norms.high.isfinite()
        unit = _compensated_quotient(wide, norms) if compensated else wide / norms.high
        rows.copy_(torch.where(keep, rows, _rounded_once(unit, rows.dtype)))


def remove_parallel_(grad: Tensor, rows: Tensor, dim: int, *, compensated: bool) -> None:
    """Subtracts from each row of `grad` its projection on the row of `rows`, where both are finite."""
    for g, r in zip(_pieces(grad, dim), _pieces(rows, dim), strict=True):
        norms = _compensated_norms(r, -1).high if compensated else _float64_norms(r, -1)
        unit = _wide_dtype(r, compensated=compensated) / norms
        wide = _wide_dtype(g, compensated=compensated)
        along = (wide * unit).sum(-1, keepdim=True)
        tangent = wide - along * unit
        if compensated:
            # What the first pass left over is removed by a second.
            tangent = tangent - (tangent * unit).sum(-1, keepdim=True) * unit
        usable = (norms != 0) & norms.isfinite() & along.isfinite()
        g.copy_(torch.where(usable, _rounded_once(tangent, g.dtype), g))


def _pieces(x: Tensor, dim: int) -> Iterator[Tensor]:
    """Views of `x` with `dim` last, of a bounded number of elements each."""
    x = x.movedim(dim, -1)
    if x.numel() == 0:
        return
    if x.ndim == 1 or x.numel() <= _PIECE:
        yield x if x.ndim > 1 else x.unsqueeze(0)
        return
    for part in torch.split(x, max(1, _PIECE * len(x) // x.numel())):
        if part.numel() > _PIECE and len(part) == 1:
            yield from _pieces(part[0], -1)
        else:
            yield part


def _wide_dtype(x: Tensor, *, compensated: bool) -> Tensor:
    if x.dtype.itemsize < _HALF_BYTES:
        x = x.to(torch.float32)  # float8 has no direct conversion to float64 on every device
    return x.to(torch.float32 if compensated else torch.float64)


def _float64_norms(x: Tensor, dim: int) -> Tensor:
    if x.dtype != torch.float64:
        # The squares of every narrower format fit float64; the conversion happens inside the reduction.
        x = x.to(torch.float32) if x.dtype.itemsize < _HALF_BYTES else x
        norms: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float64)
        return norms
    peak = x.abs().amax(dim, keepdim=True)
    exponent = torch.frexp(torch.where(peak.isfinite(), peak, 0)).exponent
    exponent = exponent.clamp(-_EXPONENT_LIMIT, _EXPONENT_LIMIT)
    scaled = torch.linalg.vector_norm(torch.ldexp(x, -exponent), dim=dim, keepdim=True)
    return torch.where(peak.isfinite(), torch.ldexp(scaled, exponent), peak)


def _compensated_norms(x: Tensor, dim: int) -> Wide:
    """Norms along `dim` in float32 alone: scaled by a power of two, exact squares, a tree of exact sums."""
    x = _wide_dtype(x, compensated=True).movedim(dim, -1)
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


def _is_within_bound(wide: Tensor, norms: Wide, stored: torch.dtype) -> Tensor:
    """Whether rounding to `stored` alone can have left the norms where they are, as the kernels decide it.

    With half a step h at each element w, rounding moved the squared norm from 1 to a value between
    1 - 2 sum |w| h - sum h^2 and 1 + 2 sum |w| h.
    """
    info = torch.finfo(stored)
    fraction_bits, lowest = -round(math.log2(info.eps)), round(math.log2(info.smallest_normal))
    magnitude = wide.abs()
    if wide.dtype == torch.float64:
        exponent = torch.where(magnitude == 0, lowest, torch.frexp(magnitude).exponent - 1)
        step = torch.ldexp(torch.ones_like(wide), exponent.clamp(min=lowest) - fraction_bits)
    else:
        exponent = ((magnitude.view(torch.int32) >> 23) & 0xFF) - 127
        biased = (exponent.clamp(min=lowest) - fraction_bits + 127).clamp(1, 254)
        step = (biased << 23).view(torch.float32)
    excess = ((norms.high - 1) + norms.low) * (norms.high + 1)
    bound = (magnitude * step).sum(-1, keepdim=True) + _MEASURE_SLACK
    below = (step * step).sum(-1, keepdim=True) / 4
    return (excess <= bound) & (-excess <= bound + below)


def _rounded_once(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """`wide` in `dtype`, to nearest.

    torch converts float64 to the 16-bit and 8-bit formats by way of float32, which rounds twice. Rounding to
    odd on the way makes the second rounding see that something was cut off (Boldo and Melquiond 2008).
    """
    if wide.dtype != torch.float64 or dtype.itemsize > _HALF_BYTES:
        return wide.to(dtype)
    single = wide.to(torch.float32)
    back = single.to(torch.float64)
    bits = single.view(torch.int32)
    bits = torch.where(back.abs() > wide.abs(), bits - 1, bits)
    bits = torch.where((back != wide) & wide.isfinite(), bits | 1, bits)
    return bits.view(torch.float32).to(dtype)
