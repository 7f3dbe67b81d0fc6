//! Rounding float64 to the storage formats: once, to nearest, ties to even.

use crate::Dtype;
use crate::element::Format;
use crate::kernel::widen::{BLOCK, Bf16, Element, F8E4M3, F8E4M3Fnuz, F8E5M2, F8E5M2Fnuz, F16, F32, F64};

/// A format that can be written.
pub(crate) trait Narrow: Element {
    /// Rounds a block. Numbers beyond the largest of an eight-bit format are not expected.
    ///
    /// # Safety
    /// A block is writable at `target`, at any alignment.
    unsafe fn narrow_block(source: &[f64; BLOCK], target: *mut u8);
}

impl Narrow for F64 {
    #[inline(always)]
    unsafe fn narrow_block(source: &[f64; BLOCK], target: *mut u8) {
        // SAFETY: by contract.
        unsafe { target.cast::<[f64; BLOCK]>().write_unaligned(*source) }
    }
}

impl Narrow for F32 {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the rounding that is asked for")]
    unsafe fn narrow_block(source: &[f64; BLOCK], target: *mut u8) {
        // SAFETY: by contract.
        unsafe { target.cast::<[f32; BLOCK]>().write_unaligned(source.map(|value| value as f32)) }
    }
}

impl Narrow for Bf16 {
    #[inline(always)]
    unsafe fn narrow_block(source: &[f64; BLOCK], target: *mut u8) {
        let codes = source.map(|value| bf16_from_f32(to_odd(value)));
        // SAFETY: by contract.
        unsafe { target.cast::<[u16; BLOCK]>().write_unaligned(codes) }
    }
}

impl Narrow for F16 {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "sixteen bits by construction")]
    unsafe fn narrow_block(source: &[f64; BLOCK], target: *mut u8) {
        let codes = source.map(|value| narrow_from_f32(to_odd(value), Dtype::F16.format()) as u16);
        // SAFETY: by contract.
        unsafe { target.cast::<[u16; BLOCK]>().write_unaligned(codes) }
    }
}

macro_rules! narrow_byte {
    ($($name:ident)*) => {$(
        impl Narrow for $name {
            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "eight bits by construction")]
            unsafe fn narrow_block(source: &[f64; BLOCK], target: *mut u8) {
                let codes = source.map(|value| narrow_from_f32(to_odd(value), Dtype::$name.format()) as u8);
                // SAFETY: by contract.
                unsafe { target.cast::<[u8; BLOCK]>().write_unaligned(codes) }
            }
        }
    )*};
}

narrow_byte!(F8E4M3 F8E5M2 F8E4M3Fnuz F8E5M2Fnuz);

/// Rounds to float32 so that a second rounding, to a format at least two bits shorter, gives what one rounding
/// would have given: towards zero, with the last bit set where anything was lost.
#[inline(always)]
pub(crate) fn to_odd(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the rounding that is asked for")]
    let nearest = value as f32;
    let back = f64::from(nearest);
    // Codes of one sign are ordered like magnitudes, so one less is the next number towards zero.
    let towards_zero = nearest.to_bits() - u32::from(back.abs() > value.abs());
    let is_inexact = back.to_bits() != value.to_bits() && !value.is_nan();
    f32::from_bits(towards_zero | u32::from(is_inexact))
}

/// Rounds float32 to its upper half.
#[inline(always)]
pub(crate) fn bf16_from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let bits = if value.is_nan() { bits | 0x0040_0000 } else { rounded };
    u16::try_from(bits >> 16).unwrap_or(0)
}

/// Rounds float32 to a narrower format. Beyond the largest number the code is that of infinity or NaN.
#[inline(always)]
fn narrow_from_f32(value: f32, format: Format) -> u32 {
    use crate::element::Specials;
    let sign_shift = format.exponent_bits + format.fraction_bits;
    let sign_bit = 1 << sign_shift;
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let least = (128 - format.bias).cast_unsigned(); // float32's exponent field of the smallest normal number
    let exponent = magnitude >> 23;
    // Below the smallest normal number the step stays, so more bits go. A float32 subnormal number is below
    // half of any step here.
    let below = least.saturating_sub(exponent).min(25);
    let shift = (23 - format.fraction_bits + below).min(31);
    let significand = (magnitude & 0x007f_ffff) | 0x0080_0000;
    let half = (1_u32 << (shift - 1)) - 1;
    let steps = (significand + half + (significand >> shift & 1)) >> shift;
    // Adding steps to the code of the binade below carries into exponents by itself.
    let binade = exponent.max(least) - least;
    let code = (binade << format.fraction_bits) + steps;
    #[expect(clippy::cast_possible_truncation, reason = "formats here have at most sixteen bits")]
    let beyond = match format.specials {
        Specials::NegativeZeroIsNan => sign_bit,
        Specials::Ieee | Specials::OneNan => format.first_nonfinite_bits() as u32,
    };
    let unsigned = if value.is_nan() {
        beyond | u32::from(format.specials == Specials::Ieee) << (format.fraction_bits - 1)
    } else if u64::from(code) >= format.first_nonfinite_bits() {
        beyond
    } else {
        code
    };
    if format.specials == Specials::NegativeZeroIsNan && (unsigned == 0 || unsigned == sign_bit) {
        return unsigned;
    }
    unsigned | bits >> 31 << sign_shift
}

#[cfg(test)]
mod tests {
    use super::{Narrow, narrow_from_f32, to_odd};
    use crate::Dtype;
    use crate::kernel::widen::{BLOCK, with_element};

    /// Every code, the midpoints between neighbours, and numbers just beside those, against the scalar
    /// reference.
    #[test]
    fn one_rounding() {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.size_bytes() <= 2) {
            let mut numbers =
                vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 1e300, -1e-50];
            for code in 0..1_u64 << (8 * dtype.size_bytes()) {
                let (low, high) = (dtype.decode(code), dtype.decode(code + 1));
                let middle = f64::midpoint(low, high);
                for number in [low, middle] {
                    numbers.extend([number, number.next_up(), number.next_down(), number * (1.0 + 1e-9)]);
                }
            }
            numbers.retain(|number| !number.is_nan());
            numbers.resize(numbers.len().next_multiple_of(BLOCK), 0.0);
            for block in numbers.as_chunks::<BLOCK>().0 {
                let mut bytes = [0; BLOCK * 2];
                with_element!(dtype, E => {
                    // SAFETY: the bytes hold a block of the widest format tested.
                    unsafe { E::narrow_block(block, bytes.as_mut_ptr()) }
                });
                for (number, found) in block.iter().zip(bytes.chunks(dtype.size_bytes())) {
                    let expected = &dtype.encode(*number).to_le_bytes()[..dtype.size_bytes()];
                    assert_eq!(found, expected, "{dtype} {number:e} {:e}", to_odd(*number));
                }
            }
        }
        assert_eq!(narrow_from_f32(f32::NAN, Dtype::F8E4M3.format()), 0x7f);
    }
}
