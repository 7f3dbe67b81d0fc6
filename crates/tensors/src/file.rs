//! What a file's surroundings say: unfinished downloads, and blocks that were never written.

use std::ffi::OsString;
use std::path::Path;

use crate::code::{self, Severity};
use crate::defect::{Defect, Defects};
use crate::name::{escape, quote};
use crate::source::Source;

/// Endings of files that a download has not finished, and who writes them.
const PARTIAL: &[(&str, &str)] = &[
    (".incomplete", "a Hugging Face download"),
    (".part", "a download"),
    (".crdownload", "a Chrome download"),
    (".download", "a Safari download"),
    (".aria2", "an aria2 download"),
    (".!qB", "a qBittorrent download"),
];
/// Holes that are told apart in a report; the rest are only summed.
const HOLES: usize = 4096;

/// Examines what can be learned of a file without reading it.
pub(crate) fn examine(source: &Source, defects: &mut Defects) {
    if let Some(defect) = partial_download(source.path()) {
        defects.push(defect);
    }
    sparse(source, defects);
}

/// Whether a path is that of an unfinished download or save, or has the control file of one beside it.
#[must_use]
pub fn partial_download(path: &Path) -> Option<Defect> {
    let name = path.file_name()?.to_string_lossy();
    if let Some((ending, writer)) = PARTIAL.iter().find(|(ending, _)| name.ends_with(ending)) {
        return Some(
            Defect::new(code::FS_PARTIAL_DOWNLOAD, format!("{writer} that has not finished"))
                .expected("a finished file", format!("a name that ends in {ending}"))
                .hint("let it finish, or fetch the file again"),
        );
    }
    // The reference writer of safetensors saves to `.tmpXXXXXX` and renames; a killed save leaves it behind.
    if let Some(random) = name.strip_prefix(".tmp")
        && random.len() == 6
        && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Some(
            Defect::new(code::FS_PARTIAL_DOWNLOAD, "a save that has not finished")
                .expected("a finished file", quote(&name))
                .hint("delete it if no program is writing it: its size can be right and its end missing"),
        );
    }
    PARTIAL.iter().find_map(|(ending, writer)| {
        let mut sibling = OsString::from(path.as_os_str());
        sibling.push(ending);
        std::fs::symlink_metadata(&sibling).ok()?;
        Some(
            Defect::new(code::FS_PARTIAL_DOWNLOAD, format!("beside the file lies the trace of {writer}"))
                .severity(Severity::Warn)
                .expected("the file alone", escape(&format!("{name}{ending}")))
                .hint("the file may be older than that download, or not whole"),
        )
    })
}

fn sparse(source: &Source, defects: &mut Defects) {
    // Most files have all their blocks, which one comparison tells; compressing file systems have fewer and no holes.
    if source.allocated_bytes() >= source.len() {
        return;
    }
    let holes = source.holes(HOLES);
    let Some(&(first, _)) = holes.first() else { return };
    let total: u64 = holes.iter().map(|(_, len)| len).sum();
    let count =
        if holes.len() < HOLES { format!("{} holes", holes.len()) } else { format!("over {HOLES} holes") };
    defects.push(
        Defect::new(
            code::FS_SPARSE,
            format!("{total} bytes of the file were never written or are stored as holes"),
        )
        .at(first)
        .length(total)
        .expected("no holes", count),
    );
}
