//! The shard index.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use unitrow_fuzz::{assert_defects, rejected};
use unitrow_tensors::{check_set, read_index};

const NAME: &str = "model.safetensors.index.json";

fuzz_target!(|bytes: &[u8]| {
    let index = read_index(bytes, NAME);
    assert_defects(&index.defects);
    let tensors: HashSet<&str> = index.listings.iter().map(|listing| listing.tensor.as_str()).collect();
    assert_eq!(tensors.len(), index.listings.len(), "a name stands twice");
    assert_eq!(index.shards.len(), index.confined.len());
    for listing in &index.listings {
        assert!(listing.shard < index.shards.len());
        assert!(listing.byte_offset < bytes.len() as u64);
    }
    for (name, confined) in index.shards.iter().zip(&index.confined) {
        if *confined {
            assert!(name.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{name:?}");
            assert!(!name.contains(['\\', '\0']) && name != NAME, "{name:?}");
        }
    }
    if !index.sound || index.confined.iter().any(|confined| !confined) {
        assert!(rejected(&index.defects), "{:?}", index.defects);
    }
    let defects = check_set(&index, &[]).expect("nothing is read");
    assert_defects(&defects);
    if !index.listings.is_empty() {
        assert!(rejected(&defects) || rejected(&index.defects), "shards that are not there are missed");
    }
});
