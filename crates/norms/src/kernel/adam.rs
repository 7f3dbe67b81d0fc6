//! One step of Adam on rows of unit length, fused: each of the streams is read once and written once.

use crate::Dtype;
use crate::adam::Coefficients;
use crate::dispatch::Kernel;
use crate::kernel::adam_row::{Row, renormalise};
use crate::kernel::narrow::bf16_from_f32;
use crate::kernel::range::{ReadWindow, RowRange, Window, group_of};
use crate::kernel::renorm::{Outcome, normalize_row, store_block};
use crate::kernel::widen::{BLOCK, Bf16};
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
        let outcome = unsafe { renormalise::<V>(values, norm) };
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
