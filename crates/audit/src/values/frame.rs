//! How a tensor lies in its file: where its rows and pages are.

use unitrow_tensors::{Dtype, Table, Tensor};

use crate::read::stored_at;

/// Pages of the file system and of memory: what is lost is lost in multiples of these.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// What is known of a tensor before its values are looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, the one that moves fastest last.
    pub shape: Vec<u64>,
    /// Whether the file names its dimensions in the other order, so that what is a row here is a column there.
    pub transposed: bool,
    /// Its first byte in the file; `None` if it is compressed.
    pub start: Option<u64>,
    /// Its length in bytes.
    pub len: u64,
    /// Whether the data of the file ends with it.
    pub is_last: bool,
    /// Whether some of it lies in a hole of the file.
    pub in_hole: bool,
}

impl Frame {
    /// The frame of one tensor of a file whose data ends at `data_end`; `holes` are those of the file, as
    /// (offset, length).
    #[must_use]
    pub fn of(tensor: &Tensor, data_end: u64, holes: &[(u64, u64)]) -> Self {
        let mut shape = tensor.shape.clone();
        if tensor.fortran_order {
            shape.reverse();
        }
        let place = stored_at(tensor);
        Self {
            dtype: tensor.dtype,
            shape,
            transposed: tensor.fortran_order,
            start: place.map(|(offset, _)| offset),
            len: tensor.storage.len(),
            is_last: place.is_some_and(|(offset, len)| offset + len == data_end),
            in_hole: place.is_some_and(|(offset, len)| {
                holes.iter().any(|&(hole, hole_len)| hole < offset + len && offset < hole + hole_len)
            }),
        }
    }

    /// Where the last stored tensor of a table ends.
    #[must_use]
    pub fn data_end(table: &Table) -> u64 {
        table.tensors.iter().filter_map(stored_at).map(|(offset, len)| offset + len).max().unwrap_or(0)
    }

    /// Bytes of an element; 1 for those smaller than a byte.
    pub(crate) fn item_bytes(&self) -> u64 {
        (self.dtype.bits() / 8).max(1)
    }

    /// Bytes of a row, the elements that differ in the last index alone; a vector is one row.
    pub(crate) fn row_bytes(&self) -> u64 {
        match self.shape.as_slice() {
            // Dimensions of tensors without elements have any size.
            [.., _, row] => row.saturating_mul(self.dtype.bits()) / 8,
            _ => self.len,
        }
    }

    /// Bytes of a slice: the rows that differ in the last two indices alone.
    pub(crate) fn slice_bytes(&self) -> u64 {
        match self.shape.as_slice() {
            [.., rows, _] => rows.saturating_mul(self.row_bytes()),
            _ => self.len,
        }
    }

    /// Number of dimensions.
    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Bytes that are not to be cut when blocks of up to `block_bytes` are looked at: a row, or an element if a row
    /// alone is longer.
    pub(crate) fn block_row_bytes(&self, block_bytes: u64) -> u64 {
        let row = self.row_bytes();
        if self.rank() > 1 && (1..=block_bytes).contains(&row) { row } else { self.item_bytes() }
    }
}
