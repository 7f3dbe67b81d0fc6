"""Which axis of a decoder holds the latents: decided by lengths that agree, never by a name.

Evidence in falling order: 1-D tensors with one entry per latent or per written activation, sizes in
the configuration, an extent that encoder and decoder share, and, for a square decoder only, the
layout's own orientation where a non-square encoder shows that its writer kept to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Length:
    """A known extent, and where it is known from."""

    source: str
    """Words for a sentence, such as ``b_enc``."""

    value: int
    """Number of entries."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about one decoder, its values apart."""

    tensor: str
    """Name of the decoder."""

    shape: tuple[int, ...]
    """Its shape."""

    latents: tuple[Length, ...] = ()
    """1-D tensors with one entry per latent."""

    written: tuple[Length, ...] = ()
    """1-D tensors with one entry per written activation."""

    config_latents: Length | None = None
    """Number of latents by the configuration."""

    config_written: Length | None = None
    """Number of written activations by the configuration."""

    encoder: tuple[str, tuple[int, ...]] | None = None
    """Name and shape of the encoder."""

    skip: tuple[str, tuple[int, ...]] | None = None
    """Name and shape of a linear skip connection, which has no latent axis."""

    usual_latent_axis: int | None = None
    """Where the layout's writer puts the latents in the decoder."""

    usual_encoder_latent_axis: int | None = None
    """Where it puts them in the encoder."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The answer."""

    latent: int | None
    """Axis of the latents, None when undecided."""

    reduce: int | None
    """Axis of the written activations, None when undecided."""

    why: str
    """The evidence, or what is lacking, in one sentence."""

    transposed: bool = False
    """Whether the axes are not where the layout's writer puts them."""


def decide(evidence: Evidence) -> Axes:
    """Decide the axes of a decoder."""
    if len(evidence.shape) < _MATRIX:
        return Axes(None, None, f"{evidence.tensor} has {len(evidence.shape)} axes, a decoder has two")
    if len(evidence.shape) > _MATRIX:
        return _many_axes(evidence)
    if evidence.shape[0] == evidence.shape[1]:
        return _square(evidence)
    return _matrix(evidence)


def _matrix(evidence: Evidence) -> Axes:
    shape = evidence.shape
    for all_latents, all_written in (
        (evidence.latents, evidence.written),
        (_some(evidence.config_latents), _some(evidence.config_written)),
    ):
        latents = [length for length in all_latents if length.value in shape]
        written = [length for length in all_written if length.value in shape]
        why = _in_words(latents, written)
        axes = {shape.index(length.value) for length in latents}
        axes |= {1 - shape.index(length.value) for length in written}
        if len(axes) > 1:
            return Axes(None, None, f"the evidence disagrees: {why}")
        if axes:
            return _answer(evidence, axes.pop(), why)
    shared = _shared_extent(evidence)
    if shared is not None:
        return _answer(evidence, *shared)
    why = f"nothing beside {evidence.tensor} says whether {shape[0]} or {shape[1]} is the number of latents"
    return Axes(None, None, why)


def _in_words(latents: Sequence[Length], written: Sequence[Length]) -> str:
    """Say who has how many entries of what, such as ``b_enc and threshold: 32, one per latent``."""
    clauses = []
    for lengths, meaning in ((latents, "one per latent"), (written, "one per written activation")):
        for value in dict.fromkeys(length.value for length in lengths):
            sources = [length.source for length in lengths if length.value == value]
            clauses.append(f"{_listed(sources)}: {value}, {meaning}")
    return "; ".join(clauses)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _shared_extent(evidence: Evidence) -> tuple[int, str] | None:
    """Encoder and decoder share the latent extent, decoder and skip connection the written one."""
    for other, meaning in (
        (evidence.encoder, "one per latent"),
        (evidence.skip, "one per written activation"),
    ):
        if other is None:
            continue
        name, other_shape = other
        axes = [axis for axis, extent in enumerate(evidence.shape) if extent in other_shape]
        if len(axes) == 1:
            extent = evidence.shape[axes[0]]
            axis = axes[0] if other is evidence.encoder else 1 - axes[0]
            return axis, f"{extent} is the only extent that {evidence.tensor} shares with {name}, {meaning}"
    return None


def _square(evidence: Evidence) -> Axes:
    extent = evidence.shape[0]
    undecided = (
        f"{evidence.tensor} is square ({extent} latents, {extent} written activations), "
        "so no length can tell its axes apart"
    )
    usual, usual_encoder = evidence.usual_latent_axis, evidence.usual_encoder_latent_axis
    if usual is None or usual_encoder is None or evidence.encoder is None:
        return Axes(None, None, undecided)
    name, shape = evidence.encoder
    known = {length.value for length in evidence.latents} | {
        length.value for length in _some(evidence.config_latents)
    }
    confirmed = (
        known == {extent}
        and len(shape) == _MATRIX
        and shape[0] != shape[1]
        and shape[usual_encoder] == extent
    )
    if not confirmed:
        return Axes(None, None, undecided)
    return Axes(
        usual,
        1 - usual,
        f"{evidence.tensor} is square; {name} of shape {list(shape)} shows that the file keeps to its "
        f"layout's orientation, which puts the latents on axis {usual} of {evidence.tensor}",
    )


def _many_axes(evidence: Evidence) -> Axes:
    """Decoders that write several sites: both axes must be named by lengths, each by exactly one."""
    shape = evidence.shape
    latent = _only_axis(shape, (*evidence.latents, *_some(evidence.config_latents)))
    reduce = _only_axis(shape, (*evidence.written, *_some(evidence.config_written)))
    if latent is None or reduce is None or latent[0] == reduce[0]:
        return Axes(None, None, f"the lengths beside {evidence.tensor} do not single out its axes")
    why = _in_words((latent[1],), (reduce[1],))
    return Axes(latent[0], reduce[0], why)


def _only_axis(shape: tuple[int, ...], lengths: tuple[Length, ...]) -> tuple[int, Length] | None:
    found = {
        axis: length for length in lengths for axis, extent in enumerate(shape) if extent == length.value
    }
    return next(iter(found.items())) if len(found) == 1 else None


def _answer(evidence: Evidence, axis: int, why: str) -> Axes:
    usual = evidence.usual_latent_axis
    transposed = usual is not None and usual != axis
    if transposed:
        why = f"{why}; {evidence.tensor} is stored transposed, this layout puts the latents on axis {usual}"
    return Axes(axis, 1 - axis, why, transposed)


def _some(length: Length | None) -> tuple[Length, ...]:
    return () if length is None else (length,)
