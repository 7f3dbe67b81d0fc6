//! Rows of a sample in float32 arithmetic: the norms that kernels of the field would have computed.

use unitrow_norms::{Dtype, Error, Rows, Summation, float32_norm};

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

    fn summation(self) -> Option<Summation> {
        match self {
            Self::Exact => None,
            Self::Sequential => Some(Summation::Sequential),
            Self::Lanes8 => Some(Summation::Lanes8),
            Self::Lanes16 => Some(Summation::Lanes16),
            Self::Lanes32 => Some(Summation::Lanes32),
            Self::Pairwise => Some(Summation::Pairwise),
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

/// Measures a row whose elements are float32 numbers and whose float64 norm is `norm`.
///
/// `scale` in [1, 4) takes the row away from norm 1, where a sum of squares crosses a binade.
pub(super) fn float32(row: &[f64], norm: f64, scale: f64, bytes: &mut Vec<u8>) -> Result<Float32, Error> {
    fill(row, 1.0, bytes);
    let mut norms = [norm; Way::ALL.len()];
    for (way, figure) in Way::ALL.iter().zip(&mut norms) {
        if let Some(summation) = way.summation() {
            *figure = f64::from(one_norm(bytes, row.len(), summation)?);
        }
    }
    fill(row, scale, bytes);
    let rows = Rows::contiguous(bytes, Dtype::F32, 1, row.len(), 1)?;
    let mut exact = [0.0];
    unitrow_norms::row_norms(rows, &mut exact, None)?;
    let short = exact[0] - f64::from(one_norm(bytes, row.len(), Summation::Lanes8)?);
    Ok(Float32 { norms, lane_loss: short / exact[0] })
}

#[expect(clippy::cast_possible_truncation, reason = "float32 arithmetic is what is measured")]
fn fill(row: &[f64], scale: f64, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend(row.iter().flat_map(|value| ((value * scale) as f32).to_le_bytes()));
}

fn one_norm(bytes: &[u8], len: usize, way: Summation) -> Result<f32, Error> {
    let mut norm = [0.0];
    float32_norm(Rows::contiguous(bytes, Dtype::F32, 1, len, 1)?, way, &mut norm)?;
    Ok(norm[0])
}
