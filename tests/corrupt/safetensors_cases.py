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
    "s001_ok_minimal": file(st(PLAIN), "pass"),
    "s003_ok_scalar": file(st({"x": entry(shape=[], offsets=[0, 4])}, b"\1" * 4), "pass"),
    "s004_ok_zero_sized": file(
        st({"x": entry(shape=[2, 0], offsets=[0, 0])}, b""), "note", "ST_EMPTY_TENSOR"
    ),
    "s006_ok_metadata_only": file(st({"__metadata__": {"a": "b"}}, b""), "note", "ST_NO_TENSORS"),
    "s007_ok_f4_even": file(st({"x": entry("F4", [1, 2], [0, 1])}, b"\1"), "pass"),
    "s011_ok_trailing_spaces": file(st(TEXT + " " * 64), "pass"),
    "s012_ok_big_int_names": file(st({"h\u00e9llo \u6f22": entry()}), "pass"),
    "too_short": file(b"\1\0\0", "fail", "ST_TOO_SHORT"),
    "n_too_large": file(st(PLAIN, length=100_000_001), "fail", "ST_HEADER_TOO_LARGE"),
    "n_past_end": file(st(PLAIN, length=4096), "fail", "ST_TRUNCATED_HEADER"),
    "s022_n_zero": file(bytes(8), "fail", "ST_HEADER_NOT_OBJECT"),
    "s031_n_minus_8": file(st(PLAIN, length=len(TEXT) // 8 * 8 - 8), "fail", "ST_JSON_SYNTAX"),
    "s032_n_plus_8": file(st(PLAIN, length=len(st(PLAIN)) - 8 - 16 + 8), "fail", "ST_JSON_SYNTAX"),
    "s033_first_page_zero": file(
        bytes(4096) + tensors({"w": weights(64, 48)})[4096:], "fail", "ST_HEADER_NOT_OBJECT", "V_ZERO_PAGES"
    ),
    "s040_non_utf8": file(st(b"\xff", b"", pad=False), "fail", "ST_HEADER_NOT_OBJECT"),
    "s041_just_brace": file(st(b"{", b"", pad=False), "fail", "ST_JSON_SYNTAX"),
    "s043_utf16": file(st(b"\xff\xfe" + TEXT.encode("utf-16-le")), "fail", "ST_HEADER_NOT_OBJECT"),
    "s044_leading_ws": file(st("\t\n{}\r ", b"", pad=False), "warn", "ST_HEADER_LEADING_WS"),
    "s045_leading_ws_tensor": file(st(" " * 8 + TEXT), "warn", "ST_HEADER_LEADING_WS"),
    "s046_trailing_ws_ctl": file(st("{}\r \t\n", b"", pad=False), "warn", "ST_HEADER_PADDING"),
    "s047_trailing_nul": file(st(TEXT + "\0" * 8), "fail", "ST_JSON_SYNTAX"),
    "s189_meta_10mb": file(st({"__metadata__": {"a": "b" * 10_000_000}}, b""), "warn", "ST_HEADER_OVERSIZE"),
}

JSON = {
    "s049_trailing_comma": file(st(TEXT[:-1] + ",}"), "fail", "ST_JSON_SYNTAX"),
    "s051_comment": file(st("{/* */" + TEXT[1:]), "fail", "ST_JSON_SYNTAX"),
    "s052_top_array": file(st("[]", b""), "fail", "ST_HEADER_NOT_OBJECT"),
    "s055_depth_bomb_extra": file(st(TEXT[:-2] + ',"x":' + "[" * 100_000), "fail", "ST_JSON_DEPTH"),
    "s058_lone_surrogate": file(st('{"\\ud800"' + TEXT[7:]), "fail", "ST_JSON_SYNTAX"),
    "s059_overlong_utf8": file(st(b'{"\xc0\x80"' + TEXT[7:].encode()), "fail", "ST_NOT_UTF8"),
    "s060_raw_ctl_in_name": file(st('{"\1"' + TEXT[7:]), "fail", "ST_JSON_SYNTAX"),
    "s061_cesu_surrogate_bytes": file(st(b'{"\xed\xa0\x80"' + TEXT[7:].encode()), "fail", "ST_NOT_UTF8"),
    "s064_truncated_string": file(st('{"' + "a" * 5000, b""), "fail", "ST_JSON_SYNTAX"),
    "s070_dup_identical": file(st([("test", entry()), ("test", entry())]), "fail", "ST_DUP_NAME"),
    "s071_dup_other_dtype": file(
        st([("test", entry()), ("test", entry("F32", [4, 1]))]), "fail", "ST_DUP_NAME"
    ),
    "s072_dup_hides_hole": file(
        st([("a", entry("I32", [1], [4, 8])), ("a", entry("I32", [1], [0, 4]))], b"\1" * 4),
        "fail", "ST_DUP_NAME",
    ),
    "s073_dup_escaped": file(
        st(TEXT[:-1] + "," + TEXT[1:].replace("s", "\\u0073", 1)), "fail", "ST_DUP_NAME"
    ),
    "s074_dup_metadata": file(
        st([("__metadata__", {}), ("__metadata__", {}), ("test", entry())]), "fail", "ST_DUP_KEY"
    ),
    "s075_dup_metadata_key": file(st('{"__metadata__":{"a":"1","a":"2"},' + TEXT[1:]), "fail", "ST_DUP_KEY"),
    "s077_dup_extra_field": file(st(TEXT[:-2] + ',"x":1,"x":2}}'), "fail", "ST_DUP_KEY"),
}  # fmt: skip

ENTRIES = {
    "s065_not_obj_value": file(st({"test": "I32"}), "fail", "ST_BAD_ENTRY"),
    "s066_tensor_null": file(st({"test": None}), "fail", "ST_BAD_ENTRY"),
    "s100_extra_field": file(one(strides=[2, 1]), "warn", "ST_EXTRA_FIELD"),
    "s101_no_dtype": file(one(dtype=...), "fail", "ST_BAD_ENTRY"),
    "s102_no_shape": file(one(shape=...), "fail", "ST_BAD_ENTRY"),
    "s103_no_offsets": file(one(data_offsets=...), "fail", "ST_BAD_ENTRY"),
    "s104_entry_as_array": file(st({"test": ["I32", [2, 2], [0, 16]]}), "fail", "ST_BAD_ENTRY"),
    "s105_dtype_as_map": file(one(dtype={"I32": None}), "fail", "ST_BAD_ENTRY"),
    "s108_dtype_i4": file(one(dtype="I4"), "fail", "ST_BAD_DTYPE"),
    "s111_shape_neg": file(one(shape=[-2, -2]), "fail", "ST_BAD_SHAPE"),
    "s112_shape_float": file(one(shape=[2.0, 2]), "fail", "ST_BAD_SHAPE"),
    "s113_shape_exp": file(st(TEXT.replace("[2, 2]", "[2e0, 2]")), "fail", "ST_BAD_SHAPE"),
    "s114_shape_str": file(one(shape=["2", 2]), "fail", "ST_BAD_SHAPE"),
    "s116_shape_null": file(one(shape=None), "fail", "ST_BAD_SHAPE"),
    "s117_shape_int": file(one(shape=4), "fail", "ST_BAD_SHAPE"),
    "s118_shape_bool": file(one(shape=[True, 4]), "fail", "ST_BAD_SHAPE"),
    "s119_shape_minus_zero": file(st(TEXT.replace("[2, 2]", "[-0, 4]")), "fail", "ST_BAD_SHAPE"),
    "s120_shape_leading_zero": file(st(TEXT.replace("[2, 2]", "[02, 2]")), "fail", "ST_JSON_SYNTAX"),
    "s121_shape_overflow_mul": file(one(shape=[2, 2**64 - 2]), "fail", "ST_OVERFLOW"),
    "s122_shape_overflow_bytes": file(one(shape=[2, 2**63 - 1]), "fail", "ST_OVERFLOW"),
    "s124_shape_zero_last": file(one(shape=[2**40, 2**40, 0]), "fail", "ST_OVERFLOW"),
    "s125_rank_65": file(
        st({"x": entry(shape=[1] * 65, offsets=[0, 4])}, b"\1" * 4), "warn", "ST_RANK_LIMIT"
    ),
    "s126_rank_100k": file(
        st({"x": entry(shape=[1] * 100_000, offsets=[0, 4])}, b"\1" * 4), "warn", "ST_RANK_LIMIT"
    ),
    "s127_dim_over_i64": file(
        st({"x": entry(shape=[0, 2**64 - 1], offsets=[0, 0])}, b""), "warn", "ST_SHAPE_IMPLAUSIBLE"
    ),
    "s128_info_mismatch": file(st({"x": entry(offsets=[0, 4])}, b"\1" * 4), "fail", "ST_SIZE_MISMATCH"),
    "s130_f4_odd": file(st({"x": entry("F4", [1, 3], [0, 1])}, b"\1"), "fail", "ST_SUBBYTE"),
    "s131_f4_wrong_len": file(st({"x": entry("F4", [1, 2], [0, 2])}, b"\1\1"), "fail", "ST_SIZE_MISMATCH"),
    "s133_f4_row_split": file(st({"x": entry("F4", [2, 3], [0, 3])}, b"\1" * 3), "warn", "ST_SUBBYTE_ROW"),
    "s140_neg": file(one(data_offsets=[-16, 0]), "fail", "ST_BAD_OFFSETS"),
    "s142_three": file(one(data_offsets=[0, 8, 16]), "fail", "ST_BAD_OFFSETS"),
    "s143_one": file(one(data_offsets=[16]), "fail", "ST_BAD_OFFSETS"),
    "s144_obj": file(one(data_offsets={"begin": 0, "end": 16}), "fail", "ST_BAD_OFFSETS"),
    "s145_2_64": file(one(data_offsets=[0, 2**64]), "fail", "ST_BAD_OFFSETS"),
    "s147_u64max_end": file(one(data_offsets=[0, 2**64 - 1]), "fail", "ST_SIZE_MISMATCH"),
}

OFFSETS = {
    "s149_hole_mid": file(two((0, 4), (8, 12)), "fail", "ST_HOLE"),
    "s150_overlap_full": file(two((0, 8), (0, 8), 8), "fail", "ST_OVERLAP"),
    "s151_overlap_part": file(two((0, 8), (4, 12)), "fail", "ST_OVERLAP"),
    "s152_end_past_eof": file(st(PLAIN, b"\1" * 8), "fail", "ST_TRUNCATED_DATA"),
    "s155_trailing": file(st(PLAIN, b"\1" * 17), "fail", "ST_TRAILING_BYTES"),
    "s156_polyglot_zip": file(
        st(PLAIN) + zipped(Member("w.npy", npy(weights(2, 2)))), "fail", "ST_TRAILING_BYTES", "FS_POLYGLOT"
    ),
    "s159_zero_sized_past_end": file(
        st({"x": entry(), "z": entry(shape=[0], offsets=[100, 100])}), "fail", "ST_HOLE"
    ),
    "s162_overlap_dos_10k": file(
        st({f"w{i}": entry(shape=[40_000], offsets=[0, 160_000]) for i in range(10_000)}, b"\1" * 160_000),
        "fail", "ST_OVERLAP",
    ),
    "s170_header_unaligned": file(
        st((t := text({"x": entry("F64", [2], [0, 16])})) + " " * (-len(t) % 8 + 3), pad=False),
        "note", "ST_UNALIGNED_DATA",
    ),
    "s171_tensor_unaligned": file(
        st({"a": entry("U8", [1], [0, 1]), "b": entry("F32", [1], [1, 5])}, b"\1" + struct.pack("<f", 1)),
        "warn", "ST_UNALIGNED_TENSOR",
    ),
}  # fmt: skip

NAMES = {
    "s078_dup_nfc_nfd": file(st({
        "\u00e9": entry("I32", [1], [0, 4]), "e\u0301": entry("I32", [1], [4, 8]),
    }, b"\1" * 8), "warn", "ST_NAME_CONFUSABLE"),
    "s080_name_empty": named("", "warn", "ST_NAME_UNSAFE"),
    "s081_name_nul": named("a\0b", "warn", "ST_NAME_UNSAFE"),
    "s082_name_ansi": named("\x1b[31mred", "warn", "ST_NAME_UNSAFE"),
    "s086_name_newline": named("a\nb", "warn", "ST_NAME_UNSAFE"),
    "s088_name_html": named("<script>alert(1)</script>", "warn", "ST_NAME_UNSAFE"),
    "s090_name_1mib": named("a" * (1 << 20), "warn", "ST_NAME_TOO_LONG"),
    "s091_name_meta_is_tensor": file(st({"__metadata__": entry()}), "fail", "ST_BAD_METADATA"),
    "s181_meta_null_value": file(st({"__metadata__": {"a": None}, **PLAIN}), "fail", "ST_BAD_METADATA"),
    "s182_meta_nested": file(st({"__metadata__": {"a": {}}, **PLAIN}), "fail", "ST_BAD_METADATA"),
    "s185_meta_null": file(st({"__metadata__": None, **PLAIN}), "warn", "ST_METADATA_NULL"),
    "s186_meta_empty_key": file(st({"__metadata__": {"": ""}, **PLAIN}), "note", "ST_METADATA_ODD"),
    "s187_meta_ansi": file(
        st({"__metadata__": {"a": "\x1b]0;x\7"}, **PLAIN}), "warn", "ST_METADATA_UNSAFE"
    ),
}  # fmt: skip

CASES = LENGTH | JSON | ENTRIES | OFFSETS | NAMES
