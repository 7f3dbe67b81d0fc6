"""Sound structure around values that no training leaves."""

from __future__ import annotations

import numpy as np
from build import entry, file, st, tensors, weights

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>The server is busy, try later.</body></html>"


def changed(change, *, shape=(64, 256), dtype=np.float32):
    """A file of one matrix `w`, changed in place."""
    array = weights(*shape, dtype=dtype)
    change(array)
    return tensors({"w": array})


def bits(dtype, name, *codes):
    """A file of one vector of these bit patterns."""
    return tensors({"w": np.array(codes, dtype)}, dtype=name)


def packed(name, elements):
    """Every byte there is, in a dtype of fewer than eight bits; each of its codes is finite."""
    data = bytes(range(256)) * 3
    data = data[: elements * int(name[1]) // 8]
    return file(st({"w": entry(name, [elements], [0, len(data)])}, data), "pass")


def put(where, value):
    def change(array):
        array[where] = value

    return change


def tail(length, byte):
    """A file whose last bytes were lost."""
    whole = changed(lambda _: None)
    return whole[:-length] + bytes([byte]) * length


def with_text():
    whole = bytearray(changed(lambda _: None))
    whole[30_001 : 30_001 + len(PAGE)] = PAGE
    return bytes(whole)


def lost_page():
    whole = bytearray(changed(lambda _: None, shape=(64, 250)))
    whole[8192:16384] = bytes(8192)
    return bytes(whole)


CASES = {
    "nan": file(changed(put((3, 5), np.nan)), "fail", "V_NAN"),
    "inf": file(changed(put((3, 5), -np.inf)), "fail", "V_INF"),
    "signalling_nan": file(bits(np.uint32, "F32", 0x3F800000, 0x7FA00000), "fail", "V_NAN"),
    "all_zero_tensor": file(changed(put(slice(None), 0)), "warn", "V_ALL_ZERO"),
    "zero_rows": file(changed(put(slice(10, 13), 0)), "warn", "V_ZERO_ROW"),
    "lost_page": file(lost_page(), "fail", "V_ZERO_PAGES"),
    "lost_tail": file(tail(32 << 10, 0), "fail", "V_ZERO_PAGES"),
    "bool_2": file(bits(np.uint8, "BOOL", 0, 1, 2, 255), "fail", "V_BAD_BOOL"),
    "byteswapped": file(tensors({"w": weights(64, 256).byteswap()}), "fail", "V_NAN", "V_SUSPECT_ENDIAN"),
    "bf16_nan": file(bits(np.uint16, "BF16", 0x3F80, 0x7FC0), "fail", "V_NAN"),
    "f8_e5m2_inf_nan": file(bits(np.uint8, "F8_E5M2", 0x3C, 0x7C, 0x7E), "fail", "V_INF", "V_NAN"),
    "f4_no_nan": packed("F4", 512),
    "f6_e2m3_no_nan": packed("F6_E2M3", 1024),
    "f6_e3m2_no_nan": packed("F6_E3M2", 1024),
    "f64_huge": file(changed(put(5, 1e200), dtype=np.float64), "warn", "V_ROW_NORM_OVERFLOW"),
    "f32_subnormal_row": file(changed(put(5, 1e-40)), "note", "V_SUBNORMAL"),
    "outlier": file(changed(put((5, 5), 1e30)), "warn", "V_OUTLIER"),
    "dup_block": file(tensors({"w": np.tile(weights(4096), 2).reshape(32, 256)}), "note", "V_DUP_BLOCK"),
    "constant_0xff": file(tail(4096, 0xFF), "fail", "V_NAN"),
    "text_in_weights": file(with_text(), "warn", "V_FOREIGN_TEXT"),
}
