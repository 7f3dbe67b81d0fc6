"""safetensors files: every rule of the header, its entries and its names, broken once."""

from __future__ import annotations

import struct

from build import Member, entry, file, npy, one, st, tensors, text, weights, zipped

PLAIN = {"test": entry()}
TEXT = text(PLAIN)


def two(first, second, data_len=12):
    """Two tensors of I32 with these offsets."""
    shape = lambda offsets: [(offsets[1] - offsets[0]) // 4]  # noqa: E731
    return st(
        {"a": entry("I32", shape(first), first), "b": entry("I32", shape(second), second)}, b"\1" * data_len
    )


def named(name, verdict, *codes):
    return file(st({name: entry()}), verdict, *codes)


LENGTH = {
    "ok_minimal": file(st(PLAIN), "pass"),
    "ok_scalar": file(st({"x": entry(shape=[], offsets=[0, 4])}, b"\1" * 4), "pass"),
    "ok_zero_sized": file(st({"x": entry(shape=[2, 0], offsets=[0, 0])}, b""), "note", "ST_EMPTY_TENSOR"),
    "ok_metadata_only": file(st({"__metadata__": {"a": "b"}}, b""), "note", "ST_NO_TENSORS"),
    "ok_f4_even": file(st({"x": entry("F4", [1, 2], [0, 1])}, b"\1"), "pass"),
    "ok_trailing_spaces": file(st(TEXT + " " * 64), "pass"),
    "ok_big_int_names": file(st({"h\u00e9llo \u6f22": entry()}), "pass"),
    "too_short": file(b"\1\0\0", "fail", "ST_TOO_SHORT"),
    "n_too_large": file(st(PLAIN, length=100_000_001), "fail", "ST_HEADER_TOO_LARGE"),
    "n_past_end": file(st(PLAIN, length=4096), "fail", "ST_TRUNCATED_HEADER"),
    "n_zero": file(bytes(8), "fail", "ST_HEADER_NOT_OBJECT"),
    "n_minus_8": file(st(PLAIN, length=len(TEXT) // 8 * 8 - 8), "fail", "ST_JSON_SYNTAX"),
    "n_plus_8": file(st(PLAIN, length=len(st(PLAIN)) - 8 - 16 + 8), "fail", "ST_JSON_SYNTAX"),
    "first_page_zero": file(
        bytes(4096) + tensors({"w": weights(64, 48)})[4096:], "fail", "ST_HEADER_NOT_OBJECT", "V_ZERO_PAGES"
    ),
    "non_utf8": file(st(b"\xff", b"", pad=False), "fail", "ST_HEADER_NOT_OBJECT"),
    "just_brace": file(st(b"{", b"", pad=False), "fail", "ST_JSON_SYNTAX"),
    "utf16": file(st(b"\xff\xfe" + TEXT.encode("utf-16-le")), "fail", "ST_HEADER_NOT_OBJECT"),
    "leading_ws": file(st("\t\n{}\r ", b"", pad=False), "warn", "ST_HEADER_LEADING_WS"),
    "leading_ws_tensor": file(st(" " * 8 + TEXT), "warn", "ST_HEADER_LEADING_WS"),
    "trailing_ws_ctl": file(st("{}\r \t\n", b"", pad=False), "warn", "ST_HEADER_PADDING"),
    "trailing_nul": file(st(TEXT + "\0" * 8), "fail", "ST_JSON_SYNTAX"),
    "meta_10mb": file(st({"__metadata__": {"a": "b" * 10_000_000}}, b""), "warn", "ST_HEADER_OVERSIZE"),
}

JSON = {
    "trailing_comma": file(st(TEXT[:-1] + ",}"), "fail", "ST_JSON_SYNTAX"),
    "comment": file(st("{/* */" + TEXT[1:]), "fail", "ST_JSON_SYNTAX"),
    "top_array": file(st("[]", b""), "fail", "ST_HEADER_NOT_OBJECT"),
    "depth_bomb_extra": file(st(TEXT[:-2] + ',"x":' + "[" * 100_000), "fail", "ST_JSON_DEPTH"),
    "lone_surrogate": file(st('{"\\ud800"' + TEXT[7:]), "fail", "ST_JSON_SYNTAX"),
    "overlong_utf8": file(st(b'{"\xc0\x80"' + TEXT[7:].encode()), "fail", "ST_NOT_UTF8"),
    "raw_ctl_in_name": file(st('{"\1"' + TEXT[7:]), "fail", "ST_JSON_SYNTAX"),
    "cesu_surrogate_bytes": file(st(b'{"\xed\xa0\x80"' + TEXT[7:].encode()), "fail", "ST_NOT_UTF8"),
    "truncated_string": file(st('{"' + "a" * 5000, b""), "fail", "ST_JSON_SYNTAX"),
    "dup_identical": file(st([("test", entry()), ("test", entry())]), "fail", "ST_DUP_NAME"),
    "dup_other_dtype": file(
        st([("test", entry()), ("test", entry("F32", [4, 1]))]), "fail", "ST_DUP_NAME"
    ),
    "dup_hides_hole": file(
        st([("a", entry("I32", [1], [4, 8])), ("a", entry("I32", [1], [0, 4]))], b"\1" * 4),
        "fail", "ST_DUP_NAME",
    ),
    "dup_escaped": file(
        st(TEXT[:-1] + "," + TEXT[1:].replace("s", "\\u0073", 1)), "fail", "ST_DUP_NAME"
    ),
    "dup_metadata": file(
        st([("__metadata__", {}), ("__metadata__", {}), ("test", entry())]), "fail", "ST_DUP_KEY"
    ),
    "dup_metadata_key": file(st('{"__metadata__":{"a":"1","a":"2"},' + TEXT[1:]), "fail", "ST_DUP_KEY"),
    "dup_extra_field": file(st(TEXT[:-2] + ',"x":1,"x":2}}'), "fail", "ST_DUP_KEY"),
}  # fmt: skip

ENTRIES = {
    "not_obj_value": file(st({"test": "I32"}), "fail", "ST_BAD_ENTRY"),
    "tensor_null": file(st({"test": None}), "fail", "ST_BAD_ENTRY"),
    "extra_field": file(one(strides=[2, 1]), "warn", "ST_EXTRA_FIELD"),
    "no_dtype": file(one(dtype=...), "fail", "ST_BAD_ENTRY"),
    "no_shape": file(one(shape=...), "fail", "ST_BAD_ENTRY"),
    "no_offsets": file(one(data_offsets=...), "fail", "ST_BAD_ENTRY"),
    "entry_as_array": file(st({"test": ["I32", [2, 2], [0, 16]]}), "fail", "ST_BAD_ENTRY"),
    "dtype_as_map": file(one(dtype={"I32": None}), "fail", "ST_BAD_ENTRY"),
    "dtype_i4": file(one(dtype="I4"), "fail", "ST_BAD_DTYPE"),
    "shape_neg": file(one(shape=[-2, -2]), "fail", "ST_BAD_SHAPE"),
    "shape_float": file(one(shape=[2.0, 2]), "fail", "ST_BAD_SHAPE"),
    "shape_exp": file(st(TEXT.replace("[2, 2]", "[2e0, 2]")), "fail", "ST_BAD_SHAPE"),
    "shape_str": file(one(shape=["2", 2]), "fail", "ST_BAD_SHAPE"),
    "shape_null": file(one(shape=None), "fail", "ST_BAD_SHAPE"),
    "shape_int": file(one(shape=4), "fail", "ST_BAD_SHAPE"),
    "shape_bool": file(one(shape=[True, 4]), "fail", "ST_BAD_SHAPE"),
    "shape_minus_zero": file(st(TEXT.replace("[2, 2]", "[-0, 4]")), "fail", "ST_BAD_SHAPE"),
    "shape_leading_zero": file(st(TEXT.replace("[2, 2]", "[02, 2]")), "fail", "ST_JSON_SYNTAX"),
    "shape_overflow_mul": file(one(shape=[2, 2**64 - 2]), "fail", "ST_OVERFLOW"),
    "shape_overflow_bytes": file(one(shape=[2, 2**63 - 1]), "fail", "ST_OVERFLOW"),
    "shape_zero_last": file(one(shape=[2**40, 2**40, 0]), "fail", "ST_OVERFLOW"),
    "rank_65": file(st({"x": entry(shape=[1] * 65, offsets=[0, 4])}, b"\1" * 4), "warn", "ST_RANK_LIMIT"),
    "rank_100k": file(
        st({"x": entry(shape=[1] * 100_000, offsets=[0, 4])}, b"\1" * 4), "warn", "ST_RANK_LIMIT"
    ),
    "dim_over_i64": file(
        st({"x": entry(shape=[0, 2**64 - 1], offsets=[0, 0])}, b""), "warn", "ST_SHAPE_IMPLAUSIBLE"
    ),
    "info_mismatch": file(st({"x": entry(offsets=[0, 4])}, b"\1" * 4), "fail", "ST_SIZE_MISMATCH"),
    "f4_odd": file(st({"x": entry("F4", [1, 3], [0, 1])}, b"\1"), "fail", "ST_SUBBYTE"),
    "f4_wrong_len": file(st({"x": entry("F4", [1, 2], [0, 2])}, b"\1\1"), "fail", "ST_SIZE_MISMATCH"),
    "f4_row_split": file(st({"x": entry("F4", [2, 3], [0, 3])}, b"\1" * 3), "warn", "ST_SUBBYTE_ROW"),
    "neg": file(one(data_offsets=[-16, 0]), "fail", "ST_BAD_OFFSETS"),
    "three": file(one(data_offsets=[0, 8, 16]), "fail", "ST_BAD_OFFSETS"),
    "one": file(one(data_offsets=[16]), "fail", "ST_BAD_OFFSETS"),
    "obj": file(one(data_offsets={"begin": 0, "end": 16}), "fail", "ST_BAD_OFFSETS"),
    "2_64": file(one(data_offsets=[0, 2**64]), "fail", "ST_BAD_OFFSETS"),
    "u64max_end": file(one(data_offsets=[0, 2**64 - 1]), "fail", "ST_SIZE_MISMATCH"),
}

OFFSETS = {
    "hole_mid": file(two((0, 4), (8, 12)), "fail", "ST_HOLE"),
    "overlap_full": file(two((0, 8), (0, 8), 8), "fail", "ST_OVERLAP"),
    "overlap_part": file(two((0, 8), (4, 12)), "fail", "ST_OVERLAP"),
    "end_past_eof": file(st(PLAIN, b"\1" * 8), "fail", "ST_TRUNCATED_DATA"),
    "trailing": file(st(PLAIN, b"\1" * 17), "fail", "ST_TRAILING_BYTES"),
    "polyglot_zip": file(
        st(PLAIN) + zipped(Member("w.npy", npy(weights(2, 2)))), "fail", "ST_TRAILING_BYTES", "FS_POLYGLOT"
    ),
    "zero_sized_past_end": file(
        st({"x": entry(), "z": entry(shape=[0], offsets=[100, 100])}), "fail", "ST_HOLE"
    ),
    "overlap_dos_10k": file(
        st({f"w{i}": entry(shape=[40_000], offsets=[0, 160_000]) for i in range(10_000)}, b"\1" * 160_000),
        "fail", "ST_OVERLAP",
    ),
    "header_unaligned": file(
        st((t := text({"x": entry("F64", [2], [0, 16])})) + " " * (-len(t) % 8 + 3), pad=False),
        "note", "ST_UNALIGNED_DATA",
    ),
    "tensor_unaligned": file(
        st({"a": entry("U8", [1], [0, 1]), "b": entry("F32", [1], [1, 5])}, b"\1" + struct.pack("<f", 1)),
        "warn", "ST_UNALIGNED_TENSOR",
    ),
}  # fmt: skip

NAMES = {
    "dup_nfc_nfd": file(st({
        "\u00e9": entry("I32", [1], [0, 4]), "e\u0301": entry("I32", [1], [4, 8]),
    }, b"\1" * 8), "warn", "ST_NAME_CONFUSABLE"),
    "name_empty": named("", "warn", "ST_NAME_UNSAFE"),
    "name_nul": named("a\0b", "warn", "ST_NAME_UNSAFE"),
    "name_ansi": named("\x1b[31mred", "warn", "ST_NAME_UNSAFE"),
    "name_newline": named("a\nb", "warn", "ST_NAME_UNSAFE"),
    "name_html": named("<script>alert(1)</script>", "warn", "ST_NAME_UNSAFE"),
    "name_1mib": named("a" * (1 << 20), "warn", "ST_NAME_TOO_LONG"),
    "name_meta_is_tensor": file(st({"__metadata__": entry()}), "fail", "ST_BAD_METADATA"),
    "meta_null_value": file(st({"__metadata__": {"a": None}, **PLAIN}), "fail", "ST_BAD_METADATA"),
    "meta_nested": file(st({"__metadata__": {"a": {}}, **PLAIN}), "fail", "ST_BAD_METADATA"),
    "meta_null": file(st({"__metadata__": None, **PLAIN}), "warn", "ST_METADATA_NULL"),
    "meta_empty_key": file(st({"__metadata__": {"": ""}, **PLAIN}), "note", "ST_METADATA_ODD"),
    "meta_hash_of_other_data": file(
        st({"__metadata__": {"sha256": "ab" * 32}, **PLAIN}), "warn", "ST_METADATA_HASH", digest="sha256"
    ),
    "meta_ansi": file(
        st({"__metadata__": {"a": "\x1b]0;x\7"}, **PLAIN}), "warn", "ST_METADATA_UNSAFE"
    ),
}  # fmt: skip

CASES = LENGTH | JSON | ENTRIES | OFFSETS | NAMES
