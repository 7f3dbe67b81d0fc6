"""EleutherAI sparsify: `cfg.json` beside `sae.safetensors`, one folder per hook point.

The trainer divides SAE rows by (norm + eps) before each forward pass, unless told not to, and saves
after the optimiser step. Transcoders start with a decoder of zeros that is never normalised, though
their `cfg.json` still says `normalize_decoder: true`; a row of zeros is a latent that never learned.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from unitrow.layouts.axis import Length
from unitrow.layouts.config import as_flag
from unitrow.layouts.entry import Judgement, Layout, config_sizes

if TYPE_CHECKING:
    from unitrow.layouts.config import Config
    from unitrow.layouts.source import Source


class _Training(NamedTuple):
    expected: str
    why: str
    transcodes: bool = False


def _training(config: Config) -> _Training:
    if not config.values:
        return _Training("unknown", "no configuration says how these weights were trained")
    transcodes = as_flag(config.values.get("transcode"))
    if transcodes:
        return _Training(
            "no",
            "cfg.json says transcode = true: such decoders start at zero and are never normalised, "
            "whatever normalize_decoder says",
            transcodes=True,
        )
    normalized = as_flag(config.values.get("normalize_decoder"))
    if normalized is False:
        return _Training("no", "cfg.json says normalize_decoder = false")
    if transcodes is None and "skip_connection" in config.values:
        # For a while only the training configuration, one folder up, said what was trained.
        return _Training(
            "unknown", "cfg.json does not say whether this is an SAE or a transcoder", transcodes=True
        )
    if normalized is None:
        return _Training("unknown", "cfg.json does not say whether the decoder was normalised")
    return _Training(
        "yes",
        "cfg.json says normalize_decoder = true: rows are divided by norm + eps before each step, "
        "and saved after it",
    )


def _judge(source: Source, named: bool) -> Judgement:
    if not named:
        return Judgement(
            "unknown", "no configuration says how these weights were trained", zero_allowed=("W_skip",)
        )
    config = source.around.json("cfg.json")
    source.check_config(config)
    training = _training(config)
    skip = as_flag(config.values.get("skip_connection"))
    required = [
        ("encoder.weight",),
        ("encoder.bias",),
        ("W_dec", "decoder.weight"),
        ("b_dec", "decoder.bias"),
    ]
    required += [("W_skip",)] if skip else []
    return Judgement(
        expected=training.expected,
        expected_why=training.why,
        order_explains_drift=training.expected == "yes",
        sizes=_sizes(source, config),
        required=tuple(required),
        required_why="skip_connection = true in cfg.json" if skip else "sparsify's format",
        unwanted={"W_skip": "cfg.json says skip_connection = false"} if skip is False else {},
        zero_rows_legal=training.transcodes,
        zero_allowed=("W_dec", "W_skip") if training.transcodes else ("W_skip",),
    )


def _sizes(source: Source, config: Config) -> dict[str, Length]:
    """Read sizes; `num_latents: 0` means `d_in * expansion_factor`."""
    sizes = config_sizes(source, config, {"d_in": "d_in"})
    if "d_in" in sizes:
        sizes["d_out"] = sizes["d_in"]  # transcoders write as many activations as they read
    latents = config.values.get("num_latents")
    if latents is not None and latents != 0:
        return sizes | config_sizes(source, config, {"num_latents": "d_sae"})
    expansion = config_sizes(source, config, {"expansion_factor": "factor"}).get("factor")
    if expansion is not None and "d_in" in sizes:
        sizes["d_sae"] = Length("d_in * expansion_factor in cfg.json", sizes["d_in"].value * expansion.value)
    return sizes


def _recognise(source: Source, named: bool) -> str | None:
    if source.file.container != "safetensors":
        return None
    if source.has("encoder.weight", "W_dec"):
        if not named:
            return "the tensor names of sparsify; its file name and its cfg.json are missing"
        beside = (
            "" if source.around.json("cfg.json").present else ", without the cfg.json that belongs beside it"
        )
        return f"sae.safetensors with encoder.weight and W_dec{beside}"
    if named and source.has("encoder.weight", "encoder.bias") and not source.has("decoder.weight"):
        config = source.around.json("cfg.json")
        return (
            "sae.safetensors beside a cfg.json of sparsify" if "expansion_factor" in config.values else None
        )
    return None


def _recognise_linear(source: Source, named: bool) -> str | None:
    if (
        not named
        or source.file.container != "safetensors"
        or not source.has("encoder.weight", "decoder.weight")
    ):
        return None
    config = source.around.json("cfg.json")
    if "expansion_factor" not in config.values:
        return None
    return "sae.safetensors with decoder.weight beside a cfg.json of sparsify"


SPARSIFY = Layout(
    id="sparsify",
    title="EleutherAI sparsify",
    is_folder=True,
    weights=re.compile(r"sae\.safetensors"),
    decoder="W_dec",
    shapes={
        "encoder.weight": "d_sae d_in",
        "W_dec": "d_sae d_out",
        "encoder.bias": "d_sae",
        "b_dec": "d_out",
        "W_skip": "d_out d_in",
    },
    recognise=_recognise,
    judge=_judge,
    side_files=("cfg.json",),
)

SPARSIFY_LINEAR = replace(
    SPARSIFY,
    title="EleutherAI sparsify, decoder as a linear layer",
    decoder="decoder.weight",
    shapes={
        "encoder.weight": "d_sae d_in",
        "decoder.weight": "d_out d_sae",
        "encoder.bias": "d_sae",
        "b_dec": "d_out",
        "decoder.bias": "d_out",
    },
    recognise=_recognise_linear,
)

LAYOUTS = (SPARSIFY, SPARSIFY_LINEAR)
