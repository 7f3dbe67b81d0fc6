"""Checkpoints of a run: one safetensors file each, whole or absent, without code to execute."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitrow.errors import ConfigError, FormatError
from unitrow.torch._bytes import read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_FORMAT = 1
_NAME = re.compile(r"step-(\d{9})\.safetensors")
_UNFINISHED = re.compile(r"\.unitrow-\d+-\d+\.incomplete")
_MAY_DIFFER = frozenset({"checkpoint_every", "keep_checkpoints", "log_every", "recipe"})
"""Fields that do not change what is trained."""


@dataclass
class State:
    """What a checkpoint holds.

    Attributes:
        step: Updates that were done.
        config: The configuration of the run.
        values: Numbers beside the tensors: scales, what is known of the data.
        tensors: Parameters, moments, counters and generator states by name.
    """

    step: int
    config: dict[str, Any]
    values: dict[str, Any]
    tensors: dict[str, Tensor]


def save(folder: str, state: State, keep: int) -> str:
    """Write a checkpoint, sync it, put it in place, and delete all but the latest `keep`.

    Returns:
        Its path.

    Raises:
        OSError: It cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"step-{state.step:09d}.safetensors")
    words = {"format": _FORMAT, "step": state.step, "config": state.config, "values": state.values}
    write_tensors(path, state.tensors, {"unitrow": json.dumps(words, allow_nan=False)})
    for old in paths(folder)[:-keep]:
        os.unlink(old)
    return path


def paths(folder: str) -> list[str]:
    """Checkpoints of a run, in the order of their steps."""
    if not os.path.isdir(folder):
        return []
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if _NAME.fullmatch(name)]


def remove_unfinished(folder: str) -> None:
    """Delete what a process left that was killed while it wrote; nothing else may be writing there."""
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if _UNFINISHED.fullmatch(name):
            os.unlink(os.path.join(folder, name))


def load(path: str) -> State:
    """Read a checkpoint.

    Raises:
        OSError: It cannot be read.
        FormatError: It is damaged, or no checkpoint of a run.
    """
    tensors, metadata = read_tensors(path)
    try:
        words = json.loads(metadata["unitrow"])
        if words["format"] != _FORMAT:
            raise FormatError(f"{path}: format: expected {_FORMAT}, found {words['format']!r}")
        return State(int(words["step"]), dict(words["config"]), dict(words["values"]), tensors)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: no checkpoint of a training run: {error!r}") from error


def check_same_run(path: str, state: State, config: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that another run left.

    Raises:
        ConfigError: A field or the data differ; the message begins with the field's name.
    """
    for name in sorted({*state.config, *config} - _MAY_DIFFER):
        before, now = state.config.get(name), config.get(name)
        if before != now:
            raise ConfigError(f"{name} is {now!r}, and {path} was trained with {before!r}")
    before = state.values.get("source", {})
    for name in sorted({*before, *source}):
        if before.get(name) != source.get(name):
            raise ConfigError(
                f"data: {name} is {source.get(name)!r}, and {path} was trained with {before.get(name)!r}"
            )


def check_tensors(path: str, state: State, expected: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors do not fit.

    Raises:
        FormatError: A tensor is missing, or has another shape or dtype.
    """
    for name, tensor in expected.items():
        found = state.tensors.get(name)
        wanted = f"{tensor.dtype} {list(tensor.shape)}"
        if found is None:
            raise FormatError(f"{path}: {name}: expected {wanted}, found none")
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise FormatError(f"{path}: {name}: expected {wanted}, found {found.dtype} {list(found.shape)}")
