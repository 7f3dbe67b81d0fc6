"""What a training run exports, in the libraries that load it: equal outputs from the same file."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.interop, pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

WIDTH, D_SAE = 24, 96


@pytest.fixture(params=["gemma-scope", "gemma-scope-2", "anthropic-jan-2025"])
def exported(request, torch, tmp_path):
    """A transcoder of raw activations whose scales are far from 1, after a few steps."""
    training = pytest.importorskip("unitrow.training")
    given = {"sparsity_coefficient": 0.01, "sparsity_warmup_steps": 5, "lr": 1e-2}
    if request.param == "gemma-scope-2":
        given |= {"target_l0": 8.0, "skip": True}
    config = training.TrainerConfig.from_recipe(
        request.param, d_in=WIDTH, d_out=WIDTH, d_sae=D_SAE, steps=20, batch_size=64, **given
    )
    x = 7 * torch.randn(1000, WIDTH) + 1
    data = [(x, 0.1 * torch.relu(x @ torch.randn(WIDTH, WIDTH)))]
    metadata = {"model_name": "some-model", "hook_name": "blocks.3.ln2.hook_normalized"}
    trainer = training.Trainer(config, data, tmp_path / "run", metadata=metadata)
    trainer.train()
    return trainer.export()


@pytest.fixture
def inputs(torch):
    return 7 * torch.randn(256, WIDTH) + 1


def test_sae_lens(torch, sae_lens, exported, inputs, audit_one, tmp_path):
    folder = tmp_path / "transcoder"
    exported.save_model(folder)
    loaded = sae_lens.SAE.load_from_disk(str(folder))
    assert loaded.cfg.metadata.model_name == "some-model"
    assert loaded.cfg.metadata.training["step"] == 20
    with torch.no_grad():
        f = exported.encode(inputs)
        assert 0.02 < (f != 0).float().mean() < 0.98
        assert torch.equal(loaded.encode(inputs), f)
        assert torch.equal(loaded(inputs), exported(inputs))
    assert audit_one(folder, expect="unit")["verdict"] == "unit"


def test_circuit_tracer(torch, single_layer_transcoder, exported, inputs, tmp_path):
    path = tmp_path / "layer_0.safetensors"
    exported.to_circuit_tracer(path)
    loaded = single_layer_transcoder.load_relu_transcoder(
        str(path), 0, device=torch.device("cpu"), lazy_encoder=False, lazy_decoder=False
    )
    with torch.no_grad():
        f, theirs, y = exported.encode(inputs), loaded.encode(inputs), exported(inputs)
        assert ((f != 0) == (theirs != 0)).float().mean() > 0.999  # but for sums in another order
        torch.testing.assert_close(loaded(inputs), y, rtol=0, atol=2e-6 * y.abs().max().item())
