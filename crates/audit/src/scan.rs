//! One pass over a file's tensors: values of all of them, row statistics of the decoders.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use unitrow_norms::Pool;
use unitrow_tensors::code::{FS_CHANGED, FS_IO};
use unitrow_tensors::{Defect, Error, Source, Table, Tensor};

use crate::header::FileHeader;
use crate::read::{self, BLOCK_BYTES, MAX_ROW_BYTES, PANEL_BYTES};
use crate::stats::{DecoderScan, DecoderShape, DecoderStats, Finish, ScanError};
use crate::values::{Values, look, norm_dtype};
use crate::view::{Block, View};

/// A tensor whose rows are to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoder {
    /// Index of the tensor in its file's table.
    pub tensor: usize,
    /// The axis that norms reduce over: the model axis.
    pub reduce_axis: usize,
    /// Look at no more than so many rows; a probe, not a verdict.
    pub max_rows: Option<usize>,
}

/// One file to scan, and what to look for in it.
#[derive(Debug)]
pub struct Task<'a> {
    /// The file, as its header was read.
    pub header: &'a FileHeader,
    /// The tensors to judge as decoders.
    pub decoders: Vec<Decoder>,
    /// Whether the values of all tensors are looked at too.
    pub values: bool,
}

/// What a scan learned about one file.
#[derive(Debug, Default)]
pub struct FileScan {
    /// Findings on values, on compressed members, and on a file that changed or could not be read.
    pub defects: Vec<Defect>,
    /// One entry per tensor of the table; `None` where its values were not looked at.
    pub values: Vec<Option<Values>>,
    /// One entry per decoder asked for, in that order.
    pub decoders: Vec<Judged>,
}

/// Row statistics of a decoder, or why there are none.
#[derive(Debug)]
pub enum Judged {
    /// All rows asked for were measured.
    Stats(Box<DecoderStats>),
    /// The tensor was not measured, and this is the reason.
    Not(&'static str),
}

/// Scan files in parallel; results come in the order of the tasks and do not depend on the number of threads.
///
/// Never fails: a file that cannot be read to its end has a finding that says so, and no statistics.
#[must_use]
pub fn scan(tasks: &[Task<'_>], pool: &Pool) -> Vec<FileScan> {
    pool.install(|| tasks.par_iter().map(scan_file).collect())
}

fn scan_file(task: &Task<'_>) -> FileScan {
    let Some(table) = &task.header.table else { return FileScan::default() };
    match open_again(task.header).and_then(|source| scan_open(task, table, &source)) {
        Ok(scan) => scan,
        Err(Failure::Defect(defect)) => failed(task, *defect),
        Err(Failure::Read(error)) => failed(task, error.defect()),
        Err(Failure::Scan(error)) => failed(task, Defect::new(FS_IO, error.to_string())),
    }
}

enum Failure {
    Defect(Box<Defect>),
    Read(Error),
    Scan(ScanError),
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Read(error)
    }
}

fn failed(task: &Task<'_>, defect: Defect) -> FileScan {
    let decoders =
        task.decoders.iter().map(|_| Judged::Not("the file could not be read to its end")).collect();
    FileScan { defects: vec![defect], values: Vec::new(), decoders }
}

/// Open a file whose header was read before, and make sure that it is still that file.
fn open_again(header: &FileHeader) -> Result<Source, Failure> {
    let source = Source::open(&header.path)?;
    if Some(source.identity()) == header.identity {
        Ok(source)
    } else {
        Err(changed("the file changed between the reading of its header and of its data"))
    }
}

fn scan_open(task: &Task<'_>, table: &Table, source: &Source) -> Result<FileScan, Failure> {
    let mut scan = FileScan { values: vec![None; table.tensors.len()], ..FileScan::default() };
    for &decoder in &task.decoders {
        let judged = scan_decoder(table, source, decoder, task.values, &mut scan)?;
        scan.decoders.push(judged);
    }
    if task.values {
        for tensor in &table.tensors {
            scan.defects.extend(unitrow_tensors::check_crc(source, tensor)?);
        }
        for (index, tensor) in table.tensors.iter().enumerate() {
            if scan.values[index].is_none() {
                let values = scan_values(source, tensor, &mut scan.defects)?;
                scan.values[index] = Some(values);
            }
        }
        for (tensor, values) in table.tensors.iter().zip(&scan.values) {
            let start = read::stored_at(tensor).map(|(offset, _)| offset);
            if let Some(values) = values {
                scan.defects.extend(values.findings(&tensor.name, tensor.dtype, start));
            }
        }
    }
    if source.changed()? {
        return Err(changed("the file changed while it was read"));
    }
    Ok(scan)
}

fn changed(message: &str) -> Failure {
    Failure::Defect(Box::new(
        Defect::new(FS_CHANGED, message).hint("audit again when nothing writes to the file"),
    ))
}

/// Measure a decoder's rows; its values are counted on the way where they are wanted.
fn scan_decoder(
    table: &Table,
    source: &Source,
    decoder: Decoder,
    values: bool,
    scan: &mut FileScan,
) -> Result<Judged, Failure> {
    let Some(tensor) = table.tensors.get(decoder.tensor) else {
        return Ok(Judged::Not("there is no such tensor"));
    };
    let Some(dtype) = norm_dtype(tensor.dtype) else {
        return Ok(Judged::Not("norms are not defined for this dtype"));
    };
    let Some(view) = View::along(tensor, decoder.reduce_axis) else {
        return Ok(Judged::Not("the tensor has no such axis"));
    };
    if view.rows() == 0 || view.len == 0 {
        return Ok(Judged::Not("the tensor has no elements"));
    }
    if view.len.saturating_mul(dtype.size_bytes()) > MAX_ROW_BYTES {
        return Ok(Judged::Not("its rows are too long to be a decoder's"));
    }
    let rows = view.rows().min(decoder.max_rows.unwrap_or(usize::MAX));
    let shape = DecoderShape { dtype, rows, len: view.len, strided: view.inner > 1 };
    let item = dtype.size_bytes();
    let blocks = view.blocks(item, if view.inner > 1 { PANEL_BYTES } else { BLOCK_BYTES }, rows);
    let wants_values = values && decoder.max_rows.is_none() && scan.values[decoder.tensor].is_none();
    let mut rows_scan = DecoderScan::new(shape);
    let mut first_pass = wants_values;
    loop {
        let seen = Mutex::new(Values::default());
        let measure = |block: Block, bytes: &[u8]| -> Result<(), ScanError> {
            if first_pass {
                let values = look(tensor.dtype, bytes, |offset| in_tensor(view, block, item, offset));
                seen.lock().unwrap_or_else(PoisonError::into_inner).merge(&values);
            }
            rows_scan.rows(block.first_row, bytes)
        };
        if let Some((start, _)) = read::stored_at(tensor) {
            blocks.par_iter().try_for_each(|&block| {
                read::with_rows(source, tensor, start, view, block, |bytes| measure(block, bytes))?
                    .map_err(Failure::from)
            })?;
        } else {
            let mut outcome = Ok(());
            let damage = read::stream_rows(source, tensor, view, &blocks, |block, bytes| {
                if outcome.is_ok() {
                    outcome = measure(block, bytes);
                }
            })?;
            outcome?;
            if damage.is_some() {
                scan.defects.extend(damage);
                return Ok(Judged::Not("its compressed data is damaged"));
            }
        }
        if first_pass {
            scan.values[decoder.tensor] = Some(seen.into_inner().unwrap_or_else(PoisonError::into_inner));
            first_pass = false;
        }
        match rows_scan.finish()? {
            Finish::Stats(stats) => return Ok(Judged::Stats(stats)),
            Finish::Again(next) => rows_scan = next,
        }
    }
}

/// Where an element of a gathered block lies in its tensor, in bytes.
fn in_tensor(view: View, block: Block, item: usize, offset: u64) -> u64 {
    let element = offset as usize / item;
    let (row, along) = (block.first_row + element / view.len, element % view.len);
    let inner = view.inner.max(1);
    (((row / inner * view.len + along) * inner + row % inner) * item) as u64
}

fn scan_values(source: &Source, tensor: &Tensor, defects: &mut Vec<Defect>) -> Result<Values, Failure> {
    let mut all = Values::default();
    if let Some((start, len)) = read::stored_at(tensor) {
        // A multiple of every item size, so that no element is cut.
        let offsets: Vec<u64> = (0..len).step_by(BLOCK_BYTES).collect();
        let looked: Vec<Values> = offsets
            .par_iter()
            .map(|&at| {
                let count = (len - at).min(BLOCK_BYTES as u64) as usize;
                read::with_bytes(source, tensor, start + at, count, |bytes| {
                    look(tensor.dtype, bytes, |offset| at + offset)
                })
            })
            .collect::<Result<_, Error>>()?;
        looked.iter().for_each(|seen| all.merge(seen));
        return Ok(all);
    }
    // Compressed: a row is as good a unit as any, and memory stays bounded by a block.
    let item = read::item_bytes(tensor).max(1);
    let elements = tensor.shape.iter().product::<u64>() as usize;
    let view = View { outer: elements, len: 1, inner: 1 };
    let blocks = view.blocks(item, BLOCK_BYTES, usize::MAX);
    let damage = read::stream_rows(source, tensor, view, &blocks, |block, bytes| {
        let at = (block.first_row * item) as u64;
        all.merge(&look(tensor.dtype, bytes, |offset| at + offset));
    })?;
    defects.extend(damage);
    Ok(all)
}
