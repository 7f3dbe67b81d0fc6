//! Why a file could not be read or written at all.

use std::io;
use std::path::{Path, PathBuf};

use crate::code;
use crate::defect::Defect;

/// What stops a read or a write. Wrong bytes are [`Defect`]s, never errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has this path.
    #[error("{path}: no such file")]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path is a symbolic link to nothing, or to itself.
    #[error("{path}: a link to {target}, which does not exist")]
    BrokenLink {
        /// The path of the link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
    /// The path is a FIFO, device, socket or directory.
    #[error("{path}: expected a regular file, found a {found}")]
    NotRegular {
        /// The path asked for.
        path: PathBuf,
        /// What it is, in words.
        found: &'static str,
    },
    /// The file may not be opened by this user.
    #[error("{path}: permission denied")]
    Permission {
        /// The path asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file ended inside a range that it had when it was opened.
    #[error(
        "{path}: expected {expected} bytes at offset {offset}, found {found}: the file was cut while it was read"
    )]
    ShortRead {
        /// The file.
        path: PathBuf,
        /// Where the read began, in bytes.
        offset: u64,
        /// How many bytes were asked for.
        expected: u64,
        /// How many were there.
        found: u64,
    },
    /// The operating system reported an error.
    #[error("{path}: {action}{}: {source}", at(*.offset))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: `open`, `read`, `map`, ...
        action: &'static str,
        /// Where in the file, in bytes, where that is known.
        offset: Option<u64>,
        /// What the operating system said.
        source: io::Error,
    },
    /// A tensor that was to be written has another number of bytes than its shape needs.
    #[error("{path}: tensor {name}: expected {expected} bytes, found {found}")]
    SizeMismatch {
        /// The file to be written.
        path: PathBuf,
        /// The tensor, escaped.
        name: String,
        /// Bytes that dtype and shape need.
        expected: String,
        /// Bytes given.
        found: u64,
    },
    /// The container to be written cannot hold what was asked for.
    #[error("{path}: tensor {name}: {container} cannot hold {found}")]
    Unsupported {
        /// The file to be written.
        path: PathBuf,
        /// The tensor, escaped.
        name: String,
        /// The container.
        container: &'static str,
        /// What it cannot hold.
        found: String,
    },
    /// The same name was given twice to a writer.
    #[error("{path}: two tensors are named {name}")]
    DuplicateName {
        /// The file to be written.
        path: PathBuf,
        /// The name, escaped.
        name: String,
    },
}

fn at(offset: Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" at offset {offset}"))
}

impl Error {
    /// The file concerned.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::NotFound { path }
            | Self::BrokenLink { path, .. }
            | Self::NotRegular { path, .. }
            | Self::Permission { path, .. }
            | Self::ShortRead { path, .. }
            | Self::Io { path, .. }
            | Self::SizeMismatch { path, .. }
            | Self::Unsupported { path, .. }
            | Self::DuplicateName { path, .. } => path,
        }
    }

    /// The finding that stands for this error in a report; the path is the report's to name.
    #[must_use]
    pub fn defect(&self) -> Defect {
        match self {
            Self::BrokenLink { target, .. } => {
                let target = crate::name::escape(&target.to_string_lossy());
                Defect::new(code::FS_BROKEN_LINK, "a symbolic link to nothing")
                    .expected("a file", format!("a link to {target}"))
                    .hint("fetch the file again: the link's target was deleted or never downloaded")
            }
            Self::NotRegular { found, .. } => {
                Defect::new(code::FS_NOT_REGULAR, format!("a {found} under a checkpoint's name"))
                    .expected("a regular file", found)
            }
            Self::Permission { .. } => {
                Defect::new(code::FS_PERMISSION, "permission denied").hint("read it as a user who may")
            }
            Self::ShortRead { offset, expected, found, .. } => {
                Defect::new(code::FS_CHANGED, "the file was cut while it was read")
                    .at(*offset)
                    .length(*expected)
                    .expected(format!("{expected} bytes"), format!("{found} bytes"))
                    .hint("audit again when nothing writes to the file")
            }
            Self::Io { action, offset, source, .. } => {
                let mut defect = Defect::new(code::FS_IO, format!("could not {action}: {source}"));
                defect.byte_offset = *offset;
                defect
            }
            other => Defect::new(code::FS_IO, other.to_string()),
        }
    }

    /// Sorts what `open` and `stat` can say into the variants a report distinguishes.
    pub(crate) fn from_open(path: &Path, action: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path, source },
            _ => Self::Io { path, action, offset: None, source },
        }
    }
}
