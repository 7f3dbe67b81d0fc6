//! npz: raw bytes, and archives put together from mutated parts.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use unitrow_fuzz::{read, rejected};

/// A member whose two headers are written from the same fields, but for a few changed bytes.
#[derive(Arbitrary, Debug)]
struct Member {
    name: Vec<u8>,
    data: Vec<u8>,
    deflated: bool,
    flags: u16,
    len_change: i8,
    extra: Vec<u8>,
    right_sum: bool,
}

#[derive(Arbitrary, Debug)]
enum Input {
    Raw(Vec<u8>),
    Archive { members: Vec<Member>, comment: Vec<u8>, patches: Vec<(u16, u8)>, prefix: u8, suffix: u8 },
}

fn build(input: Input) -> Vec<u8> {
    let (members, comment, patches, prefix, suffix) = match input {
        Input::Raw(bytes) => return bytes,
        Input::Archive { members, comment, patches, prefix, suffix } => {
            (members, comment, patches, prefix, suffix)
        }
    };
    let (mut file, mut directory, mut count) = (Vec::new(), Vec::new(), 0_u16);
    for member in members.into_iter().take(8) {
        let name = &member.name[..member.name.len().min(200)];
        let extra = &member.extra[..member.extra.len().min(200)];
        let sum = if member.right_sum { crc32fast::hash(&member.data) } else { 0 };
        let compressed_len = member.data.len() as u32;
        let len = compressed_len.saturating_add_signed(i32::from(member.len_change));
        let mut common = member.flags.to_le_bytes().to_vec();
        common.extend([if member.deflated { 8 } else { 0 }, 0, 0, 0, 0x21, 0]);
        for field in [sum, compressed_len, len] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend((extra.len() as u16).to_le_bytes());
        let offset = file.len() as u32;
        file.extend(b"PK\x03\x04\x14\0");
        file.extend(&common);
        file.extend(name);
        file.extend(extra);
        file.extend(&member.data);
        directory.extend(b"PK\x01\x02\x14\x03\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name);
        directory.extend(extra);
        count += 1;
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    let comment = &comment[..comment.len().min(300)];
    file.extend((comment.len() as u16).to_le_bytes());
    file.extend(comment);
    for (at, value) in patches.into_iter().take(4) {
        let len = file.len();
        file[usize::from(at) % len] = value;
    }
    let mut bytes = vec![0x55; usize::from(prefix % 4)];
    bytes.extend(file);
    bytes.resize(bytes.len() + usize::from(suffix % 4), 0x55);
    bytes
}

fuzz_target!(|input: Input| {
    let bytes = build(input);
    let table = read(&bytes, "params.npz");
    read(&bytes, "sae.pt");
    read(&bytes, "blob");
    if !rejected(&table.defects) {
        assert!(
            rejected(&read(&bytes[..bytes.len() - 1], "params.npz").defects)
                || table.defects.iter().any(|d| d.code.name == "Z_TRAILING")
        );
    }
});
