//! BLAKE3 on all threads.
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
    hash_leaves(len, BLOCK_BYTES as u64, &|leaf: Range<u64>, hasher: &mut Hasher| {
        read_blocks(source, range.start + leaf.start..range.start + leaf.end, stop, |bytes| {
            hasher.update(bytes);
        })
    })
}

/// The BLAKE3 hash of `len` bytes, which `hash_leaf` puts into the hasher that it is given, leaf by leaf.
///
/// A leaf is a range of at most `leaf_bytes`, a power of two of at least 1,024, and begins at a multiple of that.
/// Leaves come in any order, on any thread.
///
/// # Errors
/// That of the first leaf, in the order of the bytes, which had one.
pub(crate) fn hash_leaves<E: Send>(
    len: u64,
    leaf_bytes: u64,
    hash_leaf: &(impl Fn(Range<u64>, &mut Hasher) -> Result<(), E> + Sync),
) -> Result<blake3::Hash, E> {
    if len <= leaf_bytes {
        let mut hasher = Hasher::new();
        hash_leaf(0..len, &mut hasher)?;
        return Ok(hasher.finalize());
    }
    let (left, right) = children(0..len, leaf_bytes, hash_leaf)?;
    Ok(merge_subtrees_root(&left, &right, Mode::Hash))
}

/// Chaining values of the two halves of a subtree.
fn children<E: Send>(
    range: Range<u64>,
    leaf_bytes: u64,
    hash_leaf: &(impl Fn(Range<u64>, &mut Hasher) -> Result<(), E> + Sync),
) -> Result<(ChainingValue, ChainingValue), E> {
    let middle = range.start + left_subtree_len(range.end - range.start);
    let (left, right) = rayon::join(
        || subtree(range.start..middle, leaf_bytes, hash_leaf),
        || subtree(middle..range.end, leaf_bytes, hash_leaf),
    );
    Ok((left?, right?))
}

fn subtree<E: Send>(
    range: Range<u64>,
    leaf_bytes: u64,
    hash_leaf: &(impl Fn(Range<u64>, &mut Hasher) -> Result<(), E> + Sync),
) -> Result<ChainingValue, E> {
    if range.end - range.start <= leaf_bytes {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(range.start);
        hash_leaf(range, &mut hasher)?;
        return Ok(hasher.finalize_non_root());
    }
    let (left, right) = children(range, leaf_bytes, hash_leaf)?;
    Ok(merge_subtrees_non_root(&left, &right, Mode::Hash))
}
