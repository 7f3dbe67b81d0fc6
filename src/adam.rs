//! The fused, constrained Adam step on four arrays of one shape.

use pyo3::prelude::*;
use unitrow_norms::{self as kernels, Adam, AdamTensors, Pool, Rows, RowsMut};

use crate::arrays::{Access, Array};
use crate::errors::ToPyErr;
use crate::norms::{detached, plan};

/// One step of Adam on unit rows, in place; see `unitrow.torch.UnitNormAdam`.
#[pyfunction]
#[pyo3(signature = (
    parameter, grad, exp_avg, exp_avg_sq, axis=-1, *,
    master=None, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
    decoupled=true, maximize=false, unit_norm=true,
))]
#[expect(clippy::too_many_arguments, reason = "the hyperparameters of Adam")]
pub(crate) fn adam_step_(
    parameter: &Bound<'_, PyAny>,
    grad: &Bound<'_, PyAny>,
    exp_avg: &Bound<'_, PyAny>,
    exp_avg_sq: &Bound<'_, PyAny>,
    axis: isize,
    master: Option<&Bound<'_, PyAny>>,
    step: u64,
    lr: f64,
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    maximize: bool,
    unit_norm: bool,
) -> PyResult<()> {
    let py = parameter.py();
    let options = Adam { lr, betas, eps, weight_decay, decoupled, maximize, step, unit_norm };
    let grad = Array::borrow(grad, Access::Read)?;
    let mut weight = Array::borrow(parameter, Access::Write)?;
    let mut mean = Array::borrow(exp_avg, Access::Write)?;
    let mut square = Array::borrow(exp_avg_sq, Access::Write)?;
    let mut master = master.map(|master| Array::borrow(master, Access::Write)).transpose()?;
    let arrays: Vec<&Array<'_>> = [&weight, &grad, &mean, &square].into_iter().chain(&master).collect();
    for (index, first) in arrays.iter().enumerate() {
        for second in &arrays[index + 1..] {
            first.check_same_shape(second)?;
            first.check_apart(second)?;
        }
    }
    // Without a master, the walk over one is that over the parameter.
    let arrays = [&weight, &grad, &mean, &square, master.as_ref().unwrap_or(&weight)];
    let plan = plan(arrays, weight.axis(axis)?)?;
    let starts: Vec<[usize; 5]> =
        plan.offsets().map(|offsets| std::array::from_fn(|n| arrays[n].position(offsets[n]))).collect();
    let dtypes = arrays.map(Array::dtype);
    let span_bytes = weight.span_bytes();
    let grad_bytes = grad.bytes();
    let (weights, means, squares) = (weight.bytes_mut(), mean.bytes_mut(), square.bytes_mut());
    let mut masters = master.as_mut().map(Array::bytes_mut);
    let run = || {
        for [w, g, m, v, f] in starts {
            let rows_mut = |bytes, n: usize| RowsMut::strided(bytes, dtypes[n], plan.shape, plan.strides[n]);
            let tensors = AdamTensors {
                params: rows_mut(&mut weights[w..], 0)?,
                master: (masters.as_deref_mut()).map(|bytes| rows_mut(&mut bytes[f..], 4)).transpose()?,
                grads: Rows::strided(&grad_bytes[g..], dtypes[1], plan.shape, plan.strides[1])?,
                exp_avg: rows_mut(&mut means[m..], 2)?,
                exp_avg_sq: rows_mut(&mut squares[v..], 3)?,
            };
            kernels::adam_step(tensors, &options, Some(Pool::global()))?;
        }
        Ok(())
    };
    detached(py, span_bytes, run).map_err(|error: kernels::Error| error.to_py_err(py))?;
    for array in [&weight, &mean, &square].into_iter().chain(&master) {
        array.written()?;
    }
    Ok(())
}
