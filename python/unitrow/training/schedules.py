"""Values that change as training goes on; each is a function of the step alone, so that a run can resume."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitrow.training.config import TrainerConfig


def learning_rate(config: TrainerConfig, step: int) -> float:
    """Learning rate of update number `step`, counted from 0."""
    return config.lr * _warmup(config, step) * _decay(config, step)


def sparsity_coefficient(config: TrainerConfig, step: int) -> float:
    """λ at update number `step`."""
    if step >= config.sparsity_warmup_steps:
        return config.sparsity_coefficient
    return config.sparsity_coefficient * step / config.sparsity_warmup_steps


def _warmup(config: TrainerConfig, step: int) -> float:
    if step >= config.lr_warmup_steps:
        return 1.0
    done = step / config.lr_warmup_steps
    if config.lr_warmup == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return config.lr_warmup_from + (1 - config.lr_warmup_from) * done


def _decay(config: TrainerConfig, step: int) -> float:
    length = config.lr_decay * config.steps
    left = config.steps - step
    return left / length if left < length else 1.0
