//! One step of Adam on rows of unit length, fused: each of the streams is read once and written once.

use crate::Dtype;
use crate::adam::Coefficients;
use crate::dispatch::Kernel;
use crate::kernel::last_axis::row_norm;
use crate::kernel::narrow::bf16_from_f32;
use crate::kernel::range::{ReadWindow, RowRange, Window, group_of};
use crate::kernel::renorm::{Outcome, normalize_row, store_block};
use crate::kernel::tangent::dot_singles;
use crate::kernel::widen::{BLOCK, Bf16, F32};
use crate::renorm::Normalized;
use crate::vector::{LANES, Vector};

/// One step on some rows. All views have the same rows; each holds f32 or bf16, the master f32.
pub(crate) struct Step<'a> {
    pub(crate) params: RowRange<'a>,
    pub(crate) master: Option<RowRange<'a>>,
    pub(crate) grads: crate::Rows<'a>,
    pub(crate) exp_avg: RowRange<'a>,
    pub(crate) exp_avg_sq: RowRange<'a>,
    pub(crate) coefficients: Coefficients,
}

/// One row in float32.
#[derive(Default)]
struct Row {
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
        let mut row = Row::default();
        let mut total = Normalized::default();
        for start in (0..count).step_by(group) {
            let loaded = group.min(count - start);
            params.load(start, loaded);
            grads.load(first + start, loaded);
            exp_avg.load(start, loaded);
            exp_avg_sq.load(start, loaded);
            if let Some(master) = &mut master {
                master.load(start, loaded);
            }
            for index in 0..loaded {
                match &mut master {
                    Some(master) => load(Dtype::F32, master.row(index), &mut row.param),
                    None => load(param_dtype, params.row(index), &mut row.param),
                }
                load(grads.dtype(), grads.row(index), &mut row.grad);
                load(moment_dtypes.0, exp_avg.row(index), &mut row.exp_avg);
                load(moment_dtypes.1, exp_avg_sq.row(index), &mut row.exp_avg_sq);
                // SAFETY: by contract.
                let outcome = unsafe {
                    if coefficients.unit_norm {
                        remove_parallel::<V>(&mut row.grad, &row.param);
                    }
                    update(&mut row, &coefficients);
                    match &mut master {
                        Some(master) => {
                            let outcome =
                                finish::<V>(Dtype::F32, &mut row.param, master.row(index), &coefficients);
                            store(param_dtype, &row.param, params.row(index));
                            outcome
                        }
                        None => finish::<V>(param_dtype, &mut row.param, params.row(index), &coefficients),
                    }
                };
                store(moment_dtypes.0, &row.exp_avg, exp_avg.row(index));
                store(moment_dtypes.1, &row.exp_avg_sq, exp_avg_sq.row(index));
                total.count(outcome);
            }
            params.store(loaded);
            exp_avg.store(loaded);
            exp_avg_sq.store(loaded);
            if let Some(master) = &mut master {
                master.store(loaded);
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

/// Removes the component of `grad` along `param`, in float64, rounded once; none where there is no direction.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn remove_parallel<V: Vector>(grad: &mut [f32], param: &[f32]) {
    // SAFETY: by contract.
    let along = unsafe { dot_singles::<V>(grad, param) / dot_singles::<V>(param, param) };
    if !along.is_finite() || along == 0.0 {
        return;
    }
    let (grads, grad_rest) = grad.as_chunks_mut::<LANES>();
    let (params, param_rest) = param.as_chunks::<LANES>();
    for (grad, param) in grads.iter_mut().zip(params) {
        // SAFETY: eight float32 each.
        unsafe {
            let part = V::widen(param.as_ptr()).mul(V::splat(along));
            V::widen(grad.as_ptr()).sub(part).narrow(grad.as_mut_ptr());
        }
    }
    for (grad, param) in grad_rest.iter_mut().zip(param_rest) {
        #[expect(clippy::cast_possible_truncation, reason = "the rounding that is asked for")]
        let projected = (f64::from(*grad) - f64::from(*param) * along) as f32;
        *grad = projected;
    }
}

/// The step itself, in float32 and in the order of `torch.optim.Adam(fused=True)`.
#[inline(always)]
fn update(row: &mut Row, by: &Coefficients) {
    let len = row.param.len();
    let (param, grad) = (&mut row.param[..len], &row.grad[..len]);
    let (exp_avg, exp_avg_sq) = (&mut row.exp_avg[..len], &mut row.exp_avg_sq[..len]);
    for index in 0..len {
        let mut value = param[index];
        let mut gradient = grad[index] * by.sign;
        if by.decoupled {
            value *= by.shrink;
        } else {
            gradient += value * by.weight_decay;
        }
        let difference = gradient - exp_avg[index];
        let average = if by.weight_is_small {
            exp_avg[index] + by.one_minus_beta1 * difference
        } else {
            gradient - difference * by.beta1
        };
        let square = exp_avg_sq[index] * by.beta2 + by.one_minus_beta2 * gradient * gradient;
        let denominator = square.sqrt() / by.bias_correction2_sqrt + by.eps;
        exp_avg[index] = average;
        exp_avg_sq[index] = square;
        param[index] = value + by.minus_step_size * average / denominator;
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
    target: &mut [u8],
    c: &Coefficients,
) -> Outcome {
    if !c.unit_norm {
        store(dtype, values, target);
        return Outcome::Unchanged;
    }
    if dtype == Dtype::F32 {
        // SAFETY: by contract.
        let outcome = unsafe { normalize_row::<V, F32>(bytemuck::cast_slice_mut(values)) };
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
    // SAFETY: by contract.
    let norm = unsafe { row_norm::<V, F32>(bytemuck::cast_slice(values), None) };
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
