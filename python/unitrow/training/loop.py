"""The training loop."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import os
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unitrow.atomic import write_atomically
from unitrow.errors import ArrayError, ConfigError, TrainingError
from unitrow.training import checkpoints, distributed, initial, logs, schedules
from unitrow.training.control import Control, threshold_factor
from unitrow.training.data import Part, as_source
from unitrow.training.evaluation import evaluate
from unitrow.training.locks import alone_in
from unitrow.training.losses import Losses, Weights, losses
from unitrow.training.matched import match_
from unitrow.training.page import write_page
from unitrow.training.scaling import Scaling
from unitrow.training.telemetry import Telemetry
from unitrow.training.updating import NotFiniteError, Updater

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from unitrow.training.config import TrainerConfig
    from unitrow.training.data import Pair, Source
    from unitrow.transcoder.model import JumpReLUTranscoder


class Trainer:
    """Trains a `JumpReLUTranscoder`, writes checkpoints and metrics, and goes on where it was stopped.

        trainer = Trainer(TrainerConfig.from_recipe("demo", d_in=384, d_out=384, d_sae=1024), data, "run/")
        trainer.train()
        trainer.export().save_model("transcoder/")

    Started by `torchrun`, the processes share each batch. Everything random is a function of seed and step,
    so that on a CPU a run that was stopped anywhere ends with the bits of one that was not.

    Attributes:
        config: The configuration.
        model: The transcoder that is trained, on scaled activations.
        step: Updates done so far.
        scaling: The scales of activations.
    """

    def __init__(
        self,
        config: TrainerConfig,
        data: Source | Iterable[Pair],
        run_dir: str | os.PathLike[str],
        *,
        resume: bool = False,
        device: str | torch.device = "cpu",
        loggers: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Prepares a run, or loads its latest checkpoint.

        Args:
            config: The run.
            data: `ActivationShards`, or an iterable of (inputs, targets), raw activations [rows, d_in] and
                [rows, d_out]. For a run that resumes it has to give the same pairs again.
            run_dir: Folder for metrics, checkpoints and the page; made if there is none.
            resume: Go on from the latest checkpoint in `run_dir`, or begin if there is none.
            device: Where to train; of processes that `torchrun` started on `cuda` each takes a GPU.
            loggers: Beside the file of metrics: `tensorboard`, `wandb`.
            metadata: `metadata` of the exported transcoder, such as `model_name` and `hook_name`.

        Raises:
            ConfigError: The configuration and the data disagree, `run_dir` holds a run and `resume` is not
                set, or the checkpoint is of a run with other fields.
            FormatError: The checkpoint is damaged.
            OSError: Something cannot be read or written.
        """
        self.config = config
        self._run_dir = os.fspath(run_dir)
        self._loggers = logs.checked(loggers)
        self._device = distributed.join(torch.device(device))
        self._source = as_source(data)
        self._check_widths()
        self.model = initial.build(config, dict(metadata or {}), self._device)
        distributed.broadcast_(list(self.model.parameters()))
        self._updater = Updater(self.model, config)
        self._control = Control(config)
        self.scaling = Scaling(config, self._device)
        self._losses = losses
        if config.compile_backend is not None:
            self._losses = torch.compile(losses, backend=config.compile_backend)
        self._telemetry = Telemetry(self.model, config, self._device)
        self.step = 0
        self._is_new = not resume
        self._refuse_other_runs()
        found = checkpoints.paths(self._checkpoint_dir)
        distributed.barrier()  # all have looked before one may write
        self._pairs = self._resume(found[-1]) if found else self._begin()

    def train(self, until: int | None = None) -> dict[str, Any]:
        """Train to the end, or to step `until`.

        Returns:
            The last metrics; those of a run that is done already are empty.

        Raises:
            ConfigError: Another process is at work in `run_dir`, or has begun a run there meanwhile.
            TrainingError: The loss or a gradient is not finite, or the data ended. The step that is named was
                not done; the latest checkpoint is as it was.
            ArrayError: A batch has another width than the configuration says.
        """
        end = self.config.steps if until is None else min(until, self.config.steps)
        metrics: dict[str, Any] = {}
        with contextlib.ExitStack() as held:
            opened = self._open_loggers(held)
            started, from_step = time.perf_counter(), self.step
            while self.step < end:
                figures = self._update()
                self.step += 1
                if self.step == self.config.steps:
                    self._calibrate()
                if self.step % self.config.log_every == 0 or self.step == end:
                    seconds = time.perf_counter() - started
                    rate = (self.step - from_step) * self.config.batch_size / seconds
                    metrics = self._metrics(figures, rate)
                    for logger in opened:
                        logger.log(metrics)
                    started, from_step = time.perf_counter(), self.step
                if self.step % self.config.checkpoint_every == 0 or self.step == end:
                    self._save_checkpoint()
        return metrics

    def evaluate(self, data: Any) -> dict[str, Any]:
        """Figures on held-out raw activations: see `unitrow.training.evaluate`."""
        return evaluate(self.export(), data, batch_size=self.config.batch_size)

    @torch.no_grad()
    def export(self) -> JumpReLUTranscoder:
        """A copy for raw activations, on the CPU: scales are folded into the encoder, decoder rows are unit.

        Its `cfg.metadata` says under `training` how it came to be.
        """
        model = copy.deepcopy(self.model).cpu().eval()
        model.threshold.clamp_(min=0)
        if self.config.decoder == "free":
            model.fold_W_dec_norm()
        self.scaling.fold_into(model)
        model.cfg.metadata["training"] = {
            "trainer": "unitrow",
            "config": self.config.to_json(),
            "step": self.step,
            **self.scaling.values(),
            "decoder_rows": "unit after every step" if self.config.decoder == "unit" else "folded once",
        }
        return model

    def save_checkpoint(self) -> None:
        """Write a checkpoint now, beside those that are written as configured.

        Raises:
            ConfigError: As of `train`.
            OSError: It cannot be written.
        """
        with contextlib.ExitStack() as held:
            if distributed.is_main():
                self._take_run_dir(held)
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        if distributed.is_main():
            values = {
                **self.scaling.values(),
                **self._control.values(),
                **self._telemetry.values(),
                "source": self._source.describe(),
            }
            state = checkpoints.State(self.step, self.config.to_json(), values, self._tensors())
            checkpoints.save(self._checkpoint_dir, state, self.config.keep_checkpoints)
        distributed.barrier()

    # Beginning and going on

    @property
    def _checkpoint_dir(self) -> str:
        return os.path.join(self._run_dir, "checkpoints")

    def _refuse_other_runs(self) -> None:
        held = checkpoints.paths(self._checkpoint_dir)
        if self._is_new and (held or os.path.exists(os.path.join(self._run_dir, "metrics.jsonl"))):
            raise ConfigError(f"run_dir: {self._run_dir} holds a run; resume=True goes on with it")

    def _take_run_dir(self, held: contextlib.ExitStack) -> None:
        """Keep others out until `held` is closed; what they have begun meanwhile stays theirs."""
        held.enter_context(alone_in(self._run_dir, "run_dir"))
        self._refuse_other_runs()
        self._is_new = False
        checkpoints.remove_unfinished(self._checkpoint_dir)

    def _check_widths(self) -> None:
        for name in ("d_in", "d_out"):
            found = getattr(self._source, name, None)
            if found is not None and found != getattr(self.config, name):
                raise ConfigError(f"{name} is {getattr(self.config, name)}, and the data have {found}")

    def _begin(self) -> Iterator[Pair]:
        raw = self._raw_pairs(0)
        first = list(itertools.islice(raw, self.config.scale_batches))
        if not first:
            raise TrainingError("step 0: the data ended")
        for pair in first:
            self._check_pair(pair)
        self.scaling.measure(first)
        if self.config.init == "matched":
            match_(self.model, self.config, [self.scaling.apply(pair) for pair in first])
        initial.set_firing_rates_(self.model, self.config, self.scaling.apply(first[0])[0])
        return itertools.chain(first, raw)

    def _resume(self, path: str) -> Iterator[Pair]:
        state = checkpoints.load(path)
        checkpoints.check_same_run(path, state, self.config.to_json(), self._source.describe())
        checkpoints.check_tensors(path, state, self._tensors())
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(state.tensors[name])
        self.scaling.load_values(state.values)
        self._control.load_values(state.values)
        self._telemetry.load_values(state.values)
        self.step = state.step
        self.model.cfg.bandwidth = self._control.bandwidth_at(max(0, self.step - 1))
        return self._raw_pairs(self.step)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that a step changes, by name; not copies."""
        return self._updater.tensors() | self.scaling.tensors() | self._telemetry.tensors()

    def _raw_pairs(self, start: int) -> Iterator[Pair]:
        part = Part(distributed.rank(), distributed.world())
        config = self.config
        return iter(self._source.batches(config.batch_size, seed=config.seed, start=start, part=part))

    def _check_pair(self, pair: Pair) -> None:
        for name, tensor, width in zip(("inputs", "targets"), pair, ("d_in", "d_out"), strict=True):
            expected = getattr(self.config, width)
            if tensor.shape[-1] != expected:
                found = tensor.shape[-1]
                raise ArrayError(
                    f"{name} at step {self.step} must have {width} = {expected}, and have {found}"
                )

    # One step

    def _update(self) -> dict[str, float]:
        """One step; returns losses and the gradient's norm."""
        x, target = self._next_pair()
        out = self._losses_of(x, target)
        figures = self._loss_figures(out)
        out.total.backward()  # type: ignore[no-untyped-call]
        try:
            figures["grad_norm"] = self._updater.update(self.step)
        except NotFiniteError as error:
            raise self._stopped("the gradient's norm", error.norm, error.where) from None
        if out.threshold is not None:
            self._updater.follow(out.threshold, self.config.topk_average if self.step else 0.0)
        self._control.follow(self.step, self._telemetry.add(out, target))
        return figures

    def _next_pair(self) -> Pair:
        pair = next(self._pairs, None)
        if pair is None:
            raise TrainingError(f"step {self.step}: the data ended; the run has {self.config.steps} steps")
        self._check_pair(pair)
        return self.scaling.apply(pair)

    def _calibrate(self) -> None:
        """Bring L0 to where it is to be, by one factor on all thresholds."""
        count, l0 = self.config.calibrate_batches, self.config.target_l0
        if count and l0 is not None:
            pairs = [self._next_pair() for _ in range(count)]
            inputs = (x for x, _ in pairs)
            self._updater.scale_thresholds(threshold_factor(self.model, inputs, l0))
            self._telemetry.measure_again(pairs)

    def _losses_of(self, x: Tensor, target: Tensor) -> Losses:
        config = self.config
        self._control.begin(self.step, self.model.threshold.detach())
        self.model.cfg.bandwidth = self._control.bandwidth_at(self.step)
        weights = Weights(
            torch.tensor(self._control.sparsity_at(self.step), device=self._device),
            torch.tensor(schedules.target_l0(config, self.step), device=self._device),
            self._telemetry.dead,
        )
        topk = schedules.is_topk(config, self.step)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=config.autocast):
            out: Losses = self._losses(self.model, config, x, target, weights, topk=topk)
        return out

    def _loss_figures(self, out: Losses) -> dict[str, float]:
        names = ["loss", "error", *out.parts]
        values = torch.stack([part.detach().float() for part in (out.total, out.error, *out.parts.values())])
        values = distributed.sum_(values) / distributed.world()
        figures = dict(zip(names, values.tolist(), strict=True))
        if not math.isfinite(figures["loss"]):
            where = [name for name in names[1:] if not math.isfinite(figures[name])]
            raise self._stopped("the loss", figures["loss"], where)
        return figures

    def _stopped(self, what: str, value: float, where: Sequence[str]) -> TrainingError:
        latest = checkpoints.paths(self._checkpoint_dir)
        kept = f"the latest checkpoint is {latest[-1]}" if latest else "there is no checkpoint yet"
        return TrainingError(f"step {self.step}: {what} is {value} ({', '.join(where)}); {kept}")

    # Metrics

    def _metrics(self, figures: dict[str, float], rate: float) -> dict[str, Any]:
        return {
            "step": self.step,
            "tokens": self.step * self.config.batch_size,
            **figures,
            **self._telemetry.take(),
            "lr": schedules.learning_rate(self.config, self.step - 1),
            "sparsity_coefficient": self._control.sparsity_at(self.step - 1),
            "bandwidth": self.model.cfg.bandwidth,
            "tokens_per_second": rate,
        }

    def _open_loggers(self, held: contextlib.ExitStack) -> list[logs.Logger]:
        if not distributed.is_main():
            return []
        self._take_run_dir(held)
        text = json.dumps(self.config.to_json(), indent=2) + "\n"
        write_atomically(os.path.join(self._run_dir, "config.json"), text.encode())
        held.callback(write_page, self._run_dir)  # once the loggers are closed, also of a run that failed
        return logs.open_loggers(
            held, self._run_dir, self._loggers, self.config.to_json(), self.step, self.config.steps
        )
