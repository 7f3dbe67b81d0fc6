//! Which elements form a row: a tensor seen as `[outer, len, inner]`, reduced over `len`.

use unitrow_tensors::Tensor;

/// Shape of a tensor around the axis that norms reduce over, in memory order.
///
/// Row `o * inner + i` holds the elements `(o, 0, i), (o, 1, i), ...`; with `inner == 1` it is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Product of the dimensions before the reduced axis.
    pub outer: usize,
    /// Elements of a row.
    pub len: usize,
    /// Product of the dimensions after the reduced axis.
    pub inner: usize,
}

impl View {
    /// The view of `tensor` whose rows run along `axis`.
    ///
    /// `None` if there is no such axis or a product leaves `usize`; a validated table has no such shapes.
    #[must_use]
    pub fn along(tensor: &Tensor, axis: usize) -> Option<Self> {
        let mut shape = tensor.shape.clone();
        let mut axis = axis;
        if axis >= shape.len() {
            return None;
        }
        if tensor.fortran_order {
            // Column-major bytes are row-major bytes of the reversed shape.
            shape.reverse();
            axis = shape.len() - 1 - axis;
        }
        let product = |dimensions: &[u64]| {
            dimensions
                .iter()
                .try_fold(1_usize, |total, &dimension| total.checked_mul(usize::try_from(dimension).ok()?))
        };
        Some(Self {
            outer: product(&shape[..axis])?,
            len: usize::try_from(shape[axis]).ok()?,
            inner: product(&shape[axis + 1..])?,
        })
    }

    /// Every element a row of its own: for looking at values in the order of the bytes.
    pub(crate) fn flat(tensor: &Tensor) -> Option<Self> {
        Some(Self { outer: usize::try_from(tensor.elements()).ok()?, len: 1, inner: 1 })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(self) -> usize {
        self.outer * self.inner
    }

    /// Cut the rows into blocks of about `block_bytes`, in row order.
    pub(crate) fn blocks(self, item_bytes: usize, block_bytes: usize, max_rows: usize) -> Vec<Block> {
        let rows_per_block = (block_bytes / (self.len * item_bytes).max(1)).max(1);
        let limit = self.rows().min(max_rows);
        let mut blocks = Vec::new();
        if self.inner <= 1 {
            for first in (0..limit).step_by(rows_per_block) {
                blocks.push(Block { first_row: first, rows: rows_per_block.min(limit - first) });
            }
            return blocks;
        }
        for outer in 0..self.outer {
            for inner in (0..self.inner).step_by(rows_per_block) {
                let first_row = outer * self.inner + inner;
                if first_row >= limit {
                    return blocks;
                }
                let rows = rows_per_block.min(self.inner - inner).min(limit - first_row);
                blocks.push(Block { first_row, rows });
            }
        }
        blocks
    }
}

/// Consecutive rows; with `inner > 1` they share one outer index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Index of the first row.
    pub(crate) first_row: usize,
    /// Number of rows.
    pub(crate) rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(view: View, block_bytes: usize, max_rows: usize) -> Vec<usize> {
        let blocks = view.blocks(4, block_bytes, max_rows);
        for block in &blocks {
            if view.inner > 1 {
                let last = block.first_row + block.rows - 1;
                assert_eq!(block.first_row / view.inner, last / view.inner, "a block crosses outer indices");
            }
        }
        blocks.iter().flat_map(|block| block.first_row..block.first_row + block.rows).collect()
    }

    #[test]
    fn blocks_cover_each_row_once_and_in_order() {
        for (outer, len, inner) in [(1, 7, 1), (10, 7, 1), (1, 7, 10), (3, 7, 10), (3, 0, 4), (0, 7, 3)] {
            let view = View { outer, len, inner };
            for bytes in [1, 28, 100, 1 << 20] {
                for limit in [0, 1, 5, usize::MAX] {
                    let expected: Vec<usize> = (0..view.rows().min(limit)).collect();
                    assert_eq!(covered(view, bytes, limit), expected, "{view:?} {bytes} {limit}");
                }
            }
        }
    }
}
