"""Start-up, many small checkpoints, and memory on a large one: what a user of the command line waits for.

Times are medians of separate processes. Memory is anonymous memory at its peak, above that of a bare start:
pages of the file cache do not count.
"""

from __future__ import annotations

import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

SMALL_CHECKPOINTS = 1000
LARGE_BYTES = 4 << 30


def main() -> None:
    rows = [
        ("unitrow --version", "ms", median_ms([unitrow(), "--version"]), 100),
        ("import unitrow", "ms", median_ms([sys.executable, "-c", "import unitrow"], less=bare()), 50),
    ]
    with tempfile.TemporaryDirectory(dir=os.environ.get("UNITROW_BENCH_DIR")) as folder:
        many = Path(folder, "many")
        for index in range(SMALL_CHECKPOINTS):
            write_saelens(many / f"{index:04}", d_sae=128, d_in=62, seed=index)
        name = f"{SMALL_CHECKPOINTS} checkpoints of {size_kib(many / '0000')} KiB"
        audit = [unitrow(), "audit", "--format", "json"]
        rows.append((name, "ms", median_ms([*audit, str(many)], times=3), 2000))
        large = Path(folder, "large")
        write_large(large)
        peak = anonymous_peak([*audit, str(large)]) - anonymous_peak([unitrow(), "--version"])
        rows.append(("4 GiB file, anonymous memory", "MiB", peak, 150))
    for name, unit, found, limit in rows:
        print(f"{name:<36} {found:9.1f} {unit:<4} limit {limit:>5} {'ok' if found <= limit else 'MISSED'}")


def unitrow() -> str:
    return str(Path(sys.executable).with_name("unitrow"))


def median_ms(command: list[str], *, times: int = 11, less: float = 0.0) -> float:
    """Median wall time of a command in milliseconds, less that of what it contains and does not measure."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        taken.append(1e3 * (time.perf_counter() - started))
    return statistics.median(taken) - less


def bare() -> float:
    return median_ms([sys.executable, "-c", "pass"])


def anonymous_peak(command: list[str]) -> float:
    """Largest anonymous memory of a command, in MiB, looked at every millisecond."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            except OSError:
                return
            found = [int(line.split()[1]) for line in lines if line.startswith("Anonymous:")]
            peak[0] = max([peak[0], *found])
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait() != 0:
        message = f"{command} exited with {process.returncode}"
        raise RuntimeError(message)
    watcher.join()
    return peak[0] / 1024


def size_kib(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir()) >> 10


def write_saelens(folder: Path, *, d_sae: int, d_in: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    decoder = generator.normal(size=(d_sae, d_in)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    arrays = {
        "W_dec": decoder,
        "W_enc": np.ascontiguousarray(decoder.T),
        "b_dec": np.ones(d_in, np.float32),
        "b_enc": np.ones(d_sae, np.float32),
        "threshold": np.ones(d_sae, np.float32),
    }
    write_config(folder, d_sae, d_in)
    with (folder / "sae_weights.safetensors").open("wb") as file:
        file.write(header({name: array.shape for name, array in arrays.items()}))
        for array in arrays.values():
            file.write(array.tobytes())


def write_large(folder: Path, *, size: int = LARGE_BYTES, d_in: int = 4096) -> None:
    """A transcoder of unit rows whose decoder and encoder fill about `size` bytes, written in blocks."""
    d_sae = size // (2 * 4 * d_in) // 512 * 512
    shapes = {
        "W_dec": (d_sae, d_in),
        "W_enc": (d_in, d_sae),
        "b_dec": (d_in,),
        "b_enc": (d_sae,),
        "threshold": (d_sae,),
    }
    write_config(folder, d_sae, d_in)
    block = np.random.default_rng(0).normal(size=(1024, d_in)).astype(np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    with (folder / "sae_weights.safetensors").open("wb") as file:
        file.write(header(shapes))
        for index in range(2 * d_sae // len(block)):
            # No page like another: an audit would read such pages once more.
            file.write(np.roll(block, 3 * index, axis=1).tobytes())
        file.write(np.ones(d_in + 2 * d_sae, np.float32).tobytes())


def write_config(folder: Path, d_sae: int, d_in: int) -> None:
    folder.mkdir(parents=True)
    config = {
        "architecture": "jumprelu_transcoder",
        "d_in": d_in,
        "d_out": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
    }
    (folder / "cfg.json").write_text(json.dumps(config), encoding="ascii")


def header(shapes: dict[str, tuple[int, ...]]) -> bytes:
    entries, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * int(np.prod(shape))
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


if __name__ == "__main__":
    main()
