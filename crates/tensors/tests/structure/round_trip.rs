//! What is written here is read here and by the reference reader, and the other way round.

use std::collections::HashMap;
use std::fs;

use proptest::prelude::*;

use crate::file::Folder;
use unitrow_tensors::write::TensorParts;
use unitrow_tensors::{
    Dtype, Error, Severity, Source, Storage, check_crc, read_table, write_npz, write_safetensors,
};

type Owned = (String, Dtype, Vec<u64>, Vec<u8>);

fn tensors(dtypes: Vec<Dtype>) -> impl Strategy<Value = Vec<Owned>> {
    let tensor = (prop::sample::select(dtypes), prop::collection::vec(0_u64..5, 0..4), any::<u8>());
    prop::collection::hash_map("[a-zA-Z_][a-zA-Z0-9_.]{0,20}", tensor, 0..6).prop_map(|tensors| {
        let mut list: Vec<Owned> = tensors
            .into_iter()
            .map(|(name, (dtype, mut shape, byte))| {
                // Sub-byte types fill whole bytes only where some dimension sees to it.
                if dtype.bits() < 8 {
                    shape.push(4);
                }
                let len = shape.iter().product::<u64>() * dtype.bits() / 8;
                (name, dtype, shape, vec![byte; usize::try_from(len).unwrap()])
            })
            .collect();
        list.sort();
        list
    })
}

fn parts(tensors: &[Owned]) -> Vec<TensorParts<'_>> {
    tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, &shape[..], &bytes[..]))
        .collect()
}

fn npy_dtypes() -> Vec<Dtype> {
    let known = Dtype::SAFETENSORS.iter().copied().filter(|dtype| {
        !matches!(dtype.name(), "F4" | "F6_E2M3" | "F6_E3M2" | "BF16") && !dtype.name().starts_with("F8")
    });
    known.chain([Dtype::C128]).collect()
}

fn reference_bytes(tensors: &[Owned], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let dtype: ::safetensors::Dtype = serde_json::from_value(dtype.name().into()).unwrap();
        let shape = shape.iter().map(|&dim| usize::try_from(dim).unwrap()).collect();
        (name.clone(), ::safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap())
    });
    ::safetensors::serialize(views, metadata).unwrap()
}

fn assert_holds(path: &std::path::Path, expected: &[Owned]) {
    let source = Source::open(path).unwrap();
    let table = read_table(&source).unwrap();
    assert!(table.sound);
    assert!(table.worst() <= Some(Severity::Note), "{:?}", table.defects);
    let map = source.map().unwrap();
    assert_eq!(table.tensors.len(), expected.len());
    for (name, dtype, shape, bytes) in expected {
        let tensor = table.tensors.iter().find(|tensor| tensor.name == *name).unwrap();
        assert_eq!((tensor.dtype, &tensor.shape), (*dtype, shape));
        let Storage::Stored { offset, len } = tensor.storage else { panic!("{tensor:?}") };
        let start = usize::try_from(offset).unwrap();
        assert_eq!(&map[start..start + usize::try_from(len).unwrap()], &bytes[..]);
        assert_eq!(check_crc(&source, tensor).unwrap(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn safetensors_bytes_are_the_reference_writers(tensors in tensors(Dtype::SAFETENSORS.to_vec()), meta in any::<bool>()) {
        let folder = Folder::new();
        let path = folder.path().join("m.safetensors");
        // One pair at most: the reference writes several in a random order.
        let metadata: Vec<_> = meta.then(|| ("key \"\u{1}\"".to_owned(), "\u{e9}\n".to_owned())).into_iter().collect();
        write_safetensors(&path, &parts(&tensors), &metadata).unwrap();
        let map = meta.then(|| metadata.into_iter().collect());
        prop_assert_eq!(fs::read(&path).unwrap(), reference_bytes(&tensors, map));
    }

    #[test]
    fn safetensors_are_read_as_written(tensors in tensors(Dtype::SAFETENSORS.to_vec())) {
        let folder = Folder::new();
        let path = folder.path().join("m.safetensors");
        write_safetensors(&path, &parts(&tensors), &[]).unwrap();
        assert_holds(&path, &tensors);
    }

    #[test]
    fn npz_is_read_as_written(tensors in tensors(npy_dtypes())) {
        let folder = Folder::new();
        let path = folder.path().join("p.npz");
        write_npz(&path, &parts(&tensors)).unwrap();
        assert_holds(&path, &tensors);
        let table = read_table(&Source::open(&path).unwrap()).unwrap();
        for tensor in &table.tensors {
            let Storage::Stored { offset, .. } = tensor.storage else { panic!("{tensor:?}") };
            prop_assert!(offset % 64 == 0);
        }
    }
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = Folder::new();
    let path = folder.write("m.safetensors", b"old");
    let wrong = [("a", Dtype::F32, &[2_u64][..], &[0_u8; 4][..])];
    assert!(matches!(write_safetensors(&path, &wrong, &[]), Err(Error::SizeMismatch { found: 4, .. })));
    let twice = [("a", Dtype::U8, &[1_u64][..], &[0_u8][..]); 2];
    assert!(matches!(write_safetensors(&path, &twice, &[]), Err(Error::DuplicateName { .. })));
    let bf16 = [("a", Dtype::Bf16, &[1_u64][..], &[0_u8; 2][..])];
    assert!(matches!(write_npz(&path, &bf16), Err(Error::Unsupported { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let gone = folder.path().join("none").join("m.safetensors");
    assert!(matches!(write_safetensors(&gone, &bf16, &[]), Err(Error::Io { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn new_files_honour_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let plain = folder.write("plain", b"");
    let path = folder.path().join("m.safetensors");
    write_safetensors(&path, &[], &[]).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}
