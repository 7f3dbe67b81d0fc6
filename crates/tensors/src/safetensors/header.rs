//! The header's JSON: its members, who stands twice, and where reading had to stop.

use crate::code;
use crate::defect::{Defect, Defects};
use crate::json::{Keys, Kind, Reader, Stop, Text};
use crate::name;
use crate::safetensors::{entry, twins};
use crate::table::Tensor;

/// Bytes before the header: its length.
pub(crate) const PREFIX_LEN: u64 = 8;

/// The length of a checkpoint's entry in bytes, roughly: room for so many tensors is made at once, in less memory than
/// the bound on all of it.
const TYPICAL_ENTRY_LEN: usize = 96;

/// How many pairs of metadata are kept: a pair takes more memory than the least text that makes one.
const MAX_METADATA_PAIRS: usize = 1 << 16;

/// A range of the data section that a header claims, in bytes from the section's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// Where the entry's name stands in the header.
    pub(crate) at: u32,
    /// Whether dtype, shape and range agree on its size, so that it is one of [`Header::tensors`].
    pub(crate) sized: bool,
}

/// What could be read of a header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// Tensors whose dtype, shape and size agree, in the header's order; offsets count from the data section.
    pub(crate) tensors: Vec<Tensor>,
    /// Those of them that end behind the end of the file, taken out of the list.
    pub(crate) lost: Vec<Tensor>,
    /// Where each tensor's name stands in the header: ascending.
    pub(crate) at: Vec<u32>,
    /// Every range claimed, by good entries and bad.
    pub(crate) claims: Vec<Claim>,
    pub(crate) metadata: Vec<(String, String)>,
    /// How many tensors the header names, well or badly.
    pub(crate) entries: u64,
    /// Whether some entry's range is unknown, so that a gap may be that entry's.
    pub(crate) unknown_claims: bool,
    /// Whether the text was read to its end.
    pub(crate) complete: bool,
}

impl Header {
    /// The tensor whose name stands at `at`.
    pub(crate) fn tensor(&self, at: u32) -> Option<&Tensor> {
        self.at.binary_search(&at).ok().and_then(|index| self.tensors.get(index))
    }

    /// Takes those entries out whose names stand at these places, and keeps them apart.
    pub(crate) fn lose(&mut self, places: &[u32]) {
        let gone = |at: &u32| places.binary_search(at).is_ok();
        let lost = self.tensors.iter().zip(&self.at).filter(|(_, at)| gone(at));
        self.lost = lost.map(|(tensor, _)| tensor.clone()).collect();
        self.forget(|at| gone(&at));
    }

    /// Takes entries out, chosen by where their names stand, together with what they claim.
    pub(crate) fn forget(&mut self, chosen: impl Fn(u32) -> bool) {
        self.claims.retain(|claim| !chosen(claim.at));
        let gone: Vec<bool> = self.at.iter().map(|&at| chosen(at)).collect();
        keep_unless(&mut self.at, &gone);
        keep_unless(&mut self.tensors, &gone);
    }
}

fn keep_unless<T>(items: &mut Vec<T>, gone: &[bool]) {
    let mut gone = gone.iter();
    items.retain(|_| gone.next().is_none_or(|gone| !gone));
}

/// Reads a header whose first byte is a brace, or white space before it.
pub(crate) fn parse(text: &[u8], defects: &mut Defects) -> Header {
    let mut header = Header::default();
    let mut reader = Reader::new(text);
    if let Some(at) = reader.not_utf8() {
        defects.add(code::ST_NOT_UTF8, || {
            let found = text[at..].iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
            Defect::new(code::ST_NOT_UTF8, format!("byte {at} of the header is not UTF-8"))
                .at(in_file(at))
                .expected("UTF-8", found.join(" "))
        });
    }
    header.tensors.reserve(text.len() / TYPICAL_ENTRY_LEN);
    let mut keys = Keys::default();
    match members(&mut reader, &mut header, &mut keys, defects) {
        Ok(()) => header.complete = true,
        Err(stop) => {
            header.unknown_claims = true;
            report(stop, text, defects);
        }
    }
    twins::examine(&reader, keys, &mut header, defects);
    header
}

/// A position in the header as one in the file.
pub(crate) fn in_file(at: usize) -> u64 {
    PREFIX_LEN + at as u64
}

fn report(stop: Stop, text: &[u8], defects: &mut Defects) {
    let at = in_file(stop.at);
    let found = text.get(stop.at).map_or("the end of the header".to_owned(), |&byte| match byte {
        b'!'..=b'~' => format!("'{}'", char::from(byte)),
        _ => format!("byte 0x{byte:02x}"),
    });
    match stop.message {
        Some(message) => defects.add(code::ST_JSON_SYNTAX, || {
            Defect::new(code::ST_JSON_SYNTAX, format!("the header is not JSON: {message}"))
                .at(at)
                .expected("one JSON object, then spaces", found)
        }),
        None => defects.add(code::ST_JSON_DEPTH, || {
            Defect::new(code::ST_JSON_DEPTH, "the header is nested too deeply")
                .at(at)
                .expected(format!("at most {} levels", crate::json::MAX_DEPTH), "another level")
        }),
    }
}

fn members(
    reader: &mut Reader<'_>,
    header: &mut Header,
    keys: &mut Keys,
    defects: &mut Defects,
) -> Result<(), Stop> {
    reader.white_space();
    let mut metadata_seen = false;
    let mut more = reader.open(b'}');
    while more {
        let key = reader.key()?;
        if reader.find(key, &["__metadata__"]).is_some() {
            if std::mem::replace(&mut metadata_seen, true) {
                duplicate_key(reader, key, defects);
                header.metadata.clear();
            }
            metadata(reader, header, defects)?;
        } else {
            let name = reader.text(key);
            keys.push(reader, key);
            examine_name(&name, key, defects);
            header.entries += 1;
            entry::read(reader, name, key, header, defects)?;
        }
        more = reader.more(b'}')?;
    }
    padding(reader, defects)
}

fn padding(reader: &mut Reader<'_>, defects: &mut Defects) -> Result<(), Stop> {
    let end = reader.at();
    let rest = reader.rest();
    let odd = rest.iter().position(|&byte| byte != b' ');
    reader.white_space();
    if !reader.rest().is_empty() {
        return Err(Stop { at: reader.at(), message: Some("something follows the object") });
    }
    if let Some(odd) = odd {
        defects.add(code::ST_HEADER_PADDING, || {
            Defect::new(code::ST_HEADER_PADDING, "the header is padded with white space other than spaces")
                .at(in_file(end + odd))
                .expected("0x20", format!("0x{:02x}", rest[odd]))
        });
    }
    Ok(())
}

/// Reports a key that stands a second time in its object.
pub(crate) fn duplicate_key(reader: &Reader<'_>, key: Text, defects: &mut Defects) {
    defects.add(code::ST_DUP_KEY, || {
        let shown = name::quote(&reader.text(key));
        Defect::new(code::ST_DUP_KEY, format!("the key {shown} stands twice in one object"))
            .at(in_file(key.start() as usize))
    });
}

fn metadata(reader: &mut Reader<'_>, header: &mut Header, defects: &mut Defects) -> Result<(), Stop> {
    let kind = reader.kind()?;
    let at = in_file(reader.at());
    if kind != Kind::Object {
        let start = reader.at();
        reader.skip(1, &mut |reader, key| duplicate_key(reader, key, defects))?;
        if reader.since(start) == b"null" {
            defects.add(code::ST_METADATA_NULL, || {
                Defect::new(code::ST_METADATA_NULL, "the metadata is null")
                    .at(at)
                    .expected("an object of strings", "null")
            });
        } else {
            defects.add(code::ST_BAD_METADATA, || {
                Defect::new(code::ST_BAD_METADATA, "the metadata is not an object")
                    .at(at)
                    .expected("an object of strings", kind.name())
            });
        }
        return Ok(());
    }
    let mut keys = Keys::default();
    let mut more = reader.open(b'}');
    while more {
        let key = reader.key()?;
        keys.push(reader, key);
        let at = in_file(key.start() as usize);
        let kind = reader.kind()?;
        if kind == Kind::String {
            let value = reader.string()?;
            examine_metadata(&reader.text(key), &reader.text(value), at, header, defects);
        } else {
            let shown = name::quote(&reader.text(key));
            defects.add(code::ST_BAD_METADATA, || {
                Defect::new(code::ST_BAD_METADATA, format!("the metadata's {shown} is not a string"))
                    .at(at)
                    .expected("a string", kind.name())
            });
            reader.skip(2, &mut |reader, key| duplicate_key(reader, key, defects))?;
        }
        more = reader.more(b'}')?;
    }
    keys.twins(reader, &mut |reader, key| duplicate_key(reader, key, defects));
    Ok(())
}

fn examine_metadata(key: &str, value: &str, at: u64, header: &mut Header, defects: &mut Defects) {
    if key.is_empty() || value.is_empty() {
        defects.add(code::ST_METADATA_ODD, || {
            let what = if key.is_empty() { "key" } else { "value" };
            Defect::new(code::ST_METADATA_ODD, format!("a metadata {what} is empty")).at(at)
        });
    }
    if let Some(hazard) = name::metadata_hazard(key).or_else(|| name::metadata_hazard(value)) {
        defects.add(code::ST_METADATA_UNSAFE, || {
            Defect::new(
                code::ST_METADATA_UNSAFE,
                format!("the metadata's {} holds {hazard}", name::quote(key)),
            )
            .at(at)
            .hint("escape metadata before printing it")
        });
    }
    if header.metadata.len() >= MAX_METADATA_PAIRS {
        defects.add(code::ST_METADATA_ODD, || {
            let message = format!("of the metadata only the first {MAX_METADATA_PAIRS} pairs are listed");
            Defect::new(code::ST_METADATA_ODD, message).at(at)
        });
        return;
    }
    header.metadata.push((key.to_owned(), value.to_owned()));
}

fn examine_name(tensor: &str, key: Text, defects: &mut Defects) {
    let at = in_file(key.start() as usize);
    if tensor.len() > name::MAX_LEN {
        defects.add(code::ST_NAME_TOO_LONG, || {
            Defect::new(code::ST_NAME_TOO_LONG, format!("a tensor's name has {} bytes", tensor.len()))
                .at(at)
                .tensor(tensor)
                .expected(format!("at most {} bytes", name::MAX_LEN), tensor.len())
        });
    }
    let hazards = name::hazards(tensor);
    if !hazards.is_empty() {
        defects.add(code::ST_NAME_UNSAFE, || {
            let shown = name::quote(tensor);
            Defect::new(code::ST_NAME_UNSAFE, format!("the name {shown} is unsafe: {}", hazards.join(", ")))
                .at(at)
                .tensor(tensor)
        });
    }
}
