//! npy: magic bytes, a version, a Python literal, and one array.

mod dtype;
mod header;
mod literal;

pub(crate) use header::{Array, Place, parse};

use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::sniff;
use crate::source::ReadAt;
use crate::table::{Container, Storage, Table, Tensor};

/// Reads a plain npy file's header and examines it.
pub(crate) fn read(bytes: &(impl ReadAt + ?Sized), mut defects: Defects) -> Result<Table, Error> {
    let file_len = bytes.len();
    let mut table = Table::empty(Container::Npy, file_len);
    let mut prefix = |want: u64| {
        let mut head = vec![0; usize::try_from(want.min(file_len)).unwrap_or(0)];
        bytes.read_exact_at(&mut head, 0)?;
        Ok(head)
    };
    let place = Place { name: None, start: 0, len: file_len, inflated: false };
    if let Some(array) = parse(&mut prefix, &place, &mut defects)? {
        table.header_len = array.header_len;
        let end = array.header_len + array.len;
        if end < file_len
            && let Some(format) = sniff::format_at(bytes, end)?
        {
            defects.push(
                Defect::new(code::FS_POLYGLOT, format!("what follows the array is {format}"))
                    .at(end)
                    .length(file_len - end)
                    .expected("the end of the file", format),
            );
        }
        let storage = Storage::Stored { offset: array.header_len, len: array.len };
        table.tensors.push(array.into_tensor(String::new(), storage));
    }
    table.sound = !table.tensors.is_empty() && !defects.unsound();
    table.defects = defects.finish();
    Ok(table)
}

impl Array {
    /// The array as a tensor of a table.
    pub(crate) fn into_tensor(self, name: String, storage: Storage) -> Tensor {
        Tensor {
            name,
            dtype: self.dtype,
            shape: self.shape,
            storage,
            fortran_order: self.fortran_order,
            big_endian: self.big_endian,
            member: None,
        }
    }
}
