"""One pass over a large file in the page cache, against only reading it, and against what people run.

Each row is a median of rounds in which all commands take turns, so that what else the machine does hits all
of them. All run in this process, with as many threads, and without its start; only `sha256sum`, `b3sum` and
the child of `--io mmap` are started each time. `b3sum` is taken from the path or from .bench/bin:
`cargo install b3sum --root .bench`. `--quick`: a file of 150 MB. `--only WORD...`: commands with one of these
words in their names.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from audit import write_large

import unitrow as ur
from unitrow import _native

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1 << 20
THREADS = _native.available_threads()
D_IN = 4096

# What is claimed, the peer, what is compared with it, and the least ratio that is wanted.
CLAIMS = [
    ("norms + values, of a plain read", "plain read", "audit", 0.85),
    ("norms + values, mapped / read", "audit", "audit --io mmap", None),
    ("against safetensors numpy + norm", "safetensors numpy + norm", "audit", 15),
    ("with SHA-256, of hashing alone", "sha256 alone", "audit --hash sha256", 0.95),
    ("against sha256sum, then torch norms", "sha256sum, then torch norms", "audit --hash sha256", 1.5),
    ("with BLAKE3, of b3sum", "b3sum", "audit --hash blake3", 0.85),
    ("with BLAKE3, of BLAKE3 alone", "blake3 alone", "audit --hash blake3", None),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("UNITROW_BENCH_DIR")) as folder:
        write_large(Path(folder, "sae"), size=150_000_000 if chosen.quick else 1_200_000_000, d_in=D_IN)
        path = Path(folder, "sae", "sae_weights.safetensors")
        size = path.stat().st_size
        runs = contestants(path)
        wanted = [name for name in runs if any(word in name for word in chosen.only)]
        took = in_turns({name: runs[name] for name in wanted}, chosen.rounds)
    print(f"{size / 1e9:.2f} GB, {THREADS} threads, medians of {chosen.rounds} rounds")
    for name, seconds in took.items():
        print(f"  {name:<34} {1e3 * seconds:9.1f} ms {size / seconds / 1e9:7.2f} GB/s")
    plain = ["plain positional read", "plain mapped read"]
    if all(name in took for name in plain):
        took["plain read"] = min(took[name] for name in plain)
    both = ["sha256sum", "safetensors torch norm loop"]
    if all(name in took for name in both):
        took["sha256sum, then torch norms"] = sum(took[name] for name in both)
    for name, peer, ours, goal in CLAIMS:
        if peer in took and ours in took:
            found = took[peer] / took[ours]
            verdict = "" if goal is None else f"goal {goal:g} {'ok' if found >= goal else 'MISSED'}"
            print(f"{name:<36} {found:6.2f} {verdict}")
    if "b3sum" not in runs:
        print("b3sum is not here: cargo install b3sum --root .bench")


def contestants(path: Path) -> dict[str, Callable[[], object]]:
    runs: dict[str, Callable[[], object]] = {
        "plain positional read": lambda: in_threads(path, read_blocks),
        "plain mapped read": lambda: in_threads(path, sum_map),
        "audit": lambda: ur.audit(path),
        "audit --io mmap": lambda: ur.audit(path, io="mmap"),
        "audit --hash sha256": lambda: ur.audit(path, hash="sha256"),
        "audit --hash blake3": lambda: ur.audit(path, hash="blake3"),
        "sha256 alone": lambda: _native.digest_files([(path, ["sha256"], None)]),
        "blake3 alone": lambda: _native.digest_files([(path, ["blake3"], None)]),
        "sha256sum": lambda: command("sha256sum", path),
        "safetensors numpy + norm": lambda: norms_with_numpy(path),
        "safetensors torch norm loop": lambda: norms_with_torch(path),
    }
    b3sum = shutil.which("b3sum") or shutil.which("b3sum", path=".bench/bin")
    if b3sum:
        runs["b3sum"] = lambda: command(b3sum, path)
    return runs


def in_turns(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds by name, after a first round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def command(*arguments: object) -> None:
    subprocess.run([str(one) for one in arguments], stdout=subprocess.DEVNULL, check=True)


def in_threads(path: Path, work: Callable[[Path, int, int], None]) -> None:
    """Divide a file evenly among all threads."""
    size = path.stat().st_size
    share = -(-size // (THREADS * BLOCK)) * BLOCK
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda at: work(path, at, min(at + share, size)), range(0, size, share)))


def read_blocks(path: Path, start: int, end: int) -> None:
    buffer = bytearray(BLOCK)
    file = os.open(path, os.O_RDONLY)
    for at in range(start, end, BLOCK):
        os.preadv(file, [buffer], at)
    os.close(file)


def sum_map(path: Path, start: int, end: int) -> None:
    data = np.memmap(path, np.uint8, "r")[start:end]
    data[: len(data) // 8 * 8].view(np.uint64).sum()


def norms_with_numpy(path: Path) -> None:
    from safetensors.numpy import load_file

    np.linalg.norm(load_file(path)["W_dec"], axis=1)


def norms_with_torch(path: Path) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  (it is no mapping)
            tensor = file.get_tensor(name)
            if tensor.ndim == 2:
                torch.linalg.vector_norm(tensor, dim=-1)


if __name__ == "__main__":
    main()
