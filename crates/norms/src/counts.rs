//! Counts of special values, and the range of the rest.

use crate::Dtype;
use crate::dispatch::Isa;
use crate::kernel::scan::Scan;

/// How many elements are special, and the range of those that are not NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Elements that are not a number.
    pub nan: u64,
    /// Infinities of either sign.
    pub inf: u64,
    /// Zeros of either sign.
    pub zero: u64,
    /// Numbers below the smallest normal number of their format, zeros not included.
    pub subnormal: u64,
    /// Smallest element that is not NaN, infinities included; +Inf where there is none.
    pub min: f64,
    /// Largest element that is not NaN, infinities included; -Inf where there is none.
    pub max: f64,
}

impl Counts {
    /// Of no elements.
    pub const EMPTY: Self =
        Self { nan: 0, inf: 0, zero: 0, subnormal: 0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// Counts of both together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            nan: self.nan + other.nan,
            inf: self.inf + other.inf,
            zero: self.zero + other.zero,
            subnormal: self.subnormal + other.subnormal,
            min: self.min,
            max: self.max,
        }
        .extend_range(other.min, other.max)
    }

    /// With a range that also holds these two; NaN is passed over, and zeros are positive.
    // By comparison: the sign of a zero that `f64::min` returns is not defined, and a compiler uses that.
    pub(crate) fn extend_range(mut self, low: f64, high: f64) -> Self {
        if low < self.min {
            self.min = if low == 0.0 { 0.0 } else { low };
        }
        if high > self.max {
            self.max = if high == 0.0 { 0.0 } else { high };
        }
        self
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Counts over the elements of `bytes`; a rest shorter than an element is ignored.
#[must_use]
pub fn value_counts(bytes: &[u8], dtype: Dtype) -> Counts {
    value_counts_with(Isa::detect(), bytes, dtype)
}

/// [`value_counts`] on a chosen instruction set.
#[must_use]
pub fn value_counts_with(isa: Isa, bytes: &[u8], dtype: Dtype) -> Counts {
    isa.run(Scan { bytes, dtype })
}
