"""OpenMOSS: Llama Scope, its distilled-model release, and the files of lm-saes and llamascopium.

None of these trainers holds decoder rows at one norm while it trains: the penalty is multiplied by
row norms, and a fixed norm is at most a bound, or the start.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unitrow.layouts.config import as_flag
from unitrow.layouts.entry import Judgement, Layout, config_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrow.layouts.axis import Length
    from unitrow.layouts.config import Config
    from unitrow.layouts.source import Source

_LINEAR: Mapping[str, str] = {
    "encoder.weight": "d_sae d_in",
    "decoder.weight": "d_out d_sae",
    "encoder.bias": "d_sae",
    "decoder.bias": "d_out",
    "log_jumprelu_threshold": "d_sae",
}
_RELEASE_CONFIG = "../hyperparams.json"  # the weights stand in a folder `checkpoints` below it
_SCALED_PENALTY = "the sparsity penalty was multiplied by row norms, which are free"


def _sizes(source: Source, config: Config) -> dict[str, Length]:
    sizes = config_sizes(source, config, {"d_model": "d_in", "d_sae": "d_sae"})
    if "d_in" in sizes:
        sizes["d_out"] = sizes["d_in"]
    return sizes


def _recognise_release(source: Source, named: bool) -> str | None:
    if not named or not source.has("encoder.weight", "decoder.weight", "encoder.bias"):
        return None
    config = source.around.json(_RELEASE_CONFIG)
    if "hook_point_in" not in config.values:
        return None
    return f"{source.name} below a folder with a hyperparams.json of lm-saes"


def _judge_release(source: Source, _named: bool) -> Judgement:
    config = source.around.json(_RELEASE_CONFIG)
    source.check_config(config)
    exact = as_flag(config.values.get("decoder_exactly_fixed_norm"))
    if exact is False:
        expected, why = "no", "hyperparams.json says decoder_exactly_fixed_norm = false"
    else:
        expected, why = "unknown", "hyperparams.json does not say that rows are left free"
    return Judgement(
        expected=expected,
        expected_why=why,
        sizes=_sizes(source, config),
        required=(("encoder.weight",), ("encoder.bias",), ("decoder.weight",)),
        required_why="Llama Scope",
    )


def _recognise_distilled(source: Source, named: bool) -> str | None:
    if not named or not source.has("encoder.weight", "decoder.weight"):
        return None
    config = source.around.json("config.json")
    if "hook_point_in" not in config.values:
        return None
    return "sae_weights.safetensors with decoder.weight beside a config.json of lm-saes"


def _judge_distilled(source: Source, _named: bool) -> Judgement:
    config = source.around.json("config.json")
    source.check_config(config)
    return Judgement(
        expected="no",
        expected_why=_SCALED_PENALTY,
        sizes=_sizes(source, config),
        required=(("encoder.weight",), ("encoder.bias",), ("decoder.weight",)),
        required_why="lm-saes",
    )


def _recognise_current(source: Source, named: bool) -> str | None:
    if not source.has("W_E", "W_D") or source.length("b_E") is None:
        return None
    if any(name.startswith("W_D.") for name in source.tensors):
        return None  # a cross-layer transcoder
    if not named:
        return "the tensor names of lm-saes; its file name and its config.json are missing"
    beside = "" if source.around.json("config.json").present else ", without the config.json beside it"
    return f"sae_weights.safetensors with W_E and W_D{beside}"


def _judge_current(source: Source, named: bool) -> Judgement:
    if not named or not source.around.json("config.json").present:
        return Judgement("unknown", "no configuration says how these weights were trained")
    config = source.around.json("config.json")
    source.check_config(config)
    kind = config.values.get("sae_type", "sae")
    return Judgement(
        expected="no",
        expected_why=f"lm-saes sets row norms when it starts and leaves them free; {_SCALED_PENALTY}",
        sizes=_sizes(source, config) if kind == "sae" else {},
        required=(("W_E",), ("b_E",), ("W_D",)),
        required_why="lm-saes",
    )


LAYOUTS = (
    Layout(
        id="llama_scope",
        title="Llama Scope",
        is_folder=False,
        weights=re.compile(r"(?:final|pruned)\.safetensors"),
        decoder="decoder.weight",
        shapes=_LINEAR,
        recognise=_recognise_release,
        judge=_judge_release,
    ),
    Layout(
        id="llama_scope_r1",
        title="Llama Scope R1",
        is_folder=True,
        weights=re.compile(r"sae_weights\.safetensors"),
        decoder="decoder.weight",
        shapes=_LINEAR,
        recognise=_recognise_distilled,
        judge=_judge_distilled,
        side_files=("config.json",),
    ),
    Layout(
        id="lm_saes",
        title="lm-saes and llamascopium",
        is_folder=True,
        weights=re.compile(r"sae_weights\.safetensors"),
        decoder="W_D",
        shapes={"W_E": "d_in d_sae", "W_D": "d_sae d_out", "b_E": "d_sae", "b_D": "d_out"},
        recognise=_recognise_current,
        judge=_judge_current,
        side_files=("config.json",),
    ),
)
