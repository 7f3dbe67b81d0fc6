//! Was a row stored in a 16-bit format before somebody divided or scaled it?
//!
//! Dividing a row by its norm hides the format it came from, but not well: one multiple of the row brings its
//! elements back to that grid. The largest element was an integer m of p bits there, so there are only 2^(p-1)
//! multiples to try.

use unitrow_norms::Dtype;

use super::U;
use super::grid::{leading_power, roundoff};

/// What the leading elements of a row lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lattice {
    /// Too few different magnitudes to tell.
    Unknown,
    /// On neither.
    None,
    /// A multiple of the row is on the float16 grid, none on the bfloat16 one.
    F16,
    /// A multiple of the row is on the bfloat16 grid.
    Bf16,
}

/// How many of the largest elements are tried.
const LEADING: usize = 32;
/// With fewer different magnitudes among them a lattice means nothing: equal elements lie on every one.
const FEWEST: usize = 8;
/// Relative distance from the grid that one division in float32 and its divisor can leave.
const SLACK: f64 = 8.0 * U;

/// Tries the largest elements of `row`; `scratch` is overwritten.
pub(super) fn hidden_lattice(row: &[f64], scratch: &mut Vec<f64>) -> Lattice {
    scratch.clear();
    scratch.extend(row.iter().map(|value| value.abs()).filter(|&value| value > 0.0));
    if scratch.len() > LEADING {
        scratch.select_nth_unstable_by(LEADING - 1, |a, b| b.total_cmp(a));
        scratch.truncate(LEADING);
    }
    scratch.sort_unstable_by(|a, b| b.total_cmp(a));
    // Distinct magnitudes only, powers of two apart counting as one: they share a significand.
    scratch.dedup();
    let Some(&largest) = scratch.first() else { return Lattice::Unknown };
    for value in scratch.iter_mut() {
        *value /= largest;
    }
    let mut significands: Vec<f64> = scratch.iter().map(|&value| value / leading_power(value)).collect();
    significands.sort_unstable_by(f64::total_cmp);
    significands.dedup();
    if significands.len() < FEWEST {
        return Lattice::Unknown;
    }
    if on_grid(scratch, Dtype::Bf16) {
        Lattice::Bf16
    } else if on_grid(scratch, Dtype::F16) {
        Lattice::F16
    } else {
        Lattice::None
    }
}

/// Whether some integer multiple m with all bits of the grid's significand puts every ratio on that grid.
fn on_grid(ratios: &[f64], grid: Dtype) -> bool {
    let bits = grid.precision_bits();
    (1_u32 << (bits - 1)..1 << bits).any(|multiple| {
        ratios.iter().all(|&ratio| {
            let value = ratio * f64::from(multiple);
            let spacing = 2.0 * leading_power(value) * roundoff(grid);
            // The spacing is one binade too coarse just below a power of two, where the slack reaches across.
            (nearest_integer(value / spacing) * spacing - value).abs() <= SLACK * value
        })
    })
}

/// Rounds a number far below 2^51 by pushing its fraction off the significand.
fn nearest_integer(value: f64) -> f64 {
    const PUSH: f64 = 1.5 * (1_u64 << 52) as f64;
    (value + PUSH) - PUSH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "float32 is the point")]
    fn single(value: f64) -> f32 {
        value as f32
    }

    fn rounded(value: f64, drop: u32) -> f64 {
        let bits = single(value).to_bits();
        f64::from(f32::from_bits((bits + (1 << (drop - 1))) & !((1 << drop) - 1)))
    }

    #[test]
    fn divided_rows_show_what_they_were_stored_in() {
        for seed in 0..20 {
            let plain: Vec<f64> = noise(seed).take(384).collect();
            let divisor = 1.0 + noise(seed + 100).next().unwrap();
            let divided = |drop: u32| -> Vec<f64> {
                plain.iter().map(|&value| f64::from(single(rounded(value, drop) / divisor))).collect()
            };
            let mut scratch = Vec::new();
            assert_eq!(hidden_lattice(&divided(16), &mut scratch), Lattice::Bf16);
            assert_eq!(hidden_lattice(&divided(13), &mut scratch), Lattice::F16);
            assert_eq!(hidden_lattice(&plain, &mut scratch), Lattice::None);
        }
    }

    #[test]
    fn equal_or_few_elements_tell_nothing() {
        let mut scratch = Vec::new();
        assert_eq!(hidden_lattice(&[0.1; 100], &mut scratch), Lattice::Unknown);
        assert_eq!(hidden_lattice(&[0.0, 0.7, 0.3], &mut scratch), Lattice::Unknown);
        assert_eq!(hidden_lattice(&[], &mut scratch), Lattice::Unknown);
    }
}
