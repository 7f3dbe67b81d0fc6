"""Layouts of other projects: one clear case each, and what keeps them from being taken for another."""

from __future__ import annotations

import json

import pytest

from layouts_builder import D_IN, D_SAE, axes, codes, container_of, recognise_one, sae, tensors
from unitrow.layouts import FileMeta, Folder, recognise

LINEAR = {
    "encoder.weight": (D_SAE, D_IN),
    "decoder.weight": (D_IN, D_SAE),
    "encoder.bias": (D_SAE,),
    "decoder.bias": (D_IN,),
}
LM_SAES = {"W_E": (D_IN, D_SAE), "W_D": (D_SAE, D_IN), "b_E": (D_SAE,), "b_D": (D_IN,)}
MLSAE = {
    "encoder.weight": (D_SAE, D_IN),
    "decoder.weight": (D_IN, D_SAE),
    "pre_encoder_bias": (D_IN,),
    "last_nonzero": ("I64", (D_SAE,)),
}
INTERPROT = {"w_enc": (D_IN, D_SAE), "w_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_pre": (D_IN,)}
TEMPORAL = {"D": (D_SAE, D_IN), "E": (D_IN, D_SAE), "b": (1, D_IN), "attn_layers.0.weight": (4, 4)}
QWEN = {"W_enc": (D_SAE, D_IN), "W_dec": (D_IN, D_SAE), "b_enc": (D_SAE,), "b_dec": (D_IN,)}


def llama_scope(name="final.safetensors", **config):
    """The weights stand in `checkpoints/`, their configuration one folder up."""
    fields = {
        "d_model": D_IN,
        "d_sae": D_SAE,
        "hook_point_in": "a",
        "decoder_exactly_fixed_norm": False,
    } | config
    texts = {"../hyperparams.json": json.dumps(fields).encode()}
    folder = Folder("L18M-8x/checkpoints", frozenset({name}), texts.get)
    (match,) = recognise(folder, [FileMeta(name, container_of(name), tensors(LINEAR, "BF16"))])
    return match


def test_llama_scope():
    match = llama_scope()
    assert (match.layout, match.is_folder, match.files) == ("llama_scope", False, ("final.safetensors",))
    assert (axes(match), codes(match), match.expected) == ((1, 0), [], "no")
    assert llama_scope("pruned.safetensors").layout == "llama_scope"
    assert llama_scope(decoder_exactly_fixed_norm=True).expected == "unknown"
    assert codes(llama_scope(d_sae=64)) == ["L_CONFIG_MISMATCH"]


def test_linear_layers_without_a_configuration_belong_to_nobody():
    match = recognise_one({"final.safetensors": LINEAR})
    assert (match.layout, axes(match), codes(match)) == ("unknown", (1, 0), ["L_UNKNOWN"])


def test_llama_scope_r1():
    shapes = LINEAR | {"log_jumprelu_threshold": (D_SAE,)}
    config = {"d_model": D_IN, "expansion_factor": 4, "hook_point_in": "a", "hook_point_out": "a"}
    match = recognise_one({"sae_weights.safetensors": shapes}, {"config.json": config})
    assert (match.layout, match.is_folder, match.expected) == ("llama_scope_r1", True, "no")
    assert (axes(match), codes(match), match.threshold_tensor) == ((1, 0), [], None)


def test_lm_saes():
    config = {"sae_type": "sae", "d_model": D_IN, "expansion_factor": 4}
    match = recognise_one({"sae_weights.safetensors": LM_SAES}, {"config.json": config})
    assert (match.layout, match.is_folder, match.expected) == ("lm_saes", True, "no")
    assert (axes(match), codes(match)) == ((0, 1), [])
    assert recognise_one({"sae_weights.safetensors": LM_SAES}).expected == "unknown"
    wrong = config | {"d_sae": D_SAE + 1}
    assert codes(recognise_one({"sae_weights.safetensors": LM_SAES}, {"config.json": wrong})) == [
        "L_CONFIG_MISMATCH"
    ]
    other = wrong | {"sae_type": "lorsa"}  # sizes mean something else there
    assert codes(recognise_one({"sae_weights.safetensors": LM_SAES}, {"config.json": other})) == []


def test_mlsae():
    config = {"n_inputs": D_IN, "n_latents": D_SAE, "k": 4}
    match = recognise_one({"model.safetensors": MLSAE}, {"config.json": config})
    assert (match.layout, match.is_folder, match.expected) == ("mlsae", True, "yes")
    assert match.trainer_order_explains_drift
    assert (axes(match), codes(match)) == ((1, 0), [])
    assert codes(recognise_one({"model.safetensors": MLSAE}, {"config.json": config | {"n_latents": 5}}))


def test_interprot():
    match = recognise_one({"esm2_plm1280_l24_sae4096.safetensors": INTERPROT})
    assert (match.layout, match.is_folder, match.expected) == ("interprot", False, "no")
    assert (axes(match), codes(match)) == ((0, 1), [])
    assert recognise_one({"renamed.safetensors": INTERPROT}).layout == "interprot"


def test_temporal():
    config = f"llm:\n  dimin: {D_IN}\nsae:\n  exp_factor: 4\n  tied_weights: false\ndata:\n  dtype: float32\n"
    match = recognise_one({"latest_ckpt.safetensors": TEMPORAL}, {"conf.yaml": config})
    assert (match.layout, match.is_folder, match.expected) == ("temporal", True, "no")
    assert (axes(match), codes(match)) == ((0, 1), [])
    assert recognise_one({"latest_ckpt.safetensors": TEMPORAL}).layout == "none"


def test_crosscoder():
    shapes = {
        "encoder.weight": (2, D_IN, D_SAE),
        "encoder.bias": (D_SAE,),
        "decoder.weight": (2, D_SAE, D_IN),
        "decoder.bias": (2, D_IN),
        "activation_mean": (2, D_IN),
        "code_normalization_id": ("I64", ()),
    }
    match = recognise_one(
        {"model.safetensors": shapes}, {"config.json": {"activation_dim": D_IN, "dict_size": D_SAE}}
    )
    assert (match.layout, match.is_folder, match.expected) == ("crosscoder", True, "no")
    assert (axes(match), codes(match)) == ((1, 2), [])
    assert match.nan_allowed == {"activation_mean"}
    assert recognise_one({"mine.safetensors": shapes}).layout == "crosscoder"


@pytest.mark.parametrize("name", ["layer3.sae.safetensors", "converted.safetensors"])
def test_qwen_scope(name):
    match = recognise_one({name: QWEN})
    assert (match.layout, match.is_folder, match.expected) == ("qwen_scope", False, "unknown")
    assert (axes(match), codes(match)) == ((1, 0), [])
    assert "transposed" not in match.decoders[0].why


def test_only_the_decoder_turned_round_is_nobodys_layout_but_measured():
    match = recognise_one({"mine.safetensors": sae(W_dec=(D_IN, D_SAE))})
    assert (match.layout, axes(match)) == ("saelens", (1, 0))
    assert "transposed" in match.decoders[0].why
