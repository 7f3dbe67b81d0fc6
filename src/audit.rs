//! Headers and scans of many files, as plain Python values.

use std::panic;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use unitrow_audit::digest::Algorithm;
use unitrow_audit::header::{FileHeader, read_headers as read_all};
use unitrow_audit::scan::{Decoder, FileScan, Io, Judged, Task, scan as scan_all};
use unitrow_audit::set::check_index as check_one;
use unitrow_audit::values::Frame;
use unitrow_audit::watch::Watch;
use unitrow_norms::Pool;
use unitrow_tensors::{Defect, Tensor};

use crate::errors::ToPyErr;
use crate::stats::figures;

/// Text that describes a tensor, where a container has no header to measure.
const TENSOR_BYTES: u64 = 64;

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

    /// Roughly how many bytes of text this was made from: what it takes in memory is a small multiple.
    #[getter]
    fn weight(&self) -> u64 {
        weight_of(&self.header)
    }

    /// Which state of which file this was: device, inode, size in bytes, and the times of the last change of content
    /// and inode in nanoseconds; `None` if it could not be opened.
    #[getter]
    fn identity(&self) -> Option<(u64, u64, u64, i128, i128)> {
        self.header.identity.map(|one| (one.dev, one.ino, one.size, one.mtime_ns, one.ctime_ns))
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
        described(self.tensor_list())
    }

    /// The same of the tensors that the file is too short for.
    #[getter]
    fn lost(&self) -> Vec<(&str, String, &[u64])> {
        described(self.header.table.as_ref().map_or(&[], |table| &table.lost))
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

fn described(tensors: &[Tensor]) -> Vec<(&str, String, &[u64])> {
    tensors.iter().map(|t| (t.name.as_str(), t.dtype.to_string(), t.shape.as_slice())).collect()
}

fn weight_of(header: &FileHeader) -> u64 {
    header.table.as_ref().map_or(0, |table| table.header_len + TENSOR_BYTES * table.tensors.len() as u64)
}

/// Read and validate the headers of many files; results come in the order of the paths.
///
/// No more are read once those that were weigh `most_weight` bytes: there may then be fewer headers than paths.
#[pyfunction]
#[pyo3(signature = (paths, jobs=None, most_weight=None))]
pub(crate) fn read_headers(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    jobs: Option<usize>,
    most_weight: Option<u64>,
) -> PyResult<Vec<PyFileHeader>> {
    let mut headers: Vec<FileHeader> = Vec::new();
    let work = |pool: &Pool, _: &Watch, sender: &Sender<_>| {
        let mut weight = 0;
        let part = if most_weight.is_some() { 2 * pool.threads() } else { paths.len().max(1) };
        for paths in paths.chunks(part) {
            let read = read_all(paths, pool);
            weight += read.iter().map(weight_of).sum::<u64>();
            if sender.send(read).is_err() || most_weight.is_some_and(|most| weight >= most) {
                return;
            }
        }
    };
    watched(py, jobs, None, work, |read| {
        headers.extend(read);
        Ok(())
    })?;
    Ok(headers.into_iter().map(|header| PyFileHeader { header }).collect())
}

/// Compare a shard index with the files of its folder, of which `headers` were read before.
///
/// Returns `shards`, the names below the folder that the index lists, and `findings`.
#[pyfunction]
pub(crate) fn check_index<'py>(
    py: Python<'py>,
    path: PathBuf,
    headers: Vec<Bound<'py, PyFileHeader>>,
) -> PyResult<Bound<'py, PyDict>> {
    let headers: Vec<&FileHeader> = headers.iter().map(|header| &header.get().header).collect();
    let check = py.detach(|| check_one(&path, &headers));
    let result = PyDict::new(py);
    result.set_item("shards", check.shards)?;
    result.set_item("findings", findings(py, &check.defects)?)?;
    Ok(result)
}

/// One file to scan: its header, `(tensor index, axis to reduce, row limit)` of its decoders, whether the values of all
/// tensors are looked at, and the name of the digest that is wanted.
type PyTask<'py> = (Bound<'py, PyFileHeader>, Vec<(usize, usize, Option<usize>)>, bool, Option<String>);

/// Scan files whose headers were read.
///
/// Returns one dictionary per task: `findings`, `values` by tensor name, for each decoder its figures or the reason why
/// there are none, and `digests`. `progress` is called with the number of bytes done, about ten times a second;
/// `finished` with the place of a task and its dictionary, as soon as that is there. `mapped`: files are mapped, which a
/// file that is cut meanwhile can end with a signal.
#[pyfunction]
#[pyo3(signature = (tasks, jobs=None, progress=None, finished=None, mapped=false))]
pub(crate) fn scan<'py>(
    py: Python<'py>,
    tasks: Vec<PyTask<'py>>,
    jobs: Option<usize>,
    progress: Option<&Bound<'py, PyAny>>,
    finished: Option<&Bound<'py, PyAny>>,
    mapped: bool,
) -> PyResult<Vec<Option<Bound<'py, PyDict>>>> {
    let plan = tasks.iter().map(task).collect::<PyResult<Vec<_>>>()?;
    let io = if mapped { Io::Map } else { Io::Read };
    let mut scans = vec![None; tasks.len()];
    let work = |pool: &Pool, watch: &Watch, sender: &Sender<_>| {
        // Nobody listens any more once a signal has raised.
        scan_all(&plan, io, pool, watch, |index, scan| drop(sender.send((index, scan))));
    };
    watched(py, jobs, progress, work, |(index, scan)| {
        let scan = file_scan(py, tasks[index].0.get(), scan)?;
        if let Some(finished) = finished {
            finished.call1((index, &scan))?;
        }
        scans[index] = Some(scan);
        Ok(())
    })?;
    Ok(scans)
}

fn task<'a>((header, decoders, values, hash): &'a PyTask<'_>) -> PyResult<Task<'a>> {
    let algorithm = |name: &String| {
        Algorithm::from_name(name)
            .ok_or_else(|| PyValueError::new_err(format!("no algorithm is called {name:?}")))
    };
    let decoder = |&(tensor, reduce_axis, max_rows): &(usize, usize, Option<usize>)| Decoder {
        tensor,
        reduce_axis,
        max_rows,
    };
    Ok(Task {
        header: &header.get().header,
        decoders: decoders.iter().map(decoder).collect(),
        values: *values,
        hash: hash.as_ref().map(algorithm).transpose()?,
    })
}

/// Threads that this process may use: its affinity mask, its cgroup, or `UNITROW_NUM_THREADS`.
#[pyfunction]
pub(crate) fn available_threads() -> usize {
    Pool::global().threads()
}

/// Run `work` without the GIL, on `jobs` threads or on as many as this process may use, and give what it sends to `take`.
///
/// Waits for it with open ears: `progress` is called with the bytes done every so often, and a signal (Ctrl-C) or an
/// exception from `progress` or `take` ends the work early.
fn watched<T: Send>(
    py: Python<'_>,
    jobs: Option<usize>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Pool, &Watch, &Sender<T>) + Send,
    mut take: impl FnMut(T) -> PyResult<()>,
) -> PyResult<()> {
    let watch = Watch::default();
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let mut reported = Instant::now();
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let sender = sender;
            let own = jobs.map(Pool::new).transpose()?;
            work(own.as_ref().unwrap_or_else(|| Pool::global()), &watch, &sender);
            Ok(())
        });
        loop {
            let result =
                py.detach(|| receiver.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE));
            let outcome = match result {
                Ok(result) => take(result),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut report = || {
                if reported.elapsed() < PATIENCE {
                    return Ok(());
                }
                reported = Instant::now();
                progress.map_or(Ok(()), |call| call.call1((watch.bytes_done(),)).map(drop))
            };
            if let Err(error) = outcome.and_then(|()| py.check_signals()).and_then(|()| report()) {
                watch.cancel();
                return Err(error); // the scope waits for the worker, which stops at its next block
            }
        }
        match py.detach(|| worker.join()) {
            Ok(outcome) => outcome.map_err(|error: unitrow_norms::Error| error.to_py_err(py)),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}

fn file_scan<'py>(py: Python<'py>, header: &PyFileHeader, scan: FileScan) -> PyResult<Bound<'py, PyDict>> {
    let values = PyDict::new(py);
    let data_end = header.header.table.as_ref().map_or(0, Frame::data_end);
    for (tensor, seen) in header.tensor_list().iter().zip(&scan.values) {
        let Some((seen, counts)) = seen.as_ref().and_then(|seen| Some((seen, seen.counts?))) else {
            continue;
        };
        let fields = PyDict::new(py);
        fields.set_item("nan", counts.nan)?;
        fields.set_item("inf", counts.inf)?;
        fields.set_item("zero", counts.zero)?;
        fields.set_item("min", counts.min)?;
        fields.set_item("max", counts.max)?;
        fields
            .set_item("zero_pages_are_rows", seen.zero_pages_are_rows(&Frame::of(tensor, data_end, &[])))?;
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
    let digests = PyDict::new(py);
    if let Some((algorithm, hex)) = scan.digest {
        digests.set_item(algorithm.name(), hex)?;
    }
    result.set_item("digests", digests)?;
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
