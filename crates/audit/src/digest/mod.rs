//! Digests of files: SHA-256, git's SHA-1 of a blob, BLAKE3, and a content id that does not depend on the container.
//!
//! Files are read by position into one recycled buffer a thread. Several digests of a file come from one read; several
//! files are read in parallel, big ones first; BLAKE3 alone is computed in parallel inside a file too.

mod content;
#[cfg(test)]
mod tests;
mod tree;

use std::cell::RefCell;
use std::fmt::Write;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use unitrow_norms::Pool;
use unitrow_tensors::code::FS_CHANGED;
use unitrow_tensors::{Defect, Error, Source};

pub use content::{Content, NoContent, content_ids};
pub(crate) use tree::hash_leaves;

/// Bytes read at a time: they stay in the second-level cache for every hasher that wants them.
const BLOCK_BYTES: usize = 1 << 20;

/// A digest that names a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256, as Git LFS, Hugging Face and most manifests use it.
    Sha256,
    /// SHA-1 over `blob <length>\0` and the bytes: git's name of a file. No protection against somebody who forges.
    GitSha1,
    /// BLAKE3 of 32 bytes.
    Blake3,
}

impl Algorithm {
    /// The algorithm that users call `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::GitSha1, Self::Blake3].into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// `sha256`, `git-sha1` or `blake3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::GitSha1 => "git-sha1",
            Self::Blake3 => "blake3",
        }
    }
}

/// One file to digest.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file.
    pub path: PathBuf,
    /// What to compute.
    pub algorithms: Vec<Algorithm>,
    /// Which bytes; all of them where this is `None`.
    pub range: Option<Range<u64>>,
}

/// What was computed of one file, all from the same read.
#[derive(Clone, Debug)]
pub struct Digests {
    /// Size of the file in bytes.
    pub len: u64,
    /// Lower-case hexadecimal digests, in the order in which they were asked for.
    pub hex: Vec<(Algorithm, String)>,
}

/// Several digests of one stream of bytes.
pub struct Hashers(Vec<(Algorithm, State)>);

enum State {
    Sha256(Sha256),
    GitSha1(Sha1),
    Blake3(Box<blake3::Hasher>),
}

impl Hashers {
    /// Hashers for `len` bytes; git's digest begins with that number.
    #[must_use]
    pub fn new(algorithms: &[Algorithm], len: u64) -> Self {
        let state = |algorithm| match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::GitSha1 => State::GitSha1(Sha1::new_with_prefix(format!("blob {len}\0"))),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        };
        Self(algorithms.iter().map(|&algorithm| (algorithm, state(algorithm))).collect())
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for (_, state) in &mut self.0 {
            match state {
                State::Sha256(hasher) => hasher.update(bytes),
                State::GitSha1(hasher) => hasher.update(bytes),
                State::Blake3(hasher) => {
                    hasher.update(bytes);
                }
            }
        }
    }

    /// The digests in lower-case hexadecimal.
    #[must_use]
    pub fn finish(self) -> Vec<(Algorithm, String)> {
        let hex = |state| match state {
            State::Sha256(hasher) => to_hex(&hasher.finalize()),
            State::GitSha1(hasher) => to_hex(&hasher.finalize()),
            State::Blake3(hasher) => to_hex(hasher.finalize().as_bytes()),
        };
        self.0.into_iter().map(|(algorithm, state)| (algorithm, hex(state))).collect()
    }
}

/// Digests files in parallel, the biggest first; results come in the order of the requests.
///
/// A file that cannot be read to its end, or that changes meanwhile, gives the finding that says so. When `stop` is
/// set, what is left comes back as unread.
#[must_use]
pub fn digest_files(
    requests: &[Request],
    pool: &Pool,
    stop: &AtomicBool,
) -> Vec<Result<Digests, Box<Defect>>> {
    let mut order: Vec<(u64, usize)> = (requests.iter().enumerate())
        .map(|(index, request)| (fs::metadata(&request.path).map_or(0, |found| found.len()), index))
        .collect();
    order.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let one = |(_, index): (u64, usize)| {
        let request: &Request = &requests[index];
        let digests = Source::open(&request.path)
            .and_then(|source| digest(&source, &request.algorithms, request.range.clone(), stop));
        (
            index,
            match digests {
                Ok((digests, false)) => Ok(digests),
                Ok((_, true)) => Err(changed_while_read()),
                Err(error) => Err(Box::new(error.defect())),
            },
        )
    };
    // A bridge hands out one file after the other, so that no big one is left for the end.
    let mut done: Vec<_> = pool.install(|| order.into_iter().par_bridge().map(one).collect());
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, digests)| digests).collect()
}

/// Digests an open file, and whether it changed since it was opened.
fn digest(
    source: &Source,
    algorithms: &[Algorithm],
    range: Option<Range<u64>>,
    stop: &AtomicBool,
) -> Result<(Digests, bool), Error> {
    let range = range.unwrap_or(0..source.len());
    let hex = if algorithms == [Algorithm::Blake3] {
        vec![(Algorithm::Blake3, tree::hash(source, range, stop)?.to_hex().to_string())]
    } else {
        let mut hashers = Hashers::new(algorithms, range.end.saturating_sub(range.start));
        read_blocks(source, range, stop, |bytes| hashers.update(bytes))?;
        hashers.finish()
    };
    Ok((Digests { len: source.len(), hex }, source.changed()?))
}

fn changed_while_read() -> Box<Defect> {
    let defect = Defect::new(FS_CHANGED, "the file changed while it was read");
    Box::new(defect.hint("hash it when nothing writes to the file"))
}

/// Gives `use_bytes` the bytes of a range in order, block by block.
///
/// `use_bytes` must not wait for other threads: this thread could be handed another block of work meanwhile, and the
/// buffer is taken.
fn read_blocks(
    source: &Source,
    range: Range<u64>,
    stop: &AtomicBool,
    mut use_bytes: impl FnMut(&[u8]),
) -> Result<(), Error> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut offset = range.start;
        while offset < range.end {
            if stop.load(Ordering::Relaxed) {
                let source_of = io::Error::from(io::ErrorKind::Interrupted);
                let path = source.path().to_owned();
                return Err(Error::Io { path, action: "read", offset: Some(offset), source: source_of });
            }
            let count = usize::try_from(range.end - offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            if buffer.len() < count {
                buffer.resize(count, 0);
            }
            source.read_exact_at(&mut buffer[..count], offset)?;
            use_bytes(&buffer[..count]);
            offset += count as u64;
        }
        Ok(())
    })
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
