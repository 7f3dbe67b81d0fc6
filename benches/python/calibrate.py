"""How far the values of sound checkpoints are from what an audit calls odd, computed with numpy alone.

    python benches/python/calibrate.py FILE.safetensors...

One line a file, the most extreme figures of its float matrices; docs/integrity.md has the limits.

gap: powers of two between the few largest values and the next. stored, swapped: distance of the quartiles of
exponents, as stored and with bytes swapped. text: longest printable stretch of bytes. zero rows: how many.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FORMATS = {"F64": ("u8", 52, 11), "F32": ("u4", 23, 8), "F16": ("u2", 10, 5), "BF16": ("u2", 7, 8)}
FEW = 16


def main() -> None:
    print(
        f"{'file':<44} {'matrices':>8} {'gap':>4} {'stored':>6} {'swapped':>7} {'text':>5} {'zero rows':>9}"
    )
    for path in map(Path, sys.argv[1:]):
        found = [figures(*one) for one in matrices(path.read_bytes())]
        if found:
            gap, stored, swapped, text, rows = np.array(found).T
            line = f"{gap.max():>4} {stored.max():>6} {swapped.min():>7} {text.max():>5} {rows.sum():>9}"
            print(f"{'/'.join(path.parts[-3:])[-44:]:<44} {len(found):>8} {line}")


def matrices(data: bytes) -> Iterator[tuple[bytes, str, list[int]]]:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in FORMATS and len(entry["shape"]) > 1:
            first, end = entry["data_offsets"]
            yield data[8 + length + first : 8 + length + end], entry["dtype"], entry["shape"]


def figures(data: bytes, dtype: str, shape: list[int]) -> tuple[int, int, int, int, int]:
    word, mantissa, width = FORMATS[dtype]
    bits = np.frombuffer(data, f"<{word}")
    exponents = exponent(bits, mantissa, width)
    stretches = re.findall(rb"[ -~\t\r\n]{8,}", data[: 64 << 20])
    magnitude = bits & ((1 << (mantissa + width)) - 1)
    rows = magnitude.reshape(-1, shape[-1])
    ordinary = bits[magnitude != 0]
    return (
        gap(exponents[magnitude != 0]),
        quartiles(exponent(ordinary, mantissa, width)),
        quartiles(exponent(ordinary.byteswap(), mantissa, width)),
        max(map(len, stretches), default=0),
        int((rows.max(axis=1) == 0).sum()),
    )


def exponent(bits: NDArray[Any], mantissa: int, width: int) -> NDArray[np.int64]:
    return (bits >> mantissa).astype(np.int64) & ((1 << width) - 1)


def quartiles(exponents: NDArray[np.int64]) -> int:
    return int(np.subtract(*np.percentile(exponents, [75, 25]))) if exponents.size else 0


def gap(exponents: NDArray[np.int64]) -> int:
    """Largest distance between neighbours among the largest exponents."""
    largest = np.sort(exponents)[::-1][: FEW + 1]
    return int(-np.diff(largest).min()) if largest.size > 1 else 0


if __name__ == "__main__":
    main()
