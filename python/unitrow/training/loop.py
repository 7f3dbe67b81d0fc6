"""The training loop."""

from __future__ import annotations

import copy
import itertools
import os
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitrow.errors import ArrayError, ConfigError, TrainingError
from unitrow.torch._constraint import UnitNorm
from unitrow.torch._ops import unit_norm_
from unitrow.torch._optim import UnitNormAdam
from unitrow.training import checkpoints, distributed, initial, logs, schedules
from unitrow.training.data import Part, as_source
from unitrow.training.evaluation import evaluate
from unitrow.training.losses import Losses, losses
from unitrow.training.metrics import Meter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from unitrow.training.config import TrainerConfig
    from unitrow.training.data import Pair, Source
    from unitrow.transcoder.model import JumpReLUTranscoder

U = 2.0**-24
"""The unit of norm deviations: half the distance from 1 to the next float32."""


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
        input_scale: What inputs are divided by.
        target_scale: What targets are divided by.
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
            device: Where to train.
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
        self._device = torch.device(device)
        self._loggers = tuple(loggers)
        distributed.join(self._device)
        self._source = as_source(data)
        self._check_widths()
        self.model = initial.build(config, dict(metadata or {}), self._device)
        distributed.broadcast_(list(self.model.parameters()))
        self._decoder = UnitNorm(self.model, "W_dec")
        self._log_threshold = self._build_log_threshold()
        self._trained = self._choose_trained()
        self._optimizer = self._build_optimizer()
        self._losses = losses
        if config.compile_backend is not None:
            self._losses = torch.compile(losses, backend=config.compile_backend)
        self._meter = Meter(config.d_out, config.d_sae, self._device)
        self._silent_steps = torch.zeros(config.d_sae, dtype=torch.int64, device=self._device)
        self._max_deviation = 0.0
        self.step = 0
        self.input_scale = self.target_scale = 1.0
        found = checkpoints.paths(self._checkpoint_dir)
        if found and not resume:
            raise ConfigError(f"run_dir: {self._run_dir} holds a run; resume=True goes on with it")
        self._pairs = self._resume(found[-1]) if found else self._begin()

    def train(self, until: int | None = None) -> dict[str, Any]:
        """Train to the end, or to step `until`.

        Returns:
            The last metrics.

        Raises:
            TrainingError: The loss or a gradient is not finite, or the data ended. The step that is named was
                not done; the latest checkpoint is as it was.
            ArrayError: A batch has another width than the configuration says.
        """
        end = self.config.steps if until is None else min(until, self.config.steps)
        opened = self._open_loggers()
        metrics: dict[str, Any] = {}
        started, from_step = time.perf_counter(), self.step
        try:
            while self.step < end:
                figures = self._update()
                self.step += 1
                if self.step % self.config.log_every == 0 or self.step == end:
                    seconds = time.perf_counter() - started
                    rate = (self.step - from_step) * self.config.batch_size / seconds
                    metrics = self._metrics(figures, rate)
                    for logger in opened:
                        logger.log(metrics)
                    started, from_step = time.perf_counter(), self.step
                if self.step % self.config.checkpoint_every == 0 or self.step == end:
                    self.save_checkpoint()
        finally:
            logs.close_all(opened)
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
        model.fold_scales(self.input_scale, self.target_scale)
        model.cfg.metadata["training"] = {
            "trainer": "unitrow",
            "config": self.config.to_json(),
            "step": self.step,
            "input_scale": self.input_scale,
            "target_scale": self.target_scale,
            "decoder_rows": "unit after every step" if self.config.decoder == "unit" else "folded once",
        }
        return model

    def save_checkpoint(self) -> None:
        """Write a checkpoint now, beside those that are written as configured."""
        if distributed.is_main():
            values = {
                "input_scale": self.input_scale,
                "target_scale": self.target_scale,
                "max_deviation": self._max_deviation,
                "source": self._source.describe(),
            }
            state = checkpoints.State(self.step, self.config.to_json(), values, self._tensors())
            checkpoints.save(self._checkpoint_dir, state, self.config.keep_checkpoints)
        distributed.barrier()

    # Beginning and going on

    @property
    def _checkpoint_dir(self) -> str:
        return os.path.join(self._run_dir, "checkpoints")

    def _check_widths(self) -> None:
        for name in ("d_in", "d_out"):
            found = getattr(self._source, name, None)
            if found is not None and found != getattr(self.config, name):
                raise ConfigError(f"{name} is {getattr(self.config, name)}, and the data have {found}")

    def _choose_trained(self) -> dict[str, nn.Parameter]:
        """The parameters that the optimizer moves, by name."""
        trained = dict(self.model.named_parameters())
        if self._log_threshold is not None:
            del trained["threshold"]
            trained["log_threshold"] = self._log_threshold
        return trained

    def _build_log_threshold(self) -> nn.Parameter | None:
        """The logarithm of the thresholds, where that is what the optimizer moves."""
        if self.config.threshold == "raw":
            return None
        return nn.Parameter(self.model.threshold.detach().log())

    def _build_optimizer(self) -> UnitNormAdam:
        unit = self.config.decoder == "unit"
        rest = [tensor for name, tensor in self._trained.items() if name != "W_dec"]
        return UnitNormAdam(
            [{"params": [self.model.W_dec], "unit_norm": unit}, {"params": rest, "unit_norm": False}],
            lr=self.config.lr,
            betas=self.config.betas,
            eps=self.config.adam_eps,
        )

    def _begin(self) -> Iterator[Pair]:
        raw = self._raw_pairs(0)
        first = list(itertools.islice(raw, self.config.scale_batches))
        if not first:
            raise TrainingError("step 0: the data ended")
        self.input_scale, self.target_scale = initial.scales(self.config, first)
        initial.set_firing_rates_(self.model, self.config, self._scaled(first[0])[0])
        return itertools.chain(first, raw)

    def _resume(self, path: str) -> Iterator[Pair]:
        state = checkpoints.load(path)
        checkpoints.check_same_run(path, state, self.config.to_json(), self._source.describe())
        for tensor in self._trained.values():
            self._optimizer.state[tensor] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(tensor),
                "exp_avg_sq": torch.zeros_like(tensor),
            }
        checkpoints.check_tensors(path, state, self._tensors())
        with torch.no_grad():
            for name, current in self._tensors().items():
                current.copy_(state.tensors[name])
        self.step = state.step
        self.input_scale = state.values["input_scale"]
        self.target_scale = state.values["target_scale"]
        self._max_deviation = state.values["max_deviation"]
        return self._raw_pairs(self.step)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that a step changes, by name; not copies."""
        tensors: dict[str, Tensor] = {name: tensor.detach() for name, tensor in self.model.named_parameters()}
        for name, tensor in self._trained.items():
            tensors[name] = tensor.detach()
            for key, value in self._optimizer.state[tensor].items():
                tensors[f"adam.{key}.{name}"] = value
        tensors["silent_steps"] = self._silent_steps
        return tensors | {f"meter.{name}": value for name, value in self._meter.state().items()}

    def _raw_pairs(self, start: int) -> Iterator[Pair]:
        part = Part(distributed.rank(), distributed.world())
        config = self.config
        return iter(self._source.batches(config.batch_size, seed=config.seed, start=start, part=part))

    def _scaled(self, pair: Pair) -> Pair:
        x, target = (tensor.to(self._device, torch.float32, non_blocking=True) for tensor in pair)
        return x / self.input_scale, target / self.target_scale

    # One step

    def _update(self) -> dict[str, float]:
        """One step; returns losses and the gradient's norm."""
        x, target = self._next_pair()
        for group in self._optimizer.param_groups:
            group["lr"] = schedules.learning_rate(self.config, self.step)
        out = self._losses_of(x, target)
        figures = self._loss_figures(out)
        out.total.backward()  # type: ignore[no-untyped-call]
        distributed.average_gradients_(list(self.model.parameters()))
        figures["grad_norm"] = self._finish_gradients()
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._log_threshold is not None:
            with torch.no_grad():
                self.model.threshold.copy_(self._log_threshold.exp())
            self.model.threshold.grad = None
        fired = distributed.sum_(self._meter.add(out.outputs, target, out.activations))
        self._silent_steps = torch.where(fired > 0, 0, self._silent_steps + 1)
        self._max_deviation = max(self._max_deviation, self._decoder.max_deviation())
        return figures

    def _next_pair(self) -> Pair:
        pair = next(self._pairs, None)
        if pair is None:
            raise TrainingError(f"step {self.step}: the data ended; the run has {self.config.steps} steps")
        for name, tensor, width in zip(("inputs", "targets"), pair, ("d_in", "d_out"), strict=True):
            expected = getattr(self.config, width)
            if tensor.shape[-1] != expected:
                raise ArrayError(
                    f"{name} of step {self.step} must have {width} = {expected}, and have {tensor.shape[-1]}"
                )
        return self._scaled(pair)

    def _losses_of(self, x: Tensor, target: Tensor) -> Losses:
        coefficient = torch.tensor(
            schedules.sparsity_coefficient(self.config, self.step), device=self._device
        )
        dead = self._silent_steps >= self.config.dead_after
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.autocast):
            out: Losses = self._losses(self.model, self.config, x, target, coefficient, dead)
        return out

    def _loss_figures(self, out: Losses) -> dict[str, float]:
        names = ["loss", "error", *out.parts]
        values = torch.stack([part.detach().float() for part in (out.total, out.error, *out.parts.values())])
        values = distributed.sum_(values) / distributed.world()
        figures = dict(zip(names, values.tolist(), strict=True))
        if not torch.isfinite(values[0]):
            self._stop(
                "the loss",
                figures["loss"],
                [name for name in names[1:] if not abs(figures[name]) < float("inf")],
            )
        return figures

    def _finish_gradients(self) -> float:
        """Checks, and clips; returns the norm of all gradients together before clipping."""
        if self._log_threshold is not None and self.model.threshold.grad is not None:
            self._log_threshold.grad = self.model.threshold.grad * self.model.threshold.detach()
        gradients = {name: tensor.grad for name, tensor in self._trained.items() if tensor.grad is not None}
        norms = torch.stack([torch.linalg.vector_norm(grad) for grad in gradients.values()])
        norm = torch.linalg.vector_norm(norms)
        if not torch.isfinite(norm):
            bad = [
                name
                for name, one in zip(gradients, norms.tolist(), strict=True)
                if not abs(one) < float("inf")
            ]
            self._stop("the gradient's norm", float(norm), bad)
        limit = self.config.clip_norm
        if limit is not None and norm > limit:
            for grad in gradients.values():
                grad.mul_(limit / norm)
        return float(norm)

    def _stop(self, what: str, value: float, where: Sequence[str]) -> None:
        latest = checkpoints.paths(self._checkpoint_dir)
        kept = f"the latest checkpoint is {latest[-1]}" if latest else "there is no checkpoint yet"
        raise TrainingError(f"step {self.step}: {what} is {value} ({', '.join(where)}); {kept}")

    # Metrics

    def _metrics(self, figures: dict[str, float], rate: float) -> dict[str, Any]:
        config = self.config
        counted = self._meter.figures()
        self._meter.reset()
        deviation, self._max_deviation = self._max_deviation, 0.0
        return {
            "step": self.step,
            "tokens": self.step * config.batch_size,
            **figures,
            **counted,
            "dead": float((self._silent_steps >= config.dead_after).float().mean()),
            "max_norm_deviation_u": deviation / U,
            "rows_beyond_rounding": self._rows_beyond_rounding(),
            "lr": schedules.learning_rate(config, self.step - 1),
            "sparsity_coefficient": schedules.sparsity_coefficient(config, self.step - 1),
            "tokens_per_second": rate,
        }

    def _rows_beyond_rounding(self) -> int:
        """Rows whose norm rounding alone does not explain: those that one more projection would change."""
        rows = self.model.W_dec.detach()
        return int((unit_norm_(rows.clone()) != rows).any(-1).sum())

    def _open_loggers(self) -> list[logs.Logger]:
        if not distributed.is_main():
            return []
        os.makedirs(self._run_dir, exist_ok=True)
        return logs.open_loggers(
            self._run_dir, self._loggers, self.config.to_json(), self.step, self.config.steps
        )
