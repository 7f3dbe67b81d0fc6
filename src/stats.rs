//! The figures of one decoder that lies in memory.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;
use unitrow_audit::stats::{DecoderScan, DecoderShape, DecoderStats, Finish, ScanError, Value};
use unitrow_norms::Dtype;

/// The figures behind a verdict, of rows given as bytes (row-major, little endian).
///
/// Args:
///     data: `rows * len` elements.
///     dtype: `f64`, `f32`, `f16`, `bf16`, `f8_e4m3`, `f8_e5m2`, `f8_e4m3fnuz` or `f8_e5m2fnuz`.
///     rows: Number of rows.
///     len: Elements of a row.
///     strided: Whether the tensor they come from reduces an axis that is not its last.
///     `chunk_rows`: Rows handed over at a time; the figures do not depend on it.
#[pyfunction]
#[pyo3(signature = (data, dtype, rows, len, strided=false, chunk_rows=None))]
pub(crate) fn decoder_stats<'py>(
    py: Python<'py>,
    data: PyBackedBytes,
    dtype: &str,
    rows: usize,
    len: usize,
    strided: bool,
    chunk_rows: Option<usize>,
) -> PyResult<Bound<'py, PyDict>> {
    let known = Dtype::ALL.into_iter().find(|one| one.to_string() == dtype);
    let dtype = known.ok_or_else(|| PyValueError::new_err(format!("unknown dtype {dtype:?}")))?;
    let shape = DecoderShape { dtype, rows, len, strided };
    let stats = py.detach(|| scan(shape, &data, chunk_rows.unwrap_or(rows).max(1)));
    figures(py, &stats.map_err(|error| PyValueError::new_err(error.to_string()))?)
}

fn scan(shape: DecoderShape, data: &[u8], chunk_rows: usize) -> Result<DecoderStats, ScanError> {
    let row_bytes = (shape.len * shape.dtype.size_bytes()).max(1);
    let mut scan = DecoderScan::new(shape);
    loop {
        for (chunk, bytes) in data.chunks(chunk_rows * row_bytes).enumerate().rev() {
            scan.rows(chunk * chunk_rows, bytes)?;
        }
        match scan.finish()? {
            Finish::Stats(stats) => return Ok(*stats),
            Finish::Again(next) => scan = next,
        }
    }
}

/// Figures under their names.
pub(crate) fn figures<'py>(py: Python<'py>, stats: &DecoderStats) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    for (name, value) in stats.fields() {
        match value {
            Value::Bool(value) => fields.set_item(name, value)?,
            Value::OptBool(value) => fields.set_item(name, value)?,
            Value::U64(value) => fields.set_item(name, value)?,
            Value::OptU64(value) => fields.set_item(name, value)?,
            Value::F64(value) => fields.set_item(name, value)?,
            Value::OptF64(value) => fields.set_item(name, value)?,
            Value::Str(value) => fields.set_item(name, value)?,
            Value::F64s(value) => fields.set_item(name, value)?,
            Value::U64s(value) => fields.set_item(name, value)?,
            Value::Pairs(value) => fields.set_item(name, value)?,
        }
    }
    Ok(fields)
}
