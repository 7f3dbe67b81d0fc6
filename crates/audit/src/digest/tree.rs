//! BLAKE3 of a range of a file on all threads.
//!
//! BLAKE3 is a binary tree over chunks of 1,024 bytes whose left halves are powers of two. Each thread reads and hashes
//! its own subtrees, so that reading is parallel too and a block is hashed while it is in the cache.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use unitrow_tensors::{Error, Source};

use super::{BLOCK_BYTES, read_blocks};

/// The BLAKE3 hash of some bytes of a file.
pub(super) fn hash(source: &Source, range: Range<u64>, stop: &AtomicBool) -> Result<blake3::Hash, Error> {
    let len = range.end.saturating_sub(range.start);
    if len <= BLOCK_BYTES as u64 {
        let mut hasher = Hasher::new();
        read_blocks(source, range, stop, |bytes| {
            hasher.update(bytes);
        })?;
        return Ok(hasher.finalize());
    }
    let (left, right) = children(source, range.start, 0, len, stop)?;
    Ok(merge_subtrees_root(&left, &right, Mode::Hash))
}

/// Chaining values of the two halves of a subtree of `len` bytes that begins `at` bytes into the input.
fn children(
    source: &Source,
    start: u64,
    at: u64,
    len: u64,
    stop: &AtomicBool,
) -> Result<(ChainingValue, ChainingValue), Error> {
    let half = left_subtree_len(len);
    let (left, right) = rayon::join(
        || subtree(source, start, at, half, stop),
        || subtree(source, start, at + half, len - half, stop),
    );
    Ok((left?, right?))
}

fn subtree(
    source: &Source,
    start: u64,
    at: u64,
    len: u64,
    stop: &AtomicBool,
) -> Result<ChainingValue, Error> {
    if len <= BLOCK_BYTES as u64 {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(at);
        read_blocks(source, start + at..start + at + len, stop, |bytes| {
            hasher.update(bytes);
        })?;
        return Ok(hasher.finalize_non_root());
    }
    let (left, right) = children(source, start, at, len, stop)?;
    Ok(merge_subtrees_non_root(&left, &right, Mode::Hash))
}
