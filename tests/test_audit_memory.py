"""How much memory an audit takes: 64 MiB, 8 times the headers and 4 MiB a thread above a bare start, at most.

Anonymous memory counts: pages of the file cache belong to nobody.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from checkpoints import saelens_arrays, unit_rows, write_saelens

MIB = 1 << 20
THREADS = 4


def anonymous_peak(*arguments):
    """Largest anonymous memory of a command in bytes, looked at every half millisecond."""
    with subprocess.Popen(
        [sys.executable, "-m", "unitrow", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        peak, status = 0, Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text(encoding="ascii").splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) << 10)
            time.sleep(0.0005)
        assert process.returncode in {0, 1, 3}
    return peak


def sparse(path, shapes):
    """A safetensors file of zeros that take no room; returns the length of its header."""
    entries, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return len(text)


def contiguous(folder):
    return sparse(folder / "x.safetensors", {"W_dec": (65536, 4096), "b_enc": (65536,), "b_dec": (4096,)})


def strided(folder):
    return sparse(folder / "x.safetensors", {"W_dec": (4096, 32768), "b_enc": (32768,), "b_dec": (4096,)})


def long_rows(folder):
    return sparse(folder / "x.safetensors", {"W_dec": (64, 1 << 20), "b_enc": (64,), "b_dec": (1 << 20,)})


def many_tensors(folder):
    return sparse(folder / "x.safetensors", {f"tensor number {index}": (2, 2) for index in range(50_000)})


def many_headers(folder):
    """Batches that were closed after so many files kept the headers of all of these."""
    for index in range(40):
        (folder / str(index)).mkdir()
        sparse(folder / str(index) / "x.safetensors", {f"tensor {place}": (2, 2) for place in range(4000)})
    return 0


def many_files(folder):
    for index in range(500):
        write_saelens(folder / str(index), unit_rows(16, 8))
    return 0


def compressed(folder):
    np.savez_compressed(folder / "params.npz", **saelens_arrays(unit_rows(8192, 512)))
    return 0


@pytest.mark.parametrize(
    "make", [contiguous, strided, long_rows, many_tensors, many_headers, many_files, compressed]
)
@pytest.mark.parametrize("digest", ["none", "sha256"])
def test_memory_is_bounded(tmp_path, make, digest):
    header = make(tmp_path)
    bare = anonymous_peak("--version")
    peak = anonymous_peak("audit", str(tmp_path), "-j", str(THREADS), "--hash", digest, "--format", "concise")
    allowed = 64 * MIB + 8 * header + 4 * MIB * THREADS
    assert peak - bare <= allowed, f"{(peak - bare) / MIB:.0f} MiB of {allowed / MIB:.0f} MiB"
