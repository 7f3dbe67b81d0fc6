"""Where metrics go: a file of JSON lines always, a progress line on a terminal, other loggers on request."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from unitrow.atomic import write_atomically
from unitrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Logger(Protocol):
    """Takes the metrics of a run."""

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Metrics of one step; `step` is among them."""

    def close(self) -> None:
        """No more will come."""


class JsonLines:
    """`metrics.jsonl`: a line per call, on disk before the next step begins."""

    def __init__(self, path: str, from_step: int) -> None:
        """Lines of steps after `from_step`, which a resumed run writes again, are dropped."""
        kept = [line for line in read_lines(path) if line["step"] <= from_step]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  (open as long as the run)

    def log(self, metrics: Mapping[str, Any]) -> None:  # noqa: D102
        self._file.write(json.dumps(metrics, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:  # noqa: D102
        self._file.close()


def read_lines(path: str) -> list[dict[str, Any]]:
    """The whole lines of a file of metrics; one that a kill cut short is left out."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")[:-1]
    return [json.loads(line) for line in lines]


class Progress:
    """One line on a terminal's stderr; elsewhere nothing."""

    def __init__(self, steps: int, done: int) -> None:
        self._bar: Any = None
        if sys.stderr is None or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("training", total=steps, completed=done, figures="")
        self._bar.start()

    def log(self, metrics: Mapping[str, Any]) -> None:  # noqa: D102
        if self._bar is not None:
            fvu = "-" if metrics["fvu"] is None else f"{metrics['fvu']:.4f}"
            figures = f"FVU {fvu}  L0 {metrics['l0']:.1f}  dead {metrics['dead']:.1%}"
            self._bar.update(self._task, completed=metrics["step"], figures=figures)

    def close(self) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.stop()


class TensorBoard:
    """Scalars for TensorBoard, through torch's own writer."""

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("loggers: tensorboard is not installed: pip install tensorboard") from error
        self._writer: Any = SummaryWriter(folder)

    def log(self, metrics: Mapping[str, Any]) -> None:  # noqa: D102
        for name, value in scalars(metrics).items():
            self._writer.add_scalar(name, value, metrics["step"])

    def close(self) -> None:  # noqa: D102
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb, configured by wandb's own environment variables."""

    def __init__(self, folder: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("loggers: wandb is not installed: pip install wandb") from error
        self._run: Any = wandb.init(dir=folder, config=dict(config))

    def log(self, metrics: Mapping[str, Any]) -> None:  # noqa: D102
        self._run.log(scalars(metrics), step=metrics["step"])

    def close(self) -> None:  # noqa: D102
        self._run.finish()


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among metrics, but for the step."""
    return {
        name: value
        for name, value in metrics.items()
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def open_loggers(
    run_dir: str, names: Sequence[str], config: Mapping[str, Any], from_step: int, steps: int
) -> list[Logger]:
    """The loggers of a run.

    Raises:
        ConfigError: An unknown name, or its library is not installed.
    """
    opened: list[Logger] = []
    for name in names:
        if name == "tensorboard":
            opened.append(TensorBoard(os.path.join(run_dir, "tensorboard")))
        elif name == "wandb":
            opened.append(WeightsAndBiases(run_dir, config))
        else:
            raise ConfigError(f"loggers must be out of tensorboard, wandb, and hold {name!r}")
    return [JsonLines(os.path.join(run_dir, "metrics.jsonl"), from_step), Progress(steps, from_step), *opened]


def close_all(loggers: Iterable[Logger]) -> None:
    """Close every one."""
    for logger in loggers:
        logger.close()
