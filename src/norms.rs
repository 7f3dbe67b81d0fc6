//! Operations on the rows of arrays: plan the walk, let go of the interpreter, call the kernels.

use numpy::{PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use unitrow_norms::{self as kernels, Compat, Normalize, Normalized, OnDegenerate, Pool, Rows, RowsMut};

use crate::arrays::geometry::Plan;
use crate::arrays::{Access, Array};
use crate::errors::{Class, ToPyErr};

/// Below this many bytes a kernel is done before another thread could take over the interpreter.
const DETACH_BYTES: usize = 32 << 10;

/// Row norms; see `unitrow.arrays.row_norms`.
#[pyfunction]
#[pyo3(signature = (x, axis=-1))]
pub(crate) fn row_norms<'py>(x: &Bound<'py, PyAny>, axis: isize) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    let py = x.py();
    let array = Array::borrow(x, Access::Read)?;
    let axis = array.axis(axis)?;
    let plan = plan([&array], axis)?;
    let mut rest = array.shape().to_vec();
    rest.remove(axis);
    let result = zeros(py, rest)?;
    {
        let mut result = result.readwrite();
        let norms = result.as_slice_mut()?;
        let (bytes, dtype) = (array.bytes(), array.dtype());
        let size = plan.rows_per_block();
        let blocks: Vec<usize> = plan.offsets().map(|[offset]| array.position(offset)).collect();
        let run = || {
            for (start, norms) in blocks.into_iter().zip(norms.chunks_mut(size.max(1))) {
                let rows = Rows::strided(&bytes[start..], dtype, plan.shape, plan.strides[0])?;
                kernels::row_norms(rows, norms, Some(Pool::global()))?;
            }
            Ok(())
        };
        detached(py, array.span_bytes(), run).map_err(|error: kernels::Error| error.to_py_err(py))?;
    }
    Ok(result)
}

/// In-place renormalisation; see `unitrow.arrays.normalize_rows_`. Counts changed, unchanged, zero and
/// non-finite rows.
#[pyfunction]
#[pyo3(signature = (x, axis=-1, *, on_degenerate="keep", compat=None))]
pub(crate) fn normalize_rows_(
    x: &Bound<'_, PyAny>,
    axis: isize,
    on_degenerate: &str,
    compat: Option<&str>,
) -> PyResult<(usize, usize, usize, usize)> {
    let py = x.py();
    let options = Normalize {
        compat: match compat {
            None => Compat::Exact,
            Some("torch") => Compat::Torch,
            Some(other) => {
                let message = format!("compat is None or 'torch', not '{other}'");
                return Err(Class::Array.error(py, message));
            }
        },
        on_degenerate: match on_degenerate {
            "keep" => OnDegenerate::Keep,
            "raise" => OnDegenerate::Raise,
            other => {
                let message = format!("on_degenerate is 'keep' or 'raise', not '{other}'");
                return Err(Class::Array.error(py, message));
            }
        },
    };
    let mut array = Array::borrow(x, Access::Write)?;
    let plan = plan([&array], array.axis(axis)?)?;
    if plan.count() > 1 && options.on_degenerate == OnDegenerate::Raise {
        // Block after block could not promise that nothing was written before the refusal.
        check_directions(&array, &plan).map_err(|error| error.to_py_err(py))?;
    }
    let starts: Vec<usize> = plan.offsets().map(|[offset]| array.position(offset)).collect();
    let (span_bytes, dtype) = (array.span_bytes(), array.dtype());
    let bytes = array.bytes_mut();
    let run = || {
        let mut total = Normalized::default();
        for start in starts {
            let rows = RowsMut::strided(&mut bytes[start..], dtype, plan.shape, plan.strides[0])?;
            total = total + kernels::normalize_rows(rows, options, Some(Pool::global()))?;
        }
        Ok(total)
    };
    let Normalized { changed, unchanged, zero, nonfinite } =
        detached(py, span_bytes, run).map_err(|error: kernels::Error| error.to_py_err(py))?;
    array.written()?;
    Ok((changed, unchanged, zero, nonfinite))
}

/// In-place gradient projection; see `unitrow.arrays.remove_parallel_`.
#[pyfunction]
#[pyo3(signature = (grad, rows, axis=-1))]
pub(crate) fn remove_parallel_(
    grad: &Bound<'_, PyAny>,
    rows: &Bound<'_, PyAny>,
    axis: isize,
) -> PyResult<()> {
    let py = grad.py();
    let rows = Array::borrow(rows, Access::Read)?;
    let mut grad = Array::borrow(grad, Access::Write)?;
    grad.check_same_shape(&rows)?;
    grad.check_apart(&rows)?;
    let plan = plan([&grad, &rows], grad.axis(axis)?)?;
    let starts: Vec<[usize; 2]> = plan.offsets().map(|[g, r]| [grad.position(g), rows.position(r)]).collect();
    let (span_bytes, grad_dtype) = (grad.span_bytes(), grad.dtype());
    let (row_bytes, rows_dtype) = (rows.bytes(), rows.dtype());
    let grad_bytes = grad.bytes_mut();
    let run = || {
        for [g, r] in starts {
            let grad = RowsMut::strided(&mut grad_bytes[g..], grad_dtype, plan.shape, plan.strides[0])?;
            let rows = Rows::strided(&row_bytes[r..], rows_dtype, plan.shape, plan.strides[1])?;
            kernels::remove_parallel(grad, rows, Some(Pool::global()))?;
        }
        Ok(())
    };
    detached(py, span_bytes, run).map_err(|error: kernels::Error| error.to_py_err(py))?;
    grad.written()
}

/// An array of zeros, or numpy's own exception, where `PyArray::zeros` would panic: shapes are a caller's.
fn zeros(py: Python<'_>, shape: Vec<usize>) -> PyResult<Bound<'_, PyArrayDyn<f64>>> {
    static ZEROS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let array = ZEROS.import(py, "numpy", "zeros")?.call1((PyTuple::new(py, shape)?,))?;
    Ok(array.cast_into()?)
}

/// Refuses if any row is zero or not finite.
fn check_directions(array: &Array<'_>, plan: &Plan<1>) -> Result<(), kernels::Error> {
    let (mut zero, mut nonfinite) = (0, 0);
    let mut norms = kernels::zeros(plan.rows_per_block())?;
    for [offset] in plan.offsets() {
        let bytes = &array.bytes()[array.position(offset)..];
        let rows = Rows::strided(bytes, array.dtype(), plan.shape, plan.strides[0])?;
        kernels::row_norms(rows, &mut norms, Some(Pool::global()))?;
        zero += norms.iter().filter(|norm| **norm == 0.0).count();
        nonfinite += norms.iter().filter(|norm| !norm.is_finite()).count();
    }
    if zero + nonfinite > 0 {
        return Err(kernels::Error::Degenerate { zero, nonfinite });
    }
    Ok(())
}

/// The walk over arrays of one shape, or words for the one order that cannot be walked.
pub(crate) fn plan<const N: usize>(arrays: [&Array<'_>; N], axis: usize) -> PyResult<Plan<N>> {
    Plan::new(arrays[0].shape(), arrays.map(Array::strides), axis).ok_or_else(|| {
        arrays[0].refused(
            "runs backwards along the row axis (negative stride); numpy.ascontiguousarray() makes a copy",
        )
    })
}

/// Runs `work` without the interpreter where that is worth it.
pub(crate) fn detached<R: Send>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> R + Send) -> R {
    if bytes < DETACH_BYTES { work() } else { py.detach(work) }
}
