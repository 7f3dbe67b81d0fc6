//! npy: raw bytes, and literals with a sound frame around them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unitrow_fuzz::{read, rejected};

/// The first byte says what to do with the rest: as it stands, or as the literal of a header of versions 1 to 3.
fn file(input: &[u8]) -> Vec<u8> {
    let Some((&mode, rest)) = input.split_first() else { return Vec::new() };
    let version = mode & 3;
    if version == 0 {
        return rest.to_vec();
    }
    let rest = &rest[..rest.len().min(0xffff)];
    let mut bytes = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
    if version == 1 {
        bytes.extend((rest.len() as u16).to_le_bytes());
    } else {
        bytes.extend((rest.len() as u32).to_le_bytes());
    }
    bytes.extend_from_slice(rest);
    bytes.resize(bytes.len() + usize::from(mode >> 2), 0x3f);
    bytes
}

fuzz_target!(|input: &[u8]| {
    let bytes = file(input);
    let table = read(&bytes, "w.npy");
    assert!(table.tensors.len() <= 1);
    assert!(rejected(&table.defects) || table.tensors.len() == 1, "nothing read and nothing said");
    // A sound array that is cut by a byte is found, unless it had bytes to spare.
    if !rejected(&table.defects) && table.defects.iter().all(|defect| defect.code.name != "NPY_TRAILING") {
        assert!(rejected(&read(&bytes[..bytes.len() - 1], "w.npy").defects));
    }
});
