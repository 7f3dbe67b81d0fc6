//! Finding the end record, from which all else in an archive is found.

use super::{Record, read};
use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::source::ReadAt;

const SIGNATURE: &[u8] = b"PK\x05\x06";
const LEN: usize = 22;
const MAX_COMMENT_LEN: usize = 0xffff;
const LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const LOCATOR_LEN: u64 = 20;
const WIDE_SIGNATURE: u32 = 0x0606_4b50;
const WIDE_LEN: u64 = 56;
/// The longest directory that is read, in bytes: as for a safetensors header.
const MAX_DIRECTORY_LEN: u64 = 100_000_000;

/// Where the central directory is. Positions are in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// First byte of the directory.
    pub(crate) directory: u64,
    /// Its length in bytes.
    pub(crate) directory_len: u64,
    /// How many members it says it has.
    pub(crate) entries: u64,
    /// Bytes before the archive, which its own offsets do not count.
    pub(crate) prefix_len: u64,
}

/// The file's last bytes, in which an end record can stand, and where they begin.
fn tail(bytes: &(impl ReadAt + ?Sized), start: u64) -> Result<(Vec<u8>, u64), Error> {
    let len = (bytes.len() - start).min((LEN + MAX_COMMENT_LEN) as u64);
    let at = bytes.len() - len;
    Ok((read(bytes, at, len)?, at))
}

/// Positions of the signature in `tail`, from the last to the first.
fn candidates(tail: &[u8]) -> impl Iterator<Item = usize> {
    let last = tail.len().saturating_sub(LEN - 1);
    (0..last).rev().filter(|&at| tail[at..].starts_with(SIGNATURE))
}

/// Whether a comment of the record at `at` would end with the file.
fn closes(tail: &[u8], at: usize) -> bool {
    at + LEN + usize::from(Record(&tail[at..]).u16(20)) == tail.len()
}

/// Where an end record stands that closes the file after `start`, with a directory before it: the mark of an archive
/// that can be opened from its end.
pub(crate) fn archive_at_end(bytes: &(impl ReadAt + ?Sized), start: u64) -> Result<Option<u64>, Error> {
    let (tail, tail_at) = tail(bytes, start)?;
    for at in candidates(&tail).filter(|&at| closes(&tail, at)) {
        let record = Record(&tail[at..]);
        let end = tail_at + at as u64;
        let directory_len = u64::from(record.u32(12));
        let Some(directory) = end.checked_sub(directory_len).filter(|_| directory_len >= 46) else {
            continue;
        };
        if read(bytes, directory, 4)? == b"PK\x01\x02" {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// Finds the archive's end record, the last of the file, and examines what it says.
pub(crate) fn find(bytes: &(impl ReadAt + ?Sized), defects: &mut Defects) -> Result<Option<End>, Error> {
    let (tail, tail_at) = tail(bytes, 0)?;
    let found: Vec<usize> = candidates(&tail).collect();
    let Some(&last) = found.first() else {
        defects.push(
            Defect::new(code::Z_NO_EOCD, "the archive has no end record: it is cut short, or no archive")
                .at(bytes.len())
                .expected("an end record in the last 64 KiB", "none")
                .hint("fetch the file again"),
        );
        return Ok(None);
    };
    let at = tail_at + last as u64;
    let record = Record(&tail[last..]);
    let closing = at + LEN as u64 + u64::from(record.u16(20));
    if closing > bytes.len() {
        defects.push(
            Defect::new(code::Z_NO_EOCD, "the end record's comment goes beyond the file")
                .at(at)
                .expected(format!("{closing} bytes"), format!("{} bytes", bytes.len())),
        );
        return Ok(None);
    }
    if closing < bytes.len() {
        let len = bytes.len() - closing;
        defects.push(
            Defect::new(code::Z_TRAILING, format!("{len} of {} bytes follow the archive", bytes.len()))
                .at(closing)
                .length(len)
                .expected("the end of the file", "other bytes"),
        );
    }
    let Some(end) = examine(bytes, &record, at, defects)? else { return Ok(None) };
    // Readers that take the first record, or one whose comment ends with the file, would see another archive. A record
    // inside a member before the directory is that member's affair, unless its comment reaches to the end.
    let rival = found.iter().skip(1).find(|&&at| tail_at + at as u64 >= end.directory || closes(&tail, at));
    if let Some(&rival) = rival {
        defects.push(
            Defect::new(
                code::Z_AMBIGUOUS_EOCD,
                "the archive has two end records, and readers differ in which they use",
            )
            .at(tail_at + rival as u64)
            .expected(format!("one, at byte {at}"), format!("another at byte {}", tail_at + rival as u64)),
        );
    }
    Ok(Some(end))
}

fn examine(
    bytes: &(impl ReadAt + ?Sized),
    record: &Record<'_>,
    at: u64,
    defects: &mut Defects,
) -> Result<Option<End>, Error> {
    let narrow = Fields {
        disks: u64::from(record.u16(4)).max(u64::from(record.u16(6))),
        entries_here: u64::from(record.u16(8)),
        entries: u64::from(record.u16(10)),
        directory_len: u64::from(record.u32(12)),
        directory: u64::from(record.u32(16)),
    };
    let (fields, stop) = match wide(bytes, at)? {
        Some((wide, stop)) => {
            if !narrow.agrees(&wide) {
                defects.push(
                    Defect::new(code::Z_AMBIGUOUS_EOCD, "the archive's two end records disagree")
                        .at(at)
                        .expected(format!("{wide:?}"), format!("{narrow:?}")),
                );
            }
            (wide, stop)
        }
        None => (narrow, at),
    };
    let unusable = |message: &str, expected: String, found: String| {
        Defect::new(code::Z_NO_EOCD, message).at(at).expected(expected, found)
    };
    if fields.disks != 0 || fields.entries_here != fields.entries {
        defects.push(unusable("the archive is one part of several", "one part".into(), "several".into()));
        return Ok(None);
    }
    let start = stop.checked_sub(fields.directory_len);
    let Some((start, prefix_len)) = start.and_then(|at| Some((at, at.checked_sub(fields.directory)?))) else {
        let found = format!("{} bytes at byte {}", fields.directory_len, fields.directory);
        defects.push(unusable(
            "the directory does not lie before its end record",
            format!("up to {stop}"),
            found,
        ));
        return Ok(None);
    };
    if fields.directory_len > MAX_DIRECTORY_LEN {
        let (expected, found) =
            (format!("at most {MAX_DIRECTORY_LEN} bytes"), fields.directory_len.to_string());
        defects.push(unusable("the directory is larger than any checkpoint's", expected, found));
        return Ok(None);
    }
    if prefix_len > 0 {
        defects.push(
            Defect::new(code::Z_PREFIX, format!("{prefix_len} B stand before the archive"))
                .at(0)
                .length(prefix_len)
                .expected("an archive from the first byte on", "other bytes"),
        );
    }
    let directory_len = fields.directory_len;
    Ok(Some(End { directory: start, directory_len, entries: fields.entries, prefix_len }))
}

/// What an end record says, in either width.
#[derive(Clone, Copy, Debug)]
struct Fields {
    disks: u64,
    entries_here: u64,
    entries: u64,
    directory_len: u64,
    directory: u64,
}

impl Fields {
    /// Whether each narrow field has the wide one's value or is marked as too narrow for it.
    fn agrees(&self, wide: &Self) -> bool {
        let same = |narrow: u64, wide: u64, mark: u64| narrow == wide || narrow == mark;
        same(self.entries_here, wide.entries_here, 0xffff)
            && same(self.entries, wide.entries, 0xffff)
            && same(self.directory_len, wide.directory_len, 0xffff_ffff)
            && same(self.directory, wide.directory, 0xffff_ffff)
    }
}

/// The zip64 end record, where a locator before `at` points to one, and where it begins.
fn wide(bytes: &(impl ReadAt + ?Sized), at: u64) -> Result<Option<(Fields, u64)>, Error> {
    let Some(locator_at) = at.checked_sub(LOCATOR_LEN) else { return Ok(None) };
    let locator = read(bytes, locator_at, LOCATOR_LEN)?;
    let locator = Record(&locator);
    if locator.u32(0) != LOCATOR_SIGNATURE {
        return Ok(None);
    }
    // The locator's offset does not count bytes before the archive; the record usually stands just before it.
    let places = [locator_at.checked_sub(WIDE_LEN), Some(locator.u64(8))];
    let fits = |place: &u64| place.checked_add(WIDE_LEN).is_some_and(|end| end <= locator_at);
    for place in places.into_iter().flatten().filter(fits) {
        let record = read(bytes, place, WIDE_LEN)?;
        let record = Record(&record);
        if record.u32(0) == WIDE_SIGNATURE {
            let fields = Fields {
                disks: u64::from(record.u32(16)).max(u64::from(record.u32(20))),
                entries_here: record.u64(24),
                entries: record.u64(32),
                directory_len: record.u64(40),
                directory: record.u64(48),
            };
            return Ok(Some((fields, place)));
        }
    }
    Ok(None)
}
