//! One file, replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Collects small writes; larger ones pass through.
const BUFFER_LEN: usize = 1 << 20;

/// Writes a file beside `path` with `contents`, syncs it, and renames it over `path`.
///
/// The sync comes before the rename and the folder's own sync after it, so that after a power cut the name stands for
/// the old bytes or for all of the new ones. The file gets the permissions that the process' umask gives new files,
/// not the private ones of a temporary file.
pub(super) fn replace(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = |action| move |source| Error::Io { path: path.to_owned(), action, offset: None, source };
    let (mut scratch, file) = Scratch::create(path).map_err(failed("create a file beside it"))?;
    let mut writer = BufWriter::with_capacity(BUFFER_LEN, file);
    contents(&mut writer).map_err(failed("write"))?;
    let file = writer.into_inner().map_err(|error| failed("write")(error.into_error()))?;
    file.sync_all().map_err(failed("sync"))?;
    drop(file);
    fs::rename(&scratch.path, path).map_err(failed("rename"))?;
    scratch.renamed = true;
    let folder = folder(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A file that is removed again unless it was renamed.
struct Scratch {
    path: PathBuf,
    renamed: bool,
}

impl Scratch {
    fn create(target: &Path) -> io::Result<(Self, File)> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        if target.file_name().is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            // The ending is one that an audit reports as unfinished, should the process die here.
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!(".unitrow-{}-{count}.incomplete", std::process::id());
            let path = folder(target).join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Self { path, renamed: false }, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing more can be done about a file that cannot be removed; its name says what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}
