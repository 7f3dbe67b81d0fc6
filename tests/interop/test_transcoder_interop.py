"""Our transcoders in other libraries, and theirs in ours: the same outputs from the same file."""

from __future__ import annotations

import os

import numpy as np
import pytest
from interop_case import D_IN, D_OUT, D_SAE

import unitrow

pytestmark = [pytest.mark.interop, pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def ours():
    return pytest.importorskip("unitrow.transcoder")


@pytest.fixture
def transcoder(torch, ours):
    """A transcoder with unit rows and everything else at random, half of its latents active."""

    def build(d_out=D_IN, *, free=False, **fields):
        module = ours.JumpReLUTranscoder(ours.JumpReLUTranscoderConfig(D_IN, d_out, D_SAE, **fields))
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name != "W_dec" or free:
                    parameter.normal_()
            module.threshold.abs_()
        return module.eval()

    return build


@pytest.fixture
def same(torch):
    """Two modules give the same outputs, and the same latents are active."""

    def check(module, other, exact=False):
        x = torch.randn(256, D_IN)
        with torch.no_grad():
            f, theirs, y, their_y = module.encode(x), other.encode(x), module(x), other(x)
        if exact:
            assert torch.equal(f, theirs)
            assert torch.equal(y, their_y)
        assert ((f != 0) == (theirs != 0)).float().mean() > 0.999  # but for sums in another order
        assert 0.05 < (f != 0).float().mean() < 0.95
        scale = y.abs().max().item()
        torch.testing.assert_close(y, their_y.to(y.dtype), rtol=0, atol=2e-6 * scale)

    return check


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("width", [D_IN, D_OUT])
def test_sae_lens_loads_ours(torch, sae_lens, transcoder, same, tmp_path, skip, width):
    metadata = {"model_name": "some-model", "hook_name": "blocks.3.ln2.hook_normalized"}
    module = transcoder(width, skip=skip, metadata=metadata)
    module.save_model(tmp_path)
    loaded = sae_lens.SAE.load_from_disk(str(tmp_path))
    kind = "JumpReLUSkipTranscoder" if skip else "JumpReLUTranscoder"
    assert type(loaded).__name__ == kind
    assert loaded.cfg.metadata.hook_name == metadata["hook_name"]
    assert loaded.cfg.metadata.sae_lens_training_version is None
    assert (loaded.cfg.d_in, loaded.cfg.d_out, loaded.cfg.d_sae) == (D_IN, width, D_SAE)
    same(module, loaded, exact=True)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name]), name


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_sae_lens_loads_other_types(torch, sae_lens, transcoder, tmp_path, dtype):
    module = transcoder(dtype=getattr(torch, dtype))
    module.save_model(tmp_path)
    loaded = sae_lens.SAE.load_from_disk(str(tmp_path))
    assert loaded.W_dec.dtype == module.W_dec.dtype
    assert torch.equal(loaded.W_enc, module.W_enc)
    x = torch.randn(256, D_IN)
    agree = (loaded.encode(x) != 0) == (module.encode(x) != 0)
    assert agree.float().mean() > (0.99 if dtype == "bfloat16" else 0.9999)  # it rounds the threshold too


@pytest.mark.parametrize(
    "name", ["JumpReLUTranscoder", "JumpReLUSkipTranscoder", "SkipTranscoder", "Transcoder"]
)
def test_we_load_sae_lens(sae_lens, ours, same, tmp_path, name):
    library = sae_lens.saes.transcoder
    config = getattr(library, f"{name}Config")(
        d_in=D_IN, d_out=D_OUT, d_sae=D_SAE, apply_b_dec_to_input=False, device="cpu", dtype="float32"
    )
    theirs = getattr(library, name)(config).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_()  # half of the thresholds are negative, and inactive in effect
    theirs.save_model(tmp_path)
    loaded = ours.JumpReLUTranscoder.load_from_disk(tmp_path).eval()
    assert loaded.cfg.skip == ("Skip" in name)
    same(loaded, theirs, exact=True)


@pytest.mark.parametrize("subtract", [False, True])
def test_we_load_sae_lens_saes(sae_lens, ours, same, tmp_path, subtract):
    library = sae_lens.saes.jumprelu_sae
    config = library.JumpReLUSAEConfig(d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=subtract)
    theirs = library.JumpReLUSAE(config).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_()
    theirs.save_model(tmp_path)
    same(ours.JumpReLUTranscoder.load_from_disk(tmp_path).eval(), theirs, exact=not subtract)


def test_folding_does_what_theirs_does(torch, sae_lens, transcoder, same, tmp_path):
    module = transcoder(D_OUT, free=True)
    module.save_model(tmp_path)
    theirs = sae_lens.SAE.load_from_disk(str(tmp_path))
    theirs.fold_W_dec_norm()
    module.fold_W_dec_norm()
    same(module, theirs)
    torch.testing.assert_close(module.threshold, theirs.threshold, rtol=1e-6, atol=0)
    torch.testing.assert_close(module.W_dec, theirs.W_dec, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("skip", [False, True])
def test_circuit_tracer_loads_ours_and_we_theirs(
    torch, single_layer_transcoder, ours, transcoder, same, tmp_path, skip
):
    module = transcoder(skip=skip)
    path = tmp_path / "layer_0.safetensors"
    module.to_circuit_tracer(path)
    for lazy in (False, True):
        loaded = single_layer_transcoder.load_relu_transcoder(
            str(path), 0, device=torch.device("cpu"), lazy_encoder=lazy, lazy_decoder=lazy
        )
        same(module, loaded)
    loaded = single_layer_transcoder.load_relu_transcoder(
        str(path), 0, device=torch.device("cpu"), lazy_encoder=False, lazy_decoder=False
    )
    theirs = tmp_path / "theirs.safetensors"
    loaded.to_safetensors(str(theirs))
    back = ours.JumpReLUTranscoder.load_from_disk(theirs)
    for name, tensor in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_circuit_tracer_without_threshold_is_a_relu(torch, single_layer_transcoder, ours, same, tmp_path):
    theirs = single_layer_transcoder.SingleLayerTranscoder(
        D_IN, D_SAE, torch.nn.functional.relu, 0, device=torch.device("cpu"), dtype=torch.float32
    )
    for parameter in theirs.parameters():
        parameter.data.normal_()
    theirs.to_safetensors(str(tmp_path / "layer_0.safetensors"))
    same(ours.JumpReLUTranscoder.load_from_disk(tmp_path), theirs)


def test_params_npz_in_numpy_and_circuit_tracer(torch, single_layer_transcoder, transcoder, same, tmp_path):
    module = transcoder()
    path = tmp_path / "params.npz"
    module.to_gemma_scope(path)
    with np.load(path, allow_pickle=False) as archive:
        x = np.random.default_rng(0).normal(size=(64, D_IN)).astype(np.float32)
        z = x @ archive["W_enc"] + archive["b_enc"]
        y = (z * (z > archive["threshold"])) @ archive["W_dec"] + archive["b_dec"]
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), y, rtol=0, atol=2e-6 * abs(y).max())
    same(
        module,
        single_layer_transcoder.load_gemma_scope_transcoder(str(path), 0, device=torch.device("cpu")),
    )


@pytest.mark.parametrize("affine", [False, True])
def test_gemma_scope_2_as_circuit_tracer_reads_it(
    torch, safetensors_torch, single_layer_transcoder, ours, transcoder, same, tmp_path, affine
):
    state = transcoder(skip=affine).state_dict()
    names = {"W_enc": "w_enc", "W_dec": "w_dec", "W_skip": "affine_skip_connection"}
    stored = {names.get(name, name): tensor for name, tensor in state.items()}
    if affine:
        stored["affine_skip_connection"] = stored["affine_skip_connection"].T.contiguous()
    path = tmp_path / "params.safetensors"
    safetensors_torch.save_file(stored, path)
    theirs = single_layer_transcoder.load_gemma_scope_2_transcoder(str(path), 0, device=torch.device("cpu"))
    same(ours.JumpReLUTranscoder.load_from_disk(tmp_path), theirs)


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_sparsify(torch, sparsify, ours, tmp_path, monkeypatch, transcode, skip):
    eager = (
        sparsify.utils.eager_decode
    )  # what it takes without triton, which it prefers and which needs a GPU
    monkeypatch.setattr(sparsify.sparse_coder, "decoder_impl", eager)
    config = sparsify.SparseCoderConfig(num_latents=D_SAE, k=8, transcode=transcode, skip_connection=skip)
    theirs = sparsify.SparseCoder(D_IN, config)
    for parameter in theirs.parameters():
        parameter.data.normal_()
    theirs.save_to_disk(tmp_path / "layers.3.mlp")
    loaded = ours.TopKTranscoder.load_from_disk(tmp_path / "layers.3.mlp")
    x = torch.randn(256, D_IN)
    with torch.no_grad():
        out = theirs(x)
        f = torch.zeros(256, D_SAE).scatter(1, out.latent_indices, out.latent_acts)
        torch.testing.assert_close(loaded.encode(x), f, rtol=1e-5, atol=1e-5)
        scale = out.sae_out.abs().max().item()
        torch.testing.assert_close(loaded(x), out.sae_out, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("export", ["save_model", "to_circuit_tracer", "to_gemma_scope"])
def test_audit_of_unit_rows(transcoder, audit_one, tmp_path, export):
    name = {"save_model": "t", "to_circuit_tracer": "layer_0.safetensors", "to_gemma_scope": "params.npz"}[
        export
    ]
    module = transcoder(free=True)
    module.fold_W_dec_norm()
    module.fold_scales(3.1, 0.7)
    getattr(module, export)(tmp_path / name)
    assert audit_one(tmp_path)["verdict"] == "unit"
    assert unitrow.audit(str(tmp_path), expect="unit").exit_code == 0


def test_from_the_cache_of_the_hub_without_network(torch, ours, transcoder, tmp_path):
    """The cache as its client lays it out: names that link to blobs, one folder for each commit."""
    pytest.importorskip("huggingface_hub")
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = tmp_path / "models--some--transcoders"
    folder = root / "snapshots" / commit / "layer_3"
    folder.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    module = transcoder(skip=True)
    module.save_model(tmp_path / "plain")
    for number, path in enumerate(sorted((tmp_path / "plain").iterdir())):
        blob = root / "blobs" / str(number)
        os.replace(path, blob)
        (folder / path.name).symlink_to(os.path.relpath(blob, folder))
    for path in ("layer_3", "layer_3/sae_weights.safetensors"):
        loaded = ours.JumpReLUTranscoder.from_pretrained(
            "some/transcoders", path, cache_dir=tmp_path, local_files_only=True
        )
        x = torch.randn(3, D_IN)
        assert torch.equal(loaded(x), module(x))
