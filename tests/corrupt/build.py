"""Bytes of sound files, and the places where a case breaks them. Nothing here uses the code under test."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A broken (or sound) checkpoint, and what an audit must say about it."""

    build: Callable[[Path], Path | None]
    """Writes it into an empty folder; returns what to audit if that is not the folder."""

    verdict: str
    """`pass`, `note`, `warn`, `fail` or `unreadable`: the worst integrity in the report."""

    codes: frozenset[str]
    """Codes that must be among the findings."""

    digest: str = "none"
    """The digest that the audit computes on the way."""


def case(build, verdict, *codes, digest="none"):
    return Case(build, verdict, frozenset(codes), digest)


def file(data, verdict, *codes, name="model.safetensors", digest="none"):
    """A case of one file with these bytes."""
    return case(lambda folder: (folder / name).write_bytes(data) and None, verdict, *codes, digest=digest)


# safetensors


def entry(dtype="I32", shape=(2, 2), offsets=(0, 16), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def text(members):
    """Header text from members, or from pairs where a name stands twice."""
    pairs = members.items() if isinstance(members, dict) else members
    return "{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}"


def st(header, data=b"\1" * 16, *, pad=True, length=None):
    """A safetensors file; `header` is text, bytes or members, `length` replaces the true header length."""
    if not isinstance(header, (str, bytes)):
        header = text(header)
    raw = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    if pad:
        raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one(**changes):
    """A file of one tensor `test` whose entry has these fields changed or, given None, removed."""
    fields = {**entry(), **changes}
    return st({"test": {key: value for key, value in fields.items() if value is not ...}})


_SAFETENSORS = {"float64": "F64", "float32": "F32", "float16": "F16", "uint8": "U8", "bool": "BOOL"}


def tensors(arrays, *, dtype=None):
    """A sound safetensors file of arrays; `dtype` replaces what their type is called."""
    members, data = {}, b""
    for name, array in arrays.items():
        raw = array.tobytes()
        offsets = (len(data), len(data) + len(raw))
        members[name] = entry(dtype or _SAFETENSORS[array.dtype.name], array.shape, offsets)
        data += raw
    return st(members, data)


def weights(*shape, seed=0, dtype=np.float32):
    """Gaussian numbers, as weights are."""
    return (np.random.default_rng(seed).normal(size=shape) * 0.02).astype(dtype)


# npy and npz


def npy(array):
    descr = np.lib.format.dtype_to_descr(array.dtype)
    return npy_raw(
        f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {array.shape}, }}", array.tobytes()
    )


def npy_raw(literal, data, *, version=(1, 0), magic=b"\x93NUMPY", length=None):
    """An npy file with this header text, padded to a multiple of 64 as numpy does it."""
    size = 2 if version[0] == 1 else 4
    raw = literal.encode("utf-8")
    raw += b" " * (-(len(magic) + 2 + size + len(raw) + 1) % 64) + b"\n"
    length = len(raw) if length is None else length
    return magic + bytes(version) + struct.pack("<H" if size == 2 else "<I", length) + raw + data


@dataclass
class Member:
    """A zip member; what its two headers say can be made to differ."""

    name: str
    data: bytes
    method: int = 0
    local: dict[str, object] = field(default_factory=dict)
    central: dict[str, object] = field(default_factory=dict)

    def stored(self):
        if self.method != 8:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()

    def said(self, changes):
        stored = changes.get("stored", self.stored())
        fields = {
            "name": self.name.encode(),
            "flags": 0,
            "method": self.method,
            "crc": zlib.crc32(self.data),
            "packed": len(stored),
            "size": len(self.data),
            "extra": b"",
            "mode": 0o100600,
            "offset": None,
        }
        return {**fields, **changes}


def zipped(*members, comment=b"", prefix=b""):
    """A zip archive; offsets count from the first byte after `prefix`."""
    body, directory = b"", b""
    for member in members:
        said = member.said(member.local)
        offset = len(body)
        sizes = (said["crc"], said["packed"], said["size"], len(said["name"]), len(said["extra"]))
        body += b"PK\3\4" + struct.pack("<HHHHHIIIHH", 20, said["flags"], said["method"], 0, 0x21, *sizes)
        body += said["name"] + said["extra"] + member.local.get("stored", member.stored())
        said = member.said({**{k: v for k, v in member.local.items() if k == "stored"}, **member.central})
        offset = offset if said["offset"] is None else said["offset"]
        sizes = (said["crc"], said["packed"], said["size"], len(said["name"]), len(said["extra"]))
        directory += b"PK\1\2" + struct.pack("<HHHHHH", 0x314, 20, said["flags"], said["method"], 0, 0x21)
        directory += struct.pack("<IIIHHHHHII", *sizes, 0, 0, 0, said["mode"] << 16, offset)
        directory += said["name"] + said["extra"]
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), len(comment))
    return prefix + body + directory + b"PK\5\6" + end + comment


W = weights(64, 64)
"""The array that most archives hold."""


def npz(*members, **options):
    return zipped(*(members or [Member("w.npy", npy(W))]), **options)
