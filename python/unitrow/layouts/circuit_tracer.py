"""circuit-tracer per-layer transcoders: `layer_{i}.safetensors`, one `config.yaml` for the set.

Encoder and decoder both have the latents on axis 0. The trainers of the published sets are not
public; its cache of converted Gemma Scope transcoders keeps the decoder as it was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unitrow.layouts.config import as_text
from unitrow.layouts.entry import Judgement, Layout

if TYPE_CHECKING:
    from unitrow.layouts.config import Config
    from unitrow.layouts.source import Source

_THRESHOLD = "activation_function.threshold"
_CONFIGS = ("config.yaml", "config.yml")


def _config(source: Source) -> Config:
    configs = [source.around.yaml(name) for name in _CONFIGS]
    return next((config for config in configs if config.present), configs[0])


def _recognise(source: Source, named: bool) -> str | None:
    if source.file.container != "safetensors" or not source.has("W_enc", "W_dec"):
        return None
    latents = source.length("b_enc")
    encoder, decoder = source.tensors["W_enc"].shape, source.tensors["W_dec"].shape
    if named:
        config = _config(source)
        kind = as_text(config.values.get("model_kind"))
        if kind == "transcoder_set":
            return f"{source.name} beside a {config.name} of a transcoder set"
        if source.has(_THRESHOLD) or latents_first(encoder, latents):
            return f"{source.name} with circuit-tracer's tensors, without the config.yaml of its set"
        return None
    if source.has(_THRESHOLD) or (latents_first(encoder, latents) and latents_first(decoder, latents)):
        return "the tensor names and the orientation of circuit-tracer transcoders, under another file name"
    return None


def latents_first(shape: tuple[int, ...], latents: int | None) -> bool:
    """Whether axis 0, and no other, has one entry per latent."""
    return latents is not None and shape[:1] == (latents,) and latents not in shape[1:]


def _judge(source: Source, named: bool) -> Judgement:
    config = _config(source) if named else None
    expected, why = "unknown", "the trainers of these transcoders are not public"
    if config is not None:
        source.check_config(config)
        scan = config.values.get("scan")
        names = scan if isinstance(scan, list) else [scan]
        if any(isinstance(name, str) and "gemma-scope" in name for name in names):
            expected = "yes"
            why = f"{config.name} names Gemma Scope, whose trainer projects decoder rows after every update"
    return Judgement(
        expected=expected,
        expected_why=why,
        required=(("b_enc",), ("b_dec",)),
        required_why="circuit-tracer's loader",
        zero_allowed=("W_skip",),  # the skip connection starts at zero
        threshold=_THRESHOLD,
    )


CIRCUIT_TRACER = Layout(
    id="circuit_tracer",
    title="circuit-tracer per-layer transcoder",
    is_folder=False,
    weights=re.compile(r"layer_[0-9]{1,6}\.safetensors"),
    decoder="W_dec",
    shapes={
        "W_enc": "d_sae d_in",
        "W_dec": "d_sae d_out",
        "b_enc": "d_sae",
        "b_dec": "d_out",
        "W_skip": "d_out d_in",
        _THRESHOLD: "d_sae",
    },
    recognise=_recognise,
    judge=_judge,
    side_files=_CONFIGS,
)

LAYOUTS = (CIRCUIT_TRACER,)
