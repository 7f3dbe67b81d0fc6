"""The constraint on a GPU, where it is made of torch operations: what float64 costs against float32.

    python benches/python/gpu.py [--quick] [--record FILE.json]

Times are medians, ours and the peers' taken in turn, each until the device is idle again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from kernels import LENGTH, ROWS, Job, call_seconds, lines_of, machine, print_table
from torch.nn import functional

import unitrow.torch as urt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH = 4096
NOT_COMPILED = "ours, as it comes"
NORM, DIV = "torch.linalg.vector_norm", "torch w.div_(vector_norm)"
ADAM, COMPOSED = "torch Adam(fused=True), unconstrained", "fused Adam, projection, renorm in torch"


def finished(work: Callable[[], object]) -> Callable[[], object]:
    """`work`, until the device has done it."""

    def run() -> None:
        work()
        torch.cuda.synchronize()

    return run


def div_(w: torch.Tensor) -> torch.Tensor:
    return w.div_(torch.linalg.vector_norm(w, dim=1, keepdim=True))


def project_(grad: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return grad.sub_(torch.einsum("ij,ij->i", grad, w)[:, None] * w)


def composed(parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam([parameter], fused=True)
    optimizer.register_step_pre_hook(lambda *_: (project_(parameter.grad, parameter.data), None)[1])
    optimizer.register_step_post_hook(lambda *_: (div_(parameter.data), None)[1])
    return optimizer


def jobs(dtype: torch.dtype) -> Iterator[Job]:
    torch.manual_seed(20)
    original = torch.randn(ROWS, LENGTH, device="cuda").to(dtype)
    unit = urt.unit_norm_(original.clone())
    grad = torch.randn(ROWS, LENGTH, device="cuda").to(dtype)
    w, g = original.clone(), grad.clone()
    size = original.numel() * dtype.itemsize
    name = f"{str(dtype).removeprefix('torch.')} {ROWS}x{LENGTH}"

    def reset() -> None:
        w.copy_(original)
        g.copy_(grad)
        torch.cuda.synchronize()

    def job(what: str, ours: Callable[[], object], streams: int, **peers: Callable[[], object]) -> Job:
        peers = {peer: finished(run) for peer, run in peers.items()}
        return Job(f"{what} {name}", finished(ours), peers, {}, streams * size, reset=reset)

    yield job(
        "row norms",
        lambda: urt.row_norms(w),
        1,
        **{
            NORM: lambda: torch.linalg.vector_norm(w, dim=1),
            "the same, dtype=float64": lambda: torch.linalg.vector_norm(w, dim=1, dtype=torch.float64),
        },
    )
    yield job(
        "renormalise",
        lambda: urt.unit_norm_(w, compiled=True),
        2,
        **{
            NOT_COMPILED: lambda: urt.unit_norm_(w),
            DIV: lambda: div_(w),
            "torch F.normalize": lambda: functional.normalize(w, dim=1),
        },
    )
    yield job(
        "project gradient",
        lambda: urt.remove_parallel_(g, unit, compiled=True),
        3,
        **{
            NOT_COMPILED: lambda: urt.remove_parallel_(g, unit),
            "torch einsum, sub_": lambda: project_(g, unit),
        },
    )

    def stepper(make: Callable[[torch.nn.Parameter], torch.optim.Optimizer]) -> Callable[[], object]:
        parameter = torch.nn.Parameter(unit.clone())
        parameter.grad = grad.clone()
        return make(parameter).step

    yield job(
        "constrained Adam step",
        stepper(lambda parameter: urt.UnitNormAdam([parameter], fused=True, compiled=True)),
        7,
        **{
            NOT_COMPILED: stepper(lambda parameter: urt.UnitNormAdam([parameter])),
            ADAM: stepper(lambda parameter: torch.optim.Adam([parameter], fused=True)),
            COMPOSED: stepper(composed),
        },
    )


def training_jobs() -> Iterator[Job]:
    """A whole step of a transcoder, the constraint included."""
    torch.manual_seed(20)
    x = torch.randn(BATCH, LENGTH, device="cuda")

    def trainer(constrain: Callable[[torch.nn.Parameter], torch.optim.Optimizer]) -> Callable[[], object]:
        config = urt.JumpReLUTranscoderConfig(d_in=LENGTH, d_out=LENGTH, d_sae=ROWS)
        model = urt.JumpReLUTranscoder(config).cuda().train()
        decoder = constrain(model.W_dec)
        others = [parameter for name, parameter in model.named_parameters() if name != "W_dec"]
        optimizers = [decoder, torch.optim.Adam(others, fused=True)]

        def step() -> None:
            with torch.autocast("cuda", torch.bfloat16):
                loss = (model(x) - x).square().mean()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

        return finished(step)

    yield Job(
        f"training step {LENGTH}x{ROWS}, batch {BATCH}, autocast",
        trainer(lambda parameter: urt.UnitNormAdam([parameter], fused=True, compiled=True)),
        {
            NOT_COMPILED: trainer(lambda parameter: urt.UnitNormAdam([parameter])),
            ADAM: trainer(lambda parameter: torch.optim.Adam([parameter], fused=True)),
            COMPOSED: trainer(composed),
        },
        {},
        0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs")
    parser.add_argument("--record", type=Path, help="write figures and machine as JSON")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing to measure")
        return
    every = itertools.chain(jobs(torch.float32), jobs(torch.bfloat16), training_jobs())
    lines = [line for job in every for line in lines_of(job, call_seconds(job, 3 if options.quick else 25))]
    print(torch.cuda.get_device_name())
    print_table(lines)
    if options.record:
        about = {**machine(), "gpu": torch.cuda.get_device_name(), "command": "python benches/python/gpu.py"}
        options.record.parent.mkdir(parents=True, exist_ok=True)
        options.record.write_text(json.dumps({"machine": about, "figures": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
