"""One clear case per layout, and the names that several layouts share."""

from __future__ import annotations

import pytest

from layouts_builder import (
    D_IN,
    D_OUT,
    D_SAE,
    axes,
    codes,
    recognise_folder,
    recognise_one,
    sae,
    saelens_config,
)
from unitrow.layouts import CATALOGUE, recognise
from unitrow.layouts.model import FileMeta, Folder

GEMMA = {
    "w_enc": (D_IN, D_SAE),
    "w_dec": (D_SAE, D_OUT),
    "b_enc": (D_SAE,),
    "b_dec": (D_OUT,),
    "threshold": (D_SAE,),
}
GEMMA_CONFIG = {
    "architecture": "jump_relu",
    "model_name": "gemma-v3-1b-pt",
    "affine_connection": False,
    "type": "transcoder",
    "width": D_SAE,
}
SPARSIFY = {
    "encoder.weight": (D_SAE, D_IN),
    "encoder.bias": (D_SAE,),
    "W_dec": (D_SAE, D_IN),
    "b_dec": (D_IN,),
}
SPARSIFY_CONFIG = {
    "activation": "topk",
    "d_in": D_IN,
    "expansion_factor": 4,
    "k": 4,
    "normalize_decoder": True,
    "num_latents": 0,
    "skip_connection": False,
    "transcode": False,
}
TRACER = {
    "W_enc": (D_SAE, D_IN),
    "W_dec": (D_SAE, D_IN),
    "b_enc": (D_SAE,),
    "b_dec": (D_IN,),
    "activation_function.threshold": (D_SAE,),
}
TRACER_CONFIG = "model_kind: transcoder_set\nmodel_name: some/model\nscan: some/scan\n"


def test_saelens_sae():
    match = recognise_one(
        {"sae_weights.safetensors": sae(), "sparsity.safetensors": {"sparsity": (D_SAE,)}},
        {"cfg.json": saelens_config(), "runner_cfg.json": {}},
        others=["trainer_state.pt", "notes.txt"],
    )
    assert (match.layout, match.is_folder, codes(match)) == ("saelens", True, [])
    assert axes(match) == (0, 1)
    assert match.files == (
        "sae_weights.safetensors",
        "cfg.json",
        "runner_cfg.json",
        "sparsity.safetensors",
        "trainer_state.pt",
    )
    assert match.expected == "no"
    assert match.threshold_tensor is None


def test_saelens_transcoder():
    shapes = sae(d_out=D_OUT, threshold=(D_SAE,), W_skip=(D_OUT, D_IN))
    config = saelens_config("jumprelu_skip_transcoder", d_out=D_OUT)
    match = recognise_one({"sae_weights.safetensors": shapes}, {"cfg.json": config})
    assert (match.layout, match.is_folder, codes(match)) == ("saelens_transcoder", True, [])
    assert axes(match) == (0, 1)
    assert match.threshold_tensor == "threshold"
    assert match.zero_allowed == {"b_enc", "b_dec", "threshold", "W_skip"}
    # sae-lens has classes for transcoders but no trainer: whatever the versions say, they were imported.
    assert match.expected == "unknown"


def test_saelens_transcoder_without_its_config():
    match = recognise_one({"sae_weights.safetensors": sae(d_out=D_OUT)})
    assert (match.layout, match.is_folder, codes(match)) == ("saelens_transcoder", True, [])
    assert "without the cfg.json" in match.why
    assert match.expected == "unknown"


def test_gemma_scope_1():
    path = "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82"
    match = recognise_one({"params.npz": sae(threshold=(D_SAE,))}, path=path)
    assert (match.layout, match.is_folder, codes(match)) == ("gemma_scope_1", False, [])
    assert match.files == ("params.npz",)
    assert axes(match) == (0, 1)
    assert match.expected == "yes"
    assert not match.trainer_order_explains_drift
    assert match.threshold_tensor == "threshold"


def test_gemma_scope_1_with_lower_case_names():
    shapes = {name.replace("W_", "w_"): shape for name, shape in sae(threshold=(D_SAE,)).items()}
    match = recognise_one({"params.npz": shapes})
    assert (match.layout, axes(match), codes(match)) == ("gemma_scope_1", (0, 1), [])
    assert match.decoders[0].tensor == "w_dec"


@pytest.mark.parametrize(
    ("path", "layout"),
    [
        ("gemma-scope-2b-pt-transcoders/layer_0/width_16k", "gemma_scope_1_transcoder"),
        ("models--google--gemma-scope-2b-pt-transcoders/snapshots/abc/layer_0", "gemma_scope_1_transcoder"),
        ("my-transcoders/gemma-scope-2b-pt-res/layer_0/width_16k", "gemma_scope_1"),
        ("somewhere/layer_0/width_16k", "gemma_scope_1"),
    ],
)
def test_gemma_scope_1_transcoders_are_told_by_the_innermost_telling_folder(path, layout):
    match = recognise_one({"params.npz": sae(threshold=(D_SAE,))}, path=path)
    assert (match.layout, match.expected, codes(match)) == (layout, "yes", [])


def test_gemma_scope_1_transcoder_by_its_widths():
    match = recognise_one({"params.npz": sae(d_out=D_OUT, threshold=(D_SAE,))})
    assert (match.layout, axes(match)) == ("gemma_scope_1_transcoder", (0, 1))


def test_gemma_scope_2():
    match = recognise_one({"params.safetensors": GEMMA}, {"config.json": GEMMA_CONFIG})
    assert (match.layout, match.is_folder, codes(match)) == ("gemma_scope_2", True, [])
    assert match.files == ("params.safetensors", "config.json")
    assert axes(match) == (0, 1)
    assert match.expected == "yes"


def test_gemma_scope_2_without_its_config():
    match = recognise_one({"params.safetensors": GEMMA}, path="transcoder_all/layer_0_width_16k_l0_big")
    assert (match.layout, match.is_folder, codes(match)) == ("gemma_scope_2", True, [])
    assert match.expected == "yes"
    assert "without the config.json" in match.why


def test_gemma_scope_2_by_nothing_but_its_file_name():
    match = recognise_one({"params.safetensors": GEMMA}, path="somewhere")
    assert (match.layout, match.is_folder, match.expected) == ("gemma_scope_2", True, "unknown")


def test_gemma_scope_2_of_another_model_has_another_trainer():
    config = GEMMA_CONFIG | {"model_name": "all-MiniLM-L6-v2"}
    match = recognise_one({"params.safetensors": GEMMA}, {"config.json": config})
    assert (match.layout, match.expected) == ("gemma_scope_2", "unknown")


def test_sparsify():
    match = recognise_one({"sae.safetensors": SPARSIFY}, {"cfg.json": SPARSIFY_CONFIG}, path="run/layers.10")
    assert (match.layout, match.is_folder, codes(match)) == ("sparsify", True, [])
    assert match.files == ("sae.safetensors", "cfg.json")
    assert axes(match) == (0, 1)
    assert match.expected == "yes"
    assert match.trainer_order_explains_drift
    assert not match.decoders[0].zero_rows_legal


def test_sparsify_transcoder_has_free_rows_though_its_config_says_normalize():
    shapes = SPARSIFY | {"W_skip": (D_IN, D_IN)}
    config = SPARSIFY_CONFIG | {"transcode": True, "skip_connection": True}
    match = recognise_one({"sae.safetensors": shapes}, {"cfg.json": config})
    assert codes(match) == []
    assert match.expected == "no"
    assert not match.trainer_order_explains_drift
    assert match.decoders[0].zero_rows_legal
    assert {"W_dec", "W_skip"} <= match.zero_allowed


def test_sparsify_with_a_linear_decoder():
    shapes = {
        "encoder.weight": (D_SAE, D_IN),
        "encoder.bias": (D_SAE,),
        "decoder.weight": (D_IN, D_SAE),
        "b_dec": (D_IN,),
    }
    match = recognise_one({"sae.safetensors": shapes}, {"cfg.json": SPARSIFY_CONFIG})
    assert (match.layout, axes(match), codes(match)) == ("sparsify", (1, 0), [])


def test_circuit_tracer_layers_are_checkpoints_that_share_a_config():
    files = {f"layer_{i}.safetensors": TRACER for i in range(3)}
    matches = recognise_folder(files, {"config.yaml": TRACER_CONFIG})
    assert [match.files for match in matches] == [(name, "config.yaml") for name in files]
    for match in matches:
        assert (match.layout, match.is_folder, codes(match)) == ("circuit_tracer", False, [])
        assert axes(match) == (0, 1)
        assert match.threshold_tensor == "activation_function.threshold"
        assert match.expected == "unknown"


def test_circuit_tracer_cache_of_gemma_scope():
    config = "model_kind: transcoder_set\nscan: mwhanna/gemma-scope-transcoders@main\n"
    match = recognise_one({"layer_0.safetensors": TRACER}, {"config.yaml": config})
    assert (match.layout, match.expected) == ("circuit_tracer", "yes")


def test_circuit_tracer_relu_without_config():
    shapes = {name: shape for name, shape in TRACER.items() if "threshold" not in name}
    match = recognise_one({"layer_0.safetensors": shapes})
    assert (match.layout, axes(match), match.threshold_tensor) == ("circuit_tracer", (0, 1), None)


# Names that several layouts share.


def test_sae_weights_with_other_decoders_is_not_saelens():
    for shapes in (
        {"encoder.weight": (D_SAE, D_IN), "decoder.weight": (D_IN, D_SAE), "encoder.bias": (D_SAE,)},
        {"W_E": (D_IN, D_SAE), "W_D": (D_SAE, D_IN), "b_E": (D_SAE,), "b_D": (D_IN,)},
    ):
        match = recognise_one({"sae_weights.safetensors": shapes}, {"config.json": {"expansion_factor": 4}})
        assert match.layout != "saelens"
        assert match.decoders[0].latent_axis == (1 if "decoder.weight" in shapes else 0)


def test_cfg_json_belongs_to_the_weights_beside_it():
    assert recognise_one({"sae.safetensors": SPARSIFY}, {"cfg.json": SPARSIFY_CONFIG}).layout == "sparsify"
    assert (
        recognise_one({"sae_weights.safetensors": sae()}, {"cfg.json": saelens_config()}).layout == "saelens"
    )


def test_config_json_beside_weights_with_saelens_names_is_not_gemma_scope():
    match = recognise_one({"params.safetensors": sae()}, {"config.json": GEMMA_CONFIG})
    assert (match.layout, match.is_folder) == ("saelens", False)


def test_w_dec_with_latents_last_is_told_by_lengths():
    shapes = {"W_enc": (D_SAE, D_IN), "W_dec": (D_IN, D_SAE), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    match = recognise_one({"layer3.sae.safetensors": shapes})
    assert axes(match) == (1, 0)
    assert "L_AMBIGUOUS_AXIS" not in codes(match)


def test_encoder_orientation_tells_saelens_from_circuit_tracer():
    assert recognise_one({"a.safetensors": sae()}).layout == "saelens"
    transposed = sae() | {"W_enc": (D_SAE, D_IN)}
    assert recognise_one({"a.safetensors": transposed}).layout == "circuit_tracer"


def test_layer_file_with_saelens_orientation_is_not_circuit_tracer():
    assert recognise_one({"layer_0.safetensors": sae()}).layout == "saelens"


def test_two_folder_layouts_in_one_folder_are_named_after_their_files():
    matches = recognise_folder(
        {"sae_weights.safetensors": sae(), "sae.safetensors": SPARSIFY}, {"cfg.json": saelens_config()}
    )
    assert [(match.layout, match.is_folder) for match in matches] == [("sparsify", False), ("saelens", False)]


# Loose files.


@pytest.mark.parametrize(
    ("name", "shapes", "layout"),
    [
        ("mine.safetensors", sae(), "saelens"),
        ("mine.safetensors", sae(d_out=D_OUT), "saelens_transcoder"),
        ("mine.npz", sae(), "saelens"),
        ("mine.npz", sae(threshold=(D_SAE,)), "gemma_scope_1"),
        ("mine.safetensors", GEMMA, "gemma_scope_2"),
        ("mine.safetensors", SPARSIFY, "sparsify"),
        ("mine.safetensors", TRACER, "circuit_tracer"),
    ],
)
def test_renamed_files_are_recognised_by_their_tensors(name, shapes, layout):
    match = recognise_one({name: shapes})
    assert (match.layout, match.is_folder, match.files, codes(match)) == (layout, False, (name,), [])
    assert axes(match) == (0, 1)
    assert match.expected == "unknown"


def test_saelens_weights_alone_in_a_folder():
    match = recognise_one({"sae_weights.safetensors": sae()})
    assert (match.layout, match.is_folder, axes(match), codes(match)) == ("saelens", True, (0, 1), [])
    assert "without the cfg.json" in match.why


def test_no_decoder():
    match = recognise_one(
        {"model.safetensors": {"decoder.layers.0.fc1.weight": (64, 32), "lm_head.weight": (9, 9)}}
    )
    assert (match.layout, match.decoders, codes(match)) == ("none", [], ["L_NO_DECODER"])


def test_language_model_head_is_no_decoder():
    shapes = {"cls.predictions.decoder.weight": (1000, 32), "cls.predictions.bias": (1000,)}
    assert recognise_one({"model.safetensors": shapes}).layout == "none"


def test_unknown_layout_is_still_planned():
    shapes = {
        "sae.encoder.weight": (D_SAE, D_IN),
        "sae.encoder.bias": (D_SAE,),
        "sae.decoder.weight": (D_IN, D_SAE),
    }
    match = recognise_one({"weights.safetensors": shapes})
    assert (match.layout, axes(match), codes(match)) == ("unknown", (1, 0), ["L_UNKNOWN"])
    assert match.findings[0].tensor == "sae.decoder.weight"


def test_unknown_layout_with_undecided_axis():
    match = recognise_one({"W_dec.npy": {"W_dec": (D_SAE, D_IN)}})
    assert (match.layout, axes(match)) == ("unknown", (None, None))
    assert codes(match) == ["L_UNKNOWN", "L_AMBIGUOUS_AXIS"]


def test_array_of_activations_is_no_decoder():
    assert recognise_one({"activations.npy": {"": (100, 8)}}).layout == "none"


def test_file_without_tensors():
    match = recognise_one({"sae_weights.safetensors": {}})
    assert (match.layout, codes(match)) == ("none", ["L_NO_DECODER"])


@pytest.mark.parametrize("shape", [(D_SAE,), (), ("I8", (D_SAE, D_IN))])
def test_names_of_decoders_on_other_things(shape):
    assert recognise_one({"x.safetensors": {"W_dec": shape}}).layout == "none"


@pytest.mark.parametrize(
    "shapes",
    [
        {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_dec": (D_IN,)},
        {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,)},
        {"W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)},
        {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, 2, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)},
    ],
)
def test_too_few_tensors_to_name_a_layout(shapes):
    match = recognise_one({"x.safetensors": shapes})
    assert (match.layout, match.decoders[0].latent_axis) == ("unknown", 0)


def test_saelens_transcoder_by_its_skip_connection():
    match = recognise_one({"sae_weights.safetensors": sae(W_skip=(D_IN, D_IN))})
    assert match.layout == "saelens_transcoder"


def test_widths_that_cannot_be_compared_make_no_transcoder():
    for shapes in (sae(W_enc=(D_IN, 5)), sae(W_enc=(2, D_IN, D_SAE)), sae(b_enc=(D_SAE, 1))):
        assert recognise_one({"sae_weights.safetensors": shapes}).layout == "saelens"
        archive = shapes | {"threshold": (D_SAE,)}
        assert recognise_one({"params.npz": archive}, path="somewhere").layout == "gemma_scope_1"


def test_integer_weights_are_no_decoder():
    shapes = sae() | {"W_dec": ("I32", (D_SAE, D_IN))}
    match = recognise_one({"sae_weights.safetensors": shapes}, {"cfg.json": saelens_config()})
    assert (match.layout, match.decoders, codes(match)) == ("saelens", [], ["L_CONFIG_MISMATCH"])


def test_side_tensor_files_without_weights_stand_alone():
    match = recognise_one({"sparsity.safetensors": {"sparsity": (D_SAE,)}}, {"cfg.json": saelens_config()})
    assert (match.layout, match.files) == ("none", ("sparsity.safetensors",))


def test_nothing_gives_nothing():
    assert recognise(Folder("empty"), []) == []


def test_order_of_files_does_not_matter():
    names = ["b.safetensors", "a.safetensors", "sae_weights.safetensors"]
    metas = [FileMeta(name, "safetensors") for name in names]
    folder = Folder("run", frozenset(names))
    assert recognise(folder, metas) == recognise(folder, metas[::-1])


def test_catalogue_is_well_formed():
    for layout in CATALOGUE:
        assert "d_sae" in layout.symbols(layout.decoder)
        assert layout.id.replace("_", "").isalnum()
        assert layout.title
