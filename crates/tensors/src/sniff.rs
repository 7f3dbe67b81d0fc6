//! What bytes are, whatever the name says.

use std::path::Path;

use crate::code;
use crate::defect::{Defect, Defects};
use crate::error::Error;
use crate::name::{escape, quote};
use crate::safetensors::MAX_HEADER_LEN;
use crate::source::ReadAt;

/// How many of a file's first bytes are looked at. A git-lfs pointer is shorter by its specification.
pub(crate) const HEAD_LEN: usize = 1024;

/// What a file's name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    Safetensors,
    Npz,
    Npy,
    Torch,
    Index,
    Nothing,
}

impl Promise {
    pub(crate) fn of(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("safetensors") => Self::Safetensors,
            Some("npz") => Self::Npz,
            Some("npy") => Self::Npy,
            Some("pt" | "pth" | "ckpt") => Self::Torch,
            _ => Self::Nothing,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "a safetensors file",
            Self::Npz => "an npz archive",
            Self::Npy => "an npy array",
            Self::Torch => "a torch archive",
            Self::Index => "a shard index",
            Self::Nothing => "a checkpoint",
        }
    }
}

/// What a file's first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Safetensors,
    Zip,
    Npy,
    Pickle,
    /// A git-lfs pointer; what it points to, as far as it says.
    Pointer {
        oid: Option<String>,
        size: Option<u64>,
    },
    /// Text of some kind, in words.
    Text(&'static str),
    /// Another format, in words.
    Other(&'static str),
    Unknown,
}

/// Signatures of formats that are found under a checkpoint's name.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"GGUF", "a GGUF model"),
    (0, b"tjgg", "a GGML model"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x1f\x8b\x08", "a gzip stream"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard stream"),
    (0, b"\xfd7zXZ\0", "an xz stream"),
    (0, b"BZh", "a bzip2 stream"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 stream"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow file"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"MZ\x90\0", "a Windows program"),
    (0, b"#!/", "a script"),
];

fn signature(head: &[u8]) -> Option<&'static str> {
    let matches =
        |(at, magic, _): &&(usize, &[u8], &str)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    SIGNATURES.iter().find(matches).map(|(_, _, name)| *name)
}

/// What `head`, the first [`HEAD_LEN`] bytes of a file or all of them, says.
pub(crate) fn content(head: &[u8]) -> Content {
    if is_safetensors(head) {
        return Content::Safetensors;
    }
    match head {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => return Content::Zip,
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => return Content::Npy,
        [0x80, 2..=5, ..] => return Content::Pickle,
        _ => {}
    }
    if let Some(name) = signature(head) {
        return Content::Other(name);
    }
    text(head)
}

/// A length that the format allows, and a brace: no other format begins so. Whether the header fits is not asked, so
/// that a truncated file is still one.
fn is_safetensors(head: &[u8]) -> bool {
    let Some((prefix, header)) = head.split_first_chunk::<8>() else { return false };
    let brace = header.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    u64::from_le_bytes(*prefix) <= MAX_HEADER_LEN && brace == Some(&b'{')
}

fn text(head: &[u8]) -> Content {
    // The head may cut a character in two; what stands before it decides.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or("")
        }
        Err(_) => "",
    };
    if let Some(kind) = other_encoding(head) {
        return Content::Text(kind);
    }
    let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if text.len() < 16 || !text.chars().all(printable) {
        return Content::Unknown;
    }
    if text.starts_with("version https://git-lfs") {
        return pointer(text);
    }
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let lower = start.get(..start.len().min(64)).unwrap_or(start).to_ascii_lowercase();
    Content::Text(if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        "a web page"
    } else if lower.starts_with("<?xml") || lower.starts_with('<') {
        "an XML document"
    } else if start.starts_with(['{', '[']) {
        "a JSON document"
    } else {
        "text"
    })
}

/// Text that is not UTF-8, in words: UTF-16 by its mark, pages in older encodings by how they begin.
fn other_encoding(head: &[u8]) -> Option<&'static str> {
    let is_wide = |low: usize| {
        let mut units = head[2..].chunks_exact(2).take(16).map(|unit| (unit[low], unit[1 - low]));
        head.len() >= 34
            && units.all(|(byte, zero)| zero == 0 && (byte.is_ascii_graphic() || byte.is_ascii_whitespace()))
    };
    match head {
        [0xff, 0xfe, ..] if is_wide(0) => return Some("text in UTF-16"),
        [0xfe, 0xff, ..] if is_wide(1) => return Some("text in UTF-16"),
        _ => {}
    }
    let lower = head.trim_ascii_start().get(..14)?.to_ascii_lowercase();
    (lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html")).then_some("a web page")
}

fn pointer(text: &str) -> Content {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let oid =
        value("oid sha256:").filter(|oid| oid.len() == 64 && oid.bytes().all(|b| b.is_ascii_hexdigit()));
    Content::Pointer { oid: oid.map(str::to_owned), size: value("size ").and_then(|size| size.parse().ok()) }
}

/// The finding for content that is not what the name promises, and that is not read further.
pub(crate) fn foreign(content: &Content, promise: Promise, head: &[u8]) -> Defect {
    match content {
        Content::Pointer { oid, size } => {
            let oid = oid.as_deref().unwrap_or("an unknown object");
            let size = size.map_or("an unknown number of".to_owned(), |size| size.to_string());
            Defect::new(code::FS_LFS_POINTER, "a git-lfs pointer stands in for the file")
                .at(0)
                .expected(format!("{size} bytes with SHA-256 {oid}"), "the pointer")
                .hint("run `git lfs pull`, or `git lfs checkout` where the object is already in .git/lfs")
        }
        Content::Text(kind) => {
            let shown = String::from_utf8_lossy(&head[..head.len().min(48)]).into_owned();
            Defect::new(code::FS_TEXT, format!("the file is {kind}"))
                .at(0)
                .expected(promise.name(), format!("\"{}\"", escape(&shown)))
                .hint("a server answered with this in place of the file: fetch it again, and log in if it asks to")
        }
        other => {
            let kind = match other {
                Content::Safetensors => "a safetensors file",
                Content::Zip => "a zip archive",
                Content::Npy => "an npy array",
                Content::Pickle => "a pickle",
                Content::Other(kind) => kind,
                _ => "of no known format",
            };
            Defect::new(code::FS_WRONG_FORMAT, format!("the file is {kind}"))
                .at(0)
                .expected(promise.name(), kind)
        }
    }
}

/// The format whose signature stands at `start`, in words.
pub(crate) fn format_at(bytes: &(impl ReadAt + ?Sized), start: u64) -> Result<Option<&'static str>, Error> {
    let len = (bytes.len() - start).min(HEAD_LEN as u64);
    let mut head = vec![0; usize::try_from(len).unwrap_or(HEAD_LEN)];
    bytes.read_exact_at(&mut head, start)?;
    Ok(match content(&head) {
        Content::Safetensors => Some("a safetensors file"),
        Content::Zip => Some("a zip archive"),
        Content::Npy => Some("an npy array"),
        Content::Pickle => Some("a pickle"),
        // Plain text behind data is no format of its own: it opens nothing.
        Content::Text("text") | Content::Unknown => None,
        Content::Other(kind) | Content::Text(kind) => Some(kind),
        Content::Pointer { .. } => Some("a git-lfs pointer"),
    })
}

/// Whether the file can be opened as a zip archive from its end.
pub(crate) fn ends_in_archive(bytes: &(impl ReadAt + ?Sized)) -> Result<bool, Error> {
    Ok(crate::zip::archive_at_end(bytes, 0)?.is_some())
}

/// Reports a zip archive at the end of the last tensor: such a file is a valid archive too, because zip readers look
/// from the end.
pub(crate) fn hidden_archive(
    bytes: &(impl ReadAt + ?Sized),
    start: u64,
    tensor: Option<&str>,
    defects: &mut Defects,
) -> Result<(), Error> {
    if let Some(at) = crate::zip::archive_at_end(bytes, start)? {
        let inside = tensor.map_or("the last tensor".to_owned(), quote);
        let mut defect = Defect::new(code::FS_POLYGLOT, format!("a zip archive lies at the end of {inside}"))
            .severity(code::Severity::Warn)
            .at(at)
            .expected("values", "a zip archive's end record")
            .hint("zip tools and torch open this file as an archive");
        if let Some(name) = tensor {
            defect = defect.tensor(name);
        }
        defects.push(defect);
    }
    Ok(())
}
