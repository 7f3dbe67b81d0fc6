//! An index against the files beside it: both must tell of the same tensors in the same places.

use std::collections::{HashMap, HashSet};

use super::path::Series;
use super::{Index, TotalSize};
use crate::code::{self, Code, Severity};
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::name::quote;
use crate::source::{ReadAt, Source};
use crate::table::{Storage, Table, Tensor};

/// Bytes compared at a time.
const CHUNK_LEN: usize = 256 << 10;

/// A file beside the index, whether listed or not.
#[derive(Clone, Copy, Debug)]
pub struct SetFile<'a> {
    /// Its path below the index's folder, with `/` between parts.
    pub name: &'a str,
    /// What it holds; `None` where it could not be read.
    pub table: Option<&'a Table>,
    /// Its bytes, to compare where two files may hold the same; `None` leaves that undecided.
    pub source: Option<&'a Source>,
    /// Whether it is a link to somewhere outside the index's folder.
    pub leads_outside: bool,
}

impl SetFile<'_> {
    /// Whether every tensor that the file should hold is in its table.
    fn is_whole(&self) -> bool {
        self.table.is_some_and(|table| table.worst() < Some(Severity::Fail))
    }
}

/// What is wrong with the set that an index and the files of its folder make. Defects of the index alone are in
/// [`Index::defects`], those of a file alone in its table. Offsets count from the beginning of the index.
///
/// # Errors
/// Only where a file that had to be compared could not be read.
pub fn check_set(index: &Index, files: &[SetFile<'_>]) -> Result<Vec<Defect>, Error> {
    let mut defects = Defects::default();
    let by_name: HashMap<&str, &SetFile<'_>> = files.iter().map(|file| (file.name, file)).collect();
    let listed: Vec<Option<&SetFile<'_>>> =
        index.shards.iter().map(|name| by_name.get(name.as_str()).copied()).collect();
    let shard_at = first_offsets(index);
    for ((name, file), (&at, &confined)) in
        index.shards.iter().zip(&listed).zip(shard_at.iter().zip(&index.confined))
    {
        match file {
            // A name that leaves the folder was never looked for.
            None if confined => missing_shard(name, at, &mut defects),
            Some(file) if file.leads_outside => defects.push(
                Defect::new(code::X_PATH, format!("the shard {} is a link out of the folder", quote(name)))
                    .severity(Severity::Warn)
                    .at(at)
                    .expected("a file of the folder", "a link out of it"),
            ),
            _ => {}
        }
    }
    let members = Members::of(index);
    let (members, strangers): (Vec<&SetFile<'_>>, Vec<_>) =
        files.iter().partition(|file| members.has(file.name));
    placements(index, &listed, &members, &mut defects);
    examine_strangers(index, &strangers, &members, &mut defects)?;
    twins(&members, &mut defects)?;
    total_size(index, &listed, &mut defects);
    Ok(defects.finish())
}

fn first_offsets(index: &Index) -> Vec<u64> {
    let mut first = vec![0; index.shards.len()];
    for listing in index.listings.iter().rev() {
        first[listing.shard] = listing.byte_offset;
    }
    first
}

fn missing_shard(name: &str, at: u64, defects: &mut Defects) {
    defects.add(code::X_SHARD_MISSING, || {
        Defect::new(code::X_SHARD_MISSING, format!("the shard {} is not there", quote(name)))
            .at(at)
            .expected(quote(name), "no such file")
            .hint("fetch the missing file")
    });
}

/// The files that belong to an index: those that it lists, and those whose number is one of its series.
struct Members<'a> {
    names: HashSet<&'a str>,
    series: HashSet<(&'a str, &'a str, u64)>,
}

impl<'a> Members<'a> {
    fn of(index: &'a Index) -> Self {
        let series = index.shards.iter().filter_map(|name| Series::of(name));
        Self {
            names: index.shards.iter().map(String::as_str).collect(),
            series: series.map(|series| (series.prefix, series.suffix, series.count)).collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        let numbered = |series: Series<'_>| {
            (1..=series.count).contains(&series.number)
                && self.series.contains(&(series.prefix, series.suffix, series.count))
        };
        self.names.contains(name) || Series::of(name).is_some_and(numbered)
    }
}

fn at(code: Code, tensor: &str, message: &str) -> Defect {
    Defect::new(code, format!("tensor {}: {message}", quote(tensor))).tensor(tensor)
}

/// Compares where tensors are with where the index says they are.
fn placements(
    index: &Index,
    listed: &[Option<&SetFile<'_>>],
    members: &[&SetFile<'_>],
    defects: &mut Defects,
) {
    let mut places: HashMap<&str, Vec<&str>> = HashMap::new();
    for file in members {
        for tensor in file.table.iter().flat_map(|table| &table.tensors) {
            places.entry(&tensor.name).or_default().push(file.name);
        }
    }
    let known: HashSet<&str> = index.listings.iter().map(|listing| listing.tensor.as_str()).collect();
    for listing in &index.listings {
        let shard = &index.shards[listing.shard];
        let holders = places.get(listing.tensor.as_str()).map_or(&[][..], Vec::as_slice);
        if holders.iter().any(|holder| holder == shard) {
            continue;
        }
        let whole = listed[listing.shard].is_some_and(SetFile::is_whole);
        if let Some(holder) = holders.first() {
            defects.add(code::X_WRONG_SHARD, || {
                at(code::X_WRONG_SHARD, &listing.tensor, "it is in another shard than the index says")
                    .at(listing.byte_offset)
                    .expected(quote(shard), quote(holder))
            });
        } else if whole {
            defects.add(code::X_TENSOR_MISSING, || {
                at(code::X_TENSOR_MISSING, &listing.tensor, "no shard holds it")
                    .at(listing.byte_offset)
                    .expected(format!("in {}", quote(shard)), "nowhere")
            });
        }
    }
    for file in members {
        for tensor in file.table.iter().flat_map(|table| &table.tensors) {
            if !known.contains(tensor.name.as_str()) {
                defects.add(code::X_TENSOR_UNLISTED, || {
                    at(code::X_TENSOR_UNLISTED, &tensor.name, "the index does not list it")
                        .expected("a line of the weight_map", format!("only in {}", quote(file.name)))
                });
            }
            let holders = &places[tensor.name.as_str()];
            if holders.len() > 1 && holders[0] == file.name {
                defects.add(code::X_DUP_TENSOR, || {
                    at(code::X_DUP_TENSOR, &tensor.name, "it is in several shards").expected(
                        format!("in {} alone", quote(holders[0])),
                        format!("also in {}", quote(holders[1])),
                    )
                });
            }
        }
    }
}

/// Files that look like shards or like the whole checkpoint, and are neither listed nor in the series.
fn examine_strangers(
    index: &Index,
    strangers: &[&SetFile<'_>],
    members: &[&SetFile<'_>],
    defects: &mut Defects,
) -> Result<(), Error> {
    let series = index.shards.iter().find_map(|name| Series::of(name));
    for &file in strangers {
        if Series::of(file.name).is_some() {
            defects.add(code::X_ORPHAN, || {
                Defect::new(
                    code::X_ORPHAN,
                    format!("the file {} is a shard of no series here", quote(file.name)),
                )
                .expected("the shards that the index lists", quote(file.name))
            });
            continue;
        }
        let single = series.is_some_and(|s| file.name.strip_prefix(s.prefix) == Some(s.suffix));
        if single && differs(file, members)? {
            defects.push(
                Defect::new(
                    code::X_AMBIGUOUS_SET,
                    format!("the single file {} and the shards hold different tensors", quote(file.name)),
                )
                .expected("one checkpoint", "two that differ")
                .hint("loaders differ in which of the two they use: delete the one that is not meant"),
            );
        }
    }
    Ok(())
}

/// Whether a single file holds anything else than the shards together.
fn differs(single: &SetFile<'_>, members: &[&SetFile<'_>]) -> Result<bool, Error> {
    let Some(table) = single.table else { return Ok(true) };
    let others: HashMap<&str, &Tensor> =
        table.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut left = others.len();
    for file in members {
        for tensor in file.table.iter().flat_map(|table| &table.tensors) {
            let Some(other) = table.tensors.iter().find(|other| other.name == tensor.name) else {
                return Ok(true);
            };
            if (tensor.dtype, &tensor.shape) != (other.dtype, &other.shape) {
                return Ok(true);
            }
            let (Some(source), Some(other_source)) = (file.source, single.source) else { return Ok(true) };
            if !same_values(source, tensor, other_source, other)? {
                return Ok(true);
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(left > 0)
}

fn same_values(left: &Source, tensor: &Tensor, right: &Source, other: &Tensor) -> Result<bool, Error> {
    match (tensor.storage, other.storage) {
        (Storage::Stored { offset, len }, Storage::Stored { offset: other_offset, len: other_len }) => {
            Ok(len == other_len && same_bytes(left, offset, right, other_offset, len)?)
        }
        _ => Ok(false),
    }
}

fn same_bytes(
    left: &impl ReadAt,
    at: u64,
    right: &impl ReadAt,
    other_at: u64,
    len: u64,
) -> Result<bool, Error> {
    let (mut a, mut b) = (vec![0; CHUNK_LEN], vec![0; CHUNK_LEN]);
    let mut done = 0;
    while done < len {
        let step = usize::try_from(len - done).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        left.read_exact_at(&mut a[..step], at + done)?;
        right.read_exact_at(&mut b[..step], other_at + done)?;
        if a[..step] != b[..step] {
            return Ok(false);
        }
        done += step as u64;
    }
    Ok(true)
}

/// Two shards with the same bytes: one was copied over another.
fn twins(members: &[&SetFile<'_>], defects: &mut Defects) -> Result<(), Error> {
    let mut by_len: HashMap<(u64, u64), Vec<&SetFile<'_>>> = HashMap::new();
    for &file in members {
        let Some(table) = file.table.filter(|table| !table.tensors.is_empty()) else { continue };
        let alike = by_len.entry((table.file_len, table.header_len)).or_default();
        for former in alike.iter() {
            let same = former.table.is_some_and(|other| other.tensors == table.tensors);
            if let (true, Some(left), Some(right)) = (same, former.source, file.source)
                && same_bytes(left, 0, right, 0, table.file_len)?
            {
                defects.add(code::X_DUP_SHARD, || {
                    let (first, second) = (quote(former.name), quote(file.name));
                    Defect::new(
                        code::X_DUP_SHARD,
                        format!("the shards {first} and {second} hold the same bytes"),
                    )
                    .length(table.file_len)
                    .expected("different shards", "two copies of one")
                    .hint("fetch both files again")
                });
                break;
            }
        }
        alike.push(file);
    }
    Ok(())
}

fn total_size(index: &Index, listed: &[Option<&SetFile<'_>>], defects: &mut Defects) {
    let (claimed, float) = match index.total_size {
        TotalSize::Absent => {
            defects.push(
                Defect::new(code::X_TOTAL_SIZE, "the index gives no total_size")
                    .severity(Severity::Note)
                    .expected("metadata.total_size", "none"),
            );
            return;
        }
        // Reported with the index.
        TotalSize::Odd(_) => return,
        TotalSize::Bytes { len, float } => (len, float),
    };
    if float {
        defects.push(
            Defect::new(code::X_TOTAL_SIZE, "total_size is written as a float")
                .severity(Severity::Note)
                .expected("an integer", format!("{claimed}.0")),
        );
    }
    if !listed.iter().all(|file| file.is_some_and(SetFile::is_whole)) {
        return;
    }
    let tensors = listed.iter().flatten().filter_map(|file| file.table).flat_map(|table| &table.tensors);
    let total: u64 = tensors.map(|tensor| tensor.storage.len()).sum();
    if total != claimed {
        defects.push(
            Defect::new(code::X_TOTAL_SIZE, "total_size is not the size of the tensors together")
                .expected(format!("{total} bytes"), format!("{claimed} bytes")),
        );
    }
}
