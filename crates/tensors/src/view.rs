//! A read-only map of a file.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

use memmap2::{Advice, Mmap, MmapOptions};

/// The bytes of a file, mapped read-only; they stay mapped for as long as this lives.
///
/// What a map cannot promise, and why it is offered all the same:
/// - **Another process cuts the file.** Touching a page beyond the new end raises SIGBUS, which ends the process. No
///   check beforehand excludes it. Whoever must survive it reads through [`Source::read_exact_at`] instead, as every
///   header is read.
/// - **Another process writes to the file.** The bytes change under a shared slice, which the language does not allow
///   for plain memory. Nothing here or above derives an index, a length or a discriminant from mapped bytes: they are
///   only ever summed, hashed or copied as numbers, so a torn value gives a wrong figure and not a wrong access;
///   [`Source::changed`] then tells that the figure is void.
/// - **The file is saved over by renaming** (which is what every careful writer does): the map keeps the old bytes.
///
/// [`Source::read_exact_at`]: crate::Source::read_exact_at
/// [`Source::changed`]: crate::Source::changed
#[derive(Debug)]
pub struct Mapping {
    // An empty file cannot be mapped; it needs no map either.
    map: Option<Mmap>,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which the caller has compared with its size.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { map: None });
        }
        Ok(Self { map: Some(map(file, len)?) })
    }
}

impl Mapping {
    /// Tells the system that the bytes will be read once, from the first to the last.
    ///
    /// # Errors
    /// What the system said; the advice changes nothing but speed.
    pub fn advise_sequential(&self) -> io::Result<()> {
        self.map.as_ref().map_or(Ok(()), |map| map.advise(Advice::Sequential))
    }

    /// Brings a range into memory, so that reading it soon after waits for no disk.
    ///
    /// Where the file no longer reaches so far, or its disk fails, this is an error, and touching the bytes would be a
    /// signal. It is a check of the moment, not a promise: the file can be cut right after.
    ///
    /// # Errors
    /// What the system said: `EFAULT` for bytes that are not there, `EINVAL` where it does not know the request.
    #[cfg(target_os = "linux")]
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let Some(map) = &self.map else { return Ok(()) };
        if range.start > range.end || range.end > map.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if range.is_empty() {
            return Ok(());
        }
        map.advise_range(Advice::PopulateRead, range.start, range.len())
    }
}

#[expect(unsafe_code, reason = "a map's bytes belong to a file that others can change")]
fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and nothing in this process writes to checkpoints that it has open. That other
    // processes leave the file alone cannot be checked; the consequences are those that `Mapping` lists, which its
    // users accept or avoid by reading.
    unsafe { MmapOptions::new().len(len).map(file) }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
