"""Disagreements between configuration and weights, and what trainers are expected to leave."""

from __future__ import annotations

import pytest

from layouts_builder import D_IN, D_OUT, D_SAE, axes, codes, recognise_one, sae, saelens_config
from test_layouts import GEMMA, GEMMA_CONFIG, SPARSIFY, SPARSIFY_CONFIG, TRACER, TRACER_CONFIG

MISMATCH, MISSING, AMBIGUOUS = "L_CONFIG_MISMATCH", "L_MISSING_TENSOR", "L_AMBIGUOUS_AXIS"


def saelens(config=None, shapes=None, **more):
    return recognise_one(
        {"sae_weights.safetensors": sae() if shapes is None else shapes},
        {"cfg.json": saelens_config() if config is None else config},
        **more,
    )


def gemma_scope_2(shapes=GEMMA, **config):
    return recognise_one({"params.safetensors": shapes}, {"config.json": GEMMA_CONFIG | config})


def sparsify(shapes=SPARSIFY, **config):
    return recognise_one({"sae.safetensors": shapes}, {"cfg.json": SPARSIFY_CONFIG | config})


def only(match):
    (finding,) = match.findings
    return finding


def without(shapes, *names):
    return {name: shape for name, shape in shapes.items() if name not in names}


# Sizes.


@pytest.mark.parametrize(("key", "tensor"), [("d_sae", "b_enc"), ("d_in", "W_enc")])
def test_saelens_size_that_the_weights_contradict(key, tensor):
    finding = only(saelens(saelens_config(**{key: 7})))
    assert (finding.code, finding.tensor, finding.found) == (
        MISMATCH,
        tensor,
        str(D_SAE if key == "d_sae" else D_IN),
    )
    assert finding.file == "sae_weights.safetensors"
    assert "= 7" in finding.expected
    assert f"{key} in cfg.json is 7" in finding.message


def test_saelens_transcoder_d_out():
    config = saelens_config("transcoder", d_out=D_OUT + 1)
    finding = only(saelens(config, sae(d_out=D_OUT)))
    assert (finding.code, finding.tensor) == (MISMATCH, "b_dec")


def test_saelens_encoder_of_another_shape():
    finding = only(saelens(shapes=sae(W_enc=(D_IN, D_SAE - 1))))
    assert (finding.code, finding.tensor, finding.found) == (MISMATCH, "W_enc", str([D_IN, D_SAE - 1]))


def test_bias_that_fits_no_axis_of_the_decoder():
    match = recognise_one({"params.npz": sae(threshold=(D_SAE,), b_enc=(D_SAE + 1,))})
    assert MISMATCH in codes(match)
    assert axes(match) == (0, 1)


def test_scalar_threshold_of_a_jumprelu():
    shapes = sae(threshold=())
    finding = only(saelens(saelens_config("jumprelu"), shapes))
    assert (finding.code, finding.tensor) == (MISMATCH, "threshold")


@pytest.mark.parametrize("value", ["768", 768.5, -1, 0, True, [768], {"n": 1}, 10**400, "x" * 5000])
def test_size_that_is_no_size(value):
    finding = next(iter(saelens(saelens_config(d_in=value)).findings))
    if value == "768":
        assert "d_in in cfg.json is 768" in finding.message
    else:
        assert (finding.code, finding.file) == (MISMATCH, "cfg.json")
    assert len(finding.message) < 300


def test_size_that_is_null_says_nothing():
    assert codes(saelens(saelens_config(d_sae=None))) == []


def test_gemma_scope_2_width():
    finding = only(gemma_scope_2(width=64))
    assert (finding.code, finding.tensor, finding.expected) == (MISMATCH, "b_enc", "d_sae = 64")


def test_gemma_scope_2_width_of_a_set_is_not_that_of_a_file():
    assert codes(gemma_scope_2(width=64, type="clt")) == []


def test_sparsify_sizes():
    assert codes(sparsify()) == []
    assert codes(sparsify(num_latents=D_SAE, expansion_factor=99)) == []
    assert "d_in * expansion_factor" in only(sparsify(expansion_factor=5)).message
    assert "num_latents in cfg.json is 33" in only(sparsify(num_latents=33)).message


# Orientation.


def test_transposed_decoder_is_measured_by_its_lengths():
    match = saelens(shapes=sae(W_dec=(D_IN, D_SAE)))
    assert axes(match) == (1, 0)
    finding = only(match)
    assert (finding.code, finding.tensor) == (MISMATCH, "W_dec")
    assert "transposed" in finding.message
    assert "transposed" in match.decoders[0].why


def test_transposed_decoder_without_configuration_is_said_in_the_evidence():
    match = recognise_one({"sae_weights.safetensors": sae(W_dec=(D_IN, D_SAE))})
    assert (axes(match), codes(match)) == ((1, 0), [])
    assert "transposed" in match.decoders[0].why


def test_square_decoder_is_undecided():
    config = saelens_config(d_in=D_SAE, d_sae=D_SAE)
    match = saelens(config, sae(D_SAE, D_SAE))
    assert (axes(match), codes(match)) == ((None, None), [AMBIGUOUS])


@pytest.mark.parametrize(
    ("files", "texts"),
    [
        ({"params.npz": sae(16, 16, threshold=(16,))}, {}),
        (
            {
                "params.safetensors": dict.fromkeys(["w_enc", "w_dec"], (16, 16))
                | dict.fromkeys(["b_enc", "b_dec", "threshold"], (16,))
            },
            {"config.json": GEMMA_CONFIG | {"width": 16}},
        ),
        (
            {
                "sae.safetensors": {
                    "encoder.weight": (16, 16),
                    "W_dec": (16, 16),
                    "encoder.bias": (16,),
                    "b_dec": (16,),
                }
            },
            {"cfg.json": SPARSIFY_CONFIG | {"d_in": 16, "expansion_factor": 1}},
        ),
        (
            {"layer_0.safetensors": {"W_enc": (16, 16), "W_dec": (16, 16), "b_enc": (16,), "b_dec": (16,)}},
            {"config.yaml": TRACER_CONFIG},
        ),
        ({"loose.safetensors": sae(16, 16)}, {}),
    ],
)
def test_square_decoders_are_undecided_in_every_layout(files, texts):
    match = recognise_one(files, texts)
    assert match.layout != "unknown"
    assert (axes(match), codes(match)) == ((None, None), [AMBIGUOUS])


def test_square_decoder_beside_an_encoder_that_shows_its_orientation():
    config = saelens_config("transcoder", d_out=D_SAE)
    match = saelens(config, sae(d_out=D_SAE))
    assert (axes(match), codes(match)) == ((0, 1), [])
    # An encoder the other way round shows that the writer did not keep to the layout.
    match = saelens(config, sae(d_out=D_SAE) | {"W_enc": (D_SAE, D_IN)})
    assert axes(match) == (None, None)
    assert AMBIGUOUS in codes(match)


def test_lengths_that_disagree_are_undecided():
    match = recognise_one({"params.npz": sae(threshold=(D_SAE,), b_dec=(D_SAE,))})
    assert axes(match) == (None, None)
    assert AMBIGUOUS in codes(match)


def test_configuration_decides_where_no_vector_does():
    match = saelens(shapes=without(sae(), "b_enc", "b_dec"))
    assert axes(match) == (0, 1)
    assert codes(match) == [MISSING, MISSING]
    assert "d_sae in cfg.json" in match.decoders[0].why


def test_shared_extent_decides_where_nothing_else_does():
    match = recognise_one({"sae_weights.safetensors": without(sae(d_out=D_OUT), "b_enc", "b_dec")})
    assert axes(match) == (0, 1)


def test_decoder_with_three_axes_is_not_guessed():
    match = recognise_one(
        {"x.safetensors": {"W_enc": (2, D_IN, D_SAE), "W_dec": (D_SAE, 2, D_IN), "b_enc": (D_SAE,)}}
    )
    assert match.layout == "unknown"
    assert axes(match) == (None, None)


# Tensors that belong, and tensors that do not.


@pytest.mark.parametrize(
    ("architecture", "shapes", "tensor"),
    [
        ("jumprelu", sae(), "threshold"),
        ("standard", without(sae(), "b_enc"), "b_enc"),
        ("standard", without(sae(), "b_dec"), "b_dec"),
        ("standard", without(sae(), "W_enc"), "W_enc"),
        ("standard", without(sae(), "W_dec"), "W_dec"),
        ("gated", without(sae(b_gate=(D_SAE,), b_mag=(D_SAE,)), "b_enc"), "r_mag"),
        ("skip_transcoder", sae(), "W_skip"),
        ("jumprelu_transcoder", sae(), "threshold"),
    ],
)
def test_saelens_tensor_that_the_architecture_needs(architecture, shapes, tensor):
    config = (
        saelens_config(architecture, d_out=D_IN)
        if "transcoder" in architecture
        else saelens_config(architecture)
    )
    finding = only(saelens(config, shapes))
    assert (finding.code, finding.tensor, finding.found) == (MISSING, tensor, "absent")
    assert architecture in finding.message


@pytest.mark.parametrize(
    ("architecture", "shapes"),
    [
        ("jumprelu", sae(log_threshold=(D_SAE,))),
        ("jumprelu", sae(threshold=(D_SAE,))),
        ("topk", sae()),
        ("batchtopk", sae(topk_threshold=("F64", ()))),
        ("gated", without(sae(b_gate=(D_SAE,), b_mag=(D_SAE,), r_mag=(D_SAE,)), "b_enc")),
        ("matching_pursuit", without(sae(), "W_enc", "b_enc")),
        ("temporal", without(sae(), "W_enc", "b_enc") | {"attn_layers.0.weight": (4, 4)}),
        ("standard", sae(scaling_factor=(D_SAE,))),
        ("someone_elses", sae(theta=(3,))),
    ],
)
def test_saelens_architectures_that_are_complete(architecture, shapes):
    match = saelens(saelens_config(architecture), shapes)
    assert (codes(match), axes(match)) == ([], (0, 1))


def test_log_threshold_may_be_negative():
    match = saelens(saelens_config("jumprelu"), sae(log_threshold=(D_SAE,)))
    assert match.threshold_tensor is None


@pytest.mark.parametrize(
    ("architecture", "extra"),
    [
        ("standard", {"threshold": (D_SAE,)}),
        ("gated", {"threshold": (D_SAE,)}),
        ("standard", {"W_skip": (D_IN, D_IN)}),
    ],
)
def test_saelens_tensor_that_the_architecture_excludes(architecture, extra):
    shapes = sae(b_gate=(D_SAE,), b_mag=(D_SAE,), r_mag=(D_SAE,)) | extra
    finding = only(saelens(saelens_config(architecture), shapes))
    assert (finding.code, finding.tensor) == (MISMATCH, next(iter(extra)))


def test_gemma_scope_1_threshold():
    finding = only(recognise_one({"params.npz": sae()}))
    assert (finding.code, finding.tensor) == (MISSING, "threshold")


def test_gemma_scope_2_affine_flag_and_tensor():
    affine = GEMMA | {"affine_skip_connection": (D_IN, D_OUT)}
    assert codes(gemma_scope_2(affine, affine_connection=True)) == []
    finding = only(gemma_scope_2(GEMMA, affine_connection=True))
    assert (finding.code, finding.tensor) == (MISSING, "affine_skip_connection")
    finding = only(gemma_scope_2(affine, affine_connection=False))
    assert (finding.code, finding.tensor) == (MISMATCH, "affine_skip_connection")
    finding = only(gemma_scope_2(GEMMA | {"affine_skip_connection": (D_IN, 5)}, affine_connection=True))
    assert (finding.code, finding.tensor) == (MISMATCH, "affine_skip_connection")


def test_gemma_scope_2_threshold():
    assert only(gemma_scope_2(without(GEMMA, "threshold"))).code == MISSING
    assert codes(gemma_scope_2(without(GEMMA, "threshold"), architecture="relu")) == []


def test_sparsify_skip_flag_and_tensor():
    finding = only(sparsify(skip_connection=True))
    assert (finding.code, finding.tensor) == (MISSING, "W_skip")
    finding = only(sparsify(SPARSIFY | {"W_skip": (D_IN, D_IN)}))
    assert (finding.code, finding.tensor) == (MISMATCH, "W_skip")


def test_sparsify_encoder_alone():
    finding = only(sparsify(without(SPARSIFY, "W_dec")))
    assert (finding.code, finding.tensor) == (MISSING, "W_dec")


def test_circuit_tracer_bias():
    match = recognise_one({"layer_0.safetensors": without(TRACER, "b_dec")}, {"config.yaml": TRACER_CONFIG})
    assert codes(match) == [MISSING]
    assert axes(match) == (0, 1)


@pytest.mark.parametrize(
    ("stated", "stored", "found"),
    [
        ("float32", "F32", []),
        ("torch.bfloat16", "BF16", []),
        ("float32", "BF16", [MISMATCH]),
        ("bfloat16", "F32", [MISMATCH]),
        ("something", "F32", []),
        (3, "F32", []),
    ],
)
def test_saelens_dtype(stated, stored, found):
    assert codes(saelens(saelens_config(dtype=stated), dtype=stored)) == found


# What trainers leave.


def trained_as(architecture, **details):
    metadata = {
        "sae_lens_version": "6.54.12",
        "sae_lens_training_version": "6.54.12",
        "training_architecture": architecture,
        "training_architecture_details": details,
    }
    return {"metadata": metadata}


@pytest.mark.parametrize(
    ("config", "expected", "drift"),
    [
        (saelens_config("standard"), "no", False),
        (saelens_config("gated"), "no", False),
        (saelens_config("jumprelu"), "no", False),
        (saelens_config("matching_pursuit"), "no", False),
        (saelens_config("temporal", None), "no", False),
        (saelens_config("standard", None), "unknown", False),
        (saelens_config("standard", "nonsense"), "unknown", False),
        (saelens_config("topk"), "no", False),
        (saelens_config("topk", rescale_acts_by_decoder_norm=False), "no", False),
        (saelens_config("topk", rescale_acts_by_decoder_norm=True), "unknown", False),
        (saelens_config("topk", rescale_acts_by_decoder_norm=True, **trained_as("topk")), "yes", False),
        (saelens_config("topk", rescale_acts_by_decoder_norm=False, **trained_as("topk")), "no", False),
        (
            saelens_config(
                "topk", rescale_acts_by_decoder_norm=True, decoder_init_norm=0.1, **trained_as("topk")
            ),
            "no",
            False,
        ),
        (
            saelens_config("jumprelu", **trained_as("batchtopk", rescale_acts_by_decoder_norm=True)),
            "yes",
            False,
        ),
        (
            saelens_config("jumprelu", **trained_as("batchtopk", rescale_acts_by_decoder_norm=False)),
            "no",
            False,
        ),
        (saelens_config("jumprelu", **trained_as("batchtopk")), "unknown", False),
        (saelens_config("jumprelu", **trained_as("jumprelu")), "no", False),
        (
            {
                "d_in": D_IN,
                "d_sae": D_SAE,
                "normalize_sae_decoder": True,
                "sae_lens_training_version": "5.11.0",
            },
            "yes",
            True,
        ),
        (
            {
                "d_in": D_IN,
                "d_sae": D_SAE,
                "normalize_sae_decoder": True,
                "sae_lens_training_version": "2.1.3",
            },
            "yes",
            False,
        ),
        ({"d_in": D_IN, "d_sae": D_SAE, "normalize_sae_decoder": True}, "yes", True),
        ({"d_in": D_IN, "d_sae": D_SAE, "normalize_sae_decoder": False}, "no", False),
        (
            {
                "d_in": D_IN,
                "d_sae": D_SAE,
                "normalize_sae_decoder": False,
                "scale_sparsity_penalty_by_decoder_norm": True,
                "sae_lens_training_version": "3.23.4",
            },
            "no",
            False,
        ),
        ({"d_in": D_IN, "d_sae": D_SAE, "sae_lens_training_version": "4.4.5"}, "unknown", False),
        ({"d_in": D_IN, "d_sae": D_SAE}, "unknown", False),
    ],
)
def test_what_saelens_leaves(config, expected, drift):
    shapes = sae(threshold=(D_SAE,)) if config.get("architecture") == "jumprelu" else sae()
    match = saelens(config, shapes)
    assert (match.expected, match.trainer_order_explains_drift) == (expected, drift)
    assert match.expected_why


def test_saelens_flag_in_the_runner_configuration():
    config = {"d_in": D_IN, "d_sae": D_SAE, "sae_lens_training_version": "5.11.0"}
    runner = {"normalize_sae_decoder": True}
    match = recognise_one({"sae_weights.safetensors": sae()}, {"cfg.json": config, "runner_cfg.json": runner})
    assert (match.expected, match.trainer_order_explains_drift) == ("yes", True)


def test_saelens_that_folded_the_activation_scale():
    """One constant for all rows: `uniform`, and not a fault."""
    config = {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "sae_lens_training_version": "5.11.0",
        "normalize_activations": "none",
    }
    runner = {"normalize_sae_decoder": True, "normalize_activations": "expected_average_only_in"}
    match = recognise_one({"sae_weights.safetensors": sae()}, {"cfg.json": config, "runner_cfg.json": runner})
    assert (match.expected, match.trainer_order_explains_drift) == ("no", False)


def test_what_an_expectation_says():
    assert (
        saelens({"d_in": D_IN, "d_sae": D_SAE}).expected_why
        == "cfg.json does not say that sae-lens trained these weights"
    )
    config = {"d_in": D_IN, "d_sae": D_SAE, "sae_lens_training_version": "4.4.5"}
    assert "sae-lens 4.x" in saelens(config).expected_why


def test_a_mismatch_names_its_evidence():
    finding = only(saelens(shapes=sae(W_enc=(D_IN, D_SAE - 1))))
    assert finding.message == "W_enc is [8, 31], expected [d_in, d_sae] = [8, 32] by d_in in cfg.json, b_enc"


def test_an_activation_does_not_overrule_an_architecture():
    config = saelens_config("jumprelu", activation_fn_str="topk")
    assert codes(saelens(config)) == [MISSING]


def test_an_unknown_architecture_excludes_nothing():
    assert codes(saelens(saelens_config("mine"), sae(threshold=(D_SAE,), W_skip=(D_IN, D_IN)))) == []


def test_old_saelens_topk_is_no_jumprelu():
    config = {"d_in": D_IN, "d_sae": D_SAE, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}}
    assert codes(saelens(config)) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "yes"),
        ({"normalize_decoder": False}, "no"),
        ({"transcode": True}, "no"),
        ({"transcode": True, "normalize_decoder": False}, "no"),
        ({"transcode": None}, "unknown"),
        ({"transcode": None, "normalize_decoder": False}, "no"),
        ({"normalize_decoder": None}, "unknown"),
    ],
)
def test_what_sparsify_leaves(config, expected):
    match = sparsify(**config)
    assert match.expected == expected
    maybe_transcoder = config.get("transcode", False) is not False and config.get("normalize_decoder", True)
    assert match.decoders[0].zero_rows_legal is bool(maybe_transcoder or config.get("transcode"))


def test_what_sparsify_left_before_it_knew_transcoders():
    config = {
        "d_in": D_IN,
        "expansion_factor": 4,
        "k": 4,
        "normalize_decoder": True,
        "num_latents": 0,
        "signed": False,
    }
    match = recognise_one({"sae.safetensors": SPARSIFY}, {"cfg.json": config})
    assert (match.expected, match.trainer_order_explains_drift, codes(match)) == ("yes", True, [])


def test_sparsify_without_configuration():
    match = recognise_one({"sae.safetensors": SPARSIFY})
    assert (match.expected, match.is_folder, codes(match)) == ("unknown", True, [])
