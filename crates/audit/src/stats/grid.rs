//! Number formats as grids: how finely a value can be stored, and which formats hold a given element.

use unitrow_norms::Dtype;

use super::widen::widen;

/// Formats a tensor may once have been stored in, coarsest first.
const CANDIDATES: [Dtype; 5] = [Dtype::F8E5M2, Dtype::F8E4M3, Dtype::Bf16, Dtype::F16, Dtype::F32];

/// Name as Python sees it.
pub(super) fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "f64",
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        Dtype::Bf16 => "bf16",
        Dtype::F8E4M3 => "f8_e4m3",
        Dtype::F8E5M2 => "f8_e5m2",
        Dtype::F8E4M3Fnuz => "f8_e4m3fnuz",
        Dtype::F8E5M2Fnuz => "f8_e5m2fnuz",
        _ => "unknown",
    }
}

/// Half an ulp of values in [1, 2).
pub(super) fn roundoff(grid: Dtype) -> f64 {
    power_of_two(-grid.precision_bits().cast_signed())
}

/// Half the spacing of the subnormal numbers (0 for float64, whose half spacing no float64 holds).
pub(super) fn half_floor(grid: Dtype) -> f64 {
    grid.min_subnormal() / 2.0
}

/// Formats of at most 16 bits: the norm that divided a row may itself have been rounded to them.
pub(super) fn is_low_precision(grid: Dtype) -> bool {
    grid.precision_bits() <= 11
}

/// Largest finite value.
fn largest(grid: Dtype) -> f64 {
    match grid {
        Dtype::F8E5M2 | Dtype::F8E5M2Fnuz => 57_344.0,
        Dtype::F8E4M3 => 448.0,
        Dtype::F8E4M3Fnuz => 240.0,
        Dtype::Bf16 => f64::from(f32::from_bits(0x7f7f_0000)),
        Dtype::F16 => 65_504.0,
        Dtype::F32 => f64::from(f32::MAX),
        _ => f64::MAX,
    }
}

/// Whether the format holds `value` exactly: significand, range and subnormal spacing.
fn holds(grid: Dtype, value: f64) -> bool {
    // A multiple of the spacing of its binade, or of the subnormal spacing, up to the largest number.
    let spacing = (2.0 * leading_power(value) * roundoff(grid)).max(grid.min_subnormal());
    let on_grid = ((value / spacing).trunc() * spacing).to_bits() == value.to_bits();
    value.abs() <= largest(grid) && on_grid
}

/// The formats that no element has ruled out yet, as a set over [`CANDIDATES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alive(u8);

impl Alive {
    /// Nothing left to try.
    pub(super) const NONE: Self = Self(0);

    /// Every candidate that is coarser than what the tensor is stored in.
    pub(super) fn coarser_than(stored: Dtype) -> Self {
        let mut set = 0;
        for (bit, candidate) in CANDIDATES.iter().enumerate() {
            if candidate.precision_bits() < stored.precision_bits() {
                set |= 1 << bit;
            }
        }
        Self(set)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Strikes off every candidate that some element of a row disproves; `values` is overwritten.
    pub(super) fn strike(&mut self, row: &[u8], stored: Dtype, values: &mut Vec<f64>) {
        // Of float32 numbers only those below a candidate's normal range are left to look at one by one.
        let below =
            |candidate: Dtype| if stored == Dtype::F32 { candidate.min_normal() } else { f64::INFINITY };
        if stored == Dtype::F32 {
            let bits = SingleBits::of(row);
            if self.candidates().all(|candidate| bits.are_certainly_held_by(candidate)) {
                return;
            }
            self.retain(|candidate| !bits.are_certainly_off(candidate));
        }
        if !self.is_empty() {
            widen(row, stored, values);
            self.retain(|candidate| {
                let limit = below(candidate);
                values.iter().filter(|value| value.abs() < limit).all(|&value| holds(candidate, value))
            });
        }
    }

    fn candidates(self) -> impl Iterator<Item = Dtype> {
        CANDIDATES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, &one)| one)
    }

    fn retain(&mut self, stays: impl Fn(Dtype) -> bool) {
        for (bit, &candidate) in CANDIDATES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 && !stays(candidate) {
                self.0 &= !(1 << bit);
            }
        }
    }

    /// The coarsest candidate left, else the stored format.
    pub(super) fn coarsest(self, stored: Dtype) -> Dtype {
        self.candidates().next().unwrap_or(stored)
    }
}

/// What the bits of a row of float32 numbers say together: enough to decide all but rows with elements below a
/// candidate's normal range, at the speed of integers.
struct SingleBits {
    any: u32,
    largest: f64,
    smallest_nonzero: f64,
}

impl SingleBits {
    fn of(row: &[u8]) -> Self {
        let (mut any, mut largest, mut before_smallest) = (0, 0, i32::MAX);
        for item in row.as_chunks::<4>().0 {
            let magnitude = i32::from_le_bytes(*item) & i32::MAX;
            any |= magnitude;
            largest = largest.max(magnitude);
            // One less, so that zero becomes the largest of all.
            before_smallest = before_smallest.min(magnitude.wrapping_sub(1) & i32::MAX);
        }
        let value = |bits: i32| f64::from(f32::from_bits(bits.cast_unsigned()));
        let smallest = if before_smallest == i32::MAX { f64::INFINITY } else { value(before_smallest + 1) };
        Self { any: any.cast_unsigned(), largest: value(largest), smallest_nonzero: smallest }
    }

    /// Some element has more significand bits or a larger magnitude than the format.
    fn are_certainly_off(&self, format: Dtype) -> bool {
        let excess = (1_u32 << (24 - format.precision_bits())) - 1;
        self.any & excess != 0 || self.largest.is_nan() || self.largest > largest(format)
    }

    fn are_certainly_held_by(&self, format: Dtype) -> bool {
        !self.are_certainly_off(format) && self.smallest_nonzero >= format.min_normal()
    }
}

/// 2^`exponent` within float64's normal range.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    2.0_f64.powi(exponent)
}

/// The power of two at or below `|value|`; 0 for 0 and for float64's subnormals.
pub(super) fn leading_power(value: f64) -> f64 {
    f64::from_bits(value.to_bits() & 0x7ff0_0000_0000_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From float32 and from float64 bytes alike.
    fn strike(alive: &mut Alive, values: &[f64]) {
        let mut other = *alive;
        #[expect(clippy::cast_possible_truncation, reason = "the tests use float32 numbers")]
        let single: Vec<u8> = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
        let double: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        alive.strike(&single, Dtype::F32, &mut Vec::new());
        other.strike(&double, Dtype::F64, &mut Vec::new());
        assert_eq!(*alive, other);
    }

    #[test]
    fn the_bits_of_a_row_and_its_elements_agree() {
        let mut state = 7_u32;
        for round in 0..2000_u32 {
            let mut alive = Alive::coarser_than(Dtype::F32);
            let values: Vec<f64> = (0..5)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let kept = u32::MAX << [12, 13, 14, 16, 20, 21][round as usize % 6];
                    let exponent =
                        127_u32.saturating_sub((state >> 8) % [4, 20, 30, 140][round as usize / 6 % 4]);
                    f64::from(f32::from_bits((state & 0x807f_ffff & kept) | exponent.min(254) << 23))
                })
                .collect();
            strike(&mut alive, &values);
        }
    }

    #[test]
    fn a_format_holds_what_it_decodes_and_nothing_between() {
        for grid in [Dtype::F8E5M2, Dtype::F8E4M3, Dtype::Bf16, Dtype::F16] {
            let codes = 1_u64 << (8 * grid.size_bytes());
            for code in 0..codes {
                let value = grid.decode(code);
                if !value.is_finite() {
                    continue;
                }
                assert!(holds(grid, value), "{grid} {value}");
                let finer = value + value.abs().max(grid.min_normal()) * roundoff(grid) / 2.0;
                assert!(!holds(grid, finer), "{grid} {finer}");
            }
            assert!(!holds(grid, 2.0 * largest(grid)));
        }
        assert!(holds(Dtype::F32, f64::from(f32::MIN_POSITIVE) / 8.0));
        assert!(!holds(Dtype::F32, 0.1));
    }

    #[test]
    fn truncated_mantissas_are_not_half_precision() {
        // Ten mantissa bits and float32's range: tf32, whose small values float16 does not have.
        let mut alive = Alive::coarser_than(Dtype::F32);
        strike(&mut alive, &[0.5 + 2.0_f64.powi(-11), 1.5 * 2.0_f64.powi(-24)]);
        assert!(alive.is_empty());
    }

    #[test]
    fn the_coarsest_format_that_holds_every_element() {
        let mut alive = Alive::coarser_than(Dtype::F32);
        strike(&mut alive, &[0.0, 1.0, 1.75, -0.0]);
        assert_eq!(alive.coarsest(Dtype::F32), Dtype::F8E5M2);
        strike(&mut alive, &[1.125]);
        assert_eq!(alive.coarsest(Dtype::F32), Dtype::F8E4M3);
        strike(&mut alive, &[2.0_f64.powi(100)]);
        assert_eq!(alive.coarsest(Dtype::F32), Dtype::Bf16);
        assert!(Alive::coarser_than(Dtype::F8E5M2).is_empty());
    }
}
