//! The index of a sharded checkpoint: a JSON object whose `weight_map` says which file holds which tensor.

mod path;
mod set;

pub use set::{SetFile, check_set};

use std::collections::{HashMap, HashSet};

use crate::code::{self, Severity};
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::json::{Keys, Kind, Reader, Stop, Text};
use crate::name::quote;
use crate::sniff::{self, Content, HEAD_LEN, Promise};
use crate::source::Source;

/// What an index says about the size of all tensors together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TotalSize {
    /// Nothing.
    Absent,
    /// So many bytes; `float` where it is written with a fraction or an exponent that changes nothing.
    Bytes {
        /// The number.
        len: u64,
        /// Whether it is written as a float.
        float: bool,
    },
    /// Something that is no size: as it stands, escaped.
    Odd(String),
}

/// One line of the weight map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The tensor's name: untrusted, see [`escape`](crate::escape).
    pub tensor: String,
    /// The shard that holds it, as an index into [`Index::shards`].
    pub shard: usize,
    /// Where the tensor's name stands in the index, in bytes.
    pub byte_offset: u64,
}

/// What a shard index says, and everything that is wrong with it alone.
#[derive(Clone, Debug)]
pub struct Index {
    /// The shards' names, in the order in which they first appear: untrusted. Those that leave the folder are here too
    /// and must not be opened: see [`confined`](Self::confined).
    pub shards: Vec<String>,
    /// For each shard, whether its name is a plain path below the index's folder.
    pub confined: Vec<bool>,
    /// The weight map, in the file's order; where a name stands twice, its last line.
    pub listings: Vec<Listing>,
    /// What `metadata.total_size` says.
    pub total_size: TotalSize,
    /// All defects, in (offset, code) order, capped per code.
    pub defects: Vec<Defect>,
    /// Whether the weight map was read to its end and no name stands twice.
    pub sound: bool,
}

/// The longest index that is read, in bytes. 100,000 tensors take about a third of it.
const MAX_LEN: u64 = 32 << 20;
/// How many shards are listed; the largest checkpoints have some hundreds.
const MAX_SHARDS: usize = 1 << 16;

/// Reads an index file, by positional reads.
///
/// # Errors
/// Only where the file could not be read; whatever is wrong with its bytes is a [`Defect`] of the index.
pub fn read_index_file(source: &Source) -> Result<Index, Error> {
    let name = source.path().file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    if source.len() > MAX_LEN {
        let mut index = read_index(b"{}", &name);
        index.sound = false;
        index.defects = vec![
            Defect::new(code::X_BAD_INDEX, "the index is larger than any checkpoint's")
                .at(0)
                .expected(format!("at most {MAX_LEN} bytes"), format!("{} bytes", source.len())),
        ];
        return Ok(index);
    }
    let mut bytes = vec![0; usize::try_from(source.len()).unwrap_or(0)];
    source.read_exact_at(&mut bytes, 0)?;
    Ok(read_index(&bytes, &name))
}

/// Reads an index; `name` is its own file name, which no shard may have.
#[must_use]
pub fn read_index(bytes: &[u8], name: &str) -> Index {
    let mut defects = Defects::default();
    let mut index = Index {
        shards: Vec::new(),
        confined: Vec::new(),
        listings: Vec::new(),
        total_size: TotalSize::Absent,
        defects: Vec::new(),
        sound: false,
    };
    let head = &bytes[..bytes.len().min(HEAD_LEN)];
    match sniff::content(head) {
        _ if bytes.is_empty() => defects.push(Defect::new(code::FS_EMPTY, "the index is empty").at(0)),
        Content::Unknown | Content::Text("a JSON document" | "text") => {
            let complete = parse(bytes, &mut index, &mut defects);
            path::examine(&mut index, name, &mut defects);
            index.sound = complete && !defects.unsound();
            // Only a broken index can hold a name twice: in so many words, in bytes that are not UTF-8 and so read the
            // same, or before a break that hides the repetition.
            if !index.sound {
                last_of_each_name(&mut index.listings);
            }
        }
        foreign => defects.push(sniff::foreign(&foreign, Promise::Index, head)),
    }
    index.defects = defects.finish();
    index
}

/// Whether the text was read to its end.
fn parse(bytes: &[u8], index: &mut Index, defects: &mut Defects) -> bool {
    let mut reader = Reader::new(bytes);
    if let Some(at) = reader.not_utf8() {
        defects.push(
            Defect::new(code::X_BAD_INDEX, format!("byte {at} of the index is not UTF-8")).at(at as u64),
        );
    }
    if reader.byte_order_mark() {
        defects.push(
            Defect::new(code::X_BAD_INDEX, "the index begins with a byte order mark")
                .severity(Severity::Warn)
                .at(0)
                .expected("'{'", "ef bb bf")
                .hint("some JSON readers refuse it: save it as UTF-8 without a mark"),
        );
    }
    let stop = match members(&mut reader, index, defects) {
        Ok(()) => return true,
        Err(stop) => stop,
    };
    let message = stop.message.unwrap_or("it is nested too deeply");
    defects.push(
        Defect::new(code::X_BAD_INDEX, format!("the index is not JSON: {message}"))
            .at(stop.at as u64)
            .expected("one JSON object", "something else"),
    );
    false
}

fn duplicate(reader: &Reader<'_>, key: Text, defects: &mut Defects) {
    defects.add(code::X_DUP_KEY, || {
        let shown = quote(&reader.text(key));
        Defect::new(code::X_DUP_KEY, format!("the key {shown} stands twice in one object"))
            .at(u64::from(key.start()))
            .hint("readers keep the last of the two")
    });
}

fn bad(message: &str, at: usize, expected: &str, found: &str) -> Defect {
    Defect::new(code::X_BAD_INDEX, message).at(at as u64).expected(expected, found)
}

fn members(reader: &mut Reader<'_>, index: &mut Index, defects: &mut Defects) -> Result<(), Stop> {
    let kind = reader.kind()?;
    if kind != Kind::Object {
        defects.push(bad("the index is not an object", reader.at(), "an object", kind.name()));
        reader.skip(0, &mut |reader, key| duplicate(reader, key, defects))?;
        return end(reader);
    }
    let mut keys = Keys::default();
    let mut mapped = false;
    let mut more = reader.open(b'}');
    while more {
        let key = reader.key()?;
        keys.push(reader, key);
        match reader.find(key, &["weight_map", "metadata"]) {
            Some(0) => {
                mapped = true;
                weight_map(reader, index, defects)?;
            }
            Some(_) => metadata(reader, index, defects)?,
            None => reader.skip(1, &mut |reader, key| duplicate(reader, key, defects))?,
        }
        more = reader.more(b'}')?;
    }
    keys.twins(reader, &mut |reader, key| duplicate(reader, key, defects));
    if !mapped {
        defects.push(bad("the index has no weight_map", 0, "a weight_map", "none"));
    }
    end(reader)
}

fn end(reader: &mut Reader<'_>) -> Result<(), Stop> {
    reader.white_space();
    if reader.rest().is_empty() {
        return Ok(());
    }
    Err(Stop { at: reader.at(), message: Some("something follows the object") })
}

fn weight_map(reader: &mut Reader<'_>, index: &mut Index, defects: &mut Defects) -> Result<(), Stop> {
    index.listings.clear();
    let kind = reader.kind()?;
    let start = reader.at();
    if kind != Kind::Object {
        defects.push(bad("the weight_map is not an object", start, "an object", kind.name()));
        return reader.skip(1, &mut |reader, key| duplicate(reader, key, defects));
    }
    let mut shards = HashMap::new();
    let mut keys = Keys::default();
    let mut more = reader.open(b'}');
    while more {
        let key = reader.key()?;
        keys.push(reader, key);
        let kind = reader.kind()?;
        if kind == Kind::String {
            let shard = reader.string()?;
            let next = index.shards.len();
            let name = reader.text(shard);
            if next == MAX_SHARDS && !shards.contains_key(&name) {
                let at = reader.at();
                defects.add(code::X_BAD_INDEX, || {
                    bad("the index lists too many shards", at, &format!("at most {MAX_SHARDS}"), "another")
                });
            } else {
                let shard = *shards.entry(name).or_insert_with_key(|name| {
                    index.shards.push(name.clone());
                    next
                });
                let tensor = reader.text(key);
                index.listings.push(Listing { tensor, shard, byte_offset: u64::from(key.start()) });
            }
        } else {
            defects.add(code::X_BAD_INDEX, || {
                let tensor = reader.text(key);
                bad(
                    &format!("the shard of {} is not a string", quote(&tensor)),
                    reader.at(),
                    "a string",
                    kind.name(),
                )
                .tensor(&tensor)
            });
            reader.skip(2, &mut |reader, key| duplicate(reader, key, defects))?;
        }
        more = reader.more(b'}')?;
    }
    if index.listings.is_empty() {
        defects.push(
            bad("the weight_map is empty", start, "tensors and their shards", "none")
                .severity(Severity::Warn),
        );
    }
    keys.twins(reader, &mut |reader, key| duplicate(reader, key, defects));
    Ok(())
}

/// Where a name stands twice, readers use its last line.
fn last_of_each_name(listings: &mut Vec<Listing>) {
    let mut later: HashSet<&str> = HashSet::new();
    let mut keep: Vec<bool> = listings.iter().rev().map(|listing| later.insert(&listing.tensor)).collect();
    listings.retain(|_| keep.pop().unwrap_or(true));
}

fn metadata(reader: &mut Reader<'_>, index: &mut Index, defects: &mut Defects) -> Result<(), Stop> {
    if reader.kind()? != Kind::Object {
        return reader.skip(1, &mut |reader, key| duplicate(reader, key, defects));
    }
    let mut keys = Keys::default();
    let mut more = reader.open(b'}');
    while more {
        let key = reader.key()?;
        keys.push(reader, key);
        if reader.find(key, &["total_size"]).is_some() {
            let kind = reader.kind()?;
            let start = reader.at();
            reader.skip(2, &mut |reader, key| duplicate(reader, key, defects))?;
            index.total_size = total_size(kind, reader.since(start));
            if let TotalSize::Odd(found) = &index.total_size {
                defects.add(code::X_TOTAL_SIZE, || {
                    Defect::new(code::X_TOTAL_SIZE, "total_size is not a number of bytes")
                        .at(start as u64)
                        .expected("an integer", found)
                });
            }
        } else {
            reader.skip(2, &mut |reader, key| duplicate(reader, key, defects))?;
        }
        more = reader.more(b'}')?;
    }
    keys.twins(reader, &mut |reader, key| duplicate(reader, key, defects));
    Ok(())
}

fn total_size(kind: Kind, literal: &[u8]) -> TotalSize {
    let text = String::from_utf8_lossy(literal);
    let odd = || TotalSize::Odd(crate::name::escape(crate::defect::cut(&text, 32)));
    if kind != Kind::Number {
        return odd();
    }
    if let Ok(len) = text.parse() {
        return TotalSize::Bytes { len, float: false };
    }
    // Whole floats up to 2^53 are exact.
    match text.parse::<f64>() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be whole and in range"
        )]
        Ok(value) if value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value) => {
            TotalSize::Bytes { len: value as u64, float: true }
        }
        _ => odd(),
    }
}
