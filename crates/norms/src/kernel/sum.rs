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

use std::array::from_fn;
use std::mem::MaybeUninit;

use crate::kernel::widen::{BLOCK, Element, Wide};
use crate::vector::{LANES, Vector};

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// How far ahead memory is asked for: the hardware's own prefetchers stop at each page.
const AHEAD_BYTES: usize = 2048;

/// Elements that are widened before they are summed: two kilobytes of the first-level cache.
const STAGE: usize = 8 * BLOCK;

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
        let size_bytes = E::DTYPE.size_bytes();
        let whole = count / BLOCK * BLOCK;
        if E::IS_WIDE {
            // SAFETY: whole blocks within the elements.
            unsafe { self.add_wide(source.cast::<E::Wide>(), whole) }
        } else {
            // Narrow elements are widened into the first-level cache and read back: a load that widens to
            // float64 is cheaper than the same between registers. Several blocks at a time, or the compiler
            // carries the buffer through registers after all.
            let mut buffer = [const { MaybeUninit::<E::Wide>::uninit() }; STAGE];
            for start in (0..whole).step_by(STAGE) {
                let part = STAGE.min(whole - start);
                for block in (0..part).step_by(BLOCK) {
                    // SAFETY: a block within the elements and within the buffer.
                    unsafe {
                        let target = buffer.as_mut_ptr().add(block).cast();
                        E::widen_block::<V>(source.add((start + block) * size_bytes), target);
                    }
                }
                // SAFETY: the blocks just written.
                unsafe { self.add_wide(buffer.as_ptr().cast::<E::Wide>(), part) }
            }
        }
        if whole < count {
            // All-zero bits are zero in every format, and a zero adds nothing to any lane.
            let mut padded = [0_u8; BLOCK * 8];
            let mut wide = [E::Wide::ZERO; BLOCK];
            // SAFETY: the rest lies within the elements and is shorter than a block of the widest format.
            unsafe {
                let rest = source.add(whole * size_bytes);
                padded.as_mut_ptr().copy_from_nonoverlapping(rest, (count - whole) * size_bytes);
                E::widen_block::<V>(padded.as_ptr(), wide.as_mut_ptr());
                self.add_wide(wide.as_ptr(), BLOCK);
            }
        }
    }

    /// Adds `count` elements, a multiple of [`BLOCK`].
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `count` elements are readable at `source`, at any alignment.
    #[inline(always)]
    unsafe fn add_wide<W: Wide>(&mut self, source: *const W, count: usize) {
        for start in (0..count).step_by(BLOCK) {
            let block = source.wrapping_add(start);
            // SAFETY: by contract; a prefetch may point anywhere.
            unsafe {
                for line in 0..BLOCK * size_of::<W>() / LINE_BYTES {
                    V::prefetch(block.cast::<u8>().wrapping_add(AHEAD_BYTES + line * LINE_BYTES));
                }
                self.add_chunk(chunk::<V, W>(|index| block.wrapping_add(index * LANES)));
            }
        }
    }
}

/// The sums of eight rows, kept until the square roots of all are taken together: their latency is then paid
/// once, and not at the end of each row.
pub(crate) struct Finish {
    /// For each lane its value in each of the rows.
    high: [[f64; LANES]; LANES],
    /// And what that value lacks.
    low: [[f64; LANES]; LANES],
}

impl Finish {
    /// Of no rows.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { high: [[0.0; LANES]; LANES], low: [[0.0; LANES]; LANES] }
    }

    /// Sets row `row` of the eight.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn set<V: Vector>(&mut self, row: usize, sum: SquareSum<V>) {
        let (mut high, mut low) = ([0.0; LANES], [0.0; LANES]);
        // SAFETY: both arrays hold eight float64.
        unsafe {
            sum.high.store(high.as_mut_ptr());
            sum.low.store(low.as_mut_ptr());
        }
        for lane in 0..LANES {
            self.high[lane][row] = high[lane];
            self.low[lane][row] = low[lane];
        }
    }

    /// The norms of all eight, and their sums of squares in float64.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn norms<V: Vector>(&self) -> ([f64; LANES], [f64; LANES]) {
        // SAFETY: every array holds eight float64.
        unsafe {
            let high = self.high.each_ref().map(|lane| V::load(lane.as_ptr()));
            let low = self.low.each_ref().map(|lane| V::load(lane.as_ptr()));
            norms(high, low)
        }
    }
}

/// Eight norms from eight lanes of (value, lost part) each, and the sums of squares in float64.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn norms<V: Vector>(high: [V; LANES], low: [V; LANES]) -> ([f64; LANES], [f64; LANES]) {
    let (mut sums, mut norms) = ([0.0; LANES], [0.0; LANES]);
    // SAFETY: by contract; both arrays hold eight float64.
    unsafe {
        let (high, low) = fold_half::<V, 8, 4>(high, low);
        let (high, low) = fold_half::<V, 4, 2>(high, low);
        let ([high], [low]) = fold_half::<V, 2, 1>(high, low);
        high.store(sums.as_mut_ptr());
        root(high, low).store(norms.as_mut_ptr());
    }
    for (norm, sum) in norms.iter_mut().zip(sums) {
        // The root divides zero by zero, and `low` is NaN beside an infinite sum. One NaN for all, because
        // its sign and payload depend on the instruction set.
        if sum.is_nan() {
            *norm = f64::NAN;
        } else if sum == 0.0 || sum == f64::INFINITY {
            *norm = sum;
        }
    }
    (norms, sums)
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

/// Adds the upper half of the lanes to the lower one.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn fold_half<V: Vector, const FROM: usize, const TO: usize>(
    high: [V; FROM],
    low: [V; FROM],
) -> ([V; TO], [V; TO]) {
    // SAFETY: by contract.
    unsafe {
        let sums: [V; TO] = from_fn(|lane| high[lane].add(high[lane + TO]));
        let lost = from_fn(|lane| {
            let (a, b, sum) = (high[lane], high[lane + TO], sums[lane]);
            let b_part = sum.sub(a);
            let lost = a.sub(sum.sub(b_part)).add(b.sub(b_part));
            low[lane].add(low[lane + TO]).add(lost)
        });
        (sums, lost)
    }
}

/// The square root of `high + low`, both finite and `high` positive.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn root<V: Vector>(high: V, low: V) -> V {
    // SAFETY: by contract.
    unsafe {
        let square = high.add(low);
        let rest = low.sub(square.sub(high));
        let root = square.sqrt();
        // One Newton step. The product root * root is split exactly (Dekker), because not every instruction
        // set has a fused multiplication; the remainder is exact either way.
        let split = root.mul(V::splat(134_217_729.0));
        let upper = split.sub(split.sub(root));
        let lower = root.sub(upper);
        let product = root.mul(root);
        let cross = upper.mul(lower);
        let error = upper.mul(upper).sub(product).add(cross.add(cross)).add(lower.mul(lower));
        let remainder = square.sub(product).sub(error).add(rest);
        root.add(remainder.div(root.add(root)))
    }
}
