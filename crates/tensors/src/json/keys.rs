//! Keys that stand twice in one object.

use std::hash::{DefaultHasher, Hasher};

use super::unescape::Unescape;
use super::{Reader, Text, Twin};

/// The keys of one object, in 16 bytes each: a header can hold a key in five bytes, and memory is bounded by a
/// multiple of the header.
#[derive(Default)]
pub(crate) struct Keys {
    seen: Vec<(u64, Text)>,
}

/// A hash of what a string means.
pub(crate) fn hash(raw: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    if raw.contains(&b'\\') {
        hasher.write(&Unescape::new(raw).collect::<Vec<u8>>());
    } else {
        hasher.write(raw);
    }
    hasher.finish()
}

impl Keys {
    /// Adds a key under a hash that equal keys share.
    pub(crate) fn push(&mut self, hash: u64, key: Text) {
        // The lowest bit is `twins`' mark.
        self.seen.push((hash & !1, key));
    }

    /// Calls `run` with all keys of one hash, wherever several have it, ordered by meaning and then by position.
    pub(crate) fn runs(&mut self, reader: &Reader<'_>, mut run: impl FnMut(&mut [(u64, Text)])) {
        self.seen.sort_unstable_by_key(|&(hash, key)| (hash, key.start));
        for same in self.seen.chunk_by_mut(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            // Hashes are not keyed and can be made to collide; sorting by meaning keeps that from costing a square.
            same.sort_unstable_by(|a, b| reader.compare(a.1, b.1).then(a.1.start.cmp(&b.1.start)));
            run(same);
        }
    }

    /// Calls `twin` with each key that stood before in this object, in the order of the text.
    pub(crate) fn twins(mut self, reader: &Reader<'_>, twin: Twin<'_>) {
        // Marked in place: the text's own length bounds what may be allocated.
        let mut any = false;
        self.runs(reader, |same| {
            for index in 1..same.len() {
                if reader.compare(same[index - 1].1, same[index].1).is_eq() {
                    same[index].0 |= 1;
                    any = true;
                }
            }
        });
        if any {
            self.seen.retain(|&(mark, _)| mark & 1 == 1);
            self.seen.sort_unstable_by_key(|&(_, key)| key.start);
            self.seen.into_iter().for_each(|(_, key)| twin(reader, key));
        }
    }
}
