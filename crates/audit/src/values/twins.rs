//! Pages of a file that hold the same bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use unitrow_tensors::{Error, Source};

use super::frame::PAGE_BYTES;

/// Marks that are kept for one file; of larger files only a share of the pages is marked.
const MAX_MARKS: usize = 1 << 16;

/// Pairs of pages that are compared byte by byte.
const MAX_COMPARED: usize = 1 << 12;

const PAGE: usize = 4096;

/// A mark of every page, or of an even share of them, chosen by content so that both of two equal pages are in it.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    marks: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// Mark and number of a page.
    kept: Vec<(u32, u32)>,
    /// Marks are kept that are multiples of two to this power.
    level: u32,
}

/// Equal pages of a file, by their offsets: the first of its kind, and a later one.
pub(crate) type Twins = Vec<(u64, u64)>;

impl Pages {
    /// Mark the whole pages among bytes that begin at `offset` of the file.
    pub(crate) fn mark(&self, offset: u64, bytes: &[u8]) {
        let skipped = usize::try_from(offset.next_multiple_of(PAGE_BYTES) - offset).unwrap_or(PAGE);
        let first = offset.div_ceil(PAGE_BYTES);
        let pages = bytes.get(skipped..).unwrap_or_default().chunks_exact(PAGE);
        let marks: Vec<(u32, u32)> = (first..)
            .zip(pages)
            .filter_map(|(number, page)| Some((mark(page)?, u32::try_from(number).ok()?)))
            .collect();
        let mut all = self.lock();
        // What is kept in the end does not depend on the order in which blocks come.
        let level = all.level;
        all.kept.extend(marks.into_iter().filter(|(mark, _)| mark.trailing_zeros() >= level));
        while all.kept.len() > MAX_MARKS {
            all.level += 1;
            let level = all.level;
            all.kept.retain(|(mark, _)| mark.trailing_zeros() >= level);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The marked pages that are equal to an earlier one.
    pub(crate) fn twins(&self, source: &Source) -> Result<Twins, Error> {
        let mut kept = std::mem::take(&mut *self.lock()).kept;
        kept.sort_unstable();
        let (mut one, mut other) = (vec![0; PAGE], vec![0; PAGE]);
        let mut twins = Twins::new();
        let alike = kept.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
        let pairs = alike.flat_map(|group| group[1..].iter().map(|later| (group[0].1, later.1)));
        for (first, later) in pairs.take(MAX_COMPARED) {
            let [first, later] = [first, later].map(|number| u64::from(number) * PAGE_BYTES);
            source.read_exact_at(&mut one, first)?;
            source.read_exact_at(&mut other, later)?;
            if one == other && !is_pattern(&one) {
                twins.push((first, later));
            }
        }
        twins.sort_unstable_by_key(|&(first, later)| (later, first));
        Ok(twins)
    }
}

/// A mark of a page by its first line; `None` where that repeats itself, as in vectors of one value.
fn mark(page: &[u8]) -> Option<u32> {
    let (words, _) = page.as_chunks::<8>();
    let [a, b] = [words[0], words[1]].map(u64::from_le_bytes);
    let mixed = (a ^ b.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The high half depends on all bits.
    (a != b).then_some((mixed >> 32) as u32)
}

/// Whether a page says nothing but one line over and over.
fn is_pattern(page: &[u8]) -> bool {
    page.chunks_exact(64).all(|line| line == &page[..64])
}
