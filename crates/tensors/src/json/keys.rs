//! Keys that stand twice in one object, or that could be taken for each other.

use super::{Reader, Text, Twin};
use crate::name;

/// Keys with the same hash that are ordered by likeness; more are ordered by meaning alone, which takes no memory.
const RUN_LEN: usize = 4096;

/// The keys of one object, in 16 bytes each: a header can hold a key in five bytes, and memory is bounded by a
/// multiple of the header.
#[derive(Default)]
pub(crate) struct Keys {
    seen: Vec<(u64, Text)>,
}

impl Keys {
    /// Adds a key.
    pub(crate) fn push(&mut self, reader: &Reader<'_>, key: Text) {
        let raw = reader.raw(key);
        let hash = if !key.is_escaped() && raw.is_ascii() {
            hash(raw)
        } else {
            hash(name::fold(&reader.text(key)).as_bytes())
        };
        // The lowest bit is `twins`' mark.
        self.seen.push((hash & !1, key));
    }

    /// Calls `run` with all keys of one hash, wherever several have it, so that equal keys stand side by side in the
    /// order of the text, and so do keys that are equal once folded.
    pub(crate) fn runs(&mut self, reader: &Reader<'_>, mut run: impl FnMut(&mut [(u64, Text)])) {
        self.seen.sort_unstable();
        for same in self.seen.chunk_by_mut(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            // Hashes are not keyed and can be made to collide; sorting keeps that from costing a square.
            same.sort_unstable_by(|a, b| reader.compare(a.1, b.1).then(a.1.cmp(&b.1)));
            if same.len() <= RUN_LEN {
                same.sort_by_cached_key(|&(_, key)| name::fold(&reader.text(key)));
            }
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
            self.seen.sort_unstable_by_key(|&(_, key)| key);
            self.seen.into_iter().for_each(|(_, key)| twin(reader, key));
        }
    }
}

/// A hash that strings share which are equal once folded: the bit that tells ASCII letters of either case apart is
/// set in every byte.
fn hash(bytes: &[u8]) -> u64 {
    const CASE: u64 = 0x2020_2020_2020_2020;
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ (word | CASE)) * u128::from(FACTOR);
        // Both halves, so that each bit of the word reaches low and high bits of the hash.
        #[expect(clippy::cast_possible_truncation, reason = "the halves of the product")]
        let halves = (product as u64, (product >> 64) as u64);
        halves.0 ^ halves.1
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}
