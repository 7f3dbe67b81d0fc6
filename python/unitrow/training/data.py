"""Where batches come from, and batches out of any iterable of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from unitrow.errors import ArrayError, ArrayTypeError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Pair = tuple[Tensor, Tensor]


class Part(NamedTuple):
    """Which part of each batch a process takes."""

    rank: int = 0
    world: int = 1


class Source(Protocol):
    """Where a `Trainer` gets its batches from."""

    def batches(self, batch_size: int, *, seed: int, start: int, part: Part) -> Iterator[Pair]:
        """Inputs and targets from batch number `start` on; this process's part of each."""

    def describe(self) -> dict[str, Any]:
        """What must be the same when a run resumes, as JSON has it."""


def as_source(data: object) -> Source:
    """`data` itself where it is a source; otherwise it is taken for an iterable of pairs."""
    if hasattr(data, "batches") and hasattr(data, "describe"):
        return data
    if not hasattr(data, "__iter__"):
        kind = type(data).__name__
        raise ArrayTypeError(f"data must be ActivationShards or an iterable of pairs, and is {kind}")
    return Pairs(data)


class Pairs:
    """Batches out of an iterable of (inputs, targets), whose pieces may have any number of rows.

    When the iterable ends it is started again; a one-time iterator cannot be. To go on from a later batch,
    pieces are drawn and dropped.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._pairs = pairs

    def describe(self) -> dict[str, Any]:
        """Nothing is known of an iterable."""
        return {}

    def batches(self, batch_size: int, *, seed: int, start: int, part: Part) -> Iterator[Pair]:  # noqa: ARG002
        """Batches from number `start` on; ends where a one-time iterator ends.

        Raises:
            ArrayTypeError: A piece is no pair of floating-point tensors.
            ArrayError: Its tensors are not matrices with the same number of rows, or of other widths than
                those of the first piece.
        """
        mine = part_of(batch_size, part)
        held: list[Pair] = []
        rows, skip = 0, start * batch_size
        for piece in self._pieces():
            length = len(piece[0])
            if length <= skip:
                skip -= length
                continue
            held.append((piece[0][skip:], piece[1][skip:]))
            rows, skip = rows + length - skip, 0
            if rows < batch_size:
                continue
            inputs, targets = (
                torch.cat(tensors) if len(held) > 1 else tensors[0] for tensors in zip(*held, strict=True)
            )
            whole = rows - rows % batch_size
            for at in range(0, whole, batch_size):
                yield inputs[at : at + batch_size][mine], targets[at : at + batch_size][mine]
            held, rows = [(inputs[whole:], targets[whole:])], rows - whole

    def _pieces(self) -> Iterator[Pair]:
        number = 0
        widths: list[int] | None = None
        while True:
            before = number
            for pair in self._pairs:
                checked = checked_pair(pair, number)
                found = [tensor.shape[1] for tensor in checked]
                widths = widths or found
                if found != widths:
                    raise ArrayError(f"item {number} must have widths {widths}, as item 0, and has {found}")
                yield checked
                number += 1
            if number == before or iter(self._pairs) is self._pairs:
                return


def checked_pair(pair: object, number: int) -> Pair:
    """A pair of matrices with the same number of rows, or the exception that says what is wrong with it."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ArrayTypeError(
            f"data: item {number} must be a pair of inputs and targets, and is {type(pair).__name__}"
        )
    for name, tensor in zip(("inputs", "targets"), pair, strict=True):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ArrayTypeError(
                f"{name} of item {number} must be a floating-point torch.Tensor, and is {kind}"
            )
        if tensor.ndim != 2:
            raise ArrayError(
                f"{name} of item {number} must have shape [rows, width], and has {list(tensor.shape)}"
            )
    inputs, targets = pair
    if len(inputs) != len(targets):
        raise ArrayError(
            f"targets of item {number} must have {len(inputs)} rows, as inputs have, and has {len(targets)}"
        )
    return inputs, targets


def part_of(batch_size: int, part: Part) -> slice:
    """The rows of a batch that a process takes.

    Raises:
        ConfigError: The batch cannot be divided.
    """
    if batch_size % part.world:
        raise ConfigError(f"batch_size must be a multiple of the {part.world} processes, and is {batch_size}")
    own = batch_size // part.world
    return slice(part.rank * own, (part.rank + 1) * own)
