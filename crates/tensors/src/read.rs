//! From a file to its table: what the bytes are, then the reader for them.

use std::ops::ControlFlow;
use std::path::Path;

use crate::defect::Defect;
use crate::error::Error;
use crate::source::{ReadAt, Source};
use crate::table::{Container, Table, Tensor};

/// Reads a file's headers, by positional reads, and examines its structure.
///
/// # Errors
/// Only where the file could not be read; whatever is wrong with its bytes is a [`Defect`] of the table.
pub fn read_table(source: &Source) -> Result<Table, Error> {
    read_table_from(source, source.path())
}

/// The same for any bytes; of `path` only the extension is used.
///
/// # Errors
/// Only where the bytes could not be read.
pub fn read_table_from(bytes: &(impl ReadAt + ?Sized), path: &Path) -> Result<Table, Error> {
    let _ = path;
    Ok(Table {
        container: Container::Unknown,
        tensors: Vec::new(),
        metadata: Vec::new(),
        defects: Vec::new(),
        header_len: 0,
        file_len: bytes.len(),
        sound: false,
    })
}

/// Streams a deflated tensor's values to `sink` in order, never more than the table says; `sink` may break off.
///
/// # Errors
/// Only where the file could not be read; a damaged stream is the defect returned.
pub fn inflate(
    source: &(impl ReadAt + ?Sized),
    tensor: &Tensor,
    sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<Option<Defect>, Error> {
    let _ = (source.len(), tensor, sink);
    Ok(None)
}

/// Reads a zip member again and compares its check sum.
///
/// # Errors
/// Only where the file could not be read; a wrong sum is the defect returned.
pub fn check_crc(source: &(impl ReadAt + ?Sized), tensor: &Tensor) -> Result<Option<Defect>, Error> {
    let _ = (source.len(), tensor);
    Ok(None)
}
