//! The header before a member's data, and whether it says what the directory says.

use super::directory::{Entry, Sizes};
use super::end::End;
use super::{Member, Record, read};
use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::name::quote;
use crate::source::ReadAt;

const SIGNATURE: u32 = 0x0403_4b50;
const FIXED_LEN: u64 = 30;
const DESCRIPTOR_SIGNATURE: u32 = 0x0807_4b50;
/// Sizes and check sum follow the data instead of preceding it.
const STREAMED: u16 = 8;

const STORED: u16 = 0;
pub(crate) const DEFLATED: u16 = 8;

/// Above this ratio of lengths, and this length, an array is made to exhaust memory. Deflate reaches 1,032.
const BOMB_RATIO: u64 = 100;
const BOMB_LEN: u64 = 64 << 20;

/// Compares a member's two headers; also gives the range of the file that its record covers.
pub(super) fn examine(
    bytes: &(impl ReadAt + ?Sized),
    entry: Entry,
    end: &End,
    defects: &mut Defects,
) -> Result<(Member, (u64, u64)), Error> {
    let start = entry.offset.saturating_add(end.prefix_len);
    let mut member = Member { start, data: start, readable: false, entry };
    let header_room = bytes.len().checked_sub(start).filter(|&room| room >= FIXED_LEN);
    let header = match header_room {
        Some(_) => read(bytes, start, FIXED_LEN)?,
        None => Vec::new(),
    };
    let header = Record(&header);
    if header.u32(0) != SIGNATURE {
        mismatch(
            &member,
            "has no local header where the directory says",
            "PK\\x03\\x04",
            "other bytes",
            defects,
        );
        return Ok((member, (start, start)));
    }
    let (name_len, extra_len) = (u64::from(header.u16(26)), u64::from(header.u16(28)));
    member.data = start + FIXED_LEN + name_len + extra_len;
    if member.data > bytes.len() {
        mismatch(&member, "has a local header that goes beyond the file", "a name", "the end", defects);
        return Ok((member, (start, start)));
    }
    let names = read(bytes, start + FIXED_LEN, name_len + extra_len)?;
    let (name, extra) = names.split_at(usize::from(header.u16(26)));
    let mut agreed = compare(&member, &header, name, extra, defects);
    let entry = &member.entry;
    let data_end = member.data.saturating_add(entry.compressed_len);
    let mut stop = data_end;
    if data_end > end.directory {
        agreed = false;
        defects.add(code::Z_OVERLAP, || {
            Defect::new(
                code::Z_OVERLAP,
                format!("the data of {} runs into the directory", quote(&entry.name())),
            )
            .at(member.data)
            .length(entry.compressed_len)
            .expected(format!("an end at byte {} or before", end.directory), format!("byte {data_end}"))
        });
        stop = end.directory.max(member.data);
    } else if entry.flags & STREAMED != 0 {
        if let Some(len) = descriptor(bytes, entry, data_end, end.directory)? {
            stop += len;
        } else {
            agreed = false;
            mismatch(
                &member,
                "has no descriptor after its data that repeats its sizes",
                "one",
                "none",
                defects,
            );
        }
    }
    member.readable = usable(&member, defects) && agreed;
    Ok((member, (start, stop)))
}

fn mismatch(member: &Member, what: &str, expected: &str, found: &str, defects: &mut Defects) {
    defects.add(code::Z_LOCAL_CENTRAL_MISMATCH, || {
        let message = format!("the member {} {what}", quote(&member.entry.name()));
        Defect::new(code::Z_LOCAL_CENTRAL_MISMATCH, message).at(member.start).expected(expected, found)
    });
}

/// Whether the local header repeats the central one.
fn compare(member: &Member, header: &Record<'_>, name: &[u8], extra: &[u8], defects: &mut Defects) -> bool {
    let entry = &member.entry;
    let local = Sizes::of(header.u32(22), header.u32(18), None, extra);
    let mut agreed = true;
    let mut differ = |what: &str, central: String, local: String| {
        agreed = false;
        mismatch(member, &format!("has two headers that disagree on its {what}"), &central, &local, defects);
    };
    if name != entry.raw_name {
        differ("name", quote(&entry.name()), quote(&String::from_utf8_lossy(name)));
    }
    if header.u16(6) != entry.flags {
        differ("flags", format!("{:#06x}", entry.flags), format!("{:#06x}", header.u16(6)));
    }
    if header.u16(8) != entry.method {
        differ("method", entry.method.to_string(), header.u16(8).to_string());
    }
    // A streaming writer does not know these three in time, and leaves them zero for the descriptor to give.
    let unknown =
        header.u16(6) & STREAMED != 0 && header.u32(14) == 0 && local.len == 0 && local.compressed_len == 0;
    if !unknown {
        if header.u32(14) != entry.crc32 {
            differ("check sum", format!("{:08x}", entry.crc32), format!("{:08x}", header.u32(14)));
        }
        if local.len != entry.len {
            differ("length", entry.len.to_string(), local.len.to_string());
        }
        if local.compressed_len != entry.compressed_len {
            differ("compressed length", entry.compressed_len.to_string(), local.compressed_len.to_string());
        }
    }
    if !(local.consistent && entry.consistent) {
        differ("extra fields: sizes in them and beside them", "the same twice".into(), "another".into());
    }
    if entry.method == STORED && !entry.encrypted() && entry.len != entry.compressed_len {
        differ("stored length", entry.compressed_len.to_string(), entry.len.to_string());
    }
    agreed
}

/// The length of the descriptor at `at`, where one repeats the check sum and sizes; it has four forms.
fn descriptor(
    bytes: &(impl ReadAt + ?Sized),
    entry: &Entry,
    at: u64,
    stop: u64,
) -> Result<Option<u64>, Error> {
    let room = (stop - at).min(24);
    let record = read(bytes, at, room)?;
    for (signed, wide) in [(true, false), (true, true), (false, false), (false, true)] {
        let len = 4 + if wide { 16 } else { 8 } + if signed { 4 } else { 0 };
        let Some(form) = record.get(..len) else { continue };
        let form = Record(form);
        let skip = if signed { 4 } else { 0 };
        let (compressed_len, full_len) = if wide {
            (form.u64(skip + 4), form.u64(skip + 12))
        } else {
            (u64::from(form.u32(skip + 4)), u64::from(form.u32(skip + 8)))
        };
        let signature = !signed || form.u32(0) == DESCRIPTOR_SIGNATURE;
        let sums = form.u32(skip) == entry.crc32;
        if signature && sums && compressed_len == entry.compressed_len && full_len == entry.len {
            return Ok(Some(len as u64));
        }
    }
    Ok(None)
}

fn method(entry: &Entry) -> String {
    if entry.patched() { "patched data".to_owned() } else { entry.method.to_string() }
}

/// Whether the member's data is of a kind that is read.
fn usable(member: &Member, defects: &mut Defects) -> bool {
    let entry = &member.entry;
    let shown = || quote(&entry.name());
    if entry.encrypted() {
        defects.add(code::Z_ENCRYPTED, || {
            Defect::new(code::Z_ENCRYPTED, format!("the member {} is encrypted", shown()))
                .at(member.start)
                .expected("plain data", format!("flags {:#06x}", entry.flags))
        });
        return false;
    }
    if entry.patched() || !matches!(entry.method, STORED | DEFLATED) {
        defects.add(code::Z_METHOD, || {
            Defect::new(
                code::Z_METHOD,
                format!("the member {} is compressed in a way that is not read", shown()),
            )
            .at(member.start)
            .expected("0 (stored) or 8 (deflated)", method(entry))
        });
        return false;
    }
    if entry.method == DEFLATED && entry.len > BOMB_LEN && entry.len / BOMB_RATIO > entry.compressed_len {
        defects.add(code::Z_BOMB, || {
            let ratio = entry.len / entry.compressed_len.max(1);
            Defect::new(code::Z_BOMB, format!("the member {} expands {ratio} times", shown()))
                .at(member.data)
                .length(entry.compressed_len)
                .expected(format!("at most {BOMB_RATIO} times"), format!("{} bytes", entry.len))
                .hint("unpack it only where so much memory may be lost")
        });
        return false;
    }
    true
}
