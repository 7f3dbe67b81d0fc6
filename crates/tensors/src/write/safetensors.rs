//! Writing safetensors.

use std::fmt::Write;
use std::io;
use std::path::Path;

use super::{TensorParts, atomic, examine};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::name::escape;
use crate::safetensors::MAX_HEADER_LEN;

/// Writes a safetensors file as the reference writer lays it out: by descending alignment, then by name, the header
/// padded with spaces to a multiple of 8. Metadata is sorted by key, so that equal input gives equal bytes.
///
/// The file is written beside `path`, synced and renamed, so that `path` holds the old bytes or all of the new ones.
///
/// # Errors
/// [`Error::SizeMismatch`], [`Error::DuplicateName`] or [`Error::Unsupported`] for tensors that do not fit the format,
/// [`Error::Io`] where writing fails; whatever stood at `path` is then still there.
pub fn write_safetensors(
    path: &Path,
    tensors: &[TensorParts<'_>],
    metadata: &[(String, String)],
) -> Result<(), Error> {
    examine(path, tensors)?;
    let mut order: Vec<&TensorParts<'_>> = tensors.iter().collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let header = header(path, &order, metadata)?;
    atomic::replace(path, |file| {
        let len = u64::try_from(header.len()).map_err(io::Error::other)?;
        io::Write::write_all(file, &len.to_le_bytes())?;
        io::Write::write_all(file, header.as_bytes())?;
        order.iter().try_for_each(|(.., bytes)| io::Write::write_all(file, bytes))
    })
}

fn header(path: &Path, order: &[&TensorParts<'_>], metadata: &[(String, String)]) -> Result<String, Error> {
    let unsupported = |name: &str, found: String| Error::Unsupported {
        path: path.to_owned(),
        name: escape(name),
        container: "safetensors",
        found,
    };
    let mut header = String::from("{");
    let mut separator = "";
    if !metadata.is_empty() {
        let mut pairs: Vec<_> = metadata.iter().collect();
        pairs.sort();
        if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::DuplicateName { path: path.to_owned(), name: escape(&pair[0].0) });
        }
        header.push_str("\"__metadata__\":{");
        for (key, value) in pairs {
            header.push_str(separator);
            quote(&mut header, key);
            header.push(':');
            quote(&mut header, value);
            separator = ",";
        }
        header.push('}');
        separator = ",";
    }
    let mut begin = 0_u64;
    for &&(name, dtype, shape, bytes) in order {
        if name == "__metadata__" || matches!(dtype, Dtype::C128 | Dtype::Opaque { .. }) {
            return Err(unsupported(name, format!("the name or the dtype {dtype}")));
        }
        let end = begin + bytes.len() as u64;
        header.push_str(separator);
        quote(&mut header, name);
        let shape = shape.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        // Writing to a String cannot fail.
        let _ =
            write!(header, ":{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]}}");
        separator = ",";
        begin = end;
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    if header.len() as u64 > MAX_HEADER_LEN {
        return Err(unsupported("", format!("a header of {} bytes", header.len())));
    }
    Ok(header)
}

/// A JSON string, escaped only where JSON asks for it, as the reference writer does.
fn quote(header: &mut String, text: &str) {
    header.push('"');
    for character in text.chars() {
        match character {
            '"' => header.push_str("\\\""),
            '\\' => header.push_str("\\\\"),
            '\u{8}' => header.push_str("\\b"),
            '\u{c}' => header.push_str("\\f"),
            '\n' => header.push_str("\\n"),
            '\r' => header.push_str("\\r"),
            '\t' => header.push_str("\\t"),
            '\0'..='\u{1f}' => {
                let _ = write!(header, "\\u{:04x}", u32::from(character));
            }
            other => header.push(other),
        }
    }
    header.push('"');
}
