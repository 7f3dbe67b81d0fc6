"""Layouts of single projects, told apart by tensors that nobody else has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unitrow.layouts.config import as_count
from unitrow.layouts.entry import Judgement, Layout, config_sizes

if TYPE_CHECKING:
    from unitrow.layouts.source import Source

_MATRIX = 2


def _recognise_mlsae(source: Source, _named: bool) -> str | None:
    if not source.has("encoder.weight", "decoder.weight", "pre_encoder_bias", "last_nonzero"):
        return None
    return "decoder.weight with the pre_encoder_bias and last_nonzero of mlsae"


def _judge_mlsae(source: Source, named: bool) -> Judgement:
    config = source.around.json("config.json") if named else None
    sizes = {}
    if config is not None:
        source.check_config(config)
        sizes = config_sizes(source, config, {"n_inputs": "d_in", "n_latents": "d_sae"})
    if "d_in" in sizes:
        sizes["d_out"] = sizes["d_in"]
    return Judgement(
        expected="yes",
        expected_why="mlsae normalises decoder rows before each optimiser step and saves after it",
        order_explains_drift=True,
        sizes=sizes,
        required=(("encoder.weight",), ("decoder.weight",), ("pre_encoder_bias",)),
        required_why="mlsae",
    )


def _recognise_interprot(source: Source, _named: bool) -> str | None:
    if not source.has("w_enc", "w_dec", "b_enc", "b_pre") or source.has("b_dec"):
        return None
    return "w_enc and w_dec with the b_pre of interprot"


def _judge_interprot(_source: Source, _named: bool) -> Judgement:
    return Judgement(
        expected="no",
        expected_why="interprot normalises the columns of its decoder, over all latents, and not its rows",
        required=(("w_enc",), ("w_dec",)),
        required_why="interprot",
    )


def _recognise_temporal(source: Source, named: bool) -> str | None:
    config = source.around.yaml("conf.yaml") if named else None
    if config is None or not source.has("D") or not isinstance(config.values.get("sae"), dict):
        return None
    return "latest_ckpt.safetensors with D beside the conf.yaml of a temporal SAE"


def _judge_temporal(source: Source, _named: bool) -> Judgement:
    config = source.around.yaml("conf.yaml")
    source.check_config(config)
    width = as_count(config.section("llm").get("dimin"))
    judgement = Judgement(
        expected="no",
        expected_why="temporal SAEs are trained without any rule for decoder norms",
        required=(("D",),),
        required_why="a temporal SAE",
    )
    if width is not None:
        judgement.state("d_out", width, "llm.dimin in conf.yaml")
        judgement.state("d_in", width, "llm.dimin in conf.yaml")
    return judgement


def _recognise_qwen_scope(source: Source, _named: bool) -> str | None:
    if not source.has("W_enc", "W_dec", "b_enc", "b_dec"):
        return None
    latents, written = source.length("b_enc"), source.length("b_dec")
    encoder, decoder = source.tensors["W_enc"].shape, source.tensors["W_dec"].shape
    if latents == written or encoder != (latents, written) or decoder != (written, latents):
        return None
    return "W_enc with latents first and W_dec with latents last, as Qwen Scope stores them"


def _judge_qwen_scope(_source: Source, _named: bool) -> Judgement:
    return Judgement("unknown", "Qwen Scope's trainer is not public")


def _recognise_crosscoder(source: Source, _named: bool) -> str | None:
    ranks = {"encoder.weight": 3, "decoder.weight": 3, "encoder.bias": 1, "decoder.bias": 2}
    for name, rank in ranks.items():
        shape = source.shape(name)
        if shape is None or len(shape) != rank:
            return None
    return "encoder.weight and decoder.weight with one matrix per layer, as crosscoders have them"


def _judge_crosscoder(source: Source, named: bool) -> Judgement:
    config = source.around.json("config.json") if named else None
    sizes = {}
    if config is not None:
        source.check_config(config)
        sizes = config_sizes(source, config, {"activation_dim": "d_in", "dict_size": "d_sae"})
    if "d_in" in sizes:
        sizes["d_out"] = sizes["d_in"]
    return Judgement(
        expected="no",
        expected_why="the penalty is multiplied by row norms, and a latent may be absent from one layer",
        sizes=sizes,
        nan_allowed=("activation_mean", "activation_std"),  # written before they were measured
    )


LAYOUTS = (
    Layout(
        id="crosscoder",
        title="Crosscoder of dictionary_learning",
        is_folder=True,
        weights=re.compile(r"model\.safetensors"),
        decoder="decoder.weight",
        shapes={
            "encoder.weight": "sites d_in d_sae",
            "decoder.weight": "sites d_sae d_out",
            "encoder.bias": "d_sae",
            "decoder.bias": "sites d_out",
        },
        recognise=_recognise_crosscoder,
        judge=_judge_crosscoder,
        side_files=("config.json",),
    ),
    Layout(
        id="mlsae",
        title="Multi-layer SAE",
        is_folder=True,
        weights=re.compile(r"model\.safetensors"),
        decoder="decoder.weight",
        shapes={
            "encoder.weight": "d_sae d_in",
            "decoder.weight": "d_out d_sae",
            "pre_encoder_bias": "d_out",
            "last_nonzero": "d_sae",
        },
        recognise=_recognise_mlsae,
        judge=_judge_mlsae,
        side_files=("config.json",),
    ),
    Layout(
        id="interprot",
        title="InterProt",
        is_folder=False,
        weights=re.compile(r".*_sae[0-9]+\.safetensors"),
        decoder="w_dec",
        shapes={"w_enc": "d_in d_sae", "w_dec": "d_sae d_out", "b_enc": "d_sae", "b_pre": "d_out"},
        recognise=_recognise_interprot,
        judge=_judge_interprot,
    ),
    Layout(
        id="temporal",
        title="Temporal SAE",
        is_folder=True,
        weights=re.compile(r"latest_ckpt\.safetensors"),
        decoder="D",
        shapes={"E": "d_in d_sae", "D": "d_sae d_out"},
        recognise=_recognise_temporal,
        judge=_judge_temporal,
        side_files=("conf.yaml",),
    ),
    Layout(
        id="qwen_scope",
        title="Qwen Scope",
        is_folder=False,
        weights=re.compile(r"layer[0-9]{1,6}\.sae\.safetensors"),
        decoder="W_dec",
        shapes={"W_enc": "d_sae d_in", "W_dec": "d_out d_sae", "b_enc": "d_sae", "b_dec": "d_out"},
        recognise=_recognise_qwen_scope,
        judge=_judge_qwen_scope,
    ),
)
