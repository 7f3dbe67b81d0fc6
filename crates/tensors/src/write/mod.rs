//! Writing checkpoints, so that a crash leaves the old file or the new one.

mod atomic;
mod npz;
mod safetensors;

pub use npz::write_npz;
pub use safetensors::write_safetensors;

use std::path::Path;

use crate::dtype::Dtype;
use crate::error::Error;
use crate::name::escape;

/// A tensor to be written: name, type, shape, and its bytes in row-major order, little-endian.
pub type TensorParts<'a> = (&'a str, Dtype, &'a [u64], &'a [u8]);

/// Whether each tensor has the bytes that its shape needs, and a name of its own.
fn examine(path: &Path, tensors: &[TensorParts<'_>]) -> Result<(), Error> {
    for &(name, dtype, shape, bytes) in tensors {
        let bits = shape.iter().try_fold(dtype.bits(), |bits, &dim| bits.checked_mul(dim));
        if bits != Some(8 * bytes.len() as u64) {
            let expected = match bits {
                Some(bits) if bits.is_multiple_of(8) => (bits / 8).to_string(),
                Some(_) => "a whole number of".to_owned(),
                None => "more than 2^61".to_owned(),
            };
            return Err(Error::SizeMismatch {
                path: path.to_owned(),
                name: escape(name),
                expected,
                found: bytes.len() as u64,
            });
        }
    }
    let mut names: Vec<&str> = tensors.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::DuplicateName { path: path.to_owned(), name: escape(pair[0]) }),
        None => Ok(()),
    }
}
