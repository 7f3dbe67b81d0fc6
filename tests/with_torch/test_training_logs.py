"""Where metrics go, what the machine options do, and what is refused about them."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from unitrow.errors import ConfigError  # noqa: E402
from unitrow.training import Trainer, TrainerConfig, logs  # noqa: E402

from .support import is_unit_to_rounding  # noqa: E402
from .training_data import D_IN, D_OUT, pairs  # noqa: E402

pytestmark = pytest.mark.torch


def config(**values):
    given = {"d_in": D_IN, "d_out": D_OUT, "d_sae": 64, "steps": 6, "batch_size": 32, "log_every": 2}
    return TrainerConfig.from_recipe("demo", **(given | values))


@pytest.fixture
def data():
    return [pairs(500)]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_a_run_leaves_behind(data, tmp_path):
    Trainer(config(), data, tmp_path / "a" / "run").train()
    names = sorted(path.name for path in (tmp_path / "a" / "run").iterdir())
    assert names == [".lock", "checkpoints", "config.json", "index.html", "metrics.jsonl"]
    stored = json.loads((tmp_path / "a" / "run" / "config.json").read_text())
    assert TrainerConfig.from_values(stored) == config()


def test_lines_after_the_checkpoint_are_written_again(data, tmp_path):
    """As if a kill had come after metrics and before the next checkpoint, in the middle of a line."""
    Trainer(config(checkpoint_every=100), data, tmp_path).train(until=3)
    path = tmp_path / "metrics.jsonl"
    lost = json.dumps({**metrics(tmp_path)[-1], "step": 4, "loss": 1e9})
    path.write_text(path.read_text() + lost + "\n" + lost[:20])
    Trainer(config(checkpoint_every=100), data, tmp_path, resume=True).train()
    found = metrics(tmp_path)
    assert [line["step"] for line in found] == [2, 3, 4, 6]
    assert all(line["loss"] < 1e8 for line in found)


def test_wandb(data, tmp_path, monkeypatch):
    said = []
    run = SimpleNamespace(
        id="abc123",
        log=lambda values, step: said.append((step, values)),
        finish=lambda: said.append("finished"),
    )

    def init(**options):
        said.append(options)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    Trainer(config(), data, tmp_path, loggers=["wandb"]).train()
    assert said[0]["config"] == config().to_json()
    assert "id" not in said[0]
    assert said[-1] == "finished"
    assert [step for step, _ in said[1:-1]] == [2, 4, 6]
    for (_, values), line in zip(said[1:-1], metrics(tmp_path), strict=True):
        assert values["fvu"] == line["fvu"]
        assert "density" not in values


def test_a_logger_is_closed_when_training_stops(data, tmp_path, monkeypatch):
    said = []
    run = SimpleNamespace(id="x", log=lambda *_, **__: None, finish=lambda: said.append("finished"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run))
    trainer = Trainer(config(), data, tmp_path, loggers=["wandb"])
    trainer.model.W_enc.register_hook(lambda grad: grad / 0)
    with pytest.raises(Exception, match="gradient"):
        trainer.train()
    assert said == ["finished"]


def test_a_resumed_run_goes_on_with_its_wandb_run(data, tmp_path, monkeypatch):
    """Each process began a new one."""
    said = []

    def init(**options):
        said.append(options)
        return SimpleNamespace(id="abc123", log=lambda *_, **__: None, finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    Trainer(config(), data, tmp_path, loggers=["wandb"]).train(until=3)
    Trainer(config(), data, tmp_path, loggers=["wandb"], resume=True).train()
    assert [options.get("id") for options in said] == [None, "abc123"]
    assert said[1]["resume"] == "allow"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_steps_that_are_done_again_once(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def attempt(until=None):
        Trainer(config(checkpoint_every=2), data, tmp_path, loggers=["tensorboard"], resume=True).train(
            until=until
        )

    attempt(until=4)
    # As if a kill had come before the last checkpoint.
    (tmp_path / "checkpoints" / "step-000000004.safetensors").unlink()
    attempt()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("fvu")] == [2, 4, 6]


def test_the_last_figures_are_of_the_calibrated_transcoder(data, tmp_path):
    """They were those of the steps before the thresholds were brought to the wanted L0."""
    settings = config(
        target_l0=3.0,
        sparsity_coefficient=1e-9,
        control_rate=0.0,
        calibrate_batches=4,
        topk=16.0,
        topk_steps=2,
    )
    last = Trainer(settings, data, tmp_path).train()
    assert last == metrics(tmp_path)[-1]
    assert last["l0"] == pytest.approx(3.0, rel=0.02)
    assert metrics(tmp_path)[-2]["l0"] > 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trainer(config(), data, tmp_path, loggers=["tensorboard"]).train()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name in ("fvu", "l0", "max_norm_deviation_u"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in metrics(tmp_path)]
        assert found == expected


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_logger_that_is_not_installed(data, tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"loggers: {name} is not installed: pip install {name}"):
        Trainer(config(), data, tmp_path / "run", loggers=[name])
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger(data, tmp_path):
    with pytest.raises(ConfigError, match="loggers must be out of tensorboard, wandb, and hold 'mlflow'"):
        Trainer(config(), data, tmp_path, loggers=["mlflow"])


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_only_on_a_terminal(terminal, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    progress = logs.Progress(10, 0)
    progress.log({"step": 5, "fvu": 0.25, "l0": 12.0, "dead": 0.5})
    progress.close()
    said = stream.getvalue()
    assert ("FVU 0.2500  L0 12.0  dead 50.0%" in said) == terminal
    assert bool(said) == terminal


def test_nothing_is_said_without_a_terminal(data, tmp_path, capfd):
    Trainer(config(), data, tmp_path).train()
    assert capfd.readouterr() == ("", "")


def test_mixed_precision(data, tmp_path):
    full = Trainer(config(), data, tmp_path / "full")
    mixed = Trainer(config(autocast=True), data, tmp_path / "mixed")
    losses = [trainer.train()["loss"] for trainer in (full, mixed)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert not torch.equal(full.model.W_enc, mixed.model.W_enc)
    assert all(tensor.dtype == torch.float32 for tensor in mixed.model.parameters())
    assert is_unit_to_rounding(mixed.model.W_dec).all()
    torch.testing.assert_close(full.model.W_dec, mixed.model.W_dec, rtol=0, atol=0.05)


@pytest.mark.filterwarnings("ignore")
def test_compiled(data, tmp_path):
    eager = Trainer(config(topk_steps=2, topk=8.0), data, tmp_path / "eager")
    compiled = Trainer(
        config(topk_steps=2, topk=8.0, compile_backend="aot_eager"), data, tmp_path / "compiled"
    )
    losses = [trainer.train()["loss"] for trainer in (eager, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(eager.model.W_enc, compiled.model.W_enc, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("backend", [None, "inductor"])
def test_on_a_gpu(data, tmp_path, backend):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    trainer = Trainer(config(compile_backend=backend), data, tmp_path, device="cuda")
    trainer.train()
    assert is_unit_to_rounding(trainer.model.W_dec.cpu()).all()
    assert Trainer(config(compile_backend=backend), data, tmp_path, device="cuda", resume=True).step == 6
    host = Trainer(config(), data, tmp_path / "host")
    host.train()
    torch.testing.assert_close(trainer.export().W_dec, host.export().W_dec, rtol=0, atol=1e-4)
