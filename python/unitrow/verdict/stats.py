"""The figures of one decoder, as the Rust scan gives them."""

from __future__ import annotations

from typing import TypedDict


class Stats(TypedDict):
    """One decoder in figures (`unitrow_audit::stats::DecoderStats`, where each is computed).

    "Judged" rows are finite and not all zero. Every figure about norms is about judged rows; deviations are
    norm - 1; a figure that would not be finite is `None`. T, s, C and q are the quantities of
    `docs/numerics.md`, u is `roundoff`, U is 2^-24.
    """

    rows: int
    """Rows of the decoder."""
    row_len: int
    """Elements of a row."""
    strided: bool
    """Stored with the reduced axis not last; decides how torch would add."""
    dtype: str
    """Stored type: `f64 f32 f16 bf16 f8_e4m3 f8_e5m2 f8_e4m3fnuz f8_e5m2fnuz`."""
    grid: str
    """Effective format: the coarsest whose grid holds every non-zero element."""
    roundoff: float
    """Half an ulp of 1 on that grid."""
    judged_rows: int
    """Rows that are finite and not all zero."""
    zero_rows: int
    """Rows whose elements are all zero."""
    nonfinite_rows: int
    """Rows with a NaN or an infinity."""
    nan_elements: int
    """Elements that are NaN."""
    inf_elements: int
    """Elements that are infinite."""
    zero_elements: int
    """Elements that are zero."""
    subnormal_elements: int
    """Elements that are subnormal in the stored type."""
    min: float | None
    """Smallest norm."""
    max: float | None
    """Largest norm."""
    mean: float | None
    """Mean norm."""
    max_abs_deviation: float | None
    """Largest |norm - 1|."""
    mean_deviation: float | None
    """Mean of norm - 1."""
    standard_deviation: float | None
    """Standard deviation of the norms."""
    kurtosis: float | None
    """Fourth central moment of the norms over the squared second: 1.8 spread evenly, 3 for a bell."""
    max_abs_deviation_ulp: float | None
    """`max_abs_deviation` in unit roundoffs of the stored type (2^-24 for float32)."""
    torch_max_abs_deviation: float | None
    """Largest |torch's own norm - 1|: what `torch.linalg.vector_norm` shows."""
    median: float | None
    """c: median norm."""
    robust_sd: float | None
    """1.4826 times the median distance of norms from c."""
    histogram_edges: list[float]
    """Edges between the bins, ascending and symmetric about 0; the outer bins are open."""
    histogram_counts: list[int]
    """Judged rows per bin of norm - 1."""
    worst_rows: list[tuple[int, float]]
    """Up to eight rows farthest from norm 1, with their norms; the worst first."""
    rows_within: int
    """Rows within their tolerance T of 1."""
    rows_above: int
    """Rows above 1 + T."""
    rows_below: int
    """Rows below 1 - T."""
    rows_next_below: int | None
    """Rows in [1 - 21 T, 1 - T); `None` where some row is above 1 + T."""
    below_median: float | None
    """Median deviation of the rows below 1 - T; `None` where there are none."""
    rows_within_tenth: int
    """Rows within 0.1 of 1."""
    shrunk_range_holds: bool | None
    """At most 16 bits: whether every deviation lies in (-3u - C - K, T)."""
    common_scale_holds: bool | None
    """Whether every norm / c lies within T of 1; `None` where no rule asks."""
    uniform_envelope_holds: bool | None
    """Whether c is away from 1 and every norm / c within the bfloat16 envelope; `None` where no rule asks."""
    relative_spread: float | None
    """Largest |norm / c - 1|."""
    sample_rows: int
    """Rows that the figures below come from: up to 1,024, evenly spaced."""
    tolerance_median: float | None
    """Median of T."""
    tolerance_max: float | None
    """Largest T."""
    rounding_spread: float | None
    """Median of s: spread of the norm when elements were rounded last."""
    independent_spread: float | None
    """Median of q: spread that the norms of rows of independent elements would have."""
    rounding_ratio: float | None
    """z = rms(deviation / s)."""
    rounding_ratio_centred: float | None
    """rms((norm - c) / s)."""
    float32_way: str
    """The order of summation whose float32 norms scatter least; empty where rows are not near 1."""
    float32_mean: float | None
    """m: mean of (that norm - 1), in U."""
    float32_standard_error: float | None
    """Standard error of m, in U."""
    float32_fixed: float | None
    """Largest share, over the orders, of the sample whose norm is 1: unmoved by one more division."""
    float32_settled: float | None
    """Largest share, over the orders, of the sample whose norm is 1 - U or 1 - 2U: the same for norm + 2U."""
    float32_lane_loss: float | None
    """Mean shortfall, in U, of an eight-lane float32 norm on these rows at random scales in [1, 4), or of one
    running sum, less two standard errors, where that is more."""
    lattice_rows: int
    """Rows tried for a hidden lattice: is a multiple of the row on a 16-bit grid?"""
    lattice_bf16_rows: int
    """Of these, rows on a bfloat16 lattice."""
    lattice_f16_rows: int
    """Of these, rows on a float16 lattice and on no bfloat16 one."""
