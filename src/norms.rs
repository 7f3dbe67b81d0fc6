//! Row norms of arrays: plan the walk, let go of the interpreter, call the kernels.

use numpy::{IxDyn, PyArray, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;
use unitrow_norms::{self as kernels, Pool, Rows};

use crate::arrays::geometry::Plan;
use crate::arrays::{Access, Array};
use crate::errors::ToPyErr;

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
    let result = PyArray::<f64, IxDyn>::zeros(py, rest, false);
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

/// The walk over arrays of one shape, or words for the one order that cannot be walked.
fn plan<const N: usize>(arrays: [&Array<'_>; N], axis: usize) -> PyResult<Plan<N>> {
    Plan::new(arrays[0].shape(), arrays.map(Array::strides), axis).ok_or_else(|| {
        arrays[0].refused(
            "runs backwards along the row axis (negative stride); numpy.ascontiguousarray() makes a copy",
        )
    })
}

/// Runs `work` without the interpreter where that is worth it.
fn detached<R: Send>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> R + Send) -> R {
    if bytes < DETACH_BYTES { work() } else { py.detach(work) }
}
