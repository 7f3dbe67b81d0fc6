"""The price of unit rows in a training step, and of shuffled shards against a plain read.

    python benches/python/training.py [--quick] [--only step|shards] [--rounds N] [--record FILE.json]

The full size takes 10 GB of memory and a quarter of a minute a step on two cores. Ours and the peers' are
taken in turn, with all threads. Files are read from the page cache: a disk only narrows the differences.

Shards are compared with two plain reads of the same files. One puts them into memory that is as large as a
file: so does the reader, because a batch has to be somewhere, and besides it shuffles. The other reads them
into one MiB over and over, which stays in the processor's cache, and hands nobody anything.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("UNITROW_NUM_THREADS", str(os.cpu_count() or 1))  # before kernels.py makes it one

import torch
from kernels import machine, print_table

import unitrow.torch as urt
from unitrow import _native
from unitrow.training import ActivationShards, Trainer, TrainerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FULL = {"d_in": 2304, "d_out": 2304, "d_sae": 16384, "batch_size": 4096}
QUICK = {"d_in": 256, "d_out": 256, "d_sae": 2048, "batch_size": 1024}
READ_BYTES = 1 << 20
BATCH = 1024
BUCKET_BATCHES = 16


def medians(
    contestants: dict[str, Callable[[], object]], rounds: int, reset: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Median seconds of each, taken in turn after an untimed `reset`; a first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds + 1):
        for name, run in contestants.items():
            reset()
            started = time.perf_counter()
            run()
            if round_:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def line(
    job: str, ours: float, peer: str, theirs: float, ratio: float, target: float | None
) -> dict[str, object]:
    verdict = None if target is None else ratio >= target
    figures = {"job": job, "ours_s": ours, "peer": peer, "peer_s": theirs, "ratio": ratio}
    return {**figures, "target": target, "pass": verdict}


def step_lines(size: dict[str, int], rounds: int) -> list[dict[str, object]]:
    torch.manual_seed(20)
    name = f"{size['d_out']} x {size['d_sae']}, batch {size['batch_size']}"
    pair = (torch.randn(size["batch_size"], size["d_in"]), torch.randn(size["batch_size"], size["d_out"]))
    with tempfile.TemporaryDirectory() as folder:
        config = TrainerConfig.from_recipe(
            "gemma-scope",
            **size,
            steps=10_000,
            sparsity_coefficient=1e-3,
            checkpoint_every=10_000,
            scale_batches=1,
        )
        trainer = Trainer(config, [pair], folder)
        whole = medians({"step": trainer._update}, rounds)["step"]  # noqa: SLF001  (no files between steps)
    rows, grad = trainer.model.W_dec.detach(), torch.randn_like(trainer.model.W_dec)
    drifted = torch.empty_like(rows)

    def project() -> None:
        urt.remove_parallel_(grad, rows)
        urt.unit_norm_(drifted)

    reset = partial(torch.add, rows, grad, alpha=1e-6, out=drifted)
    projection = medians({"both": project}, 2 * rounds + 1, reset)["both"]
    figures = [
        line(
            f"step, {name}",
            projection,
            "2 % of the whole step (both projections apart)",
            0.02 * whole,
            0.02 * whole / projection,
            1.0,
        )
    ]
    found = medians(optimizers(trainer.model), 2 * rounds + 1)
    rest = whole - found["ours"]
    for peer in ("fused Adam + torch projection", "fused Adam alone"):
        target = 1.0 if "projection" in peer else None
        ratio = found[peer] / found["ours"]
        figures.append(line(f"all updates, {name}", found["ours"], peer, found[peer], ratio, target))
        theirs = rest + found[peer]
        figures.append(line(f"whole step, {name}", whole, peer, theirs, theirs / whole, target))
    return figures


def optimizers(model: urt.JumpReLUTranscoder) -> dict[str, Callable[[], object]]:
    """One update of all parameters, with the decoder kept unit in two ways, and not at all."""
    unit, plain, free = ([p.detach().clone().requires_grad_() for p in model.parameters()] for _ in range(3))
    place = [name for name, _ in model.named_parameters()].index("W_dec")
    for parameters in (unit, plain, free):
        for parameter in parameters:
            parameter.grad = 1e-3 * torch.randn_like(parameter)
    options = {"lr": 7e-5, "betas": (0.0, 0.999)}
    rest = [parameter for number, parameter in enumerate(unit) if number != place]
    ours = urt.UnitNormAdam([{"params": [unit[place]]}, {"params": rest, "unit_norm": False}], **options)
    fused = torch.optim.Adam(plain, fused=True, **options)
    alone = torch.optim.Adam(free, fused=True, **options)

    @torch.no_grad()
    def peer() -> None:
        decoder = plain[place]
        grad = decoder.grad
        grad.sub_((grad * decoder).sum(-1, keepdim=True) * decoder)
        fused.step()
        decoder.div_(torch.linalg.vector_norm(decoder, dim=-1, keepdim=True))

    return {"ours": ours.step, "fused Adam + torch projection": peer, "fused Adam alone": alone.step}


def shard_lines(total_bytes: int, rounds: int) -> list[dict[str, object]]:
    figures = []
    for width, dtype in ((2304, "F32"), (384, "F32"), (384, "BF16")):
        with tempfile.TemporaryDirectory(dir=os.environ.get("UNITROW_BENCH_DIR")) as folder:
            size = 4 if dtype == "F32" else 2
            rows = total_bytes // (2 * width * size)
            write_shards(Path(folder), rows, width, dtype, size)
            shards = ActivationShards(folder, bucket_rows=BUCKET_BATCHES * BATCH)
            stream, count = shards.batches(BATCH), shards.rows // BATCH

            def take(number: int, stream: Iterator[object] = stream) -> None:
                for pair in itertools.islice(stream, number):
                    del pair

            largest = max(path.stat().st_size for path in Path(folder).iterdir())
            memory, small = bytearray(largest), bytearray(READ_BYTES)
            contestants = {
                "ours": partial(take, count),
                "plain read into memory": partial(plain_read, folder, memory),
                "plain read into one MiB of cache": partial(plain_read, folder, small),
            }
            # What was read ahead while the others ran is taken first, untimed.
            found = medians(contestants, rounds, partial(take, BUCKET_BATCHES))
            job = f"shuffled pairs, {dtype} {width} + {width}, {2 * rows * width * size >> 20} MiB"
            for peer, target in (("plain read into memory", 0.8), ("plain read into one MiB of cache", None)):
                ratio = found[peer] / found["ours"]
                figures.append(line(job, found["ours"], peer, found[peer], ratio, target))
    return figures


def write_shards(folder: Path, rows: int, width: int, dtype: str, size: int) -> None:
    part = rows // 4
    block = os.urandom(part * width * size // 64) * 64
    data = block + bytes(part * width * size - len(block))
    for number in range(4):
        tensors = [(name, dtype, [part, width], data) for name in ("inputs", "targets")]
        _native.write_safetensors(str(folder / f"activations-{number:05d}-of-00004.safetensors"), tensors, [])


def plain_read(folder: str, buffer: bytearray) -> None:
    """Read every file from beginning to end into a buffer, over and over."""
    for path in sorted(Path(folder).iterdir()):
        with path.open("rb", buffering=0) as file:
            at = 0
            while count := file.readinto(memoryview(buffer)[at:]):
                at = (at + count) % len(buffer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: to see that it runs")
    parser.add_argument("--only", choices=["step", "shards"], help="one part")
    parser.add_argument("--rounds", type=int, help="how often each is timed, after a first time that is not")
    parser.add_argument("--record", type=Path, help="write figures and machine as JSON")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ["UNITROW_NUM_THREADS"]))
    figures = []
    if options.only != "step":
        figures += shard_lines(
            (1 << 28) if options.quick else (1 << 31), options.rounds or (3 if options.quick else 7)
        )
    if options.only != "shards":
        size = QUICK if options.quick else FULL
        figures += step_lines(size, options.rounds or (5 if options.quick else 3))
    print_table(figures)
    if options.record:
        about = {**machine(), "command": "python benches/python/training.py"}
        options.record.parent.mkdir(parents=True, exist_ok=True)
        options.record.write_text(json.dumps({"machine": about, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
