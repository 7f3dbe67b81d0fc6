//! From a file to its table: what the bytes are, then the reader for them.

use std::path::Path;

use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::sniff::{self, Content, HEAD_LEN, Promise};
use crate::source::{ReadAt, Source};
use crate::table::{Container, Table};
use crate::{file, npy, npz, safetensors};

/// Reads a file's headers, by positional reads, and examines its structure.
///
/// What the bytes are decides which reader gets them; a name that promises another container is a defect of its own.
///
/// # Errors
/// Only where the file could not be read; whatever is wrong with its bytes is a [`Defect`] of the table.
pub fn read_table(source: &Source) -> Result<Table, Error> {
    let mut defects = Defects::default();
    file::examine(source, &mut defects);
    read(source, Promise::of(source.path()), defects)
}

/// The same for any bytes; of `path` only the extension is used.
///
/// # Errors
/// Only where the bytes could not be read.
pub fn read_table_from(bytes: &(impl ReadAt + ?Sized), path: &Path) -> Result<Table, Error> {
    read(bytes, Promise::of(path), Defects::default())
}

fn read(bytes: &(impl ReadAt + ?Sized), promise: Promise, mut defects: Defects) -> Result<Table, Error> {
    if bytes.is_empty() {
        defects.push(
            Defect::new(code::FS_EMPTY, "the file is empty")
                .at(0)
                .expected(promise.name(), "0 bytes")
                .hint("fetch the file again"),
        );
    }
    let mut head = vec![0; usize::try_from(bytes.len()).unwrap_or(HEAD_LEN).min(HEAD_LEN)];
    bytes.read_exact_at(&mut head, 0)?;
    let content = sniff::content(&head);
    let wrong = |expected: &[Promise]| promise != Promise::Nothing && !expected.contains(&promise);
    match route(&content, promise, bytes)? {
        Some(Container::Safetensors) => {
            if wrong(&[Promise::Safetensors]) {
                defects.push(sniff::foreign(&content, promise, &head));
            }
            safetensors::read(bytes, defects)
        }
        Some(Container::Npy) => {
            if wrong(&[Promise::Npy]) {
                defects.push(sniff::foreign(&content, promise, &head));
            }
            npy::read(bytes, defects)
        }
        // What kind of archive it is, its members tell.
        Some(_) => npz::read(bytes, promise, defects),
        None => Ok(unread(bytes.len(), &content, promise, &head, defects)),
    }
}

/// Whose reader gets the bytes.
fn route(
    content: &Content,
    promise: Promise,
    bytes: &(impl ReadAt + ?Sized),
) -> Result<Option<Container>, Error> {
    Ok(match (content, promise) {
        // Where the first bytes are damaged, the reader that was promised says best what is wrong.
        (Content::Safetensors, _) | (Content::Unknown, Promise::Safetensors) => Some(Container::Safetensors),
        (Content::Npy, _) | (Content::Unknown, Promise::Npy) => Some(Container::Npy),
        (Content::Zip, _) | (Content::Unknown, Promise::Npz) => Some(Container::Npz),
        // Zip readers look from the end, so anything may stand before an archive.
        (Content::Other(_) | Content::Text(_), Promise::Npz) if sniff::ends_in_archive(bytes)? => {
            Some(Container::Npz)
        }
        _ => None,
    })
}

/// The table of a file that is no container: without tensors, and never without a defect.
fn unread(file_len: u64, content: &Content, promise: Promise, head: &[u8], mut defects: Defects) -> Table {
    if *content == Content::Pickle && matches!(promise, Promise::Torch | Promise::Nothing) {
        defects.push(
            Defect::new(code::PT_LEGACY, "a bare pickle, which can run code when loaded")
                .at(0)
                .expected("a checkpoint without code", "a pickle")
                .hint("save the checkpoint as safetensors"),
        );
    } else if file_len > 0 {
        defects.push(sniff::foreign(content, promise, head));
    }
    let mut table = Table::empty(Container::Unknown, file_len);
    table.defects = defects.finish();
    table
}
