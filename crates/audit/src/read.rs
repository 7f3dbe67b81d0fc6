//! Rows of one tensor as contiguous little-endian bytes, from positional reads into recycled buffers: what does not go
//! along with the pass over the file.

use std::cell::RefCell;
use std::ops::ControlFlow;

use unitrow_tensors::{Defect, Error, Source, Storage, Tensor};

use crate::scan::Failure;
use crate::view::{Block, View};
use crate::watch::Watch;

/// Bytes that a worker reads at a time where rows are contiguous: they stay in the second-level cache.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

/// Bytes that all workers together gather at a time where rows are strided.
const PANELS_BYTES: usize = 64 << 20;

/// Bytes that a worker gathers at least and at most: each line of the file gives a segment worth a call.
const PANEL_BYTES: (usize, usize) = (2 << 20, 16 << 20);

/// Bytes that each of some workers gathers at a time where rows are strided.
pub(crate) fn panel_bytes(workers: usize) -> usize {
    (PANELS_BYTES / workers.max(1)).clamp(PANEL_BYTES.0, PANEL_BYTES.1)
}

/// Rows longer than this are not judged: no decoder has them, and a worker would have to hold one whole.
pub(crate) const MAX_ROW_BYTES: usize = 4 << 20;

/// Decoders of more rows than this are not judged: none has them, and about 48 bytes of each row are kept.
pub(crate) const MAX_ROWS: usize = 1 << 24;

/// Lines of a panel that are read before they are scattered: each scatter then fills whole cache lines.
const LINES: usize = 16;

thread_local! {
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Give `use_bytes` a recycled buffer of `len` bytes filled from `offset` of the file.
pub(crate) fn with_bytes<T>(
    source: &Source,
    tensor: &Tensor,
    offset: u64,
    len: usize,
    use_bytes: impl FnOnce(&[u8]) -> T,
) -> Result<T, Error> {
    BUFFERS.with_borrow_mut(|(buffer, _)| {
        let bytes = resized(buffer, len);
        source.read_exact_at(bytes, offset)?;
        to_little_endian(tensor, bytes);
        Ok(use_bytes(bytes))
    })
}

/// Give `use_rows` the rows of a block of a stored tensor, one after the other, little-endian.
pub(crate) fn with_rows<T>(
    source: &Source,
    tensor: &Tensor,
    start: u64,
    view: View,
    block: Block,
    use_rows: impl FnOnce(&[u8]) -> T,
) -> Result<T, Error> {
    let item = item_bytes(tensor);
    if view.inner <= 1 {
        let offset = start + (block.first_row * view.len * item) as u64;
        return with_bytes(source, tensor, offset, block.rows * view.len * item, use_rows);
    }
    let (outer, column) = (block.first_row / view.inner, block.first_row % view.inner);
    let segment = block.rows * item;
    BUFFERS.with_borrow_mut(|(lines, rows)| {
        let lines = resized(lines, LINES * segment);
        let rows = resized(rows, block.rows * view.len * item);
        for first in (0..view.len).step_by(LINES) {
            let count = LINES.min(view.len - first);
            for (line, bytes) in (first..first + count).zip(lines.chunks_exact_mut(segment)) {
                let element = (outer * view.len + line) * view.inner + column;
                source.read_exact_at(bytes, start + (element * item) as u64)?;
            }
            scatter_lines(&lines[..count * segment], segment, rows, view.len * item, first * item, item);
        }
        to_little_endian(tensor, rows);
        Ok(use_rows(rows))
    })
}

/// Inflate a tensor, or read it, and compare its check sum; ends soon after the watch or `sink` says so.
pub(crate) fn inflate(
    source: &Source,
    tensor: &Tensor,
    watch: &Watch,
    mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Option<Defect>, Failure> {
    let mut outcome = Ok(());
    let damage = unitrow_tensors::inflate(source, tensor, &mut |piece| {
        outcome = if watch.is_cancelled() { Err(Failure::Cancelled) } else { sink(piece) };
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome.map(|()| damage)
}

/// Stream a compressed tensor through `use_block` in blocks of whole rows, in order.
///
/// Rows that are not contiguous are gathered panel by panel, each panel inflating the member again: memory stays
/// bounded by a panel, whatever the member declares.
pub(crate) fn stream_rows(
    source: &Source,
    tensor: &Tensor,
    view: View,
    blocks: &[Block],
    watch: &Watch,
    mut use_block: impl FnMut(Block, &[u8]) -> Result<(), Failure>,
) -> Result<Option<Defect>, Failure> {
    let item = item_bytes(tensor);
    let row_bytes = view.len * item;
    if view.inner <= 1 {
        let mut pending = Vec::new();
        let mut next = blocks.iter();
        let mut current = next.next();
        return inflate(source, tensor, watch, |mut piece| {
            while let Some(block) = current {
                let wanted = block.rows * row_bytes - pending.len();
                let taken = wanted.min(piece.len());
                pending.extend_from_slice(&piece[..taken]);
                piece = &piece[taken..];
                if taken < wanted {
                    return Ok(());
                }
                to_little_endian(tensor, &mut pending);
                use_block(*block, &pending)?;
                pending.clear();
                current = next.next();
            }
            Ok(())
        });
    }
    let mut rows = Vec::new();
    for block in blocks {
        let rows = resized(&mut rows, block.rows * row_bytes);
        let mut gather = Gather { view, block: *block, item, position: 0, rows };
        let found = inflate(source, tensor, watch, |piece| {
            gather.take(piece);
            Ok(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
        to_little_endian(tensor, rows);
        use_block(*block, rows)?;
    }
    Ok(None)
}

/// Picks the elements of one panel out of a tensor that passes by in pieces.
struct Gather<'a> {
    view: View,
    block: Block,
    item: usize,
    position: usize,
    rows: &'a mut [u8],
}

impl Gather<'_> {
    fn take(&mut self, piece: &[u8]) {
        let line_bytes = self.view.inner * self.item;
        let (outer, column) =
            (self.block.first_row / self.view.inner, self.block.first_row % self.view.inner);
        let wanted = column * self.item..(column + self.block.rows) * self.item;
        let mut piece = piece;
        while !piece.is_empty() {
            let (line, within) = (self.position / line_bytes, self.position % line_bytes);
            let taken = piece.len().min(line_bytes - within);
            if line / self.view.len.max(1) == outer {
                let element = line % self.view.len;
                let (from, to) = (within.max(wanted.start), (within + taken).min(wanted.end));
                for byte in from..to {
                    let row = (byte - wanted.start) / self.item;
                    self.rows[(row * self.view.len + element) * self.item + byte % self.item] =
                        piece[byte - within];
                }
            }
            self.position += taken;
            piece = &piece[taken..];
        }
    }
}

/// Size of an element in bytes; only whole-byte dtypes have rows.
pub(crate) fn item_bytes(tensor: &Tensor) -> usize {
    (tensor.dtype.bits() / 8) as usize
}

/// Where a stored tensor starts in its file; `None` if it is compressed.
pub(crate) fn stored_at(tensor: &Tensor) -> Option<(u64, u64)> {
    match tensor.storage {
        Storage::Stored { offset, len, .. } => Some((offset, len)),
        Storage::Deflated { .. } => None,
    }
}

fn resized(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// Write element `i` of each line to row `i`, `into` bytes from the row's start.
fn scatter_lines(lines: &[u8], segment: usize, rows: &mut [u8], row_bytes: usize, into: usize, item: usize) {
    match item {
        1 => scatter::<1>(lines, segment, rows, row_bytes, into),
        2 => scatter::<2>(lines, segment, rows, row_bytes, into),
        4 => scatter::<4>(lines, segment, rows, row_bytes, into),
        8 => scatter::<8>(lines, segment, rows, row_bytes, into),
        _ => scatter::<16>(lines, segment, rows, row_bytes, into),
    }
}

fn scatter<const ITEM: usize>(lines: &[u8], segment: usize, rows: &mut [u8], row_bytes: usize, into: usize) {
    for (row, bytes) in rows.chunks_exact_mut(row_bytes).enumerate() {
        let (targets, _) = bytes[into..].as_chunks_mut::<ITEM>();
        for (line, target) in lines.chunks_exact(segment).zip(targets) {
            target.copy_from_slice(&line[row * ITEM..(row + 1) * ITEM]);
        }
    }
}

/// Turn the bytes of elements that are stored with the high byte first.
pub(crate) fn to_little_endian(tensor: &Tensor, bytes: &mut [u8]) {
    // The parts of a complex number are swapped each in its place.
    let part = usize::try_from(tensor.dtype.alignment()).unwrap_or(1);
    if tensor.big_endian && part > 1 {
        bytes.chunks_exact_mut(part).for_each(<[u8]>::reverse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_share_one_budget_down_to_a_floor() {
        let sizes = [0, 1, 4, 8, 32, 192].map(|workers| panel_bytes(workers) >> 20);
        assert_eq!(sizes, [16, 16, 16, 8, 2, 2]);
    }
}
