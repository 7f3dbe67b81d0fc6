//! One pass over a file's tensors: values of all of them, row statistics of the decoders.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use unitrow_norms::Pool;
use unitrow_tensors::code::{FS_CHANGED, FS_IO};
use unitrow_tensors::{Defect, Error, Source, Table, Tensor};

use crate::header::{FileHeader, defect_of, guarded};
use crate::read::{self, BLOCK_BYTES, MAX_ROW_BYTES};
use crate::stats::{DecoderScan, DecoderShape, DecoderStats, Finish, ScanError};
use crate::values::{Values, look, norm_dtype};
use crate::view::{Block, View};
use crate::watch::Watch;

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
    /// One entry per tensor of the table; `None` where its values were not looked at. Empty if none were wanted.
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
pub fn scan(tasks: &[Task<'_>], pool: &Pool, watch: &Watch) -> Vec<FileScan> {
    let panel_bytes = read::panel_bytes(pool.threads());
    pool.install(|| tasks.par_iter().map(|task| scan_file(task, watch, panel_bytes)).collect())
}

fn scan_file(task: &Task<'_>, watch: &Watch, panel_bytes: usize) -> FileScan {
    let Some(table) = &task.header.table else { return FileScan::default() };
    let source = match guarded(|| open_again(task.header)) {
        Ok(Ok(source)) => source,
        Ok(Err(failure)) => return failed(task, Vec::new(), failure.defect()),
        Err(panicked) => return failed(task, Vec::new(), *panicked),
    };
    let values = if task.values { vec![None; table.tensors.len()] } else { Vec::new() };
    let scan = FileScan { values, ..FileScan::default() };
    let mut scanner = Scanner { table, source, watch, panel_bytes, scan, damaged: BTreeSet::new() };
    let outcome = guarded(|| scanner.run(task));
    scanner.report_values();
    let found = scanner.scan;
    match outcome {
        Ok(Ok(())) => found,
        Ok(Err(failure)) => failed(task, found.defects, failure.defect()),
        Err(panicked) => failed(task, found.defects, *panicked),
    }
}

/// Why a scan of a file ended early.
pub(crate) enum Failure {
    Defect(Box<Defect>),
    Read(Error),
    Scan(ScanError),
    Cancelled,
}

impl Failure {
    fn defect(self) -> Defect {
        match self {
            Self::Defect(defect) => *defect,
            Self::Read(error) => defect_of(&error),
            Self::Scan(error) => Defect::new(FS_IO, error.to_string()),
            Self::Cancelled => Defect::new(FS_IO, "the scan was cancelled"),
        }
    }
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

/// A scan that ended early: what was found before, and why it ended.
fn failed(task: &Task<'_>, mut defects: Vec<Defect>, failure: Defect) -> FileScan {
    if failure.code == FS_CHANGED {
        // What was found is true of neither version of the file.
        defects.clear();
    }
    defects.push(failure);
    let decoders =
        task.decoders.iter().map(|_| Judged::Not("the file could not be read to its end")).collect();
    FileScan { defects, values: Vec::new(), decoders }
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

/// One open file, and what is known about it so far.
struct Scanner<'a> {
    table: &'a Table,
    source: Source,
    watch: &'a Watch,
    panel_bytes: usize,
    scan: FileScan,
    /// Tensors that were found damaged, to look at none twice.
    damaged: BTreeSet<usize>,
}

const DAMAGED: &str = "its compressed data is damaged";

fn changed(message: &str) -> Failure {
    Failure::Defect(Box::new(
        Defect::new(FS_CHANGED, message).hint("audit again when nothing writes to the file"),
    ))
}

impl Scanner<'_> {
    fn run(&mut self, task: &Task<'_>) -> Result<(), Failure> {
        for &decoder in &task.decoders {
            let judged = self.decoder(decoder, task.values)?;
            self.scan.decoders.push(judged);
        }
        if task.values {
            self.all_values()?;
        }
        if self.source.changed()? {
            return Err(changed("the file changed while it was read"));
        }
        Ok(())
    }

    /// Look at the values of the tensors that were not looked at as decoders.
    fn all_values(&mut self) -> Result<(), Failure> {
        for (index, tensor) in self.table.tensors.iter().enumerate() {
            if self.damaged.contains(&index) {
                continue;
            }
            if tensor.member.is_some() && read::stored_at(tensor).is_some() {
                // A compressed member's check sum is compared whenever it is inflated.
                let damage = read::inflate(&self.source, tensor, self.watch, |_| Ok(()))?;
                self.scan.defects.extend(damage);
            }
            if self.scan.values[index].is_none() {
                self.scan.values[index] = self.values(index, tensor)?;
            }
        }
        Ok(())
    }

    /// Say what is wrong with the values that were looked at.
    fn report_values(&mut self) {
        for (tensor, values) in self.table.tensors.iter().zip(&self.scan.values) {
            let start = read::stored_at(tensor).map(|(offset, _)| offset);
            if let Some(values) = values {
                self.scan.defects.extend(values.findings(&tensor.name, tensor.dtype, start));
            }
        }
    }

    /// Keep the damage of a tensor, if there is any, and tell whether there is.
    fn is_damaged(&mut self, index: usize, damage: Option<Defect>) -> bool {
        let Some(defect) = damage else { return false };
        self.scan.defects.push(defect);
        self.damaged.insert(index)
    }

    /// Measure a decoder's rows; its values are counted on the way where they are wanted.
    fn decoder(&mut self, decoder: Decoder, values: bool) -> Result<Judged, Failure> {
        let Some(tensor) = self.table.tensors.get(decoder.tensor) else {
            return Ok(Judged::Not("there is no such tensor"));
        };
        if self.damaged.contains(&decoder.tensor) {
            return Ok(Judged::Not(DAMAGED));
        }
        let (shape, view) = match rows_of(tensor, decoder) {
            Ok(rows) => rows,
            Err(reason) => return Ok(Judged::Not(reason)),
        };
        let item = shape.dtype.size_bytes();
        let blocks =
            view.blocks(item, if view.inner > 1 { self.panel_bytes } else { BLOCK_BYTES }, shape.rows);
        let wants_values = values && decoder.max_rows.is_none() && self.scan.values[decoder.tensor].is_none();
        let seen = Mutex::new(wants_values.then(Values::default));
        let mut rows_scan = DecoderScan::new(shape);
        loop {
            let counting = wants_values && self.scan.values[decoder.tensor].is_none();
            let measure = |block: Block, bytes: &[u8]| -> Result<(), Failure> {
                self.step(bytes)?;
                if counting {
                    let values = look(tensor.dtype, bytes, |offset| in_tensor(view, block, item, offset));
                    if let Some(seen) = seen.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                        seen.merge(&values);
                    }
                }
                Ok(rows_scan.rows(block.first_row, bytes)?)
            };
            if let Some((start, _)) = read::stored_at(tensor) {
                blocks.par_iter().try_for_each(|&block| {
                    read::with_rows(&self.source, tensor, start, view, block, |bytes| measure(block, bytes))?
                })?;
            } else {
                let damage = read::stream_rows(&self.source, tensor, view, &blocks, self.watch, measure)?;
                if self.is_damaged(decoder.tensor, damage) {
                    return Ok(Judged::Not(DAMAGED));
                }
            }
            if let Some(values) = seen.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.scan.values[decoder.tensor] = Some(values);
            }
            match rows_scan.finish()? {
                Finish::Stats(stats) => return Ok(Judged::Stats(stats)),
                Finish::Again(next) => rows_scan = next,
            }
        }
    }

    /// Look at all values of a tensor; `None` if they are damaged.
    fn values(&mut self, index: usize, tensor: &Tensor) -> Result<Option<Values>, Failure> {
        let mut all = Values::default();
        if let Some((start, len)) = read::stored_at(tensor) {
            // Blocks are a multiple of every item size, so that no element is cut.
            let offsets: Vec<u64> = (0..len).step_by(BLOCK_BYTES).collect();
            let looked: Vec<Values> = offsets
                .par_iter()
                .map(|&at| {
                    let count = usize::try_from(len - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
                    read::with_bytes(&self.source, tensor, start + at, count, |bytes| {
                        self.step(bytes)?;
                        Ok(look(tensor.dtype, bytes, |offset| at + offset))
                    })?
                })
                .collect::<Result<_, Failure>>()?;
            for seen in &looked {
                all.merge(seen);
            }
            return Ok(Some(all));
        }
        let Some(view) = View::flat(tensor) else { return Ok(Some(all)) };
        let item = read::item_bytes(tensor).max(1);
        let blocks = view.blocks(item, BLOCK_BYTES, usize::MAX);
        let damage = read::stream_rows(&self.source, tensor, view, &blocks, self.watch, |block, bytes| {
            let at = (block.first_row * item) as u64;
            self.step(bytes)?;
            all.merge(&look(tensor.dtype, bytes, |offset| at + offset));
            Ok(())
        })?;
        Ok((!self.is_damaged(index, damage)).then_some(all))
    }

    /// Tell the watch about a block, and end here if it says so.
    fn step(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.watch.add(bytes.len());
        if self.watch.is_cancelled() { Err(Failure::Cancelled) } else { Ok(()) }
    }
}

/// The rows that are to be measured, or why there are none.
fn rows_of(tensor: &Tensor, decoder: Decoder) -> Result<(DecoderShape, View), &'static str> {
    let dtype = norm_dtype(tensor.dtype).ok_or("norms are not defined for this dtype")?;
    let view = View::along(tensor, decoder.reduce_axis).ok_or("the tensor has no such axis")?;
    if view.rows() == 0 || view.len == 0 {
        return Err("the tensor has no elements");
    }
    if view.len.saturating_mul(dtype.size_bytes()) > MAX_ROW_BYTES {
        return Err("its rows are too long to be a decoder's");
    }
    let rows = view.rows().min(decoder.max_rows.unwrap_or(usize::MAX));
    Ok((DecoderShape { dtype, rows, len: view.len, strided: view.inner > 1 }, view))
}

/// Where an element of a gathered block lies in its tensor, in bytes.
fn in_tensor(view: View, block: Block, item: usize, offset: u64) -> u64 {
    let element = usize::try_from(offset).unwrap_or(usize::MAX) / item;
    let (row, along) = (block.first_row + element / view.len, element % view.len);
    let inner = view.inner.max(1);
    (((row / inner * view.len + along) * inner + row % inner) * item) as u64
}
