//! The element types as kernels see them: how to widen a run of elements exactly.

use std::mem::MaybeUninit;

use crate::Dtype;
use crate::element::{Format, Specials};
use crate::kernel::scan::Code;
use crate::vector::Vector;

/// Elements that are widened together, and whose squares are summed together first: eight vectors.
pub(crate) const BLOCK: usize = 64;

/// A type that is read into float64: f32 (which holds every narrower format exactly) or f64.
pub(crate) trait Wide: Copy {
    /// Zero.
    const ZERO: Self;
    /// Whether squares may round, overflow or underflow in float64.
    const SQUARES_ROUND: bool;
    /// Elements of a chunk of the sum of squares: two blocks, or one where squares round, which keeps either within the
    /// same error.
    const CHUNK: usize = if Self::SQUARES_ROUND { BLOCK } else { 2 * BLOCK };

    /// Reads eight at any alignment, as float64.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; eight elements are readable.
    unsafe fn load<V: Vector>(source: *const Self) -> V;

    /// `sum + x * x`, with the product rounded once and the sum rounded once.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn add_square<V: Vector>(sum: V, x: V) -> V;
}

impl Wide for f32 {
    const ZERO: Self = 0.0;
    const SQUARES_ROUND: bool = false;

    #[inline(always)]
    unsafe fn load<V: Vector>(source: *const Self) -> V {
        // SAFETY: by contract.
        unsafe { V::widen(source) }
    }

    #[inline(always)]
    unsafe fn add_square<V: Vector>(sum: V, x: V) -> V {
        // SAFETY: by contract; the product of two 24-bit significands is exact in float64.
        unsafe { sum.add_exact_product(x, x) }
    }
}

impl Wide for f64 {
    const ZERO: Self = 0.0;
    const SQUARES_ROUND: bool = true;

    #[inline(always)]
    unsafe fn load<V: Vector>(source: *const Self) -> V {
        // SAFETY: by contract.
        unsafe { V::load(source) }
    }

    #[inline(always)]
    unsafe fn add_square<V: Vector>(sum: V, x: V) -> V {
        // SAFETY: by contract. Never fused: not every instruction set has a fused multiplication.
        unsafe { sum.add(x.mul(x)) }
    }
}

/// A storage format.
pub(crate) trait Element {
    /// Its name at run time.
    const DTYPE: Dtype;
    /// Whether memory already holds [`Element::Wide`].
    const IS_WIDE: bool;
    /// What it is widened to.
    type Wide: Wide;
    /// Its bits.
    type Code: Code;
    /// The exponent of the power of two by which [`Element::widen_to_square`] divides.
    const LESS: i32 = 0;

    /// Widens [`BLOCK`] elements from any alignment.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; a block is readable at `source` and writable at `target`.
    unsafe fn widen_block<V: Vector>(source: *const u8, target: *mut Self::Wide);

    /// Widens [`BLOCK`] elements for a sum of squares: without their signs perhaps, and each divided by
    /// 2 to the [`Element::LESS`].
    ///
    /// # Safety
    /// As for [`Element::widen_block`].
    #[inline(always)]
    unsafe fn widen_to_square<V: Vector>(source: *const u8, target: *mut Self::Wide) {
        // SAFETY: by contract.
        unsafe { Self::widen_block::<V>(source, target) }
    }
}

/// Binary64.
pub(crate) struct F64;
/// Binary32.
pub(crate) struct F32;
/// Binary16.
pub(crate) struct F16;
/// The upper half of binary32.
pub(crate) struct Bf16;

impl Element for F64 {
    const DTYPE: Dtype = Dtype::F64;
    const IS_WIDE: bool = true;
    type Wide = f64;
    type Code = u64;

    #[inline(always)]
    unsafe fn widen_block<V: Vector>(source: *const u8, target: *mut f64) {
        // SAFETY: by contract.
        unsafe { target.cast::<u8>().copy_from_nonoverlapping(source, BLOCK * size_of::<f64>()) }
    }
}

impl Element for F32 {
    const DTYPE: Dtype = Dtype::F32;
    const IS_WIDE: bool = true;
    type Wide = f32;
    type Code = u32;

    #[inline(always)]
    unsafe fn widen_block<V: Vector>(source: *const u8, target: *mut f32) {
        // SAFETY: by contract.
        unsafe { target.cast::<u8>().copy_from_nonoverlapping(source, BLOCK * size_of::<f32>()) }
    }
}

impl Element for F16 {
    const DTYPE: Dtype = Dtype::F16;
    const IS_WIDE: bool = false;
    type Wide = f32;
    type Code = u16;

    #[inline(always)]
    unsafe fn widen_block<V: Vector>(source: *const u8, target: *mut f32) {
        for step in 0..BLOCK / 16 {
            // SAFETY: by contract.
            unsafe { V::widen_f16(source.add(step * 32), target.add(step * 16), None) }
        }
    }
}

impl Element for Bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
    const IS_WIDE: bool = false;
    type Wide = f32;
    type Code = u16;

    #[inline(always)]
    unsafe fn widen_block<V: Vector>(source: *const u8, target: *mut f32) {
        // SAFETY: by contract.
        let codes = unsafe { source.cast::<[u16; BLOCK]>().read_unaligned() };
        for (index, code) in codes.into_iter().enumerate() {
            // SAFETY: by contract; `index` is below `BLOCK`.
            unsafe { target.add(index).write(bf16_to_f32(code)) }
        }
    }
}

macro_rules! narrow_float {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Element for $name {
            const DTYPE: Dtype = Dtype::$name;
            const IS_WIDE: bool = false;
            type Wide = f32;
            type Code = u8;
            const LESS: i32 = less(Self::DTYPE.format());

            #[inline(always)]
            unsafe fn widen_block<V: Vector>(source: *const u8, target: *mut f32) {
                // SAFETY: by contract.
                unsafe { widen_bytes::<V>(source, target, Self::DTYPE.format(), false) }
            }

            #[inline(always)]
            unsafe fn widen_to_square<V: Vector>(source: *const u8, target: *mut f32) {
                // SAFETY: by contract.
                unsafe { widen_bytes::<V>(source, target, Self::DTYPE.format(), true) }
            }
        }
    )*};
}

narrow_float! {
    /// 4 exponent bits, one NaN code of either sign.
    F8E4M3
    /// 5 exponent bits, IEEE-like.
    F8E5M2
    /// 4 exponent bits, NaN in place of negative zero.
    F8E4M3Fnuz
    /// 5 exponent bits, NaN in place of negative zero.
    F8E5M2Fnuz
}

/// Whether the numbers of an eight-bit format, divided by a power of two, are all float16 numbers.
const fn passes_through_f16(format: Format) -> bool {
    // The top exponent of the formats without infinities is finite, that of float16 is not.
    format.exponent_bits < 5 || matches!(format.specials, Specials::Ieee)
}

/// How many powers of two the codes of an eight-bit format mean more than the same codes as float16.
const fn less(format: Format) -> i32 {
    if passes_through_f16(format) { 15 - format.bias } else { 0 }
}

/// Widens [`BLOCK`] codes of an eight-bit format, `to_square` without their signs and divided by 2 to the [`less`].
///
/// Formats that can pass through float16: its conversion is an instruction, and knows subnormal numbers.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block is readable at `source` and writable at `target`.
#[inline(always)]
unsafe fn widen_bytes<V: Vector>(source: *const u8, target: *mut f32, format: Format, to_square: bool) {
    const HALF_NAN: u16 = 0x7e00;
    // SAFETY: by contract.
    let codes = unsafe { source.cast::<[u8; BLOCK]>().read_unaligned() };
    if !passes_through_f16(format) {
        // SAFETY: by contract.
        let target = unsafe { &mut *target.cast::<[MaybeUninit<f32>; BLOCK]>() };
        for (slot, code) in target.iter_mut().zip(codes) {
            slot.write(narrow_to_f32(u32::from(code), format));
        }
        return;
    }
    let is_nan = |code: u8| match format.specials {
        Specials::Ieee => false, // the codes of float16 itself
        Specials::OneNan => code & 0x7f == 0x7f,
        Specials::NegativeZeroIsNan => code == 0x80,
    };
    let mut halves = [0_u16; BLOCK];
    for (half, code) in halves.iter_mut().zip(codes) {
        let magnitude = u16::from(code & 0x7f) << (10 - format.fraction_bits);
        *half = if to_square { magnitude } else { magnitude | u16::from(code & 0x80) << 8 };
    }
    if codes.into_iter().fold(false, |any, code| any | is_nan(code)) {
        for (half, code) in halves.iter_mut().zip(codes) {
            *half = if is_nan(code) { HALF_NAN } else { *half };
        }
    }
    let scale =
        (less(format) != 0 && !to_square).then(|| f32::from_bits((127 + less(format)).cast_unsigned() << 23));
    for step in 0..BLOCK / 16 {
        // SAFETY: by contract; `halves` holds a block.
        unsafe { V::widen_f16(halves.as_ptr().add(step * 16).cast(), target.add(step * 16), scale) }
    }
}

/// Widens one float16 without any instruction for it.
#[inline(always)]
pub(crate) fn f16_to_f32(code: u16) -> f32 {
    narrow_to_f32(u32::from(code), Dtype::F16.format())
}

/// Widens one bfloat16.
#[inline(always)]
pub(crate) fn bf16_to_f32(code: u16) -> f32 {
    f32::from_bits(u32::from(code) << 16)
}

/// Widens a code of a format narrower than f32, without branches and without subnormal float32 numbers on the
/// way, so that it vectorises and does not depend on a mode that flushes them.
#[inline(always)]
fn narrow_to_f32(code: u32, format: Format) -> f32 {
    const EXPONENT: u32 = 0x7f80_0000;
    const QUIET_NAN: u32 = 0x7fc0_0000;

    let sign = 1 << (format.exponent_bits + format.fraction_bits);
    let shift = 23 - format.fraction_bits;
    let magnitude = code & (sign - 1);
    let rebias = (127 - format.bias).cast_unsigned() << 23;
    // A subnormal code m * s is read as (1 + m) / 2 * min_normal by the rule for normal codes; twice that
    // less min_normal is the number, exactly.
    let as_normal = f32::from_bits((magnitude << shift) + rebias);
    let min_normal = f32::from_bits(rebias + (1 << 23));
    let as_subnormal = as_normal + as_normal - min_normal;
    let is_normal = magnitude >= 1 << format.fraction_bits;
    let finite = if is_normal { as_normal } else { as_subnormal }.to_bits();
    let unsigned = match format.specials {
        Specials::Ieee => {
            let first = sign - (1 << format.fraction_bits);
            if magnitude >= first { (magnitude << shift) | EXPONENT } else { finite }
        }
        Specials::OneNan => {
            if magnitude == sign - 1 {
                QUIET_NAN
            } else {
                finite
            }
        }
        Specials::NegativeZeroIsNan => {
            if code == sign {
                QUIET_NAN
            } else {
                finite
            }
        }
    };
    let sign_shift = 31 - (format.exponent_bits + format.fraction_bits);
    f32::from_bits(unsigned | (code & sign) << sign_shift)
}

/// Runs `$body` with `$element` naming the type that stands for `$dtype`.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::F64 => {
                type $element = $crate::kernel::widen::F64;
                $body
            }
            $crate::Dtype::F32 => {
                type $element = $crate::kernel::widen::F32;
                $body
            }
            $crate::Dtype::F16 => {
                type $element = $crate::kernel::widen::F16;
                $body
            }
            $crate::Dtype::Bf16 => {
                type $element = $crate::kernel::widen::Bf16;
                $body
            }
            $crate::Dtype::F8E4M3 => {
                type $element = $crate::kernel::widen::F8E4M3;
                $body
            }
            $crate::Dtype::F8E5M2 => {
                type $element = $crate::kernel::widen::F8E5M2;
                $body
            }
            $crate::Dtype::F8E4M3Fnuz => {
                type $element = $crate::kernel::widen::F8E4M3Fnuz;
                $body
            }
            $crate::Dtype::F8E5M2Fnuz => {
                type $element = $crate::kernel::widen::F8E5M2Fnuz;
                $body
            }
        }
    };
}
pub(crate) use with_element;
