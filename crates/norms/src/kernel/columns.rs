//! Norms along a strided axis: rows of the matrix are streamed in order, columns keep their sums beside them.
//!
//! Sixty-four matrix rows make a block, as sixty-four elements do along the last axis: lane `l` of a column
//! takes the rows that are `l` modulo 8. So a column's norm has the bits of the same numbers laid out in a
//! row, and does not depend on which columns are worked on together.

use std::array::from_fn;

use crate::dispatch::Kernel;
use crate::kernel::last_axis::{gather, rescaled_norm, squares_are_safe};
use crate::kernel::scan::scan;
use crate::kernel::sum::{SquareSum, chunk, norms};
use crate::kernel::widen::{BLOCK, Element, Wide, with_element};
use crate::vector::{LANES, Vector};
use crate::{Counts, Rows};

/// Columns whose sums are kept together. Those of one lane take 128 KiB of the second-level cache; as few as the
/// first-level cache holds would have prefetchers start again after each page, which takes a third longer.
pub(crate) const TILE: usize = 8192;

/// Norms of the columns from `first` on, as many as `norms` holds. Adjacent columns are adjacent in memory.
pub(crate) struct Columns<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) first: usize,
    pub(crate) norms: &'a mut [f64],
    pub(crate) counts: Option<&'a mut Counts>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: by contract.
        with_element!(self.rows.layout.dtype, E => unsafe { self.run_typed::<V, E>() });
    }
}

/// The sums of one tile.
struct State {
    /// Columns for which there is room, whole blocks of them.
    width: usize,
    /// For each lane, the values of all columns and then their lost parts.
    sums: Vec<f64>,
}

impl State {
    fn new(columns: usize) -> Self {
        let width = columns.next_multiple_of(BLOCK);
        Self { width, sums: vec![0.0; 2 * LANES * width] }
    }

    /// The values of one lane, and the lost parts.
    fn lane(&mut self, lane: usize) -> (&mut [f64], &mut [f64]) {
        self.sums[2 * lane * self.width..][..2 * self.width].split_at_mut(self.width)
    }

    /// Norms and sums of eight adjacent columns.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn norms<V: Vector>(&self, column: usize) -> ([f64; LANES], [f64; LANES]) {
        // SAFETY: by contract.
        unsafe {
            let zero = V::splat(0.0);
            let (mut high, mut low) = ([zero; LANES], [zero; LANES]);
            for lane in 0..LANES {
                high[lane] = V::load(self.sums[2 * lane * self.width + column..][..LANES].as_ptr());
                low[lane] = V::load(self.sums[(2 * lane + 1) * self.width + column..][..LANES].as_ptr());
            }
            norms(high, low)
        }
    }
}

impl Columns<'_> {
    /// # Safety
    /// The CPU has the instruction set of `V`; the view holds elements of `E`.
    #[inline(always)]
    unsafe fn run_typed<V: Vector, E: Element>(mut self) {
        let layout = self.rows.layout;
        let [_, len, inner] = layout.shape;
        let mut state = State::new(TILE.min(inner).min(self.norms.len()));
        let mut gathered = Vec::new();
        let mut done = 0;
        while done < self.norms.len() {
            let row = self.first + done;
            let width = TILE.min(inner - row % inner).min(self.norms.len() - done);
            let tile = Tile {
                bytes: self.rows.bytes,
                start: layout.start(row),
                width,
                len,
                stride: layout.strides[1],
            };
            state.sums.fill(0.0);
            // SAFETY: by contract.
            unsafe { tile.sum::<V, E>(&mut state, self.counts.as_deref_mut()) };
            for column in (0..width).step_by(LANES) {
                // SAFETY: by contract.
                let (norms, sums) = unsafe { state.norms::<V>(column) };
                let targets = self.norms[done + column..done + width].iter_mut().zip(norms).zip(sums);
                for (index, ((target, norm), sum)) in targets.enumerate() {
                    *target = if E::Wide::SQUARES_ROUND && !squares_are_safe(sum) {
                        let size_bytes = E::DTYPE.size_bytes();
                        let start = (tile.start + column + index) * size_bytes;
                        gather(tile.bytes, start, len, tile.stride * size_bytes, size_bytes, &mut gathered);
                        // SAFETY: by contract.
                        unsafe { rescaled_norm::<V>(&gathered) }
                    } else {
                        norm
                    };
                }
            }
            done += width;
        }
    }
}

/// Some adjacent columns of a matrix; distances in elements.
struct Tile<'a> {
    bytes: &'a [u8],
    start: usize,
    width: usize,
    len: usize,
    stride: usize,
}

impl Tile<'_> {
    /// # Safety
    /// The CPU has the instruction set of `V`; the bytes are elements of `E`.
    #[inline(always)]
    unsafe fn sum<V: Vector, E: Element>(&self, state: &mut State, mut counts: Option<&mut Counts>) {
        // Lane by lane: the sums of one lane stay in the cache.
        for lane in 0..LANES {
            for first in (lane..self.len).step_by(BLOCK) {
                let matrix_rows: [_; 8] = from_fn(|index| self.matrix_row::<E>(first + index * LANES));
                // SAFETY: by contract.
                unsafe { self.sum_lane::<V, E>(&matrix_rows, lane, state) };
                if let Some(counts) = counts.as_deref_mut() {
                    for matrix_row in matrix_rows {
                        // SAFETY: the elements of a matrix row are readable.
                        unsafe {
                            scan::<E>(matrix_row.as_ptr(), matrix_row.len() / E::DTYPE.size_bytes(), counts);
                        }
                    }
                }
            }
        }
    }

    /// The elements of one matrix row within the tile; none past the end.
    #[inline(always)]
    fn matrix_row<E: Element>(&self, index: usize) -> &[u8] {
        if index >= self.len {
            return &[];
        }
        let size_bytes = E::DTYPE.size_bytes();
        // The view was checked to lie within the buffer.
        &self.bytes[(self.start + index * self.stride) * size_bytes..][..self.width * size_bytes]
    }

    /// Adds eight matrix rows to one lane of all columns.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; each matrix row is empty or holds `width` elements of `E`.
    #[inline(always)]
    unsafe fn sum_lane<V: Vector, E: Element>(
        &self,
        matrix_rows: &[&[u8]; 8],
        lane: usize,
        state: &mut State,
    ) {
        let size_bytes = E::DTYPE.size_bytes();
        let whole = matrix_rows.iter().all(|matrix_row| !matrix_row.is_empty());
        let (high, low) = state.lane(lane);
        let mut buffer = [[E::Wide::ZERO; BLOCK]; 8];
        for column in (0..self.width).step_by(BLOCK) {
            let columns = BLOCK.min(self.width - column);
            let mut wide: [*const E::Wide; 8] = buffer.each_ref().map(|row| row.as_ptr());
            if E::IS_WIDE && whole && columns == BLOCK {
                for (pointer, matrix_row) in wide.iter_mut().zip(matrix_rows) {
                    *pointer = matrix_row[column * size_bytes..].as_ptr().cast();
                }
            } else {
                for (target, matrix_row) in buffer.iter_mut().zip(matrix_rows) {
                    let source = matrix_row.get(column * size_bytes..).unwrap_or(&[]);
                    // SAFETY: `source` is empty or holds the block's columns.
                    unsafe { widen_part::<V, E>(source, columns, target) };
                }
                wide = buffer.each_ref().map(|row| row.as_ptr());
            }
            for vector in 0..columns.div_ceil(LANES) {
                // SAFETY: each of `wide` is readable for a block; the sums of a tile are whole blocks.
                unsafe {
                    let high = high.as_mut_ptr().add(column + vector * LANES);
                    let low = low.as_mut_ptr().add(column + vector * LANES);
                    let mut sum = SquareSum { high: V::load(high), low: V::load(low) };
                    sum.add_chunk(chunk::<V, E::Wide>(|index| wide[index].wrapping_add(vector * LANES)));
                    sum.high.store(high);
                    sum.low.store(low);
                }
            }
        }
    }
}

/// Widens the first `columns` elements of `source`, and zeros after them.
///
/// # Safety
/// The CPU has the instruction set of `V`; `source` is empty or holds `columns` elements of `E`.
#[inline(always)]
unsafe fn widen_part<V: Vector, E: Element>(source: &[u8], columns: usize, target: &mut [E::Wide; BLOCK]) {
    let size_bytes = E::DTYPE.size_bytes();
    if columns == BLOCK && !source.is_empty() {
        // SAFETY: a whole block is readable and writable.
        unsafe { E::widen_block::<V>(source.as_ptr(), target.as_mut_ptr()) }
        return;
    }
    let mut padded = [0_u8; BLOCK * 8];
    let part = &source[..(columns * size_bytes).min(source.len())];
    padded[..part.len()].copy_from_slice(part);
    // SAFETY: `padded` holds a block of the widest format.
    unsafe { E::widen_block::<V>(padded.as_ptr(), target.as_mut_ptr()) }
}
