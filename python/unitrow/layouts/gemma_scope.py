"""Gemma Scope 1 (`params.npz`, no configuration) and 2 (`params.safetensors` with `config.json`).

Both technical reports say that decoder rows were renormalised after every update and that the
gradient along them was removed before it; folding scales into the encoder left the decoder as it was.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from unitrow.layouts.config import as_flag, as_text
from unitrow.layouts.entry import Judgement, Layout, config_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrow.layouts.config import Config
    from unitrow.layouts.source import Source

_MATRIX = 2
_UPPER: Mapping[str, str] = {
    "W_enc": "d_in d_sae",
    "W_dec": "d_sae d_out",
    "b_enc": "d_sae",
    "b_dec": "d_out",
    "threshold": "d_sae",
}
_LOWER: Mapping[str, str] = {
    "w_enc": "d_in d_sae",
    "w_dec": "d_sae d_out",
    "b_enc": "d_sae",
    "b_dec": "d_out",
    "threshold": "d_sae",
}
_AFFINE = "affine_skip_connection"

_RECIPE = "Gemma Scope's trainer projects decoder rows back to unit norm after every update"


def _recognise_1(source: Source, named: bool) -> str | None:
    if source.file.container != "npz":
        return None
    decoder, encoder = ("W_dec", "W_enc") if source.has("W_dec") else ("w_dec", "w_enc")
    if named and (source.has(decoder) or source.has(encoder)):
        return f"params.npz with {decoder if source.has(decoder) else encoder}"
    if source.has(decoder, encoder, "b_enc", "b_dec", "threshold"):
        return "an npz archive with the five tensors of Gemma Scope, though not named params.npz"
    return None


def _recognise_1_transcoder(source: Source, named: bool) -> str | None:
    why = _recognise_1(source, named)
    if why is None:
        return None
    if any("transcoder" in part.lower() for part in source.folder.names()):
        return f"{why}, in a folder named after transcoders"
    if _reads_another_width(source):
        return f"{why}, reading and writing different widths"
    return None


def _reads_another_width(source: Source) -> bool:
    encoder = source.shape("W_enc") or source.shape("w_enc")
    latents, written = source.length("b_enc"), source.length("b_dec")
    if encoder is None or len(encoder) != _MATRIX or latents not in encoder or written is None:
        return False
    return (encoder[1] if encoder[0] == latents else encoder[0]) != written


def _judge_1(source: Source, named: bool) -> Judgement:
    lower = source.has("w_dec") and not source.has("W_dec")
    encoder, decoder = ("w_enc", "w_dec") if lower else ("W_enc", "W_dec")
    return Judgement(
        expected="yes" if named else "unknown",
        expected_why=_RECIPE if named else "nothing but tensor names says that this is a Gemma Scope file",
        required=((encoder,), (decoder,), ("b_enc",), ("b_dec",), ("threshold",)),
        required_why="Gemma Scope's JumpReLU",
        threshold="threshold",
    )


def _recognise_2(source: Source, named: bool) -> str | None:
    if source.file.container != "safetensors":
        return None
    if named and source.has("w_dec"):
        config = source.around.json("config.json")
        return "params.safetensors with w_dec" + (
            "" if config.present else ", without the config.json beside it"
        )
    if named and source.has("w_enc", "b_enc"):
        return "params.safetensors with w_enc and b_enc"
    if source.has("w_enc", "w_dec", "b_enc", "b_dec") and len(source.tensors["w_dec"].shape) == _MATRIX:
        return "the tensor names of Gemma Scope 2; its file name and its config.json are missing"
    return None


def _judge_2(source: Source, named: bool) -> Judgement:
    if not named:
        return Judgement(
            "unknown",
            "nothing but tensor names says that this is a Gemma Scope file",
            threshold="threshold",
            zero_allowed=(_AFFINE,),
        )
    config = source.around.json("config.json")
    source.check_config(config)
    expected, why = _expected_2(config)
    kind = as_text(config.values.get("type"))
    sizes = config_sizes(source, config, {"width": "d_sae"}) if kind in {None, "sae", "transcoder"} else {}
    affine = as_flag(config.values.get("affine_connection"))
    jump_relu = config.values.get("architecture", "jump_relu") == "jump_relu"
    required = [("w_enc",), ("w_dec",), ("b_enc",), ("b_dec",)]
    required += [("threshold",)] if jump_relu else []
    required += [(_AFFINE,)] if affine else []
    return Judgement(
        expected=expected,
        expected_why=why,
        sizes=sizes,
        required=tuple(required),
        required_why="affine_connection = true in config.json" if affine else "Gemma Scope 2's JumpReLU",
        unwanted={_AFFINE: "config.json says affine_connection = false"} if affine is False else {},
        threshold="threshold",
        zero_allowed=(_AFFINE,),
    )


def _expected_2(config: Config) -> tuple[str, str]:
    model = as_text(config.values.get("model_name"))
    if model is not None and "gemma" not in model.lower():
        return (
            "unknown",
            "stored like Gemma Scope 2, but config.json names another model, so another trainer made it",
        )
    return "yes", _RECIPE


GEMMA_SCOPE_1 = Layout(
    id="gemma_scope_1",
    title="Gemma Scope SAE",
    is_folder=False,
    weights=re.compile(r"params\.npz"),
    decoder="W_dec",
    shapes=_UPPER,
    recognise=_recognise_1,
    judge=_judge_1,
)

GEMMA_SCOPE_1_TRANSCODER = replace(
    GEMMA_SCOPE_1,
    id="gemma_scope_1_transcoder",
    title="Gemma Scope transcoder",
    recognise=_recognise_1_transcoder,
)

GEMMA_SCOPE_2 = Layout(
    id="gemma_scope_2",
    title="Gemma Scope 2 SAE or transcoder",
    is_folder=True,
    weights=re.compile(r"params\.safetensors"),
    decoder="w_dec",
    shapes={**_LOWER, _AFFINE: "d_in d_out"},
    recognise=_recognise_2,
    judge=_judge_2,
    side_files=("config.json",),
)

LAYOUTS = (GEMMA_SCOPE_1_TRANSCODER, GEMMA_SCOPE_1, GEMMA_SCOPE_2)
