//! One pass over a file's bytes: digest, values of all tensors, row statistics of the decoders.

use std::cmp::Reverse;

use rayon::prelude::*;
use unitrow_norms::Pool;
use unitrow_tensors::code::{FS_CHANGED, FS_IO};
use unitrow_tensors::{Defect, Error, Mapping, Source};

use crate::digest::Algorithm;
use crate::header::{FileHeader, defect_of, guarded};
use crate::pass::Buffers;
use crate::read;
use crate::scanner::Scanner;
use crate::stats::{DecoderStats, ScanError};
use crate::values::{Frame, Pages, Values};
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
    /// The digest of the file's bytes that is wanted too.
    pub hash: Option<Algorithm>,
}

/// What a scan learned about one file.
#[derive(Debug, Default)]
pub struct FileScan {
    /// Findings on values, on members of archives, on digests, and on a file that changed or could not be read.
    pub defects: Vec<Defect>,
    /// One entry per tensor of the table; `None` where its values were not looked at. Empty if none were wanted.
    pub values: Vec<Option<Values>>,
    /// One entry per decoder asked for, in that order.
    pub decoders: Vec<Judged>,
    /// The digest that was asked for, in lower-case hexadecimal; `None` where the file could not be read to its end.
    pub digest: Option<(Algorithm, String)>,
}

/// Row statistics of a decoder, or why there are none.
#[derive(Debug)]
pub enum Judged {
    /// All rows asked for were measured.
    Stats(Box<DecoderStats>),
    /// The tensor was not measured, and this is the reason.
    Not(&'static str),
}

/// How the bytes of tensors are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// By positional reads into buffers that are used again: whatever happens to a file is an error of that file.
    Read,
    /// Through a map, where rows are contiguous. A file that is cut can end the process with a signal.
    Map,
}

/// Scan files in parallel, and give each result to `finished` with the place of its task, as soon as it is there.
///
/// Results do not depend on the number of threads. Nothing fails: a file that cannot be read to its end has a finding
/// that says so, and no statistics.
pub fn scan(
    tasks: &[Task<'_>],
    io: Io,
    pool: &Pool,
    watch: &Watch,
    finished: impl Fn(usize, FileScan) + Sync,
) {
    let shared =
        Shared { io, watch, panel_bytes: read::panel_bytes(pool.threads()), buffers: Buffers::default() };
    // The longest first, so that none is left for the end when threads have nothing else to do.
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    let len = |index: usize| tasks[index].header.table.as_ref().map_or(0, |table| table.file_len);
    order.sort_by_key(|&index| (Reverse(len(index)), index));
    let one = |index: usize| finished(index, scan_file(&tasks[index], &shared));
    pool.install(|| order.into_iter().par_bridge().for_each(one));
}

/// What all files of a scan have in common.
pub(crate) struct Shared<'a> {
    io: Io,
    pub(crate) watch: &'a Watch,
    pub(crate) panel_bytes: usize,
    pub(crate) buffers: Buffers,
}

fn scan_file(task: &Task<'_>, shared: &Shared<'_>) -> FileScan {
    let Some(table) = &task.header.table else { return FileScan::default() };
    let opened = guarded(|| {
        let source = open_again(task.header)?;
        let mapping = if shared.io == Io::Map { Some(source.map()?) } else { None };
        Ok((source, mapping))
    });
    let (source, mapping): (Source, Option<Mapping>) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(failure)) => return failed(task, Vec::new(), Failure::defect(failure)),
        Err(panicked) => return failed(task, Vec::new(), *panicked),
    };
    let mut found = FileScan::default();
    let scanner = Scanner {
        table,
        source: &source,
        mapping: mapping.as_ref(),
        shared,
        data_end: Frame::data_end(table),
        pages: Pages::default(),
    };
    let outcome = guarded(|| scanner.run(task, &mut found));
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
    FileScan { defects, decoders, ..FileScan::default() }
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

pub(crate) fn changed(message: &str) -> Failure {
    Failure::Defect(Box::new(
        Defect::new(FS_CHANGED, message).hint("audit again when nothing writes to the file"),
    ))
}
