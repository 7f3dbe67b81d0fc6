//! Counts of special values, from the bits.
//!
//! One pass finds the largest code as an unsigned and as a signed integer and the smallest magnitude. Together
//! they give the range of the values and say whether anything special is there at all; only then a second
//! pass, over memory that is still in the cache, counts it.

use crate::Counts;
use crate::dispatch::Kernel;
use crate::element::Specials;
use crate::kernel::widen::{Element, with_element};
use crate::vector::Vector;

/// An unsigned integer as wide as an element.
pub(crate) trait Code: Copy + Ord {
    /// The same bits as a signed integer.
    type Signed: Copy + Ord;
    /// The smallest signed one.
    const LEAST: Self::Signed;
    /// The largest.
    const MOST: Self;
    /// Zero.
    const ZERO: Self;
    /// How many ones can be added without leaving the type.
    const RUN: usize;

    fn signed(self) -> Self::Signed;
    fn unsigned(signed: Self::Signed) -> Self;
    fn and(self, mask: Self) -> Self;
    fn plus(self, more: bool) -> Self;
    fn widen(self) -> u64;
    fn narrow(word: u64) -> Self;
}

macro_rules! code {
    ($($unsigned:ident $signed:ident $run:literal),*) => {$(
        impl Code for $unsigned {
            type Signed = $signed;
            const LEAST: $signed = $signed::MIN;
            const MOST: Self = Self::MAX;
            const ZERO: Self = 0;
            const RUN: usize = $run;

            #[inline(always)]
            fn signed(self) -> $signed {
                self.cast_signed()
            }

            #[inline(always)]
            fn unsigned(signed: $signed) -> Self {
                signed.cast_unsigned()
            }

            #[inline(always)]
            fn and(self, mask: Self) -> Self {
                self & mask
            }

            #[inline(always)]
            fn plus(self, more: bool) -> Self {
                self.wrapping_add(Self::from(more))
            }

            #[inline(always)]
            fn widen(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            #[expect(clippy::allow_attributes, reason = "the cast is trivial for u64 alone")]
            #[allow(clippy::cast_possible_truncation, trivial_numeric_casts, reason = "constants of the format")]
            fn narrow(word: u64) -> Self {
                word as Self
            }
        }
    )*};
}

code!(u8 i8 224, u16 i16 32768, u32 i32 65536, u64 i64 65536);

/// Counts over all elements of `bytes`.
pub(crate) struct Scan<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) dtype: crate::Dtype,
}

impl Kernel for Scan<'_> {
    type Output = Counts;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Counts {
        /// Elements between the passes: they stay in the first-level cache.
        const SEGMENT_BYTES: usize = 16384;
        let mut counts = Counts::EMPTY;
        for segment in self.bytes.chunks(SEGMENT_BYTES) {
            // SAFETY: the segment's whole elements are readable.
            with_element!(self.dtype, E => unsafe {
                scan::<E>(segment.as_ptr(), segment.len() / E::DTYPE.size_bytes(), &mut counts);
            });
        }
        counts
    }
}

/// Adds the counts of `count` elements.
///
/// # Safety
/// `count` elements are readable at `source`.
#[inline(always)]
pub(crate) unsafe fn scan<E: Element>(source: *const u8, count: usize, counts: &mut Counts) {
    if count == 0 {
        return;
    }
    let magnitude_mask = E::Code::narrow(E::DTYPE.format().magnitude_mask());
    let mut seen = Seen::<E::Code, 1>::NOTHING;
    for index in 0..count {
        // SAFETY: by contract.
        seen.look([unsafe { source.cast::<E::Code>().add(index).read_unaligned() }], magnitude_mask);
    }
    // SAFETY: by contract.
    unsafe { settle::<E>(seen, source, count, counts) }
}

/// What one look at some codes tells, lane by lane.
#[derive(Clone, Copy)]
pub(crate) struct Seen<C: Code, const LANES: usize> {
    largest: [C; LANES],
    largest_signed: [C::Signed; LANES],
    least_magnitude: [C; LANES],
}

impl<C: Code, const LANES: usize> Seen<C, LANES> {
    pub(crate) const NOTHING: Self = Self {
        largest: [C::ZERO; LANES],
        largest_signed: [C::LEAST; LANES],
        least_magnitude: [C::MOST; LANES],
    };

    #[inline(always)]
    pub(crate) fn look(&mut self, codes: [C; LANES], magnitude_mask: C) {
        for (lane, code) in codes.into_iter().enumerate() {
            self.largest[lane] = self.largest[lane].max(code);
            self.largest_signed[lane] = self.largest_signed[lane].max(code.signed());
            self.least_magnitude[lane] = self.least_magnitude[lane].min(code.and(magnitude_mask));
        }
    }

    #[inline(always)]
    pub(crate) fn fold(self) -> Seen<C, 1> {
        let mut seen = Seen::<C, 1>::NOTHING;
        for lane in 0..LANES {
            seen.largest[0] = seen.largest[0].max(self.largest[lane]);
            seen.largest_signed[0] = seen.largest_signed[0].max(self.largest_signed[lane]);
            seen.least_magnitude[0] = seen.least_magnitude[0].min(self.least_magnitude[lane]);
        }
        seen
    }
}

/// Adds the counts of `count` elements, at least one, that were looked at; looks closer where that was not enough.
///
/// # Safety
/// `count` elements are readable at `source`.
#[inline(always)]
pub(crate) unsafe fn settle<E: Element>(
    seen: Seen<E::Code, 1>,
    source: *const u8,
    count: usize,
    counts: &mut Counts,
) {
    let format = E::DTYPE.format();
    let magnitude_mask = E::Code::narrow(format.magnitude_mask());
    let [largest] = seen.largest;
    let [largest_signed] = seen.largest_signed;
    let [least_magnitude] = seen.least_magnitude;
    let any_negative = largest.widen() > format.magnitude_mask();
    let any_positive = largest_signed >= E::Code::ZERO.signed();
    let largest_signed = E::Code::unsigned(largest_signed);
    let negative_magnitude = if any_negative { largest.and(magnitude_mask).widen() } else { 0 };
    let positive_magnitude = if any_positive { largest_signed.widen() } else { 0 };
    let nonfinite = negative_magnitude.max(positive_magnitude) >= format.first_nonfinite_bits();
    if nonfinite || least_magnitude.widen() < format.min_normal_bits() {
        // SAFETY: by contract.
        let found = unsafe { count_special::<E>(source, count) };
        *counts = counts.merge(found);
        if found.nan > 0 {
            for index in 0..count {
                // SAFETY: by contract.
                let code = unsafe { source.cast::<E::Code>().add(index).read_unaligned() };
                let value = E::DTYPE.decode(code.widen());
                *counts = counts.extend_range(value, value);
            }
            return;
        }
    }
    let sign = format.magnitude_mask() + 1;
    let smallest = if any_negative { largest.widen() } else { least_magnitude.widen() };
    let largest = if any_positive { positive_magnitude } else { sign | least_magnitude.widen() };
    *counts = counts.extend_range(E::DTYPE.decode(smallest), E::DTYPE.decode(largest));
}

/// The four counts, without the range.
///
/// # Safety
/// `count` elements are readable at `source`.
#[inline(always)]
unsafe fn count_special<E: Element>(source: *const u8, count: usize) -> Counts {
    let format = E::DTYPE.format();
    let zero_is_nan = format.specials == Specials::NegativeZeroIsNan;
    let has_infinity = format.specials == Specials::Ieee;
    let magnitude_mask = E::Code::narrow(format.magnitude_mask());
    let min_normal = E::Code::narrow(format.min_normal_bits());
    let first_nonfinite = E::Code::narrow(format.first_nonfinite_bits());
    let negative_zero = E::Code::narrow(format.magnitude_mask() + 1);
    let mut counts = Counts::EMPTY;
    for start in (0..count).step_by(E::Code::RUN) {
        let (mut zero, mut small, mut nonfinite, mut infinite) =
            (E::Code::ZERO, E::Code::ZERO, E::Code::ZERO, E::Code::ZERO);
        for index in start..count.min(start + E::Code::RUN) {
            // SAFETY: by contract.
            let bits = unsafe { source.cast::<E::Code>().add(index).read_unaligned() };
            let magnitude = bits.and(magnitude_mask);
            small = small.plus(magnitude < min_normal);
            if zero_is_nan {
                zero = zero.plus(bits == E::Code::ZERO);
                nonfinite = nonfinite.plus(bits == negative_zero);
            } else {
                zero = zero.plus(magnitude == E::Code::ZERO);
                nonfinite = nonfinite.plus(magnitude >= first_nonfinite);
                infinite = infinite.plus(has_infinity && magnitude == first_nonfinite);
            }
        }
        let negative_zero_nan = if zero_is_nan { nonfinite.widen() } else { 0 };
        counts.zero += zero.widen();
        counts.subnormal += small.widen() - zero.widen() - negative_zero_nan;
        counts.inf += infinite.widen();
        counts.nan += nonfinite.widen() - infinite.widen();
    }
    counts
}
