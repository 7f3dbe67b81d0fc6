//! Headers of many files: opened, validated, and their findings kept.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use unitrow_norms::Pool;
use unitrow_tensors::code::FS_IO;
use unitrow_tensors::{Defect, Error, Identity, Source, Table};

/// What a file says about itself before its data is read.
#[derive(Debug)]
pub struct FileHeader {
    /// The file.
    pub path: PathBuf,
    /// Its tensors and defects; `None` if the file could not be read.
    pub table: Option<Table>,
    /// Which file this was, to notice when it is another one later.
    pub identity: Option<Identity>,
    /// Why there is no table.
    pub failure: Option<Defect>,
}

impl FileHeader {
    /// Read and validate one file's header. What is wrong with the file is in the result.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let opened = guarded(|| {
            Source::open(path)
                .and_then(|source| Ok((unitrow_tensors::read_table(&source)?, source.identity())))
                .map_err(|error| Box::new(defect_of(&error)))
        })
        .and_then(|opened| opened);
        let path = path.to_owned();
        match opened {
            Ok((table, identity)) => {
                Self { path, table: Some(table), identity: Some(identity), failure: None }
            }
            Err(failure) => Self { path, table: None, identity: None, failure: Some(*failure) },
        }
    }

    /// All findings on the file's structure.
    #[must_use]
    pub fn defects(&self) -> &[Defect] {
        match (&self.table, &self.failure) {
            (Some(table), _) => &table.defects,
            (None, Some(failure)) => std::slice::from_ref(failure),
            (None, None) => &[],
        }
    }
}

/// Read the headers of many files in parallel; results come in the order of the paths.
#[must_use]
pub fn read_headers(paths: &[PathBuf], pool: &Pool) -> Vec<FileHeader> {
    pool.install(|| paths.par_iter().map(|path| FileHeader::read(path)).collect())
}

/// The finding that stands for an error; it does not name the path, so that reports do not depend on where files lie.
pub(crate) fn defect_of(error: &Error) -> Defect {
    if matches!(error, Error::NotFound { .. }) {
        return Defect::new(FS_IO, "the file is gone");
    }
    let mut defect = error.defect();
    if let Some(rest) = defect.message.strip_prefix(&format!("{}: ", error.path().display())) {
        defect.message = rest.to_owned();
    }
    defect
}

/// Run `work` on one file; a panic in it becomes that file's finding and leaves the other files alone.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Box<Defect>> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Box::new(panicked(payload.as_ref())))
}

fn panicked(payload: &(dyn Any + Send)) -> Defect {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let text = unitrow_tensors::escape(text);
    Defect::new(FS_IO, format!("internal error while reading this file: {text}; please report it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_finding() {
        let expected = "internal error while reading this file: no 7; please report it";
        for defect in
            [guarded(|| panic!("no {}", 3 + 4)).map(|()| 0), guarded(|| std::panic::panic_any("no 7"))]
        {
            let defect = defect.unwrap_err();
            assert_eq!((defect.code, defect.message.as_str()), (FS_IO, expected));
        }
        assert_eq!(guarded(|| 1), Ok(1));
    }

    #[test]
    fn a_file_that_is_not_there_is_reported_without_its_path() {
        let header = FileHeader::read(Path::new("no-such-folder/w.safetensors"));
        let messages: Vec<_> = header.defects().iter().map(|defect| defect.message.as_str()).collect();
        assert_eq!(messages, ["the file is gone"]);
    }
}
