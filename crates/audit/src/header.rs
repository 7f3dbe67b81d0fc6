//! Headers of many files: opened, validated, and their findings kept.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use unitrow_norms::Pool;
use unitrow_tensors::{Defect, Identity, Source, Table};

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
        let opened = Source::open(path)
            .and_then(|source| Ok((unitrow_tensors::read_table(&source)?, source.identity())));
        let path = path.to_owned();
        match opened {
            Ok((table, identity)) => {
                Self { path, table: Some(table), identity: Some(identity), failure: None }
            }
            Err(error) => {
                let failure = Some(error.defect());
                Self { path, table: None, identity: None, failure }
            }
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
