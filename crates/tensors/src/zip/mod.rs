//! Zip archives, read for what they are and not for what can be salvaged.
//!
//! A zip archive describes itself twice, in a central directory at its end and in a header before each member, and
//! readers differ in which they believe. Every tool that skips one of the two can be shown another archive than its
//! neighbour sees; so both are read and must agree, and every byte must belong to one record.

mod directory;
mod end;
mod local;

pub(crate) use directory::Entry;
pub(crate) use end::archive_at_end;
pub(crate) use local::DEFLATED;

use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::name::quote;
use crate::source::ReadAt;

/// A member whose two headers agree, as far as they could be read.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) entry: Entry,
    /// First byte of its local header in the file.
    pub(crate) start: u64,
    /// First byte of its data in the file.
    pub(crate) data: u64,
    /// Whether its data can be read as it says.
    pub(crate) readable: bool,
}

/// Little-endian numbers at fixed places of a record whose length was checked.
pub(crate) struct Record<'a>(pub(crate) &'a [u8]);

impl Record<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

/// Reads `len` bytes at `at`; the caller has compared both with the file.
pub(crate) fn read(bytes: &(impl ReadAt + ?Sized), at: u64, len: u64) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(0)];
    bytes.read_exact_at(&mut buffer, at)?;
    Ok(buffer)
}

/// The members of an archive, in the directory's order; `None` where there is no directory.
pub(crate) fn members(
    bytes: &(impl ReadAt + ?Sized),
    defects: &mut Defects,
) -> Result<Option<Vec<Member>>, Error> {
    let Some(end) = end::find(bytes, defects)? else { return Ok(None) };
    let Some(entries) = directory::read_all(bytes, &end, defects)? else { return Ok(None) };
    let mut members = Vec::with_capacity(entries.len());
    let mut spans = Vec::with_capacity(entries.len());
    for entry in entries {
        let (member, span) = local::examine(bytes, entry, &end, defects)?;
        spans.push((span, members.len()));
        members.push(member);
    }
    examine_cover(&members, spans, &end, defects);
    Ok(Some(members))
}

/// Whether the records lie side by side, from the beginning of the archive to the directory.
fn examine_cover(
    members: &[Member],
    mut spans: Vec<((u64, u64), usize)>,
    end: &end::End,
    defects: &mut Defects,
) {
    spans.sort_unstable();
    let mut covered = end.prefix_len;
    let mut owner = None;
    for &((start, stop), index) in &spans {
        let name = members[index].entry.name();
        if start < covered {
            let other = owner.map_or("bytes before the archive".to_owned(), |other: usize| {
                quote(&members[other].entry.name())
            });
            overlap(start, covered.min(stop) - start, &name, &other, defects);
        } else if start > covered {
            gap(covered, start - covered, covered == 0, defects);
        }
        if stop > covered {
            covered = stop;
            owner = Some(index);
        }
    }
    if covered > end.directory {
        let name = owner.map_or_else(Default::default, |owner: usize| members[owner].entry.name());
        overlap(end.directory, covered - end.directory, &name, "the directory", defects);
    } else if covered < end.directory {
        gap(covered, end.directory - covered, covered == 0, defects);
    }
}

fn overlap(at: u64, len: u64, name: &str, other: &str, defects: &mut Defects) {
    defects.add(code::Z_OVERLAP, || {
        Defect::new(code::Z_OVERLAP, format!("the record of {} overlaps {other}", quote(name)))
            .at(at)
            .length(len)
            .expected("records side by side", format!("{len} bytes shared"))
    });
}

fn gap(at: u64, len: u64, first: bool, defects: &mut Defects) {
    let (code, message) = if first {
        (code::Z_PREFIX, format!("{len} B stand before the archive"))
    } else {
        (code::Z_TRAILING, format!("{len} B between records belong to none"))
    };
    defects.add(code, || Defect::new(code, message).at(at).length(len).expected("a record", "other bytes"));
}
