//! The figures of one decoder, as plain data.

use super::DecoderShape;
use unitrow_norms::Dtype;

use super::measure::Way;

/// What the rules of a verdict need, and what a report shows. "Judged" rows are finite and not all zero; every
/// figure about norms or deviations (norm - 1) is about judged rows and is `NaN` where there are none.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderStats {
    /// The decoder as it was announced.
    pub shape: DecoderShape,
    /// Effective format: the coarsest whose grid holds every non-zero element.
    pub grid: Dtype,
    /// How many rows were judged.
    pub judged_rows: u64,
    /// Rows whose elements are all zero.
    pub zero_rows: u64,
    /// Rows with a NaN, an infinity, or a norm beyond float64.
    pub nonfinite_rows: u64,
    /// NaN elements.
    pub nan_elements: u64,
    /// Infinite elements.
    pub inf_elements: u64,
    /// Elements equal to zero.
    pub zero_elements: u64,
    /// Subnormal elements of the stored type.
    pub subnormal_elements: u64,
    /// Smallest and largest norm, and their mean.
    pub min: f64,
    /// Largest norm.
    pub max: f64,
    /// Mean norm.
    pub mean: f64,
    /// Largest |norm - 1|.
    pub max_abs_deviation: f64,
    /// Mean of norm - 1.
    pub mean_deviation: f64,
    /// Standard deviation of the norms.
    pub standard_deviation: f64,
    /// Fourth central moment of the norms over the squared second: 1.8 where they are spread evenly, 3 for a bell.
    pub kurtosis: f64,
    /// Largest |norm - 1| in unit roundoffs of the stored type.
    pub max_abs_deviation_ulp: f64,
    /// Largest |torch's own norm - 1|.
    pub torch_max_abs_deviation: f64,
    /// Median norm.
    pub median: f64,
    /// 1.4826 times the median distance from the median norm.
    pub robust_sd: f64,
    /// Edges between the bins of `histogram_counts`, ascending; the outer bins are open.
    pub histogram_edges: Vec<f64>,
    /// Judged rows per bin of norm - 1.
    pub histogram_counts: Vec<u64>,
    /// Up to eight judged rows farthest from 1, worst first.
    pub worst_rows: Vec<(u64, f64)>,
    /// Rows with |norm - 1| within their tolerance T.
    pub rows_within: u64,
    /// Rows above 1 + T.
    pub rows_above: u64,
    /// Rows below 1 - T.
    pub rows_below: u64,
    /// Rows with 1 - 21 T <= norm < 1 - T. Counted only where no row is above 1 + T.
    pub rows_next_below: Option<u64>,
    /// Median of norm - 1 over the rows below 1 - T.
    pub below_median: Option<f64>,
    /// Rows with |norm - 1| <= 0.1.
    pub rows_within_tenth: u64,
    /// Low precision only: every norm - 1 lies in (-3u - C - K, T).
    pub shrunk_range_holds: Option<bool>,
    /// Every norm over the median norm lies within T of 1. `None` where no rule asks.
    pub common_scale_holds: Option<bool>,
    /// Every norm over the median norm lies within the bfloat16 envelope. `None` where no rule asks.
    pub uniform_envelope_holds: Option<bool>,
    /// Largest |norm / median - 1|.
    pub relative_spread: f64,
    /// How many rows the figures below come from.
    pub sample_rows: u64,
    /// Median of T over the sample.
    pub tolerance_median: f64,
    /// Largest T of the sample.
    pub tolerance_max: f64,
    /// Median of s over the sample: spread of the norm when elements were rounded last.
    pub rounding_spread: f64,
    /// Median of q over the sample: the spread that independent elements would have.
    pub independent_spread: f64,
    /// z = rms((norm - 1) / s).
    pub rounding_ratio: f64,
    /// rms((norm - median) / s).
    pub rounding_ratio_centred: f64,
    /// The sample measured in float32, where the rows are near enough to 1 for that to tell anything.
    pub float32: Option<Float32Figures>,
    /// Rows whose leading elements were tried against a hidden coarser lattice.
    pub lattice_rows: u64,
    /// Of these, rows on a bfloat16 lattice.
    pub lattice_bf16_rows: u64,
    /// Of these, rows on a float16 lattice and not on a bfloat16 one.
    pub lattice_f16_rows: u64,
}

/// The sample as float32 arithmetic sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Float32Figures {
    /// The order of summation whose figures scatter least.
    pub way: Way,
    /// Mean of (figure - 1) in U for that order.
    pub mean: f64,
    /// Standard error of that mean, in U.
    pub standard_error: f64,
    /// Largest share, over the orders, of rows whose norm is 1: dividing by the norm once more moves none of them.
    pub fixed: f64,
    /// Largest share, over the orders, of rows whose norm is 1 - U or 1 - 2U: the same for norm + 2U.
    pub settled: f64,
    /// Mean shortfall, in U, of an eight-lane float32 norm on these rows at random scales in [1, 4), or of one
    /// running sum, less two standard errors, where that is more.
    pub lane_loss: f64,
}
