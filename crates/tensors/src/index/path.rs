//! The names of shards: where they lead, and whether they number a series.

use super::Index;
use crate::code;
use crate::defect::{Defect, Defects};
use crate::name::quote;

/// Examines the names of all shards; `own` is the index's file name.
pub(super) fn examine(index: &mut Index, own: &str, defects: &mut Defects) {
    let mut first = vec![0; index.shards.len()];
    for listing in index.listings.iter().rev() {
        first[listing.shard] = listing.byte_offset;
    }
    index.confined = index.shards.iter().map(|name| hazard(name, own).is_none()).collect();
    for (name, &at) in index.shards.iter().zip(&first) {
        if let Some(why) = hazard(name, own) {
            defects.add(code::X_PATH, || {
                Defect::new(code::X_PATH, format!("the shard name {} {why}", quote(name)))
                    .at(at)
                    .expected("a file below the index's folder", quote(name))
                    .hint("do not load this checkpoint by its index")
            });
        }
    }
    count(index, defects);
}

/// Why a shard's name must not be joined to a folder and opened.
fn hazard(name: &str, own: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty");
    }
    if name.contains('\0') {
        return Some("contains NUL");
    }
    if name.contains("://") {
        return Some("is a URL");
    }
    if name.starts_with('/') || name.as_bytes().get(1) == Some(&b':') {
        return Some("is absolute");
    }
    if name.contains('\\') {
        return Some("contains a backslash");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some("leads elsewhere than it says");
    }
    (name == own).then_some("is the index itself")
}

/// A name of the form `<prefix>-00001-of-00003<suffix>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Series<'a> {
    pub(super) prefix: &'a str,
    pub(super) suffix: &'a str,
    pub(super) number: u64,
    pub(super) count: u64,
}

impl<'a> Series<'a> {
    pub(super) fn of(name: &'a str) -> Option<Self> {
        let (before, after) = name.rsplit_once("-of-")?;
        let (prefix, number) = before.rsplit_once('-')?;
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (count, suffix) = after.split_at(digits);
        let natural =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Self { prefix, suffix, number: natural(number)?, count: natural(count)? })
    }

    /// Whether two names number the same files.
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        (self.prefix, self.suffix) == (other.prefix, other.suffix)
    }
}

/// Whether the shards that number themselves are as many as they say.
fn count(index: &Index, defects: &mut Defects) {
    let series: Vec<Series<'_>> = index.shards.iter().filter_map(|name| Series::of(name)).collect();
    let Some(first) = series.first() else { return };
    let kin: Vec<_> = series.iter().filter(|other| first.is_kin(other)).collect();
    let mut numbers: Vec<u64> = kin.iter().map(|one| one.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let agreed = kin.iter().all(|one| one.count == first.count);
    let complete = numbers.len() as u64 == first.count
        && numbers.first() == Some(&1)
        && numbers.last() == Some(&first.count);
    if !(agreed && complete) {
        let found =
            if agreed { format!("{} of them", numbers.len()) } else { "names that disagree".to_owned() };
        defects.push(
            Defect::new(code::X_SHARD_COUNT, "the shards' names and their number disagree")
                .at(0)
                .expected(format!("shards 1 to {}", first.count), found),
        );
    }
}
