"""`save_to_disk` of eai-sparsify: SAEs whose rows it normalises, transcoders whose rows it does not."""

from __future__ import annotations

import pytest
from interop_case import D_IN, D_SAE, decoder_of

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]


def coder_of(sparsify, **fields):
    return sparsify.SparseCoder(D_IN, sparsify.SparseCoderConfig(num_latents=D_SAE, k=4, **fields))


def test_sae(sparsify, audit_one, tmp_path):
    coder = coder_of(sparsify)
    coder.set_decoder_norm_to_unit_norm()  # a second time, as before each training step
    coder.save_to_disk(tmp_path / "layers.3")
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["layout"], checkpoint["path"]) == ("sparsify", "layers.3")
    decoder = decoder_of(checkpoint)
    assert (decoder["tensor"], decoder["latent_axis"], decoder["shape"]) == ("W_dec", 0, [D_SAE, D_IN])
    assert checkpoint["verdict"] in {"unit", "unit-eps"}  # it divides by norm + eps
    assert checkpoint["expected"] == "yes"


def test_sae_by_expansion_factor(sparsify, audit_one, tmp_path):
    config = sparsify.SparseCoderConfig(expansion_factor=3, k=4, normalize_decoder=False)
    sparsify.SparseCoder(D_IN, config).save_to_disk(tmp_path)
    checkpoint = audit_one(tmp_path)
    assert decoder_of(checkpoint)["rows"] == 3 * D_IN
    assert (checkpoint["verdict"], checkpoint["expected"]) == ("free", "no")


@pytest.mark.parametrize("skip", [False, True])
def test_transcoder(torch, sparsify, audit_one, tmp_path, skip):
    """Latents that never learned keep the rows of zeros that they started with."""
    coder = coder_of(sparsify, transcode=True, skip_connection=skip)
    with torch.no_grad():
        coder.W_dec[: D_SAE // 2].normal_()
    coder.save_to_disk(tmp_path)
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["layout"], checkpoint["verdict"], checkpoint["expected"]) == ("sparsify", "free", "no")
    assert decoder_of(checkpoint)["norms"]["zero_rows"] == D_SAE - D_SAE // 2


def test_untrained_transcoder(sparsify, audit_one, tmp_path):
    """Zeros throughout, as it starts, are sound and not unit."""
    coder_of(sparsify, transcode=True, skip_connection=True).save_to_disk(tmp_path)
    checkpoint = audit_one(tmp_path)
    assert decoder_of(checkpoint)["norms"]["zero_rows"] == D_SAE
    assert (checkpoint["verdict"], checkpoint["expected"]) == ("free", "no")


def test_many_hook_points(sparsify, audit, tmp_path):
    names = ["embed_tokens", "layers.0", "layers.10.mlp"]
    for name in names:
        coder_of(sparsify, normalize_decoder=False).save_to_disk(tmp_path / name)
    assert [checkpoint["path"] for checkpoint in audit(tmp_path)] == names
