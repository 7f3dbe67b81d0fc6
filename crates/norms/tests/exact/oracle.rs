//! Exact answers, by integer arithmetic on the bits.

use unitrow_norms::{Counts, Dtype};

/// A non-negative number in units of 2^-2148, the square of the smallest float64.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exact {
    /// Most significant first, so that the derived order is the numeric one.
    words: [u32; 140],
}

impl Exact {
    pub(crate) fn zero() -> Self {
        Self { words: [0; 140] }
    }

    /// Adds `value` squared.
    pub(crate) fn add_square(&mut self, value: f64) {
        assert!(value.is_finite());
        let bits = value.to_bits() & (u64::MAX >> 1);
        let exponent = (bits >> 52).max(1);
        let fraction = bits & ((1 << 52) - 1);
        let significand = u128::from(if bits >> 52 == 0 { fraction } else { fraction | 1 << 52 });
        let shift = usize::try_from(2 * (exponent - 1)).unwrap();
        let mut carry = 0_u64;
        let square = significand * significand;
        // Four words of the product, one more for the shift, and then as far as the carry runs.
        for place in 0.. {
            let part = if place < 5 {
                let low = u64::try_from(shift % 32).unwrap();
                let word = |index: usize| -> u64 {
                    if index < 4 { u64::try_from(square >> (32 * index) & 0xffff_ffff).unwrap() } else { 0 }
                };
                let below = if place > 0 { word(place - 1) } else { 0 };
                ((word(place) << 32 | below) << low) >> 32 & 0xffff_ffff
            } else {
                0
            };
            if place >= 5 && carry == 0 {
                break;
            }
            let slot = self.words.len() - 1 - (shift / 32 + place);
            let sum = u64::from(self.words[slot]) + part + carry;
            self.words[slot] = u32::try_from(sum & 0xffff_ffff).unwrap();
            carry = sum >> 32;
        }
    }
}

/// Whether `norm` is within `ulp` ulp of the norm of `values`, by the rules for NaN and Inf.
pub(crate) fn norm_is_within(values: &[f64], norm: f64, ulp: usize) -> bool {
    if values.iter().any(|value| value.is_nan()) {
        return norm.is_nan();
    }
    if values.iter().any(|value| value.is_infinite()) {
        return norm == f64::INFINITY;
    }
    let mut sum = Exact::zero();
    for value in values {
        sum.add_square(*value);
    }
    let square = |value: f64| {
        let mut exact = Exact::zero();
        exact.add_square(value);
        exact
    };
    if norm.is_nan() || norm < 0.0 {
        return false;
    }
    let (mut below, mut above) = (norm.min(f64::MAX), norm);
    for _ in 0..ulp {
        below = below.next_down().max(0.0);
        above = above.next_up();
    }
    square(below) <= sum && (above.is_infinite() || sum <= square(above))
}

/// The norm as `docs/kernels.md` says that it is computed, one element after the other. `None` where the row is
/// summed in another way: scaled first, because its sum is not within [1e-270, 1e300).
pub(crate) fn norm_in_documented_order(values: &[f64], dtype: Dtype) -> Option<f64> {
    let (mut high, mut low) = ([0.0; 8], [0.0; 8]);
    for elements in values.chunks(if dtype == Dtype::F64 { 64 } else { 128 }) {
        for lane in 0..8 {
            let square = |index: usize| elements.get(8 * index + lane).map_or(0.0, |value| value * value);
            let block = |at: usize| {
                let even = ((square(at) + square(at + 2)) + square(at + 4)) + square(at + 6);
                let odd = ((square(at + 1) + square(at + 3)) + square(at + 5)) + square(at + 7);
                even + odd
            };
            let chunk = block(0) + block(8);
            let sum = high[lane] + chunk;
            low[lane] += chunk - (sum - high[lane]);
            high[lane] = sum;
        }
    }
    for half in [4, 2, 1] {
        for lane in 0..half {
            let (a, b) = (high[lane], high[lane + half]);
            let sum: f64 = a + b;
            let lost = (a - (sum - (sum - a))) + (b - (sum - a));
            (high[lane], low[lane]) = (sum, low[lane] + low[lane + half] + lost);
        }
    }
    if !(1e-270..1e300).contains(&high[0]) {
        return None;
    }
    let square: f64 = high[0] + low[0];
    let root = square.sqrt();
    let remainder = (-root).mul_add(root, square) + (low[0] - (square - high[0]));
    Some(root + remainder / (root + root))
}

/// The counts, one element at a time.
pub(crate) fn counts(values: &[f64], dtype: Dtype) -> Counts {
    let mut counts = Counts::EMPTY;
    for &value in values {
        counts.nan += u64::from(value.is_nan());
        counts.inf += u64::from(value.is_infinite());
        counts.zero += u64::from(value == 0.0);
        counts.subnormal += u64::from(value != 0.0 && value.abs() < dtype.min_normal());
        if !value.is_nan() {
            let value = if value == 0.0 { 0.0 } else { value };
            counts.min = if value < counts.min { value } else { counts.min };
            counts.max = if value > counts.max { value } else { counts.max };
        }
    }
    counts
}

/// The elements of `bytes`, widened one by one.
pub(crate) fn decode(bytes: &[u8], dtype: Dtype) -> Vec<f64> {
    bytes
        .chunks_exact(dtype.size_bytes())
        .map(|code| {
            let mut word = [0; 8];
            word[..code.len()].copy_from_slice(code);
            dtype.decode(u64::from_le_bytes(word))
        })
        .collect()
}

/// The first element whose bits differ; under valgrind, whose value does.
///
/// valgrind 3.19 computes `z - x * y` as `-(x * y - z)`, so that quotients of zeros get the wrong sign.
pub(crate) fn first_difference(one: &[u8], other: &[u8], dtype: Dtype) -> Option<usize> {
    let under_valgrind = std::env::var_os("UNITROW_UNDER_VALGRIND").is_some();
    let (ones, others) = (decode(one, dtype), decode(other, dtype));
    let codes = one.chunks(dtype.size_bytes()).zip(other.chunks(dtype.size_bytes()));
    codes.zip(ones.iter().zip(&others)).position(|((code, other_code), (value, other_value))| {
        code != other_code && !(under_valgrind && value == other_value)
    })
}

/// The elements, rounded to `dtype`.
pub(crate) fn encode(values: &[f64], dtype: Dtype) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| dtype.encode(*value).to_le_bytes()[..dtype.size_bytes()].to_vec())
        .collect()
}

/// A reproducible stream of bits (`SplitMix64`).
pub(crate) struct Stream(pub(crate) u64);

impl Stream {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// Uniform in (-1, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    /// Normal, times a power of two from 2^-10 to 2^10.
    pub(crate) fn normal_of_any_size(&mut self) -> f64 {
        let exponent = i32::try_from(self.bits() % 21).unwrap() - 10;
        self.normal() * 2_f64.powi(exponent)
    }

    /// Roughly normal: the sum of twelve uniform numbers.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() / 2.0
    }
}
