//! Writing npz.

use std::io::{self, Write};
use std::path::Path;

use super::{TensorParts, atomic, examine};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::name::escape;

/// Arrays begin at multiples of this, in bytes, so that they can be mapped and loaded in whole vectors.
const ALIGNMENT: usize = 64;
/// The extra field that pads a local header; readers skip fields they do not know. Its number is the one that torch
/// uses for the same purpose.
const PADDING_FIELD: &[u8; 2] = b"FB";
const MARK: u32 = u32::MAX;
/// 1 January 1980, midnight, the first moment zip can express: equal input gives equal bytes.
const DATE: u16 = 0x0021;

/// Writes an uncompressed npz file whose arrays begin at multiples of 64 bytes, so that they can be mapped.
///
/// The file is written beside `path`, synced and renamed, so that `path` holds the old bytes or all of the new ones.
///
/// # Errors
/// [`Error::SizeMismatch`] or [`Error::DuplicateName`]; [`Error::Unsupported`] for types that npy does not define and
/// names that no zip member can have; [`Error::Io`] where writing fails, and whatever stood at `path` is then still
/// there.
pub fn write_npz(path: &Path, tensors: &[TensorParts<'_>]) -> Result<(), Error> {
    examine(path, tensors)?;
    let mut members = Vec::with_capacity(tensors.len());
    let mut offset = 0;
    for tensor in tensors {
        let member = Member::plan(path, tensor, offset)?;
        offset = member.end();
        members.push(member);
    }
    let start = offset;
    atomic::replace(path, |file| {
        for member in &members {
            member.write_local(file)?;
        }
        let mut len = 0;
        for member in &members {
            len += member.write_central(file)?;
        }
        write_end(file, members.len() as u64, len, start)
    })
}

/// A member and where it goes.
struct Member<'a> {
    name: String,
    offset: u64,
    padding: Vec<u8>,
    header: Vec<u8>,
    bytes: &'a [u8],
    crc32: u32,
}

impl<'a> Member<'a> {
    fn plan(path: &Path, &(name, dtype, shape, bytes): &TensorParts<'a>, offset: u64) -> Result<Self, Error> {
        let unsupported = |found: String| Error::Unsupported {
            path: path.to_owned(),
            name: escape(name),
            container: "npz",
            found,
        };
        let Some(descr) = descr(dtype) else { return Err(unsupported(format!("the dtype {dtype}"))) };
        let member_name = format!("{name}.npy");
        if member_name.len() > 0xffff || name.is_empty() || name.contains(['\0', '\\']) {
            return Err(unsupported("a member of that name".to_owned()));
        }
        let header = npy_header(descr, shape).ok_or_else(|| unsupported("so long a shape".to_owned()))?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&header);
        sum.update(bytes);
        let mut member =
            Self { name: member_name, offset, padding: Vec::new(), header, bytes, crc32: sum.finalize() };
        // npy headers are a multiple of 64 long, so that the member's beginning decides. A field takes 4 bytes at least.
        let unpadded = member.offset + member.local_len() as u64;
        let missing = usize::try_from(unpadded.next_multiple_of(ALIGNMENT as u64) - unpadded).unwrap_or(0);
        if missing > 0 {
            let field = if missing < 4 { missing + ALIGNMENT } else { missing };
            member.padding.extend_from_slice(PADDING_FIELD);
            member.padding.extend_from_slice(&u16::try_from(field - 4).unwrap_or(0).to_le_bytes());
            member.padding.resize(field, 0);
        }
        Ok(member)
    }

    fn len(&self) -> u64 {
        self.header.len() as u64 + self.bytes.len() as u64
    }

    fn end(&self) -> u64 {
        self.offset + self.local_len() as u64 + self.len()
    }

    fn local_len(&self) -> usize {
        30 + self.name.len() + wide(&[self.len(), self.len()]).len() + self.padding.len()
    }

    /// Flags, method, time, date, check sum and both lengths, which the two headers share.
    fn common(&self) -> Vec<u8> {
        let utf8: u16 = if self.name.is_ascii() { 0 } else { 0x800 };
        let len = narrow(self.len());
        let mut fields = Vec::with_capacity(22);
        for field in [utf8, 0, 0, DATE] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.crc32, len, len] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        fields
    }

    fn write_local(&self, file: &mut impl Write) -> io::Result<()> {
        let mut extra = wide(&[self.len(), self.len()]);
        extra.extend_from_slice(&self.padding);
        file.write_all(b"PK\x03\x04")?;
        file.write_all(&45_u16.to_le_bytes())?;
        file.write_all(&self.common())?;
        file.write_all(&length(&self.name)?)?;
        file.write_all(&length(&extra)?)?;
        file.write_all(self.name.as_bytes())?;
        file.write_all(&extra)?;
        file.write_all(&self.header)?;
        file.write_all(self.bytes)
    }

    /// Writes the central header; gives its length.
    fn write_central(&self, file: &mut impl Write) -> io::Result<u64> {
        let mut record = Vec::with_capacity(46 + self.name.len());
        let extra = wide(&[self.len(), self.len(), self.offset]);
        record.extend_from_slice(b"PK\x01\x02");
        // Made by zip 4.5 on Unix, where the mode 0600 of a regular file stands in the upper half of the attributes.
        record.extend_from_slice(&[45, 3]);
        record.extend_from_slice(&45_u16.to_le_bytes());
        record.extend_from_slice(&self.common());
        record.extend_from_slice(&length(&self.name)?);
        record.extend_from_slice(&length(&extra)?);
        record.extend_from_slice(&[0; 6]);
        record.extend_from_slice(&(0o100_600_u32 << 16).to_le_bytes());
        record.extend_from_slice(&narrow(self.offset).to_le_bytes());
        record.extend_from_slice(self.name.as_bytes());
        record.extend_from_slice(&extra);
        file.write_all(&record)?;
        Ok(record.len() as u64)
    }
}

fn length(bytes: impl AsRef<[u8]>) -> io::Result<[u8; 2]> {
    u16::try_from(bytes.as_ref().len()).map(u16::to_le_bytes).map_err(io::Error::other)
}

/// A number in 32 bits, or the mark that the zip64 field has it.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(MARK)
}

/// The zip64 field for those of `values` that need it; empty where none does.
fn wide(values: &[u64]) -> Vec<u8> {
    let wide: Vec<u64> = values.iter().copied().filter(|&value| narrow(value) == MARK).collect();
    let mut field = Vec::new();
    if !wide.is_empty() {
        field.extend_from_slice(&1_u16.to_le_bytes());
        field.extend_from_slice(&u16::try_from(8 * wide.len()).unwrap_or(0).to_le_bytes());
        for value in wide {
            field.extend_from_slice(&value.to_le_bytes());
        }
    }
    field
}

fn write_end(file: &mut impl Write, entries: u64, len: u64, start: u64) -> io::Result<()> {
    let few = u16::try_from(entries).unwrap_or(u16::MAX);
    if few == u16::MAX || narrow(len) == MARK || narrow(start) == MARK {
        file.write_all(b"PK\x06\x06")?;
        file.write_all(&44_u64.to_le_bytes())?;
        file.write_all(&[45, 0, 45, 0])?;
        file.write_all(&[0; 8])?;
        for field in [entries, entries, len, start] {
            file.write_all(&field.to_le_bytes())?;
        }
        file.write_all(b"PK\x06\x07")?;
        file.write_all(&[0; 4])?;
        file.write_all(&(start + len).to_le_bytes())?;
        file.write_all(&1_u32.to_le_bytes())?;
    }
    file.write_all(b"PK\x05\x06")?;
    file.write_all(&[0; 4])?;
    file.write_all(&few.to_le_bytes())?;
    file.write_all(&few.to_le_bytes())?;
    file.write_all(&narrow(len).to_le_bytes())?;
    file.write_all(&narrow(start).to_le_bytes())?;
    file.write_all(&[0; 2])
}

fn descr(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::Bool => "|b1",
        Dtype::U8 => "|u1",
        Dtype::I8 => "|i1",
        Dtype::I16 => "<i2",
        Dtype::U16 => "<u2",
        Dtype::F16 => "<f2",
        Dtype::I32 => "<i4",
        Dtype::U32 => "<u4",
        Dtype::F32 => "<f4",
        Dtype::C64 => "<c8",
        Dtype::F64 => "<f8",
        Dtype::I64 => "<i8",
        Dtype::U64 => "<u8",
        Dtype::C128 => "<c16",
        _ => return None,
    })
}

/// Magic, version and literal, padded to a multiple of 64 and ended by a line feed, as numpy writes them.
fn npy_header(descr: &str, shape: &[u64]) -> Option<Vec<u8>> {
    let dims: Vec<String> = shape.iter().map(u64::to_string).collect();
    let shape = match dims.as_slice() {
        [one] => format!("({one},)"),
        more => format!("({})", more.join(", ")),
    };
    let mut literal = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(10 + literal.len() + 1).is_multiple_of(ALIGNMENT) {
        literal.push(' ');
    }
    literal.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&u16::try_from(literal.len()).ok()?.to_le_bytes());
    header.extend_from_slice(literal.as_bytes());
    Some(header)
}
