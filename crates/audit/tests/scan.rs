//! What a scan says about compressed members, sound, damaged and cancelled.
#![expect(clippy::unwrap_used, reason = "a test file that cannot be made fails its test")]

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use unitrow_audit::header::FileHeader;
use unitrow_audit::scan::{Decoder, FileScan, Io, Judged, Task, scan};
use unitrow_audit::watch::Watch;
use unitrow_norms::Pool;

const ROWS: usize = 40;
const LEN: usize = 32;

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    })
}

fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap().to_le_bytes()
}

fn long(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap().to_le_bytes()
}

/// An npz file of one member `w`, its rows of length 1, with `damage` added to its check sum.
fn npz(deflated: bool, damage: u32) -> Vec<u8> {
    let literal = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({ROWS}, {LEN}), }}");
    let mut array = b"\x93NUMPY\x01\0\x76\0".to_vec();
    array.extend(format!("{literal:<117}\n").bytes());
    for row in 0..ROWS {
        for column in 0..LEN {
            array.extend(f32::from(u8::from(row % LEN == column)).to_le_bytes());
        }
    }
    // A deflate stream of one block that is stored as it is.
    let len = short(array.len());
    let stream = [&[1][..], &len, &len.map(|byte| !byte), &array].concat();
    let data = if deflated { &stream } else { &array };
    let mut common = if deflated { vec![20, 0, 0, 0, 8, 0] } else { vec![20, 0, 0, 0, 0, 0] };
    common.extend([0, 0, 0x21, 0]);
    common.extend(crc32(&array).wrapping_add(damage).to_le_bytes());
    common.extend([long(data.len()), long(array.len()), [5, 0, 0, 0]].concat());
    let mut file = [b"PK\x03\x04", &common[..], b"w.npy", data].concat();
    let start = file.len();
    file.extend(
        [b"PK\x01\x02\x14\x03", &common[..], &[0; 6], &[0, 0, 0x80, 0x81], &[0; 4], b"w.npy"].concat(),
    );
    let directory_len = file.len() - start;
    let end = [long(directory_len), long(start)].concat();
    file.extend([b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &end[..], &[0, 0]].concat());
    file
}

fn scanned(name: &str, bytes: &[u8], axes: &[usize], watch: &Watch) -> FileScan {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    let header = FileHeader::read(&path);
    assert!(header.defects().is_empty(), "{:?}", header.defects());
    let decoders =
        axes.iter().map(|&reduce_axis| Decoder { tensor: 0, reduce_axis, max_rows: None }).collect();
    let tasks = [Task { header: &header, decoders, values: true, hash: None }];
    let found = Mutex::new(None);
    scan(&tasks, Io::Read, &Pool::new(2).unwrap(), watch, |_, scan| *found.lock().unwrap() = Some(scan));
    found.into_inner().unwrap().unwrap()
}

fn codes(scan: &FileScan) -> Vec<&str> {
    scan.defects.iter().map(|defect| defect.code.name).collect()
}

#[test]
fn a_compressed_member_is_measured_as_a_stored_one() {
    for deflated in [false, true] {
        let name = format!("sound-{deflated}.npz");
        let scan = scanned(&name, &npz(deflated, 0), &[1, 0], &Watch::default());
        assert_eq!(codes(&scan), [""; 0]);
        assert!(scan.decoders.iter().all(|judged| matches!(judged, Judged::Stats(_))));
        assert_eq!(
            scan.values[0].as_ref().and_then(|values| values.counts).map(|counts| counts.nan),
            Some(0)
        );
    }
}

#[test]
fn one_damaged_member_is_one_finding() {
    for deflated in [false, true] {
        for axes in [&[][..], &[1], &[0], &[1, 0, 1]] {
            let name = format!("damaged-{deflated}-{}-{axes:?}.npz", axes.len());
            let scan = scanned(&name, &npz(deflated, 1), axes, &Watch::default());
            assert_eq!(codes(&scan), ["Z_CRC"], "{deflated} {axes:?}");
            assert_eq!(scan.decoders.len(), axes.len());
        }
    }
}

#[test]
fn a_cancelled_scan_says_so() {
    let watch = Watch::default();
    watch.cancel();
    for axes in [&[][..], &[1], &[0]] {
        let scan = scanned(&format!("cancelled-{axes:?}.npz"), &npz(true, 0), axes, &watch);
        let messages: Vec<_> = scan.defects.iter().map(|defect| defect.message.as_str()).collect();
        assert_eq!(messages, ["the scan was cancelled"]);
    }
}
