//! Damage that nobody thought of: every truncation and every bit flip of a small file of each container, and files
//! made at random, held against the reference reader.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use crate::build::{Member, end, entry, literal, many, npy, one, ones, padded, st, table, zip};
use unitrow_tensors::{Severity, Storage, Table, inflate};

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let entries = [entry("a", "F32", "[2,2]", "[0,16]"), entry("b", "BF16", "[3]", "[16,22]")];
    let header = format!(r#"{{"__metadata__":{{"k":"v"}},{}}}"#, entries.join(","));
    let values: Vec<u8> = (0..64).collect();
    let array = npy(&literal("<f4", "(4, 4)"), &values);
    vec![
        ("m.safetensors", one("test", "I32", "[2,2]", "[0,16]", 16)),
        ("m.safetensors", st(padded(&header), &[3; 22])),
        ("m.safetensors", many(&[entry("z", "F32", "[0]", "[0,0]"), entry("a", "U8", "[3]", "[0,3]")], 3)),
        ("w.npy", array.clone()),
        ("p.npz", zip(&[Member::stored("w.npy", &array)])),
        ("p.npz", zip(&[Member::deflated("w.npy", &array), Member::stored("b.npy", &ones(2))])),
        ("p.npz", end(0, 0, 0, b"")),
    ]
}

/// What must hold of every table, whatever the bytes.
fn invariants(table: &Table, bytes: &[u8]) {
    assert_eq!(table.file_len, bytes.len() as u64);
    assert!(table.header_len <= table.file_len);
    let keys: Vec<_> = table.defects.iter().map(|defect| (defect.byte_offset, defect.code.name)).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    let printable = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    for defect in &table.defects {
        let texts =
            [Some(&defect.message), defect.expected.as_ref(), defect.found.as_ref(), defect.hint.as_ref()];
        assert!(texts.into_iter().flatten().all(|text| printable(text)), "{defect:?}");
        assert!(unitrow_tensors::code::ALL.contains(&defect.code) || defect.code.name == "V_ZERO_PAGES");
    }
    let mut names: Vec<&str> = table.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table.tensors.len(), "a name stands twice");
    for tensor in &table.tensors {
        let bits = tensor.shape.iter().try_fold(tensor.dtype.bits(), |bits, &dim| bits.checked_mul(dim));
        let zero = tensor.shape.contains(&0);
        assert!(zero || bits == Some(8 * tensor.storage.len()), "{tensor:?}");
        let (Storage::Stored { offset, len } | Storage::Deflated { offset, compressed_len: len, .. }) =
            tensor.storage;
        assert!(offset.checked_add(len).is_some_and(|end| end <= bytes.len() as u64), "{tensor:?}");
        let mut seen = 0;
        let mut sink = |chunk: &[u8]| {
            seen += chunk.len() as u64;
            ControlFlow::Continue(())
        };
        let defect = inflate(bytes, tensor, &mut sink).expect("memory can be read");
        assert!(seen <= tensor.storage.len());
        assert!(defect.is_some() || seen == tensor.storage.len(), "{tensor:?}");
    }
}

/// The reference reader's word; where it panics (an unchecked sum, in builds that check), it did not accept.
fn reference_rejects(bytes: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| ::safetensors::SafeTensors::deserialize(bytes).is_err())).unwrap_or(true)
}

fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let found = table("m.safetensors", bytes);
    invariants(&found, bytes);
    let rejected = found.worst() >= Some(Severity::Fail);
    if reference_rejects(bytes) {
        prop_assert!(rejected, "the reference rejects, here {:?}", found.defects);
    } else if !rejected {
        let reference = ::safetensors::SafeTensors::deserialize(bytes).expect("it was accepted");
        prop_assert_eq!(reference.len(), found.tensors.len());
        for tensor in &found.tensors {
            let view = reference.tensor(&tensor.name).expect("both have the same names");
            let shape: Vec<u64> = view.shape().iter().map(|&dim| dim as u64).collect();
            prop_assert_eq!(&shape, &tensor.shape);
            prop_assert_eq!(view.dtype().to_string(), tensor.dtype.name());
            let Storage::Stored { offset, len } = tensor.storage else { unreachable!("safetensors stores") };
            let start = usize::try_from(offset).expect("it lies in memory");
            prop_assert_eq!(
                view.data(),
                &bytes[start..start + usize::try_from(len).expect("so does its end")]
            );
        }
    }
    Ok(())
}

#[test]
fn every_truncation_is_rejected() {
    for (name, bytes) in samples() {
        for len in 0..bytes.len() {
            let found = table(name, &bytes[..len]);
            invariants(&found, &bytes[..len]);
            assert!(found.worst() >= Some(Severity::Fail), "{name} cut to {len}: {:?}", found.defects);
        }
        assert!(table(name, &bytes).worst() < Some(Severity::Fail), "{name}");
    }
}

#[test]
fn every_bit_flip_is_survived() {
    for (name, mut bytes) in samples() {
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            invariants(&table(name, &bytes), &bytes);
            if name.ends_with(".safetensors") {
                agrees(&bytes).expect("whatever the reference rejects is rejected");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_byte_value_is_survived() {
    for (name, mut bytes) in samples() {
        for at in 0..bytes.len().min(400) {
            let kept = bytes[at];
            for value in [0, b'"', b'{', b'}', b'[', b',', b'\\', b'9', b'-', b'e', 0x7f, 0x80, 0xff] {
                bytes[at] = value;
                invariants(&table(name, &bytes), &bytes);
                if name.ends_with(".safetensors") {
                    agrees(&bytes).expect("whatever the reference rejects is rejected");
                }
            }
            bytes[at] = kept;
        }
    }
}

#[test]
fn the_depth_limit_is_the_reference_readers() {
    for depth in 100..140 {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let field = format!(r#"{{"t":{{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{nested}}}}}"#);
        agrees(&st(padded(&field), &[0])).expect("whatever the reference rejects is rejected");
    }
}

#[test]
fn names_that_differ_in_unreadable_bytes_are_one_name() {
    // Found by fuzzing: two keys of different bytes became two tensors of one name.
    let text = many(&[entry("?", "U8", "[1]", "[0,1]"), entry("!", "U8", "[1]", "[1,2]")], 2);
    let bytes: Vec<u8> = text
        .iter()
        .map(|byte| match byte {
            b'?' => 0xff,
            b'!' => 0xfe,
            other => *other,
        })
        .collect();
    invariants(&table("m.safetensors", &bytes), &bytes);
    let index = br#"{"weight_map":{"?":"a","!":"b"}}"#.map(|byte| match byte {
        b'?' => 0xff,
        b'!' => 0xfe,
        other => other,
    });
    assert_eq!(unitrow_tensors::read_index(&index, "i.json").listings.len(), 1);
}

/// Pieces of headers, sound and not.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop_oneof![Just("0"), Just("1"), Just("2"), Just("3"), Just("4"), Just("8"), Just("16")].prop_map(str::to_owned),
        2 => prop_oneof![
            Just("-0"), Just("-1"), Just("2.0"), Just("2e0"), Just("02"), Just("1e999"), Just("0e999"), Just("1.7976931348623157e308"),
            Just("18446744073709551615"), Just("18446744073709551616"), Just("9223372036854775807"), Just("1152921504606846976"),
            Just("4294967296"), Just("null"), Just("true"), Just("\"2\""), Just("[]"), Just("{}"), Just("{\"a\":1,\"a\":2}"), Just(""), Just("nul"),
        ].prop_map(str::to_owned),
    ]
}

fn list() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => prop::collection::vec(value(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        1 => value(),
        1 => Just("[1,]".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-c]",
        1 => Just("__metadata__".to_owned()),
        1 => Just("\\u0061".to_owned()),
        1 => Just("\\ud83d\\ude00".to_owned()),
        1 => Just("\\udead".to_owned()),
        1 => Just("\\x".to_owned()),
        1 => Just("A".to_owned()),
        1 => Just("e\u{301}".to_owned()),
        1 => Just("\u{e9}".to_owned()),
        1 => any::<String>().prop_map(|text| text.replace(['"', '\\'], "")),
    ]
}

fn dtype() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => prop_oneof![Just("\"U8\""), Just("\"F32\""), Just("\"BF16\""), Just("\"F4\""), Just("\"F6_E2M3\""), Just("\"C64\""), Just("\"BOOL\"")],
        1 => prop_oneof![Just("\"I4\""), Just("{\"U8\":null}"), Just("null"), Just("\"\\u0055\\u0038\""), Just("7")],
    ]
}

fn member() -> impl Strategy<Value = String> {
    prop_oneof![
        10 => (name(), dtype(), list(), list()).prop_map(|(name, dtype, shape, offsets)| {
            format!("\"{name}\":{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":{offsets}}}")
        }),
        1 => (name(), value()).prop_map(|(name, value)| format!("\"{name}\":{value}")),
        1 => (name(), dtype(), list(), list(), value()).prop_map(|(name, dtype, shape, offsets, extra)| {
            format!("\"{name}\":{{\"dtype\":{dtype},\"x\":{extra},\"shape\":{shape},\"data_offsets\":{offsets}}}")
        }),
        1 => (name(), dtype(), list(), list()).prop_map(|(name, dtype, shape, offsets)| {
            format!("\"{name}\":[{dtype},{shape},{offsets}]")
        }),
        1 => (name(), value()).prop_map(|(key, value)| format!("\"__metadata__\":{{\"{key}\":{value}}}")),
        1 => (name(), name()).prop_map(|(key, value)| format!("\"__metadata__\":{{\"{key}\":\"{value}\",\"b\":\"c\"}}")),
    ]
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let ends = prop_oneof![6 => Just("}"), 1 => Just("} \n"), 1 => Just(""), 1 => Just("}}"), 1 => Just(",}"), 1 => Just("}\0")];
    let starts = prop_oneof![8 => Just("{"), 1 => Just(" {"), 1 => Just(""), 1 => Just("[")];
    (starts, prop::collection::vec(member(), 0..4), ends, 0_usize..20, -2_i64..3).prop_map(
        |(start, members, end, data_len, shift)| {
            let header = padded(&format!("{start}{}{end}", members.join(",")));
            let len =
                (header.len() as u64).saturating_add_signed(if shift.abs() == 2 { shift / 2 } else { 0 });
            crate::build::with_len(len, header.as_bytes(), &vec![0; data_len])
        },
    )
}

/// A sound file: tensors one after the other, sometimes metadata or a harmless oddity.
fn sound() -> impl Strategy<Value = (String, usize)> {
    let tensor = (name(), 0_u64..4, 0_u64..4, any::<bool>());
    let tensors = prop::collection::vec(tensor, 0..4);
    let dress = prop_oneof![4 => Just(""), 1 => Just(r#""__metadata__":{"a":"b"},"#), 1 => Just(r#""__metadata__":null,"#)];
    (tensors, dress).prop_map(|(tensors, dress)| {
        let mut begin = 0;
        let entries: Vec<String> = tensors
            .iter()
            .map(|(name, rows, columns, wide)| {
                let (dtype, len) = if *wide { ("F32", 4 * rows * columns) } else { ("U8", rows * columns) };
                let text =
                    entry(name, dtype, &format!("[{rows},{columns}]"), &format!("[{begin},{}]", begin + len));
                begin += len;
                text
            })
            .collect();
        let header = padded(&format!("{{{dress}{}}}", entries.join(",")));
        (header, usize::try_from(begin).expect("a few bytes"))
    })
}

/// What replaces a piece of a sound header.
const PIECES: &[&str] = &[
    "",
    "0",
    "1",
    "-",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "null",
    "\"a\"",
    "\"dtype\":\"U8\",",
    "\"x\":1,",
    "\\u0061",
    "\\ud800",
    "e1",
    ".5",
    "\u{e9}",
    "\u{7f}",
    "\u{1}",
    "18446744073709551615",
    "[[]]",
    "F32",
    "__metadata__",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn sound_headers_with_a_few_changes(
        (header, data_len) in sound(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, prop::sample::select(PIECES)), 0..3),
    ) {
        let mut header = header.into_bytes();
        for (at, len, piece) in changes {
            let at = at.index(header.len());
            let end = header.len().min(at + len);
            header.splice(at..end, piece.bytes());
        }
        agrees(&st(header, &vec![0; data_len]))?;
    }

    #[test]
    fn headers_made_of_pieces(bytes in file()) {
        agrees(&bytes)?;
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["m.safetensors", "p.npz", "w.npy", "sae.pt", "blob"] {
            let found = table(name, &bytes);
            invariants(&found, &bytes);
        }
    }

    #[test]
    fn spliced(which in 0_usize..7, other in 0_usize..7, at in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(), len in 0_usize..40) {
        let all = samples();
        let (name, mut bytes) = all[which].clone();
        let source = &all[other].1;
        let at = at.index(bytes.len());
        let from = from.index(source.len());
        let piece = &source[from..source.len().min(from + len)];
        let end = bytes.len().min(at + piece.len());
        bytes.splice(at..end, piece.iter().copied());
        invariants(&table(name, &bytes), &bytes);
        agrees(&bytes)?;
    }
}
