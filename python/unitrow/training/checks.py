"""Fields of a configuration against their types and ranges."""

from __future__ import annotations

import math
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from unitrow.errors import ConfigError

if TYPE_CHECKING:
    from unitrow.training.config import TrainerConfig

_FROM_ZERO = frozenset(
    {"seed", "lr_warmup_steps", "sparsity_warmup_steps", "topk_steps", "calibrate_batches"}
)
"""Whole numbers that may be 0; others begin at 1."""

_ABOVE_ZERO = frozenset(
    {
        "encoder_init_scale",
        "bandwidth",
        "threshold_lr_factor",
        "decoder_lr_factor",
        "lr",
        "tanh_scale",
        "topk",
        "initial_l0",
        "clip_norm",
    }
    | {"target_l0", "target_l0_start", "bandwidth_end", "bandwidth_of_threshold"}
)
"""Numbers that may not be 0; none may be negative."""

_AT_MOST_ONE = frozenset({"lr_decay", "topk_average"})


def check_fields(config: TrainerConfig) -> None:
    """Refuse a field that is not of its type, or out of range by itself.

    Raises:
        ConfigError: The message begins with the field's name.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        kinds = get_args(hint) if NoneType in get_args(hint) else (hint,)
        if value is None and NoneType in kinds:
            continue
        _check(name, value, kinds[0])


def check_together(config: TrainerConfig) -> None:
    """Refuse fields that contradict each other.

    Raises:
        ConfigError: The message begins with the name of one.
    """
    if config.tied_init and config.d_in != config.d_out:
        raise ConfigError(f"tied_init needs d_in = d_out, and they are {config.d_in} and {config.d_out}")
    needs = config.sparsity if config.sparsity in {"target-l0", "l0-control"} else ""
    if config.target_l0 is None and (needs or config.calibrate_batches):
        raise ConfigError(f"target_l0 must be given for {needs or 'calibrate_batches'}")
    if config.bandwidth_end is not None and config.bandwidth_of_threshold is not None:
        raise ConfigError("bandwidth_end and bandwidth_of_threshold cannot both be given")
    if config.threshold == "log" and config.threshold_init == 0:
        raise ConfigError("threshold_init must be positive where threshold is log, and is 0")
    if config.init == "matched" and config.initial_l0 is not None:
        raise ConfigError("initial_l0 must not be given where init is matched, which chooses b_enc")
    if (config.topk_steps or config.init == "matched") and config.topk >= config.d_sae:
        raise ConfigError(f"topk must be below d_sae = {config.d_sae}, and is {config.topk}")
    if (config.topk_steps or config.init == "matched") and config.topk < 1:
        raise ConfigError(f"topk must be at least 1, and is {config.topk}")
    _check_sparsity(config)


def _check_sparsity(config: TrainerConfig) -> None:
    """Refuse what would train nothing, or without end."""
    if config.target_l0 is not None and config.target_l0 > config.d_sae:
        raise ConfigError(f"target_l0 must be at most d_sae = {config.d_sae}, and is {config.target_l0}")
    if config.sparsity == "l0-control" and config.sparsity_coefficient == 0:
        raise ConfigError(
            "sparsity_coefficient must be positive for l0-control, which multiplies it, and is 0"
        )
    if config.bandwidth_of_threshold is not None and config.threshold_init == 0 and not config.topk_steps:
        raise ConfigError("threshold_init must be positive for bandwidth_of_threshold, and is 0")


def _check(name: str, value: Any, kind: Any) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, and is {value!r}")
    elif get_origin(kind) is tuple:
        whole = isinstance(value, (tuple, list)) and len(value) == len(get_args(kind))
        if not whole or not all(_is_number(part) and 0 <= part < 1 for part in value):
            raise ConfigError(
                f"{name} must be {len(get_args(kind))} numbers from 0 to below 1, and is {value!r}"
            )
    elif kind is int:
        least = 0 if name in _FROM_ZERO else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} must be a whole number of at least {least}, and is {value!r}")
    elif kind is float:
        _check_number(name, value)
    elif not isinstance(value, kind):
        raise ConfigError(f"{name} must be of type {kind.__name__}, and is {value!r}")


def _check_number(name: str, value: object) -> None:
    above = name in _ABOVE_ZERO
    if not _is_number(value) or value < 0 or (above and value == 0):  # type: ignore[operator]
        raise ConfigError(f"{name} must be {'a' if above else '0 or a'} positive number, and is {value!r}")
    if name in _AT_MOST_ONE and value > 1:  # type: ignore[operator]
        raise ConfigError(f"{name} must be at most 1, and is {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
