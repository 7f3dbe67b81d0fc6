//! Everything a verdict needs to know about one decoder, from one pass over its rows.
//!
//! A [`DecoderScan`] takes whole rows in any order, from any number of threads, and split anywhere; what it
//! returns has the same bits each time. Almost every element is touched only by the norm kernel: a row whose
//! deviation is certainly inside or certainly outside its tolerance needs nothing more, and a fixed sample of
//! rows answers the questions that are statistical. The formulas are those of `docs/numerics.md`; Python applies
//! the rules to the figures ([`DecoderStats::fields`]).

mod bounds;
mod chunk;
mod detail;
mod fields;
mod figures;
mod finish;
mod glance;
mod grid;
mod histogram;
mod lattice;
mod measure;
mod sample;
mod scan;
#[cfg(test)]
mod tests;
mod torch;
mod widen;

pub use fields::Value;
pub use figures::DecoderStats;
pub use scan::{DecoderScan, Finish, ScanError};

use unitrow_norms::Dtype;

/// One ulp of float32 below 1.0, the unit in which deviations of float32 rows are told.
pub(super) const U: f64 = 1.0 / 16_777_216.0;

/// What a scan has to know about a decoder before it sees a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderShape {
    /// Stored type of the elements.
    pub dtype: Dtype,
    /// Number of decoder rows: one per latent and written site.
    pub rows: usize,
    /// Elements in a row: the width of the written side.
    pub len: usize,
    /// Stored with the reduced axis not last. Decides in which order torch would add.
    pub strided: bool,
}

impl DecoderShape {
    /// Bytes of one row. `None` where that does not fit.
    fn row_len_bytes(&self) -> Option<usize> {
        self.len.checked_mul(self.dtype.size_bytes())
    }

    /// The multiple of the standard deviation that one tensor in a million exceeds by chance.
    ///
    /// `sqrt(2 ln(2 N / 1e-6))` bounds the largest of N normal deviates.
    fn tail(&self) -> f64 {
        let rows = self.rows.max(1) as f64;
        (2.0 * (2.0 * rows / 1e-6).ln()).sqrt()
    }
}
