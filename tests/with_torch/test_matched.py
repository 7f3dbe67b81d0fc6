"""The initialisation that fits the decoder to the encoder, against the same by loops over tokens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from unitrow.training.matched import match_  # noqa: E402
from unitrow.transcoder import JumpReLUTranscoder, JumpReLUTranscoderConfig  # noqa: E402

from .support import is_unit_to_rounding  # noqa: E402
from .training_data import D_IN, D_OUT, pairs  # noqa: E402

pytestmark = pytest.mark.torch

D_SAE = 40


@pytest.fixture
def model():
    return JumpReLUTranscoder(JumpReLUTranscoderConfig(D_IN, D_OUT, D_SAE))


def config(topk=4, scale=1.0):
    return SimpleNamespace(topk=float(topk), d_sae=D_SAE, encoder_init_scale=scale)


def batches(count=3, rows=50):
    return [pairs(rows, seed) for seed in range(count)]


def by_hand(W_enc, data, k):  # noqa: N803
    """b_enc and W_dec, and the squared error that the best factor leaves, in float64."""
    x, t = (torch.cat(parts).double() for parts in zip(*data, strict=True))
    z = x @ W_enc.double()
    z = (z - z.mean(0)) / z.std(0, correction=0)
    t = t - t.mean(0)
    rows = torch.zeros(D_SAE, D_OUT, dtype=torch.float64)
    f = torch.zeros_like(z)
    for token in range(len(x)):
        for latent in z[token].argsort(descending=True)[:k]:
            f[token, latent] = max(z[token, latent], 0)
            rows[latent] += f[token, latent] * t[token]
    rows /= rows.norm(dim=1, keepdim=True)
    y = f @ rows
    factor = (y * t).sum() / (y * y).sum()
    return z * factor, rows, (factor * y - t).square().sum()


def test_against_loops_over_tokens(model):
    data = batches()
    z, rows, _ = by_hand(model.W_enc.detach().clone(), data, 4)
    match_(model, config(), data)
    x = torch.cat([x for x, _ in data])
    torch.testing.assert_close(model.pre_activations(x).double(), z, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.W_dec.double(), rows, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.b_dec, torch.cat([t for _, t in data]).mean(0))
    assert is_unit_to_rounding(model.W_dec.detach()).all()


def test_the_decoder_explains_something_from_the_first_step(model):
    data = batches(rows=500)
    match_(model, config(), data)
    x, t = (torch.cat(parts) for parts in zip(*data, strict=True))
    z = model.pre_activations(x)
    kept = z.topk(4, dim=-1)
    f = torch.zeros_like(z).scatter(-1, kept.indices, torch.relu(kept.values))
    unexplained = (model.decode(f) - t).square().sum() / (t - t.mean(0)).square().sum()
    assert unexplained < 0.8


def test_a_latent_that_never_fires_keeps_a_unit_row(model):
    data = batches(1, rows=2)  # of two tokens with one latent each, most latents see nothing
    before = model.W_dec.detach().clone()
    match_(model, config(topk=1), data)
    kept = (model.W_dec == before).all(1)
    assert kept.sum() >= D_SAE - 2
    assert is_unit_to_rounding(model.W_dec.detach()).all()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_encoder_init_scale(model):
    data = batches()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    match_(model, config(), data)
    plain = model.W_enc.detach().clone()
    model.load_state_dict(start)
    match_(model, config(scale=0.5), data)
    torch.testing.assert_close(model.W_enc, plain / 2)


def test_a_run_begins_with_it(tmp_path):
    from unitrow.training import Trainer, TrainerConfig

    fields = {"d_in": D_IN, "d_out": D_OUT, "d_sae": D_SAE, "steps": 5, "batch_size": 32, "topk": 4.0}
    first_error = {}
    for init in ("he", "matched"):
        config = TrainerConfig.from_recipe("demo", **fields, init=init, topk_steps=5, standardize_inputs=True)
        first_error[init] = Trainer(config, [pairs(500)], tmp_path / init).train(until=1)["fvu"]
    assert first_error["matched"] < 0.8 < first_error["he"]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"initial_l0": 3.0}, "^initial_l0 must not"), ({"topk": 40.0}, "^topk must be below d_sae = 40")],
)
def test_what_does_not_go_with_it(values, message):
    from unitrow.errors import ConfigError
    from unitrow.training import TrainerConfig

    with pytest.raises(ConfigError, match=message):
        TrainerConfig.from_recipe("demo", d_in=D_IN, d_out=D_OUT, d_sae=D_SAE, init="matched", **values)
