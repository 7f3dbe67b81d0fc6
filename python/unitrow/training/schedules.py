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
    """λ at update number `step`; 0 while the largest pre-activations are active."""
    return config.sparsity_coefficient * sparsity_warmup(config, step)


def target_l0(config: TrainerConfig, step: int) -> float:
    """T at update number `step`; 0 where there is none."""
    if config.target_l0 is None:
        return 0.0
    start = config.target_l0 if config.target_l0_start is None else config.target_l0_start
    return start + (config.target_l0 - start) * sparsity_warmup(config, step)


def bandwidth(config: TrainerConfig, step: int) -> float:
    """Width of the estimators' window at update number `step`."""
    if config.bandwidth_end is None or config.steps == 1:
        return config.bandwidth
    return config.bandwidth * math.pow(config.bandwidth_end / config.bandwidth, step / (config.steps - 1))


def is_topk(config: TrainerConfig, step: int) -> bool:
    """Whether the largest pre-activations are active at update number `step`, whatever the thresholds."""
    return step < config.topk_steps


def sparsity_warmup(config: TrainerConfig, step: int) -> float:
    """Factor on λ at update number `step`."""
    if step < config.topk_steps:
        return 0.0
    step -= config.topk_steps
    return min(1.0, step / config.sparsity_warmup_steps) if config.sparsity_warmup_steps else 1.0


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
