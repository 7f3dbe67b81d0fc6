"""One process of a data parallel run, started by torchrun: `train_rank.py SHARDS RUN CONFIG`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch.distributed as dist

from unitrow.training import ActivationShards, Trainer, TrainerConfig


def main(shards, run_dir, config):
    config = TrainerConfig.from_values(json.loads(config))
    trainer = Trainer(config, ActivationShards(shards, bucket_rows=200), run_dir)
    assert dist.get_world_size() == 2
    trainer.train(until=7)
    trainer = Trainer(config, ActivationShards(shards, bucket_rows=200), run_dir, resume=True)
    assert trainer.step == 7
    trainer.train()
    if dist.get_rank() == 0:
        # Alone: it waited for the other process for ever.
        figures = trainer.evaluate(ActivationShards(shards))
        assert 0 < figures["fvu"] < 2
        trainer.export().save_model(Path(run_dir) / "model")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
