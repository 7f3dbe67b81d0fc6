"""Training JumpReLU transcoders whose decoder rows stay unit. Needs torch.

    from unitrow.training import ActivationShards, Trainer, TrainerConfig

    config = TrainerConfig.from_recipe("demo", d_in=384, d_out=384, d_sae=1024)
    trainer = Trainer(config, ActivationShards("activations/"), "run/")
    trainer.train()
    trainer.export().save_model("transcoder/")

docs/training.md has the recipes, the data format and what a run leaves behind.
"""

from __future__ import annotations

import unitrow.torch  # noqa: F401  (first: it says what to install where torch is missing)
from unitrow.training.config import TrainerConfig
from unitrow.training.evaluation import evaluate
from unitrow.training.loop import Trainer
from unitrow.training.page import write_page
from unitrow.training.shuffling import ActivationShards

__all__ = ["ActivationShards", "Trainer", "TrainerConfig", "evaluate", "write_page"]
