"""Files of no known layout: what in them could be a decoder, and the best evidence for its axes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unitrow.layouts.axis import Evidence, decide
from unitrow.layouts.config import excerpt
from unitrow.layouts.model import Decoder, Match
from unitrow.layouts.source import NORM_DTYPES

if TYPE_CHECKING:
    from unitrow.layouts.model import TensorMeta
    from unitrow.layouts.source import Source

UNKNOWN = "unknown"
NONE = "none"

_MATRIX = 2
_WORD = re.compile(
    r"(?P<prefix>(?:.*[._/-])?)(?:[wW]_?[dD]ec(?:oder)?s?|W_D|dictionary(?:\._weights)?)(?P<suffix>(?:[._]\d+)*)"
)
_LINEAR = re.compile(
    r"(?P<prefix>(?:.*[._/-])?)(?P<layer>dec(?:oders?)?(?:_linear)?)(?P<suffix>(?:\.\d+)*)\.weight"
)
_MENTIONS = ("dec", "Dec", "W_D", "dictionary")

_LATENT_VECTORS = (
    "b_enc",
    "b_E",
    "encoder.bias",
    "encoder_linear.bias",
    "enc.bias",
    "latent_bias",
    "threshold",
    "log_threshold",
    "activation_function.threshold",
    "b_gate",
    "b_mag",
    "r_mag",
)
_WRITTEN_VECTORS = (
    "b_dec",
    "b_D",
    "decoder.bias",
    "decoder_linear.bias",
    "dec.bias",
    "decoder_bias",
    "pre_bias",
    "b_pre",
    "pre_encoder_bias",
    "tied_bias",
)
_ENCODERS = ("W_enc", "w_enc", "W_E", "encoder.weight", "encoder_linear.weight", "enc.weight")


def plan_unknown(source: Source) -> Match | None:
    """Plan a file whose tensors look like decoders; None when none do."""
    decoders = [
        decoder for tensor in source.tensors.values() if (decoder := _as_decoder(source, tensor)) is not None
    ]
    if not decoders:
        return None
    names = ", ".join(excerpt(decoder.tensor) for decoder in decoders[:3])
    more = f" and {len(decoders) - 3} more" if len(decoders) > 3 else ""
    source.note(
        "L_UNKNOWN",
        f"{names}{more} looks like a decoder, but no known layout has these tensors under this file name",
        tensor=decoders[0].tensor,
        hint="the rows are measured all the same; docs/layouts.md says how to add a layout",
    )
    for decoder in decoders:
        if decoder.latent_axis is None:
            source.note(
                "L_AMBIGUOUS_AXIS",
                f"cannot tell which axis of {excerpt(decoder.tensor)} holds the latents: {decoder.why}",
                tensor=decoder.tensor,
            )
    return _match(source, UNKNOWN, decoders, "a tensor named like a decoder, in no layout of the catalogue")


def plan_none(source: Source) -> Match:
    """Plan a file that holds nothing that could be a decoder."""
    source.note(
        "L_NO_DECODER",
        "no tensor in this file could be a decoder"
        if source.file.tensors
        else "the file holds no tensor that could be read",
    )
    return _match(source, NONE, [], "no tensor has the name and the axes of a decoder")


def _match(source: Source, layout: str, decoders: list[Decoder], why: str) -> Match:
    return Match(
        layout=layout,
        is_folder=False,
        files=(source.file.path,),
        decoders=decoders,
        expected="unknown",
        expected_why="no known layout, so nothing says how these weights were trained",
        trainer_order_explains_drift=False,
        why=why,
        findings=source.findings,
    )


def _as_decoder(source: Source, tensor: TensorMeta) -> Decoder | None:
    if len(tensor.shape) < _MATRIX or tensor.dtype not in NORM_DTYPES:
        return None
    name = source.name.removesuffix(".npy") if source.file.container == "npy" else tensor.name
    if not any(word in name for word in _MENTIONS):
        return None
    found = _WORD.fullmatch(name)
    if found is None:
        found = _LINEAR.fullmatch(name)
        if found is None or not _has_encoder(source, found["prefix"], found["suffix"]):
            return None
    axes = decide(_evidence(source, tensor, found["prefix"], found["suffix"]))
    return Decoder(tensor.name, source.file.path, axes.latent, axes.reduce, False, axes.why)


def _has_encoder(source: Source, prefix: str, suffix: str) -> bool:
    """A language model's decoder has no encoder of the same family beside it."""
    return any(
        f"{prefix}{stem}{suffix}.{leaf}" in source.tensors
        for stem in ("encoder", "encoders", "encoder_linear", "enc", "encoder.0")
        for leaf in ("weight", "bias")
    )


def _evidence(source: Source, tensor: TensorMeta, prefix: str, suffix: str) -> Evidence:
    def beside(names: tuple[str, ...]) -> list[str]:
        return [f"{prefix}{name}{end}" for name in names for end in dict.fromkeys((suffix, ""))]

    encoder = next((name for name in beside(_ENCODERS) if name in source.tensors), None)
    return Evidence(
        tensor=excerpt(tensor.name)[1:-1],
        shape=tensor.shape,
        latents=source.lengths(beside(_LATENT_VECTORS)),
        written=source.lengths(beside(_WRITTEN_VECTORS)),
        encoder=None if encoder is None else (encoder, source.tensors[encoder].shape),
    )
