//! safetensors: structure aware in its length field, and held against the reference reader.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unitrow_fuzz::{read, rejected};
use unitrow_tensors::Storage;

/// The first byte says what to do with the rest: as it stands, or as a header with the right length field, with a few
/// bytes of data behind it, so that mutations of the text reach the rules on tensors.
fn file(input: &[u8]) -> Vec<u8> {
    let Some((&mode, rest)) = input.split_first() else { return Vec::new() };
    if mode & 1 == 0 {
        return rest.to_vec();
    }
    let data_len = usize::from(mode >> 1);
    let mut bytes = (rest.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(rest);
    bytes.resize(bytes.len() + data_len, 0x3f);
    bytes
}

fuzz_target!(|input: &[u8]| {
    let bytes = file(input);
    let table = read(&bytes, "model.safetensors");
    match safetensors::SafeTensors::deserialize(&bytes) {
        Err(error) => assert!(rejected(&table.defects), "the reference rejects: {error}"),
        Ok(reference) if !rejected(&table.defects) => {
            assert_eq!(reference.len(), table.tensors.len());
            for tensor in &table.tensors {
                let view = reference.tensor(&tensor.name).expect("both have the same names");
                assert_eq!(view.dtype().to_string(), tensor.dtype.name());
                assert!(view.shape().iter().map(|&dim| dim as u64).eq(tensor.shape.iter().copied()));
                let Storage::Stored { offset, len } = tensor.storage else { panic!("{tensor:?}") };
                assert_eq!(view.data(), &bytes[offset as usize..(offset + len) as usize]);
            }
        }
        Ok(_) => {}
    }
    // Cutting the last byte of a sound file is always found.
    if !rejected(&table.defects) {
        assert!(rejected(&read(&bytes[..bytes.len() - 1], "model.safetensors").defects));
    }
});
