//! A shard index against the files beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use unitrow_tensors::{Defect, Error, SetFile, Source, Table, check_set, read_index_file, read_table};

use crate::header::{FileHeader, defect_of, guarded};

/// Files of one set that are kept open to be compared: fewer than a process may have.
const MAX_OPEN: usize = 512;

/// What an index says, and what is wrong with it and its set.
#[derive(Debug, Default)]
pub struct IndexCheck {
    /// The shards that the index names, without those whose names lead out of its folder.
    pub shards: Vec<String>,
    /// Findings on the index; offsets count from its beginning.
    pub defects: Vec<Defect>,
}

/// Read an index and compare it with the files of its folder, of which `headers` were read before.
///
/// What is wrong is in the result: this never fails.
#[must_use]
pub fn check_index(path: &Path, headers: &[&FileHeader]) -> IndexCheck {
    let mut check = IndexCheck::default();
    match guarded(|| examine(path, headers, &mut check)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => check.defects.push(defect_of(&error)),
        Err(panicked) => check.defects.push(*panicked),
    }
    check
}

fn examine(path: &Path, headers: &[&FileHeader], check: &mut IndexCheck) -> Result<(), Error> {
    let index = read_index_file(&Source::open(path)?)?;
    check.defects.clone_from(&index.defects);
    let confined = index.shards.iter().zip(&index.confined).filter(|(_, confined)| **confined);
    check.shards = confined.map(|(name, _)| name.clone()).collect();
    if index.listings.is_empty() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files: BTreeMap<String, (PathBuf, Option<Table>)> = BTreeMap::new();
    for header in headers {
        if let Some(name) = below(folder, &header.path).filter(|name| name.ends_with(".safetensors")) {
            files.insert(name, (header.path.clone(), header.table.clone()));
        }
    }
    for name in &check.shards {
        let place = folder.join(name);
        if !files.contains_key(name) && fs::symlink_metadata(&place).is_ok() {
            let table = Source::open(&place).and_then(|source| read_table(&source)).ok();
            files.insert(name.clone(), (place, table));
        }
    }
    let sources: Vec<Option<Source>> = files
        .values()
        .map(|(place, _)| if files.len() > MAX_OPEN { None } else { Source::open(place).ok() })
        .collect();
    let home = home_of(folder);
    let set: Vec<SetFile<'_>> = files
        .iter()
        .zip(&sources)
        .map(|((name, (place, table)), source)| SetFile {
            name,
            table: table.as_ref(),
            source: source.as_ref(),
            leads_outside: home.as_ref().is_some_and(|home| leads_outside(home, place)),
        })
        .collect();
    check.defects.extend(check_set(&index, &set)?);
    Ok(())
}

/// The path of a file below a folder, with `/` between parts; `None` if it is elsewhere.
fn below(folder: &Path, file: &Path) -> Option<String> {
    let rest = file.strip_prefix(folder).or_else(|_| file.strip_prefix(Path::new("./").join(folder))).ok()?;
    let parts: Option<Vec<&str>> = rest
        .components()
        .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
        .collect();
    Some(parts?.join("/"))
}

/// The folder that links may lead to: the index's own, of a Hugging Face snapshot the cache of its repository, where
/// every file is a link to a blob.
fn home_of(folder: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(folder).ok()?;
    let snapshots = real.ancestors().find(|above| above.file_name().is_some_and(|name| name == "snapshots"));
    let cache = snapshots.and_then(Path::parent).filter(|cache| cache.join("blobs").is_dir());
    Some(cache.map_or(real.clone(), Path::to_owned))
}

fn leads_outside(home: &Path, file: &Path) -> bool {
    fs::canonicalize(file).is_ok_and(|target| !target.starts_with(home))
}
