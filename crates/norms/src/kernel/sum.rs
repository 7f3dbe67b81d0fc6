//! The sum of squares of a row, and its square root, with a proven error.
//!
//! Eight virtual lanes; lane `l` takes the elements whose index is `l` modulo 8. In pseudocode, for one lane
//! with elements x0, x1, ... (zeros after the end):
//!
//! ```text
//! high = low = 0
//! for each eight elements:                       a chunk
//!     even  = ((x0² + x2²) + x4²) + x6²
//!     odd   = ((x1² + x3²) + x5²) + x7²
//!     chunk = even + odd
//!     sum   = high + chunk
//!     low  += chunk - (sum - high)               what the addition lost
//!     high  = sum
//! fold (high, low) of lanes 8 → 4 → 2 → 1 with an exact two-sum; norm = sqrt(high + low), corrected once
//! ```
//!
//! Error, with u = 2⁻⁵³ and S the exact sum of squares (all terms are ≥ 0, so relative errors do not grow):
//! 1. Squares: exact for f32 and narrower; relative error u for f64.
//! 2. A chunk: each square passes at most 4 additions (3 in its half, 1 to join). Relative error 4u.
//! 3. `low` receives the exact loss of `high + chunk` unless `sum - high` rounds, which needs a chunk in a
//!    higher binade than `high`; it is then off by at most u·chunk. Summed over distinct chunks: u·S.
//! 4. Additions into `low`: |low| ≤ m·u·S after m chunks, so they lose at most m²u²S; m ≤ 1024 for 65,536
//!    elements: 2⁻³³·u·S. The fold is exact but for such terms.
//!
//! Together S carries at most 5u (f64: 6u), its square root half of that, and the corrected square root is
//! one rounding of the exact one but for terms of u². An ulp is at least u of its number, so the norm is off
//! by at most 2.5 + 0.5 = 3 ulp (f64: 3.5 ulp).

use crate::kernel::widen::{BLOCK, Element, Wide};
use crate::vector::{LANES, Vector};

/// The running sum of squares of a row: eight lanes of value and lost part.
#[derive(Clone, Copy)]
pub(crate) struct SquareSum<V> {
    pub(crate) high: V,
    pub(crate) low: V,
}

impl<V: Vector> SquareSum<V> {
    /// Of nothing.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: by contract.
        unsafe { Self { high: V::splat(0.0), low: V::splat(0.0) } }
    }

    /// Adds one chunk sum per lane.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn add_chunk(&mut self, chunk: V) {
        // SAFETY: by contract.
        unsafe {
            let sum = self.high.add(chunk);
            self.low = self.low.add(chunk.sub(sum.sub(self.high)));
            self.high = sum;
        }
    }

    /// Adds `count` consecutive elements. All calls but the last take a multiple of [`BLOCK`].
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `count` elements are readable at `source`.
    #[inline(always)]
    pub(crate) unsafe fn add_elements<E: Element>(&mut self, source: *const u8, count: usize) {
        let block_bytes = BLOCK * E::DTYPE.size_bytes();
        for block in 0..count / BLOCK {
            // SAFETY: this block lies within the elements.
            unsafe { self.add_block::<E>(source.add(block * block_bytes)) }
        }
        let rest = count % BLOCK;
        if rest > 0 {
            // All-zero bits are zero in every format, and a zero adds nothing to any lane.
            let mut padded = [0_u8; BLOCK * 8];
            let rest_bytes = rest * E::DTYPE.size_bytes();
            // SAFETY: the rest lies within the elements and is shorter than a block of the widest format.
            unsafe {
                let rest_source = source.add(count / BLOCK * block_bytes);
                padded.as_mut_ptr().copy_from_nonoverlapping(rest_source, rest_bytes);
                self.add_block::<E>(padded.as_ptr());
            }
        }
    }

    /// Adds one block.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; a block is readable at `source`.
    #[inline(always)]
    unsafe fn add_block<E: Element>(&mut self, source: *const u8) {
        let mut buffer = [E::Wide::ZERO; BLOCK];
        // SAFETY: a block is readable by contract; `buffer` holds a block; vector `index` of a block starts
        // at element `index * LANES` and ends within it.
        unsafe {
            let wide = if E::IS_WIDE {
                source.cast::<E::Wide>()
            } else {
                E::widen_block::<V>(source, buffer.as_mut_ptr());
                buffer.as_ptr()
            };
            self.add_chunk(chunk::<V, E::Wide>(|index| wide.wrapping_add(index * LANES)));
        }
    }

    /// The sum as an unevaluated pair: value and what it lacks.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn total(self) -> (f64, f64) {
        let (mut high, mut low) = ([0.0; LANES], [0.0; LANES]);
        // SAFETY: both arrays hold eight float64.
        unsafe {
            self.high.store(high.as_mut_ptr());
            self.low.store(low.as_mut_ptr());
        }
        fold_lanes(high, low)
    }
}

/// The sum of squares of eight vectors.
///
/// # Safety
/// The CPU has the instruction set of `V`; `at(0..8)` each give eight readable elements.
#[inline(always)]
pub(crate) unsafe fn chunk<V: Vector, W: Wide>(at: impl Fn(usize) -> *const W) -> V {
    // SAFETY: by contract.
    unsafe {
        let first = W::load::<V>(at(0));
        let second = W::load::<V>(at(1));
        let mut even = first.mul(first);
        let mut odd = second.mul(second);
        for index in [2, 4, 6] {
            even = W::add_square(even, W::load::<V>(at(index)));
            odd = W::add_square(odd, W::load::<V>(at(index + 1)));
        }
        even.add(odd)
    }
}

/// Folds eight lanes of (value, lost part) in a fixed tree.
#[inline(always)]
pub(crate) fn fold_lanes(mut high: [f64; LANES], mut low: [f64; LANES]) -> (f64, f64) {
    for width in [4, 2, 1] {
        for lane in 0..width {
            let (a, b) = (high[lane], high[lane + width]);
            let sum = a + b;
            let b_part = sum - a;
            let lost = (a - (sum - b_part)) + (b - b_part);
            high[lane] = sum;
            low[lane] = (low[lane] + low[lane + width]) + lost;
        }
    }
    (high[0], low[0])
}

/// The square root of `high + low`, or NaN or infinity where `high` is.
#[inline(always)]
pub(crate) fn root((high, low): (f64, f64)) -> f64 {
    let square = high + low;
    let rest = low - (square - high);
    let root = square.sqrt();
    // One Newton step. The product root * root is split exactly (Dekker), because a fused multiplication is
    // a function call where the CPU has none; the remainder is exact either way.
    let split = root * 134_217_729.0;
    let upper = split - (split - root);
    let lower = root - upper;
    let product = root * root;
    let error = ((upper * upper - product) + 2.0 * upper * lower) + lower * lower;
    let remainder = ((square - product) - error) + rest;
    let corrected = root + remainder / (2.0 * root);
    // Zero divides by zero above; infinity and NaN of the sum (`low` is NaN beside them) are the answer. One
    // NaN for all, because its sign and payload depend on the instruction set.
    if high.is_nan() {
        f64::NAN
    } else if high > 0.0 && high < f64::INFINITY {
        corrected
    } else {
        high
    }
}
