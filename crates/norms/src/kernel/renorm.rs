//! Division of rows by their norms, in place: a row is read from memory once and written once.

use crate::dispatch::Kernel;
use crate::kernel::ahead::{prefetch, prefetch_later};
use crate::kernel::last_axis::row_norm;
use crate::kernel::narrow::Narrow;
use crate::kernel::range::{RowRange, Window, group_of};
use crate::kernel::sum::{SquareSum, block_sum};
use crate::kernel::widen::{BLOCK, Element, F32, F64, Wide, with_element};
use crate::renorm::Normalized;
use crate::vector::{LANES, Vector};
use crate::{Dtype, element::power_of_two};

/// What the squared norm may be off by through float64 arithmetic alone, in units of 2⁻⁵³: 8 for the norm (6 for the sum
/// of squares, 2 for its root), 2 for the division by it, 8 for the norm that is measured afterwards.
const MEASURE_SLACK: f64 = 18.0 * f64::EPSILON / 2.0;

/// The same for float32, which the constrained step divides by less exact means: each quotient is off by 2⁻⁴⁶ of
/// itself at most before it is rounded.
const MEASURE_SLACK_F32: f64 = MEASURE_SLACK + 1.0 / (1_u64 << 45) as f64;

/// Divides rows by their norms.
pub(crate) struct Renormalise<'a> {
    pub(crate) range: RowRange<'a>,
    /// Divisors as `F.normalize` has them, one for each row of the view; else exact norms.
    pub(crate) torch_divisors: Option<&'a [f64]>,
}

impl Kernel for Renormalise<'_> {
    type Output = Normalized;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Normalized {
        let dtype = self.range.layout().dtype;
        // SAFETY: by contract.
        with_element!(dtype, E => unsafe { self.run_typed::<V, E>() })
    }
}

impl Renormalise<'_> {
    /// # Safety
    /// The CPU has the instruction set of `V`; the view holds elements of `E`.
    #[inline(always)]
    unsafe fn run_typed<V: Vector, E: Narrow>(self) -> Normalized {
        let layout = self.range.layout();
        if E::DTYPE == Dtype::F32 && self.torch_divisors.is_none() && layout.strides[1] == 1 {
            // SAFETY: by contract.
            return unsafe { normalize_in_turn::<V>(self.range) };
        }
        let (count, first) = (self.range.count(), self.range.first());
        let group = group_of(&self.range.layout());
        let mut window = Window::new(self.range);
        let mut total = Normalized::default();
        for start in (0..count).step_by(group) {
            let rows = group.min(count - start);
            window.load::<V>(start, rows);
            let before = total.changed;
            for index in 0..rows {
                let row = window.row(index);
                // SAFETY: by contract.
                let outcome = unsafe {
                    match self.torch_divisors {
                        None => normalize_row::<V, E>(row),
                        Some(divisors) => divide_as_torch::<V, E>(row, divisors[first + start + index]),
                    }
                };
                total.count(outcome);
            }
            if total.changed > before || self.torch_divisors.is_some() {
                window.store::<V>(rows);
            }
        }
        total
    }
}

/// Float32 rows that lie whole. While the squares of one row are summed, the row before it is divided: what
/// waits for memory and what keeps the multipliers busy then share the time.
///
/// # Safety
/// The CPU has the instruction set of `V`; the view holds float32.
#[inline(always)]
unsafe fn normalize_in_turn<V: Vector>(range: RowRange<'_>) -> Normalized {
    let mut total = Normalized::default();
    let mut due: Option<(&mut [u8], f64)> = None;
    for row in range.into_rows() {
        let len = row.len() / F32::DTYPE.size_bytes();
        // SAFETY: by contract.
        let (norm, outcome) = unsafe {
            let norm = match due.take() {
                Some((before, divisor)) => norm_and_divide::<V>(row, before, divisor),
                None => row_norm::<V, F32>(row, None),
            };
            (norm, normalize_outcome::<V, F32, _>(norm, len, || &*row))
        };
        total.count(outcome);
        if outcome == Outcome::Changed {
            due = Some((row, norm));
        }
    }
    if let Some((row, norm)) = due {
        // SAFETY: by contract.
        unsafe { divide::<V, F32>(row, norm) }
    }
    total
}

/// The norm of `row`, and [`divide`] on the row before it.
///
/// # Safety
/// The CPU has the instruction set of `V`; both hold as many float32, and `norm` is that of `before`.
#[inline(always)]
unsafe fn norm_and_divide<V: Vector>(row: &[u8], before: &mut [u8], norm: f64) -> f64 {
    // SAFETY: by contract; a block of each at a time.
    unsafe {
        let (divisor, inverse) = (V::splat(norm), V::splat(1.0 / norm));
        let mut sum = SquareSum::<V>::new();
        let (chunks, rest) = row.as_chunks::<CHUNK_BYTES>();
        let (chunks_before, rest_before) = before.as_chunks_mut::<CHUNK_BYTES>();
        for (chunk, before) in chunks.iter().zip(chunks_before) {
            let mut blocks = [V::splat(0.0); 2];
            let parts =
                chunk.as_chunks::<BLOCK_BYTES>().0.iter().zip(before.as_chunks_mut::<BLOCK_BYTES>().0);
            for (squares, (block, before)) in blocks.iter_mut().zip(parts) {
                // Block by block: a chunk asked for at once takes a tenth longer from memory.
                prefetch::<V>(block.as_ptr(), BLOCK_BYTES);
                if V::DIVISION_LATER_BYTES > 0 {
                    prefetch_later::<V, u8>(block, V::DIVISION_LATER_BYTES);
                }
                *squares = block_sum::<V, f32>(block.as_ptr().cast());
                divide_block::<V>(before.as_mut_ptr().cast(), divisor, inverse);
            }
            sum.add_chunk(blocks[0].add(blocks[1]));
        }
        if !rest.is_empty() {
            sum.add_rest::<F32>(rest.as_ptr(), rest.len() / F32::DTYPE.size_bytes());
            divide::<V, F32>(rest_before, norm);
        }
        sum.norm().0
    }
}

/// Bytes of a block of float32.
const BLOCK_BYTES: usize = BLOCK * size_of::<f32>();

/// Bytes of a chunk of float32.
const CHUNK_BYTES: usize = f32::CHUNK * size_of::<f32>();

/// Divides a block of float32 where it lies, at any alignment.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block is readable and writable at `first`.
#[inline(always)]
unsafe fn divide_block<V: Vector>(first: *mut f32, divisor: V, inverse: V) {
    for start in (0..BLOCK).step_by(LANES) {
        // SAFETY: eight float32 of the block.
        unsafe { V::widen(first.add(start)).quotient(divisor, inverse).narrow(first.add(start)) }
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Changed,
    Unchanged,
    Zero,
    Nonfinite,
}

/// Divides one row by its norm, unless it is within its rounding bound already.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn normalize_row<V: Vector, E: Narrow>(row: &mut [u8]) -> Outcome {
    // SAFETY: by contract.
    unsafe {
        let norm = row_norm::<V, E>(row, None);
        normalize_row_of_norm::<V, E>(row, norm)
    }
}

/// [`normalize_row`] for who knows the norm.
///
/// # Safety
/// The CPU has the instruction set of `V`; `norm` is that of `row`.
#[inline(always)]
pub(crate) unsafe fn normalize_row_of_norm<V: Vector, E: Narrow>(row: &mut [u8], norm: f64) -> Outcome {
    let len = row.len() / E::DTYPE.size_bytes();
    // SAFETY: by contract.
    unsafe {
        let outcome = normalize_outcome::<V, E, _>(norm, len, || &*row);
        if outcome == Outcome::Changed {
            divide::<V, E>(row, divisor(norm));
            if is_coarse(norm) {
                divide::<V, E>(row, row_norm::<V, E>(row, None));
            }
        }
        outcome
    }
}

/// Whether a norm is subnormal, as only that of float64 rows can be. It has few bits itself, so such rows are
/// scaled up first and then have a norm that is exact to rounding.
pub(crate) fn is_coarse(norm: f64) -> bool {
    0.0 < norm && norm < f64::MIN_POSITIVE
}

/// What to divide by first: the norm, or a power of two where that is coarse.
pub(crate) fn divisor(norm: f64) -> f64 {
    if is_coarse(norm) { power_of_two(-540) } else { norm }
}

/// What is to become of a row of `len` elements; looks at them only where the norm does not decide.
///
/// # Safety
/// The CPU has the instruction set of `V`; `row` gives elements of `E`.
#[inline(always)]
pub(crate) unsafe fn normalize_outcome<V: Vector, E: Narrow, R: AsRef<[u8]>>(
    norm: f64,
    len: usize,
    row: impl FnOnce() -> R,
) -> Outcome {
    if norm == 0.0 {
        return Outcome::Zero;
    }
    if !norm.is_finite() {
        return Outcome::Nonfinite;
    }
    // SAFETY: by contract.
    if unsafe { is_within_bound::<V, E, R>(norm, len, row) } { Outcome::Unchanged } else { Outcome::Changed }
}

/// Whether rounding alone can have left the norm where it is.
///
/// With half a step `h` at each element `w`, rounding moved `w` by at most `h`, so that the squared norm, from
/// 1 before, lies between `1 - 2 Σ|w|h - Σh²` and `1 + 2 Σ|w|h`. The sums are taken only where simple bounds of
/// them do not decide.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn is_within_bound<V: Vector, E: Narrow, R: AsRef<[u8]>>(
    norm: f64,
    len: usize,
    row: impl FnOnce() -> R,
) -> bool {
    // The difference is exact near 1, which that of the square would not be.
    let excess = (norm - 1.0) * (norm + 1.0);
    let square = norm * norm;
    if square.is_infinite() {
        return false;
    }
    let unit = power_of_two(-E::DTYPE.precision_bits().cast_signed());
    let len = len as f64;
    // A step is between unit and 2 unit of its element, or that of the subnormal numbers.
    if excess.abs() <= unit * square {
        return true;
    }
    let least_step = E::DTYPE.min_subnormal();
    let widest = 2.0 * unit * square + least_step * len.sqrt() * norm;
    let slack = if E::DTYPE == Dtype::F32 { MEASURE_SLACK_F32 } else { MEASURE_SLACK };
    let widest_squares = unit * unit * square + 0.25 * len * least_step * least_step;
    if excess.abs() > widest + widest_squares + slack {
        return false;
    }
    let (mut linear, mut squares) = (0.0, 0.0);
    let min_normal = E::DTYPE.min_normal();
    // SAFETY: by contract.
    unsafe {
        for_each_block::<V, E>(row().as_ref(), |values, count| {
            for value in &values[..count] {
                let binade = f64::from_bits(value.to_bits() & 0x7ff0_0000_0000_0000);
                let step = binade.max(min_normal) * (2.0 * unit);
                linear += value.abs() * step;
                squares += 0.25 * step * step;
            }
        });
    }
    let below = if excess < 0.0 { squares } else { 0.0 };
    excess.abs() <= linear + below + slack
}

/// Calls `work(values, count)` on the elements of a row, widened to float64, a block at a time.
///
/// # Safety
/// The CPU has the instruction set of `V`; `row` holds elements of `E`.
#[inline(always)]
unsafe fn for_each_block<V: Vector, E: Narrow>(row: &[u8], mut work: impl FnMut(&[f64; BLOCK], usize)) {
    for part in row.chunks(BLOCK * E::DTYPE.size_bytes()) {
        // SAFETY: by contract.
        let values = unsafe { load_block::<V, E>(part) };
        work(&values, part.len() / E::DTYPE.size_bytes());
    }
}

/// Up to a block of elements, widened to float64, with zeros after them.
///
/// # Safety
/// The CPU has the instruction set of `V`; `part` holds at most a block of elements of `E`.
#[inline(always)]
pub(crate) unsafe fn load_block<V: Vector, E: Narrow>(part: &[u8]) -> [f64; BLOCK] {
    let mut padded = [0_u8; BLOCK * 8];
    let source = if part.len() == BLOCK * E::DTYPE.size_bytes() {
        part.as_ptr()
    } else {
        padded[..part.len()].copy_from_slice(part);
        padded.as_ptr()
    };
    let mut wide = [E::Wide::ZERO; BLOCK];
    let mut values = [0.0; BLOCK];
    // SAFETY: a block is readable at `source`; both arrays hold one.
    unsafe {
        E::widen_block::<V>(source, wide.as_mut_ptr());
        for start in (0..BLOCK).step_by(LANES) {
            E::Wide::load::<V>(wide.as_ptr().add(start)).store(values.as_mut_ptr().add(start));
        }
    }
    values
}

/// Rounds a block into `part`, as far as that reaches.
///
/// # Safety
/// `part` holds at most a block of elements of `E`.
#[inline(always)]
pub(crate) unsafe fn store_block<E: Narrow>(values: &[f64; BLOCK], part: &mut [u8]) {
    if part.len() == BLOCK * E::DTYPE.size_bytes() {
        // SAFETY: a block is writable.
        unsafe { E::narrow_block(values, part.as_mut_ptr()) }
        return;
    }
    let mut padded = [0_u8; BLOCK * 8];
    // SAFETY: `padded` holds a block of the widest format.
    unsafe { E::narrow_block(values, padded.as_mut_ptr()) }
    part.copy_from_slice(&padded[..part.len()]);
}

/// Divides every element by `norm`, rounding the float64 quotient to the format once.
///
/// # Safety
/// The CPU has the instruction set of `V`; `norm` is positive and finite.
#[inline(always)]
pub(crate) unsafe fn divide<V: Vector, E: Narrow>(row: &mut [u8], norm: f64) {
    // SAFETY: by contract.
    let (divisor, inverse) = unsafe { (V::splat(norm), V::splat(1.0 / norm)) };
    let block_bytes = BLOCK * E::DTYPE.size_bytes();
    if E::DTYPE == Dtype::F32 {
        let (whole, rest) = row.as_chunks_mut::<BLOCK_BYTES>();
        for block in whole {
            // SAFETY: by contract.
            unsafe { divide_block::<V>(block.as_mut_ptr().cast(), divisor, inverse) }
        }
        if !rest.is_empty() {
            // SAFETY: by contract.
            unsafe { divide_part::<V, F32>(rest, divisor, inverse) };
        }
        return;
    }
    for part in row.chunks_mut(block_bytes) {
        // SAFETY: by contract.
        unsafe { divide_part::<V, E>(part, divisor, inverse) };
    }
}

/// # Safety
/// As [`divide`]; `part` holds at most a block.
#[inline(always)]
unsafe fn divide_part<V: Vector, E: Narrow>(part: &mut [u8], divisor: V, inverse: V) {
    // SAFETY: by contract; `values` holds a block.
    unsafe {
        let mut values = load_block::<V, E>(part);
        for start in (0..BLOCK).step_by(LANES) {
            let slot = values.as_mut_ptr().add(start);
            let value = V::load(slot);
            // The quotient by multiplication may leave the range where float64 elements are tiny.
            let quotient =
                if E::DTYPE == Dtype::F64 { value.div(divisor) } else { value.quotient(divisor, inverse) };
            quotient.store(slot);
        }
        store_block::<E>(&values, part);
    }
}

/// Divides as `F.normalize` does: in float32 (float64 for float64), then rounded to the format.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn divide_as_torch<V: Vector, E: Narrow>(row: &mut [u8], divisor: f64) -> Outcome {
    // SAFETY: by contract.
    let norm = unsafe { row_norm::<V, E>(row, None) };
    for part in row.chunks_mut(BLOCK * E::DTYPE.size_bytes()) {
        // SAFETY: by contract.
        let mut values = unsafe { load_block::<V, E>(part) };
        for value in &mut values {
            *value = if E::DTYPE == F64::DTYPE {
                *value / divisor
            } else {
                #[expect(clippy::cast_possible_truncation, reason = "both are float32 numbers")]
                let quotient = *value as f32 / divisor as f32;
                f64::from(quotient)
            };
        }
        // SAFETY: by contract.
        unsafe { store_block::<E>(&values, part) };
    }
    if norm == 0.0 {
        Outcome::Zero
    } else if norm.is_finite() {
        Outcome::Changed
    } else {
        Outcome::Nonfinite
    }
}

#[cfg(test)]
mod tests {
    use super::{F32, norm_and_divide, row_norm};
    use crate::Isa;
    use crate::dispatch::Kernel;
    use crate::vector::Vector;

    struct Norms<'a> {
        row: &'a [u8],
        before: &'a mut [u8],
    }

    impl Kernel for Norms<'_> {
        type Output = [f64; 2];

        #[inline(always)]
        unsafe fn run<V: Vector>(self) -> [f64; 2] {
            // SAFETY: by contract; both rows hold as many float32.
            unsafe { [norm_and_divide::<V>(self.row, self.before, 3.0), row_norm::<V, F32>(self.row, None)] }
        }
    }

    /// The quotients would hide another order of its sum.
    #[test]
    fn a_row_summed_while_another_is_divided_has_its_norm() {
        let values: Vec<f32> = (0..300 * 64).map(|index| (index as f32).sin()).collect();
        for len in 0..300 {
            for row in values.chunks_exact(len.max(1)).take(64) {
                let row: &[u8] = bytemuck::cast_slice(&row[..len]);
                for isa in Isa::all_available() {
                    let mut before = row.to_vec();
                    let [found, expected] = isa.run(Norms { row, before: &mut before });
                    assert_eq!(found.to_bits(), expected.to_bits(), "{isa} {len}");
                }
            }
        }
    }
}
