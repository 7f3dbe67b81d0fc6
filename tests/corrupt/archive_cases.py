"""npz and npy files: records that disagree, members that are not arrays, headers that lie."""

from __future__ import annotations

import struct

import numpy as np
from build import Member, W, case, file, npy, npy_raw, npz, weights, zipped

ARRAY = npy(W)
LITERAL = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {W.shape}, }}"


def archive(verdict, *codes, members=(), **options):
    return file(npz(*members, **options), verdict, *codes, name="params.npz")


def member(verdict, *codes, name="w.npy", data=ARRAY, **options):
    """An archive of one member, whose headers differ as `local` and `central` say."""
    return archive(verdict, *codes, members=[Member(name, data, **options)])


def array(data, verdict, *codes):
    return file(data, verdict, *codes, name="w.npy")


def literal(text, verdict, *codes, data=None, **options):
    """An npy file with this header text."""
    return array(npy_raw(text, W.tobytes() if data is None else data, **options), verdict, *codes)


def shaped(shape, verdict, *codes, descr="<f4", data=None):
    return literal(LITERAL.replace(str(W.shape), shape).replace("<f4", descr), verdict, *codes, data=data)


def bomb(folder):
    """A member that expands a thousandfold, as zeros do, with a checksum that fits."""
    zeros = np.zeros((4097, 4096), np.float32)
    np.savez_compressed(folder / "params.npz", w=zeros)


def quoted():
    """The record of b.npy lies inside the stored data of a.npy."""
    inner = zipped(Member("b.npy", npy(weights(4, 4))))
    inner = inner[: inner.index(b"PK\1\2")]
    outer = npy_raw(LITERAL.replace(str(W.shape), "(4, 4)"), inner.ljust(64, b"\1"))
    at = 30 + len("a.npy") + outer.index(inner)
    hidden = Member("b.npy", npy(weights(4, 4)), local={"stored": b""}, central={"offset": at})
    record = zipped(Member("a.npy", outer), hidden)
    # The local record that the builder wrote for b.npy is not there: only the directory names it.
    first = 30 + len("a.npy") + len(outer)
    start = record.index(b"PK\1\2")
    end = struct.unpack_from("<I", record, len(record) - 6)[0]
    shortened = record[:first] + record[start:]
    sized = 30 + len("b.npy")
    packed = len(npy(weights(4, 4)))
    shortened = bytearray(shortened)
    second = shortened.rindex(b"PK\1\2")
    shortened[second + 20 : second + 28] = struct.pack("<II", packed, packed)
    shortened[-6:-2] = struct.pack("<I", end - sized)
    return bytes(shortened)


def ambiguous():
    """A comment that is the end of another archive."""
    other = npz(Member("v.npy", npy(weights(4, 4))))
    return npz(comment=other[other.index(b"PK\1\2") :])


def zip64_lie(size):
    return {"size": 0xFFFFFFFF, "extra": struct.pack("<HHQ", 1, 8, size)}


ARCHIVES = {
    "ok_stored": archive("pass"),
    "ok_deflated": member("pass", method=8),
    "no_eocd": file(npz()[:-22], "fail", "Z_NO_EOCD", name="params.npz"),
    "deflate_garbage": member(
        "fail", "Z_INFLATE", method=8, local={"stored": b"\xff" * 64}
    ),
    "lfh_cd_name": member("fail", "Z_LOCAL_CENTRAL_MISMATCH", central={"name": b"v.npy"}),
    "lfh_cd_size": member(
        "fail", "Z_LOCAL_CENTRAL_MISMATCH", central={"size": len(ARRAY) - 100, "packed": len(ARRAY) - 100}
    ),
    "overlap_quoted": file(quoted(), "fail", "Z_OVERLAP", name="params.npz"),
    "ratio_bomb": case(bomb, "fail", "Z_BOMB"),
    "declared_bomb": member(
        "fail", "Z_LOCAL_CENTRAL_MISMATCH", central={"size": 2**32 - 2, "packed": 2**32 - 2}
    ),
    "dup_member": archive(
        "fail", "Z_DUP_NAME", members=[Member("w.npy", ARRAY), Member("w.npy", npy(W + 1))]
    ),
    "absolute": member("fail", "Z_PATH", name="/etc/w.npy"),
    "encrypted": member("fail", "Z_ENCRYPTED", local={"flags": 1}, central={"flags": 1}),
    "method_99": member("fail", "Z_METHOD", method=99),
    "method_lie": member("fail", "Z_LOCAL_CENTRAL_MISMATCH", central={"method": 8}),
    "prefix_junk": archive("warn", "Z_PREFIX", prefix=b"\1" * 64),
    "trailing_junk": file(npz() + b"\1" * 64, "warn", "Z_TRAILING", name="params.npz"),
    "comment_eocd": file(ambiguous(), "fail", "Z_AMBIGUOUS_EOCD", name="params.npz"),
    "symlink_member": member("fail", "Z_SYMLINK", central={"mode": 0o120777}),
    "no_npy_ext": archive(
        "note", "Z_UNKNOWN_MEMBER", members=[Member("w.npy", ARRAY), Member("readme.txt", b"hello")]
    ),
    "empty_zip": file(zipped(), "note", "ST_NO_TENSORS", name="params.npz"),
    "crc": member("fail", "Z_CRC", local={"crc": 1}, central={"crc": 1}),
    "nan_in_member": member(
        "fail", "V_NAN", data=npy(np.where(np.arange(64) == 7, np.nan, W).astype(np.float32))
    ),
    "extra_field_breaks_off": member(
        "fail", "Z_LOCAL_CENTRAL_MISMATCH", central={"extra": b"\1\0\xff\xff"}
    ),
    "patched_data": member("fail", "Z_METHOD", local={"flags": 0x20}, central={"flags": 0x20}),
    "zip64_size_lie": member(
        "fail", "Z_LOCAL_CENTRAL_MISMATCH", central=zip64_lie(1 << 40)
    ),
}  # fmt: skip

ARRAYS = {
    "ok_npy": array(ARRAY, "pass"),
    "bad_magic": array(b"\x93NUMPX" + ARRAY[6:], "fail", "NPY_MAGIC"),
    "bad_version": array(ARRAY[:6] + b"\x09\0" + ARRAY[8:], "fail", "NPY_VERSION"),
    "missing_key": literal("{'descr': '<f4', 'fortran_order': False, }", "fail", "NPY_HEADER"),
    "objects": shaped(str(W.shape), "fail", "NPY_OBJECT_PICKLE", descr="|O"),
    "short_data": array(ARRAY[:-1], "fail", "NPY_TRUNCATED"),
    "long_data": array(ARRAY + b"\1" * 4096, "warn", "NPY_TRAILING"),
    "neg_shape": shaped("(-64, -64)", "fail", "NPY_HEADER"),
    "huge_shape": shaped(f"({2**62},)", "fail", "NPY_TRUNCATED"),
    "overflowing_shape": shaped(f"({2**62}, {2**62})", "fail", "NPY_OVERFLOW"),
    "nothing_in_a_shape_too_big": shaped(f"(0, {2**62}, {2**62})", "fail", "NPY_OVERFLOW", data=b""),
    "npy_no_elements": shaped("(0, 64)", "note", "ST_EMPTY_TENSOR", data=b""),
    "npy_rank_65": shaped(f"({'1, ' * 65})", "warn", "ST_RANK_LIMIT", data=W.tobytes()[:4]),
    "big_endian": array(npy(W.astype(">f4")), "pass"),
    "header_past_eof": array(npy_raw(LITERAL, b"", length=65535), "fail", "NPY_TRUNCATED"),
    "v3_utf8": literal(
        "{'descr': [('h\u00e9', '<f4')], 'fortran_order': False, 'shape': (4,), }",
        "warn", "NPY_STRUCTURED", data=weights(4).tobytes(), version=(3, 0),
    ),
    "header_20k": literal(
        LITERAL + " " * 20_000, "warn", "NPY_HEADER_OVERSIZE", version=(2, 0)
    ),
}  # fmt: skip

CASES = ARCHIVES | ARRAYS
