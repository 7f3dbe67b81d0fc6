"""Gemma Scope has no public writer: archives by `numpy.savez`, and files that other readers accept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from interop_case import D_IN, D_OUT, D_SAE, decoder_of

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]


def arrays(d_out=D_IN, *, unit=True, letter="W"):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(D_SAE, d_out))
    if unit:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {
        f"{letter}_enc": generator.normal(size=(D_IN, D_SAE)).astype(np.float32),
        f"{letter}_dec": rows.astype(np.float32),
        "b_enc": generator.normal(size=D_SAE).astype(np.float32),
        "b_dec": generator.normal(size=d_out).astype(np.float32),
        "threshold": np.full(D_SAE, 0.1, np.float32),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize("site", ["res", "transcoders"])
def test_params_npz(audit_one, tmp_path, save, site):
    folder = tmp_path / f"gemma-scope-2b-pt-{site}" / "layer_12" / "width_16k" / "average_l0_82"
    folder.mkdir(parents=True)
    save(folder / "params.npz", **arrays())
    checkpoint = audit_one(tmp_path)
    assert checkpoint["layout"] == ("gemma_scope_1_transcoder" if site == "transcoders" else "gemma_scope_1")
    assert checkpoint["path"] == f"gemma-scope-2b-pt-{site}/layer_12/width_16k/average_l0_82/params.npz"
    assert (checkpoint["verdict"], checkpoint["expected"]) == ("unit", "yes")
    decoder = decoder_of(checkpoint)
    assert (decoder["tensor"], decoder["latent_axis"], decoder["shape"]) == ("W_dec", 0, [D_SAE, D_IN])


def test_params_npz_in_fortran_order(audit_one, tmp_path):
    stored = arrays()
    stored["W_dec"] = np.asfortranarray(stored["W_dec"])
    np.savez(tmp_path / "params.npz", **stored)
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["verdict"], decoder_of(checkpoint)["latent_axis"]) == ("unit", 0)


def test_params_npz_that_reads_and_writes_different_widths(audit_one, tmp_path):
    np.savez(tmp_path / "params.npz", **arrays(D_OUT))
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["layout"], checkpoint["verdict"]) == ("gemma_scope_1_transcoder", "unit")


@pytest.mark.parametrize("unit", [True, False], ids=["unit", "free"])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_params_safetensors(transcoder_folder, audit_one, unit, affine):
    folder = transcoder_folder(unit=unit, affine=affine)
    checkpoint = audit_one(folder, expect="any")
    assert checkpoint["layout"] == "gemma_scope_2"
    assert (checkpoint["verdict"], checkpoint["expected"]) == ("unit" if unit else "free", "yes")
    decoder = decoder_of(checkpoint)
    assert (decoder["tensor"], decoder["latent_axis"], decoder["shape"]) == ("w_dec", 0, [D_SAE, D_IN])


def test_circuit_tracer_reads_it_the_same_way(transcoder_folder, single_layer_transcoder, audit_one, torch):
    folder = transcoder_folder(unit=True, affine=True)
    loaded = single_layer_transcoder.load_gemma_scope_2_transcoder(
        str(folder / "params.safetensors"), 3, device=torch.device("cpu")
    )
    assert loaded.d_transcoder == decoder_of(audit_one(folder))["rows"]


@pytest.fixture
def transcoder_folder(tmp_path, safetensors_torch, torch):
    def write(*, unit, affine):
        return write_transcoder(tmp_path, safetensors_torch, torch, unit=unit, affine=affine)

    return write


def write_transcoder(root, safetensors_torch, torch, *, unit, affine):
    stored = arrays(unit=unit, letter="w")
    if affine:
        stored["affine_skip_connection"] = np.zeros((D_IN, D_IN), np.float32)
    folder = root / "transcoder_all" / "layer_3_width_16k_l0_big"
    folder.mkdir(parents=True)
    tensors = {name: torch.from_numpy(array) for name, array in stored.items()}
    safetensors_torch.save_file(tensors, folder / "params.safetensors")
    config = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-1b-pt",
        "hf_hook_point_in": "model.layers.3.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.3.post_feedforward_layernorm.output",
        "width": D_SAE,
        "l0": 20,
        "affine_connection": affine,
        "type": "transcoder",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
