"""Trains again and again in child processes that are killed: `train_killed.py SHARDS RUN CONFIG KILLS`.

KILLS are pairs: once there are so many lines of metrics, and so many seconds later. Children are forked once
torch is imported and before it has started a thread, so that each begins at once. Prints the step that each
found when it resumed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from unitrow.training import ActivationShards, Trainer, TrainerConfig


def train(shards, run_dir, config):
    trainer = Trainer(config, ActivationShards(shards, bucket_rows=200), run_dir, resume=True)
    sys.stdout.write(f"{trainer.step}\n")
    sys.stdout.flush()
    trainer.train()


def lines(run_dir):
    path = Path(run_dir) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def main(shards, run_dir, config, kills):
    torch.set_num_threads(1)
    config = TrainerConfig.from_values(json.loads(config))
    for count, delay in [*json.loads(kills), (None, 0)]:
        child = os.fork()
        if child == 0:
            train(shards, run_dir, config)
            os._exit(0)
        ended, status = 0, 0
        while not ended and (count is None or lines(run_dir) < count):
            time.sleep(0.0005)
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        # One that was quicker than the signal has to have got to the end.
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
