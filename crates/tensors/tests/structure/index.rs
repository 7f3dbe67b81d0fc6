//! Malformed shard indexes, alone and against their files.

use std::fs;

use crate::build::{entry, many};
use crate::file::Folder;
use unitrow_tensors::Severity::{self, Fail, Note, Warn};
use unitrow_tensors::{Defect, SetFile, Source, Table, check_set, read_index, read_index_file, read_table};

const NAME: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const WHOLE: &str = r#"{"metadata":{"total_size":20},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;

fn map(lines: &str) -> String {
    format!(r#"{{"metadata":{{"total_size":20}},"weight_map":{{{lines}}}}}"#)
}

fn shard(tensor: &str, len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = many(&[entry(tensor, "U8", &format!("[{len}]"), &format!("[0,{len}]"))], len);
    let start = bytes.len() - len;
    bytes[start..].fill(fill);
    bytes
}

fn worst(defects: &[Defect]) -> Option<Severity> {
    defects.iter().map(|defect| defect.severity).max()
}

#[track_caller]
fn expect(case: &str, defects: &[Defect], severity: Option<Severity>, code: &str) {
    let found: Vec<&str> = defects.iter().map(|defect| defect.code.name).collect();
    assert!(code.is_empty() || found.contains(&code), "{case}: expected {code}, found {defects:#?}");
    assert_eq!(worst(defects), severity, "{case}: {defects:#?}");
}

/// All defects of an index, and of the set that it makes with these files.
fn set(index: &str, files: &[(&str, Vec<u8>)]) -> Vec<Defect> {
    let folder = Folder::new();
    let path = folder.write(NAME, index.as_bytes());
    let index = read_index_file(&Source::open(&path).unwrap()).unwrap();
    let opened: Vec<(&str, Source, Table)> = files
        .iter()
        .map(|(name, bytes)| {
            let source = Source::open(&folder.write(name, bytes)).unwrap();
            let table = read_table(&source).unwrap();
            (*name, source, table)
        })
        .collect();
    let files: Vec<SetFile<'_>> = opened
        .iter()
        .map(|(name, source, table)| SetFile {
            name,
            table: Some(table),
            source: Some(source),
            leads_outside: false,
        })
        .collect();
    let mut defects = index.defects.clone();
    defects.extend(check_set(&index, &files).unwrap());
    defects
}

fn sound() -> Vec<(&'static str, Vec<u8>)> {
    vec![(FIRST, shard("a", 8, 1)), (SECOND, shard("b", 12, 2))]
}

#[test]
fn alone() {
    let traversal = format!(r#""a":"{FIRST}","b":"../x001_ok/model.safetensors""#);
    let deep = format!(r#"{{"weight_map":{}"#, r#"{"a":"#.repeat(100_000));
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    for (case, index, severity, code) in [
        ("x001", WHOLE.to_owned(), None, ""),
        ("x003", r#"{"metadata":{"total_size":20}}"#.to_owned(), Some(Fail), "X_BAD_INDEX"),
        ("x010", WHOLE.replace("20}", "\"20\"}"), Some(Warn), "X_TOTAL_SIZE"),
        ("x012", WHOLE.replace("20}", "-1}"), Some(Warn), "X_TOTAL_SIZE"),
        ("x014", map(r#""a":"/etc/passwd""#), Some(Fail), "X_PATH"),
        ("x015", map(&traversal), Some(Fail), "X_PATH"),
        ("x016", map(r#""a":"..\\x.safetensors""#), Some(Fail), "X_PATH"),
        ("x017", map(r#""a":"https://evil/x.safetensors""#), Some(Fail), "X_PATH"),
        ("itself", map(&format!(r#""a":"{NAME}""#)), Some(Fail), "X_PATH"),
        ("x020", WHOLE.replace("-of-00002", "-of-00003"), Some(Fail), "X_SHARD_COUNT"),
        ("x022", format!("\u{feff}{WHOLE}"), Some(Warn), "X_BAD_INDEX"),
        ("x024", r#"{"weight_map":{}}"#.to_owned(), Some(Warn), "X_BAD_INDEX"),
        ("x025", map(r#""a":7"#), Some(Fail), "X_BAD_INDEX"),
        ("x028", pointer.to_owned(), Some(Fail), "FS_LFS_POINTER"),
        ("x029", map(&format!(r#""a":"{FIRST}","a":"{SECOND}","b":"{SECOND}""#)), Some(Fail), "X_DUP_KEY"),
        ("two maps", format!(r#"{{"weight_map":{{}},{}"#, &WHOLE[1..]), Some(Fail), "X_DUP_KEY"),
        ("x031", deep, Some(Fail), "X_BAD_INDEX"),
        ("x032", map(r#""a":"""#), Some(Fail), "X_PATH"),
        ("x034", map(r#""a":"x\u0000.safetensors""#), Some(Fail), "X_PATH"),
        ("array", "[]".to_owned(), Some(Fail), "X_BAD_INDEX"),
        ("cut", WHOLE[..60].to_owned(), Some(Fail), "X_BAD_INDEX"),
        ("empty", String::new(), Some(Fail), "FS_EMPTY"),
    ] {
        expect(case, &read_index(index.as_bytes(), NAME).defects, severity, code);
    }
}

#[test]
fn every_truncation_is_rejected() {
    for len in 0..WHOLE.len() {
        let found = read_index(&WHOLE.as_bytes()[..len], NAME);
        assert!(worst(&found.defects) >= Some(Fail), "cut to {len}");
    }
}

#[test]
fn a_broken_index_lists_each_name_once() {
    // Found by fuzzing: where the text broke off, names that stood twice stayed.
    let found = read_index(br#"{"weight_map":{"a":"x","a":"y","#, NAME);
    assert_eq!(found.listings.len(), 1);
    assert!(!found.sound);
}

#[test]
fn with_files() {
    let other = |name, bytes| vec![(FIRST, shard("a", 8, 1)), (name, bytes)];
    let mut both = sound();
    both.push((SECOND, many(&[entry("b", "U8", "[12]", "[0,12]"), entry("a", "U8", "[8]", "[12,20]")], 20)));
    both.remove(1);
    let swapped = vec![(FIRST, shard("b", 12, 2)), (SECOND, shard("a", 8, 1))];
    let extra =
        other(SECOND, many(&[entry("b", "U8", "[12]", "[0,12]"), entry("c", "U8", "[1]", "[12,13]")], 13));
    let plus = |name, bytes| [sound(), vec![(name, bytes)]].concat();
    let single = many(&[entry("a", "U8", "[8]", "[0,8]"), entry("b", "U8", "[12]", "[8,20]")], 20);
    let mut same = single.clone();
    let start = same.len() - 20;
    same[start + 8..].fill(2);
    for (case, index, files, severity, code) in [
        ("x001", WHOLE.to_owned(), sound(), None, ""),
        ("x002", WHOLE.to_owned(), vec![sound().remove(0)], Some(Fail), "X_SHARD_MISSING"),
        ("x005", WHOLE.to_owned(), other(SECOND, shard("c", 12, 2)), Some(Fail), "X_TENSOR_MISSING"),
        ("x006", WHOLE.to_owned(), extra, Some(Fail), "X_TENSOR_UNLISTED"),
        ("x007", WHOLE.to_owned(), swapped, Some(Fail), "X_WRONG_SHARD"),
        ("x008", WHOLE.to_owned(), both, Some(Fail), "X_DUP_TENSOR"),
        ("x009", WHOLE.replace("20}", "21}"), sound(), Some(Warn), "X_TOTAL_SIZE"),
        ("x011", WHOLE.replace("20}", "20.0}"), sound(), Some(Note), "X_TOTAL_SIZE"),
        ("x013", WHOLE.replace(r#""metadata":{"total_size":20},"#, ""), sound(), Some(Note), "X_TOTAL_SIZE"),
        ("same bytes", WHOLE.to_owned(), other(SECOND, shard("a", 8, 1)), Some(Fail), "X_DUP_SHARD"),
        (
            "orphan",
            WHOLE.to_owned(),
            plus("model-00001-of-00007.safetensors", shard("z", 1, 1)),
            Some(Warn),
            "X_ORPHAN",
        ),
        (
            "beyond M",
            WHOLE.to_owned(),
            plus("model-00003-of-00002.safetensors", shard("z", 1, 1)),
            Some(Warn),
            "X_ORPHAN",
        ),
        ("x030", WHOLE.to_owned(), plus("model.safetensors", single), Some(Warn), "X_AMBIGUOUS_SET"),
        ("single, same values", WHOLE.to_owned(), plus("model.safetensors", same), None, ""),
        ("unrelated", WHOLE.to_owned(), plus("adapter.safetensors", shard("z", 1, 1)), None, ""),
    ] {
        expect(case, &set(&index, &files), severity, code);
    }
}

#[test]
fn unlisted_members_of_the_series_belong_to_the_set() {
    let index = map(&format!(r#""a":"{FIRST}""#));
    let defects = set(&index, &sound());
    expect("inside the series", &defects, Some(Fail), "X_TENSOR_UNLISTED");
    expect("inside the series", &defects, Some(Fail), "X_SHARD_COUNT");
}

#[test]
fn a_truncated_shard_is_the_shards_defect() {
    let folder = Folder::new();
    let index = read_index(WHOLE.as_bytes(), NAME);
    let mut files = sound();
    files[1].1.pop();
    let opened: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (*name, read_table(&Source::open(&folder.write(name, bytes)).unwrap()).unwrap()))
        .collect();
    assert_eq!(opened[1].1.defects[0].code.name, "ST_TRUNCATED_DATA");
    let files: Vec<_> = opened
        .iter()
        .map(|(name, table)| SetFile {
            name,
            table: Some(table),
            source: None,
            leads_outside: *name == FIRST,
        })
        .collect();
    // The second finding is case x018: a shard that is a link out of the folder.
    let defects = check_set(&index, &files).unwrap();
    expect("x018, x027", &defects, Some(Warn), "X_PATH");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
