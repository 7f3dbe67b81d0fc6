//! Whole rows that are zero, subnormal, or too large for their squares.

use unitrow_norms::{Counts, Dtype as Norm, Rows, row_norms};
use unitrow_tensors::Dtype;

use super::frame::Frame;
use super::norm_dtype;

/// How many rows, and where the first of them begins in the tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) rows: u64,
    pub(super) first: Option<u64>,
}

impl Tally {
    fn add(&mut self, place: u64) {
        self.merge(Self { rows: 1, first: Some(place) });
    }

    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.first = [self.first, other.first].into_iter().flatten().min();
    }
}

/// Rows of a tensor that stand out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct OddRows {
    pub(super) zero: Tally,
    pub(super) subnormal: Tally,
    pub(super) overflowing: Tally,
}

impl OddRows {
    /// Look at a block of whole rows; `counts` are those of the block.
    pub(super) fn of(frame: &Frame, at: u64, bytes: &[u8], counts: &Counts) -> Self {
        let mut found = Self::default();
        let (Some(dtype), Ok(row_bytes)) = (norm_dtype(frame.dtype), usize::try_from(frame.row_bytes()))
        else {
            return found;
        };
        let whole = row_bytes > 0
            && at.is_multiple_of(row_bytes as u64)
            && bytes.len().is_multiple_of(row_bytes)
            && !bytes.is_empty();
        if frame.rank() < 2 || !whole {
            return found;
        }
        let len = row_bytes / dtype.size_bytes();
        let subnormal = if matches!(dtype, Norm::F32 | Norm::F64) { counts.subnormal } else { 0 };
        if counts.zero + subnormal >= len as u64 {
            found.small(frame, at, bytes, row_bytes, dtype, counts.zero);
        }
        if may_overflow(frame.dtype, len, counts) {
            found.large(at, bytes, row_bytes, dtype, counts.inf == 0);
        }
        found
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.zero.merge(other.zero);
        self.subnormal.merge(other.subnormal);
        self.overflowing.merge(other.overflowing);
    }

    fn small(&mut self, frame: &Frame, at: u64, bytes: &[u8], row_bytes: usize, dtype: Norm, zeros: u64) {
        let all_zero = zeros == (bytes.len() / dtype.size_bytes()) as u64;
        for (index, row) in bytes.chunks_exact(row_bytes).enumerate() {
            let place = at + (index * row_bytes) as u64;
            match if all_zero { Some(false) } else { smallness(row, dtype) } {
                // Slices of zeros are how some decoders of many layers are made.
                Some(false) if frame.rank() == 2 && !frame.transposed => self.zero.add(place),
                Some(true) if matches!(dtype, Norm::F32 | Norm::F64) => self.subnormal.add(place),
                _ => {}
            }
        }
    }

    fn large(&mut self, at: u64, bytes: &[u8], row_bytes: usize, dtype: Norm, finite: bool) {
        let mut norms = vec![0.0; bytes.len() / row_bytes];
        let rows = Rows::contiguous(bytes, dtype, norms.len(), row_bytes / dtype.size_bytes(), 1);
        if rows.and_then(|rows| row_norms(rows, &mut norms, None)).is_err() {
            return;
        }
        for (index, norm) in norms.into_iter().enumerate() {
            // Infinite without an infinite element: beyond float64 itself.
            if norm > largest(dtype).sqrt() && (norm.is_finite() || finite) {
                self.overflowing.add(at + (index * row_bytes) as u64);
            }
        }
    }
}

/// Whether a row is zero, `Some(false)`, or subnormal and zero, `Some(true)`; ends at the first normal number.
fn smallness(row: &[u8], dtype: Norm) -> Option<bool> {
    let mut any = false;
    for item in row.chunks_exact(dtype.size_bytes()) {
        let bits = item.iter().rev().fold(0, |bits: u64, &byte| bits << 8 | u64::from(byte));
        let value = dtype.decode(bits).abs();
        if value.is_nan() || value >= dtype.min_normal() {
            return None;
        }
        any |= value > 0.0;
    }
    Some(any)
}

/// The largest number of the formats in which norms are computed.
fn largest(dtype: Norm) -> f64 {
    match dtype {
        Norm::F64 => f64::MAX,
        Norm::F32 => f64::from(f32::MAX),
        Norm::Bf16 => Norm::Bf16.decode(0x7f7f),
        _ => f64::INFINITY,
    }
}

fn may_overflow(dtype: Dtype, len: usize, counts: &Counts) -> bool {
    let limit = norm_dtype(dtype).map_or(f64::INFINITY, largest).sqrt();
    counts.max.max(-counts.min) * (len as f64).sqrt() > limit
}
