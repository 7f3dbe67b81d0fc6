"""Whatever the headers and the configurations say, every file ends up in one match, and nothing is raised."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from unitrow.layouts import CATALOGUE, FileMeta, Folder, Match, TensorMeta, recognise
from unitrow.layouts.axis import Evidence, Length, decide
from unitrow.layouts.source import NORM_DTYPES

FILE_NAMES = [
    "sae_weights.safetensors",
    "sae.safetensors",
    "params.safetensors",
    "params.npz",
    "layer_0.safetensors",
    "layer_1.safetensors",
    "sparsity.safetensors",
    "model.safetensors",
    "W_dec.npy",
    "sub/params.safetensors",
    "W_enc_0.safetensors",
    "W_dec_0.safetensors",
    "params_layer_0.safetensors",
    "latest_ckpt.safetensors",
]
CONFIG_NAMES = ["cfg.json", "config.json", "config.yaml", "runner_cfg.json", "hyperparams.json", "conf.yaml"]
KNOWN_TENSORS = sorted({name for layout in CATALOGUE for name in layout.shapes})
KNOWN_KEYS = [
    "architecture",
    "d_in",
    "d_sae",
    "d_out",
    "dtype",
    "metadata",
    "model_name",
    "type",
    "width",
    "affine_connection",
    "num_latents",
    "expansion_factor",
    "transcode",
    "normalize_decoder",
    "skip_connection",
    "normalize_sae_decoder",
    "model_kind",
    "scan",
]
CODES = {"L_CONFIG_MISMATCH", "L_MISSING_TENSOR", "L_AMBIGUOUS_AXIS", "L_UNKNOWN", "L_NO_DECODER"}

extents = st.sampled_from([0, 1, 2, 8, 8, 32, 32, 2**40])
shapes = st.lists(extents, max_size=3).map(tuple)
tensor_names = st.one_of(st.sampled_from(KNOWN_TENSORS), st.text(max_size=8))
dtypes = st.one_of(st.sampled_from(["F32", "F32", "BF16", "I64", "F4"]), st.text(max_size=3))
tensors = st.builds(TensorMeta, tensor_names, dtypes, shapes)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([8, 32, 4]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["jumprelu", "skip_transcoder", "topk", "gemma", "6.54.12", "5.11.0", "float32", "clt"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
)
documents = st.dictionaries(st.one_of(st.sampled_from(KNOWN_KEYS), st.text(max_size=4)), values, max_size=8)
texts = st.one_of(documents.map(lambda document: json.dumps(document).encode()), st.binary(max_size=40))
containers = st.sampled_from(["safetensors", "npz", "npy", "unknown"])
file_metas = st.builds(
    FileMeta,
    st.one_of(st.sampled_from(FILE_NAMES), st.text(min_size=1, max_size=6)),
    containers,
    st.lists(tensors, max_size=7).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(
    files=st.lists(file_metas, max_size=5, unique_by=lambda meta: meta.path),
    configs=st.dictionaries(st.sampled_from(CONFIG_NAMES), texts, max_size=3),
    listed=st.booleans(),
)
def test_every_file_is_in_exactly_one_match(files, configs, listed):
    names = frozenset({*(meta.path for meta in files), *configs}) if listed else frozenset()
    matches = recognise(Folder("run", names, configs.get), files)
    paths = [path for match in matches for path in match.files if path not in configs]
    assert sorted(paths) == sorted(meta.path for meta in files)
    for match in matches:
        check_match(match, {meta.path: meta for meta in files})
    folders = [match for match in matches if match.is_folder]
    assert len(folders) <= 1


def check_match(match: Match, files: dict[str, FileMeta]) -> None:
    assert match.files
    assert match.files[0] in files
    assert match.expected in {"yes", "no", "unknown"}
    assert match.expected_why
    assert match.why
    assert match.expected == "yes" or not match.trainer_order_explains_drift
    undecided = [decoder for decoder in match.decoders if decoder.latent_axis is None]
    codes = [finding.code for finding in match.findings]
    assert set(codes) <= CODES
    assert bool(undecided) == ("L_AMBIGUOUS_AXIS" in codes)
    assert (match.layout == "unknown") == ("L_UNKNOWN" in codes)
    assert (match.layout == "none") == ("L_NO_DECODER" in codes)
    for decoder in match.decoders:
        held = {tensor.name: tensor for tensor in files[decoder.file].tensors}
        tensor = held[decoder.tensor]
        assert tensor.dtype in NORM_DTYPES
        assert decoder.why
        assert (decoder.latent_axis is None) == (decoder.reduce_axis is None)
        if decoder.latent_axis is not None and decoder.reduce_axis is not None:
            assert decoder.latent_axis != decoder.reduce_axis
            assert {decoder.latent_axis, decoder.reduce_axis} <= set(range(len(tensor.shape)))
    for finding in match.findings:
        assert finding.message.isprintable()
        assert len(finding.message) < 500


@given(
    d_in=st.integers(1, 64),
    d_sae=st.integers(1, 64),
    transposed=st.booleans(),
    vectors=st.sets(st.sampled_from(["b_enc", "b_dec"]), min_size=1),
)
def test_lengths_decide_whenever_they_can(d_in, d_sae, transposed, vectors):
    evidence = Evidence(
        "W_dec",
        (d_in, d_sae) if transposed else (d_sae, d_in),
        latents=(Length("b_enc", d_sae),) if "b_enc" in vectors else (),
        written=(Length("b_dec", d_in),) if "b_dec" in vectors else (),
        usual_latent_axis=0,
    )
    axes = decide(evidence)
    if d_in == d_sae:
        assert (axes.latent, axes.reduce) == (None, None)
    else:
        assert (axes.latent, axes.reduce) == ((1, 0) if transposed else (0, 1))
        assert axes.transposed is transposed


@given(shape=shapes, latent=extents, written=extents, encoder=shapes, usual=st.sampled_from([None, 0, 1]))
def test_axes_are_both_decided_or_neither(shape, latent, written, encoder, usual):
    evidence = Evidence(
        "W_dec",
        shape,
        latents=(Length("b_enc", latent),),
        written=(Length("b_dec", written),),
        encoder=("W_enc", encoder),
        usual_latent_axis=usual,
        usual_encoder_latent_axis=usual,
    )
    axes = decide(evidence)
    assert axes.why
    if axes.latent is None:
        assert axes.reduce is None
    else:
        assert shape[axes.latent] == latent or shape[axes.reduce] == written or shape[axes.latent] in encoder
