"""What looking at values costs: an audit of one large file against a plain read of it, in the same run.

The file is in the page cache; each figure is the least of several repeats of whole commands or loops.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unitrow import _native

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS, LEN, COUNT = 16384, 2304, 8
REPEATS = 7


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("UNITROW_BENCH_DIR")) as folder:
        path = Path(folder, "w.safetensors")
        write(path)
        size = path.stat().st_size
        (header,) = _native.read_headers([path])
        decoders = [(index, 1, None) for index in range(COUNT)]
        timed = {
            "positional read, 1 MiB blocks": lambda: read(path),
            "norms of all rows": lambda: _native.scan([(header, decoders, False, None)], 1),
            "values": lambda: _native.scan([(header, [], True, None)], 1),
            "norms and values": lambda: _native.scan([(header, decoders, True, None)], 1),
        }
        least = {name: min(clocked(work) for _ in range(REPEATS)) for name, work in timed.items()}
        plain = least["positional read, 1 MiB blocks"]
        for name, seconds in least.items():
            print(f"{name:<32} {size / seconds / 1e9:6.2f} GB/s  {plain / seconds:5.2f} of a read")


def clocked(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def write(path: Path) -> None:
    matrix = (np.random.default_rng(0).normal(size=(ROWS, LEN)) / LEN**0.5).astype(np.float32)
    _native.write_safetensors(
        path, [(f"w{i}", "F32", [ROWS, LEN], (matrix + np.float32(i)).tobytes()) for i in range(COUNT)], []
    )


def read(path: Path) -> None:
    buffer = bytearray(1 << 20)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        offset = 0
        while count := os.preadv(descriptor, [buffer], offset):
            offset += count
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
