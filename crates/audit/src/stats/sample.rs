//! The rows that answer statistical questions: a fixed, evenly spaced sample, measured in full.

use std::ops::Range;

use unitrow_norms::Dtype;

use super::DecoderShape;
use super::bounds::Bounds;
use super::detail::RowDetail;
use super::lattice::{Lattice, hidden_lattice};
use super::measure::Float32;

/// Most rows in a sample.
const MOST_ROWS: usize = 1024;
/// Rows that a sample of long rows has all the same.
const FEWEST_ROWS: usize = 256;
/// Between the two, so many elements.
const ELEMENTS: usize = 1 << 20;
/// Most rows tried for a hidden lattice.
const LATTICE_ROWS: usize = 64;
/// Rows whose norms share a scale down to 1 - 2^-13 may have been divided by norm + eps.
const EPS_REACH: f64 = 1.0 / 8192.0;

/// Which rows are in the sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// Evenly spaced over all rows.
    Even,
    /// These rows, ascending: where an even choice would have met hardly anything but zero rows.
    Listed(Vec<usize>),
}

impl Choice {
    /// As many of the given rows as an even choice would have, evenly spaced.
    pub(super) fn from_judged(shape: &DecoderShape, judged: &[usize]) -> Self {
        let count = judged.len().min(size(shape));
        Self::Listed((0..count).map(|i| judged[spaced(i, judged.len(), count)]).collect())
    }

    /// Sampled rows in a range, each with its place in the sample.
    pub(super) fn within(&self, shape: &DecoderShape, range: &Range<usize>) -> Vec<(usize, usize)> {
        match self {
            Self::Even => {
                let size = size(shape);
                let row = |place| spaced(place, shape.rows, size);
                (first_place(range.start, shape.rows, size)..size)
                    .map(|place| (place, row(place)))
                    .take_while(|&(_, row)| row < range.end)
                    .collect()
            }
            Self::Listed(list) => {
                list.iter().copied().enumerate().filter(|(_, row)| range.contains(row)).collect()
            }
        }
    }

    /// Whether the row at this place of the sample is tried for a hidden lattice.
    fn tries_lattice(&self, shape: &DecoderShape, place: usize) -> bool {
        let count = match self {
            Self::Even => size(shape),
            Self::Listed(list) => list.len(),
        };
        place.is_multiple_of(count.div_ceil(LATTICE_ROWS).max(1))
    }
}

/// Rows in an even sample.
fn size(shape: &DecoderShape) -> usize {
    shape.rows.min((ELEMENTS / shape.len.max(1)).clamp(FEWEST_ROWS, MOST_ROWS))
}

fn spaced(place: usize, rows: usize, count: usize) -> usize {
    // Fits: places and counts are at most 1,024, and rows are held in memory.
    place * (rows / count) + place * (rows % count) / count
}

/// The first place whose row is not before `row`.
fn first_place(row: usize, rows: usize, count: usize) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        if spaced(middle, rows, count) < row {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// A sampled row, measured in full.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) norm: f64,
    pub(super) detail: RowDetail,
    /// Where the grid is float32 and the row near enough to 1.
    pub(super) float32: Option<Float32>,
    pub(super) lattice: Lattice,
}

impl Choice {
    /// The hidden lattice of the row at this place of the sample, where it is tried.
    pub(super) fn lattice(&self, shape: &DecoderShape, grid: Dtype, place: usize, row: &[f64]) -> Lattice {
        if matches!(grid, Dtype::F32 | Dtype::F64) && self.tries_lattice(shape, place) {
            hidden_lattice(row, &mut Vec::new())
        } else {
            Lattice::Unknown
        }
    }
}

/// Whether a row is near enough to 1 for its float32 norms to tell anything.
pub(super) fn is_near_unit(norm: f64, bounds: &Bounds) -> bool {
    (norm - 1.0).abs() <= EPS_REACH + 2.0 * bounds.of(norm).high
}

/// A scale in [1, 4) that depends on nothing but the row's index (splitmix64).
pub(super) fn scale_of(row_index: usize) -> f64 {
    let mut state = (row_index as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^= state >> 31;
    1.0 + 3.0 * ((state >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_does_not_depend_on_how_rows_are_split() {
        for (rows, len) in
            [(1, 4), (63, 4), (1024, 4), (1025, 8), (5000, 300), (16_384, 2304), (9000, 100_000)]
        {
            let shape = DecoderShape { dtype: Dtype::F32, rows, len, strided: false };
            let whole = Choice::Even.within(&shape, &(0..rows));
            assert_eq!(whole.len(), size(&shape));
            assert!(whole.len() >= rows.min(FEWEST_ROWS) && whole.len() <= MOST_ROWS);
            assert!(whole.windows(2).all(|pair| pair[0].1 < pair[1].1));
            let cut = rows / 3;
            let mut parts = Choice::Even.within(&shape, &(0..cut));
            parts.extend(Choice::Even.within(&shape, &(cut..rows)));
            assert_eq!(parts, whole);
            let tried = whole.iter().filter(|(place, _)| Choice::Even.tries_lattice(&shape, *place)).count();
            assert!(tried <= LATTICE_ROWS && (rows < LATTICE_ROWS || tried >= LATTICE_ROWS / 2));
        }
    }

    #[test]
    fn scales_are_spread_over_their_range() {
        let scales: Vec<f64> = (0..1000).map(scale_of).collect();
        assert!(scales.iter().all(|scale| (1.0..4.0).contains(scale)));
        let mean = scales.iter().sum::<f64>() / 1000.0;
        assert!((mean - 2.5).abs() < 0.1);
    }
}
