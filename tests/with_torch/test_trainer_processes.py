"""Training that is killed, and training in two processes."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from unitrow.errors import ConfigError  # noqa: E402
from unitrow.training import ActivationShards, Trainer, TrainerConfig, distributed  # noqa: E402
from unitrow.training import checkpoints as stored  # noqa: E402
from unitrow.transcoder import JumpReLUTranscoder  # noqa: E402

from .training_data import D_IN, D_OUT, pairs, write_shards  # noqa: E402

pytestmark = pytest.mark.torch

HERE = Path(__file__).parent
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))


def config(**values):
    given = {"d_in": D_IN, "d_out": D_OUT, "d_sae": 64, "steps": 20, "batch_size": 32, "log_every": 1}
    given |= {"topk": 8.0, "topk_steps": 5, "target_l0": 8.0}
    return TrainerConfig.from_recipe("demo", **(given | values))


@pytest.fixture
def folder(tmp_path):
    return write_shards(tmp_path / "shards", *pairs(900), [500, 400])


def last_checkpoint(run_dir):
    return stored.load(stored.paths(str(run_dir / "checkpoints"))[-1])


def run(*command):
    # The loopback device alone: what else a machine calls its network is no business of a test.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_killed_at_random_steps_it_ends_with_the_same_bits(folder, tmp_path):
    settings = config(
        steps=80,
        checkpoint_every=4,
        keep_checkpoints=2,
        dead_latents="aux-k",
        dead_coefficient=0.03,
        dead_after=3,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        Trainer(settings, ActivationShards(folder, bucket_rows=200), tmp_path / "whole").train()
    finally:
        torch.set_num_threads(threads)
    chance = random.Random(20)  # noqa: S311
    ends = time.monotonic() + SOAK_SECONDS
    counts = [1, 25, 45, 65]
    for round_ in itertools.count():
        killed = tmp_path / f"killed-{round_}"
        # A child is killed some time after there are that many lines of metrics: in a step or a checkpoint.
        kills = [(count, chance.uniform(0, 0.02)) for count in counts]
        resumed_at = kill_and_resume(folder, killed, settings, kills)
        # One that is killed while it loads its checkpoint says nothing.
        assert len(resumed_at) <= len(kills) + 1
        assert resumed_at == sorted(resumed_at)
        if round_ == 0:
            assert len(resumed_at) == len(kills) + 1
            assert len(set(resumed_at)) >= 4
            assert resumed_at[-1] >= 60
        assert_same_end(tmp_path / "whole", killed)
        if time.monotonic() >= ends:
            break
        counts = sorted(chance.sample(range(1, 81), chance.randint(1, 16)))


def kill_and_resume(folder, run_dir, settings, kills):
    """At which step each child found the run."""
    words = [json.dumps(settings.to_json()), json.dumps(kills)]
    return [int(line) for line in run(HERE / "train_killed.py", folder, run_dir, *words).split()]


def assert_same_end(one, other):
    whole, killed = (last_checkpoint(run_dir) for run_dir in (one, other))
    assert whole.step == killed.step == 80
    assert whole.values == killed.values
    assert whole.tensors.keys() == killed.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, killed.tensors[name]), name
    lines = (other / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 81))


@pytest.mark.parametrize(
    ("given", "environment", "gpus", "expected"),
    [
        ("cuda", {"LOCAL_RANK": "2"}, 4, "cuda:2"),  # every process took GPU 0
        ("cuda:1", {"LOCAL_RANK": "2"}, 4, "cuda:1"),
        ("cuda", {}, 4, "cuda"),
        ("cuda", {"LOCAL_RANK": "2", "CUDA_VISIBLE_DEVICES": "2"}, 1, "cuda:0"),
        ("cpu", {"LOCAL_RANK": "2"}, 4, "cpu"),
        ("cuda", {"LOCAL_RANK": "2"}, 2, None),
    ],
)
def test_each_process_has_a_gpu_of_its_own(given, environment, gpus, expected, monkeypatch):
    for name in ("LOCAL_RANK", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if expected is None:
        with pytest.raises(ConfigError, match="device: process 2 of this machine has no GPU of its own"):
            distributed.own_device(torch.device(given))
    else:
        assert distributed.own_device(torch.device(given)) == torch.device(expected)


def test_joining_on_gpus(monkeypatch):
    """The group is begun on the process's own GPU, which is also the current one by then."""
    done = []
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(("current", device)))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, device_id: done.append((backend, device_id))
    )
    own = torch.device("cuda", 1)
    assert distributed.join(torch.device("cuda")) == own
    assert done == [("current", own), ("nccl", own)]


def test_two_processes_do_what_one_does(folder, tmp_path):
    settings = config(
        target_l0_over="batch",
        frequency_coefficient=0.1,
        dead_latents="aux-k",  # scaled by variances over the whole batch
        dead_coefficient=0.03,
        dead_after=2,
        clip_norm=1.0,
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    run(*launch, HERE / "train_rank.py", folder, tmp_path / "two", json.dumps(settings.to_json()))
    one = Trainer(settings, ActivationShards(folder, bucket_rows=200), tmp_path / "one")
    one.train()
    found = last_checkpoint(tmp_path / "two")
    assert found.values["input_scale"] == pytest.approx(one.scaling.input_scale, rel=1e-12)
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(
            found.tensors[name], tensor, rtol=0, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
    model = JumpReLUTranscoder.load_from_disk(tmp_path / "two" / "model")
    torch.testing.assert_close(model.W_dec, one.export().W_dec, rtol=0, atol=2e-5)
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(ours) == len(theirs) == 20
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        for name in ("loss", "fvu", "l0", "sparsity", "frequency", "dead_loss", "grad_norm"):
            if name in mine:  # in the first phase there is no penalty
                assert mine[name] == pytest.approx(other[name], rel=2e-3, abs=1e-6), name
        assert mine["step"] == other["step"]
        assert abs(sum(a != b for a, b in zip(mine["density"], other["density"], strict=True))) <= 2
