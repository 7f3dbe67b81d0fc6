//! Norms of float32 rows whose elements are adjacent, torch's own figures for them, and the counts, in one sweep.
//!
//! The same sums in the same orders as [`crate::kernel::last_axis`], [`crate::kernel::float32`] and
//! [`crate::kernel::scan`], a block at a time while it is in registers: the float64 sum waits for conversions, the
//! float32 one for each of its additions, and the look at the codes for neither.

use std::array::from_fn;

use crate::dispatch::Kernel;
use crate::kernel::ahead::prefetch;
use crate::kernel::float32::finish_lanes;
use crate::kernel::last_axis::STREAMS;
use crate::kernel::scan::{Seen, settle};
use crate::kernel::sum::{SquareSum, block_sum};
use crate::kernel::widen::{BLOCK, F32, Wide};
use crate::vector::{LANES, Vector};
use crate::{Counts, Rows};

/// Rows of a contiguous view of float32.
pub(crate) struct Figured<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) norms: &'a mut [f64],
    pub(crate) figures: &'a mut [f64],
}

impl Kernel for Figured<'_> {
    type Output = Counts;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Counts {
        let mut counts = Counts::EMPTY;
        // However few bytes these are: rows of which all this is asked come from a file, not from a cache.
        let part = self.norms.len() / STREAMS;
        for index in 0..part {
            let rows = from_fn(|stream| self.rows.row(stream * part + index));
            // SAFETY: by contract.
            let found = unsafe { rows_figures::<V, STREAMS>(rows, &mut counts) };
            for (stream, (norm, figure)) in found.into_iter().enumerate() {
                (self.norms[stream * part + index], self.figures[stream * part + index]) = (norm, figure);
            }
        }
        for index in part * STREAMS..self.norms.len() {
            // SAFETY: by contract.
            let [found] = unsafe { rows_figures::<V, 1>([self.rows.row(index)], &mut counts) };
            (self.norms[index], self.figures[index]) = found;
        }
        counts
    }
}

/// What is known of a row so far.
#[derive(Clone, Copy)]
struct Sums<V> {
    squares: SquareSum<V>,
    single: [f32; LANES],
    seen: Seen<u32, LANES>,
}

/// The norms of rows of one length and torch's figures for them, a chunk of each in turn.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn rows_figures<V: Vector, const N: usize>(rows: [&[u8]; N], counts: &mut Counts) -> [(f64, f64); N] {
    const CHUNK_BYTES: usize = f32::CHUNK * size_of::<f32>();
    let len_bytes = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == len_bytes), "rows of one length");
    let (starts, whole) = (rows.map(<[u8]>::as_ptr), len_bytes / CHUNK_BYTES * CHUNK_BYTES);
    // SAFETY: by contract.
    let squares = unsafe { SquareSum::<V>::new() };
    let mut sums = [Sums { squares, single: [0.0; LANES], seen: Seen::NOTHING }; N];
    for start in (0..whole).step_by(CHUNK_BYTES) {
        for stream in 0..N {
            // SAFETY: by contract; a chunk of the row.
            unsafe {
                let chunk = starts[stream].add(start);
                if N == 1 {
                    prefetch::<V>(chunk, CHUNK_BYTES);
                }
                sums[stream].add_chunk(chunk.cast());
            }
        }
    }
    let mut found = [(0.0, 0.0); N];
    for stream in 0..N {
        // SAFETY: by contract; all elements before the rest are whole chunks.
        found[stream] = unsafe { sums[stream].finish(&rows[stream][whole..], rows[stream], counts) };
    }
    found
}

impl<V: Vector> Sums<V> {
    /// # Safety
    /// The CPU has the instruction set of `V`; a chunk is readable at `first`, at any alignment.
    #[inline(always)]
    unsafe fn add_chunk(&mut self, first: *const f32) {
        // SAFETY: by contract.
        unsafe {
            let mut blocks = [V::splat(0.0); 2];
            for (index, squares) in blocks.iter_mut().enumerate() {
                let block = first.add(index * BLOCK);
                *squares = block_sum::<V, f32>(block);
                self.look_at_block(block);
            }
            self.squares.add_chunk(blocks[0].add(blocks[1]));
        }
    }

    /// Adds a block to the float32 sums, and looks at its codes.
    ///
    /// # Safety
    /// A block is readable at `first`, at any alignment.
    #[inline(always)]
    unsafe fn look_at_block(&mut self, first: *const f32) {
        for group in 0..BLOCK / LANES {
            // SAFETY: by contract.
            let codes = unsafe { first.cast::<[u32; LANES]>().add(group).read_unaligned() };
            add_squares(&mut self.single, codes);
            self.seen.look(codes, i32::MAX.cast_unsigned());
        }
    }

    /// Adds the rest of a row, and gives its norm and torch's figure.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn finish(&mut self, rest: &[u8], row: &[u8], counts: &mut Counts) -> (f64, f64) {
        // SAFETY: by contract.
        let norm = unsafe {
            self.squares.add_rest::<F32>(rest.as_ptr(), rest.len() / size_of::<f32>());
            self.squares.norm().0
        };
        let (blocks, rest) = rest.as_chunks::<{ BLOCK * size_of::<f32>() }>();
        for block in blocks {
            // SAFETY: a block.
            unsafe { self.look_at_block(block.as_ptr().cast()) };
        }
        let (groups, rest) = rest.as_chunks::<{ LANES * size_of::<f32>() }>();
        for group in groups {
            let codes = from_fn(|lane| code(group, lane));
            add_squares(&mut self.single, codes);
            self.seen.look(codes, i32::MAX.cast_unsigned());
        }
        let count = rest.len() / size_of::<f32>();
        let mut left = [0.0; LANES];
        for (lane, left) in left.iter_mut().enumerate().take(count) {
            *left = f32::from_bits(code(rest, lane));
            self.seen.look([code(rest, lane); LANES], i32::MAX.cast_unsigned());
        }
        let figure = finish_lanes(self.single, &left[..count], 4, f32::mul_add).sqrt();
        if !row.is_empty() {
            // SAFETY: the row's elements are readable.
            unsafe { settle::<F32>(self.seen.fold(), row.as_ptr(), row.len() / size_of::<f32>(), counts) };
        }
        (norm, f64::from(figure))
    }
}

/// One step of eight running sums: the product is rounded, then the sum.
#[inline(always)]
fn add_squares(sums: &mut [f32; LANES], codes: [u32; LANES]) {
    for (sum, code) in sums.iter_mut().zip(codes) {
        let value = f32::from_bits(code);
        *sum += value * value;
    }
}

/// The bits of element `index`.
#[inline(always)]
fn code(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[index])
}
