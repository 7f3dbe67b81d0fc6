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
_TRANSCODERS = re.compile(r"(?:^|[-_])transcoders(?:$|[^a-z])")
_RELEASE_FOLDER = re.compile(r"layer_[0-9]+_width_[0-9]+[km]_l0_")
_SAES = re.compile(r"gemma-scope-.*-(?:res|mlp|att)(?:$|-)")
_VECTORS: Mapping[str, str] = {"b_enc": "d_sae", "b_dec": "d_out", "threshold": "d_sae"}
_AFFINE = "affine_skip_connection"

_RECIPE = "Gemma Scope's trainer projects decoder rows back to unit norm after every update"
_TENSORS_ONLY = "nothing but tensor names says that this is a Gemma Scope file"


class _First:
    """Gemma Scope 1 with its tensor names in capitals, or small as some copies have them."""

    def __init__(self, letter: str) -> None:
        self.encoder, self.decoder = f"{letter}_enc", f"{letter}_dec"
        self.required = (self.encoder, self.decoder, "b_enc", "b_dec", "threshold")

    def shapes(self) -> dict[str, str]:
        return {self.encoder: "d_in d_sae", self.decoder: "d_sae d_out", **_VECTORS}

    def recognise(self, source: Source, named: bool) -> str | None:
        if source.file.container != "npz":
            return None
        if named and (source.has(self.decoder) or source.has(self.encoder)):
            return f"params.npz with {self.decoder if source.has(self.decoder) else self.encoder}"
        if source.has(*self.required):
            return "an npz archive with the five tensors of Gemma Scope, though not named params.npz"
        return None

    def recognise_transcoder(self, source: Source, named: bool) -> str | None:
        why = self.recognise(source, named)
        if why is None:
            return None
        for part in reversed(source.folder.names()):  # the innermost name that says something
            if _TRANSCODERS.search(part):
                return f"{why}, in a folder named after transcoders"
            if _SAES.search(part):
                return None
        return f"{why}, reading and writing different widths" if self._widths_differ(source) else None

    def judge(self, _source: Source, named: bool) -> Judgement:
        return Judgement(
            expected="yes" if named else "unknown",
            expected_why=_RECIPE if named else _TENSORS_ONLY,
            required=tuple((name,) for name in self.required),
            required_why="Gemma Scope's JumpReLU",
            threshold="threshold",
        )

    def layouts(self) -> tuple[Layout, Layout]:
        sae = Layout(
            id="gemma_scope_1",
            title="Gemma Scope SAE",
            is_folder=False,
            weights=re.compile(r"params\.npz"),
            decoder=self.decoder,
            shapes=self.shapes(),
            recognise=self.recognise,
            judge=self.judge,
        )
        transcoder = replace(
            sae,
            id="gemma_scope_1_transcoder",
            title="Gemma Scope transcoder",
            recognise=self.recognise_transcoder,
        )
        return transcoder, sae

    def _widths_differ(self, source: Source) -> bool:
        read = source.other_extent(self.encoder, source.length("b_enc"))
        return read is not None and source.length("b_dec") not in {read, None}


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
            _TENSORS_ONLY,
            threshold="threshold",
            zero_allowed=(_AFFINE,),
        )
    config = source.around.json("config.json")
    source.check_config(config)
    expected, why = _expected_2(config, source.folder.names())
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


def _expected_2(config: Config, folders: tuple[str, ...]) -> tuple[str, str]:
    if not config.values and not any(_RELEASE_FOLDER.match(folder) for folder in folders[-1:]):
        return "unknown", "neither a config.json nor the folder's name says that this is Gemma Scope 2"
    model = as_text(config.values.get("model_name"))
    if model is not None and "gemma" not in model.lower():
        return (
            "unknown",
            "stored like Gemma Scope 2, but config.json names another model, so another trainer made it",
        )
    return "yes", _RECIPE


GEMMA_SCOPE_2 = Layout(
    id="gemma_scope_2",
    title="Gemma Scope 2 SAE or transcoder",
    is_folder=True,
    weights=re.compile(r"params\.safetensors"),
    decoder="w_dec",
    shapes={"w_enc": "d_in d_sae", "w_dec": "d_sae d_out", **_VECTORS, _AFFINE: "d_in d_out"},
    recognise=_recognise_2,
    judge=_judge_2,
    side_files=("config.json",),
)

LAYOUTS = (*_First("W").layouts(), *_First("w").layouts(), GEMMA_SCOPE_2)
