//! Removal of the component of one row along another.

use crate::dispatch::Kernel;
use crate::kernel::ahead::prefetch_later;
use crate::kernel::last_axis::{row_norm, squares_are_safe};
use crate::kernel::range::{ReadWindow, RowRange, Window, group_of};
use crate::kernel::renorm::{Outcome, load_block, store_block};
use crate::kernel::sum::SquareSum;
use crate::kernel::widen::{BLOCK, Element, F64, with_element};
use crate::vector::{LANES, Vector};
use crate::{Dtype, Rows, tangent::Removed};

/// Removes from each gradient row its component along the row of the same number.
pub(crate) struct RemoveParallel<'a> {
    pub(crate) grads: RowRange<'a>,
    pub(crate) rows: Rows<'a>,
}

impl Kernel for RemoveParallel<'_> {
    type Output = Removed;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Removed {
        let (count, first) = (self.grads.count(), self.grads.first());
        let grad_dtype = self.grads.layout().dtype;
        let group = group_of(&self.grads.layout()).max(group_of(&self.rows.layout));
        let mut grads = Window::new(self.grads);
        let mut rows = ReadWindow::new(self.rows);
        let (mut grad, mut row) = (Vec::new(), Vec::new());
        let mut total = Removed::default();
        for start in (0..count).step_by(group) {
            let loaded = group.min(count - start);
            grads.load::<V>(start, loaded);
            rows.load::<V>(first + start, loaded);
            for index in 0..loaded {
                let target = grads.row(index);
                if grad_dtype == Dtype::F32 && rows.dtype() == Dtype::F32 {
                    let in_place = (
                        bytemuck::try_cast_slice_mut(&mut *target),
                        bytemuck::try_cast_slice(rows.row(index)),
                    );
                    if let (Ok(grad), Ok(row)) = in_place {
                        // SAFETY: by contract.
                        total.count(unsafe { remove_f32::<V>(grad, row) });
                        continue;
                    }
                }
                // SAFETY: by contract; the views hold elements of their dtypes.
                let outcome = unsafe {
                    widen_row::<V>(grad_dtype, target, &mut grad);
                    widen_row::<V>(rows.dtype(), rows.row(index), &mut row);
                    remove::<V>(&mut grad, &mut row)
                };
                if outcome == Outcome::Changed {
                    // SAFETY: by contract.
                    unsafe { narrow_row(grad_dtype, &grad, target) };
                }
                total.count(outcome);
            }
            grads.store::<V>(loaded);
        }
        total
    }
}

/// A row as float64, followed by zeros up to a whole block.
///
/// # Safety
/// The CPU has the instruction set of `V`; `bytes` holds elements of `dtype`.
#[inline(always)]
unsafe fn widen_row<V: Vector>(dtype: Dtype, bytes: &[u8], values: &mut Vec<f64>) {
    values.clear();
    with_element!(dtype, E => {
        for part in bytes.chunks(BLOCK * E::DTYPE.size_bytes()) {
            // SAFETY: by contract.
            values.extend_from_slice(&unsafe { load_block::<V, E>(part) });
        }
    });
}

/// # Safety
/// `bytes` holds elements of `dtype`.
#[inline(always)]
unsafe fn narrow_row(dtype: Dtype, values: &[f64], bytes: &mut [u8]) {
    with_element!(dtype, E => {
        let parts = bytes.chunks_mut(BLOCK * E::DTYPE.size_bytes());
        for (part, values) in parts.zip(values.as_chunks::<BLOCK>().0) {
            // SAFETY: by contract.
            unsafe { store_block::<E>(values, part) };
        }
    });
}

/// [`remove`] on float32 where it lies, with the same bits.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn remove_f32<V: Vector>(grad: &mut [f32], row: &[f32]) -> Outcome {
    // SAFETY: by contract.
    let (product, square) = unsafe { dots::<V>(grad, row) };
    let along = product / square;
    if square == 0.0 {
        return Outcome::Zero;
    }
    if !along.is_finite() || !square.is_finite() {
        return Outcome::Nonfinite;
    }
    if along == 0.0 {
        return Outcome::Unchanged;
    }
    let row_bytes = size_of_val(row);
    for (values, parts) in grad.chunks_mut(BLOCK).zip(row.chunks(BLOCK)) {
        // SAFETY: by contract.
        unsafe {
            prefetch_later::<V, f32>(values, row_bytes);
            prefetch_later::<V, f32>(parts, row_bytes);
        }
        for (value, part) in values.iter_mut().zip(parts) {
            #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
            let difference = (f64::from(*value) - f64::from(*part) * along) as f32;
            *value = difference;
        }
    }
    Outcome::Changed
}

/// `grad -= row * (grad . row) / (row . row)`. A gradient whose row has no direction, or that is not finite
/// itself, stays.
///
/// # Safety
/// The CPU has the instruction set of `V`; both are equally long and whole blocks.
#[inline(always)]
unsafe fn remove<V: Vector>(grad: &mut [f64], row: &mut [f64]) -> Outcome {
    // SAFETY: by contract.
    let mut square = unsafe { dot::<V>(row, row) };
    if !squares_are_safe(square) {
        // A zero row, one that is not finite, or float64 whose squares leave the range: the latter is first
        // brought to unit length.
        // SAFETY: by contract; a slice of float64 can be read as bytes.
        let norm = unsafe { row_norm::<V, F64>(bytemuck::cast_slice(row), None) };
        if norm == 0.0 {
            return Outcome::Zero;
        }
        if !norm.is_finite() {
            return Outcome::Nonfinite;
        }
        for value in row.iter_mut() {
            *value /= norm;
        }
        // SAFETY: by contract.
        square = unsafe { dot::<V>(row, row) };
    }
    // SAFETY: by contract.
    let along = unsafe { dot::<V>(grad, row) } / square;
    if !along.is_finite() {
        return Outcome::Nonfinite;
    }
    if along == 0.0 {
        return Outcome::Unchanged;
    }
    for start in (0..grad.len()).step_by(LANES) {
        // SAFETY: whole blocks of equal length.
        unsafe {
            let target = grad.as_mut_ptr().add(start);
            let part = V::load(row.as_ptr().add(start)).mul(V::splat(along));
            V::load(target).sub(part).store(target);
        }
    }
    Outcome::Changed
}

/// The scalar product, in the tree of the sum of squares of float64.
///
/// # Safety
/// The CPU has the instruction set of `V`; both are equally long and whole blocks.
#[inline(always)]
unsafe fn dot<V: Vector>(x: &[f64], y: &[f64]) -> f64 {
    // SAFETY: by contract.
    unsafe {
        let mut sum = SquareSum::<V>::new();
        for start in (0..x.len().min(y.len())).step_by(BLOCK) {
            let zero = V::splat(0.0);
            let mut sums = [zero; 2];
            for index in 0..BLOCK / LANES {
                let at = start + index * LANES;
                let product = V::load(x.as_ptr().add(at)).mul(V::load(y.as_ptr().add(at)));
                sums[index % 2] = sums[index % 2].add(product);
            }
            sum.add_chunk(sums[0].add(sums[1]));
        }
        sum.total()
    }
}

/// The scalar products of `x` and `y` and of `y` with itself, whose products are exact in float64.
///
/// # Safety
/// As [`dot`]; the lengths need not be whole blocks.
#[inline(always)]
pub(crate) unsafe fn dots<V: Vector>(x: &[f32], y: &[f32]) -> (f64, f64) {
    let count = x.len().min(y.len());
    let whole = count / BLOCK * BLOCK;
    // SAFETY: by contract; the rest is padded to a block.
    unsafe {
        let mut sums = [SquareSum::<V>::new(); 2];
        for start in (0..whole).step_by(BLOCK) {
            add_products(&mut sums, x.as_ptr().add(start), y.as_ptr().add(start));
        }
        if whole < count {
            let (mut x_rest, mut y_rest) = ([0.0; BLOCK], [0.0; BLOCK]);
            x_rest[..count - whole].copy_from_slice(&x[whole..count]);
            y_rest[..count - whole].copy_from_slice(&y[whole..count]);
            add_products(&mut sums, x_rest.as_ptr(), y_rest.as_ptr());
        }
        let [products, squares] = sums;
        (products.total(), squares.total())
    }
}

/// Adds a block of `x y` to the first sum and of `y y` to the second.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block is readable at both.
// A function, because a closure that is called twice may not be inlined and then loses the target features.
#[inline(always)]
unsafe fn add_products<V: Vector>(sums: &mut [SquareSum<V>; 2], x: *const f32, y: *const f32) {
    // SAFETY: by contract.
    unsafe {
        let zero = V::splat(0.0);
        let (mut product, mut square) = ([zero; 2], [zero; 2]);
        for index in 0..BLOCK / LANES {
            let (x, y) = (V::widen(x.add(index * LANES)), V::widen(y.add(index * LANES)));
            product[index % 2] = product[index % 2].add_exact_product(x, y);
            square[index % 2] = square[index % 2].add_exact_product(y, y);
        }
        sums[0].add_chunk(product[0].add(product[1]));
        sums[1].add_chunk(square[0].add(square[1]));
    }
}
