"""A catalogue entry as data, and the one procedure that turns entry and file into a match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unitrow.layouts.axis import Axes, Evidence, Length, decide
from unitrow.layouts.config import as_count, excerpt
from unitrow.layouts.model import Decoder, Match
from unitrow.layouts.source import NORM_DTYPES

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence

    from unitrow.layouts.config import Config
    from unitrow.layouts.source import Source

LATENTS = "d_sae"
WRITTEN = "d_out"
SITES = "sites"


@dataclass(slots=True)
class Judgement:
    """What a layout concludes from the configuration beside one file."""

    expected: str
    """`yes`, `no` or `unknown`."""

    expected_why: str
    """What the trainer does about row norms, and the evidence that it was this trainer."""

    order_explains_drift: bool = False
    """Whether the trainer saves after an optimiser step that no normalisation follows."""

    sizes: dict[str, Length] = field(default_factory=dict)
    """Extents that the configuration names, by symbol."""

    required: tuple[tuple[str, ...], ...] = ()
    """Tensors that have to be there; of alternatives one suffices."""

    unwanted: dict[str, str] = field(default_factory=dict)
    """Tensors that the configuration excludes, with what it says."""

    required_why: str = "this layout"
    """What needs the tensors, for the message."""

    dtype: str | None = None
    """Element type of the decoder by the configuration, as safetensors names it."""

    dtype_why: str = ""
    """How the configuration puts it."""

    zero_rows_legal: bool = False
    """Whether rows of zeros are a normal outcome of training."""

    nan_allowed: tuple[str, ...] = ()
    """Tensors in which NaN is a legal value."""

    zero_allowed: tuple[str, ...] = ()
    """Matrices that may be zero throughout; the layout's 1-D tensors always may."""

    threshold: str | None = None
    """Tensor of JumpReLU thresholds."""

    def state(self, symbol: str, value: int, source: str) -> None:
        """Note an extent that the configuration names."""
        self.sizes[symbol] = Length(source, value)


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which checkpoints are stored: a table of shapes and two small functions."""

    id: str
    """Name in reports."""

    title: str
    """Name for people."""

    is_folder: bool
    """Whether the folder is the checkpoint when the weights carry their writer's file name."""

    weights: re.Pattern[str]
    """File name that the writer gives the weights."""

    decoder: str
    """Tensor whose rows are audited."""

    shapes: Mapping[str, str]
    """Shape of each tensor in symbols, such as ``d_sae d_out``; tensors of other names are free."""

    recognise: Callable[[Source, bool], str | None]
    """Why this file has this layout, or None. The flag says whether it carries the writer's name."""

    judge: Callable[[Source, bool], Judgement]
    """What the configuration says; adds its own findings to the source."""

    side_files: tuple[str, ...] = ()
    """Files of the folder that belong to the checkpoint."""

    def symbols(self, tensor: str) -> tuple[str, ...]:
        """Return the symbolic shape of a tensor."""
        return tuple(self.shapes[tensor].split())

    def named(self, source: Source) -> bool:
        """Whether the file carries the name that this layout's writer gives."""
        return "/" not in source.file.path and self.weights.fullmatch(source.name) is not None


def plan(layout: Layout, source: Source, why: str, *, named: bool) -> Match:
    """Turn a recognised file into a match: its decoder, its axes and every disagreement.

    Args:
        layout: The layout that the file was recognised as.
        source: The file; its findings end up in the match.
        why: Why it was recognised.
        named: Whether the file carries the name that the layout's writer gives.
    """
    judgement = layout.judge(source, named)
    _check_presence(layout, source, judgement)
    decoder, axes = _find_decoder(layout, source, judgement)
    _check_sizes(layout, source, judgement, axes)
    is_folder = layout.is_folder and named
    beside = [name for name in layout.side_files if name in source.folder.siblings] if named else []
    vectors = [name for name, shape in layout.shapes.items() if " " not in shape.removeprefix(f"{SITES} ")]
    return Match(
        layout=layout.id,
        is_folder=is_folder,
        files=(source.file.path, *beside),
        decoders=[] if decoder is None else [decoder],
        expected=judgement.expected,
        expected_why=judgement.expected_why,
        trainer_order_explains_drift=judgement.order_explains_drift,
        why=why,
        threshold_tensor=judgement.threshold if source.has(judgement.threshold or "") else None,
        nan_allowed=frozenset(source.tensors).intersection(judgement.nan_allowed),
        zero_allowed=frozenset(source.tensors).intersection({*vectors, *judgement.zero_allowed}),
        findings=source.findings,
    )


def config_sizes(source: Source, config: Config, keys: Mapping[str, str]) -> dict[str, Length]:
    """Read extents from a configuration.

    Args:
        source: Takes the findings.
        config: The configuration.
        keys: Symbol by configuration key.

    Returns:
        The extents that are there and are positive whole numbers. A key that is absent or null
        says nothing; one with another value is a finding.
    """
    sizes: dict[str, Length] = {}
    for key, symbol in keys.items():
        value = config.values.get(key)
        if value is None:
            continue
        count = as_count(value)
        if count is None:
            source.mismatch(
                f"{config.name} gives {key} as {excerpt(value)}, which is not a number of entries",
                file=config.name,
                expected="a positive whole number",
                found=excerpt(value),
            )
        else:
            sizes[symbol] = Length(f"{key} in {config.name}", count)
    return sizes


def _check_presence(layout: Layout, source: Source, judgement: Judgement) -> None:
    for names in judgement.required:
        if not any(name in source.tensors for name in names):
            symbols = layout.shapes.get(names[0])
            shape = f" [{', '.join(symbols.split())}]" if symbols else ""
            source.missing(
                names[0],
                f"{' or '.join(names)}{shape}",
                f"{names[0]} is absent, which {judgement.required_why} needs",
            )
    for name, reason in judgement.unwanted.items():
        if source.has(name):
            source.mismatch(
                f"{name} is there although {reason}", tensor=name, expected=f"no {name}", found=name
            )


def _find_decoder(layout: Layout, source: Source, judgement: Judgement) -> tuple[Decoder | None, Axes | None]:
    tensor = source.tensors.get(layout.decoder)
    if tensor is None:
        return None, None
    if tensor.dtype not in NORM_DTYPES:
        source.mismatch(
            f"{tensor.name} holds {excerpt(tensor.dtype)} elements, and a decoder holds floating-point ones",
            tensor=tensor.name,
            expected="a floating-point dtype",
            found=tensor.dtype,
        )
        return None, None
    if judgement.dtype is not None and tensor.dtype != judgement.dtype:
        source.mismatch(
            f"{judgement.dtype_why} but {tensor.name} is stored as {tensor.dtype}",
            tensor=tensor.name,
            expected=judgement.dtype,
            found=tensor.dtype,
            hint="a loader that follows the configuration converts the weights",
        )
    axes = decide(_evidence(layout, source, judgement))
    if axes.latent is None:
        source.note(
            "L_AMBIGUOUS_AXIS",
            f"cannot tell which axis of {tensor.name} holds the latents: {axes.why}",
            tensor=tensor.name,
        )
    decoder = Decoder(
        tensor.name, source.file.path, axes.latent, axes.reduce, judgement.zero_rows_legal, axes.why
    )
    return decoder, axes


def _evidence(layout: Layout, source: Source, judgement: Judgement) -> Evidence:
    def named_shape(name: str | None) -> tuple[str, tuple[int, ...]] | None:
        shape = source.shape(name) if name is not None else None
        return None if name is None or shape is None else (name, shape)

    encoder = _matrix_name(layout, {"d_in", LATENTS})
    skip = _matrix_name(layout, {"d_in", WRITTEN})
    return Evidence(
        tensor=layout.decoder,
        shape=source.tensors[layout.decoder].shape,
        latents=_lengths(layout, source, LATENTS),
        written=_lengths(layout, source, WRITTEN),
        config_latents=judgement.sizes.get(LATENTS),
        config_written=judgement.sizes.get(WRITTEN),
        encoder=named_shape(encoder),
        skip=named_shape(skip),
        usual_latent_axis=layout.symbols(layout.decoder).index(LATENTS),
        usual_encoder_latent_axis=None if encoder is None else layout.symbols(encoder).index(LATENTS),
    )


def _lengths(layout: Layout, source: Source, symbol: str) -> tuple[Length, ...]:
    """Collect what vectors say about an extent, or rows of vectors, one for each site."""
    found = []
    for name, symbols in layout.shapes.items():
        shape = source.shape(name) if symbols in {symbol, f"{SITES} {symbol}"} else None
        if shape is not None and len(shape) == len(symbols.split()):
            found.append(Length(name, shape[-1]))
    return tuple(found)


def _matrix_name(layout: Layout, symbols: set[str]) -> str | None:
    return next((name for name in layout.shapes if set(layout.symbols(name)) == symbols), None)


def _check_sizes(layout: Layout, source: Source, judgement: Judgement, axes: Axes | None) -> None:
    """Compare the weights with the configuration, then with one another."""
    known = _measured_sizes(layout, source, axes)
    told: set[tuple[str, int]] = set()
    for symbol, stated in judgement.sizes.items():
        measured = known.get(symbol)
        if measured is None or measured.value == stated.value:
            continue
        if (stated.source, measured.value) not in told:  # an SAE's d_in is its d_out too
            told.add((stated.source, measured.value))
            source.mismatch(
                f"{stated.source} is {stated.value}, but {measured.source} holds {measured.value}",
                tensor=measured.source,
                expected=f"{symbol} = {stated.value}",
                found=measured.value,
            )
    for symbol, stated in judgement.sizes.items():
        known.setdefault(symbol, stated)
    for name in layout.shapes:
        if source.has(name):
            _check_shape(
                source, judgement, name, [(symbol, known.get(symbol)) for symbol in layout.symbols(name)]
            )


def _measured_sizes(layout: Layout, source: Source, axes: Axes | None) -> dict[str, Length]:
    """Take each extent from the first tensor that shows it: vectors, then decoder, then encoder."""
    known: dict[str, Length] = {}
    for symbol in (LATENTS, WRITTEN):
        lengths = _lengths(layout, source, symbol)
        if lengths:
            known[symbol] = lengths[0]
    shape = source.shape(layout.decoder)
    if shape is not None and axes is not None and axes.latent is not None and axes.reduce is not None:
        known.setdefault(LATENTS, Length(layout.decoder, shape[axes.latent]))
        known.setdefault(WRITTEN, Length(layout.decoder, shape[axes.reduce]))
    encoder = _matrix_name(layout, {"d_in", LATENTS})
    latents = known.get(LATENTS)
    encoder_shape = source.shape(encoder) if encoder is not None else None
    if encoder is not None and encoder_shape is not None and latents is not None:
        others = [extent for extent in encoder_shape if extent != latents.value]
        if len(encoder_shape) == len(layout.symbols(encoder)) and len(others) <= 1:
            known["d_in"] = Length(encoder, others[0] if others else latents.value)
    return known


def _check_shape(
    source: Source, judgement: Judgement, name: str, extents: Sequence[tuple[str, Length | None]]
) -> None:
    shape = source.tensors[name].shape
    if _fits(shape, extents):
        return
    stated = [judgement.sizes[symbol] for symbol, _ in extents if symbol in judgement.sizes]
    transposed = _fits(shape[::-1], extents)
    if transposed and len(stated) < len(extents):
        return  # no configuration contradicts it, and the decoder's evidence says so in words
    known = [length for _, length in extents if length is not None]
    origins = stated if transposed else [length for length in known if length.source != name]
    origin = ", ".join(dict.fromkeys(length.source for length in origins))
    symbols = ", ".join(symbol for symbol, _ in extents)
    values = ", ".join("?" if length is None else str(length.value) for _, length in extents)
    wanted = f"[{symbols}] = [{values}]"
    how = "stored transposed: " if transposed else ""
    source.mismatch(
        f"{name} is {how}{list(shape)}, expected {wanted}{f' by {origin}' if origin else ''}",
        tensor=name,
        expected=wanted,
        found=list(shape),
        hint="the axes were taken from the lengths, not from the layout" if transposed else None,
    )


def _fits(shape: tuple[int, ...], extents: Sequence[tuple[str, Length | None]]) -> bool:
    return len(shape) == len(extents) and all(
        length is None or extent == length.value for extent, (_, length) in zip(shape, extents, strict=True)
    )
