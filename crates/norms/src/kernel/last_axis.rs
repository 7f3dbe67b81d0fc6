//! Norms of rows whose elements are adjacent.

use std::array::from_fn;
use std::mem::MaybeUninit;

use crate::dispatch::Kernel;
use crate::kernel::ahead::prefetch_lines;
use crate::kernel::fold::norms_of_rows;
use crate::kernel::scan::scan;
use crate::kernel::sum::{SquareSum, block_sum, chunk_sum};
use crate::kernel::widen::{BLOCK, Element, F64, Wide, with_element};
use crate::rows::Layout;
use crate::vector::{LANES, Vector};
use crate::{Counts, Rows};

/// Elements that are summed before they are counted: they stay in the first-level cache in between.
const SEGMENT: usize = 16 * f32::CHUNK;

/// How many rows are worked on in turn, each from a part of its own of the rows at hand: the hardware's prefetchers
/// bring more from several places of memory than from one.
pub(crate) const STREAMS: usize = 4;

/// Bytes of rows that no cache close to a core holds. Where one does, one row after the other is faster.
const STREAMED_BYTES: usize = 8 << 20;

/// Elements of each stream that are widened at a time: a chunk of float32.
const WIDENED: usize = f32::CHUNK;

/// How far ahead each stream of narrow elements is asked for while sums keep the CPU busy. Wide ones are slower for it.
const NARROW_AHEAD_BYTES: usize = 2560;

/// Into parts of how many rows to divide `count` rows of a view for [`STREAMS`]; 0 where that does not pay.
fn part_of_streams(layout: &Layout, count: usize) -> usize {
    let [_, len, _] = layout.shape;
    let bytes = layout.count().saturating_mul(len).saturating_mul(layout.dtype.size_bytes());
    // Of short rows the fold takes most of the time, and those that follow each other are folded together.
    let pays = layout.strides[1] == 1 && len >= WIDENED && bytes >= STREAMED_BYTES;
    if pays { count / STREAMS } else { 0 }
}

/// Norms of the rows from `first` on, as many as `norms` holds.
pub(crate) struct LastAxis<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) first: usize,
    pub(crate) norms: &'a mut [f64],
    pub(crate) counts: Option<&'a mut Counts>,
}

impl Kernel for LastAxis<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: by contract.
        with_element!(self.rows.layout.dtype, E => unsafe { self.run_typed::<V, E>() });
    }
}

impl<'a> LastAxis<'a> {
    /// # Safety
    /// The CPU has the instruction set of `V`; the view holds elements of `E`.
    #[inline(always)]
    unsafe fn run_typed<V: Vector, E: Element>(mut self) {
        let size_bytes = E::DTYPE.size_bytes();
        let part = if size_bytes >= V::LEAST_STREAMED_BYTES && self.counts.is_none() {
            part_of_streams(&self.rows.layout, self.norms.len())
        } else {
            0
        };
        for index in 0..part {
            let rows = from_fn(|stream| self.rows.row(self.first + stream * part + index));
            // SAFETY: by contract.
            let norms = unsafe { norms_in_turns::<V, E>(rows) };
            for (stream, norm) in norms.into_iter().enumerate() {
                self.norms[stream * part + index] = norm;
            }
        }
        let mut gathered = Vec::new();
        let mut done = part * STREAMS;
        while self.norms.len() - done >= LANES {
            // SAFETY: by contract.
            let mut sums = unsafe { [SquareSum::<V>::new(); LANES] };
            let Layout { shape: [_, len, inner], strides: [stride, step, _], .. } = self.rows.layout;
            if step == 1 && inner == 1 && self.counts.is_none() {
                // As little as can be between one row and the next: a thirtieth faster in the cache.
                let (len_bytes, stride) = (len * size_bytes, stride * size_bytes);
                let first = &self.rows.bytes[(self.first + done) * stride..];
                for (index, slot) in sums.iter_mut().enumerate() {
                    let row = &first[index * stride..][..len_bytes];
                    // SAFETY: by contract; the elements of a row are readable.
                    unsafe {
                        let mut sum = SquareSum::<V>::new();
                        sum.add_elements::<E>(row.as_ptr(), len);
                        *slot = sum;
                    }
                }
            } else {
                for (index, sum) in sums.iter_mut().enumerate() {
                    let row = self.row(done + index, size_bytes, &mut gathered);
                    // SAFETY: by contract.
                    *sum = unsafe { row_sum::<V, E>(row, self.counts.as_deref_mut()) };
                }
            }
            // SAFETY: by contract.
            let (norms, sums) = unsafe { norms_of_rows(sums) };
            for index in 0..LANES {
                self.norms[done + index] = if E::Wide::SQUARES_ROUND && !squares_are_safe(sums[index]) {
                    // SAFETY: by contract.
                    unsafe { rescaled_norm::<V>(self.row(done + index, size_bytes, &mut gathered)) }
                } else {
                    norms[index]
                };
            }
            done += LANES;
        }
        for index in done..self.norms.len() {
            let row = self.row(index, size_bytes, &mut gathered);
            // SAFETY: by contract.
            self.norms[index] = unsafe { row_norm::<V, E>(row, self.counts.as_deref_mut()) };
        }
    }

    /// The bytes of row `index` after the first, next to each other.
    #[inline(always)]
    fn row<'b>(&self, index: usize, size_bytes: usize, gathered: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let layout = self.rows.layout;
        let (len, step) = (layout.shape[1], layout.strides[1]);
        if step == 1 {
            return self.rows.row(self.first + index);
        }
        let start = layout.start(self.first + index) * size_bytes;
        gather(self.rows.bytes, start, len, step * size_bytes, size_bytes, gathered);
        gathered
    }
}

/// Copies the elements of one row next to each other.
pub(crate) fn gather(
    bytes: &[u8],
    start: usize,
    len: usize,
    step_bytes: usize,
    size_bytes: usize,
    target: &mut Vec<u8>,
) {
    target.clear();
    for index in 0..len {
        target.extend_from_slice(&bytes[start + index * step_bytes..][..size_bytes]);
    }
}

/// [`row_norm`] of several rows of one length, some elements of each in turn.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn norms_in_turns<V: Vector, E: Element>(rows: [&[u8]; STREAMS]) -> [f64; STREAMS] {
    let size_bytes = E::DTYPE.size_bytes();
    let turn_bytes = E::Wide::CHUNK * size_bytes;
    let len_bytes = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == len_bytes), "rows of one length");
    let (starts, whole) = (rows.map(<[u8]>::as_ptr), len_bytes / turn_bytes * turn_bytes);
    // SAFETY: by contract; whole turns of the rows, then what is left of each. A stream's part of the buffer is written
    // before it is read.
    unsafe {
        let mut sums = [SquareSum::<V>::new(); STREAMS];
        let mut buffer = [[const { MaybeUninit::<E::Wide>::uninit() }; WIDENED]; STREAMS];
        for start in (0..whole).step_by(turn_bytes) {
            if E::IS_WIDE {
                // A block of each, then the next of each where a chunk has two: a chunk of each takes a fifth longer.
                let mut chunks = [V::splat(0.0); STREAMS];
                for block in (0..E::Wide::CHUNK).step_by(BLOCK) {
                    for stream in 0..STREAMS {
                        let source = starts[stream].add(start + block * size_bytes);
                        let squares = block_sum::<V, E::Wide>(source.cast());
                        chunks[stream] = if block == 0 { squares } else { chunks[stream].add(squares) };
                    }
                }
                for stream in 0..STREAMS {
                    sums[stream].add_chunk(chunks[stream]);
                }
                continue;
            }
            // All of them before the first sum, so that memory is at work on each while any is summed.
            for stream in 0..STREAMS {
                for block in (0..WIDENED).step_by(BLOCK) {
                    let source = starts[stream].add(start + block * size_bytes);
                    E::widen_block::<V>(source, buffer[stream].as_mut_ptr().add(block).cast());
                }
            }
            for stream in 0..STREAMS {
                prefetch_lines::<V>(starts[stream].wrapping_add(start + NARROW_AHEAD_BYTES), turn_bytes);
                sums[stream].add_chunk(chunk_sum::<V, E::Wide>(buffer[stream].as_ptr().cast()));
            }
        }
        let mut norms = [0.0; STREAMS];
        for stream in 0..STREAMS {
            let rest = &rows[stream][whole..];
            sums[stream].add_rest::<E>(rest.as_ptr(), rest.len() / size_bytes);
            norms[stream] = finish::<V, E>(sums[stream], rows[stream]);
        }
        norms
    }
}

/// The norm of the elements in `row`.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn row_norm<V: Vector, E: Element>(row: &[u8], counts: Option<&mut Counts>) -> f64 {
    // SAFETY: by contract.
    unsafe { finish::<V, E>(row_sum::<V, E>(row, counts), row) }
}

/// The sum of the squares of the elements in `row`, which are counted besides where `counts` are asked for.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn row_sum<V: Vector, E: Element>(row: &[u8], mut counts: Option<&mut Counts>) -> SquareSum<V> {
    // SAFETY: by contract.
    let mut sum = unsafe { SquareSum::<V>::new() };
    let segment = if counts.is_some() { SEGMENT * E::DTYPE.size_bytes() } else { row.len().max(1) };
    for segment in row.chunks(segment) {
        let count = segment.len() / E::DTYPE.size_bytes();
        // SAFETY: the segment's elements are readable; all segments but the last are whole chunks.
        unsafe { sum.add_elements::<E>(segment.as_ptr(), count) };
        if let Some(counts) = counts.as_deref_mut() {
            // SAFETY: the segment's elements are readable.
            unsafe { scan::<E>(segment.as_ptr(), count, counts) };
        }
    }
    sum
}

/// The norm of a row from the sum of its squares.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn finish<V: Vector, E: Element>(sum: SquareSum<V>, row: &[u8]) -> f64 {
    // SAFETY: by contract.
    let (norm, sum) = unsafe { sum.norm() };
    if E::Wide::SQUARES_ROUND && !squares_are_safe(sum) {
        // SAFETY: by contract.
        return unsafe { rescaled_norm::<V>(row) };
    }
    norm
}

/// Whether no float64 square can have overflowed, or underflowed so far that it matters.
///
/// A square that underflows is off by 2⁻¹⁰⁷⁵ at most: 2⁶⁴ of them do not reach 2⁻⁵³ of a sum above the lower bound.
/// Below the upper one the exact square of the root, by which that is corrected, does not overflow either.
#[inline(always)]
pub(crate) fn squares_are_safe(sum: f64) -> bool {
    (1e-270..1e300).contains(&sum)
}

/// The norm of a float64 row whose squares leave the range: scaled by a power of two, which is exact.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[cold]
#[inline(always)]
pub(crate) unsafe fn rescaled_norm<V: Vector>(row: &[u8]) -> f64 {
    let values = || row.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word));
    let mut largest = 0.0_f64;
    for value in values() {
        if value.is_nan() {
            return f64::NAN;
        }
        largest = largest.max(value.abs());
    }
    if largest == 0.0 || largest == f64::INFINITY {
        return largest;
    }
    let exponent = i32::try_from(largest.to_bits() >> 52).unwrap_or(0) - 1023;
    // Within the range where both the factor and its inverse are float64 numbers; the largest element then
    // lies between 2^-52 and 2.
    let shift = (-exponent).clamp(-1022, 1022);
    let scale = crate::element::power_of_two(shift);
    let scaled: Vec<f64> = values().map(|value| value * scale).collect();
    // SAFETY: by contract; the elements are readable.
    let (norm, _) = unsafe {
        let mut sum = SquareSum::<V>::new();
        sum.add_elements::<F64>(scaled.as_ptr().cast(), scaled.len());
        sum.norm()
    };
    norm * crate::element::power_of_two(-shift)
}
