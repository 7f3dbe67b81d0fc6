//! Digests of files and content ids of checkpoints; interruptible, because hashing takes as long as a disk does.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use unitrow_audit::digest::{
    Algorithm, Request, content_ids as all_content_ids, digest_files as all_digests,
};
use unitrow_norms::Pool;
use unitrow_tensors::Defect;

use crate::errors::ToPyErr;

/// How long an interruption may go unnoticed.
const PATIENCE: Duration = Duration::from_millis(50);

/// A file, the names of the digests wanted, and the range of bytes they cover.
type PyRequest = (PathBuf, Vec<String>, Option<(u64, u64)>);

/// Digest many files, each in one read; results come in the order of the requests.
///
/// Each is a dictionary: `size` and `digests` by algorithm, or `finding` where the file could not be read.
#[pyfunction]
#[pyo3(signature = (requests, jobs=None))]
pub(crate) fn digest_files(
    py: Python<'_>,
    requests: Vec<PyRequest>,
    jobs: Option<usize>,
) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let requests = requests.into_iter().map(request).collect::<PyResult<Vec<_>>>()?;
    let results = interruptible(py, jobs, |pool, stop| all_digests(&requests, pool, stop))?;
    results
        .into_iter()
        .map(|result| {
            let fields = PyDict::new(py);
            match result {
                Ok(found) => {
                    let digests = PyDict::new(py);
                    for (algorithm, hex) in found.hex {
                        digests.set_item(algorithm.name(), hex)?;
                    }
                    fields.set_item("size", found.len)?;
                    fields.set_item("digests", digests)?;
                }
                Err(defect) => fields.set_item("finding", finding(py, &defect)?)?,
            }
            Ok(fields)
        })
        .collect()
}

/// Content ids of checkpoints, each given as its files; results come in the order of the sets.
///
/// Each is a dictionary: `content`, `size` and `tensors`, or `finding` and the index `file` of the file it is about.
#[pyfunction]
#[pyo3(signature = (sets, jobs=None))]
pub(crate) fn content_ids(
    py: Python<'_>,
    sets: Vec<Vec<PathBuf>>,
    jobs: Option<usize>,
) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let results = interruptible(py, jobs, |pool, stop| all_content_ids(&sets, pool, stop))?;
    results
        .into_iter()
        .map(|result| {
            let fields = PyDict::new(py);
            match result {
                Ok(content) => {
                    fields.set_item("content", content.hex)?;
                    fields.set_item("size", content.len)?;
                    fields.set_item("tensors", content.tensors)?;
                }
                Err(missing) => {
                    fields.set_item("finding", finding(py, &missing.defect)?)?;
                    fields.set_item("file", missing.file)?;
                }
            }
            Ok(fields)
        })
        .collect()
}

fn request((path, names, range): PyRequest) -> PyResult<Request> {
    let algorithm = |name: &String| {
        Algorithm::from_name(name)
            .ok_or_else(|| PyValueError::new_err(format!("no algorithm is called {name:?}")))
    };
    let algorithms = names.iter().map(algorithm).collect::<PyResult<_>>()?;
    Ok(Request { path, algorithms, range: range.map(|(start, end)| start..end) })
}

/// Run `work` on other threads while this one looks for signals; the first that raises stops the work.
fn interruptible<T: Send>(
    py: Python<'_>,
    jobs: Option<usize>,
    work: impl FnOnce(&Pool, &AtomicBool) -> T + Send,
) -> PyResult<T> {
    let own = jobs.map(Pool::new).transpose().map_err(|error| error.to_py_err(py))?;
    let pool = own.as_ref().unwrap_or_else(|| Pool::global());
    let stop = AtomicBool::new(false);
    py.detach(|| {
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let (work, stop) = (work, &stop);
            scope.spawn(move || {
                // Nobody listens any more once a signal has raised.
                let _ = sender.send(work(pool, stop));
            });
            loop {
                match receiver.recv_timeout(PATIENCE) {
                    Ok(result) => return Ok(result),
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(error) = Python::attach(check_signals) {
                            stop.store(true, Ordering::Relaxed);
                            return Err(error);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(PyErr::new::<pyo3::exceptions::PyRuntimeError, _>(
                            "the thread that hashes ended without a result",
                        ));
                    }
                }
            }
        })
    })
}

/// A function of its own, because a method does not fit every lifetime that `attach` may give.
fn check_signals(py: Python<'_>) -> PyResult<()> {
    py.check_signals()
}

fn finding<'py>(py: Python<'py>, defect: &Defect) -> PyResult<Bound<'py, PyDict>> {
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
    Ok(finding)
}
