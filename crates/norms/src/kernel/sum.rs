//! The sum of squares of a row, and its square root, with a proven error.
//!
//! Eight virtual lanes; lane `l` takes the elements whose index is `l` modulo 8. In pseudocode, for one lane
//! with elements x0, x1, ... (zeros after the end):
//!
//! ```text
//! high = low = 0
//! for each sixteen elements, of float64 eight:   a chunk
//!     for each eight of them:                    a block
//!         even  = ((x0² + x2²) + x4²) + x6²
//!         odd   = ((x1² + x3²) + x5²) + x7²
//!         block = even + odd
//!     chunk = the first block + the second       of float64 the only one
//!     sum   = high + chunk
//!     low  += chunk - (sum - high)               what the addition lost
//!     high  = sum
//! fold (high, low) of lanes 8 → 4 → 2 → 1 with an exact two-sum; norm = sqrt(high + low), corrected once
//! ```
//!
//! Error, with u = 2⁻⁵³ and S the exact sum of squares (all terms are ≥ 0, so relative errors do not grow):
//! 1. Squares: exact for f32 and narrower; relative error u for f64.
//! 2. A chunk: each square passes at most 5 additions (3 in its half, 1 to join halves, 1 to join blocks), of f64 4.
//!    So with its own rounding a square is off by 5u in either format.
//! 3. `low` receives the exact loss of `high + chunk` unless `sum - high` rounds, which needs a chunk in a
//!    higher binade than `high`; it is then off by at most u·chunk. Summed over distinct chunks: u·S.
//! 4. Additions into `low`: |low| ≤ m·u·S after m chunks, so they lose at most m²u²S; m ≤ 1024 for 65,536
//!    elements: 2⁻³³·u·S. The fold is exact but for such terms.
//!
//! Together S carries at most 6u, its square root half of that, and the corrected square root is one rounding of the
//! exact one but for terms of u². An ulp is at least u of its number, so the norm is off by at most 3 + 0.5 = 3.5 ulp.

use std::array::from_fn;
use std::mem::MaybeUninit;

use crate::element::power_of_two;
use crate::kernel::ahead::prefetch;
use crate::kernel::fold::{fold, root, special_norm};
use crate::kernel::widen::{BLOCK, Element, Wide};
use crate::vector::{LANES, Vector};

/// Bytes of elements that are widened before they are summed: one or two kilobytes of float32, in the first-level cache.
/// As many elements at most.
const STAGE_BYTES: usize = 8 * BLOCK;

// Every place that puts two blocks together, and what is widened at a time.
const _: () = assert!(f32::CHUNK == 2 * BLOCK && f64::CHUNK == BLOCK);
const _: () = assert!((STAGE_BYTES / 2).is_multiple_of(f32::CHUNK));

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

    /// Multiplies the sum by 2 to the `exponent`, so that all rounds as it would without.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn scale(&mut self, exponent: i32) {
        if exponent != 0 {
            // SAFETY: by contract.
            unsafe {
                let factor = V::splat(power_of_two(exponent));
                (self.high, self.low) = (self.high.mul(factor), self.low.mul(factor));
            }
        }
    }

    /// Adds `count` consecutive elements. All calls but the last take whole chunks ([`Wide::CHUNK`]).
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `count` elements are readable at `source`.
    #[inline(always)]
    pub(crate) unsafe fn add_elements<E: Element>(&mut self, source: *const u8, count: usize) {
        let size_bytes = E::DTYPE.size_bytes();
        let whole = count / E::Wide::CHUNK * E::Wide::CHUNK;
        if E::IS_WIDE {
            // SAFETY: whole chunks within the elements.
            unsafe { self.add_run::<E::Wide>(source.cast(), whole) }
        } else {
            // Widened into the first-level cache and read back: a load that widens to float64 is cheaper than the same
            // between registers. Several blocks at a time, or the compiler carries the buffer through registers after
            // all; few, or memory waits during the second half of the work.
            let mut buffer = [const { MaybeUninit::<E::Wide>::uninit() }; STAGE_BYTES];
            // SAFETY: by contract.
            unsafe { self.scale(-2 * E::LESS) }
            let stage = STAGE_BYTES / size_bytes;
            for start in (0..whole).step_by(stage) {
                let part = stage.min(whole - start);
                for block in (0..part).step_by(BLOCK) {
                    // SAFETY: a block within the elements and within the buffer.
                    unsafe {
                        prefetch::<V>(source.wrapping_add((start + block) * size_bytes), BLOCK * size_bytes);
                        let target = buffer.as_mut_ptr().add(block).cast();
                        E::widen_to_square::<V>(source.add((start + block) * size_bytes), target);
                    }
                }
                // SAFETY: the blocks just written.
                unsafe { self.add_chunks::<E::Wide>(buffer.as_ptr().cast(), part) }
            }
            // SAFETY: by contract.
            unsafe { self.scale(2 * E::LESS) }
        }
        // SAFETY: by contract; what is left of the elements.
        unsafe {
            let (rest, rest_count) = (source.add(whole * size_bytes), count - whole);
            prefetch::<V>(rest, rest_count / BLOCK * BLOCK * size_bytes);
            self.add_rest::<E>(rest, rest_count);
        }
    }

    /// Adds the last `count` elements, if there are any.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `count` elements, fewer than a chunk, are readable at `source`.
    #[inline(always)]
    pub(crate) unsafe fn add_rest<E: Element>(&mut self, source: *const u8, count: usize) {
        if count == 0 {
            return;
        }
        debug_assert!(count < E::Wide::CHUNK, "less than a chunk");
        let (size_bytes, whole) = (E::DTYPE.size_bytes(), count / BLOCK * BLOCK);
        // SAFETY: by contract; blocks within the elements, then what is left of them.
        unsafe {
            let mut chunk = if whole > 0 { element_sum::<V, E>(source) } else { V::splat(0.0) };
            if whole < count {
                // All-zero bits are zero in every format, and a zero adds nothing to any lane.
                let mut padded = [0_u8; BLOCK * 8];
                let rest_bytes = (count - whole) * size_bytes;
                padded.as_mut_ptr().copy_from_nonoverlapping(source.add(whole * size_bytes), rest_bytes);
                chunk = chunk.add(element_sum::<V, E>(padded.as_ptr()));
            }
            self.add_chunk(chunk);
        }
    }

    /// Adds whole chunks.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; `count` elements, a multiple of [`Wide::CHUNK`], are readable at `source`,
    /// at any alignment.
    #[inline(always)]
    unsafe fn add_chunks<W: Wide>(&mut self, source: *const W, count: usize) {
        debug_assert!(count.is_multiple_of(W::CHUNK), "whole chunks");
        for start in (0..count).step_by(W::CHUNK) {
            // SAFETY: by contract.
            unsafe { self.add_chunk(chunk_sum::<V, W>(source.wrapping_add(start))) }
        }
    }

    /// [`Self::add_chunks`] with what lies ahead asked for, faster where many follow each other and nothing else is
    /// between them: the sum takes each chunk while the next one is computed, so that its additions keep no conversion
    /// waiting.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn add_run<W: Wide>(&mut self, source: *const W, count: usize) {
        if count == 0 {
            return;
        }
        // SAFETY: by contract.
        unsafe {
            let chunk_bytes = W::CHUNK * size_of::<W>();
            prefetch::<V>(source.cast(), chunk_bytes);
            let mut due = chunk_sum::<V, W>(source);
            for start in (W::CHUNK..count).step_by(W::CHUNK) {
                let source = source.wrapping_add(start);
                prefetch::<V>(source.cast(), chunk_bytes);
                let next = chunk_sum::<V, W>(source);
                self.add_chunk(due);
                due = next;
            }
            self.add_chunk(due);
        }
    }

    /// The sum, rounded to float64.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn total(self) -> f64 {
        // SAFETY: by contract.
        let SquareSum { high, low } = unsafe { fold(self.stored().lanes()) };
        if high.is_finite() { high + low } else { high }
    }

    /// The norm, and the sum of squares in float64.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn norm(self) -> (f64, f64) {
        // SAFETY: by contract.
        unsafe {
            let sum = fold(self.stored().lanes());
            (special_norm(sum.high, root(sum)), sum.high)
        }
    }

    /// The sum in memory.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn stored(self) -> StoredSum {
        let mut stored = StoredSum::ZERO;
        // SAFETY: both arrays hold eight float64.
        unsafe {
            self.high.store(stored.high.as_mut_ptr());
            self.low.store(stored.low.as_mut_ptr());
        }
        stored
    }
}

/// A [`SquareSum`] in memory, in cache lines of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct StoredSum {
    high: [f64; LANES],
    low: [f64; LANES],
}

impl StoredSum {
    /// Of nothing.
    pub(crate) const ZERO: Self = Self { high: [0.0; LANES], low: [0.0; LANES] };

    /// The sum in registers.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn load<V: Vector>(&self) -> SquareSum<V> {
        // SAFETY: both arrays hold eight float64.
        unsafe { SquareSum { high: V::load(self.high.as_ptr()), low: V::load(self.low.as_ptr()) } }
    }

    /// The sum of each lane.
    #[inline(always)]
    fn lanes(self) -> [SquareSum<f64>; LANES] {
        from_fn(|lane| SquareSum { high: self.high[lane], low: self.low[lane] })
    }
}

/// The sum of squares of a chunk, lane by lane.
///
/// # Safety
/// The CPU has the instruction set of `V`; a chunk is readable at `source`, at any alignment.
#[inline(always)]
pub(crate) unsafe fn chunk_sum<V: Vector, W: Wide>(source: *const W) -> V {
    // SAFETY: by contract.
    unsafe {
        let first = block_sum::<V, W>(source);
        if W::CHUNK == BLOCK { first } else { first.add(block_sum::<V, W>(source.wrapping_add(BLOCK))) }
    }
}

/// The sum of squares of a block of `E`, lane by lane.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block is readable at `source`, at any alignment.
#[inline(always)]
unsafe fn element_sum<V: Vector, E: Element>(source: *const u8) -> V {
    if E::IS_WIDE {
        // SAFETY: by contract.
        return unsafe { block_sum::<V, E::Wide>(source.cast()) };
    }
    let mut wide = [E::Wide::ZERO; BLOCK];
    // SAFETY: by contract.
    unsafe {
        E::widen_block::<V>(source, wide.as_mut_ptr());
        block_sum::<V, E::Wide>(wide.as_ptr())
    }
}

/// The sum of squares of a block, lane by lane.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block is readable at `source`, at any alignment.
#[inline(always)]
pub(crate) unsafe fn block_sum<V: Vector, W: Wide>(source: *const W) -> V {
    // SAFETY: by contract.
    let [sum] = unsafe { block_sums::<V, W, 1>(from_fn(|index| source.wrapping_add(index * LANES))) };
    sum
}

/// The sums of squares of `N` blocks side by side, each of a vector from every one of the eight places.
///
/// # Safety
/// The CPU has the instruction set of `V`; `N` vectors of eight elements are readable at each of `places`.
#[inline(always)]
pub(crate) unsafe fn block_sums<V: Vector, W: Wide, const N: usize>(places: [*const W; 8]) -> [V; N] {
    // SAFETY: by contract.
    unsafe {
        let (mut even, mut odd) = ([V::splat(0.0); N], [V::splat(0.0); N]);
        for (index, place) in places.into_iter().enumerate() {
            let sums = if index % 2 == 0 { &mut even } else { &mut odd };
            for (vector, sum) in sums.iter_mut().enumerate() {
                let values = W::load::<V>(place.wrapping_add(vector * LANES));
                *sum = if index < 2 { values.mul(values) } else { W::add_square(*sum, values) };
            }
        }
        for (even, odd) in even.iter_mut().zip(odd) {
            *even = even.add(odd);
        }
        even
    }
}
