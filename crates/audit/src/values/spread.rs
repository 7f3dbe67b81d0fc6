//! Binary exponents: a few values far above the rest, and values that make sense only with their bytes swapped.

use unitrow_norms::Counts;
use unitrow_tensors::Dtype;

use super::frame::Frame;

/// Elements of a block that are looked at one by one: enough for quartiles, too few to cost anything.
const SAMPLE: usize = 128;

/// Non-zero elements of a sample below which it says nothing.
const LEAST_SAMPLE: usize = 32;

/// No more elements than this are "a few".
const FEW: u64 = 16;

/// So many other values make a few stand out.
const LEAST_OTHERS: u64 = 256;

/// Where the exponent of a float lies, and what is odd in it.
#[derive(Debug, Clone, Copy)]
struct Format {
    bytes: usize,
    mantissa_bits: u32,
    exponent_bits: u32,
    /// Powers of two between the few largest values and all others that make them outliers.
    gap: u16,
    /// Distance of the quartiles of exponents: at most in weights, at least in bytes in the wrong order.
    ordinary: u16,
    scattered: u16,
}

impl Format {
    fn of(dtype: Dtype) -> Option<Self> {
        let (bytes, mantissa_bits, exponent_bits, gap, ordinary, scattered) = match dtype {
            Dtype::F64 => (8, 52, 11, 16, 16, 400),
            Dtype::F32 => (4, 23, 8, 16, 16, 64),
            Dtype::Bf16 => (2, 7, 8, 16, 16, 64),
            Dtype::F16 => (2, 10, 5, 11, 5, 10),
            _ => return None,
        };
        Some(Self { bytes, mantissa_bits, exponent_bits, gap, ordinary, scattered })
    }

    fn swapped(self, bits: u64) -> u64 {
        bits.swap_bytes() >> (64 - 8 * self.bytes)
    }

    /// The exponent field, 0 for subnormal numbers.
    #[expect(clippy::cast_possible_truncation, reason = "11 bits at most")]
    fn exponent(self, bits: u64) -> u16 {
        (bits >> self.mantissa_bits) as u16 & self.top()
    }

    /// The exponent field of NaN and Inf.
    fn top(self) -> u16 {
        (1 << self.exponent_bits) - 1
    }

    fn is_zero(self, bits: u64) -> bool {
        bits << (65 - 8 * self.bytes) == 0
    }
}

/// What a tensor's exponents say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spread {
    /// Blocks whose samples look right only with their bytes swapped, and blocks whose samples do not.
    swapped: u64,
    straight: u64,
    /// How many values stand out within their block, the least exponent of one, and where the first is.
    few: u64,
    least_few: Option<u16>,
    pub(super) first_few: Option<u64>,
    /// How many others there are about, and their largest exponent.
    others: u64,
    largest_other: u16,
}

impl Spread {
    /// Look at a block that begins `at` bytes into the tensor.
    pub(super) fn of(frame: &Frame, at: u64, bytes: &[u8], counts: &Counts) -> Self {
        let Some(format) = Format::of(frame.dtype) else { return Self::default() };
        let mut spread = Self::default();
        let mut sample = sample(format, bytes);
        let median = spread.vote(format, &mut sample);
        if frame.rank() < 2 || counts.inf + counts.nan > 0 {
            return spread;
        }
        spread.others = (bytes.len() / format.bytes) as u64 - counts.zero;
        spread.largest_other = largest_exponent(format, counts);
        if median.is_none_or(|median| spread.largest_other >= median + format.gap) {
            spread.search(format, at, bytes);
        }
        spread
    }

    /// Whether bytes are swapped, by a sample; returns the median exponent.
    fn vote(&mut self, format: Format, sample: &mut [u64]) -> Option<u16> {
        if sample.len() < LEAST_SAMPLE {
            return None;
        }
        let (median, range) = quartiles(sample.iter().map(|&bits| format.exponent(bits)));
        // Numbers that were widened from a shorter format have zeros in their low bytes: swapped, they are subnormal.
        let widened = || sample.iter().all(|&bits| bits >> (8 * format.bytes - 16) == 0);
        let odd = range >= format.scattered || format.bytes > 2 && median == 0 && widened();
        let fits = || {
            let exponents = sample.iter().map(|&bits| format.exponent(format.swapped(bits)));
            let (median, range) = quartiles(exponents);
            let middle = format.top() / 2;
            range <= format.ordinary && median.abs_diff(middle) <= middle / 2
        };
        if odd && fits() {
            self.swapped = 1;
        } else {
            self.straight = 1;
        }
        Some(median)
    }

    /// Find the few largest values that a gap divides from all others of the block.
    fn search(&mut self, format: Format, at: u64, bytes: &[u8]) {
        let mut histogram = [0_u32; 1 << 11];
        for item in bytes.chunks_exact(format.bytes) {
            histogram[usize::from(format.exponent(bits_of(item)))] += 1;
        }
        // The exponent 0 holds zeros too, and is as good as empty.
        let mut above = (0, 0_u16);
        for exponent in (1..format.top()).rev() {
            let here = u64::from(histogram[usize::from(exponent)]);
            if here == 0 {
                continue;
            }
            if above.0 > 0 && above.1 - exponent >= format.gap {
                self.few = above.0;
                self.others -= above.0;
                self.least_few = Some(above.1);
                self.largest_other = exponent;
                let stands_out =
                    |item: &[u8]| (above.1..format.top()).contains(&format.exponent(bits_of(item)));
                let place = bytes.chunks_exact(format.bytes).position(stands_out);
                self.first_few = place.map(|place| at + (place * format.bytes) as u64);
                return;
            }
            above = (above.0 + here, exponent);
            if above.0 > FEW {
                return;
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.swapped += other.swapped;
        self.straight += other.straight;
        self.few += other.few;
        self.least_few = [self.least_few, other.least_few].into_iter().flatten().min();
        self.first_few = [self.first_few, other.first_few].into_iter().flatten().min();
        self.others += other.others;
        self.largest_other = self.largest_other.max(other.largest_other);
    }

    /// Whether the values make sense only with their bytes swapped: nearly all blocks must say so.
    pub(super) fn is_swapped(&self) -> bool {
        self.swapped > 9 * self.straight
    }

    /// How many values are far above all others, and by at least which power of two.
    pub(super) fn outliers(&self, dtype: Dtype) -> Option<(u64, u16)> {
        let gap = self.least_few?.checked_sub(self.largest_other)?;
        let few = self.few <= FEW && self.others >= LEAST_OTHERS;
        (few && gap >= Format::of(dtype)?.gap).then_some((self.few, gap))
    }
}

/// The bits of an element, low byte first.
fn bits_of(item: &[u8]) -> u64 {
    item.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

/// Non-zero elements at even distances.
fn sample(format: Format, bytes: &[u8]) -> Vec<u64> {
    let elements = bytes.len() / format.bytes;
    let count = elements.min(SAMPLE);
    (0..count)
        .map(|index| index * elements / count * format.bytes)
        .map(|place| bits_of(&bytes[place..place + format.bytes]))
        .filter(|&bits| !format.is_zero(bits))
        .collect()
}

/// The median of some exponents, and the distance of the quartiles.
fn quartiles(exponents: impl Iterator<Item = u16>) -> (u16, u16) {
    let mut sorted: Vec<u16> = exponents.collect();
    sorted.sort_unstable();
    let at = |part: usize| sorted[part * (sorted.len() - 1) / 4];
    (at(2), at(3) - at(1))
}

/// The exponent field of the largest magnitude.
fn largest_exponent(format: Format, counts: &Counts) -> u16 {
    let largest = counts.max.max(-counts.min);
    let bias = i32::from(format.top() / 2);
    // Of float64's own exponent; the others are exact in it.
    let exponent = i32::try_from(largest.to_bits() >> 52 & 0x7ff).unwrap_or(0);
    let own = if format.bytes == 8 { exponent } else { exponent - 1023 + bias };
    u16::try_from(own.clamp(0, bias * 2)).unwrap_or(0)
}
