"""Losses, schedules and initial weights against their definitions, written out."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from unitrow.training import (  # noqa: E402
    Trainer,
    TrainerConfig,
    schedules,
)
from unitrow.training.initial import build  # noqa: E402
from unitrow.training.losses import Weights, batch_threshold, losses  # noqa: E402
from unitrow.training.metrics import Meter, histogram  # noqa: E402

from .training_data import D_IN, D_OUT, pairs  # noqa: E402

pytestmark = pytest.mark.torch

D_SAE, BATCH = 24, 50


def config(**values):
    usual = {"d_in": D_IN, "d_out": D_OUT, "d_sae": D_SAE, "steps": 100, "bandwidth": 0.5}
    return TrainerConfig(**(usual | values))


def weights(*, sparsity=0.7, target_l0=5.0, dead=None):
    dead = torch.zeros(D_SAE, dtype=torch.bool) if dead is None else dead
    return Weights(torch.tensor(sparsity), torch.tensor(target_l0), dead)


@pytest.fixture
def batch():
    return torch.randn(BATCH, D_IN), torch.randn(BATCH, D_OUT)


def model(config):
    module = build(config, {}, torch.device("cpu"))
    with torch.no_grad():
        module.b_enc.normal_()
        module.threshold.uniform_(0.1, 1.5)
        if config.decoder == "free":
            module.W_dec.mul_(torch.rand(D_SAE, 1) + 0.5)
    return module


def by_hand(module, x, target):
    """z, f, error per token."""
    z = x @ module.W_enc + module.b_enc
    f = z * (z > module.threshold)
    return z, f, (f @ module.W_dec + module.b_dec - target).square().sum(1)


PENALTIES = {
    "l0": lambda l0, *_: 0.7 * l0.mean(),
    "token": lambda l0, *_: 0.7 * (2 / 5) * ((l0 - 5) ** 2).mean(),
    "batch": lambda l0, *_: 0.7 * (2 / 5) * (l0.mean() - 5) ** 2,
    "tanh": lambda _, f, norms: 0.7 * torch.tanh(3 * f.abs() * norms).sum(1).mean(),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("decoder", ["unit", "free"])
def test_parts_of_the_loss(batch, penalty, decoder):
    sparsity = "target-l0" if penalty in {"token", "batch"} else penalty
    over = penalty if sparsity == "target-l0" else "token"
    settings = config(
        sparsity=sparsity, target_l0_over=over, target_l0=5.0, tanh_scale=3.0, decoder=decoder,
        preact_coefficient=0.3, frequency_coefficient=0.2, frequency_limit=0.25,
    )  # fmt: skip
    module = model(settings)
    out = losses(module, settings, *batch, weights(), topk=False)
    z, f, error = by_hand(module, *batch)
    norms = module.W_dec.norm(dim=1)
    l0 = (f > 0).sum(1).float()
    expected = {
        "sparsity": PENALTIES[penalty](l0, f, norms),
        "preact": 0.3 * (torch.relu(module.threshold - z) * norms).sum(1).mean(),
        "frequency": 0.2 * torch.relu((f > 0).float().mean(0) - 0.25).sum(),
    }
    torch.testing.assert_close(out.error, error.mean())
    assert out.parts.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(out.parts[name], value, rtol=1e-5, atol=1e-6)
        assert value > 0
    torch.testing.assert_close(out.total, error.mean() + sum(expected.values()))
    assert torch.equal(out.activations, f)


@pytest.mark.parametrize("sparsity", ["l0", "target-l0", "l0-control"])
def test_the_penalty_moves_thresholds_and_the_encoder_only_if_asked(batch, sparsity):
    for through in (False, True):
        settings = config(sparsity=sparsity, sparsity_coefficient=0.1, target_l0=2.0, ste_to_input=through)
        module = model(settings)
        losses(module, settings, *batch, weights(target_l0=2.0), topk=False).parts["sparsity"].backward()
        assert (module.threshold.grad <= 0).all()  # raising a threshold makes fewer latents active
        assert module.threshold.grad.any()
        assert (module.W_enc.grad is not None and bool(module.W_enc.grad.any())) == through


def test_dead_latents_are_pulled_and_others_are_not(batch):
    dead = torch.zeros(D_SAE, dtype=torch.bool)
    dead[[3, 7, 8]] = True
    for kind in ("pre-activation", "aux-k"):
        settings = config(dead_latents=kind, dead_coefficient=2.0, dead_k=2)
        module = model(settings)
        with torch.no_grad():
            module.threshold[dead] = 100.0
        out = losses(module, settings, *batch, weights(dead=dead), topk=False)
        z, f, _ = by_hand(module, *batch)
        if kind == "pre-activation":
            expected = (torch.relu(module.threshold - z)[:, dead]).sum(1).mean()
        else:
            two = torch.relu(z[:, dead]).topk(2, dim=1)
            rows = module.W_dec[dead][two.indices]
            rebuilt = (two.values[..., None] * rows).sum(1)
            residual = batch[1] - (f @ module.W_dec + module.b_dec)
            # Gao et al. 2024: L(targets)/Var(targets) + factor · L(residual)/Var(residual), here times
            # Var(targets), as the first term is the plain error.
            missed = (residual.detach() - rebuilt).square().sum(1).mean()
            expected = missed * batch[1].var(0).sum() / residual.detach().var(0).sum()
        torch.testing.assert_close(out.parts["dead_loss"], 2 * expected)
        out.parts["dead_loss"].backward()
        assert (module.W_enc.grad.abs().sum(0) > 0).equal(dead)
        none = losses(module, settings, *batch, weights(), topk=False).parts["dead_loss"]
        assert none == 0


def test_aux_k_weighs_the_same_however_small_the_residual_is():
    """It was not divided by the residual's variance, and faded as the transcoder learned."""
    settings = config(dead_latents="aux-k", dead_coefficient=1.0)
    module = model(settings)
    dead = torch.ones(D_SAE, dtype=torch.bool)
    with torch.no_grad():
        module.threshold.fill_(1e3)  # all silent, so the residual is the target less b_dec
        module.W_enc.zero_()
        module.b_enc.fill_(-1)  # and the dead latents rebuild nothing
    target = torch.randn(BATCH, D_OUT)
    target -= target.mean(0)
    for size in (1.0, 1e-3):
        part = losses(
            module, settings, torch.randn(BATCH, D_IN), size * target, weights(dead=dead), topk=False
        )
        torch.testing.assert_close(part.parts["dead_loss"], size**2 * target.square().sum(1).mean())
    shifted = torch.zeros(BATCH, D_OUT)  # nothing left over: no division by zero
    assert (
        losses(module, settings, torch.randn(BATCH, D_IN), shifted, weights(dead=dead), topk=False).total == 0
    )


def test_controlled_sparsity(batch, tmp_path):
    settings = config(sparsity="l0-control", sparsity_coefficient=0.1, target_l0=5.0, control_gain=3.0)
    module = model(settings)
    _, f, _ = by_hand(module, *batch)
    l0 = (f > 0).sum(1).float().mean()
    part = losses(module, settings, *batch, weights(), topk=False).parts["sparsity"]
    torch.testing.assert_close(part, 0.7 * torch.relu(1 + 3 * (l0 / 5 - 1)) * l0)
    settings = config(
        sparsity="l0-control", target_l0=5.0, sparsity_coefficient=0.5, control_rate=0.1, batch_size=50,
        log_every=1, topk_steps=2, topk=5.0, bandwidth_of_threshold=0.3,
    )  # fmt: skip
    trainer = Trainer(settings, [pairs(500)], tmp_path)
    assert trainer.train(until=2)["sparsity_coefficient"] == 0
    threshold = float(trainer.model.threshold.detach().mean())
    expected = 0.5 * threshold**2
    for step in range(3, 8):
        found = trainer.train(until=step)
        expected *= math.exp(0.1 * (found["l0"] / 5 - 1))
        assert found["sparsity_coefficient"] == pytest.approx(expected)
        assert found["bandwidth"] == pytest.approx(0.3 * threshold)
    resumed = Trainer(settings, [pairs(500)], tmp_path, resume=True)
    assert resumed.export().cfg.bandwidth == trainer.export().cfg.bandwidth


@pytest.mark.parametrize("threshold", ["raw", "log"])
def test_calibrated_thresholds(tmp_path, threshold):
    settings = config(
        steps=5, batch_size=500, target_l0=3.0, sparsity_coefficient=0.01, calibrate_batches=2,
        threshold=threshold, bandwidth=0.1, threshold_init=0.3, lr=1e-2,
    )  # fmt: skip
    data = [pairs(3500)]
    trainer = Trainer(settings, data, tmp_path / "run")
    trainer.train(until=4)
    before = trainer.model.threshold.clone()
    trainer.train()
    x, _ = trainer.scaling.apply((data[0][0][2500:], data[0][1][2500:]))
    assert float((trainer.model.encode(x) > 0).sum() / 1000) == pytest.approx(3.0, abs=0.05)
    assert (trainer.model.threshold > 1.5 * before).all()
    again = Trainer(settings, data, tmp_path / "run", resume=True)
    assert torch.equal(again.model.threshold, trainer.model.threshold)


def test_the_largest_of_a_batch():
    z = torch.randn(40, D_SAE)
    for k in (0.5, 1, 3.3, D_SAE - 1):
        threshold = batch_threshold(z, k)
        count = int((z > threshold).sum())
        assert count == min(round(40 * k), int((z > 0).sum()))
    assert batch_threshold(-z.abs(), 3) == 0
    settings = config(topk=3.0, topk_steps=10, sparsity="target-l0", target_l0=3.0)
    module = model(settings)
    x, target = torch.randn(BATCH, D_IN), torch.randn(BATCH, D_OUT)
    out = losses(module, settings, x, target, weights(), topk=True)
    assert "sparsity" not in out.parts
    assert (out.activations > 0).sum() == 3 * BATCH
    out.total.backward()
    assert module.threshold.grad is None
    z = module.pre_activations(x)
    assert torch.equal(out.activations, torch.where(z > out.threshold, z, 0))


@pytest.mark.parametrize("threshold", ["raw", "log"])
def test_thresholds_follow_and_are_trained_afterwards(tmp_path, threshold):
    settings = config(
        batch_size=50, topk_steps=6, topk=4.0, threshold=threshold, sparsity_coefficient=0.01, lr=1e-2,
        log_every=1, lr_warmup_steps=0,
    )  # fmt: skip
    trainer = Trainer(settings, [pairs(500)], tmp_path)
    for step in range(1, 7):
        l0 = trainer.train(until=step)["l0"]
        assert l0 == pytest.approx(4.0, abs=0.05)
        assert (trainer.model.threshold == trainer.model.threshold[0]).all()
    at_switch = trainer.model.threshold.clone()
    trainer.train(until=20)
    assert (trainer.model.threshold != at_switch).any()
    resumed = Trainer(settings, [pairs(500)], tmp_path, resume=True)
    assert torch.equal(resumed.model.threshold, trainer.model.threshold)


def test_learning_rates():
    settings = config(lr=2.0, lr_warmup_steps=10, lr_warmup_from=0.1, lr_decay=0.2)
    rates = [schedules.learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[5] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rates[3] == pytest.approx(2 * (0.1 + 0.9 * (1 - math.cos(0.3 * math.pi)) / 2))
    assert rates[10:81] == [2.0] * 71
    assert rates[90] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.1)
    linear = config(lr=2.0, lr_warmup_steps=10, lr_warmup="linear", lr_warmup_from=0.0)
    assert schedules.learning_rate(linear, 3) == pytest.approx(0.6)


def test_sparsity_and_bandwidth():
    settings = config(
        sparsity="target-l0", sparsity_coefficient=0.5, sparsity_warmup_steps=10, topk_steps=20,
        target_l0=8.0, target_l0_start=28.0, topk=4.0, bandwidth=1.0, bandwidth_end=0.01,
    )  # fmt: skip
    found = [schedules.sparsity_coefficient(settings, step) for step in (0, 19, 20, 25, 30, 99)]
    assert found == pytest.approx([0, 0, 0, 0.25, 0.5, 0.5])
    assert [schedules.target_l0(settings, step) for step in (20, 25, 30, 99)] == pytest.approx([28, 18, 8, 8])
    assert schedules.bandwidth(settings, 0) == pytest.approx(1.0)
    assert schedules.bandwidth(settings, 99) == pytest.approx(0.01)
    assert schedules.bandwidth(settings, 33) == pytest.approx(0.01 ** (1 / 3))
    assert schedules.sparsity_coefficient(config(sparsity_coefficient=0.5), 0) == 0.5


def test_initial_weights():
    state = torch.get_rng_state()
    first, again = (build(config(seed=4), {}, torch.device("cpu")) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.W_enc, again.W_enc)
    assert not torch.equal(first.W_enc, build(config(seed=5), {}, torch.device("cpu")).W_enc)
    small = build(config(seed=4, encoder_init_scale=0.1), {}, torch.device("cpu"))
    torch.testing.assert_close(small.W_enc, 0.1 * first.W_enc)
    narrow = build(config(init="narrow", decoder="free", d_sae=5000), {}, torch.device("cpu"))
    assert 0.95 < narrow.W_dec.abs().max() * D_OUT**0.5 <= 1
    assert 0.95 < narrow.W_enc.abs().max() * D_IN**0.5 * 5000 / D_IN <= 1
    tied = build(config(init="narrow", decoder="free", d_out=D_IN, tied_init=True), {}, torch.device("cpu"))
    torch.testing.assert_close(tied.W_enc, tied.W_dec.T * D_IN / D_SAE)


def test_standardised_inputs_are_folded(tmp_path):
    x, y = pairs(400)
    x = x * torch.tensor([1.0, 20.0, 0.1, 3.0, 1.0, 0.0]) + torch.tensor([5.0, -100.0, 0.0, 1.0, 0.0, 7.0])
    settings = config(
        batch_size=100, scale_batches=4, standardize_inputs=True, skip=True, sparsity_coefficient=1e-3
    )
    trainer = Trainer(settings, [(x, y)], tmp_path)
    scaled, _ = trainer.scaling.apply((x, y))
    inputs = scaled * trainer.scaling.input_scale
    torch.testing.assert_close(inputs.mean(0), torch.zeros(D_IN), rtol=0, atol=1e-5)
    torch.testing.assert_close(inputs.std(0, correction=0)[:5], torch.ones(5), rtol=1e-5, atol=0)
    assert not inputs[:, 5].any()
    trainer.train(until=5)
    with torch.no_grad():
        trainer.model.W_skip.normal_()
        trainer.model.threshold.zero_()  # continuous, so that rounding cannot switch a latent
        wanted = trainer.model(scaled) * trainer.scaling.target_scale
        torch.testing.assert_close(trainer.export()(x), wanted, rtol=0, atol=2e-4 * wanted.abs().max().item())
    resumed = Trainer(settings, [(x, y)], tmp_path, resume=True)
    assert torch.equal(resumed.scaling.deviation, trainer.scaling.deviation)
    assert resumed.scaling.input_scale == trainer.scaling.input_scale


def test_meter_over_batches():
    outputs, targets, f = (
        torch.randn(60, D_OUT),
        torch.randn(60, D_OUT) + 3,
        torch.relu(torch.randn(60, D_SAE)),
    )
    meter = Meter(D_OUT, D_SAE, torch.device("cpu"))
    for part in (slice(0, 13), slice(13, 60)):
        meter.add(outputs[part], targets[part], f[part])
    found = meter.figures()
    centred = (targets - targets.mean(0)).square().sum()
    assert found["fvu"] == pytest.approx(float((outputs - targets).square().sum() / centred), rel=1e-5)
    assert found["l0"] == pytest.approx(float((f > 0).sum() / 60))
    meter.reset()
    assert meter.figures() == {}


def test_histogram_of_densities():
    density = torch.tensor([0.0, 1e-7, 9e-6, 1e-5, 1e-4, 5e-4, 1e-3, 0.01, 0.1, 1.0], dtype=torch.float64)
    assert histogram(density) == [1, 2, 1, 2, 1, 1, 2]
