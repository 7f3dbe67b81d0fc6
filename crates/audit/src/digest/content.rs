//! The content id: which tensors a checkpoint holds, whatever the files around them look like.
//!
//! It is the BLAKE3 hash of these bytes, all numbers unsigned 64-bit little-endian:
//!
//! ```text
//! "unitrow content 1\n"
//! number of tensors
//! for each tensor, sorted by the bytes of its name:
//!     length of the name, name (UTF-8)
//!     length of the dtype, dtype (as safetensors spells it: "F32")
//!     number of dimensions, each dimension
//!     BLAKE3 of its elements: 32 bytes
//! ```
//!
//! Elements are hashed in row-major order, low byte first, whatever the file's order is: npz arrays in Fortran order or
//! with the high byte first give the id of the array. Metadata, padding, the order of tensors, compression and the
//! division into shards do not enter.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use blake3::Hasher;
use rayon::prelude::*;
use unitrow_norms::Pool;
use unitrow_tensors::code::{Code, FS_IO, NPY_STRUCTURED, Severity, X_DUP_TENSOR};
use unitrow_tensors::{Container, Defect, Dtype, Error, Source, Storage, Table, Tensor, escape};

use super::{changed_while_read, to_hex, tree};

const DOMAIN: &[u8] = b"unitrow content 1\n";

/// An array in Fortran order is turned in memory; a longer one gets no id.
const MAX_TURNED_BYTES: u64 = 1 << 30;

const UNSUPPORTED: Code = Code { name: "FS_UNSUPPORTED", severity: Severity::Unreadable };

/// What a checkpoint holds.
#[derive(Clone, Debug)]
pub struct Content {
    /// The content id, in lower-case hexadecimal.
    pub hex: String,
    /// Size of its files in bytes.
    pub len: u64,
    /// How many tensors it has.
    pub tensors: usize,
}

/// Why a checkpoint has no content id.
#[derive(Clone, Debug)]
pub struct NoContent {
    /// Which of the set's files is to blame.
    pub file: usize,
    /// What is wrong with it.
    pub defect: Box<Defect>,
}

/// Content ids of checkpoints, each a set of files; results come in the order of the sets.
///
/// A set with a file that cannot be read, or is not sound, gives that file and the finding.
#[must_use]
pub fn content_ids(sets: &[Vec<PathBuf>], pool: &Pool, stop: &AtomicBool) -> Vec<Result<Content, NoContent>> {
    pool.install(|| sets.par_iter().map(|files| content_id(files, stop)).collect())
}

/// What of a tensor enters the id, and the file that it comes from.
struct Entry<'a> {
    file: usize,
    tensor: &'a Tensor,
    hash: blake3::Hash,
}

fn content_id(files: &[PathBuf], stop: &AtomicBool) -> Result<Content, NoContent> {
    let no = |file| move |defect| NoContent { file, defect };
    let opened = (files.iter().enumerate())
        .map(|(file, path)| open(path).map_err(no(file)))
        .collect::<Result<Vec<_>, _>>()?;
    let tensors: Vec<_> = (opened.iter().enumerate())
        .flat_map(|(file, (_, table))| table.tensors.iter().map(move |tensor| (file, tensor)))
        .collect();
    let mut entries = tensors
        .into_par_iter()
        .map(|(file, tensor)| {
            let hash = hash_elements(&opened[file].0, tensor, stop).map_err(no(file))?;
            Ok(Entry { file, tensor, hash })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for (file, (source, _)) in opened.iter().enumerate() {
        if source.changed().map_err(unread).map_err(no(file))? {
            return Err(no(file)(changed_while_read()));
        }
    }
    entries.sort_by(|a, b| a.tensor.name.as_bytes().cmp(b.tensor.name.as_bytes()));
    if let Some([_, second]) = entries.windows(2).find(|pair| pair[0].tensor.name == pair[1].tensor.name) {
        let message = format!("tensor {} is in two files of the set", escape(&second.tensor.name));
        let defect = Defect::new(X_DUP_TENSOR, message).tensor(&second.tensor.name);
        return Err(no(second.file)(Box::new(defect)));
    }
    let len = opened.iter().map(|(source, _)| source.len()).sum();
    Ok(Content { hex: to_hex(encode(&entries).as_bytes()), len, tensors: entries.len() })
}

fn encode(entries: &[Entry<'_>]) -> blake3::Hash {
    let mut hasher = Hasher::new();
    let number = |hasher: &mut Hasher, value: u64| {
        hasher.update(&value.to_le_bytes());
    };
    hasher.update(DOMAIN);
    number(&mut hasher, entries.len() as u64);
    for Entry { tensor, hash, .. } in entries {
        for text in [tensor.name.as_str(), tensor.dtype.name()] {
            number(&mut hasher, text.len() as u64);
            hasher.update(text.as_bytes());
        }
        number(&mut hasher, tensor.shape.len() as u64);
        tensor.shape.iter().for_each(|&dim| number(&mut hasher, dim));
        hasher.update(hash.as_bytes());
    }
    hasher.finalize()
}

/// Opens a file whose every tensor is listed and lies inside it.
fn open(path: &Path) -> Result<(Source, Table), Box<Defect>> {
    let source = Source::open(path).map_err(unread)?;
    let table = unitrow_tensors::read_table(&source).map_err(unread)?;
    let doubtful = |defect: &&Defect| defect.severity >= Severity::Fail || defect.code == NPY_STRUCTURED;
    if let Some(defect) = table.defects.iter().find(doubtful) {
        return Err(Box::new(defect.clone()));
    }
    match table.container {
        Container::Safetensors | Container::Npz | Container::Npy => Ok((source, table)),
        other => {
            let defect = Defect::new(UNSUPPORTED, format!("{other}: its tensors are not read"));
            Err(Box::new(defect.expected("safetensors, npz or npy", other)))
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where a function of the error is wanted")]
fn unread(error: Error) -> Box<Defect> {
    Box::new(error.defect())
}

fn hash_elements(source: &Source, tensor: &Tensor, stop: &AtomicBool) -> Result<blake3::Hash, Box<Defect>> {
    let turned = tensor.fortran_order && tensor.shape.iter().filter(|&&dim| dim != 1).count() > 1;
    let width = if tensor.big_endian { part_bytes(tensor.dtype) } else { 1 };
    if let Storage::Stored { offset, len } = tensor.storage
        && !turned
        && width == 1
    {
        return tree::hash(source, offset..offset + len, stop).map_err(unread);
    }
    if turned && tensor.storage.len() > MAX_TURNED_BYTES {
        let message = "an array in Fortran order that is too long to be turned in memory";
        return Err(Box::new(Defect::new(UNSUPPORTED, message).tensor(&tensor.name).expected(
            format!("at most {MAX_TURNED_BYTES} bytes"),
            format!("{} bytes", tensor.storage.len()),
        )));
    }
    let mut hasher = Hasher::new();
    let mut pending = Vec::new();
    let damage = unitrow_tensors::inflate(source, tensor, &mut |piece| {
        if stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        pending.extend_from_slice(piece);
        if !turned {
            // Pieces end anywhere; the bytes of an element are turned when all are there.
            let whole = pending.len() - pending.len() % width;
            pending[..whole].chunks_exact_mut(width).for_each(<[u8]>::reverse);
            hasher.update(&pending[..whole]);
            pending.drain(..whole);
        }
        ControlFlow::Continue(())
    });
    if let Some(damage) = damage.map_err(unread)? {
        return Err(Box::new(damage));
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Box::new(Defect::new(FS_IO, "stopped before its end")));
    }
    if turned {
        pending.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        row_major(&pending, tensor, |run| {
            hasher.update(run);
        });
    }
    Ok(hasher.finalize())
}

/// Bytes that are turned together where the high byte comes first: the two parts of a complex number are two.
fn part_bytes(dtype: Dtype) -> usize {
    match dtype {
        Dtype::C64 => 4,
        Dtype::C128 => 8,
        Dtype::Opaque { .. } => 1,
        other => other.len_bytes().map_or(1, |len| usize::try_from(len).unwrap_or(1)),
    }
}

/// Gives `use_run` the elements of an array in Fortran order, as bytes, in row-major order: one run per index of all
/// axes but the last.
fn row_major(bytes: &[u8], tensor: &Tensor, mut use_run: impl FnMut(&[u8])) {
    let shape: Vec<usize> = tensor.shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    let elements: usize = shape.iter().product();
    let [outer @ .., last] = shape.as_slice() else { return };
    if elements == 0 {
        return;
    }
    let item = bytes.len() / elements;
    let stride = elements / last * item;
    let mut run = vec![0; last * item];
    let mut index = vec![0; outer.len()];
    for _ in 0..elements / last {
        let (mut start, mut step) = (0, item);
        for (&position, &dim) in index.iter().zip(outer) {
            start += position * step;
            step *= dim;
        }
        for (element, place) in run.chunks_exact_mut(item).enumerate() {
            let from = start + element * stride;
            place.copy_from_slice(&bytes[from..from + item]);
        }
        use_run(&run);
        for (position, &dim) in index.iter_mut().zip(outer).rev() {
            *position += 1;
            if *position < dim {
                break;
            }
            *position = 0;
        }
    }
}
