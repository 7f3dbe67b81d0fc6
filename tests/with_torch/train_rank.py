"""One process of a data parallel run, started by torchrun: `train_rank.py SHARDS RUN CONFIG`."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

import torch.distributed as dist

from unitrow.training import ActivationShards, Trainer, TrainerConfig


def gloo_has_threads():
    return any("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))


def check_that_gloo_is_gone():
    # One of its threads that still holds a tensor aborts an interpreter that is ending
    # (pytorch/pytorch#179291).
    if gloo_has_threads():
        sys.stderr.write("gloo has threads at exit\n")
        sys.stderr.flush()
        os._exit(1)  # an exception would not change how the process ends


def main(shards, run_dir, config):
    config = TrainerConfig.from_values(json.loads(config))
    trainer = Trainer(config, ActivationShards(shards, bucket_rows=200), run_dir)
    assert dist.get_world_size() == 2
    assert gloo_has_threads()
    trainer.train(until=7)
    trainer = Trainer(config, ActivationShards(shards, bucket_rows=200), run_dir, resume=True)
    assert trainer.step == 7
    trainer.train()
    if dist.get_rank() == 0:
        # Alone: it waited for the other process for ever.
        figures = trainer.evaluate(ActivationShards(shards))
        assert 0 < figures["fvu"] < 2
        trainer.export().save_model(Path(run_dir) / "model")


if __name__ == "__main__":
    atexit.register(check_that_gloo_is_gone)  # the last to run
    main(*sys.argv[1:])
