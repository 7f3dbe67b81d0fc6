"""Per-layer transcoders of circuit-tracer: its writer, and its loader as the judge of ours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from interop_case import D_IN, D_SAE, decoder_of

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

CONFIG = """\
model_kind: transcoder_set
model_name: some/model
feature_input_hook: mlp.hook_in
feature_output_hook: hook_mlp_out
scan: some/transcoders
"""


def transcoder(torch, module, *, layer=0, jumprelu=True, skip=False, unit=True, dtype=None):
    activation = module.JumpReLU(torch.full((D_SAE,), 0.1), 0.1) if jumprelu else torch.nn.functional.relu
    coder = module.SingleLayerTranscoder(
        D_IN, D_SAE, activation, layer, skip, device=torch.device("cpu"), dtype=torch.float32
    )
    with torch.no_grad():
        for name, tensor in coder.named_parameters():
            if "threshold" not in name:
                tensor.normal_()
        if unit:
            rows = coder.W_dec.double()
            coder.W_dec.copy_(rows / rows.norm(dim=1, keepdim=True))
    return coder.to(dtype or torch.float32)


@pytest.mark.parametrize("kind", list(itertools.product([True, False], repeat=3)))
def test_to_safetensors(torch, single_layer_transcoder, audit_one, tmp_path, kind):
    jumprelu, skip, unit = kind
    coder = transcoder(torch, single_layer_transcoder, jumprelu=jumprelu, skip=skip, unit=unit)
    coder.to_safetensors(str(tmp_path / "layer_0.safetensors"))
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["layout"], checkpoint["path"]) == ("circuit_tracer", "layer_0.safetensors")
    decoder = decoder_of(checkpoint)
    assert (decoder["tensor"], decoder["latent_axis"], decoder["shape"]) == ("W_dec", 0, [D_SAE, D_IN])
    assert checkpoint["verdict"] == ("unit" if unit else "free")
    loaded = single_layer_transcoder.load_relu_transcoder(
        str(tmp_path / "layer_0.safetensors"),
        0,
        device=torch.device("cpu"),
        lazy_encoder=False,
        lazy_decoder=False,
    )
    assert loaded.W_dec.shape == (decoder["rows"], D_IN)


def test_set_with_its_config(torch, single_layer_transcoder, audit, tmp_path):
    layers = {i: transcoder(torch, single_layer_transcoder, layer=i, unit=False) for i in range(3)}
    single_layer_transcoder.TranscoderSet(layers, "mlp.hook_in", "hook_mlp_out").to_safetensors(str(tmp_path))
    (tmp_path / "config.yaml").write_text(CONFIG)
    checkpoints = audit(tmp_path)
    assert [checkpoint["path"] for checkpoint in checkpoints] == [f"layer_{i}.safetensors" for i in range(3)]
    for checkpoint in checkpoints:
        assert (checkpoint["layout"], checkpoint["verdict"]) == ("circuit_tracer", "free")
        assert (checkpoint["expected"], decoder_of(checkpoint)["latent_axis"]) == ("unknown", 0)


def test_bfloat16(torch, single_layer_transcoder, audit_one, tmp_path):
    coder = transcoder(torch, single_layer_transcoder, dtype=torch.bfloat16)
    coder.to_safetensors(str(tmp_path / "layer_0.safetensors"))
    assert audit_one(tmp_path)["verdict"] == "unit-rounded"


def test_it_loads_the_gemma_scope_archives_that_we_recognise(
    torch, single_layer_transcoder, audit_one, tmp_path
):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(D_SAE, D_IN))
    folder = tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_0" / "width_16k" / "average_l0_76"
    folder.mkdir(parents=True)
    np.savez(
        folder / "params.npz",
        W_enc=generator.normal(size=(D_IN, D_SAE)).astype(np.float32),
        W_dec=(rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32),
        b_enc=np.zeros(D_SAE, np.float32),
        b_dec=np.zeros(D_IN, np.float32),
        threshold=np.full(D_SAE, 0.1, np.float32),
    )
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["layout"], checkpoint["verdict"], checkpoint["expected"]) == (
        "gemma_scope_1_transcoder",
        "unit",
        "yes",
    )
    loaded = single_layer_transcoder.load_gemma_scope_transcoder(
        str(folder / "params.npz"), 0, device=torch.device("cpu")
    )
    assert loaded.d_transcoder == decoder_of(checkpoint)["rows"]
    # Its cache stores the same decoder in its own layout.
    loaded.to_safetensors(str(tmp_path / "layer_0.safetensors"))
    (tmp_path / "config.yaml").write_text(
        CONFIG.replace("some/transcoders", "mwhanna/gemma-scope-transcoders")
    )
    cached = audit_one(tmp_path / "layer_0.safetensors")
    assert (cached["layout"], cached["verdict"], cached["expected"]) == ("circuit_tracer", "unit", "yes")


@pytest.mark.parametrize("jumprelu", [True, False], ids=["jumprelu", "relu"])
def test_cross_layer_transcoder(torch, cross_layer_transcoder, audit_one, tmp_path, jumprelu):
    layers = 3
    coder = cross_layer_transcoder.CrossLayerTranscoder(
        layers,
        D_SAE,
        D_IN,
        activation_function="jump_relu" if jumprelu else "relu",
        lazy_decoder=False,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    for name, tensor in coder.named_parameters():
        tensor.data.normal_()
        if "threshold" in name:
            tensor.data.abs_()
    coder.to_safetensors(str(tmp_path))
    (tmp_path / "config.yaml").write_text(CONFIG.replace("transcoder_set", "cross_layer_transcoder"))
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["layout"], checkpoint["verdict"]) == ("circuit_tracer_clt", "free")
    assert [decoder["tensor"] for decoder in checkpoint["decoders"]] == [f"W_dec_{i}" for i in range(layers)]
    for i, decoder in enumerate(checkpoint["decoders"]):
        assert decoder["shape"] == [D_SAE, layers - i, D_IN]
        assert (decoder["latent_axis"], decoder["reduce_axis"]) == (0, 2)
        assert decoder["rows"] == D_SAE * (layers - i)  # a row is one latent at one layer
