//! Zeros that no training leaves: runs that begin and end where the pages of the file do.

use unitrow_tensors::Severity;

use super::frame::{Frame, PAGE_BYTES};

/// Runs inside a block that are kept; more of them change nothing that is said.
const MAX_RUNS: usize = 8;

/// Runs of a tensor that are compared with one another.
const MAX_JUDGED: usize = 1024;

/// A run that reaches the end of the data is a lost tail from so many pages on.
const TAIL_PAGES: u64 = 4;

/// Bytes of a tensor, from the first to before the second.
type Run = (u64, u64);

/// Runs of zero elements: those that hold a page of the file, and those that may go on in the next block.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ZeroRuns {
    runs: Vec<Run>,
}

/// What the runs of a tensor amount to.
#[derive(Debug, PartialEq)]
pub(super) struct ZeroPages {
    /// The first of the worst runs.
    pub(super) worst: Run,
    pub(super) severity: Severity,
    /// Whether all runs are made of whole rows.
    pub(super) whole_rows: bool,
    /// How many runs there are, and their length together.
    pub(super) runs: usize,
    pub(super) bytes: u64,
}

/// Whether every byte is zero; ends at the first that is not.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    zero_prefix(bytes) == bytes.len()
}

fn zero_prefix(bytes: &[u8]) -> usize {
    const STEP: usize = 64;
    let none = |chunk: &&[u8]| chunk.iter().fold(0, |all, &byte| all | byte) == 0;
    let whole = bytes.chunks_exact(STEP).take_while(none).count() * STEP;
    whole + bytes[whole..].iter().take_while(|&&byte| byte == 0).count()
}

fn zero_suffix(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|&&byte| byte == 0).count()
}

impl ZeroRuns {
    /// The runs of a block that begins `at` bytes into the tensor; `zero_bytes` is how much of it is zero elements.
    pub(super) fn of(frame: &Frame, at: u64, bytes: &[u8], zero_bytes: u64) -> Self {
        let mut found = Self::default();
        let Some(start) = frame.start.filter(|_| zero_bytes > 0) else { return found };
        let item = usize::try_from(frame.item_bytes()).unwrap_or(1);
        let before = zero_prefix(bytes) / item * item;
        let after = if before == bytes.len() { 0 } else { zero_suffix(bytes) / item * item };
        found.push(at, 0, before);
        found.push(at, bytes.len() - after, bytes.len());
        if zero_bytes < PAGE_BYTES || before == bytes.len() {
            return found;
        }
        let page = usize::try_from(PAGE_BYTES).unwrap_or(4096);
        let mut next = usize::try_from((start + at).next_multiple_of(PAGE_BYTES) - (start + at)).unwrap_or(0);
        let mut left = MAX_RUNS;
        while left > 0 && next + page <= bytes.len() {
            if !is_zero(&bytes[next..next + page]) {
                next += page;
                continue;
            }
            let first = (next - zero_suffix(&bytes[..next])).next_multiple_of(item);
            let end = (next + page + zero_prefix(&bytes[next + page..])) / item * item;
            if first > 0 && end < bytes.len() {
                found.push(at, first, end);
                left -= 1;
            }
            next += (end - next).next_multiple_of(page);
        }
        found
    }

    fn push(&mut self, at: u64, first: usize, end: usize) {
        if first < end {
            self.runs.push((at + first as u64, at + end as u64));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.runs.extend_from_slice(&other.runs);
    }

    /// What the runs of a whole tensor, not itself all zero, say about lost pages.
    pub(super) fn judge(&self, frame: &Frame) -> Option<ZeroPages> {
        let start = frame.start?;
        let runs = self.whole(frame, start);
        let place = Places { frame, start };
        let several = |alike: &dyn Fn(&&Run) -> bool| runs.iter().filter(alike).take(2).count() > 1;
        let repeated = |run: &Run| several(&|other| place.is_same(*run, **other));
        let structured = |run: &Run| several(&|other| place.is_like(*run, **other));
        let weighed: Vec<(Severity, Run)> = runs
            .iter()
            .filter_map(|run| {
                let severity = place.weigh(*run, || repeated(run), || structured(run))?;
                Some((severity, *run))
            })
            .collect();
        let severity = weighed.iter().map(|&(severity, _)| severity).max()?;
        let &(_, worst) = weighed.iter().find(|(one, _)| *one == severity)?;
        Some(ZeroPages {
            worst,
            severity,
            whole_rows: weighed.iter().all(|(_, run)| place.on_row(run.0) && place.on_row(run.1)),
            runs: weighed.len(),
            bytes: weighed.iter().map(|(_, run)| run.1 - run.0).sum(),
        })
    }

    /// Runs joined across blocks, without whole slices of a tensor of slices, that hold a page of the file.
    fn whole(&self, frame: &Frame, start: u64) -> Vec<Run> {
        let mut sorted = self.runs.clone();
        sorted.sort_unstable();
        let mut joined: Vec<Run> = Vec::new();
        for run in sorted {
            match joined.last_mut() {
                Some(last) if run.0 <= last.1 => last.1 = last.1.max(run.1),
                _ => joined.push(run),
            }
        }
        let slice = frame.slice_bytes().max(1);
        let parts = joined.into_iter().flat_map(|(first, end)| {
            let (from, to) = (first.next_multiple_of(slice), end / slice * slice);
            if frame.rank() > 2 && from < to {
                [(first, from), (to, end)]
            } else {
                [(first, end), (end, end)]
            }
        });
        let pages = |run: &Run| pages_of(start, *run) > 0;
        parts.filter(pages).take(MAX_JUDGED).collect()
    }
}

/// Whole pages of the file in a run of a tensor that begins at `start`.
fn pages_of(start: u64, run: Run) -> u64 {
    let (first, end) =
        ((start + run.0).next_multiple_of(PAGE_BYTES), (start + run.1) / PAGE_BYTES * PAGE_BYTES);
    end.saturating_sub(first) / PAGE_BYTES
}

/// Where the ends of runs lie.
struct Places<'a> {
    frame: &'a Frame,
    start: u64,
}

impl Places<'_> {
    /// Whether a place in the tensor is a page's edge, up to the element that an edge cuts.
    fn on_page(&self, place: u64) -> bool {
        let item = self.frame.item_bytes();
        let within = (self.start + place) % PAGE_BYTES;
        within < item || PAGE_BYTES - within < item
    }

    fn on_row(&self, place: u64) -> bool {
        place.is_multiple_of(self.frame.row_bytes().max(1))
    }

    /// Whether only the pages of the file explain why zeros end here.
    fn by_page(&self, place: u64) -> bool {
        self.on_page(place) && !self.on_row(place)
    }

    /// Whether two runs, or a run and itself, follow one pattern of the matrix: a mask, or padding at the end of rows.
    fn is_like(&self, run: Run, other: Run) -> bool {
        let row = self.frame.row_bytes().max(1);
        let from = run.0 % row == other.0 % row;
        let to = run.1 % row == other.1 % row;
        (from && (to || self.on_row(run.0))) || (to && self.on_row(run.1))
    }

    /// Whether two runs, or a run and itself, take the same part of their rows.
    fn is_same(&self, run: Run, other: Run) -> bool {
        let row = self.frame.row_bytes().max(1);
        !self.on_row(run.0) && run.0 % row == other.0 % row && run.1 - run.0 == other.1 - other.0
    }

    fn weigh(
        &self,
        run: Run,
        repeated: impl Fn() -> bool,
        structured: impl Fn() -> bool,
    ) -> Option<Severity> {
        let (first, end) = run;
        let to_end = end == self.frame.len;
        // Columns that are padded end an array in Fortran order as a lost tail would.
        let columns = self.frame.transposed && self.on_row(first);
        let tail = to_end && self.frame.is_last && !columns && pages_of(self.start, run) >= TAIL_PAGES;
        let framed = (self.on_page(first) || first == 0) && (self.on_page(end) || to_end);
        if tail && self.frame.rank() == 2 && !repeated()
            || framed && (self.by_page(first) || self.by_page(end))
        {
            return Some(Severity::Fail);
        }
        if self.on_row(first) && self.on_row(end) {
            // Zero rows are counted as such.
            return (framed && self.frame.rank() == 2).then_some(Severity::Warn);
        }
        let by_page = self.by_page(first) || self.by_page(end);
        (self.frame.rank() > 1 && (by_page || !structured())).then_some(Severity::Warn)
    }
}
