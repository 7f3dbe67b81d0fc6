//! Files built byte by byte, sound and broken.

use std::path::Path;

use unitrow_tensors::{Severity, Table, read_table_from};

/// A safetensors file: the length of `header`, `header`, `data`.
pub(crate) fn st(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    with_len(header.len() as u64, header, data)
}

/// The same with any length field.
pub(crate) fn with_len(len: u64, header: &[u8], data: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes()[..], header, data].concat()
}

/// A header padded with spaces to a multiple of 8.
pub(crate) fn padded(header: &str) -> String {
    let missing = header.len().next_multiple_of(8) - header.len();
    [header, &" ".repeat(missing)].concat()
}

/// One entry, quotes and all.
pub(crate) fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
}

/// A header of one entry, padded, and its data.
pub(crate) fn one(name: &str, dtype: &str, shape: &str, offsets: &str, data_len: usize) -> Vec<u8> {
    st(padded(&format!("{{{}}}", entry(name, dtype, shape, offsets))), &vec![1; data_len])
}

/// Several entries, given as JSON members.
pub(crate) fn many(entries: &[String], data_len: usize) -> Vec<u8> {
    st(padded(&format!("{{{}}}", entries.join(","))), &vec![1; data_len])
}

/// An npy file of version 1 with the given literal.
pub(crate) fn npy(literal: &str, data: &[u8]) -> Vec<u8> {
    let len = (10 + literal.len() + 1).next_multiple_of(64) - 10;
    npy_raw([1, 0], &format!("{literal}{}\n", " ".repeat(len - 1 - literal.len())), data)
}

/// An npy file of any version, its literal as it is.
pub(crate) fn npy_raw(version: [u8; 2], literal: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY".to_vec();
    file.extend(version);
    if version[0] == 1 {
        file.extend(u16::try_from(literal.len()).unwrap().to_le_bytes());
    } else {
        file.extend(u32::try_from(literal.len()).unwrap().to_le_bytes());
    }
    file.extend(literal.as_bytes());
    file.extend(data);
    file
}

/// The literal of an array in row-major order.
pub(crate) fn literal(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
}

/// An array of `count` ones in f32.
pub(crate) fn ones(count: usize) -> Vec<u8> {
    npy(&literal("<f4", &format!("({count},)")), &1_f32.to_le_bytes().repeat(count))
}

/// A zip member; each field that both headers have can be made to differ.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) local_method: Option<u16>,
    pub(crate) flags: u16,
    pub(crate) local_flags: Option<u16>,
    pub(crate) crc32: u32,
    pub(crate) len: u32,
    pub(crate) local_len: Option<u32>,
    pub(crate) compressed_len: u32,
    pub(crate) local_compressed_len: Option<u32>,
    pub(crate) extra: Vec<u8>,
    pub(crate) local_extra: Vec<u8>,
    pub(crate) attributes: u32,
    pub(crate) offset: Option<u32>,
    pub(crate) descriptor: Vec<u8>,
}

impl Member {
    pub(crate) fn stored(name: &str, data: &[u8]) -> Self {
        let len = u32::try_from(data.len()).unwrap();
        Self {
            name: name.into(),
            local_name: None,
            data: data.to_vec(),
            method: 0,
            local_method: None,
            flags: 0,
            local_flags: None,
            crc32: crc32(data),
            len,
            local_len: None,
            compressed_len: len,
            local_compressed_len: None,
            extra: Vec::new(),
            local_extra: Vec::new(),
            attributes: 0o100_600 << 16,
            offset: None,
            descriptor: Vec::new(),
        }
    }

    pub(crate) fn deflated(name: &str, data: &[u8]) -> Self {
        let mut member = Self::stored(name, data);
        member.data = deflate(data);
        member.compressed_len = u32::try_from(member.data.len()).unwrap();
        member.method = 8;
        member
    }

    fn local(&self) -> Vec<u8> {
        let name = self.local_name.as_ref().unwrap_or(&self.name);
        let mut record = b"PK\x03\x04\x14\0".to_vec();
        record.extend(self.local_flags.unwrap_or(self.flags).to_le_bytes());
        record.extend(self.local_method.unwrap_or(self.method).to_le_bytes());
        record.extend([0, 0, 0x21, 0]);
        record.extend(self.crc32.to_le_bytes());
        record.extend(self.local_compressed_len.unwrap_or(self.compressed_len).to_le_bytes());
        record.extend(self.local_len.unwrap_or(self.len).to_le_bytes());
        record.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        record.extend(u16::try_from(self.local_extra.len()).unwrap().to_le_bytes());
        record.extend(name);
        record.extend(&self.local_extra);
        record
    }

    fn central(&self, offset: u32) -> Vec<u8> {
        let mut record = b"PK\x01\x02\x14\x03\x14\0".to_vec();
        record.extend(self.flags.to_le_bytes());
        record.extend(self.method.to_le_bytes());
        record.extend([0, 0, 0x21, 0]);
        record.extend(self.crc32.to_le_bytes());
        record.extend(self.compressed_len.to_le_bytes());
        record.extend(self.len.to_le_bytes());
        record.extend(u16::try_from(self.name.len()).unwrap().to_le_bytes());
        record.extend(u16::try_from(self.extra.len()).unwrap().to_le_bytes());
        record.extend([0; 6]);
        record.extend(self.attributes.to_le_bytes());
        record.extend(self.offset.unwrap_or(offset).to_le_bytes());
        record.extend(&self.name);
        record.extend(&self.extra);
        record
    }
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip archive of these members, and a comment.
pub(crate) fn zip_with(members: &[Member], comment: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let offset = u32::try_from(file.len()).unwrap();
        file.extend(member.local());
        file.extend(&member.data);
        file.extend(&member.descriptor);
        directory.extend(member.central(offset));
    }
    let start = u32::try_from(file.len()).unwrap();
    file.extend(&directory);
    file.extend(end(members.len(), directory.len(), start, comment));
    file
}

pub(crate) fn end(entries: usize, directory_len: usize, directory: u32, comment: &[u8]) -> Vec<u8> {
    let entries = u16::try_from(entries).unwrap().to_le_bytes();
    let mut record = b"PK\x05\x06\0\0\0\0".to_vec();
    record.extend(entries);
    record.extend(entries);
    record.extend(u32::try_from(directory_len).unwrap().to_le_bytes());
    record.extend(directory.to_le_bytes());
    record.extend(u16::try_from(comment.len()).unwrap().to_le_bytes());
    record.extend(comment);
    record
}

pub(crate) fn zip(members: &[Member]) -> Vec<u8> {
    zip_with(members, b"")
}

/// The table of bytes that stand under `name`.
pub(crate) fn table(name: &str, bytes: &[u8]) -> Table {
    read_table_from(bytes, Path::new(name)).expect("memory can be read")
}

/// The codes of a table, in its order.
pub(crate) fn codes(table: &Table) -> Vec<&'static str> {
    table.defects.iter().map(|defect| defect.code.name).collect()
}

/// Asserts the worst severity, and that each of `expected` (codes, separated by commas) was found.
#[track_caller]
pub(crate) fn check(case: &str, name: &str, bytes: &[u8], worst: Option<Severity>, expected: &str) {
    let table = table(name, bytes);
    let found = codes(&table);
    for code in expected.split(',').filter(|code| !code.is_empty()) {
        assert!(found.contains(&code), "{case}: expected {code}, found {:#?}", table.defects);
    }
    assert_eq!(table.worst(), worst, "{case}: {:#?}", table.defects);
    let keys: Vec<_> = table.defects.iter().map(|d| (d.byte_offset, d.code.name)).collect();
    assert!(keys.is_sorted(), "{case}: {keys:?}");
    for tensor in &table.tensors {
        let (start, len) = match tensor.storage {
            unitrow_tensors::Storage::Stored { offset, len } => (offset, len),
            unitrow_tensors::Storage::Deflated { offset, compressed_len, .. } => (offset, compressed_len),
        };
        assert!(start + len <= bytes.len() as u64, "{case}: {tensor:?}");
    }
}
