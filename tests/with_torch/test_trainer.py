"""The trainer: what a run computes, leaves behind and refuses."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

torch = pytest.importorskip("torch")

import unitrow.torch as urt  # noqa: E402
from unitrow.errors import ArrayError, ConfigError, FormatError, TrainingError  # noqa: E402
from unitrow.training import ActivationShards, Trainer, TrainerConfig, evaluate  # noqa: E402
from unitrow.training.locks import alone_in  # noqa: E402
from unitrow.training.recipes import names  # noqa: E402
from unitrow.transcoder import JumpReLUTranscoder  # noqa: E402

from .support import is_unit_to_rounding  # noqa: E402
from .training_data import D_IN, D_OUT, pairs, write_shards  # noqa: E402

pytestmark = pytest.mark.torch

D_SAE = 64


def config(recipe="demo", **values):
    given = {"d_in": D_IN, "d_out": D_OUT, "d_sae": D_SAE, "steps": 40, "batch_size": 32, "log_every": 10}
    if recipe == "demo":
        given |= {"topk": 8.0, "topk_steps": 5, "target_l0": 8.0}
    else:
        given |= {"sparsity_coefficient": 0.01, "sparsity_warmup_steps": 5}
    if recipe == "gemma-scope-2":
        given |= {"target_l0": 8.0}
    return TrainerConfig.from_recipe(recipe, **(given | values))


@pytest.fixture
def data():
    x, y = pairs(1000)
    return [(x, y)]


@pytest.fixture
def shards(tmp_path):
    return ActivationShards(write_shards(tmp_path / "shards", *pairs(900), [500, 400]), bucket_rows=200)


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_names():
    assert urt.Trainer is Trainer
    assert urt.TrainerConfig is TrainerConfig
    with pytest.raises(AttributeError, match="has no attribute 'Trainers'"):
        urt.Trainers  # noqa: B018


def test_it_learns(data, tmp_path):
    trainer = Trainer(config(steps=400, lr=5e-3, target_l0=12.0, sparsity_coefficient=0.1), data, tmp_path)
    held_out = [pairs(500, seed=1)]
    before = trainer.evaluate(held_out)
    trainer.train()
    after = trainer.evaluate(held_out)
    assert after["fvu"] < 0.35 * before["fvu"]
    assert after["fvu"] < 0.3
    assert 4 < after["l0"] < 20
    assert before["l0"] > 24


@pytest.mark.parametrize("recipe", names())
def test_rows_are_unit_after_every_step_and_on_export(recipe, data, tmp_path):
    trainer = Trainer(config(recipe, lr=1e-2), data, tmp_path)
    for step in range(1, 6):
        trainer.train(until=step)
        assert trainer.step == step
        unit = is_unit_to_rounding(trainer.model.W_dec)
        assert unit.all() == (recipe != "anthropic-jan-2025")
    exported = trainer.export()
    assert is_unit_to_rounding(exported.W_dec).all()
    if recipe != "anthropic-jan-2025":
        assert torch.equal(exported.W_dec, trainer.model.W_dec)


@pytest.mark.parametrize("recipe", names())
def test_the_export_computes_on_raw_activations_what_was_trained(recipe, data, tmp_path):
    trainer = Trainer(config(recipe, skip=True), data, tmp_path)
    trainer.train()
    x, y = pairs(200, seed=5)
    exported = trainer.export()
    with torch.no_grad():
        scaled = trainer.model(trainer.scaling.apply((x, y))[0]) * trainer.scaling.target_scale
        found = exported(x)
    off = (scaled - found).abs().amax(1) > 1e-4 * scaled.abs().max()
    assert off.float().mean() < 0.02  # but for latents at their thresholds
    exported.save_model(tmp_path / "model")
    loaded = JumpReLUTranscoder.load_from_disk(tmp_path / "model")
    assert torch.equal(loaded(x), exported(x))
    training = loaded.cfg.metadata["training"]
    assert training["config"]["recipe"] == recipe
    assert training["step"] == 40


def test_scales(data, tmp_path):
    x, y = data[0]
    for number, (fields, wanted) in enumerate(
        [
            ({"scaling": "none"}, (1, 1)),
            (
                {"scaling": "input-rms", "scaled_to": "unit-square-norm"},
                2 * (x.norm(dim=1).square().mean() ** 0.5,),
            ),
            (
                {"scaling": "separate", "scaled_to": "unit-rms"},
                (x.square().mean() ** 0.5, y.square().mean() ** 0.5),
            ),
            (
                {"scaling": "separate", "scaled_to": "mean-norm-sqrt-width"},
                (x.norm(dim=1).mean() / D_IN**0.5, y.norm(dim=1).mean() / D_OUT**0.5),
            ),
        ]
    ):
        plain = config(batch_size=125, standardize_inputs=False, **fields)
        trainer = Trainer(plain, data, tmp_path / str(number))
        assert (trainer.scaling.input_scale, trainer.scaling.target_scale) == pytest.approx(
            tuple(map(float, wanted)), rel=1e-6
        )


def test_initial_firing_rates(data, tmp_path):
    trainer = Trainer(
        config("anthropic-jan-2025", initial_l0=6.4, batch_size=1000, scale_batches=1), data, tmp_path
    )
    x = data[0][0] / trainer.scaling.input_scale
    rates = trainer.model.step(trainer.model.pre_activations(x)).mean(0)
    assert (rates - 0.1).abs().max() <= 0.002


@pytest.mark.parametrize("recipe", names())
@pytest.mark.parametrize("stop", [1, 7, 20])
def test_a_run_that_was_stopped_ends_with_the_same_bits(recipe, stop, shards, tmp_path):
    fields = {
        "dead_latents": "aux-k",
        "dead_coefficient": 0.03,
        "dead_after": 3,
        "steps": 30,
        "checkpoint_every": 5,
    }
    whole = Trainer(config(recipe, **fields), shards, tmp_path / "whole")
    whole.train()
    first = Trainer(config(recipe, **fields), shards, tmp_path / "parts")
    first.train(until=stop)
    second = Trainer(config(recipe, **fields), shards, tmp_path / "parts", resume=True)
    assert second.step == stop
    second.train()
    assert_same(weights(whole), weights(second))
    # The files too, but for the rate.
    for name in ("checkpoints/step-000000030.safetensors",):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_file(shards, tmp_path):
    trainer = Trainer(config(steps=25), shards, tmp_path / "run")
    last = trainer.train()
    found = lines(tmp_path / "run")
    assert [line["step"] for line in found] == [10, 20, 25]
    assert found[-1] == last
    for line in found:
        assert line["tokens"] == 32 * line["step"]
        assert 0 <= line["max_norm_deviation_u"] < 2
        assert line["rows_beyond_rounding"] == 0
        assert sum(line["density"]) == D_SAE
        assert line["loss"] == pytest.approx(line["error"] + line["sparsity"])
        assert line["tokens_per_second"] > 0


def test_evaluation_against_the_definitions(tmp_path):
    x, y = pairs(300)
    model = Trainer(config(), [(x, y)], tmp_path).export()
    with torch.no_grad():
        f = model.encode(x)
        error = (model(x) - y).double().square().sum()
    found = evaluate(model, [(x[:100], y[:100]), (x[100:], y[100:])])
    centred = y.double() - y.double().mean(0)
    assert found["fvu"] == pytest.approx(float(error / centred.square().sum()), rel=1e-6)
    assert found["mse"] == pytest.approx(float(error / 300), rel=1e-6)
    assert found["l0"] == pytest.approx(float((f > 0).sum() / 300))
    assert found["never_fired"] == pytest.approx(float(((f > 0).sum(0) == 0).float().mean()))
    assert sum(found["density"]) == D_SAE


@pytest.mark.parametrize(
    ("inputs", "targets", "words"),
    [
        ([8, D_IN], [8, 1], "targets of item 1 must have d_out = 10, and has 1"),  # was broadcast
        ([8, 1], [8, D_OUT], "inputs of item 1 must have d_in = 6, and has 1"),
        ([8, D_IN], [1, D_OUT], "targets of item 1 must have 8 rows"),
        ([8, D_IN], [D_OUT], "targets of item 1 must have shape"),
    ],
)
def test_evaluation_of_pairs_that_do_not_fit(inputs, targets, words, data, tmp_path):
    model = Trainer(config(), data, tmp_path).export()
    with pytest.raises(ArrayError, match=words):
        evaluate(model, [pairs(8), (torch.zeros(inputs), torch.zeros(targets))])


def test_a_constant_target_has_no_fvu(tmp_path):
    x, y = pairs(64)
    model = Trainer(config(), [(x, y)], tmp_path).export()
    assert evaluate(model, [(x, torch.ones_like(y))])["fvu"] is None


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_a_loss_that_is_not_finite_stops_the_run(where, tmp_path):
    good, bad = [pairs(32, seed) for seed in (0, 1)], [tensor.clone() for tensor in pairs(32, 2)]
    bad[where == "targets"][5, 3] = math.nan
    data = [*[good[0], good[1]] * 6, tuple(bad)]
    trainer = Trainer(config(checkpoint_every=5), data, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"step 12: the loss is nan .*step-000000010\.safetensors"):
        trainer.train()
    assert trainer.step == 12
    assert "<svg" in (tmp_path / "run" / "index.html").read_text()  # to see how it came to that
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.parameters())
    resumed = Trainer(config(checkpoint_every=5), data, tmp_path / "run", resume=True)
    assert resumed.step == 10
    resumed.train(until=12)
    assert_same(weights(resumed), weights(trainer))


def test_a_gradient_that_is_not_finite_stops_the_run(data, tmp_path):
    trainer = Trainer(config(), data, tmp_path)
    trainer.train(until=3)
    before = weights(trainer)
    trainer.model.W_enc.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(TrainingError, match=r"step 3: the gradient's norm is .* \(W_enc\)"):
        trainer.train()
    assert_same(before, weights(trainer))


def test_data_that_end(tmp_path):
    trainer = Trainer(config(scale_batches=2), iter([pairs(100)]), tmp_path)
    with pytest.raises(TrainingError, match="step 3: the data ended; the run has 40 steps"):
        trainer.train()
    with pytest.raises(TrainingError, match="step 0: the data ended"):
        Trainer(config(), [], tmp_path / "none")


def test_widths_that_disagree(shards, tmp_path):
    with pytest.raises(ConfigError, match=f"d_in is 7, and the data have {D_IN}"):
        Trainer(config(d_in=7), shards, tmp_path / "run")
    x, y = pairs(100)
    with pytest.raises(ArrayError, match=r"targets at step 0 must have d_out = 10, and have 4"):
        Trainer(config(), [(x, y[:, :4])], tmp_path / "run").train()


def test_activations_without_scale(tmp_path):
    x, y = pairs(100)
    for bad in (torch.zeros_like(x), x / 0):
        with pytest.raises(TrainingError, match="inputs of the first 8 batches have no scale"):
            Trainer(config(), [(bad, y)], tmp_path / "run")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lr": 1e-3}, "lr is 0.001, and .* was trained with 0.008"),
        ({"d_sae": 32}, "d_sae is 32"),
        ({"skip": True}, "skip is True"),
        ({"betas": (0.9, 0.999)}, "betas is"),
        ({"steps": 41}, "steps is 41"),
        ({"seed": 3}, "seed is 3"),
    ],
)
def test_resuming_another_run(changed, words, data, tmp_path):
    Trainer(config(), data, tmp_path).train(until=2)
    with pytest.raises(ConfigError, match=words):
        Trainer(config(**changed), data, tmp_path, resume=True)
    Trainer(config(checkpoint_every=7, keep_checkpoints=9, log_every=3), data, tmp_path, resume=True)


def test_resuming_with_other_data(shards, tmp_path):
    Trainer(config(), shards, tmp_path / "run").train(until=2)
    other = ActivationShards(tmp_path / "shards", bucket_rows=199)
    with pytest.raises(ConfigError, match="data: bucket_rows is 199"):
        Trainer(config(), other, tmp_path / "run", resume=True)


def test_a_run_is_not_overwritten_by_mistake(data, tmp_path):
    Trainer(config(), data, tmp_path, resume=True).train(until=2)
    with pytest.raises(ConfigError, match=r"run_dir: .* holds a run; resume=True"):
        Trainer(config(), data, tmp_path)


def test_two_runs_in_one_folder(data, tmp_path):
    """They wrote over each other's checkpoints and lines."""
    first = Trainer(config(), data, tmp_path)
    with alone_in(str(tmp_path), "run_dir"):
        with pytest.raises(ConfigError, match=r"run_dir: .* is in use by process \d+ on "):
            first.train()
        with pytest.raises(ConfigError, match="is in use"):
            first.save_checkpoint()
    late = Trainer(config(), data, tmp_path)
    first.train(until=2)
    first.train(until=3)  # its own run it may go on with
    with pytest.raises(ConfigError, match="holds a run"):
        late.train()


def test_the_latest_checkpoints_are_kept(data, tmp_path):
    Trainer(config(checkpoint_every=3, keep_checkpoints=2), data, tmp_path).train(until=13)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000012.safetensors", "step-000000013.safetensors"]


def test_what_a_kill_left_unfinished_is_removed(data, tmp_path):
    Trainer(config(), data, tmp_path).train(until=2)
    folder = tmp_path / "checkpoints"
    (folder / ".unitrow-123-4.incomplete").write_bytes(b"half")
    (folder / "notes.txt").write_text("kept")
    Trainer(config(), data, tmp_path, resume=True).train(until=3)
    steps = [f"step-00000000{step}.safetensors" for step in (2, 3)]
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", *steps]


def test_damaged_checkpoints(data, tmp_path):
    Trainer(config(), data, tmp_path).train(until=2)
    path = tmp_path / "checkpoints" / "step-000000002.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(FormatError, match="step-000000002"):
        Trainer(config(), data, tmp_path, resume=True)
    path.write_bytes(whole.replace(b'"W_enc"', b'"W_eNc"'))
    with pytest.raises(FormatError, match=r"W_enc: expected torch.float32 \[6, 64\], found none"):
        Trainer(config(), data, tmp_path, resume=True)
    path.write_bytes(whole.replace(b'"unitrow"', b'"unitr0w"'))
    with pytest.raises(FormatError, match="no checkpoint of a training run"):
        Trainer(config(), data, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"d_in": 0}, "d_in must be a whole number of at least 1, and is 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"batch_size": True}, "batch_size must"),
        ({"lr": math.nan}, "lr must be a positive number"),
        ({"lr": "fast"}, "lr must be a positive number, and is 'fast'"),
        ({"bandwidth": 0}, "bandwidth must be a positive number"),
        ({"sparsity_coefficient": -1}, "sparsity_coefficient must be 0 or a positive number"),
        ({"scaling": "both"}, "scaling must be one of input-rms, separate, none, and is 'both'"),
        ({"betas": (0.9, 1.0)}, "betas must be 2 numbers"),
        ({"betas": 0.9}, "betas must be 2 numbers"),
        ({"tied_init": True}, "tied_init needs d_in = d_out"),
        ({"target_l0": None}, "target_l0 must be given"),
        ({"threshold": "log", "threshold_init": 0}, "threshold_init must be positive"),
        ({"lr_decay": 1.5}, "lr_decay must be at most 1"),
        ({"skip": 1}, "skip must be of type bool, and is 1"),
        ({"sparsity": "l0-control", "target_l0": None}, "target_l0 must be given for l0-control"),
        ({"calibrate_batches": 1, "target_l0": None, "sparsity": "l0"}, "target_l0 must be given for calib"),
        ({"bandwidth_end": 1.0, "bandwidth_of_threshold": 1.0}, "bandwidth_end and"),
        ({"topk_steps": 1, "topk": 64}, "topk must be below d_sae = 64"),
        ({"learning_rate": 1.0}, "learning_rate: there is no such field"),
    ],
)
def test_configurations_that_cannot_be(values, words):
    with pytest.raises(ConfigError, match=words):
        config(**values)


def test_recipes():
    with pytest.raises(ConfigError, match=r"recipe must be one of gemma-scope, .*'gemma'"):
        TrainerConfig.from_recipe("gemma", d_in=1, d_out=1, d_sae=1, steps=1)
    with pytest.raises(ConfigError, match="sparsity_coefficient must be given"):
        TrainerConfig.from_recipe("gemma-scope", d_in=1, d_out=1, d_sae=1, steps=1)
    with pytest.raises(ConfigError, match="d_sae must be given"):
        TrainerConfig.from_recipe("demo", d_in=1, d_out=1)
    found = config("gemma-scope")
    assert TrainerConfig.from_values(json.loads(json.dumps(found.to_json()))) == found
    assert dataclasses.replace(found, lr=1.0).lr == 1.0


def test_learning_rates_of_decoder_and_thresholds(data, tmp_path):
    def moved(run, **factors):
        trainer = Trainer(config(**factors), data, tmp_path / run)
        before = weights(trainer)
        trainer.train(until=1)
        return {name: (tensor - before[name]).norm() for name, tensor in trainer.model.state_dict().items()}

    plain = moved("plain", topk_steps=0, decoder_lr_factor=1.0)
    other = moved("other", topk_steps=0, decoder_lr_factor=0.5, threshold_lr_factor=0.25)
    ratios = {name: float(other[name] / plain[name]) for name in ("W_enc", "W_dec", "threshold")}
    assert ratios == pytest.approx({"W_enc": 1, "W_dec": 0.5, "threshold": 0.25}, rel=1e-2)


def test_a_run_without_a_checkpoint_yet_is_not_written_over(data, tmp_path):
    Trainer(config(checkpoint_every=100, steps=100), data, tmp_path).train(until=20)
    for checkpoint in (tmp_path / "checkpoints").glob("*"):
        checkpoint.unlink()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"run_dir: .* holds a run; resume=True"):
        Trainer(config(checkpoint_every=100, steps=100, seed=7), data, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_shards_of_another_site_do_not_go_on_with_a_run(tmp_path):
    x, y = pairs(900)
    folders = [write_shards(tmp_path / name, x, y, [900], site=name) for name in ("layer3", "layer4")]
    Trainer(config(), ActivationShards(folders[0], bucket_rows=200), tmp_path / "run").train(until=10)
    with pytest.raises(ConfigError, match="data: metadata is"):
        Trainer(config(), ActivationShards(folders[1], bucket_rows=200), tmp_path / "run", resume=True)


def test_shards_with_other_contents_do_not_go_on_with_a_run(tmp_path):
    x, y = pairs(900)
    other = y.clone()
    other[450, 3] += 1
    folders = [write_shards(tmp_path / name, x, part, [900]) for name, part in (("a", y), ("b", other))]
    Trainer(config(), ActivationShards(folders[0]), tmp_path / "run").train(until=2)
    Trainer(config(), ActivationShards(folders[0]), tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match=r"data: digest is '.*', and .* was trained with"):
        Trainer(config(), ActivationShards(folders[1]), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("topk", {"topk": 0.4}),
        ("target_l0", {"target_l0": D_SAE + 1.0}),
        ("sparsity_coefficient", {"sparsity": "l0-control", "sparsity_coefficient": 0.0}),
        ("threshold_init", {"threshold_init": 0.0, "topk_steps": 0}),
    ],
)
def test_fields_that_would_train_nothing_are_refused(name, values):
    with pytest.raises(ConfigError, match=name):
        config(**values)


def test_pieces_of_different_widths_are_refused(tmp_path):
    # Smaller than a batch, so that the two would be joined.
    pieces = [pairs(20), (torch.randn(20, D_IN + 1), torch.randn(20, D_OUT))]
    with pytest.raises(ArrayError, match="item 1 must have widths"):
        Trainer(config(), pieces, tmp_path).train()
