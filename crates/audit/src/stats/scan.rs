//! The scan: takes rows from any thread, in any order, and hands their results on in the order of rows.

use std::sync::{Mutex, PoisonError};

use unitrow_norms::Counts;

use super::DecoderShape;
use super::chunk::{Chunk, Plan, scan_chunk};
use super::figures::DecoderStats;
use super::finish::{Outcome, finish};

/// Why a scan cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The bytes are not whole rows of this decoder.
    #[error(
        "rows from {first_row}: {found_bytes} bytes are no whole rows of {row_bytes} bytes within {rows} rows"
    )]
    Rows {
        /// Where the rows were said to begin.
        first_row: usize,
        /// How many bytes came.
        found_bytes: usize,
        /// Bytes of one row.
        row_bytes: usize,
        /// Rows of the decoder.
        rows: usize,
    },
    /// Some rows never came, or came twice.
    #[error("row {row} was given {times} times")]
    Coverage {
        /// The first such row.
        row: usize,
        /// 0 or more than 1.
        times: usize,
    },
    /// The shape does not fit the address space.
    #[error("{rows} rows of {len} elements do not fit the address space")]
    Shape {
        /// Rows of the decoder.
        rows: usize,
        /// Elements of a row.
        len: usize,
    },
    /// The norm kernels refused.
    #[error(transparent)]
    Norms(#[from] unitrow_norms::Error),
}

/// Collects the figures of one decoder.
#[derive(Debug)]
pub struct DecoderScan {
    shape: DecoderShape,
    plan: Plan,
    chunks: Mutex<Vec<Chunk>>,
}

/// What a finished scan gives.
#[derive(Debug)]
pub enum Finish {
    /// The figures.
    Stats(Box<DecoderStats>),
    /// One more pass over the same rows decides what this one had to leave open. Rare: the elements of the
    /// first rows looked like another format than the rest, or norms lie within a row's own tolerance of a
    /// limit that only the median of all norms gives. The next scan always ends in [`Finish::Stats`].
    Again(DecoderScan),
}

impl DecoderScan {
    /// A scan of a decoder of this shape.
    #[must_use]
    pub fn new(shape: DecoderShape) -> Self {
        Self::with_plan(shape, Plan::FIRST)
    }

    fn with_plan(shape: DecoderShape, plan: Plan) -> Self {
        Self { shape, plan, chunks: Mutex::default() }
    }

    /// The decoder that is scanned.
    #[must_use]
    pub fn shape(&self) -> &DecoderShape {
        &self.shape
    }

    /// Measures consecutive whole rows: `bytes` holds them row-major, in the decoder's stored type, little
    /// endian, at any alignment. Callable from many threads at once; every row must come exactly once. Returns the
    /// counts over their elements.
    ///
    /// # Errors
    /// [`ScanError::Rows`] where the bytes are no whole rows of the decoder.
    pub fn rows(&self, first_row: usize, bytes: &[u8]) -> Result<Counts, ScanError> {
        let DecoderShape { rows, len, .. } = self.shape;
        let row_bytes = self.shape.row_len_bytes().ok_or(ScanError::Shape { rows, len })?;
        let wrong = ScanError::Rows { first_row, found_bytes: bytes.len(), row_bytes, rows };
        if row_bytes == 0 {
            return if bytes.is_empty() { Ok(Counts::EMPTY) } else { Err(wrong) };
        }
        let end = first_row.checked_add(bytes.len() / row_bytes);
        if !bytes.len().is_multiple_of(row_bytes) || end.is_none_or(|end| end > rows) {
            return Err(wrong);
        }
        let chunk = scan_chunk(&self.shape, row_bytes, &self.plan, first_row, bytes)?;
        let counts = chunk.elements;
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        Ok(counts)
    }

    /// The figures over all rows, or the scan that completes them.
    ///
    /// # Errors
    /// [`ScanError::Coverage`] unless every row came exactly once.
    pub fn finish(self) -> Result<Finish, ScanError> {
        let mut chunks = self.chunks.into_inner().unwrap_or_else(PoisonError::into_inner);
        chunks.retain(|chunk| !chunk.norms.is_empty());
        chunks.sort_by_key(|chunk| chunk.first_row);
        let mut next = 0;
        for chunk in &chunks {
            if chunk.first_row != next {
                let (row, times) = if chunk.first_row > next { (next, 0) } else { (chunk.first_row, 2) };
                return Err(ScanError::Coverage { row, times });
            }
            next += chunk.norms.len();
        }
        if next != self.shape.rows && self.shape.len != 0 {
            return Err(ScanError::Coverage { row: next, times: 0 });
        }
        Ok(match finish(&self.shape, &self.plan, &chunks) {
            Outcome::Stats(stats) => Finish::Stats(stats),
            Outcome::Again(plan) => Finish::Again(Self::with_plan(self.shape, plan)),
        })
    }

    /// The figures of rows that lie in memory as a whole, in as many passes as it takes.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn whole(shape: DecoderShape, bytes: &[u8]) -> Result<DecoderStats, ScanError> {
        let mut scan = Self::new(shape);
        loop {
            scan.rows(0, bytes)?;
            match scan.finish()? {
                Finish::Stats(stats) => return Ok(*stats),
                Finish::Again(next) => scan = next,
            }
        }
    }
}
