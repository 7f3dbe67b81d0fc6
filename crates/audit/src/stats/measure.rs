//! Rows of a sample in float32 arithmetic: the norms that kernels of the field would have computed.

use unitrow_norms::{Dtype, Error, Rows, Summation, float32_norm, row_norms};

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
    /// Relative shortfalls of the row's norms at another scale, by order in [`LOSSY`].
    pub(super) losses: [f64; LOSSY.len()],
}

/// Orders that lose small terms: the usual one, and the one that loses most.
pub(super) const LOSSY: [Summation; 2] = [Summation::Lanes8, Summation::Sequential];

/// Rows to be measured together, which is how the kernels are quick.
#[derive(Default)]
pub(super) struct Batch {
    /// The rows as float32, little endian.
    rows: Vec<u8>,
    /// The same at scales in [1, 4): away from norm 1, where a sum of squares crosses a binade.
    scaled: Vec<u8>,
    norms: Vec<f64>,
}

impl Batch {
    /// Adds a row whose elements are float32 numbers and whose float64 norm is `norm`.
    pub(super) fn push(&mut self, row: &[f64], norm: f64, scale: f64) {
        fill(row, 1.0, &mut self.rows);
        fill(row, scale, &mut self.scaled);
        self.norms.push(norm);
    }

    /// Measures every row that was added, in that order.
    pub(super) fn measure(self, len: usize) -> Result<Vec<Float32>, Error> {
        let count = self.norms.len();
        let rows = Rows::contiguous(&self.rows, Dtype::F32, count, len, 1)?;
        let scaled = Rows::contiguous(&self.scaled, Dtype::F32, count, len, 1)?;
        let mut found = vec![Float32 { norms: [0.0; Way::ALL.len()], losses: [0.0; LOSSY.len()] }; count];
        let mut single = vec![0.0; count];
        for (place, way) in Way::ALL.into_iter().enumerate() {
            let Some(summation) = way.summation() else {
                for (one, norm) in found.iter_mut().zip(&self.norms) {
                    one.norms[place] = *norm;
                }
                continue;
            };
            float32_norm(rows, summation, &mut single)?;
            for (one, norm) in found.iter_mut().zip(&single) {
                one.norms[place] = f64::from(*norm);
            }
        }
        let mut exact = vec![0.0; count];
        row_norms(scaled, &mut exact, None)?;
        for (place, way) in LOSSY.into_iter().enumerate() {
            float32_norm(scaled, way, &mut single)?;
            for (one, (norm, short)) in found.iter_mut().zip(exact.iter().zip(&single)) {
                one.losses[place] = (norm - f64::from(*short)) / norm;
            }
        }
        Ok(found)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "float32 arithmetic is what is measured")]
fn fill(row: &[f64], scale: f64, bytes: &mut Vec<u8>) {
    bytes.extend(row.iter().flat_map(|value| ((value * scale) as f32).to_le_bytes()));
}
