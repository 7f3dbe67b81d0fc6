//! What a file is rather than what it holds: wrong formats, special files, traces of downloads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::build::{Member, check, codes, literal, npy, one, ones, table, zip};
use unitrow_tensors::Severity::{Fail, Note, Unreadable, Warn};
use unitrow_tensors::{Container, Error, Source, read_table};

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("unitrow-tensors-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder can be made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("the folder can be written to");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sound() -> Vec<u8> {
    one("w", "F32", "[4]", "[0,16]", 16)
}

#[test]
fn wrong_formats() {
    let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
    let html = b"<!DOCTYPE html>\n<html><title>404</title></html>";
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff];
    gzip.extend(crate::build::deflate(&sound()));
    let torch =
        zip(&[Member::stored("archive/data.pkl", b"\x80\x02."), Member::stored("archive/data/0", &[0; 64])]);
    let model = "model.safetensors";
    for (case, name, bytes, worst, expected) in [
        ("f001 pointer", model, pointer.clone().into_bytes(), Fail, "FS_LFS_POINTER"),
        ("pointer as npz", "params.npz", pointer.clone().into_bytes(), Fail, "FS_LFS_POINTER"),
        ("f003 html", model, html.to_vec(), Fail, "FS_TEXT"),
        ("f004", model, br#"{"error":"Unauthorized"}"#.to_vec(), Fail, "FS_TEXT"),
        ("xml", "params.npz", b"<?xml version=\"1.0\"?><Error/>".to_vec(), Fail, "FS_TEXT"),
        ("f005", model, gzip, Fail, "FS_WRONG_FORMAT"),
        ("f006", model, [&b"GGUF\x03\0\0\0"[..], &[0; 64]].concat(), Fail, "FS_WRONG_FORMAT"),
        ("f007", model, [&b"\x89HDF\r\n\x1a\n"[..], &[0; 64]].concat(), Fail, "FS_WRONG_FORMAT"),
        ("f008 zip", model, zip(&[Member::stored("a.txt", b"x")]), Fail, "FS_WRONG_FORMAT"),
        ("npz", model, zip(&[Member::stored("a.npy", &ones(4))]), Fail, "FS_WRONG_FORMAT"),
        ("npy", model, ones(4), Fail, "FS_WRONG_FORMAT"),
        ("pickle", model, b"\x80\x04\x95\0\0\0\0\0\0\0\0N.".to_vec(), Fail, "FS_WRONG_FORMAT"),
        ("safetensors as npz", "params.npz", sound(), Fail, "FS_WRONG_FORMAT"),
        ("safetensors as pt", "sae.pt", sound(), Fail, "FS_WRONG_FORMAT"),
        ("torch as safetensors", model, torch.clone(), Unreadable, "FS_WRONG_FORMAT,PT_PICKLE"),
        ("torch as npz", "params.npz", torch.clone(), Unreadable, "FS_WRONG_FORMAT,PT_PICKLE"),
        ("torch", "sae.pt", torch, Unreadable, "PT_PICKLE"),
        ("legacy torch", "sae.pt", b"\x80\x02}q\0.".to_vec(), Fail, "PT_LEGACY"),
        ("pickle as npy", "w.npy", b"\x80\x04\x95\0\0\0\0\0\0\0\0N.".to_vec(), Fail, "FS_WRONG_FORMAT"),
        ("anything", "blob", vec![7; 100], Fail, "FS_WRONG_FORMAT"),
    ] {
        check(case, name, &bytes, Some(worst), expected);
    }
    let found = table(model, pointer.as_bytes());
    let wanted = found.defects[0].expected.as_deref().expect("the pointer says what it stands for");
    assert!(wanted.contains(oid) && wanted.contains("12345"), "{wanted}");
}

#[test]
fn content_decides_where_the_name_says_nothing() {
    for (bytes, container) in [
        (sound(), Container::Safetensors),
        (ones(4), Container::Npy),
        (zip(&[Member::stored("w.npy", &npy(&literal("<f4", "()"), &[0; 4]))]), Container::Npz),
    ] {
        let found = table("4d7a214614ab", &bytes);
        assert_eq!((found.container, found.worst()), (container, None), "{:?}", found.defects);
    }
}

#[test]
fn special_files() {
    let folder = Folder::new();
    let link = folder.path().join("model.safetensors");
    std::os::unix::fs::symlink("../blobs/gone", &link).unwrap();
    let fifo = folder.path().join("fifo.safetensors");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    for (path, code) in [
        (link.as_path(), "FS_BROKEN_LINK"),
        (&fifo, "FS_NOT_REGULAR"),
        (folder.path(), "FS_NOT_REGULAR"),
        (Path::new("/dev/zero"), "FS_NOT_REGULAR"),
    ] {
        let error = Source::open(path).unwrap_err();
        let defect = error.defect();
        assert_eq!((defect.code.name, defect.severity), (code, Unreadable), "{error}");
    }
    let circle = folder.path().join("circle.safetensors");
    std::os::unix::fs::symlink("circle.safetensors", &circle).unwrap();
    assert!(matches!(Source::open(&circle), Err(Error::BrokenLink { .. })));
    let missing = folder.path().join("none");
    assert!(matches!(Source::open(&missing), Err(Error::NotFound { path }) if path == missing));
}

#[test]
fn traces_of_downloads() {
    let folder = Folder::new();
    let open = |path: &Path| read_table(&Source::open(path).unwrap()).unwrap();
    let path = folder.write("model.safetensors", &sound());
    assert_eq!(codes(&open(&path)), [""; 0]);
    folder.write("model.safetensors.aria2", b"x");
    let found = open(&path);
    assert_eq!((codes(&found), found.worst()), (vec!["FS_PARTIAL_DOWNLOAD"], Some(Warn)));
    for name in ["x.safetensors.incomplete", ".tmpXMuTi1"] {
        let found = open(&folder.write(name, &sound()));
        assert_eq!((codes(&found), found.worst()), (vec!["FS_PARTIAL_DOWNLOAD"], Some(Fail)), "{name}");
    }
}

#[test]
fn holes() {
    let folder = Folder::new();
    let len = 64 << 20;
    let whole = one("w", "U8", &format!("[{len}]"), &format!("[0,{len}]"), 0);
    let path = folder.write("model.safetensors", &whole);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(whole.len() as u64 + len).unwrap();
    let source = Source::open(&path).unwrap();
    let found = read_table(&source).unwrap();
    // A file system without holes allocates the blocks; then there is nothing to find.
    if source.allocated_bytes() < len {
        assert_eq!((codes(&found), found.worst()), (vec!["FS_SPARSE"], Some(Note)));
    }
    assert_eq!(found.tensors.len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn populating_a_map_finds_what_a_touch_would_not_survive() {
    let folder = Folder::new();
    let path = folder.write("m", &vec![7; 1 << 20]);
    let source = Source::open(&path).unwrap();
    let map = source.map().unwrap();
    map.advise_sequential().unwrap();
    // Kernels before 5.14 do not know the request.
    if map.populate(100..200).is_ok() {
        assert!(map.populate(0..map.len() + 1).is_err());
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(4096).unwrap();
        assert!(map.populate(0..4096).is_ok());
        assert!(map.populate(1 << 19..1 << 20).is_err());
    }
}

#[test]
fn a_file_that_changes_is_noticed() {
    let folder = Folder::new();
    let path = folder.write("model.safetensors", &sound());
    let source = Source::open(&path).unwrap();
    assert!(!source.changed().unwrap());
    assert_eq!(&source.map().unwrap()[..], &sound()[..]);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(10).unwrap();
    assert!(source.changed().unwrap());
    assert!(matches!(source.map(), Err(Error::ShortRead { found: 10, .. })));
    let error = read_table(&source).unwrap_err();
    assert_eq!(error.defect().code.name, "FS_CHANGED");
}
