//! From a file's bytes to its table: the length field, the header, and whether every byte of data has one owner.

use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::name::quote;
use crate::safetensors::header::{self, Claim, Header, PREFIX_LEN};
use crate::sniff;
use crate::source::ReadAt;
use crate::table::{Container, Storage, Table};

/// The longest header that the reference reader takes, in bytes.
pub(crate) const MAX_HEADER_LEN: u64 = 100_000_000;
/// Headers above this, in bytes, are no longer those of a checkpoint.
const OVERSIZE_HEADER_LEN: u64 = 8 << 20;
/// The unit in which storage loses writes.
const PAGE_LEN: usize = 4096;
/// How many tensors a truncated file's finding names.
const NAMED: usize = 8;

/// Reads a safetensors file's header and examines it.
pub(crate) fn read(bytes: &(impl ReadAt + ?Sized), mut defects: Defects) -> Result<Table, Error> {
    let file_len = bytes.len();
    let mut table = Table::empty(Container::Safetensors, file_len);
    if let Some(text) = header_text(bytes, &mut defects)? {
        let header = header::parse(&text, &mut defects);
        let data_start = PREFIX_LEN + text.len() as u64;
        drop(text);
        table.header_len = data_start;
        table.sound = header.complete;
        let header = examine_data(bytes, header, data_start, &mut defects)?;
        if header.complete && header.entries == 0 {
            defects.add(code::ST_NO_TENSORS, || {
                Defect::new(code::ST_NO_TENSORS, "the file holds no tensors").at(PREFIX_LEN)
            });
        }
        table.tensors = header.tensors;
        table.lost = header.lost;
        table.metadata = header.metadata;
        for tensor in table.tensors.iter_mut().chain(&mut table.lost) {
            if let Storage::Stored { offset, .. } = &mut tensor.storage {
                *offset += data_start;
            }
        }
    }
    table.sound &= !defects.unsound();
    table.defects = defects.finish();
    Ok(table)
}

/// The header's bytes, where there is one that begins with a brace.
fn header_text(bytes: &(impl ReadAt + ?Sized), defects: &mut Defects) -> Result<Option<Vec<u8>>, Error> {
    let file_len = bytes.len();
    // Compared by subtraction: a sum with a length from the file could leave 64 bits.
    let Some(room) = file_len.checked_sub(PREFIX_LEN) else {
        defects.push(
            Defect::new(code::ST_TOO_SHORT, "the file is too short to hold a header's length")
                .at(0)
                .expected("at least 8 bytes", format!("{file_len} bytes")),
        );
        return Ok(None);
    };
    let mut prefix = [0; 8];
    bytes.read_exact_at(&mut prefix, 0)?;
    let header_len = u64::from_le_bytes(prefix);
    if header_len > MAX_HEADER_LEN {
        defects.push(
            Defect::new(code::ST_HEADER_TOO_LARGE, "the header's length is beyond what the format allows")
                .at(0)
                .length(PREFIX_LEN)
                .expected(format!("at most {MAX_HEADER_LEN}"), header_len),
        );
        return Ok(None);
    }
    if header_len > room {
        let missing = header_len - room;
        defects.push(
            Defect::new(
                code::ST_TRUNCATED_HEADER,
                format!("{missing} of {header_len} bytes of its header are missing"),
            )
            .at(file_len)
            .length(missing)
            .expected(format!("a header of {header_len} bytes"), format!("{room} bytes"))
            .hint("no tensor is whole: fetch the file again"),
        );
        return Ok(None);
    }
    let Ok(len) = usize::try_from(header_len) else { return Ok(None) };
    let mut text = vec![0; len];
    bytes.read_exact_at(&mut text, PREFIX_LEN)?;
    if header_len > OVERSIZE_HEADER_LEN {
        defects.push(
            Defect::new(code::ST_HEADER_OVERSIZE, "the header is larger than a checkpoint's")
                .at(0)
                .length(PREFIX_LEN)
                .expected(format!("at most {OVERSIZE_HEADER_LEN} bytes"), format!("{header_len} bytes")),
        );
    }
    if !header_len.is_multiple_of(8) {
        defects.push(
            Defect::new(code::ST_UNALIGNED_DATA, "the data section does not begin at a multiple of 8")
                .at(PREFIX_LEN + header_len)
                .expected("a header of a multiple of 8 bytes", format!("{header_len} bytes")),
        );
    }
    let white = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    match text.get(white) {
        Some(b'{') if white == 0 => Ok(Some(text)),
        Some(b'{') => {
            defects.push(
                Defect::new(code::ST_HEADER_LEADING_WS, "the header begins with white space")
                    .at(PREFIX_LEN)
                    .length(white as u64)
                    .expected("'{'", format!("0x{:02x}", text[0])),
            );
            Ok(Some(text))
        }
        other => {
            let found = other.map_or("nothing".to_owned(), |byte| format!("0x{byte:02x}"));
            defects.push(
                Defect::new(code::ST_HEADER_NOT_OBJECT, "the header does not begin with a brace")
                    .at(PREFIX_LEN + white as u64)
                    .expected("'{'", found),
            );
            if header_len == 0 {
                lost_page(bytes, defects)?;
            }
            Ok(None)
        }
    }
}

/// A first page of zeros before data is a write that never reached the disk.
fn lost_page(bytes: &(impl ReadAt + ?Sized), defects: &mut Defects) -> Result<(), Error> {
    let mut page = [0; PAGE_LEN];
    if bytes.len() <= PAGE_LEN as u64 {
        return Ok(());
    }
    bytes.read_exact_at(&mut page, 0)?;
    if page.iter().all(|&byte| byte == 0) {
        defects.push(
            Defect::new(code::V_ZERO_PAGES, "the first page of the file is all zeros: a write was lost")
                .at(0)
                .length(PAGE_LEN as u64)
                .expected("a header", "zeros")
                .hint("fetch the file again, or save it again and let the disk finish"),
        );
    }
    Ok(())
}

/// Whether the tensors cover the data section once each, and what the section's end looks like.
fn examine_data(
    bytes: &(impl ReadAt + ?Sized),
    mut header: Header,
    data_start: u64,
    defects: &mut Defects,
) -> Result<Header, Error> {
    let data_len = bytes.len() - data_start;
    header.claims.sort_unstable_by_key(|claim| (claim.begin, claim.end, claim.at));
    let covered = examine_cover(&header, data_start, defects);
    let sized = header.claims.iter().filter(|claim| claim.sized);
    let end = sized.filter(|claim| claim.begin < claim.end).map(|claim| claim.end).max().unwrap_or(0);
    if end > data_len {
        truncated(&header, data_start, data_len, end, defects);
    }
    let beyond = header.claims.iter().filter(|claim| claim.sized && claim.end > data_len);
    let mut lost: Vec<u32> = beyond.map(|claim| claim.at).collect();
    if !lost.is_empty() {
        lost.sort_unstable();
        header.lose(&lost);
    }
    // Where an entry's range is unknown, or the text broke off, the bytes behind may well be that entry's.
    if covered < data_len && header.complete && !header.unknown_claims {
        trailing(bytes, data_start + covered, defects)?;
    } else if let Some(last) = header.claims.iter().rev().find(|claim| claim.end == data_len) {
        let name = name_of(&header, last);
        sniff::hidden_archive(bytes, data_start + last.begin, name, defects)?;
    }
    Ok(header)
}

fn name_of<'a>(header: &'a Header, claim: &Claim) -> Option<&'a str> {
    header.tensor(claim.at).map(|tensor| tensor.name.as_str())
}

fn shown(name: Option<&str>) -> String {
    name.map_or("an entry whose size is wrong".to_owned(), quote)
}

/// Reports holes and overlaps; gives the end of what is covered, in bytes of the data section.
fn examine_cover(header: &Header, data_start: u64, defects: &mut Defects) -> u64 {
    let mut covered = 0;
    let mut owner: Option<&Claim> = None;
    for claim in &header.claims {
        let about = |code, message: &dyn Fn(String) -> String| {
            let name = name_of(header, claim);
            let defect = Defect::new(code, message(shown(name)));
            match name {
                Some(name) => defect.tensor(name),
                None => defect,
            }
        };
        if claim.begin > covered && !header.unknown_claims {
            let len = claim.begin - covered;
            defects.add(code::ST_HOLE, || {
                about(code::ST_HOLE, &|name| format!("the {len} B before {name} belong to no tensor"))
                    .at(data_start.saturating_add(covered))
                    .length(len)
                    .expected(format!("data offset {covered}"), format!("data offset {}", claim.begin))
            });
        }
        if claim.begin < covered {
            defects.add(code::ST_OVERLAP, || {
                let other = shown(owner.and_then(|owner| name_of(header, owner)));
                about(code::ST_OVERLAP, &|name| format!("{name} begins inside {other}"))
                    .at(data_start.saturating_add(claim.begin))
                    .length(claim.end.min(covered) - claim.begin)
                    .expected(format!("data offset {covered}"), format!("data offset {}", claim.begin))
            });
        }
        if claim.end > covered && claim.begin < claim.end {
            covered = claim.end;
            owner = Some(claim);
        }
    }
    covered
}

fn truncated(header: &Header, data_start: u64, data_len: u64, end: u64, defects: &mut Defects) {
    let (file_len, full_len) = (data_start + data_len, data_start.saturating_add(end));
    let missing = end - data_len;
    let sized = || header.claims.iter().filter(|claim| claim.sized);
    let whole = sized().filter(|claim| claim.end <= data_len).count();
    let cut = sized().find(|claim| claim.begin < data_len && data_len < claim.end);
    let first = cut.or_else(|| sized().find(|claim| claim.end > data_len));
    let percent = 100.0 * missing as f64 / full_len as f64;
    let total = sized().count();
    let cut_words = cut.map_or(String::new(), |claim| {
        let (there, len) = (data_len - claim.begin, claim.end - claim.begin);
        format!("; {} breaks off after {there} of {len} bytes", shown(name_of(header, claim)))
    });
    let names = sized().filter(|claim| claim.end <= data_len).filter_map(|claim| name_of(header, claim));
    let names: Vec<String> = names.take(NAMED).map(quote).collect();
    let more = whole.saturating_sub(names.len());
    let hint = match (names.is_empty(), more) {
        (true, _) => "fetch the file again".to_owned(),
        (false, 0) => format!("fetch the file again; whole: {}", names.join(", ")),
        (false, more) => format!("fetch the file again; whole: {} and {more} more", names.join(", ")),
    };
    let mut defect = Defect::new(
        code::ST_TRUNCATED_DATA,
        format!(
            "{missing} of {full_len} bytes are missing ({percent:.1} %): {whole} of {total} tensors are whole{cut_words}"
        ),
    )
    .at(file_len)
    .length(missing)
    .expected(format!("{full_len} bytes"), format!("{file_len} bytes"))
    .hint(hint);
    if let Some(name) = first.and_then(|claim| name_of(header, claim)) {
        defect = defect.tensor(name);
    }
    defects.push(defect);
}

fn trailing(bytes: &(impl ReadAt + ?Sized), start: u64, defects: &mut Defects) -> Result<(), Error> {
    let file_len = bytes.len();
    let len = file_len - start;
    defects.push(
        Defect::new(code::ST_TRAILING_BYTES, format!("{len} of {file_len} bytes follow the last tensor"))
            .at(start)
            .length(len)
            .expected(format!("{start} bytes"), format!("{file_len} bytes")),
    );
    if let Some(format) = sniff::format_at(bytes, start)? {
        defects.push(
            Defect::new(code::FS_POLYGLOT, format!("what follows the last tensor is {format}"))
                .at(start)
                .length(len)
                .expected("the end of the file", format),
        );
    }
    Ok(())
}
