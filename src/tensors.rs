//! Containers: files mapped for reading, and files written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use unitrow_audit::values::norm_dtype;
use unitrow_audit::view::View;
use unitrow_norms::{Pool, Rows};
use unitrow_tensors::{Defect, Dtype, Mapping, Severity, Source, Storage, Table};

use crate::arrays::export::MappedBytes;
use crate::errors::{Class, ToPyErr};

/// A checkpoint file, mapped read-only.
#[pyclass(frozen, name = "MappedFile", module = "unitrow._native")]
pub(crate) struct MappedFile {
    path: PathBuf,
    source: Source,
    mapping: Arc<Mapping>,
    table: Table,
}

#[pymethods]
impl MappedFile {
    /// Map a file and validate its header.
    ///
    /// Raises:
    ///     `OSError`: The file cannot be read.
    ///     `FormatError`: Its structure is not what its format demands.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| {
            let source = Source::open(&path)?;
            let table = unitrow_tensors::read_table(&source)?;
            let mapping = Arc::new(source.map()?);
            Ok((source, table, mapping))
        });
        let (source, table, mapping) = opened.map_err(|error: unitrow_tensors::Error| error.to_py_err(py))?;
        if let Some(defect) = table.defects.iter().find(|defect| defect.severity >= Severity::Fail) {
            return Err(Class::Format.error(py, format!("{}: {}", path.display(), in_words(defect))));
        }
        Ok(Self { path, source, mapping, table })
    }

    /// What the bytes are: `safetensors`, `npz` or `npy`.
    #[getter]
    fn container(&self) -> &'static str {
        self.table.container.as_str()
    }

    /// `(name, dtype, shape, fortran order, big endian)` of every tensor, in the file's order.
    #[getter]
    fn tensors(&self) -> Vec<(&str, &'static str, &[u64], bool, bool)> {
        self.table
            .tensors
            .iter()
            .map(|t| (t.name.as_str(), t.dtype.name(), t.shape.as_slice(), t.fortran_order, t.big_endian))
            .collect()
    }

    /// The container's own metadata.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in &self.table.metadata {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }

    /// Norms of a tensor's rows along `axis`, straight from the mapped bytes; float64, one number a row.
    ///
    /// Rows come in the order of the bytes: for a tensor in Fortran order, that of the reversed shape.
    ///
    /// Raises:
    ///     `ArrayTypeError`: Norms are not defined for the tensor's dtype.
    ///     `ArrayError`: There is no such axis, or elements are compressed or big-endian.
    fn row_norms<'py>(
        &self,
        py: Python<'py>,
        index: usize,
        axis: usize,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let Some(tensor) = self.table.tensors.get(index) else {
            return Err(pyo3::exceptions::PyIndexError::new_err(index));
        };
        let Some(dtype) = norm_dtype(tensor.dtype) else {
            return Err(Class::ArrayType.error(py, format!("norms are not defined for {}", tensor.dtype)));
        };
        let Storage::Stored { offset, len } = tensor.storage else {
            return Err(Class::Array.error(py, "the tensor is compressed"));
        };
        let Some(view) = View::along(tensor, axis).filter(|_| !tensor.big_endian) else {
            return Err(Class::Array.error(py, format!("no axis {axis} that can be measured in place")));
        };
        let Some(bytes) = MappedBytes::new(&self.mapping, offset, len) else {
            return Err(Class::Format.error(py, "the tensor lies outside the file"));
        };
        let norms = py.detach(|| {
            let rows = Rows::contiguous(bytes.as_slice(), dtype, view.outer, view.len, view.inner)?;
            let mut norms = unitrow_norms::zeros(rows.count())?;
            unitrow_norms::row_norms(rows, &mut norms, Some(Pool::global()))?;
            Ok(norms)
        });
        let norms: Vec<f64> = norms.map_err(|error: unitrow_norms::Error| error.to_py_err(py))?;
        Ok(PyArray1::from_vec(py, norms))
    }

    /// The bytes of a tensor by its index: mapped where they are stored, inflated where they are compressed.
    ///
    /// Raises:
    ///     `FormatError`: The compressed bytes are damaged.
    fn bytes<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        let Some(tensor) = self.table.tensors.get(index) else {
            return Err(pyo3::exceptions::PyIndexError::new_err(index));
        };
        if let Storage::Stored { offset, len } = tensor.storage {
            let Some(bytes) = MappedBytes::new(&self.mapping, offset, len) else {
                let message =
                    format!("{}: tensor {} lies outside the file", self.path.display(), tensor.name);
                return Err(Class::Format.error(py, message));
            };
            return Ok(Bound::new(py, bytes)?.into_any());
        }
        let inflated = py.detach(|| {
            let mut bytes = Vec::new();
            let damage = unitrow_tensors::inflate(&self.source, tensor, &mut |piece| {
                bytes.extend_from_slice(piece);
                std::ops::ControlFlow::Continue(())
            })?;
            Ok((bytes, damage))
        });
        match inflated.map_err(|error: unitrow_tensors::Error| error.to_py_err(py))? {
            (bytes, None) => Ok(pyo3::types::PyByteArray::new(py, &bytes).into_any()),
            (_, Some(damage)) => {
                Err(Class::Format.error(py, format!("{}: {}", self.path.display(), in_words(&damage))))
            }
        }
    }
}

/// `(name, dtype, shape, little-endian row-major bytes)` of a tensor to write.
type Part = (String, String, Vec<u64>, pyo3::pybacked::PyBackedBytes);

/// The same as the writers take it.
type Borrowed<'a> = (&'a str, Dtype, &'a [u64], &'a [u8]);

/// Write a safetensors file: to a temporary file, synced, renamed.
#[pyfunction]
pub(crate) fn write_safetensors(
    py: Python<'_>,
    path: PathBuf,
    tensors: Vec<Part>,
    metadata: Vec<(String, String)>,
) -> PyResult<()> {
    let parts = parts(py, &path, &tensors)?;
    py.detach(|| unitrow_tensors::write_safetensors(&path, &parts, &metadata))
        .map_err(|error| error.to_py_err(py))
}

/// Write an uncompressed npz file: to a temporary file, synced, renamed.
#[pyfunction]
pub(crate) fn write_npz(py: Python<'_>, path: PathBuf, tensors: Vec<Part>) -> PyResult<()> {
    let parts = parts(py, &path, &tensors)?;
    py.detach(|| unitrow_tensors::write_npz(&path, &parts)).map_err(|error| error.to_py_err(py))
}

/// `(code, usual severity)` of every finding that the Rust side can raise.
#[pyfunction]
pub(crate) fn codes() -> Vec<(&'static str, &'static str)> {
    let all: [&[unitrow_tensors::Code]; 2] = [unitrow_tensors::code::ALL, unitrow_audit::values::ALL];
    all.concat().iter().map(|code| (code.name, code.severity.as_str())).collect()
}

fn parts<'a>(py: Python<'_>, path: &Path, tensors: &'a [Part]) -> PyResult<Vec<Borrowed<'a>>> {
    let part = |(name, dtype, shape, bytes): &'a Part| match Dtype::from_name(dtype) {
        Some(known) => Ok((name.as_str(), known, shape.as_slice(), &**bytes)),
        None => Err(Class::Format.error(
            py,
            format!(
                "{}: tensor {name}: expected a safetensors dtype such as F32, found {dtype}",
                path.display()
            ),
        )),
    };
    tensors.iter().map(part).collect()
}

fn in_words(defect: &Defect) -> String {
    let place = defect.byte_offset.map_or(String::new(), |offset| format!(" at byte {offset}"));
    format!("{}{place}: {}", defect.code.name, defect.message)
}
