"""`save_model` of sae-lens: one folder per architecture, rows unit and free."""

from __future__ import annotations

import json

import pytest
from interop_case import D_IN, D_OUT, D_SAE, decoder_of

import unitrow

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

SAES = ["StandardSAE", "GatedSAE", "JumpReLUSAE", "TopKSAE", "MatchingPursuitSAE"]
TRANSCODERS = ["Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"]


def build(sae_lens, name, **fields):
    """A coder of this class with random weights; `fields` go into its configuration."""
    fields_of_config = {"d_in": D_IN, "d_sae": D_SAE, "device": "cpu", "dtype": "float32"} | fields
    if "Transcoder" in name:
        fields_of_config |= {"d_out": D_OUT, "apply_b_dec_to_input": False}
    saes = sae_lens.saes
    modules = (
        saes.gated_sae,
        saes.jumprelu_sae,
        saes.matching_pursuit_sae,
        saes.standard_sae,
        saes.topk_sae,
        saes.transcoder,
    )
    module = next(module for module in modules if hasattr(module, f"{name}Config"))
    return getattr(module, name)(getattr(module, f"{name}Config")(**fields_of_config))


def randomise(coder):
    for tensor in coder.parameters():
        tensor.data.normal_(std=0.3)
    if hasattr(coder, "threshold"):
        coder.threshold.data.abs_()


def make_unit(coder):
    rows = coder.W_dec.data.double()
    coder.W_dec.data.copy_(rows / rows.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("rows", ["unit", "free"])
@pytest.mark.parametrize("name", SAES + TRANSCODERS)
def test_save_model(sae_lens, audit_one, tmp_path, name, rows):
    coder = build(sae_lens, name)
    randomise(coder)
    if rows == "unit":
        make_unit(coder)
    coder.save_model(tmp_path / "coder")
    checkpoint = audit_one(tmp_path)
    assert checkpoint["layout"] == ("saelens_transcoder" if "Transcoder" in name else "saelens")
    assert checkpoint["path"] == "coder"
    decoder = decoder_of(checkpoint)
    assert (decoder["tensor"], decoder["latent_axis"]) == ("W_dec", 0)
    assert decoder["shape"] == [D_SAE, D_OUT if "Transcoder" in name else D_IN]
    assert checkpoint["verdict"] == rows
    assert checkpoint["expected"] == ("unknown" if "Transcoder" in name else "no")


def test_saved_as_it_was_initialised(sae_lens, audit_one, tmp_path):
    """Biases, thresholds and the skip connection start at zero, which is legal."""
    build(sae_lens, "JumpReLUSkipTranscoder").save_model(tmp_path)
    assert audit_one(tmp_path)["verdict"] == "free"


def test_folding_makes_rows_unit(sae_lens, audit_one, tmp_path):
    coder = build(sae_lens, "JumpReLUSAE")
    randomise(coder)
    coder.fold_W_dec_norm()
    coder.save_model(tmp_path)
    assert audit_one(tmp_path)["verdict"] == "unit"


def test_bfloat16(sae_lens, audit_one, tmp_path):
    coder = build(sae_lens, "StandardSAE", dtype="bfloat16")
    randomise(coder)
    make_unit(coder)
    coder.save_model(tmp_path)
    checkpoint = audit_one(tmp_path)
    assert (checkpoint["verdict"], decoder_of(checkpoint)["dtype"]) == ("unit-rounded", "BF16")


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("rescale", [True, False])
def test_export_of_the_top_k_family(sae_lens, audit_one, tmp_path, architecture, rescale):
    """With `rescale_acts_by_decoder_norm` the export folds row norms away, and only then."""
    training_class, config_class = sae_lens.registry.get_sae_training_class(architecture)
    coder = training_class(config_class(d_in=D_IN, d_sae=D_SAE, k=4, rescale_acts_by_decoder_norm=rescale))
    coder.W_dec.data.normal_()
    coder.save_model(tmp_path / "training")
    coder.save_inference_model(tmp_path / "inference")
    training, inference = audit_one(tmp_path / "training"), audit_one(tmp_path / "inference")
    assert (training["verdict"], training["expected"]) == ("free", "no")
    assert (inference["verdict"], inference["expected"]) == (("unit", "yes") if rescale else ("free", "no"))


def test_what_sae_lens_refuses_is_a_mismatch(sae_lens, safetensors_torch, tmp_path):
    """A decoder stored the other way round: sae-lens cannot load it, and the audit says why."""
    coder = build(sae_lens, "StandardSAE")
    randomise(coder)
    make_unit(coder)
    weights, _ = coder.save_model(tmp_path)
    tensors = safetensors_torch.load_file(weights)
    tensors["W_dec"] = tensors["W_dec"].T.contiguous()
    safetensors_torch.save_file(tensors, weights)
    with pytest.raises(RuntimeError, match="size mismatch"):
        type(coder).load_from_disk(tmp_path)
    (checkpoint,) = unitrow.audit(str(tmp_path)).checkpoints
    assert "L_CONFIG_MISMATCH" in {finding["code"] for finding in checkpoint["findings"]}
    assert (decoder_of(checkpoint)["latent_axis"], checkpoint["verdict"]) == (1, "unit")


def test_a_config_that_asks_for_a_threshold(sae_lens, tmp_path):
    """A standard SAE called a jumprelu: sae-lens misses the threshold, and so does the audit."""
    coder = build(sae_lens, "StandardSAE")
    _, config = coder.save_model(tmp_path)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architecture": "jumprelu"}))
    with pytest.raises(RuntimeError, match="threshold"):
        sae_lens.SAE.load_from_disk(tmp_path)
    (checkpoint,) = unitrow.audit(str(tmp_path)).checkpoints
    assert "L_MISSING_TENSOR" in {finding["code"] for finding in checkpoint["findings"]}
