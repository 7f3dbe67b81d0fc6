//! The figures as named values, so that a binding can hand them over without knowing them.

use super::figures::DecoderStats;
use super::grid::{name, roundoff};

/// A figure, or none where it is not a number that JSON could hold.
fn number(figure: f64) -> Value {
    Value::OptF64(figure.is_finite().then_some(figure))
}

/// A figure of one of the kinds that other languages have.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A truth value, or none where the question did not arise.
    OptBool(Option<bool>),
    /// A count.
    U64(u64),
    /// A count, or none where it was not made.
    OptU64(Option<u64>),
    /// A finite number.
    F64(f64),
    /// A number, or none.
    OptF64(Option<f64>),
    /// A name from a fixed set.
    Str(&'static str),
    /// Numbers.
    F64s(Vec<f64>),
    /// Counts.
    U64s(Vec<u64>),
    /// Row index and norm.
    Pairs(Vec<(u64, f64)>),
    /// A truth value.
    Bool(bool),
}

impl DecoderStats {
    /// Every figure under the name that `unitrow.verdict.Stats` gives it.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        use Value::{Bool, F64, F64s, OptBool, OptF64, OptU64, Pairs, Str, U64, U64s};
        let float32 = self.float32.as_ref();
        vec![
            ("rows", U64(self.shape.rows as u64)),
            ("row_len", U64(self.shape.len as u64)),
            ("strided", Bool(self.shape.strided)),
            ("dtype", Str(name(self.shape.dtype))),
            ("grid", Str(name(self.grid))),
            ("roundoff", F64(roundoff(self.grid))),
            ("judged_rows", U64(self.judged_rows)),
            ("zero_rows", U64(self.zero_rows)),
            ("nonfinite_rows", U64(self.nonfinite_rows)),
            ("nan_elements", U64(self.nan_elements)),
            ("inf_elements", U64(self.inf_elements)),
            ("zero_elements", U64(self.zero_elements)),
            ("subnormal_elements", U64(self.subnormal_elements)),
            ("min", number(self.min)),
            ("max", number(self.max)),
            ("mean", number(self.mean)),
            ("max_abs_deviation", number(self.max_abs_deviation)),
            ("mean_deviation", number(self.mean_deviation)),
            ("standard_deviation", number(self.standard_deviation)),
            ("kurtosis", number(self.kurtosis)),
            ("max_abs_deviation_ulp", number(self.max_abs_deviation_ulp)),
            ("torch_max_abs_deviation", number(self.torch_max_abs_deviation)),
            ("median", number(self.median)),
            ("robust_sd", number(self.robust_sd)),
            ("histogram_edges", F64s(self.histogram_edges.clone())),
            ("histogram_counts", U64s(self.histogram_counts.clone())),
            ("worst_rows", Pairs(self.worst_rows.clone())),
            ("rows_within", U64(self.rows_within)),
            ("rows_above", U64(self.rows_above)),
            ("rows_below", U64(self.rows_below)),
            ("rows_next_below", OptU64(self.rows_next_below)),
            ("below_median", OptF64(self.below_median)),
            ("rows_within_tenth", U64(self.rows_within_tenth)),
            ("shrunk_range_holds", OptBool(self.shrunk_range_holds)),
            ("common_scale_holds", OptBool(self.common_scale_holds)),
            ("uniform_envelope_holds", OptBool(self.uniform_envelope_holds)),
            ("relative_spread", number(self.relative_spread)),
            ("sample_rows", U64(self.sample_rows)),
            ("tolerance_median", number(self.tolerance_median)),
            ("tolerance_max", number(self.tolerance_max)),
            ("rounding_spread", number(self.rounding_spread)),
            ("independent_spread", number(self.independent_spread)),
            ("rounding_ratio", number(self.rounding_ratio)),
            ("rounding_ratio_centred", number(self.rounding_ratio_centred)),
            ("float32_way", Str(float32.map_or("", |figures| figures.way.name()))),
            ("float32_mean", OptF64(float32.map(|figures| figures.mean))),
            ("float32_standard_error", OptF64(float32.map(|figures| figures.standard_error))),
            ("float32_fixed", OptF64(float32.map(|figures| figures.fixed))),
            ("float32_settled", OptF64(float32.map(|figures| figures.settled))),
            ("float32_lane_loss", OptF64(float32.map(|figures| figures.lane_loss))),
            ("lattice_rows", U64(self.lattice_rows)),
            ("lattice_bf16_rows", U64(self.lattice_bf16_rows)),
            ("lattice_f16_rows", U64(self.lattice_f16_rows)),
        ]
    }
}
