//! A window of a file: which bytes belong to it, and which rows begin in it.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use unitrow_tensors::{Mapping, Tensor};

use crate::read::stored_at;
use crate::scan::{Failure, changed};

/// Length of a window: it stays in the second-level cache for everyone who wants its bytes.
pub(crate) const WINDOW_BYTES: u64 = 512 << 10;

/// A stored tensor, or its beginning, that is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Index of the tensor in its table.
    pub(crate) tensor: usize,
    /// First byte in the file.
    pub(crate) start: u64,
    /// Length in bytes, a multiple of `row_bytes`.
    pub(crate) len: u64,
    /// What is never divided: at least 1 and at most [`WINDOW_BYTES`].
    pub(crate) row_bytes: u64,
}

/// Some bytes of a file that are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The window itself: what it alone hashes.
    pub(super) start: u64,
    end: u64,
    /// What is read for it.
    pub(super) from: u64,
    to: u64,
}

/// A window and its bytes.
pub(super) struct Loaded<'a> {
    pub(super) window: Window,
    pub(super) bytes: Bytes<'a>,
}

/// Bytes of a file.
pub(super) enum Bytes<'a> {
    Read(Vec<u8>),
    Mapped(&'a [u8]),
}

impl Loaded<'_> {
    /// All bytes that were read for the window.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Read(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        }
    }

    /// The window's own bytes, to be hashed; none where the file was not wanted whole.
    pub(super) fn own(&self) -> &[u8] {
        let Window { start, end, from, .. } = self.window;
        let own = start.checked_sub(from).map(|first| place(first)..place(end - from));
        own.and_then(|own| self.bytes().get(own)).unwrap_or_default()
    }
}

impl Window {
    /// A window of a file of `file_len` bytes; `whole` if every byte is wanted, not only those of parts and sums.
    pub(super) fn new(index: u64, file_len: u64, whole: bool, parts: &[Part], sums: &Sums) -> Self {
        let start = index * WINDOW_BYTES;
        let end = file_len.min(start + WINDOW_BYTES);
        let mut window = Self { start, end, from: start, to: start };
        if whole {
            window.to = end;
        }
        for (_, piece) in sums.pieces_in(&window) {
            window.include(piece);
        }
        // Rows of the first part can begin before the window, those of the last can end behind it.
        let rows: Vec<_> = window.parts(parts).filter_map(|(_, part)| window.rows_of(part)).collect();
        for rows in rows {
            window.include(rows);
        }
        window
    }

    fn include(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if self.from == self.to {
            (self.from, self.to) = (range.start, range.end);
        }
        (self.from, self.to) = (self.from.min(range.start), self.to.max(range.end));
    }

    /// Bytes that are read.
    pub(super) fn len(&self) -> usize {
        place(self.to - self.from)
    }

    /// Where a range of the file lies among the bytes that were read.
    pub(super) fn within(&self, range: &Range<u64>) -> Range<usize> {
        place(range.start - self.from)..place(range.end - self.from)
    }

    /// The window's bytes in a map, brought into memory first: that fails where touching them would be a signal.
    pub(super) fn mapped<'m>(&self, mapping: &'m Mapping) -> Result<&'m [u8], Failure> {
        let range = place(self.from)..place(self.to);
        #[cfg(target_os = "linux")]
        if let Err(error) = mapping.populate(range.clone()) {
            // Systems that do not know the request say EINVAL.
            if error.kind() != std::io::ErrorKind::InvalidInput {
                return Err(changed("the file was cut, or could not be read, while it was mapped"));
            }
        }
        mapping.get(range).ok_or_else(|| changed("the file changed while it was read"))
    }

    /// The parts that have bytes in the window, with their places among all parts.
    pub(super) fn parts<'p>(&self, parts: &'p [Part]) -> impl Iterator<Item = (usize, &'p Part)> + use<'p> {
        let end = self.end;
        let first = parts.partition_point(|part| part.start + part.len <= self.start);
        parts.iter().enumerate().skip(first).take_while(move |(_, part)| part.start < end)
    }

    /// The whole rows of a part that begin in the window, as a range of the file.
    pub(super) fn rows_of(&self, part: &Part) -> Option<Range<u64>> {
        let before = |end: u64| end.saturating_sub(part.start).div_ceil(part.row_bytes) * part.row_bytes;
        let (first, last) = (before(self.start).min(part.len), before(self.end).min(part.len));
        (first < last).then(|| part.start + first..part.start + last)
    }
}

pub(super) fn place(offset: u64) -> usize {
    // What is read at once is short, and a map has an address for each byte.
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Members of a zip archive that are stored as they are, and what is known of their check sums.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Where the members lie.
    spans: Vec<Range<u64>>,
    /// Tensors that they hold.
    tensors: Vec<usize>,
    /// Sums over pieces: which span, and where the piece begins.
    pieces: Mutex<Vec<(usize, u64, crc32fast::Hasher)>>,
}

impl Sums {
    /// Check sums of the stored members among some tensors.
    pub(crate) fn of<'t>(tensors: impl Iterator<Item = (usize, &'t Tensor)>) -> Self {
        let mut members: Vec<_> = tensors
            .filter_map(|(index, tensor)| {
                let member = tensor.member.as_ref().filter(|_| stored_at(tensor).is_some())?;
                Some((member.offset..member.offset + member.len, index))
            })
            .collect();
        members.sort_by_key(|(span, index)| (span.start, *index));
        let (spans, tensors) = members.into_iter().unzip();
        Self { spans, tensors, pieces: Mutex::default() }
    }

    /// The parts of members that lie in a window.
    fn pieces_in(&self, window: &Window) -> impl Iterator<Item = (usize, Range<u64>)> + use<'_> {
        let (start, end) = (window.start, window.end);
        let first = self.spans.partition_point(|span| span.end <= start);
        let here = self.spans.iter().enumerate().skip(first).take_while(move |(_, span)| span.start < end);
        here.map(move |(index, span)| (index, span.start.max(start)..span.end.min(end)))
    }

    /// Add what a window holds.
    pub(super) fn add(&self, window: &Window, bytes: &[u8]) {
        for (index, piece) in self.pieces_in(window) {
            let mut sum = crc32fast::Hasher::new();
            sum.update(&bytes[window.within(&piece)]);
            let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
            pieces.push((index, piece.start, sum));
        }
    }

    /// Tensors with the check sums of their members, once every window was seen.
    pub(crate) fn finish(self) -> Vec<(usize, u32)> {
        let mut pieces = self.pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
        pieces.sort_by_key(|&(span, start, _)| (span, start));
        let mut sums: Vec<_> = self.tensors.iter().map(|_| crc32fast::Hasher::new()).collect();
        for (span, _, piece) in pieces {
            sums[span].combine(&piece);
        }
        self.tensors.into_iter().zip(sums.into_iter().map(crc32fast::Hasher::finalize)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_every_row_once_and_every_byte_once() {
        let row_bytes = [1, 8, 4096, 9_216, 300_000, WINDOW_BYTES];
        let mut start = 100;
        let parts: Vec<Part> = (0..row_bytes.len() * 2)
            .map(|tensor| {
                let row_bytes = row_bytes[tensor % row_bytes.len()];
                let part = Part { tensor, start, len: row_bytes * 7, row_bytes };
                start += part.len + tensor as u64 % 3;
                part
            })
            .collect();
        let file_len = start + 5;
        let mut rows = vec![0; parts.len()];
        let mut own = 0;
        for whole in [false, true] {
            rows.fill(0);
            for index in 0..file_len.div_ceil(WINDOW_BYTES) {
                let window = Window::new(index, file_len, whole, &parts, &Sums::default());
                assert!(window.from <= window.to && window.to <= file_len);
                assert!(window.len() as u64 <= 2 * WINDOW_BYTES);
                if whole {
                    assert!(window.from <= window.start && window.end <= window.to);
                    own += window.end - window.start;
                }
                for (at, part) in window.parts(&parts) {
                    if let Some(range) = window.rows_of(part) {
                        assert_eq!(
                            (range.start - part.start, (range.end - range.start) % part.row_bytes),
                            (rows[at], 0)
                        );
                        assert!(window.from <= range.start && range.end <= window.to);
                        rows[at] += range.end - range.start;
                    }
                }
            }
            assert_eq!(rows, parts.iter().map(|part| part.len).collect::<Vec<_>>());
        }
        assert_eq!(own, file_len);
    }
}
