"""Where metrics go: a file of JSON lines always, a progress line on a terminal, other loggers on request."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from unitrow.atomic import write_atomically
from unitrow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack


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

    module = "torch.utils.tensorboard"

    def __init__(self, run_dir: str, config: Mapping[str, Any], from_step: int) -> None:  # noqa: ARG002
        """What an earlier process wrote of steps after `from_step` is no longer shown."""
        writer: Any = import_module(self.module).SummaryWriter
        self._writer = writer(os.path.join(run_dir, "tensorboard"), purge_step=from_step + 1)

    def log(self, metrics: Mapping[str, Any]) -> None:  # noqa: D102
        for name, value in scalars(metrics).items():
            self._writer.add_scalar(name, value, metrics["step"])

    def close(self) -> None:  # noqa: D102
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb, configured by wandb's own environment variables; its id is kept in the folder."""

    module = "wandb"

    def __init__(self, run_dir: str, config: Mapping[str, Any], from_step: int) -> None:  # noqa: ARG002
        """A run that resumes goes on with its wandb run, which ignores steps that it has already."""
        path = os.path.join(run_dir, "wandb-run-id")
        again = {}
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                again = {"id": file.read().strip(), "resume": "allow"}
        init: Any = import_module(self.module).init
        self._run = init(dir=run_dir, config=dict(config), **again)
        write_atomically(path, f"{self._run.id}\n".encode())

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


_EXTRA: dict[str, type[TensorBoard | WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Names of loggers beside those that are always there.

    Raises:
        ConfigError: An unknown name, or its library is not installed.
    """
    for name in [names] if isinstance(names, str) else names:
        if name not in _EXTRA:
            raise ConfigError(f"loggers must be out of {', '.join(_EXTRA)}, and hold {name!r}")
        try:
            import_module(_EXTRA[name].module)
        except ImportError as error:
            raise ConfigError(f"loggers: {name} is not installed: pip install {name}") from error
    return (names,) if isinstance(names, str) else tuple(names)


def open_loggers(
    held: ExitStack,
    run_dir: str,
    names: Sequence[str],
    config: Mapping[str, Any],
    from_step: int,
    steps: int,
) -> list[Logger]:
    """The loggers of a run; `held` closes each."""
    opened: list[Logger] = []
    for name in ("lines", "progress", *names):
        if name == "lines":
            logger: Logger = JsonLines(os.path.join(run_dir, "metrics.jsonl"), from_step)
        elif name == "progress":
            logger = Progress(steps, from_step)
        else:
            logger = _EXTRA[name](run_dir, config, from_step)
        held.callback(logger.close)
        opened.append(logger)
    return opened
