//! The central directory: what an archive says about its members.

use std::borrow::Cow;

use super::end::End;
use super::{Record, read};
use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::name::quote;
use crate::source::ReadAt;

const SIGNATURE: u32 = 0x0201_4b50;
const FIXED_LEN: usize = 46;
const WIDE_FIELD: u16 = 1;
const FILE_TYPE: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;

/// A member as a header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name as it stands there.
    pub(crate) raw_name: Vec<u8>,
    /// Where its central header stands in the file.
    pub(crate) at: u64,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc32: u32,
    /// Length of its data in the file.
    pub(crate) compressed_len: u64,
    /// Length of its data, inflated.
    pub(crate) len: u64,
    /// Where its local header begins, not counting bytes before the archive.
    pub(crate) offset: u64,
    /// Whether the sizes do not contradict each other within this header.
    pub(crate) consistent: bool,
}

impl Entry {
    /// Its name; bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.raw_name)
    }

    /// Whether the data is a patch of other data.
    pub(crate) fn patched(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// Whether some flag says that the data is encrypted: in itself, strongly, or with masked headers.
    pub(crate) fn encrypted(&self) -> bool {
        self.flags & 0x2041 != 0
    }
}

/// The sizes of a header, and the wide ones of its zip64 field, which must stand where a narrow one is all ones.
pub(super) struct Sizes {
    pub(super) len: u64,
    pub(super) compressed_len: u64,
    pub(super) offset: u64,
    pub(super) consistent: bool,
}

impl Sizes {
    /// `offset` is `None` for local headers, which have none.
    pub(super) fn of(len: u32, compressed_len: u32, offset: Option<u32>, extra: &[u8]) -> Self {
        let mut fields = WideFields::find(extra);
        // Readers refuse a directory whose extra fields break off; what pads a local header they never look at.
        let mut consistent = fields.consistent && (fields.whole || offset.is_none());
        let mut widen = |narrow: u32| {
            if narrow != u32::MAX {
                return u64::from(narrow);
            }
            let wide = fields.next();
            // A file of exactly 2^32 - 1 bytes needs no field, but no writer leaves it out.
            consistent &= wide.is_some();
            wide.unwrap_or(u64::MAX)
        };
        let marked = len == u32::MAX || compressed_len == u32::MAX || offset == Some(u32::MAX);
        let (len, compressed_len, offset) = (widen(len), widen(compressed_len), offset.map_or(0, &mut widen));
        if !marked && fields.present {
            // The field repeats sizes that fit; readers that look at it first must see the same.
            consistent &= fields.next().is_none_or(|wide| wide == len);
            consistent &= fields.next().is_none_or(|wide| wide == compressed_len);
        }
        Self { len, compressed_len, offset, consistent }
    }
}

/// The numbers of a zip64 extra field, in order.
struct WideFields<'a> {
    rest: &'a [u8],
    present: bool,
    consistent: bool,
    /// Whether the last extra field ends within the header.
    whole: bool,
}

impl<'a> WideFields<'a> {
    fn find(mut extra: &'a [u8]) -> Self {
        let mut found = Self { rest: &[], present: false, consistent: true, whole: true };
        while let Some((&[a, b, c, d], rest)) = extra.split_first_chunk() {
            let len = usize::from(u16::from_le_bytes([c, d]));
            let Some((field, rest)) = rest.split_at_checked(len) else {
                found.whole = false;
                break;
            };
            if u16::from_le_bytes([a, b]) == WIDE_FIELD {
                found.consistent &= !found.present;
                found.present = true;
                found.rest = field;
            }
            extra = rest;
        }
        found
    }

    fn next(&mut self) -> Option<u64> {
        let (field, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*field))
    }
}

/// The directory's entries, examined one by one and against each other; `None` where it cannot be read through.
pub(crate) fn read_all(
    bytes: &(impl ReadAt + ?Sized),
    end: &End,
    defects: &mut Defects,
) -> Result<Option<Vec<Entry>>, Error> {
    let directory = read(bytes, end.directory, end.directory_len)?;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < directory.len() {
        let Some((entry, len)) = one(&directory[at..], end.directory + at as u64, defects) else {
            defects.push(
                Defect::new(code::Z_NO_EOCD, "the directory is damaged")
                    .at(end.directory + at as u64)
                    .expected("a member's header", "other bytes"),
            );
            return Ok(None);
        };
        entries.push(entry);
        at += len;
    }
    if entries.len() as u64 != end.entries {
        defects.push(
            Defect::new(
                code::Z_AMBIGUOUS_EOCD,
                "the end record and the directory disagree on the number of members",
            )
            .at(end.directory)
            .expected(end.entries, entries.len()),
        );
    }
    duplicates(&entries, defects);
    Ok(Some(entries))
}

fn one(record: &[u8], at: u64, defects: &mut Defects) -> Option<(Entry, usize)> {
    let fixed = Record(record.get(..FIXED_LEN)?);
    if fixed.u32(0) != SIGNATURE {
        return None;
    }
    let [name_len, extra_len, comment_len] = [28, 30, 32].map(|at| usize::from(fixed.u16(at)));
    let len = FIXED_LEN + name_len + extra_len + comment_len;
    let rest = record.get(FIXED_LEN..len)?;
    let (raw_name, rest) = rest.split_at(name_len);
    let sizes = Sizes::of(fixed.u32(24), fixed.u32(20), Some(fixed.u32(42)), &rest[..extra_len]);
    let entry = Entry {
        raw_name: raw_name.to_vec(),
        at,
        flags: fixed.u16(8),
        method: fixed.u16(10),
        crc32: fixed.u32(16),
        compressed_len: sizes.compressed_len,
        len: sizes.len,
        offset: sizes.offset,
        consistent: sizes.consistent,
    };
    let mode = fixed.u32(38) >> 16;
    if mode & FILE_TYPE == SYMLINK {
        defects.add(code::Z_SYMLINK, || {
            Defect::new(code::Z_SYMLINK, format!("the member {} is a symbolic link", quote(&entry.name())))
                .at(at)
                .expected("a regular file", "a symbolic link")
        });
    }
    if let Some(why) = path_hazard(&entry.name()) {
        defects.add(code::Z_PATH, || {
            Defect::new(code::Z_PATH, format!("the member name {} {why}", quote(&entry.name())))
                .at(at)
                .expected("a plain relative name", quote(&entry.name()))
                .hint("do not unpack this archive")
        });
    }
    Some((entry, len))
}

/// Why a member name could leave the folder it is unpacked in, or name nothing.
fn path_hazard(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.contains('\0') {
        return Some("contains NUL, where some readers end it");
    }
    if name.starts_with('/') || name.get(1..2) == Some(":") {
        return Some("is absolute");
    }
    if name.contains('\\') {
        return Some("contains a backslash");
    }
    name.split('/').any(|part| part == "..").then_some("leads out of the folder")
}

fn duplicates(entries: &[Entry], defects: &mut Defects) {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by(|a, b| (&a.raw_name, a.at).cmp(&(&b.raw_name, b.at)));
    let mut twins: Vec<&Entry> =
        order.windows(2).filter(|pair| pair[0].raw_name == pair[1].raw_name).map(|pair| pair[1]).collect();
    twins.sort_by_key(|entry| entry.at);
    for twin in twins {
        defects.add(code::Z_DUP_NAME, || {
            Defect::new(code::Z_DUP_NAME, format!("the member name {} stands twice", quote(&twin.name())))
                .at(twin.at)
                .hint("readers differ in which of the two they use")
        });
    }
}
