//! Malformed npz and npy files.

use crate::build::{Member, check, codes, crc32, end, literal, npy, npy_raw, ones, table, zip, zip_with};
use unitrow_tensors::Severity::{self, Fail, Note, Warn};
use unitrow_tensors::{Dtype, Storage, check_crc, inflate};

type Case = (&'static str, Vec<u8>, Option<Severity>, &'static str);

fn run(name: &str, cases: Vec<Case>) {
    for (case, bytes, worst, codes) in cases {
        check(case, name, &bytes, worst, codes);
    }
}

fn stored() -> Member {
    Member::stored("w.npy", &ones(16))
}

fn with(change: impl FnOnce(&mut Member)) -> Vec<u8> {
    let mut member = stored();
    change(&mut member);
    zip(&[member])
}

fn zip64(len: u64, compressed_len: u64) -> Vec<u8> {
    [&[1, 0, 16, 0][..], &len.to_le_bytes(), &compressed_len.to_le_bytes()].concat()
}

#[test]
fn archives() {
    let garbage = {
        let mut member = Member::deflated("w.npy", &ones(16));
        member.data = vec![0xff; member.data.len()];
        zip(&[member])
    };
    let quoted = {
        let inner = zip(&[Member::stored("b.npy", &ones(4))]);
        let outer = npy(&literal("|u1", &format!("({},)", inner.len())), &inner);
        let header_len = outer.len() - inner.len();
        let mut b = Member::stored("b.npy", &ones(4));
        b.offset = Some(u32::try_from(30 + 5 + header_len).unwrap());
        let a = Member::stored("a.npy", &outer);
        // The second record is in the directory only: its local header lies inside the first member's data.
        let whole = zip(&[a, b.clone()]);
        let record_len = 30 + 5 + b.data.len();
        let directory_len = 2 * (46 + 5);
        let start = whole.len() - 22 - directory_len;
        let mut file = whole[..start - record_len].to_vec();
        file.extend(&whole[start..start + directory_len]);
        file.extend(end(2, directory_len, u32::try_from(start - record_len).unwrap(), b""));
        file
    };
    let bomb =
        zip(&[Member::deflated("w.npy", &npy(&literal("|u1", "(268435456,)"), &vec![0; 268_435_456]))]);
    run(
        "params.npz",
        vec![
            ("z001", with(|_| ()), None, ""),
            ("z002", zip(&[Member::deflated("w.npy", &ones(16))]), None, ""),
            ("empty", vec![], Some(Fail), "FS_EMPTY,Z_NO_EOCD"),
            ("no end", with(|_| ())[..100].to_vec(), Some(Fail), "Z_NO_EOCD"),
            ("z007", garbage, Some(Fail), "Z_INFLATE"),
            (
                "z008",
                with(|m| m.local_name = Some(b"v.npy".to_vec())),
                Some(Fail),
                "Z_LOCAL_CENTRAL_MISMATCH",
            ),
            (
                "z009",
                with(|m| {
                    m.local_len = Some(m.len);
                    m.local_compressed_len = Some(m.compressed_len);
                    m.len -= 100;
                    m.compressed_len -= 100;
                }),
                Some(Fail),
                "Z_LOCAL_CENTRAL_MISMATCH",
            ),
            ("z010", quoted, Some(Fail), "Z_OVERLAP"),
            ("z011", bomb, Some(Fail), "Z_BOMB"),
            (
                "z012",
                with(|m| {
                    m.local_len = Some(m.len);
                    m.len = 0xffff_fffe;
                }),
                Some(Fail),
                "Z_LOCAL_CENTRAL_MISMATCH",
            ),
        ],
    );
}

/// Found by fuzzing: the record that a locator in the first bytes of a file points to was read beyond the file's end,
/// and the file was said to have been cut while it was read.
#[test]
fn a_locator_with_no_room_for_its_record_before_it() {
    for before in 0..60 {
        let mut file = vec![0; before];
        file.extend(b"PK\x06\x07");
        file.extend([0; 16]);
        file.extend(end(0, 0, u32::try_from(file.len()).unwrap(), b""));
        assert_eq!(
            codes(&table("params.npz", &file)),
            ["ST_NO_TENSORS", "Z_PREFIX"],
            "{before} bytes before the locator"
        );
    }
}

#[test]
fn members() {
    let other = zip(&[Member::stored("evil.npy", &ones(4))]);
    let mut two = stored();
    two.data = ones(16);
    two.data[100] ^= 1;
    two.crc32 = crc32(&two.data);
    let prefixed = [&[0x55; 64][..], &with(|_| ())].concat();
    run(
        "params.npz",
        vec![
            ("z013", zip(&[stored(), two]), Some(Fail), "Z_DUP_NAME"),
            ("z014", with(|m| m.name = b"../w.npy".to_vec()), Some(Fail), "Z_PATH"),
            ("z015", with(|m| m.name = b"/etc/w.npy".to_vec()), Some(Fail), "Z_PATH"),
            ("backslash", with(|m| m.name = b"..\\w.npy".to_vec()), Some(Fail), "Z_PATH"),
            ("nul", with(|m| m.name = b"w.npy\0.txt".to_vec()), Some(Fail), "Z_PATH"),
            ("z016 encrypted", with(|m| m.flags = 1), Some(Fail), "Z_ENCRYPTED"),
            ("flag in one header", with(|m| m.local_flags = Some(1)), Some(Fail), "Z_LOCAL_CENTRAL_MISMATCH"),
            ("z017", with(|m| m.method = 99), Some(Fail), "Z_METHOD"),
            (
                "z018",
                with(|m| {
                    m.local_method = Some(0);
                    m.method = 8;
                }),
                Some(Fail),
                "Z_LOCAL_CENTRAL_MISMATCH",
            ),
            ("z019", prefixed, Some(Warn), "Z_PREFIX"),
            ("z020", [&with(|_| ())[..], &[0x55; 64]].concat(), Some(Warn), "Z_TRAILING"),
            ("z021", zip_with(&[stored()], &other), Some(Fail), "Z_AMBIGUOUS_EOCD"),
            ("z022", with(|m| m.attributes = 0o120_777 << 16), Some(Fail), "Z_SYMLINK"),
            ("z023", zip(&[stored(), Member::stored("readme.txt", b"hi")]), Some(Note), "Z_UNKNOWN_MEMBER"),
            ("z024", end(0, 0, 0, b""), Some(Note), "ST_NO_TENSORS"),
            (
                "z061",
                with(|m| {
                    m.extra = zip64(1 << 40, 1 << 40);
                }),
                Some(Fail),
                "Z_LOCAL_CENTRAL_MISMATCH",
            ),
            (
                "zip64 as numpy writes it",
                with(|m| {
                    m.local_extra = zip64(m.len.into(), m.compressed_len.into());
                    m.local_len = Some(u32::MAX);
                    m.local_compressed_len = Some(u32::MAX);
                }),
                None,
                "",
            ),
            (
                "streamed",
                with(|m| {
                    m.flags = 8;
                    m.descriptor = [
                        &b"PK\x07\x08"[..],
                        &m.crc32.to_le_bytes(),
                        &m.len.to_le_bytes(),
                        &m.len.to_le_bytes(),
                    ]
                    .concat();
                }),
                None,
                "",
            ),
            ("streamed, no descriptor", with(|m| m.flags = 8), Some(Fail), "Z_LOCAL_CENTRAL_MISMATCH"),
            (
                "offset beyond the file",
                with(|m| m.offset = Some(1 << 30)),
                Some(Fail),
                "Z_LOCAL_CENTRAL_MISMATCH",
            ),
            ("unsafe name", with(|m| m.name = b"\x1b[31m.npy".to_vec()), Some(Warn), "ST_NAME_UNSAFE"),
        ],
    );
}

#[test]
fn arrays() {
    let f4 = |shape: &str, len: usize| npy(&literal("<f4", shape), &vec![0; len]);
    let past_eof = [&b"\x93NUMPY\x01\x00\xff\xff"[..], &[b' '; 190]].concat();
    let mut spaces = literal("<f4", "(16,)");
    spaces.push_str(&" ".repeat(20_000));
    run(
        "w.npy",
        vec![
            ("z003", ones(16), None, ""),
            ("scalar", f4("()", 4), None, ""),
            ("version 2", npy_raw([2, 0], &(literal("<f4", "(1,)") + "\n"), &[0; 4]), None, ""),
            ("z030", [&b"\x93NUMPX"[..], &ones(16)[6..]].concat(), Some(Fail), "NPY_MAGIC"),
            ("z031", [&b"\x93NUMPY\x09\x00"[..], &ones(16)[8..]].concat(), Some(Fail), "NPY_VERSION"),
            ("z032", npy("__import__('os').system('x')", b""), Some(Fail), "NPY_HEADER"),
            ("z033", npy("{'descr': '<f4', 'fortran_order': False, }", b""), Some(Fail), "NPY_HEADER"),
            (
                "extra key",
                npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", &[0; 4]),
                Some(Fail),
                "NPY_HEADER",
            ),
            (
                "key twice",
                npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", &[0; 4]),
                Some(Fail),
                "NPY_HEADER",
            ),
            ("z035", npy(&literal("|O", "(1,)"), b"\x80\x04."), Some(Fail), "NPY_OBJECT_PICKLE"),
            (
                "z036",
                npy(
                    "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }",
                    &[0; 12],
                ),
                Some(Fail),
                "NPY_OBJECT_PICKLE",
            ),
            ("z037", f4("(64, 64)", 16_383), Some(Fail), "NPY_TRUNCATED"),
            ("z038", f4("(64, 64)", 16_384 + 4096), Some(Warn), "NPY_TRAILING"),
            ("z039", f4("(-64, -64)", 16_384), Some(Fail), "NPY_HEADER"),
            ("z040", f4("(4611686018427387904,)", 64), Some(Fail), "NPY_TRUNCATED"),
            ("z041", f4("(4294967296, 4294967296)", 64), Some(Fail), "NPY_OVERFLOW"),
            ("beyond 64 bits", f4("(99999999999999999999999,)", 64), Some(Fail), "NPY_OVERFLOW"),
            ("z043", npy(&literal(">f4", "(16,)"), &[0; 64]), None, ""),
            ("z044", past_eof, Some(Fail), "NPY_TRUNCATED"),
            (
                "z045",
                npy_raw(
                    [3, 0],
                    "{'descr': [('größe', '<f4')], 'fortran_order': False, 'shape': (1,), }\n",
                    &[0; 4],
                ),
                Some(Warn),
                "NPY_STRUCTURED",
            ),
            ("z046", npy_raw([1, 0], &spaces, &[0; 64]), Some(Warn), "NPY_HEADER_OVERSIZE"),
            ("python 2 long", f4("(16L,)", 64), None, ""),
            ("no tuple", f4("(16)", 64), Some(Fail), "NPY_HEADER"),
            ("a list", f4("[16]", 64), Some(Fail), "NPY_HEADER"),
            ("depth", npy(&format!("{{'descr': {}", "[".repeat(60_000)), b""), Some(Fail), "NPY_HEADER"),
            ("ml_dtypes bfloat16", npy(&literal("<V2", "(4,)"), &[0; 8]), Some(Note), "NPY_STRUCTURED"),
            ("text", npy(&literal("<U3", "(2,)"), &[0; 24]), Some(Note), "NPY_STRUCTURED"),
            ("unknown descr", npy(&literal("<q9", "(2,)"), &[0; 18]), Some(Fail), "NPY_HEADER"),
            ("polyglot", [ones(4), zip(&[stored()])].concat(), Some(Fail), "FS_POLYGLOT,NPY_TRAILING"),
        ],
    );
}

#[test]
fn tensors_are_described() {
    let fortran = npy("{'descr': '>f8', 'fortran_order': True, 'shape': (2, 3), }", &[0; 48]);
    let bf16 = npy(&literal("<V2", "(4,)"), &[0; 8]);
    let table = table("p.npz", &zip(&[Member::stored("a.npy", &fortran), Member::deflated("b.npy", &bf16)]));
    let [a, b] = table.tensors.as_slice() else { panic!("{table:?}") };
    assert!(table.sound);
    assert_eq!((a.name.as_str(), a.dtype, &a.shape[..]), ("a", Dtype::F64, &[2, 3][..]));
    assert!(a.fortran_order && a.big_endian);
    let header_len = fortran.len() as u64 - 48;
    assert_eq!(a.storage, Storage::Stored { offset: 30 + 5 + header_len, len: 48 });
    assert_eq!((b.dtype, b.storage.len()), (Dtype::Opaque { len_bytes: 2 }, 8));
}

#[test]
fn inflating() {
    let values: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let array = npy(&literal("<u4", "(100000,)"), &values);
    for member in [Member::deflated("w.npy", &array), Member::stored("w.npy", &array)] {
        let mut bytes = zip(std::slice::from_ref(&member));
        let table = table("w.npz", &bytes);
        let tensor = &table.tensors[0];
        let mut out = Vec::new();
        let mut sink = |chunk: &[u8]| {
            out.extend_from_slice(chunk);
            std::ops::ControlFlow::Continue(())
        };
        assert_eq!(inflate(&bytes[..], tensor, &mut sink).unwrap(), None);
        assert_eq!(out, values);
        assert_eq!(check_crc(&bytes[..], tensor).unwrap(), None);
        // Any changed bit of the data changes the sum or breaks the stream.
        let start = usize::try_from(tensor.member.as_ref().unwrap().offset).unwrap();
        for step in [0, member.data.len() / 2, member.data.len() - 1] {
            bytes[start + step] ^= 0x10;
            let code = check_crc(&bytes[..], tensor).unwrap().expect("a changed bit is found").code.name;
            assert!(matches!(code, "Z_CRC" | "Z_INFLATE"), "{code}");
            bytes[start + step] ^= 0x10;
        }
    }
}

#[test]
fn streams_end_where_the_archive_says() {
    let array = ones(1000);
    for (change, expected) in [(-4, "more"), (4, "fewer")] {
        let mut member = Member::deflated("w.npy", &array);
        member.len = member.len.checked_add_signed(change).unwrap();
        let bytes = zip(&[member]);
        let mut found = table("w.npz", &bytes);
        if let Some(tensor) = found.tensors.pop() {
            let defect = check_crc(&bytes[..], &tensor).unwrap().expect("another length is found");
            assert!(defect.message.contains(expected), "{defect:?}");
        } else {
            assert_eq!(codes(&found), ["NPY_TRUNCATED"]);
        }
    }
    let mut member = Member::deflated("w.npy", &array);
    member.data.push(0);
    member.compressed_len += 1;
    let bytes = zip(&[member]);
    let found = table("w.npz", &bytes);
    let defect = check_crc(&bytes[..], &found.tensors[0]).unwrap().expect("a byte too many is found");
    assert_eq!(defect.code.name, "Z_INFLATE");
}
