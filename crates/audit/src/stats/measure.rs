//! Rows of a sample in float32 arithmetic: the norms that kernels of the field would have computed.

use super::single::{lane_sums, lanes8, pairwise};

/// An order in which squares may be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In float64: the kernel's own rounding does not show.
    Exact,
    /// One running sum.
    Sequential,
    /// Eight running sums.
    Lanes8,
    /// Sixteen running sums.
    Lanes16,
    /// Thirty-two running sums.
    Lanes32,
    /// Halves of halves.
    Pairwise,
}

impl Way {
    /// Every way; of those that scatter alike the first is taken.
    pub(super) const ALL: [Self; 6] =
        [Self::Exact, Self::Sequential, Self::Lanes8, Self::Lanes16, Self::Lanes32, Self::Pairwise];

    /// Name as Python sees it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sequential => "sequential",
            Self::Lanes8 => "lanes8",
            Self::Lanes16 => "lanes16",
            Self::Lanes32 => "lanes32",
            Self::Pairwise => "pairwise",
        }
    }
}

/// One row measured in every way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Float32 {
    /// Norms in the order of [`Way::ALL`].
    pub(super) norms: [f64; Way::ALL.len()],
    /// Relative shortfall of an eight-lane norm of the row at another scale.
    pub(super) lane_loss: f64,
}

/// Measures a row whose elements are float32 numbers and whose float64 norm is `norm`; `single` is overwritten.
///
/// `scale` in [1, 4) takes the row away from norm 1, where a sum of squares crosses a binade.
pub(super) fn float32(row: &[f64], norm: f64, scale: f64, single: &mut Vec<f32>) -> Float32 {
    fill(row, 1.0, single);
    let sums = lane_sums(single);
    let of = |sum: f32| f64::from(sum.sqrt());
    let norms = [
        norm,
        of(sums.sequential),
        of(sums.lanes8),
        of(sums.lanes16),
        of(sums.lanes32),
        of(pairwise(single)),
    ];
    fill(row, scale, single);
    let exact = single.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    Float32 { norms, lane_loss: (exact - of(lanes8(single))) / exact }
}

#[expect(clippy::cast_possible_truncation, reason = "float32 arithmetic is what is measured")]
fn fill(row: &[f64], scale: f64, single: &mut Vec<f32>) {
    single.clear();
    single.extend(row.iter().map(|value| (value * scale) as f32));
}
