//! A cheap look at a row, enough to narrow its tolerance to a few percent.

use unitrow_norms::Dtype;

use super::U;

/// Elements of a row counted by size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Glance {
    /// Elements that are not zero.
    pub(super) nonzero: usize,
    /// Elements, zeros included, so small beside the norm that a float32 running sum may lose them.
    pub(super) small: usize,
    /// Largest magnitude.
    pub(super) largest: f64,
}

/// Looks at a row of this norm. `values` are its elements where they are not float32 already.
pub(super) fn glance(bytes: &[u8], dtype: Dtype, norm: f64, values: &mut Vec<f64>) -> Glance {
    // w^2 <= 8 U n^2, a little widened: counting one element too many only widens the bounds.
    let limit = (8.0 * U).sqrt() * norm * (1.0 + 1e-6);
    if dtype == Dtype::F32 {
        return of_single(bytes, limit);
    }
    super::widen::widen(bytes, dtype, values);
    let mut found = Glance { nonzero: 0, small: 0, largest: 0.0 };
    for value in values.iter() {
        found.nonzero += usize::from(*value != 0.0);
        found.small += usize::from(value.abs() <= limit);
        found.largest = found.largest.max(value.abs());
    }
    found
}

/// Magnitudes of float32 numbers order as their bits do, and integers fill vectors better.
fn of_single(bytes: &[u8], limit: f64) -> Glance {
    #[expect(clippy::cast_possible_truncation, reason = "rounded up below")]
    let limit = (limit as f32).next_up().min(f32::MAX).to_bits().cast_signed();
    let (whole, _) = bytes.as_chunks::<4>();
    let (mut zeros, mut small, mut largest) = (0_usize, 0_usize, 0_i32);
    // Short runs fit 32-bit counts, and wrapping sums, which do not wrap here, leave the compiler its vectors.
    for run in whole.chunks(4096) {
        let (mut zeros_here, mut small_here) = (0_i32, 0_i32);
        for item in run {
            let magnitude = i32::from_le_bytes(*item) & 0x7fff_ffff;
            zeros_here = zeros_here.wrapping_add(i32::from(magnitude == 0));
            small_here = small_here.wrapping_add(i32::from(magnitude <= limit));
            largest = largest.max(magnitude);
        }
        zeros += usize::try_from(zeros_here).unwrap_or(0);
        small += usize::try_from(small_here).unwrap_or(0);
    }
    let largest = f64::from(f32::from_bits(largest.cast_unsigned()));
    Glance { nonzero: whole.len() - zeros, small, largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_count_alike() {
        let row: Vec<f32> = (0..5000_i16).map(|i| f32::from(i % 97 - 48) * 1e-5).collect();
        let norm = 0.02;
        let single: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        let double: Vec<u8> = row.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
        let first = glance(&single, Dtype::F32, norm, &mut Vec::new());
        assert_eq!(first, glance(&double, Dtype::F64, norm, &mut Vec::new()));
        assert_eq!(first.nonzero, row.iter().filter(|value| **value != 0.0).count());
        assert!(first.small >= 5000 - first.nonzero && first.small < 5000);
    }
}
