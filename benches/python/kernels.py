"""Kernels and torch operations against their peers, in one process and one run: prints the table of targets.

    python benches/python/kernels.py [--quick] [--only TEXT] [--record FILE.json]

Times are medians; ours and the peers' are taken in turn, so that a noisy neighbour disturbs all alike, and in
another order each round, so that none always finds in the cache what the one before it has read. One thread
each, which stays on one CPU, unless a row says otherwise: two have processes of their own, and there the
fastest round counts.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("UNITROW_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", os.environ["UNITROW_NUM_THREADS"])

import numpy as np
import torch
from torch.nn import functional

import unitrow as ur
import unitrow.torch as urt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS, LENGTH = 16384, 2304
LOAD_AT_START = os.getloadavg()[0]


@dataclass
class Job:
    """One line or more of the table: ours, its peers, and by how much we are to beat each."""

    name: str
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]]
    # Peer to the least ratio of its time to ours.
    targets: dict[str, float]
    len_bytes: int
    # Run before each timed call, untimed.
    reset: Callable[[], object] = field(default=lambda: None)
    # For calls too short for one clock reading.
    calls: int = 1


def rate_jobs() -> list[Job]:
    torch.manual_seed(20)
    x = torch.randn(ROWS, LENGTH)
    wide = torch.randn(LENGTH, ROWS)
    cached = torch.randn(256, LENGTH)
    size = x.numel() * 4
    jobs = [
        Job(
            f"row norms f32, last axis {ROWS}x{LENGTH}",
            lambda: ur.row_norms(x),
            {
                "torch.linalg.vector_norm": lambda: torch.linalg.vector_norm(x, dim=1),
                "the same, dtype=float64": lambda: torch.linalg.vector_norm(x, dim=1, dtype=torch.float64),
                "numpy einsum": lambda: np.sqrt(np.einsum("ij,ij->i", x.numpy(), x.numpy())),
                "numpy.linalg.norm": lambda: np.linalg.norm(x.numpy(), axis=1),
                "plain read (libc memchr)": plain_read(size),
            },
            {
                "torch.linalg.vector_norm": 1.0,
                "the same, dtype=float64": 20.0,
                "plain read (libc memchr)": 0.9,
            },
            size,
        ),
        Job(
            f"row norms f32, in cache 256x{LENGTH}",
            lambda: ur.row_norms(cached),
            {"torch.linalg.vector_norm": lambda: torch.linalg.vector_norm(cached, dim=1)},
            {"torch.linalg.vector_norm": 1.5},
            cached.numel() * 4,
            calls=10,
        ),
        Job(
            f"row norms f32, strided axis {LENGTH}x{ROWS}",
            lambda: ur.row_norms(wide, 0),
            {
                "torch.linalg.vector_norm": lambda: torch.linalg.vector_norm(wide, dim=0),
                "numpy einsum": lambda: np.sqrt(np.einsum("ij,ij->j", wide.numpy(), wide.numpy())),
                "ours, last axis": lambda: ur.row_norms(x),
            },
            {"torch.linalg.vector_norm": 25.0, "numpy einsum": 1.5, "ours, last axis": 0.75},
            size,
        ),
    ]
    for dtype, target in ((torch.bfloat16, 1.1), (torch.float16, 8.0), (torch.float8_e4m3fn, 40.0)):
        narrow = x.to(dtype)
        upcast = dtype.itemsize == 1

        def peer(narrow: torch.Tensor = narrow, *, upcast: bool = upcast) -> torch.Tensor:
            return torch.linalg.vector_norm(narrow.float() if upcast else narrow, dim=1)

        name = "torch, upcast then norm" if upcast else "torch.linalg.vector_norm"
        jobs.append(
            Job(
                f"row norms {str(dtype).removeprefix('torch.')}, last axis {ROWS}x{LENGTH}",
                lambda narrow=narrow: ur.row_norms(narrow),
                {name: peer},
                {name: target},
                x.numel() * dtype.itemsize,
            )
        )
    return jobs


def renormalise_job() -> Job:
    original = torch.randn(ROWS, LENGTH)
    w = original.clone()
    peers = {
        "torch w.div_(vector_norm)": lambda: w.div_(torch.linalg.vector_norm(w, dim=1, keepdim=True)),
        "torch.renorm_": lambda: w.renorm_(2, 0, 1.0),
        "torch F.normalize": lambda: functional.normalize(w, dim=1),
        # What memory allows: as many bytes read and written, and no norm.
        "scale by a constant (torch mul_)": lambda: w.mul_(0.5),
    }
    targets = {"torch w.div_(vector_norm)": 1.6, "torch.renorm_": 1.6, "torch F.normalize": 6.0}
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: its row is left out", file=sys.stderr)
    else:
        faiss.omp_set_num_threads(1)
        peers["faiss.normalize_L2"] = lambda: faiss.normalize_L2(w.numpy())
        targets["faiss.normalize_L2"] = 1.6
    return Job(
        f"renormalise in place f32 {ROWS}x{LENGTH}",
        lambda: ur.normalize_rows_(w),
        peers,
        targets,
        2 * 4 * w.numel(),
        # Unit rows would be left alone: every call starts from the same rows.
        reset=lambda: w.copy_(original),
    )


def adam_job() -> Job:
    start, grad = torch.randn(ROWS, LENGTH), torch.randn(ROWS, LENGTH)
    urt.unit_norm_(start)

    def stepper(make: Callable[[torch.nn.Parameter], torch.optim.Optimizer]) -> Callable[[], object]:
        w = torch.nn.Parameter(start.clone())
        w.grad = grad.clone()
        return make(w).step

    def composed(w: torch.nn.Parameter) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam([w], fused=True)

        def project(*_: object) -> None:
            along = torch.einsum("ij,ij->i", w.grad, w.data)
            w.grad -= along[:, None] * w.data

        optimizer.register_step_pre_hook(project)
        optimizer.register_step_post_hook(
            lambda *_: w.data.div_(torch.linalg.vector_norm(w.data, dim=1, keepdim=True))
        )
        return optimizer

    return Job(
        f"constrained Adam step f32 {ROWS}x{LENGTH}",
        stepper(lambda w: urt.UnitNormAdam([w])),
        {
            "torch Adam(fused=True), unconstrained": stepper(lambda w: torch.optim.Adam([w], fused=True)),
            "fused Adam, projection, renorm in torch": stepper(composed),
        },
        {
            "torch Adam(fused=True), unconstrained": 1 / 1.15,
            "fused Adam, projection, renorm in torch": 4.5,
        },
        7 * 4 * start.numel(),
    )


def small_jobs() -> list[Job]:
    jobs = []
    for rows, length in ((1, 64), (8, 2048), (64, 2048)):
        x = torch.randn(rows, length)
        a = x.numpy()
        kib = rows * length * 4 // 1024
        jobs.append(
            Job(
                f"small call {rows}x{length} ({kib} KiB)",
                lambda x=x: ur.row_norms(x),
                {
                    "torch.linalg.vector_norm": lambda x=x: torch.linalg.vector_norm(x, dim=1),
                    "numpy.linalg.norm": lambda a=a: np.linalg.norm(a, axis=1),
                    "custom operator urt.row_norms": lambda x=x: urt.row_norms(x),
                },
                {"torch.linalg.vector_norm": 1.0} if kib >= 64 else {},
                rows * length * 4,
                calls=2000 if kib < 64 else 200,
            )
        )
    return jobs


def plain_read(len_bytes: int) -> Callable[[], object]:
    """Reads as many bytes with the C library's search for one that is not there.

    A tensor, since where huge pages are on request numpy asks for them and torch does not: rows in small
    pages are to be compared with a read of small pages.
    """
    buffer = torch.full((len_bytes,), 1, dtype=torch.uint8)
    memchr = ctypes.CDLL(None).memchr
    memchr.restype, memchr.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return lambda: memchr(buffer.data_ptr(), 2, buffer.nbytes)


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """Keeps this thread on one CPU, where the system can.

    On CPUs that share no cache what was just written stays behind when the thread moves, and one call in
    place takes half as long as the next, or twice.
    """
    if sys.platform != "linux":
        yield
        return
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def call_seconds(
    job: Job,
    rounds: int,
    least_seconds: float = 0.0,
    of: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Seconds of a call of ours and of each peer, taken in turn: `of` all rounds, by default their median.

    As many rounds as `least_seconds` take, and `rounds` at least: a neighbour's burst outlasts 25 short ones.
    """
    contestants = {"ours": job.ours, **job.peers}
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    order, began, round_ = np.random.default_rng(20), time.perf_counter(), 0
    while round_ < rounds + 2 or time.perf_counter() - began < least_seconds:
        for name in order.permutation(list(contestants)):
            run = contestants[name]
            job.reset()
            started = time.perf_counter()
            for _ in range(job.calls):
                run()
            if round_ >= 2:  # the first two warm up
                taken[name].append((time.perf_counter() - started) / job.calls)
        round_ += 1
    return {name: of(times) for name, times in taken.items()}


def lines_of(job: Job, seconds: dict[str, float]) -> list[dict[str, object]]:
    ours = seconds["ours"]
    lines = []
    for peer in job.peers:
        ratio = seconds[peer] / ours
        target = job.targets.get(peer)
        lines.append(
            {
                "job": job.name,
                "ours_s": ours,
                "ours_gb_per_s": job.len_bytes / ours / 1e9,
                "peer": peer,
                "peer_s": seconds[peer],
                "ratio": ratio,
                "target": target,
                "pass": None if target is None else ratio >= target,
            }
        )
    if "(0 KiB)" in job.name:
        over = 1e6 * (ours - seconds["torch.linalg.vector_norm"])
        line = {**lines[0], "peer": "torch.linalg.vector_norm, microseconds over it", "ratio": over}
        lines.append({**line, "target": 1.5, "pass": over <= 1.5})
    return lines


def thread_lines(*, quick: bool) -> list[dict[str, object]]:
    """Two threads against one, each in a process of its own, since the pool is made once.

    The fastest round in any of some processes each: a core that shares its units with somebody else's thread
    is slower by half, whichever process that happens to. Below 16 MiB both run the same code, on one thread.
    """
    lines = []
    probes: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(1 if quick else 7):
        for threads, found in probes.items():
            environment = {**os.environ, "UNITROW_NUM_THREADS": str(threads)}
            command = [sys.executable, __file__, "--probe"]
            said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
            found.append(json.loads(said))
    for name in probes[1][0]:
        one, two = (min(probe[name] for probe in probes[n]) for n in (1, 2))
        # A tie is measured within a few per cent only.
        lines.append(
            {
                "job": f"two threads, {name}",
                "ours_s": two,
                "ours_gb_per_s": None,
                "peer": "ours, one thread",
                "peer_s": one,
                "ratio": one / two,
                "target": 0.95,
                "pass": one / two >= 0.95,
            }
        )
    return lines


def probe() -> None:
    """Prints the seconds of a call at a few sizes in this process, in the fastest round."""
    found = {}
    for rows, length, calls in (
        (1, 64, 2000),
        (16, 1024, 500),
        (64, 2048, 50),
        (512, 2048, 10),
        (ROWS, LENGTH, 1),
    ):
        x = torch.randn(rows, length)
        kib = rows * length * 4 // 1024
        job = Job("", lambda x=x: ur.row_norms(x), {}, {}, 0, calls=calls)
        found[f"row norms f32 {kib} KiB"] = call_seconds(job, 15, of=min)["ours"]
    print(json.dumps(found))


def print_table(lines: list[dict[str, object]]) -> None:
    shown = ""
    print(f"{'job':<44} {'ours':>11}  {'peer':<42} {'peer':>11} {'ratio':>7} {'target':>7}")
    for line in lines:
        name = line["job"] if line["job"] != shown else ""
        shown = str(line["job"])
        target = "" if line["target"] is None else f"{line['target']:.2f}"
        verdict = {None: "", True: "pass", False: "MISSED"}[line["pass"]]
        print(
            f"{name:<44} {duration(line['ours_s']):>11}  {line['peer']:<42} {duration(line['peer_s']):>11} "
            f"{line['ratio']:>7.2f} {target:>7} {verdict}"
        )


def duration(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms" if seconds >= 1e-4 else f"{1e6 * seconds:.3f} us"


def machine() -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    model = next(
        (
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        )
        if info.exists()
        else iter(()),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "numpy": np.__version__,
        "unitrow": ur.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        # Well above zero at the start: other work took cores and memory bandwidth from all contestants.
        "load_average": LOAD_AT_START,
        "command": "python benches/python/kernels.py",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs")
    parser.add_argument("--only", default="", help="jobs whose name holds this text")
    parser.add_argument("--record", type=Path, help="write figures and machine as JSON")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.probe:
        probe()
        return
    rounds, least_seconds = (3, 0.0) if options.quick else (25, 2.0)
    lines: list[dict[str, object]] = []
    with one_cpu():
        for make in (rate_jobs, lambda: [renormalise_job()], lambda: [adam_job()], small_jobs):
            for job in make():
                if options.only in job.name:
                    lines += lines_of(job, call_seconds(job, rounds, least_seconds))
    if options.only in "two threads":
        lines += thread_lines(quick=options.quick)
    print_table(lines)
    if options.record:
        options.record.parent.mkdir(parents=True, exist_ok=True)
        options.record.write_text(json.dumps({"machine": machine(), "figures": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
