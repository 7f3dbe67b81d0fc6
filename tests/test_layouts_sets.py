"""Checkpoints of several files and decoders with three axes."""

from __future__ import annotations

import pytest

from layouts_builder import D_IN, D_SAE, codes, recognise_folder, recognise_one, sae

LAYERS = 4
TRACER_CONFIG = "model_kind: cross_layer_transcoder\nscan: some/clt\n"


def tracer(layers=LAYERS, *, threshold=True):
    files = {}
    for i in range(layers):
        encoder = {f"W_enc_{i}": (D_SAE, D_IN), f"b_enc_{i}": (D_SAE,), f"b_dec_{i}": (D_IN,)}
        files[f"W_enc_{i}.safetensors"] = encoder | ({f"threshold_{i}": (D_SAE,)} if threshold else {})
        files[f"W_dec_{i}.safetensors"] = {f"W_dec_{i}": (D_SAE, layers - i, D_IN)}
    return files


def gemma(layers=LAYERS, sites=LAYERS, **more):
    shapes = {
        "w_enc": (D_IN, D_SAE),
        "w_dec": (D_SAE, sites, D_IN),
        "b_enc": (D_SAE,),
        "b_dec": (D_IN,),
        "threshold": (D_SAE,),
    }
    return {f"params_layer_{i}.safetensors": shapes | more for i in range(layers)}


@pytest.mark.parametrize("threshold", [True, False])
def test_circuit_tracer_clt(threshold):
    match = recognise_one(tracer(threshold=threshold), {"config.yaml": TRACER_CONFIG})
    assert (match.layout, match.is_folder, match.expected, codes(match)) == (
        "circuit_tracer_clt",
        True,
        "unknown",
        [],
    )
    assert len(match.files) == 2 * LAYERS + 1
    assert [decoder.tensor for decoder in match.decoders] == [f"W_dec_{i}" for i in range(LAYERS)]
    assert [decoder.file for decoder in match.decoders] == [f"W_dec_{i}.safetensors" for i in range(LAYERS)]
    assert {(decoder.latent_axis, decoder.reduce_axis) for decoder in match.decoders} == {(0, 2)}


def test_circuit_tracer_clt_without_config():
    assert codes(recognise_one(tracer())) == []


def test_circuit_tracer_clt_with_a_gap():
    files = tracer()
    del files["W_dec_1.safetensors"], files["W_enc_1.safetensors"]
    match = recognise_one(files)
    assert codes(match) == ["L_MISSING_TENSOR"]
    assert match.findings[0].tensor == "W_dec_1"


def test_circuit_tracer_clt_without_one_decoder():
    files = tracer()
    del files["W_dec_2.safetensors"]
    match = recognise_one(files)
    assert codes(match) == ["L_MISSING_TENSOR"]
    assert len(match.decoders) == LAYERS - 1


def test_one_file_of_a_circuit_tracer_clt_is_not_blamed_for_those_beside_it():
    files = tracer()
    name = "W_dec_1.safetensors"
    match = recognise_one({name: files[name]}, others=list(files))
    assert (match.layout, match.files) == ("circuit_tracer_clt", (name,))
    assert codes(match) == ["L_AMBIGUOUS_AXIS"]  # the lengths stand in the other file


def test_circuit_tracer_clt_that_writes_too_few_layers():
    files = tracer()
    files["W_dec_0.safetensors"] = {"W_dec_0": (D_SAE, LAYERS - 1, D_IN)}
    match = recognise_one(files)
    assert codes(match) == ["L_CONFIG_MISMATCH"]
    assert match.findings[0].tensor == "W_dec_0"


@pytest.mark.parametrize(
    ("config", "path", "layout"),
    [
        ({"type": "clt"}, "x", "gemma_scope_2_clt"),
        ({"type": "crosscoder"}, "x", "gemma_scope_2_crosscoder"),
        (None, "clt/width_262k_l0_medium", "gemma_scope_2_clt"),
        (None, "crosscoder/layer_7_13_17_22_width_262k_l0_medium", "gemma_scope_2_crosscoder"),
    ],
)
def test_gemma_scope_2_sets(config, path, layout):
    match = recognise_one(gemma(), {} if config is None else {"config.json": config}, path=path)
    assert (match.layout, match.is_folder, match.expected, codes(match)) == (layout, True, "unknown", [])
    assert len(match.decoders) == LAYERS
    assert {(decoder.latent_axis, decoder.reduce_axis) for decoder in match.decoders} == {(0, 2)}
    assert all(decoder.zero_rows_legal for decoder in match.decoders)
    assert match.threshold_tensor == "threshold"


def test_gemma_scope_2_affine_set():
    assert (
        codes(recognise_one(gemma(affine_skip_connection=(D_IN, D_IN)), {"config.json": {"type": "clt"}}))
        == []
    )


def test_extents_that_occur_twice_are_undecided():
    match = recognise_one(gemma(sites=D_IN))
    assert set(codes(match)) == {"L_AMBIGUOUS_AXIS"}
    assert all(decoder.latent_axis is None for decoder in match.decoders)


def test_other_files_stand_beside_a_set():
    matches = recognise_folder(gemma() | {"extra.safetensors": sae()}, {"config.json": {"type": "clt"}})
    assert [match.layout for match in matches] == ["saelens", "gemma_scope_2_clt"]


def test_files_with_the_names_of_a_set_and_other_tensors():
    assert recognise_one({"W_dec_0.safetensors": {"x": (3,)}}).layout == "none"
    assert recognise_one({"params_layer_0.safetensors": {"x": (3,)}}).layout == "none"
