use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use unitrow_norms::Pool;
use unitrow_tensors::code::{FS_CHANGED, FS_NOT_REGULAR};
use unitrow_tensors::{Source, write_safetensors};

use super::*;

static GO: AtomicBool = AtomicBool::new(false);

/// A folder of this test's own below the system's temporary one; gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("unitrow-digest-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn all_of(path: &Path) -> Vec<String> {
    let algorithms = vec![Algorithm::Sha256, Algorithm::GitSha1, Algorithm::Blake3];
    let request = Request { path: path.to_owned(), algorithms, range: None };
    let digests = digest_files(&[request], Pool::global(), &GO).remove(0).unwrap();
    digests.hex.into_iter().map(|(_, hex)| hex).collect()
}

/// The input of BLAKE3's published test vectors.
fn counting(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

#[test]
fn known_answers() {
    let folder = Folder::new("known");
    // The empty message: FIPS 180-4, `git hash-object /dev/null`, and BLAKE3's test vectors.
    assert_eq!(
        all_of(&folder.file("empty", b"")),
        [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        ]
    );
    assert_eq!(
        all_of(&folder.file("abc", b"abc"))[0],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        all_of(&folder.file("102400", &counting(102_400)))[2],
        "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"
    );
}

#[test]
fn blake3_on_all_threads_is_blake3() {
    let folder = Folder::new("tree");
    let block = BLOCK_BYTES;
    // Around one chunk, one block, two blocks, a subtree of two levels and an unbalanced tree.
    for len in [0, 1, 1023, 1024, 1025, block - 1, block, block + 1, 2 * block, 2 * block + 1, 5 * block + 7]
    {
        let bytes = counting(len);
        let path = folder.file("bytes", &bytes);
        let source = Source::open(&path).unwrap();
        let hash = tree::hash(&source, 0..len as u64, &GO).unwrap();
        assert_eq!(hash, blake3::hash(&bytes), "{len} bytes");
        // A range in the middle of a file, as a tensor is.
        let (start, end) = (len / 3, len - len / 5);
        let hash = tree::hash(&source, start as u64..end as u64, &GO).unwrap();
        assert_eq!(hash, blake3::hash(&bytes[start..end]), "{start}..{end}");
    }
}

#[test]
fn results_come_in_the_order_of_the_requests() {
    let folder = Folder::new("order");
    let requests: Vec<Request> = (0..40_usize)
        .map(|index| Request {
            path: folder.file(&index.to_string(), &counting(index * 977 % 5000)),
            algorithms: vec![Algorithm::Blake3],
            range: None,
        })
        .collect();
    for threads in [1, 3] {
        let pool = Pool::new(threads).unwrap();
        for (index, result) in digest_files(&requests, &pool, &GO).into_iter().enumerate() {
            let expected = blake3::hash(&counting(index * 977 % 5000)).to_hex().to_string();
            assert_eq!(result.unwrap().hex, [(Algorithm::Blake3, expected)]);
        }
    }
}

#[test]
fn a_file_that_is_cut_or_grows_has_no_digest() {
    let folder = Folder::new("change");
    let path = folder.file("bytes", &counting(3 * BLOCK_BYTES));
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let source = Source::open(&path).unwrap();
        fs::write(&path, counting(100)).unwrap();
        let error = digest(&source, &[algorithm], None, &GO).unwrap_err();
        assert_eq!(error.defect().code, FS_CHANGED);
        fs::write(&path, counting(3 * BLOCK_BYTES)).unwrap();
        let source = Source::open(&path).unwrap();
        fs::write(&path, counting(4 * BLOCK_BYTES)).unwrap();
        let (_, changed) = digest(&source, &[algorithm], None, &GO).unwrap();
        assert!(changed);
        fs::write(&path, counting(3 * BLOCK_BYTES)).unwrap();
    }
}

#[test]
fn a_folder_is_a_finding_and_a_stop_is_one_too() {
    let folder = Folder::new("stop");
    let request =
        |path: &Path| Request { path: path.to_owned(), algorithms: vec![Algorithm::Sha256], range: None };
    let pool = Pool::global();
    let found = digest_files(&[request(&folder.0)], pool, &GO).remove(0).unwrap_err();
    assert_eq!(found.code, FS_NOT_REGULAR);
    let stop = AtomicBool::new(true);
    let path = folder.file("bytes", &counting(10));
    assert!(digest_files(&[request(&path)], pool, &stop).remove(0).is_err());
}

#[test]
fn the_content_id_is_what_its_description_says() {
    let folder = Folder::new("content");
    let path = folder.0.join("one.safetensors");
    let bytes = [0_u8; 8];
    let tensors = [("W", unitrow_tensors::Dtype::F32, &[2_u64, 1][..], &bytes[..])];
    write_safetensors(&path, &tensors, &[("format".to_owned(), "pt".to_owned())]).unwrap();
    let content = content_ids(&[vec![path]], Pool::global(), &GO).remove(0).unwrap();
    let mut expected = b"unitrow content 1\n".to_vec();
    for part in [1_u64, 1] {
        expected.extend(part.to_le_bytes());
    }
    expected.extend(b"W");
    expected.extend(3_u64.to_le_bytes());
    expected.extend(b"F32");
    for part in [2_u64, 2, 1] {
        expected.extend(part.to_le_bytes());
    }
    expected.extend(blake3::hash(&bytes).as_bytes());
    assert_eq!(content.hex, blake3::hash(&expected).to_hex().to_string());
    assert_eq!((content.tensors, content.hex.len()), (1, 64));
}
