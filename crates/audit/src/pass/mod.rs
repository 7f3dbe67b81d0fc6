//! One pass over a file: its digest, the check sums of its members, and every tensor as runs of whole rows, all from
//! the same bytes.
//!
//! The file is divided into windows at multiples of [`WINDOW_BYTES`]. Whoever has a window hashes its bytes and looks
//! at the rows that begin in it; the last of them is read beyond the window's end. Without a digest, and with one whose
//! tree allows it, windows are taken by all threads in any order. SHA-256 needs them in order: see [`line`].

mod buffers;
mod line;
#[cfg(test)]
mod tests;
mod window;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use unitrow_tensors::{Mapping, Source};

use crate::digest::{Algorithm, Hashers, hash_leaves};
use crate::scan::Failure;
use crate::watch::Watch;

pub(crate) use buffers::Buffers;
use window::{Bytes, Loaded, Window, place};
pub(crate) use window::{Part, Sums, WINDOW_BYTES};

/// What takes the rows of a part: its place among the parts, the offset in the tensor, and the bytes.
type UseRows<'a> = dyn Fn(usize, u64, &[u8]) -> Result<(), Failure> + Sync + 'a;

/// What is to be read of a file, and who wants it.
pub(crate) struct Pass<'a> {
    pub(crate) source: &'a Source,
    /// The file's bytes where they are mapped; they are read otherwise.
    pub(crate) mapping: Option<&'a Mapping>,
    pub(crate) watch: &'a Watch,
    pub(crate) buffers: &'a Buffers,
    /// Tensors to look at, sorted by offset, none overlapping another.
    pub(crate) parts: &'a [Part],
    /// Members whose check sums are wanted.
    pub(crate) sums: &'a Sums,
    /// The digest of the whole file that is wanted.
    pub(crate) hash: Option<Algorithm>,
    /// Where the data begins whose SHA-256 is wanted beside that of the file.
    pub(crate) data_start: Option<u64>,
    pub(crate) use_rows: &'a UseRows<'a>,
}

/// The digests that a pass computed, in lower-case hexadecimal.
#[derive(Debug, Default)]
pub(crate) struct Hashed {
    /// Of the whole file.
    pub(crate) file: Option<(Algorithm, String)>,
    /// SHA-256 of the data alone.
    pub(crate) data: Option<String>,
}

/// Why a pass ended early.
pub(crate) struct Stopped {
    /// Everything that begins and ends before this offset was looked at.
    pub(crate) at: u64,
    pub(crate) failure: Failure,
}

impl Pass<'_> {
    /// Read what is wanted, once.
    pub(crate) fn run(&self) -> Result<Hashed, Stopped> {
        let fault = Fault::default();
        let hashed = match self.hash {
            None => {
                // One by one: rows of decoders take longer than other bytes, and whoever is done first takes more.
                (0..place(self.windows())).into_par_iter().with_max_len(1).for_each(|index| {
                    self.take(index as u64, &fault, |_| ());
                });
                Hashed::default()
            }
            Some(Algorithm::Blake3) => {
                let Ok(hash) = hash_leaves(self.source.len(), WINDOW_BYTES, &|leaf, hasher| {
                    self.take(leaf.start / WINDOW_BYTES, &fault, |own| {
                        hasher.update(own);
                    });
                    Ok::<(), Infallible>(())
                });
                Hashed { file: Some((Algorithm::Blake3, hash.to_hex().to_string())), data: None }
            }
            Some(algorithm) => self.in_order(algorithm, &fault),
        };
        fault.result().map(|()| hashed)
    }

    fn in_order(&self, algorithm: Algorithm, fault: &Fault) -> Hashed {
        let mut file = Hashers::new(&[algorithm], self.source.len());
        let mut data = self.data_start.map(|start| (start, Hashers::new(&[Algorithm::Sha256], 0)));
        line::run(self, fault, |start, own| {
            file.update(own);
            if let Some((data_start, hashers)) = &mut data {
                let header = usize::try_from(data_start.saturating_sub(start)).unwrap_or(usize::MAX);
                hashers.update(own.get(header..).unwrap_or_default());
            }
        });
        let only = |hashers: Hashers| hashers.finish().into_iter().next();
        Hashed { file: only(file), data: data.and_then(|(_, hashers)| only(hashers)).map(|(_, hex)| hex) }
    }

    fn windows(&self) -> u64 {
        self.source.len().div_ceil(WINDOW_BYTES)
    }

    /// Give a window's own bytes to `hash`, and look at the rows that begin in it.
    fn take(&self, index: u64, fault: &Fault, hash: impl FnOnce(&[u8])) {
        if fault.is_before(index) {
            return;
        }
        let outcome = self.load(index).and_then(|loaded| {
            hash(loaded.own());
            let outcome = self.look(&loaded);
            self.leave(loaded);
            outcome
        });
        fault.keep(index, outcome);
    }

    /// A window whose rows were looked at; `None` if it, or one before it, could not be.
    fn prepare(&self, index: u64, fault: &Fault) -> Option<Loaded<'_>> {
        if fault.is_before(index) {
            return None;
        }
        let outcome = self.load(index).and_then(|loaded| self.look(&loaded).map(|()| loaded));
        outcome.map_err(|failure| fault.keep(index, Err(failure))).ok()
    }

    /// The bytes of a window, in a buffer that is used again or in the map.
    fn load(&self, index: u64) -> Result<Loaded<'_>, Failure> {
        let window = Window::new(index, self.source.len(), self.hash.is_some(), self.parts, self.sums);
        if self.watch.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let bytes = if let Some(mapping) = self.mapping {
            Bytes::Mapped(window.mapped(mapping)?)
        } else {
            let mut buffer = self.buffers.take(window.len());
            self.source.read_exact_at(&mut buffer, window.from)?;
            Bytes::Read(buffer)
        };
        Ok(Loaded { window, bytes })
    }

    fn leave(&self, loaded: Loaded<'_>) {
        if let Bytes::Read(buffer) = loaded.bytes {
            self.buffers.give(buffer);
        }
    }

    /// Hand out the rows that begin in a window, and add to the check sums.
    fn look(&self, loaded: &Loaded<'_>) -> Result<(), Failure> {
        let (window, bytes) = (&loaded.window, loaded.bytes());
        self.sums.add(window, bytes);
        for (index, part) in window.parts(self.parts) {
            let Some(rows) = window.rows_of(part) else { continue };
            let within = window.within(&rows);
            self.watch.add(within.len());
            (self.use_rows)(index, rows.start - part.start, &bytes[within])?;
        }
        Ok(())
    }
}

/// The first failure in the order of windows, whatever the order in which they were taken.
#[derive(Default)]
struct Fault {
    found: Mutex<Option<(u64, Failure)>>,
    /// One more than the window that failed, counted down from the end; 0 if none did.
    least: AtomicU64,
}

impl Fault {
    /// Whether a window before this one failed, so that this one is of no use.
    fn is_before(&self, index: u64) -> bool {
        u64::MAX - self.least.load(Ordering::Relaxed) < index
    }

    fn keep(&self, index: u64, outcome: Result<(), Failure>) {
        let Err(failure) = outcome else { return };
        self.least.fetch_max(u64::MAX - index, Ordering::Relaxed);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref().is_none_or(|&(first, _)| index < first) {
            *found = Some((index, failure));
        }
    }

    fn result(self) -> Result<(), Stopped> {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.map_or(Ok(()), |(index, failure)| Err(Stopped { at: index * WINDOW_BYTES, failure }))
    }
}
