//! Division of rows by their norms, in place: a row is read from memory once and written once.

use crate::dispatch::Kernel;
use crate::kernel::last_axis::row_norm;
use crate::kernel::narrow::Narrow;
use crate::kernel::range::{RowRange, Window, group_of};
use crate::kernel::widen::{BLOCK, Element, F32, F64, Wide, with_element};
use crate::renorm::Normalized;
use crate::vector::{LANES, Vector};
use crate::{Dtype, element::power_of_two};

/// What the squared norm may be off by through float64 arithmetic alone: that of the norm, of the division by
/// it, and of the norm that is measured afterwards.
const MEASURE_SLACK: f64 = 12.0 * f64::EPSILON / 2.0;

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
    let widest_squares = unit * unit * square + 0.25 * len * least_step * least_step;
    if excess.abs() > widest + widest_squares + MEASURE_SLACK {
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
    excess.abs() <= linear + below + MEASURE_SLACK
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
/// The CPU has the instruction set of `V`; `norm` is the positive, finite norm of `row`.
#[inline(always)]
unsafe fn divide<V: Vector, E: Narrow>(row: &mut [u8], norm: f64) {
    // SAFETY: by contract.
    let (divisor, inverse) = unsafe { (V::splat(norm), V::splat(1.0 / norm)) };
    let block_bytes = BLOCK * E::DTYPE.size_bytes();
    if E::DTYPE == Dtype::F32 {
        let (whole, rest) = row.as_chunks_mut::<{ LANES * 4 }>();
        for eight in whole {
            #[expect(clippy::cast_ptr_alignment, reason = "only loads and stores for any alignment see it")]
            let eight = eight.as_mut_ptr().cast::<f32>();
            // SAFETY: eight float32 are readable and writable.
            unsafe { V::widen(eight).quotient(divisor, inverse).narrow(eight) }
        }
        // SAFETY: by contract.
        unsafe { divide_part::<V, F32>(rest, divisor, inverse) };
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
