//! One step of Adam on rows of unit length, fused: each of the streams is read once and written once.

use crate::Dtype;
use crate::adam::Coefficients;
use crate::dispatch::Kernel;
use crate::kernel::narrow::bf16_from_f32;
use crate::kernel::range::{ReadWindow, RowRange, Window, group_of};
use crate::kernel::renorm::{Outcome, normalize_row, normalize_row_of_norm, store_block};
use crate::kernel::sum::{SquareSum, prefetch, prefetch_lines};
use crate::kernel::tangent::dots;
use crate::kernel::widen::{BLOCK, Bf16, F32};
use crate::renorm::Normalized;
use crate::vector::Vector;

/// One step on some rows. All views have the same rows; each holds f32 or bf16, the master f32.
pub(crate) struct Step<'a> {
    pub(crate) params: RowRange<'a>,
    pub(crate) master: Option<RowRange<'a>>,
    pub(crate) grads: crate::Rows<'a>,
    pub(crate) exp_avg: RowRange<'a>,
    pub(crate) exp_avg_sq: RowRange<'a>,
    pub(crate) coefficients: Coefficients,
}

/// Rows as float32 where memory does not hold them so.
#[derive(Default)]
struct Scratch {
    param: Vec<f32>,
    grad: Vec<f32>,
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
}

impl Kernel for Step<'_> {
    type Output = Normalized;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Normalized {
        let (count, first) = (self.params.count(), self.params.first());
        let layouts =
            [self.params.layout(), self.grads.layout, self.exp_avg.layout(), self.exp_avg_sq.layout()];
        let group = layouts.iter().map(group_of).max().unwrap_or(1);
        let coefficients = self.coefficients;
        let param_dtype = self.params.layout().dtype;
        let moment_dtypes = (self.exp_avg.layout().dtype, self.exp_avg_sq.layout().dtype);
        let mut params = Window::new(self.params);
        let mut master = self.master.map(Window::new);
        let mut grads = ReadWindow::new(self.grads);
        let mut exp_avg = Window::new(self.exp_avg);
        let mut exp_avg_sq = Window::new(self.exp_avg_sq);
        let mut scratch = Scratch::default();
        let mut total = Normalized::default();
        for start in (0..count).step_by(group) {
            let loaded = group.min(count - start);
            params.load::<V>(start, loaded);
            grads.load::<V>(first + start, loaded);
            exp_avg.load::<V>(start, loaded);
            exp_avg_sq.load::<V>(start, loaded);
            if let Some(master) = &mut master {
                master.load::<V>(start, loaded);
            }
            for index in 0..loaded {
                let (param_bytes, grad_bytes) = (params.row(index), grads.row(index));
                let (avg_bytes, sq_bytes) = (exp_avg.row(index), exp_avg_sq.row(index));
                if master.is_none() {
                    let dtypes = [param_dtype, grads.dtype(), moment_dtypes.0, moment_dtypes.1];
                    if let Some(row) = Row::in_place(dtypes, param_bytes, grad_bytes, avg_bytes, sq_bytes) {
                        // SAFETY: by contract.
                        total.count(unsafe { row.step::<V>(&coefficients) });
                        continue;
                    }
                }
                let (source, dtype) = match &mut master {
                    Some(master) => (master.row(index), Dtype::F32),
                    None => (&mut *param_bytes, param_dtype),
                };
                load(dtype, source, &mut scratch.param);
                load(grads.dtype(), grad_bytes, &mut scratch.grad);
                load(moment_dtypes.0, avg_bytes, &mut scratch.exp_avg);
                load(moment_dtypes.1, sq_bytes, &mut scratch.exp_avg_sq);
                let mut row = Row {
                    param: &mut scratch.param,
                    grad: &scratch.grad,
                    exp_avg: &mut scratch.exp_avg,
                    exp_avg_sq: &mut scratch.exp_avg_sq,
                };
                // SAFETY: by contract.
                let outcome = unsafe {
                    let norm = row.update::<V>(&coefficients);
                    finish::<V>(dtype, row.param, norm, source, &coefficients)
                };
                if master.is_some() {
                    store(param_dtype, &scratch.param, param_bytes);
                }
                store(moment_dtypes.0, &scratch.exp_avg, avg_bytes);
                store(moment_dtypes.1, &scratch.exp_avg_sq, sq_bytes);
                total.count(outcome);
            }
            params.store::<V>(loaded);
            exp_avg.store::<V>(loaded);
            exp_avg_sq.store::<V>(loaded);
            if let Some(master) = &mut master {
                master.store::<V>(loaded);
            }
        }
        total
    }
}

/// Widens a row of f32 or bf16.
#[inline(always)]
fn load(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    if dtype == Dtype::F32 {
        values.resize(bytes.len() / 4, 0.0);
        bytemuck::cast_slice_mut::<f32, u8>(values).copy_from_slice(bytes);
    } else {
        let codes = bytes.as_chunks().0;
        values.resize(codes.len(), 0.0);
        for (value, code) in values.iter_mut().zip(codes) {
            *value = f32::from_bits(u32::from(u16::from_le_bytes(*code)) << 16);
        }
    }
}

/// Rounds a row to f32 or bf16.
#[inline(always)]
fn store(dtype: Dtype, values: &[f32], bytes: &mut [u8]) {
    if dtype == Dtype::F32 {
        bytes.copy_from_slice(bytemuck::cast_slice(values));
    } else {
        for (value, code) in values.iter().zip(bytes.as_chunks_mut().0) {
            *code = bf16_from_f32(*value).to_le_bytes();
        }
    }
}

/// One row in float32.
struct Row<'a> {
    param: &'a mut [f32],
    grad: &'a [f32],
    exp_avg: &'a mut [f32],
    exp_avg_sq: &'a mut [f32],
}

impl<'a> Row<'a> {
    /// The rows where they lie, if that is in float32 and aligned.
    #[inline(always)]
    fn in_place(
        dtypes: [Dtype; 4],
        param: &'a mut [u8],
        grad: &'a [u8],
        exp_avg: &'a mut [u8],
        exp_avg_sq: &'a mut [u8],
    ) -> Option<Self> {
        if dtypes != [Dtype::F32; 4] {
            return None;
        }
        Some(Self {
            param: bytemuck::try_cast_slice_mut(param).ok()?,
            grad: bytemuck::try_cast_slice(grad).ok()?,
            exp_avg: bytemuck::try_cast_slice_mut(exp_avg).ok()?,
            exp_avg_sq: bytemuck::try_cast_slice_mut(exp_avg_sq).ok()?,
        })
    }

    /// Updates and renormalises in place.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn step<V: Vector>(mut self, by: &Coefficients) -> Outcome {
        // SAFETY: by contract.
        unsafe {
            let norm = self.update::<V>(by);
            if by.unit_norm {
                normalize_row_of_norm::<V, F32>(bytemuck::cast_slice_mut(self.param), norm)
            } else {
                Outcome::Unchanged
            }
        }
    }

    /// The step itself; the gradient loses its component along the row on the way. Gives the new row's norm
    /// where that is constrained.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn update<V: Vector>(&mut self, by: &Coefficients) -> f64 {
        // SAFETY: by contract.
        let along = if by.unit_norm { unsafe { self.component::<V>() } } else { 0.0 };
        let row_bytes = size_of_val(self.param);
        // SAFETY: by contract.
        let mut sum = unsafe { SquareSum::<V>::new() };
        let (params, param_rest) = self.param.as_chunks_mut::<BLOCK>();
        let (grads, grad_rest) = self.grad.as_chunks::<BLOCK>();
        let (averages, average_rest) = self.exp_avg.as_chunks_mut::<BLOCK>();
        let (squares, square_rest) = self.exp_avg_sq.as_chunks_mut::<BLOCK>();
        let blocks = params.iter_mut().zip(grads).zip(averages.iter_mut().zip(squares.iter_mut()));
        for ((param, grad), (average, square)) in blocks {
            let (next_param, next_grad) = (param.as_ptr().cast::<u8>(), grad.as_ptr().cast::<u8>());
            // SAFETY: by contract.
            unsafe {
                if by.unit_norm {
                    // Averages were asked for while the component was summed; now it is the next row's turn.
                    prefetch_lines::<V>(next_param.wrapping_add(row_bytes), BLOCK_BYTES);
                    prefetch_lines::<V>(next_grad.wrapping_add(row_bytes), BLOCK_BYTES);
                } else {
                    prefetch::<V>(next_param, BLOCK_BYTES);
                    prefetch::<V>(next_grad, BLOCK_BYTES);
                    prefetch::<V>(average.as_ptr().cast(), BLOCK_BYTES);
                    prefetch::<V>(square.as_ptr().cast(), BLOCK_BYTES);
                }
            }
            update(param, grad, average, square, |_| along, by);
            if by.unit_norm {
                // SAFETY: by contract; a whole block.
                unsafe { sum.add_elements::<F32>(param.as_ptr().cast(), BLOCK) }
            }
        }
        update(param_rest, grad_rest, average_rest, square_rest, |_| along, by);
        // SAFETY: by contract; the elements after the last block.
        unsafe {
            sum.add_elements::<F32>(param_rest.as_ptr().cast(), param_rest.len());
            sum.norm().0
        }
    }

    /// How much of the row there is in its gradient; none where the row has no direction.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn component<V: Vector>(&self) -> f32 {
        // SAFETY: by contract.
        let (product, square) = unsafe {
            dots::<V>(self.grad, self.param, |at| {
                prefetch_lines::<V>(self.exp_avg.as_ptr().wrapping_add(at).cast(), BLOCK_BYTES);
                prefetch_lines::<V>(self.exp_avg_sq.as_ptr().wrapping_add(at).cast(), BLOCK_BYTES);
            })
        };
        finite_component(product / square)
    }
}

/// A component that can be removed in float32, else none.
pub(crate) fn finite_component(along: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the step is float32 arithmetic")]
    let along = along as f32;
    if along.is_finite() { along } else { 0.0 }
}

/// Bytes of a block of float32.
const BLOCK_BYTES: usize = BLOCK * size_of::<f32>();

/// The step on some elements, in float32 and in the order of `torch.optim.Adam(fused=True)`.
#[inline(always)]
fn update(
    params: &mut [f32],
    grads: &[f32],
    averages: &mut [f32],
    squares: &mut [f32],
    along: impl Fn(usize) -> f32,
    by: &Coefficients,
) {
    let state = averages.iter_mut().zip(squares.iter_mut());
    for (index, ((param, grad), (average, square))) in params.iter_mut().zip(grads).zip(state).enumerate() {
        let along = along(index);
        let mut value = *param;
        let projected = if by.unit_norm { *grad - value * along } else { *grad };
        let mut gradient = projected * by.sign;
        if by.decoupled {
            value *= by.shrink;
        } else {
            gradient += value * by.weight_decay;
        }
        let difference = gradient - *average;
        *average = if by.weight_is_small {
            *average + by.one_minus_beta1 * difference
        } else {
            gradient - difference * by.beta1
        };
        *square = *square * by.beta2 + by.one_minus_beta2 * gradient * gradient;
        let denominator = square.sqrt() * by.inverse_correction2_sqrt + by.eps;
        *param = value + by.minus_step_size * *average / denominator;
    }
}

/// The step on one matrix row of float32, with a component for each of its columns.
#[inline(always)]
pub(crate) fn update_columns(
    params: &mut [u8],
    grads: &[u8],
    averages: &mut [u8],
    squares: &mut [u8],
    along: &[f32],
    by: &Coefficients,
) {
    let dtypes = [Dtype::F32; 4];
    if let Some(row) = Row::in_place(dtypes, params, grads, averages, squares) {
        update(row.param, row.grad, row.exp_avg, row.exp_avg_sq, |index| along[index], by);
        return;
    }
    let state = averages.chunks_mut(BLOCK_BYTES).zip(squares.chunks_mut(BLOCK_BYTES));
    let parts = params.chunks_mut(BLOCK_BYTES).zip(grads.chunks(BLOCK_BYTES));
    for (((param_bytes, grad_bytes), (average_bytes, square_bytes)), along) in
        parts.zip(state).zip(along.chunks(BLOCK))
    {
        // Copied, because bytes of a view may lie at any alignment.
        let mut blocks = [[0.0_f32; BLOCK]; 4];
        let sources: [&[u8]; 4] = [param_bytes, grad_bytes, average_bytes, square_bytes];
        for (block, source) in blocks.iter_mut().zip(sources) {
            bytemuck::bytes_of_mut(block)[..source.len()].copy_from_slice(source);
        }
        let [param, grad, average, square] = &mut blocks;
        let grad = &grad[..along.len()];
        update(&mut param[..along.len()], grad, average, square, |index| along[index], by);
        for (target, block) in [(param_bytes, param), (average_bytes, average), (square_bytes, square)] {
            let len = target.len();
            target.copy_from_slice(&bytemuck::bytes_of(block)[..len]);
        }
    }
}

/// Renormalises the updated row and stores it, rounded once. Leaves in `values` what was stored.
///
/// # Safety
/// The CPU has the instruction set of `V`; `target` holds as many elements of `dtype` as there are values.
#[inline(always)]
unsafe fn finish<V: Vector>(
    dtype: Dtype,
    values: &mut [f32],
    norm: f64,
    target: &mut [u8],
    c: &Coefficients,
) -> Outcome {
    if !c.unit_norm {
        store(dtype, values, target);
        return Outcome::Unchanged;
    }
    if dtype == Dtype::F32 {
        // SAFETY: by contract.
        let outcome = unsafe { normalize_row_of_norm::<V, F32>(bytemuck::cast_slice_mut(values), norm) };
        store(dtype, values, target);
        return outcome;
    }
    let is_still = values
        .iter()
        .zip(target.as_chunks().0)
        .all(|(value, code)| value.to_bits() == u32::from(u16::from_le_bytes(*code)) << 16);
    if is_still {
        // Stored numbers: within their bound they stay, as they would without a step.
        // SAFETY: by contract.
        return unsafe { normalize_row::<V, Bf16>(target) };
    }
    if norm == 0.0 || !norm.is_finite() {
        store(dtype, values, target);
        return if norm == 0.0 { Outcome::Zero } else { Outcome::Nonfinite };
    }
    // From the updated float32 numbers straight to the stored format: one rounding.
    for (values, target) in values.chunks(BLOCK).zip(target.chunks_mut(BLOCK * 2)) {
        let mut quotients = [0.0; BLOCK];
        for (quotient, value) in quotients.iter_mut().zip(values) {
            *quotient = f64::from(*value) / norm;
        }
        // SAFETY: by contract.
        unsafe { store_block::<Bf16>(&quotients, target) };
    }
    Outcome::Changed
}
