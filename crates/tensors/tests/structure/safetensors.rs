//! The catalogue of malformed safetensors files, by case: what was built, the worst severity, the codes.

use crate::build::{Member, check, codes, entry, many, one, padded, st, table, with_len, zip};
use unitrow_tensors::Severity::{self, Fail, Note, Warn};

type Case = (&'static str, Vec<u8>, Option<Severity>, &'static str);

const META: &str = r#"{"__metadata__":"#;

fn i32_2x2() -> String {
    entry("test", "I32", "[2,2]", "[0,16]")
}

fn header(inner: &str) -> Vec<u8> {
    st(padded(inner), &[1; 16])
}

fn with_field(field: &str) -> Vec<u8> {
    header(&format!(r#"{{"test":{{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]{field}}}}}"#))
}

fn named(name: &str) -> Vec<u8> {
    one(name, "I32", "[2,2]", "[0,16]", 16)
}

fn shaped(shape: &str) -> Vec<u8> {
    one("test", "I32", shape, "[0,16]", 16)
}

fn placed(offsets: &str) -> Vec<u8> {
    one("test", "I32", "[2,2]", offsets, 16)
}

fn two(first: &str, second: &str, data_len: usize) -> Vec<u8> {
    many(&[entry("a", "U8", "[4]", first), entry("b", "U8", "[4]", second)], data_len)
}

fn run(cases: Vec<Case>) {
    for (case, bytes, worst, codes) in cases {
        check(case, "model.safetensors", &bytes, worst, codes);
    }
}

#[test]
fn valid() {
    run(vec![
        ("s001", placed("[0,16]"), None, ""),
        ("s003", one("t", "F32", "[]", "[0,4]", 4), None, ""),
        ("s004", one("t", "F32", "[2,0]", "[0,0]", 0), Some(Note), "ST_EMPTY_TENSOR"),
        ("s006", st(padded(r#"{"__metadata__":{"a":"b"}}"#), b""), Some(Note), "ST_NO_TENSORS"),
        ("s007", one("t", "F4", "[1,2]", "[0,1]", 1), None, ""),
        ("s011", header(&format!("{{{}}}{:64}", i32_2x2(), "")), None, ""),
        ("s012", named("gewichte.größe.重み"), None, ""),
    ]);
}

#[test]
fn lengths() {
    let whole = placed("[0,16]");
    let header_len = whole.len() as u64 - 24;
    let body = &whole[8..];
    let mut lost = vec![0; 4096];
    lost.extend([1; 8192]);
    run(vec![
        ("empty", vec![], Some(Fail), "FS_EMPTY,ST_TOO_SHORT"),
        ("short", vec![0; 7], Some(Fail), "ST_TOO_SHORT"),
        ("s022", vec![0; 8], Some(Fail), "ST_HEADER_NOT_OBJECT"),
        ("too large", with_len(100_000_001, b"{}", b""), Some(Fail), "ST_HEADER_TOO_LARGE"),
        ("u64 max", with_len(u64::MAX, b"{}", b""), Some(Fail), "ST_HEADER_TOO_LARGE"),
        ("truncated", with_len(100_000_000, b"{}", b""), Some(Fail), "ST_TRUNCATED_HEADER"),
        ("s031", with_len(header_len - 8, body, b""), Some(Fail), "ST_JSON_SYNTAX"),
        ("s032", with_len(header_len + 8, body, b""), Some(Fail), "ST_JSON_SYNTAX"),
        ("s033", lost, Some(Fail), "ST_HEADER_NOT_OBJECT,V_ZERO_PAGES"),
    ]);
}

#[test]
fn json() {
    let nul = format!("{{{}}}\0\0\0", i32_2x2());
    let array_bomb = format!(r#","x":{}"#, "[".repeat(100_000));
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut overlong = padded(r#"{"CC":1}"#).into_bytes();
    overlong[2..4].copy_from_slice(&[0xc0, 0x80]);
    let mut surrogate = padded(r#"{"CCC":1}"#).into_bytes();
    surrogate[2..5].copy_from_slice(&[0xed, 0xa0, 0x80]);
    run(vec![
        ("s040", st([0xff], b""), Some(Fail), "ST_HEADER_NOT_OBJECT"),
        ("s041", st("{", b""), Some(Fail), "ST_JSON_SYNTAX"),
        ("s043", st([&[0xff, 0xfe][..], &utf16].concat(), b""), Some(Fail), "ST_HEADER_NOT_OBJECT"),
        ("s044", st("\t\n{}\r ", b""), Some(Warn), "ST_HEADER_LEADING_WS"),
        ("s045", header(&format!("        {{{}}}", i32_2x2())), Some(Warn), "ST_HEADER_LEADING_WS"),
        ("s046", st("{}\r \t\n", b""), Some(Warn), "ST_HEADER_PADDING"),
        ("s047", st(&nul, &[1; 16]), Some(Fail), "ST_JSON_SYNTAX"),
        ("s049", header(&format!("{{{},}}", i32_2x2())), Some(Fail), "ST_JSON_SYNTAX"),
        ("s051", header(&format!("{{/* */{}}}", i32_2x2())), Some(Fail), "ST_JSON_SYNTAX"),
        ("s052", st("[]", b""), Some(Fail), "ST_HEADER_NOT_OBJECT"),
        ("s055", with_field(&array_bomb), Some(Fail), "ST_JSON_DEPTH"),
        ("s058", named(r"\ud800"), Some(Fail), "ST_JSON_SYNTAX"),
        ("s059", st(overlong, b""), Some(Fail), "ST_NOT_UTF8"),
        ("s060", named("a\u{1}b"), Some(Fail), "ST_JSON_SYNTAX"),
        ("s061", st(surrogate, b""), Some(Fail), "ST_NOT_UTF8"),
        ("s064", st(format!("{{\"{}", "a".repeat(5000)), b""), Some(Fail), "ST_JSON_SYNTAX"),
        ("s065", header(r#"{"test":"I32"}"#), Some(Fail), "ST_BAD_ENTRY"),
        ("s066", header(r#"{"test":null}"#), Some(Fail), "ST_BAD_ENTRY"),
        ("twice", header("{}{}"), Some(Fail), "ST_JSON_SYNTAX"),
        ("single quotes", header("{'a':1}"), Some(Fail), "ST_JSON_SYNTAX"),
        ("number beyond doubles", with_field(r#","x":1e400"#), Some(Fail), "ST_JSON_SYNTAX"),
    ]);
}

#[test]
fn duplicates() {
    let hides_hole = many(&[entry("a", "U8", "[4]", "[4,8]"), entry("a", "U8", "[4]", "[0,4]")], 4);
    let other = many(&[entry("a", "I32", "[2,2]", "[0,16]"), entry("a", "F32", "[4,1]", "[0,16]")], 16);
    let escaped = many(&[i32_2x2(), entry(r"te\u0073t", "I32", "[2,2]", "[0,16]")], 16);
    let twins =
        many(&[entry("caf\u{e9}", "U8", "[1]", "[0,1]"), entry("cafe\u{301}", "U8", "[1]", "[1,2]")], 2);
    let cased = many(&[entry("W_dec", "U8", "[1]", "[0,1]"), entry("w_DEC", "U8", "[1]", "[1,2]")], 2);
    run(vec![
        ("s070", many(&[i32_2x2(), i32_2x2()], 16), Some(Fail), "ST_DUP_NAME"),
        ("s071", other, Some(Fail), "ST_DUP_NAME"),
        ("s072", hides_hole, Some(Fail), "ST_DUP_NAME"),
        ("s073", escaped, Some(Fail), "ST_DUP_NAME"),
        (
            "s074",
            header(&format!("{META}{{}},\"__metadata__\":{{}},{}}}", i32_2x2())),
            Some(Fail),
            "ST_DUP_KEY",
        ),
        ("s075", header(&format!(r#"{META}{{"a":"1","a":"2"}},{}}}"#, i32_2x2())), Some(Fail), "ST_DUP_KEY"),
        ("s076", with_field(r#","dtype":"I32""#), Some(Fail), "ST_DUP_KEY"),
        ("s077", with_field(r#","x":1,"x":2"#), Some(Fail), "ST_DUP_KEY,ST_EXTRA_FIELD"),
        ("nested", with_field(r#","x":[{"y":{"z":1,"\u007a":2}}]"#), Some(Fail), "ST_DUP_KEY"),
        ("s078", twins, Some(Warn), "ST_NAME_CONFUSABLE"),
        ("case", cased, Some(Note), "ST_NAME_CONFUSABLE"),
    ]);
}

#[test]
fn names() {
    let unsafe_names = [
        ("s080 empty", ""),
        ("s081 nul", r"a\u0000b"),
        ("s082 ansi", r"\u001b[31mred"),
        ("s083 bidi", "a\u{202e}b"),
        ("s084 traversal", "../../etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("backslash", r"a\\b"),
        ("drive", "C:/x"),
        ("s086 newline", r"a\nb"),
        ("s088 html", "<script>alert(1)</script>"),
        ("formula", "=cmd()"),
        ("zero width", "a\u{200b}b"),
        ("bom", "\u{feff}a"),
        ("replacement", "a\u{fffd}b"),
        ("near metadata", "__Metadata__"),
        ("near metadata, one edit", "__metadata_"),
        ("line separator", "a\u{2028}b"),
    ];
    for (case, name) in unsafe_names {
        check(case, "model.safetensors", &named(name), Some(Warn), "ST_NAME_UNSAFE");
    }
    check("s089", "model.safetensors", &named(&"x".repeat(1 << 20)), Some(Warn), "ST_NAME_TOO_LONG");
    let nested = format!("{META}{{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}}}");
    check("s091", "model.safetensors", &header(&nested), Some(Fail), "ST_BAD_METADATA");
    let plain = [
        "W_dec",
        "b_enc",
        "model.layers.0.mlp/kernel",
        "blocks.0.hook_resid_pre",
        "threshold",
        "params:0",
        "log_θ",
    ];
    for name in plain {
        check(name, "model.safetensors", &named(name), None, "");
    }
}

#[test]
fn schema() {
    let entry_of = |inner: &str| header(&format!("{{\"test\":{{{inner}}}}}"));
    run(vec![
        ("s100", with_field(r#","strides":[2,1]"#), Some(Warn), "ST_EXTRA_FIELD"),
        ("s101", entry_of(r#""shape":[2,2],"data_offsets":[0,16]"#), Some(Fail), "ST_BAD_ENTRY"),
        ("s102", entry_of(r#""dtype":"I32","data_offsets":[0,16]"#), Some(Fail), "ST_BAD_ENTRY"),
        ("s103", entry_of(r#""dtype":"I32","shape":[2,2]"#), Some(Fail), "ST_BAD_ENTRY"),
        ("s104", header(r#"{"test":["I32",[2,2],[0,16]]}"#), Some(Fail), "ST_BAD_ENTRY"),
        (
            "s105",
            entry_of(r#""dtype":{"I32":null},"shape":[2,2],"data_offsets":[0,16]"#),
            Some(Fail),
            "ST_BAD_ENTRY",
        ),
        ("dtype 7", entry_of(r#""dtype":7,"shape":[2,2],"data_offsets":[0,16]"#), Some(Fail), "ST_BAD_DTYPE"),
        ("dtype i32", one("t", "i32", "[2,2]", "[0,16]", 16), Some(Fail), "ST_BAD_DTYPE"),
        ("s108", one("t", "I4", "[2,2]", "[0,16]", 16), Some(Fail), "ST_BAD_DTYPE"),
        ("s111", shaped("[-2,-2]"), Some(Fail), "ST_BAD_SHAPE"),
        ("s112", shaped("[2.0,2]"), Some(Fail), "ST_BAD_SHAPE"),
        ("s113", shaped("[2e0,2]"), Some(Fail), "ST_BAD_SHAPE"),
        ("s114", shaped(r#"["2",2]"#), Some(Fail), "ST_BAD_SHAPE"),
        ("s116", shaped("null"), Some(Fail), "ST_BAD_SHAPE"),
        ("s117", shaped("4"), Some(Fail), "ST_BAD_SHAPE"),
        ("s118", shaped("[true,4]"), Some(Fail), "ST_BAD_SHAPE"),
        ("s119", shaped("[-0,4]"), Some(Fail), "ST_BAD_SHAPE"),
        ("s120", shaped("[02,2]"), Some(Fail), "ST_JSON_SYNTAX"),
        ("2^64", shaped("[18446744073709551616]"), Some(Fail), "ST_BAD_SHAPE"),
        ("s121", shaped("[2,18446744073709551614]"), Some(Fail), "ST_OVERFLOW"),
        ("s122", shaped("[2,9223372036854775807]"), Some(Fail), "ST_OVERFLOW"),
        (
            "s123",
            one("t", "I32", "[0,1099511627776,1099511627776]", "[0,0]", 0),
            Some(Warn),
            "ST_SHAPE_IMPLAUSIBLE",
        ),
        ("s124", one("t", "I32", "[1099511627776,1099511627776,0]", "[0,0]", 0), Some(Fail), "ST_OVERFLOW"),
        ("s125", shaped(&format!("[{}4]", "1,".repeat(64))), Some(Warn), "ST_RANK_LIMIT"),
        ("rank 64", shaped(&format!("[{}4]", "1,".repeat(63))), None, ""),
        ("s126", shaped(&format!("[{}4]", "1,".repeat(99_999))), Some(Warn), "ST_RANK_LIMIT"),
        ("s127", one("t", "I32", "[0,18446744073709551615]", "[0,0]", 0), Some(Warn), "ST_SHAPE_IMPLAUSIBLE"),
        ("s128", placed("[0,4]"), Some(Fail), "ST_SIZE_MISMATCH"),
        ("s131", one("t", "F4", "[1,2]", "[0,2]", 2), Some(Fail), "ST_SIZE_MISMATCH"),
        ("s132", one("t", "F4", "[1]", "[0,1]", 1), Some(Fail), "ST_SUBBYTE"),
        ("s133", one("t", "F4", "[2,3]", "[0,3]", 3), Some(Warn), "ST_SUBBYTE_ROW"),
    ]);
}

#[test]
fn offsets() {
    let u8s = |name: &str, offsets: &str| entry(name, "U8", "[8]", offsets);
    let past = many(&[entry("a", "U8", "[8]", "[0,8]"), entry("z", "U8", "[0]", "[100,100]")], 8);
    let crowd: Vec<String> =
        (0..10_000).map(|i| entry(&format!("w{i}"), "U8", "[160000]", "[0,160000]")).collect();
    let whole = placed("[0,16]");
    let archive = zip(&[Member::stored("x.txt", b"hello")]);
    let inside = st(
        padded(&format!(
            "{{{}}}",
            entry("a", "U8", &format!("[{}]", archive.len()), &format!("[0,{}]", archive.len()))
        )),
        &archive,
    );
    run(vec![
        ("s140", placed("[-16,0]"), Some(Fail), "ST_BAD_OFFSETS"),
        ("s141", placed("[16,0]"), Some(Fail), "ST_BAD_OFFSETS"),
        ("s142", placed("[0,8,16]"), Some(Fail), "ST_BAD_OFFSETS"),
        ("s143", placed("[16]"), Some(Fail), "ST_BAD_OFFSETS"),
        ("s144", placed(r#"{"begin":0,"end":16}"#), Some(Fail), "ST_BAD_OFFSETS"),
        ("s145", placed("[0,18446744073709551616]"), Some(Fail), "ST_BAD_OFFSETS"),
        ("s147", placed("[0,18446744073709551615]"), Some(Fail), "ST_SIZE_MISMATCH"),
        ("s148 hole at the start", two("[4,8]", "[8,12]", 12), Some(Fail), "ST_HOLE"),
        ("s149", two("[0,4]", "[8,12]", 12), Some(Fail), "ST_HOLE"),
        ("s150", many(&[u8s("a", "[0,8]"), u8s("b", "[0,8]")], 8), Some(Fail), "ST_OVERLAP"),
        ("s151", many(&[u8s("a", "[0,8]"), u8s("b", "[4,12]")], 12), Some(Fail), "ST_OVERLAP"),
        ("s152", one("t", "I32", "[2,2]", "[0,16]", 8), Some(Fail), "ST_TRUNCATED_DATA"),
        ("trailing", [&whole[..], b"xxxx"].concat(), Some(Fail), "ST_TRAILING_BYTES"),
        ("s156", [&whole[..], &archive].concat(), Some(Fail), "ST_TRAILING_BYTES,FS_POLYGLOT"),
        ("s157", inside, Some(Warn), "FS_POLYGLOT"),
        ("s159", past, Some(Fail), "ST_HOLE"),
        (
            "zero-sized inside",
            many(&[u8s("a", "[0,8]"), entry("z", "U8", "[0]", "[4,4]")], 8),
            Some(Fail),
            "ST_OVERLAP",
        ),
        (
            "zero-sized between",
            many(&[u8s("a", "[0,8]"), entry("z", "U8", "[0]", "[8,8]")], 8),
            Some(Note),
            "ST_EMPTY_TENSOR",
        ),
        ("s162", many(&crowd, 160_000), Some(Fail), "ST_OVERLAP"),
    ]);
}

#[test]
fn alignment() {
    let bytes = {
        let header = format!("{{{}}}", entry("a", "F64", "[1]", "[0,8]"));
        st(padded(&header) + "   ", &[1; 8])
    };
    let tensor = many(&[entry("a", "U8", "[1]", "[0,1]"), entry("b", "F32", "[1]", "[1,5]")], 5);
    run(vec![
        ("s170", bytes, Some(Note), "ST_UNALIGNED_DATA"),
        ("s171", tensor, Some(Warn), "ST_UNALIGNED_TENSOR"),
    ]);
}

#[test]
fn metadata() {
    let meta = |inner: &str| header(&format!("{META}{inner},{}}}", i32_2x2()));
    run(vec![
        ("s181", meta(r#"{"a":null}"#), Some(Fail), "ST_BAD_METADATA"),
        ("s182", meta(r#"{"a":{"b":"c"}}"#), Some(Fail), "ST_BAD_METADATA"),
        ("number", meta(r#"{"a":1}"#), Some(Fail), "ST_BAD_METADATA"),
        ("array", meta("[]"), Some(Fail), "ST_BAD_METADATA"),
        ("s185", meta("null"), Some(Warn), "ST_METADATA_NULL"),
        ("s186", meta(r#"{"":""}"#), Some(Note), "ST_METADATA_ODD"),
        ("s187", meta(r#"{"a":"\u001b]0;owned\u0007"}"#), Some(Warn), "ST_METADATA_UNSAFE"),
        ("s189", meta(&format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000_000))), Some(Warn), "ST_HEADER_OVERSIZE"),
        ("text", meta(r##"{"card":"# Title\n\ttext <b>bold</b>"}"##), None, ""),
    ]);
}

#[test]
fn findings_are_capped_and_counted() {
    let crowd: Vec<String> = (0..100).map(|i| entry(&format!("w{i}"), "U8", "[8]", "[0,8]")).collect();
    let found = table("model.safetensors", &many(&crowd, 8));
    let overlaps: Vec<_> = found.defects.iter().filter(|defect| defect.code.name == "ST_OVERLAP").collect();
    assert_eq!(overlaps.len(), unitrow_tensors::CAP + 1);
    assert_eq!(overlaps[unitrow_tensors::CAP].message, "and 79 more ST_OVERLAP");
    assert_eq!(found.tensors.len(), 100);
    assert!(!found.sound);
}

#[test]
fn all_findings_of_a_header_are_reported() {
    let entries = [
        entry("a", "I4", "[1]", "[0,4]"),
        entry("b", "F32", "[-1]", "[4,8]"),
        entry("c", "F32", "[1]", "[8]"),
        entry("d", "F32", "[2]", "[8,12]"),
        entry("d", "F32", "[1]", "[8,12]"),
        r#""e":{"dtype":"F32"}"#.to_owned(),
    ];
    let found = codes(&table("model.safetensors", &many(&entries, 12)));
    let expected =
        ["ST_BAD_DTYPE", "ST_BAD_SHAPE", "ST_BAD_OFFSETS", "ST_SIZE_MISMATCH", "ST_DUP_NAME", "ST_BAD_ENTRY"];
    assert_eq!(found, expected);
}

#[test]
fn truncation_says_what_is_missing_and_what_is_whole() {
    let entries = [
        entry("a", "U8", "[4]", "[0,4]"),
        entry("b", "U8", "[4]", "[4,8]"),
        entry("c", "U8", "[4]", "[8,12]"),
    ];
    let whole = many(&entries, 12);
    let found = table("model.safetensors", &whole[..whole.len() - 6]);
    let [defect] = found.defects.as_slice() else { panic!("{:?}", found.defects) };
    assert_eq!((defect.byte_offset, defect.length), (Some(whole.len() as u64 - 6), Some(6)));
    assert_eq!(defect.tensor.as_deref(), Some("b"));
    let percent = 600.0 / whole.len() as f64;
    let message = format!(
        "6 of {} bytes are missing ({percent:.1} %): 1 of 3 tensors are whole; \"b\" breaks off after 2 of 4 bytes",
        whole.len()
    );
    assert_eq!(defect.message, message);
    assert_eq!(found.tensors.len(), 1);
    assert!(found.sound, "what is whole can be read");
}

#[test]
fn a_name_that_stands_twice_means_its_last_entry() {
    let bytes = many(&[entry("a", "U8", "[4]", "[4,8]"), entry("a", "I8", "[4]", "[0,4]")], 4);
    let found = table("model.safetensors", &bytes);
    assert_eq!(found.tensors.len(), 1);
    assert_eq!(found.tensors[0].dtype, unitrow_tensors::Dtype::I8);
}
