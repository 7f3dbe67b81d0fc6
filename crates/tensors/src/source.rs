//! An opened checkpoint: positional reads, a map, and whether it changed meanwhile.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::error::Error;
use crate::view::Mapping;

/// Bytes that can be read at any position: a file, or a buffer in tests.
pub trait ReadAt {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`Error::ShortRead`] where the bytes end before the buffer does, [`Error::Io`] where the system fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error>;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        match rest.get(..buffer.len()) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Error::ShortRead {
                path: PathBuf::from("memory"),
                offset,
                expected: buffer.len() as u64,
                found: rest.len() as u64,
            }),
        }
    }
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device that holds the file.
    pub dev: u64,
    /// Inode on that device.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last write, in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Time of the last change of content or inode, in nanoseconds since 1970.
    pub ctime_ns: i128,
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A regular file, opened read-only, with the identity it had then.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    identity: Identity,
    allocated_bytes: u64,
}

impl Source {
    /// Opens a regular file; links are followed.
    ///
    /// Neither waits (a FIFO without a writer would block for ever) nor opens devices, whose opening alone can act.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::BrokenLink`], [`Error::NotRegular`], [`Error::Permission`] or [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|source| {
            let loops = source.raw_os_error() == Some(Errno::LOOP.raw_os_error());
            match fs::read_link(path) {
                Ok(target) if loops || source.kind() == io::ErrorKind::NotFound => {
                    Error::BrokenLink { path: path.to_owned(), target }
                }
                _ => Error::from_open(path, "open", source),
            }
        })?;
        regular(path, &metadata)?;
        // Between the two calls the path can become something else, hence O_NONBLOCK and the second look.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::from_open(path, "open", errno.into()))?;
        let file = File::from(file);
        let metadata = file.metadata().map_err(|source| Error::from_open(path, "stat", source))?;
        regular(path, &metadata)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            identity: Identity::of(&metadata),
            allocated_bytes: metadata.blocks().saturating_mul(512),
        })
    }

    /// The path as given to [`open`](Self::open).
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes when it was opened.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.identity.size
    }

    /// Whether the file held no bytes when it was opened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Device, inode, size and times when it was opened.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Bytes that the file system had allocated for it when it was opened; below [`len`](Self::len) where the file has
    /// holes or the file system compresses.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes
    }

    /// Fills `buffer` from `offset` on, through interruptions and short reads.
    ///
    /// # Errors
    /// [`Error::ShortRead`] where the file now ends earlier, [`Error::Io`] where the system fails.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let mut done = 0;
        while done < buffer.len() {
            let position = offset + done as u64;
            match self.file.read_at(&mut buffer[done..], position) {
                Ok(0) => {
                    return Err(Error::ShortRead {
                        path: self.path.clone(),
                        offset,
                        expected: buffer.len() as u64,
                        found: done as u64,
                    });
                }
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.io("read", Some(position), source)),
            }
        }
        Ok(())
    }

    /// Maps the whole file for reading. [`Mapping`] says what can go wrong with a map; reading is always possible
    /// instead.
    ///
    /// # Errors
    /// [`Error::Io`] where the system cannot map it; [`Error::ShortRead`] where the file is shorter by now.
    pub fn map(&self) -> Result<Mapping, Error> {
        let size = self.file.metadata().map_err(|source| self.io("stat", None, source))?.size();
        if size < self.len() {
            return Err(Error::ShortRead {
                path: self.path.clone(),
                offset: 0,
                expected: self.len(),
                found: size,
            });
        }
        let len = usize::try_from(self.len())
            .map_err(|_| self.io("map", None, io::Error::from(io::ErrorKind::FileTooLarge)))?;
        Mapping::new(&self.file, len).map_err(|source| self.io("map", None, source))
    }

    /// Whether size, times or inode differ from what they were at opening. A path that was renamed over does not
    /// count: the bytes read are still one file's.
    ///
    /// # Errors
    /// [`Error::Io`] where the file can no longer be examined.
    pub fn changed(&self) -> Result<bool, Error> {
        let metadata = self.file.metadata().map_err(|source| self.io("stat", None, source))?;
        Ok(Identity::of(&metadata) != self.identity)
    }

    /// The first `limit` holes of the file, as (offset, length) in bytes; none where the file system cannot tell.
    #[must_use]
    pub fn holes(&self, limit: usize) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut position = 0;
        // Every read here is positional, so moving the file's own position harms nobody.
        while holes.len() < limit && position < self.len() {
            let Ok(start) = rustix::fs::seek(&self.file, SeekFrom::Hole(position)) else { break };
            if start >= self.len() {
                break;
            }
            let end = rustix::fs::seek(&self.file, SeekFrom::Data(start)).unwrap_or(self.len());
            let end = end.min(self.len());
            holes.push((start, end - start));
            position = end;
        }
        holes
    }

    fn io(&self, action: &'static str, offset: Option<u64>, source: io::Error) -> Error {
        Error::Io { path: self.path.clone(), action, offset, source }
    }
}

impl ReadAt for Source {
    fn len(&self) -> u64 {
        self.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        self.read_exact_at(buffer, offset)
    }
}

fn regular(path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    let kind = metadata.file_type();
    let found = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_block_device() {
        "block device"
    } else if kind.is_char_device() {
        "character device"
    } else {
        "special file"
    };
    Err(Error::NotRegular { path: path.to_owned(), found })
}
