//! Headers and scans of many files, as plain Python values.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use unitrow_audit::header::{FileHeader, read_headers as read_all};
use unitrow_audit::scan::{Decoder, FileScan, Judged, Task, scan as scan_all};
use unitrow_audit::watch::Watch;
use unitrow_norms::Pool;
use unitrow_tensors::{Defect, Tensor};

use crate::errors::ToPyErr;
use crate::stats::figures;

/// How long to wait for a result before signals are looked at.
const PATIENCE: Duration = Duration::from_millis(100);

/// A file's header: its tensors, its metadata, and what is wrong with its structure.
#[pyclass(frozen, name = "FileHeader", module = "unitrow._native")]
pub(crate) struct PyFileHeader {
    header: FileHeader,
}

#[pymethods]
impl PyFileHeader {
    /// Path of the file.
    #[getter]
    fn path(&self) -> &PathBuf {
        &self.header.path
    }

    /// Size of the file in bytes; 0 if it could not be read.
    #[getter]
    fn size(&self) -> u64 {
        self.header.table.as_ref().map_or(0, |table| table.file_len)
    }

    /// What the bytes are: `safetensors`, `npz`, `npy`, `torch-zip` or `unknown`.
    #[getter]
    fn container(&self) -> &'static str {
        self.header.table.as_ref().map_or("unknown", |table| table.container.as_str())
    }

    /// Whether the structure lets the values be read.
    #[getter]
    fn sound(&self) -> bool {
        self.header.table.as_ref().is_some_and(|table| table.sound)
    }

    /// `(name, dtype, shape)` of the tensors that are well formed, in the file's order.
    #[getter]
    fn tensors(&self) -> Vec<(&str, String, &[u64])> {
        self.tensor_list()
            .iter()
            .map(|t| (t.name.as_str(), t.dtype.to_string(), t.shape.as_slice()))
            .collect()
    }

    /// The container's own metadata.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in self.header.table.iter().flat_map(|table| &table.metadata) {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }

    /// What is wrong with the structure, as dictionaries.
    #[getter]
    fn findings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        findings(py, self.header.defects())
    }
}

impl PyFileHeader {
    fn tensor_list(&self) -> &[Tensor] {
        self.header.table.as_ref().map_or(&[], |table| &table.tensors)
    }
}

/// Read and validate the headers of many files; results come in the order of the paths.
#[pyfunction]
#[pyo3(signature = (paths, jobs=None))]
pub(crate) fn read_headers(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    jobs: Option<usize>,
) -> PyResult<Vec<PyFileHeader>> {
    let headers = watched(py, jobs, None, |pool, _| read_all(&paths, pool))?;
    Ok(headers.into_iter().map(|header| PyFileHeader { header }).collect())
}

/// One file to scan: its header, `(tensor index, axis to reduce, row limit)` of its decoders, and whether the
/// values of all tensors are looked at.
type PyTask<'py> = (Bound<'py, PyFileHeader>, Vec<(usize, usize, Option<usize>)>, bool);

/// Scan files whose headers were read.
///
/// Returns one dictionary per task: `findings`, `values` by tensor name, and for each decoder its figures or the
/// reason why there are none. `progress` is called with the number of bytes done, about ten times a second.
#[pyfunction]
#[pyo3(signature = (tasks, jobs=None, progress=None))]
pub(crate) fn scan<'py>(
    py: Python<'py>,
    tasks: Vec<PyTask<'py>>,
    jobs: Option<usize>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let plan: Vec<Task<'_>> = tasks
        .iter()
        .map(|(header, decoders, values)| Task {
            header: &header.get().header,
            decoders: decoders
                .iter()
                .map(|&(tensor, reduce_axis, max_rows)| Decoder { tensor, reduce_axis, max_rows })
                .collect(),
            values: *values,
        })
        .collect();
    let scans = watched(py, jobs, progress, |pool, watch| scan_all(&plan, pool, watch))?;
    tasks.iter().zip(scans).map(|((header, ..), scan)| file_scan(py, header.get(), scan)).collect()
}

/// Threads that this process may use: its affinity mask, its cgroup, or `UNITROW_NUM_THREADS`.
#[pyfunction]
pub(crate) fn available_threads() -> usize {
    Pool::global().threads()
}

/// Run `work` without the GIL, on `jobs` threads or on as many as this process may use.
///
/// Waits for it with open ears: `progress` is called with the bytes done every so often, and a signal (Ctrl-C) or an
/// exception from `progress` ends the work early.
fn watched<T: Send>(
    py: Python<'_>,
    jobs: Option<usize>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Pool, &Watch) -> T + Send,
) -> PyResult<T> {
    let watch = Watch::default();
    let done = Mutex::new(None);
    let ready = Condvar::new();
    let lock = || done.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        scope.spawn(|| {
            let result = panic::catch_unwind(AssertUnwindSafe(|| match jobs {
                None => Ok(work(Pool::global(), &watch)),
                Some(threads) => Pool::new(threads).map(|pool| work(&pool, &watch)),
            }));
            *lock() = Some(result);
            ready.notify_one();
        });
        loop {
            let result = py.detach(|| {
                let waited = ready.wait_timeout_while(lock(), PATIENCE, |done| done.is_none());
                waited.unwrap_or_else(PoisonError::into_inner).0.take()
            });
            match result {
                Some(Ok(result)) => return result.map_err(|error| error.to_py_err(py)),
                Some(Err(panic)) => panic::resume_unwind(panic),
                None => {}
            }
            let report = || progress.map_or(Ok(()), |call| call.call1((watch.bytes_done(),)).map(drop));
            if let Err(error) = py.check_signals().and_then(|()| report()) {
                watch.cancel();
                return Err(error); // the scope waits for the worker, which stops at its next block
            }
        }
    })
}

fn file_scan<'py>(py: Python<'py>, header: &PyFileHeader, scan: FileScan) -> PyResult<Bound<'py, PyDict>> {
    let values = PyDict::new(py);
    for (tensor, seen) in header.tensor_list().iter().zip(&scan.values) {
        let Some(counts) = seen.as_ref().and_then(|seen| seen.counts.as_ref()) else { continue };
        let fields = PyDict::new(py);
        fields.set_item("nan", counts.nan)?;
        fields.set_item("inf", counts.inf)?;
        fields.set_item("zero", counts.zero)?;
        fields.set_item("min", counts.min)?;
        fields.set_item("max", counts.max)?;
        values.set_item(&tensor.name, fields)?;
    }
    let decoders = PyList::empty(py);
    for judged in scan.decoders {
        match judged {
            Judged::Stats(stats) => decoders.append(figures(py, &stats)?)?,
            Judged::Not(reason) => decoders.append(reason)?,
        }
    }
    let result = PyDict::new(py);
    result.set_item("findings", findings(py, &scan.defects)?)?;
    result.set_item("values", values)?;
    result.set_item("decoders", decoders)?;
    Ok(result)
}

fn findings<'py>(py: Python<'py>, defects: &[Defect]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for defect in defects {
        let finding = PyDict::new(py);
        finding.set_item("code", defect.code.name)?;
        finding.set_item("severity", defect.severity.as_str())?;
        finding.set_item("tensor", &defect.tensor)?;
        finding.set_item("byte_offset", defect.byte_offset)?;
        finding.set_item("length", defect.length)?;
        finding.set_item("expected", &defect.expected)?;
        finding.set_item("found", &defect.found)?;
        finding.set_item("message", &defect.message)?;
        finding.set_item("hint", &defect.hint)?;
        list.append(finding)?;
    }
    Ok(list)
}
