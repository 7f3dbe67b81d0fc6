//! Sums of squares in the tensor's own arithmetic, in the orders that other kernels use.
//!
//! Every product is rounded, then every sum: never fused but where the imitated kernel is. Several rows are
//! worked on in turn, because a chain of additions of one row waits for each of its results.

use std::ops::{Add, Mul};

use crate::dispatch::Kernel;
use crate::float32::Summation;
use crate::kernel::last_axis::gather;
use crate::kernel::widen::{BLOCK, Element, Wide, with_element};
use crate::rows::Layout;
use crate::vector::Vector;
use crate::{Dtype, Rows};

/// Rows whose chains of additions are interleaved.
const TOGETHER: usize = 4;

/// Sums of squares of every row.
pub(crate) struct Imitate<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) way: Summation,
    /// float64 is summed in float64 and not rounded to float32 first, and tails end as in torch.
    pub(crate) as_torch: bool,
    /// Receives the root of each sum; the root is taken in float32 unless float64 is kept.
    pub(crate) norms: &'a mut [f64],
}

impl Kernel for Imitate<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: by contract.
        with_element!(self.rows.layout.dtype, E => unsafe { self.run_typed::<V, E>() });
    }
}

impl Imitate<'_> {
    /// # Safety
    /// The CPU has the instruction set of `V`; the view holds elements of `E`.
    #[inline(always)]
    unsafe fn run_typed<V: Vector, E: Element>(self) {
        let layout = self.rows.layout;
        if layout.is_columns() && self.way == Summation::Sequential && E::DTYPE != Dtype::F64 {
            // SAFETY: by contract; all formats but f64 widen to f32.
            unsafe { columns::<V, E>(self.rows.bytes, layout, self.norms) };
            return;
        }
        let len = layout.shape[1];
        let mut gathered = Vec::new();
        if E::DTYPE == Dtype::F64 && self.as_torch {
            let mut values: [Vec<f64>; TOGETHER] = Default::default();
            for (group, norms) in self.norms.chunks_mut(TOGETHER).enumerate() {
                for (index, values) in values.iter_mut().take(norms.len()).enumerate() {
                    let row = row_bytes::<E>(self.rows, group * TOGETHER + index, &mut gathered);
                    values.clear();
                    values.extend(row.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word)));
                }
                let sums = if self.way == Summation::Sequential {
                    lanes::<f64, 1, 1>(values.each_ref().map(Vec::as_slice), 1, f64::mul_add)
                } else {
                    // Half as many lanes as of float32; whatever is left over is fused.
                    lanes::<f64, 4, 4>(values.each_ref().map(Vec::as_slice), usize::MAX, f64::mul_add)
                };
                for (norm, sum) in norms.iter_mut().zip(sums) {
                    *norm = sum.sqrt();
                }
            }
            return;
        }
        let mut values: [Vec<f32>; TOGETHER] = Default::default();
        for (group, norms) in self.norms.chunks_mut(TOGETHER).enumerate() {
            let first = group * TOGETHER;
            let in_place = if norms.len() == TOGETHER { rows_in_place::<E>(self.rows, first) } else { None };
            let rows = if let Some(rows) = in_place {
                rows
            } else {
                for (index, values) in values.iter_mut().take(norms.len()).enumerate() {
                    let row = row_bytes::<E>(self.rows, first + index, &mut gathered);
                    // SAFETY: by contract.
                    unsafe { widen_row::<V, E>(row, len, values) };
                }
                values.each_ref().map(Vec::as_slice)
            };
            let sums = match self.way {
                Summation::Sequential => lanes::<f32, 1, 1>(rows, 1, f32::mul_add),
                // torch reads bfloat16 sixteen at a time, into eight sums.
                Summation::Lanes8 if E::DTYPE == Dtype::Bf16 && self.as_torch => {
                    lanes::<f32, 8, 16>(rows, 1, f32::mul_add)
                }
                Summation::Lanes8 => lanes::<f32, 8, 8>(rows, 4, f32::mul_add),
                Summation::Lanes16 => lanes::<f32, 16, 16>(rows, 1, f32::mul_add),
                Summation::Lanes32 => lanes::<f32, 32, 32>(rows, 1, f32::mul_add),
                Summation::Pairwise => rows.map(pairwise),
            };
            for (norm, sum) in norms.iter_mut().zip(sums) {
                *norm = f64::from(sum.sqrt());
            }
        }
    }
}

/// The rows from `first` on where they lie, if that is in float32, next to each other and aligned.
#[inline(always)]
fn rows_in_place<E: Element>(rows: Rows<'_>, first: usize) -> Option<[&[f32]; TOGETHER]> {
    let layout = rows.layout;
    if E::DTYPE != Dtype::F32 || layout.strides[1] != 1 {
        return None;
    }
    let mut found = [&[][..]; TOGETHER];
    for (index, row) in found.iter_mut().enumerate() {
        let start = layout.start(first + index) * size_of::<f32>();
        let bytes = &rows.bytes[start..][..layout.shape[1] * size_of::<f32>()];
        *row = bytemuck::try_cast_slice(bytes).ok()?;
    }
    Some(found)
}

/// The bytes of row `index`, next to each other.
#[inline(always)]
fn row_bytes<'a, E: Element>(rows: Rows<'a>, index: usize, gathered: &'a mut Vec<u8>) -> &'a [u8] {
    let size_bytes = E::DTYPE.size_bytes();
    let layout = rows.layout;
    let (len, step) = (layout.shape[1], layout.strides[1]);
    let start = layout.start(index) * size_bytes;
    if step == 1 {
        return &rows.bytes[start..start + len * size_bytes];
    }
    gather(rows.bytes, start, len, step * size_bytes, size_bytes, gathered);
    gathered
}

/// Widens a row; float64 is rounded.
///
/// # Safety
/// The CPU has the instruction set of `V`; `row` holds `len` elements of `E`.
#[inline(always)]
unsafe fn widen_row<V: Vector, E: Element>(row: &[u8], len: usize, values: &mut Vec<f32>) {
    let size_bytes = E::DTYPE.size_bytes();
    values.resize(len.next_multiple_of(BLOCK), 0.0);
    for (block, target) in values.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let source = &row[block * BLOCK * size_bytes..];
        if E::DTYPE == Dtype::F64 {
            for (target, word) in target.iter_mut().zip(source.as_chunks().0) {
                #[expect(clippy::cast_possible_truncation, reason = "float32 arithmetic is imitated")]
                let value = f64::from_le_bytes(*word) as f32;
                *target = value;
            }
            continue;
        }
        let mut padded = [0_u8; BLOCK * 8];
        let source = if source.len() < BLOCK * size_bytes {
            padded[..source.len()].copy_from_slice(source);
            padded.as_ptr()
        } else {
            source.as_ptr()
        };
        // SAFETY: by contract; a block is readable and writable, and every format but f64 widens to f32.
        unsafe { E::widen_block::<V>(source, target.as_mut_ptr().cast::<E::Wide>()) };
    }
    values.truncate(len);
}

/// Sums of squares over `LANES` running sums, as far as whole steps of `STEP` elements reach, folded left to
/// right. Of what is left over, groups of `tail_group` are added unfused, and the last few fused, with
/// `fused(x, x, sum)`.
#[inline(always)]
fn lanes<T, const LANES: usize, const STEP: usize>(
    rows: [&[T]; TOGETHER],
    tail_group: usize,
    fused: impl Fn(T, T, T) -> T,
) -> [T; TOGETHER]
where
    T: Copy + Default + Add<Output = T> + Mul<Output = T>,
{
    let len = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let count = len / STEP * (STEP / LANES);
    // The last group may hold fewer rows; those left from before are as long or empty.
    let chunks =
        rows.map(|row| if row.len() == len { &row.as_chunks::<LANES>().0[..count] } else { &[][..] });
    let mut sums = [[T::default(); LANES]; TOGETHER];
    if chunks.iter().all(|chunks| chunks.len() == count) {
        let [a, b, c, d] = chunks;
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            for (sums, chunk) in sums.iter_mut().zip([a, b, c, d]) {
                for (sum, value) in sums.iter_mut().zip(chunk) {
                    *sum = *sum + *value * *value;
                }
            }
        }
    } else {
        for (sums, chunks) in sums.iter_mut().zip(chunks) {
            for chunk in chunks {
                for (sum, value) in sums.iter_mut().zip(chunk) {
                    *sum = *sum + *value * *value;
                }
            }
        }
    }
    let mut totals = [T::default(); TOGETHER];
    for ((total, sums), row) in totals.iter_mut().zip(sums).zip(rows) {
        *total = finish_lanes(sums, &row[row.len() / STEP * STEP..], tail_group, &fused);
    }
    totals
}

/// Running sums folded left to right, and what is left of the row: groups of `tail_group` unfused, the last few fused.
#[inline(always)]
pub(crate) fn finish_lanes<T, const LANES: usize>(
    sums: [T; LANES],
    rest: &[T],
    tail_group: usize,
    fused: impl Fn(T, T, T) -> T,
) -> T
where
    T: Copy + Add<Output = T> + Mul<Output = T>,
{
    let mut total = sums.into_iter().skip(1).fold(sums[0], |total, sum| total + sum);
    let unfused = rest.len() / tail_group * tail_group;
    for value in &rest[..unfused] {
        total = total + *value * *value;
    }
    for value in &rest[unfused..] {
        total = fused(*value, *value, total);
    }
    total
}

/// Halves down to 128 elements, those over eight running sums: numpy's order for a contiguous axis.
fn pairwise(row: &[f32]) -> f32 {
    let square = |value: &f32| value * value;
    if row.len() < 8 {
        // numpy starts from -0, which only a sum of no elements would show.
        return row.iter().map(square).fold(0.0, Add::add);
    }
    if row.len() <= 128 {
        let (chunks, rest) = row.as_chunks::<8>();
        let mut sums = [0.0; 8];
        for chunk in chunks {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += square(value);
            }
        }
        let total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
        return rest.iter().map(square).fold(total, Add::add);
    }
    let half = row.len() / 2;
    let (left, right) = row.split_at(half - half % 8);
    pairwise(left) + pairwise(right)
}

/// One running float32 sum per column.
///
/// # Safety
/// The CPU has the instruction set of `V`; the view holds elements of `E`, which widen to f32.
#[inline(always)]
unsafe fn columns<V: Vector, E: Element>(bytes: &[u8], layout: Layout, norms: &mut [f64]) {
    /// Columns whose sums stay in the first-level cache.
    const TILE: usize = 2048;
    /// Matrix rows that are added while the sums are in registers.
    const ROWS: usize = 8;
    let [_, len, inner] = layout.shape;
    let size_bytes = E::DTYPE.size_bytes();
    let mut sums = vec![[0.0_f32; BLOCK]; TILE / BLOCK];
    let mut buffer = [[E::Wide::ZERO; BLOCK]; ROWS];
    let mut done = 0;
    while done < norms.len() {
        let width = TILE.min(inner - done % inner);
        let start = layout.start(done);
        sums.fill([0.0; BLOCK]);
        for first in (0..len).step_by(ROWS) {
            let rows = ROWS.min(len - first);
            for (block, sums) in sums.iter_mut().take(width.div_ceil(BLOCK)).enumerate() {
                let columns = BLOCK.min(width - block * BLOCK);
                for (row, target) in buffer.iter_mut().take(rows).enumerate() {
                    let at = (start + (first + row) * layout.strides[1] + block * BLOCK) * size_bytes;
                    let source = &bytes[at..at + columns * size_bytes];
                    let mut padded = [0_u8; BLOCK * 8];
                    let source = if columns < BLOCK {
                        padded[..source.len()].copy_from_slice(source);
                        padded.as_ptr()
                    } else {
                        source.as_ptr()
                    };
                    // SAFETY: by contract; a block is readable and writable.
                    unsafe { E::widen_block::<V>(source, target.as_mut_ptr()) };
                }
                for row in buffer.iter().take(rows) {
                    // SAFETY: by contract the buffer holds float32.
                    let row = unsafe { &*row.as_ptr().cast::<[f32; BLOCK]>() };
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += value * value;
                    }
                }
            }
        }
        for (norm, sum) in norms[done..done + width].iter_mut().zip(sums.as_flattened()) {
            *norm = f64::from(sum.sqrt());
        }
        done += width;
    }
}
