//! Norms along a strided axis: rows of the matrix are streamed in order, columns keep their sums beside them.
//!
//! Sixty-four matrix rows make a block, as sixty-four elements do along the last axis: lane `l` of a column
//! takes the rows that are `l` modulo 8. So a column's norm has the bits of the same numbers laid out in a
//! row, and does not depend on which columns are worked on together. Where a chunk has two blocks, the sum of the
//! first is kept until the rows of the second have been read: sixteen rows at a time would be more than a set of the
//! first-level cache holds where their distance is a power of two.

use std::array::from_fn;

use crate::dispatch::Kernel;
use crate::kernel::ahead::LINE_BYTES;
use crate::kernel::fold::norms;
use crate::kernel::last_axis::{gather, rescaled_norm, squares_are_safe};
use crate::kernel::scan::scan;
use crate::kernel::sum::{SquareSum, StoredSum, block_sums};
use crate::kernel::widen::{BLOCK, Element, Wide, with_element};
use crate::vector::{LANES, Vector};
use crate::{Counts, Dtype, Rows};

/// Columns whose sums are kept together, and twice as many where rows are read in pieces. Those of one lane take 384 KiB or
/// less of the second-level cache; as few as the first-level cache holds would have prefetchers start again after each page,
/// which takes up to a third longer.
pub(crate) const TILE: usize = 16384;

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

/// Whether matrix rows of so many columns are read in pieces of four lines.
#[inline(always)]
fn in_pieces<V: Vector, E: Element>(width: usize) -> bool {
    E::DTYPE == Dtype::F32 && width >= V::COLUMNS_IN_PIECES
}

/// The sums of squares of a block in memory, in a cache line of their own: one lane of eight columns.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Kept([f64; LANES]);

/// The sums of one tile.
struct State {
    /// Of one lane.
    count: usize,
    /// Lane by lane, eight columns in each.
    sums: Vec<StoredSum>,
    /// The first block of a chunk, of the lane at hand.
    kept: Vec<Kept>,
}

/// What a block is in its chunk.
#[derive(Clone, Copy)]
enum Part {
    /// All of it.
    Whole,
    /// The first of two, whose sum is kept.
    First,
    /// The second of two, which is added to what was kept.
    Second,
}

impl State {
    /// Of `columns` or fewer.
    fn with_room(columns: usize) -> Self {
        let count = columns.div_ceil(LANES);
        let (sums, kept) = (Vec::with_capacity(LANES * count), vec![Kept([0.0; LANES]); count]);
        Self { count, sums, kept }
    }

    /// Makes the sums of `lane` zero; to be called for one lane after the other.
    fn start(&mut self, lane: usize) {
        self.sums.truncate(lane * self.count);
        self.sums.resize((lane + 1) * self.count, StoredSum::ZERO);
    }

    /// The sums of one lane, and room for those of a block.
    fn lane(&mut self, lane: usize) -> (&mut [StoredSum], &mut [Kept]) {
        (&mut self.sums[lane * self.count..][..self.count], &mut self.kept)
    }

    /// Norms and sums of eight adjacent columns.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn norms<V: Vector>(&self, column: usize) -> ([f64; LANES], [f64; LANES]) {
        // SAFETY: by contract.
        unsafe {
            let mut lanes = [SquareSum::<V>::new(); LANES];
            for (lane, sum) in lanes.iter_mut().enumerate() {
                *sum = self.sums[lane * self.count + column / LANES].load();
            }
            norms(lanes)
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
        // What is read in pieces gains more from long rows than it loses when sums leave the second-level cache.
        let most = if in_pieces::<V, E>(2 * TILE) { 2 * TILE } else { TILE };
        let mut state = State::with_room(most.min(inner).min(self.norms.len()));
        let mut gathered = Vec::new();
        let mut done = 0;
        while done < self.norms.len() {
            let row = self.first + done;
            let width = most.min(inner - row % inner).min(self.norms.len() - done);
            let tile = Tile {
                bytes: self.rows.bytes,
                start: layout.start(row),
                width,
                len,
                stride: layout.strides[1],
            };
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
            state.start(lane);
            for first in (lane..self.len).step_by(BLOCK) {
                let matrix_rows: [_; 8] = from_fn(|index| self.matrix_row::<E>(first + index * LANES));
                let part = if !(first - lane).is_multiple_of(E::Wide::CHUNK) {
                    Part::Second
                } else if E::Wide::CHUNK > BLOCK && first + BLOCK < self.len {
                    Part::First
                } else {
                    Part::Whole
                };
                // SAFETY: by contract.
                unsafe { self.sum_lane::<V, E>(&matrix_rows, part, lane, state) };
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

    /// Adds eight matrix rows, a block of one lane, to all columns.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; each matrix row is empty or holds `width` elements of `E`.
    #[inline(always)]
    unsafe fn sum_lane<V: Vector, E: Element>(
        &self,
        matrix_rows: &[&[u8]; 8],
        part: Part,
        lane: usize,
        state: &mut State,
    ) {
        let size_bytes = E::DTYPE.size_bytes();
        let whole = matrix_rows.iter().all(|matrix_row| !matrix_row.is_empty());
        let (sums, kept) = state.lane(lane);
        let mut done = 0;
        if E::IS_WIDE && whole {
            let wide = matrix_rows.map(|matrix_row| matrix_row.as_ptr().cast());
            done = self.width / BLOCK * BLOCK;
            let vectors = done / LANES;
            let (sums, kept) = (&mut sums[..vectors], &mut kept[..vectors]);
            // SAFETY: by contract; whole blocks of columns.
            unsafe {
                if in_pieces::<V, E>(self.width) {
                    add_to_columns::<V, E::Wide, 8, false>(wide, part, sums, kept);
                } else if size_bytes == 4 && V::COLUMNS_AHEAD_BYTES > 0 {
                    add_to_columns::<V, E::Wide, 2, true>(wide, part, sums, kept);
                } else {
                    add_to_columns::<V, E::Wide, 1, true>(wide, part, sums, kept);
                }
            }
        }
        let mut buffer = [[E::Wide::ZERO; BLOCK]; 8];
        for column in (done..self.width).step_by(BLOCK) {
            let columns = BLOCK.min(self.width - column);
            for (target, matrix_row) in buffer.iter_mut().zip(matrix_rows) {
                let source = matrix_row.get(column * size_bytes..).unwrap_or(&[]);
                // SAFETY: `source` is empty or holds the block's columns.
                unsafe { widen_part::<V, E>(source, columns, target) };
            }
            let wide = buffer.each_ref().map(|row| row.as_ptr());
            let vectors = column / LANES..column / LANES + columns.div_ceil(LANES);
            // SAFETY: a block of each is readable.
            unsafe {
                let (sums, kept) = (&mut sums[vectors.clone()], &mut kept[vectors]);
                add_to_columns::<V, E::Wide, 1, false>(wide, part, sums, kept);
            }
        }
    }
}

/// Adds a block of each column to its sum: `N` vectors of each row before the next row. `ASK`, where that is a cache line,
/// for another further on.
///
/// # Safety
/// The CPU has the instruction set of `V`; `sums` and `kept` are of one length, a multiple of `N`, and eight elements for
/// each of them are readable at each of `wide`.
#[inline(always)]
unsafe fn add_to_columns<V: Vector, W: Wide, const N: usize, const ASK: bool>(
    wide: [*const W; 8],
    part: Part,
    sums: &mut [StoredSum],
    kept: &mut [Kept],
) {
    // SAFETY: by contract.
    unsafe {
        match part {
            Part::First if W::CHUNK > BLOCK => add_blocks::<V, W, N, ASK, true, false>(wide, sums, kept),
            Part::Second if W::CHUNK > BLOCK => add_blocks::<V, W, N, ASK, false, true>(wide, sums, kept),
            _ => add_blocks::<V, W, N, ASK, false, false>(wide, sums, kept),
        }
    }
}

/// [`add_to_columns`] for one [`Part`]: the first, the second, or neither.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn add_blocks<
    V: Vector,
    W: Wide,
    const N: usize,
    const ASK: bool,
    const FIRST: bool,
    const SECOND: bool,
>(
    wide: [*const W; 8],
    sums: &mut [StoredSum],
    kept: &mut [Kept],
) {
    let ((sums, []), (kept, [])) = (sums.as_chunks_mut::<N>(), kept.as_chunks_mut::<N>()) else {
        unreachable!("a multiple of N, by contract");
    };
    for (index, (sums, kept)) in sums.iter_mut().zip(kept).enumerate() {
        let wide = wide.map(|row| row.wrapping_add(index * N * LANES));
        if ASK && V::COLUMNS_AHEAD_BYTES > 0 {
            debug_assert_eq!(N * LANES * size_of::<W>(), LINE_BYTES, "one request to a line");
            for row in wide {
                // SAFETY: by contract; a prefetch may point anywhere.
                unsafe { V::prefetch(row.cast::<u8>().wrapping_add(V::COLUMNS_AHEAD_BYTES)) }
            }
        }
        // SAFETY: by contract; the columns of this group.
        unsafe {
            let squares = block_sums::<V, W, N>(wide);
            for vector in 0..N {
                let (squares, kept) = (squares[vector], &mut kept[vector].0);
                if FIRST {
                    squares.store(kept.as_mut_ptr());
                    continue;
                }
                let mut sum = sums[vector].load::<V>();
                sum.add_chunk(if SECOND { V::load(kept.as_ptr()).add(squares) } else { squares });
                sums[vector] = sum.stored();
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
