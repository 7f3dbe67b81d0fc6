"""What a run notes down about its own steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unitrow.torch._constraint import UnitNorm
from unitrow.torch._ops import unit_norm_
from unitrow.training.distributed import sum_
from unitrow.training.metrics import Meter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unitrow.training.config import TrainerConfig
    from unitrow.training.data import Pair
    from unitrow.training.losses import Losses
    from unitrow.transcoder.model import JumpReLUTranscoder

U = 2.0**-24
"""The unit of norm deviations: half the distance from 1 to the next float32."""


class Telemetry:
    """Figures of the steps since the last metrics, and how long each latent has been silent."""

    def __init__(self, model: JumpReLUTranscoder, config: TrainerConfig, device: torch.device) -> None:
        self._model = model
        self._config = config
        self._decoder = UnitNorm(model, "W_dec")
        self._meter = Meter(config.d_out, config.d_sae, device)
        self._silent_steps = torch.zeros(config.d_sae, dtype=torch.int64, device=device)
        self._max_deviation = 0.0

    @property
    def dead(self) -> Tensor:
        """Which latents have been silent for too long, (d_sae,), bool."""
        return self._silent_steps >= self._config.dead_after

    def add(self, out: Losses, target: Tensor) -> float:
        """Count a step in.

        Args:
            out: This process's part of the batch.
            target: Its scaled targets.

        Returns:
            L0 of the whole batch.
        """
        fired = sum_(self._meter.add(out.outputs, target, out.activations))
        self._silent_steps.add_(1).masked_fill_(fired > 0, 0)
        self._max_deviation = max(self._max_deviation, self._decoder.max_deviation())
        return float(fired.sum()) / self._config.batch_size

    @torch.no_grad()
    def measure_again(self, pairs: Iterable[Pair]) -> None:
        """Replace the figures of the steps by those of the transcoder as it is, on this process's pairs."""
        self._meter.reset()
        for x, target in pairs:
            f = self._model.encode(x)
            self._meter.add(self._model.decode(f, x), target, f)

    def take(self) -> dict[str, Any]:
        """The figures; those of the next call begin here. Every process has to ask."""
        figures = self._meter.figures()
        self._meter.reset()
        deviation, self._max_deviation = self._max_deviation, 0.0
        return {
            **figures,
            "dead": float(self.dead.float().mean()),
            "max_norm_deviation_u": deviation / U,
            "rows_beyond_rounding": self._rows_beyond_rounding(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it, beside `values`; not copies."""
        meter = {f"meter.{name}": value for name, value in self._meter.state().items()}
        return {"silent_steps": self._silent_steps, **meter}

    def values(self) -> dict[str, float]:
        """The rest of it."""
        return {"max_deviation": self._max_deviation}

    def load_values(self, values: Mapping[str, float]) -> None:
        """Take over `values`."""
        self._max_deviation = values["max_deviation"]

    def _rows_beyond_rounding(self) -> int:
        """Rows whose norm rounding alone does not explain: those that one more projection would change."""
        rows = self._decoder.parameter.detach()
        return int((unit_norm_(rows.clone()) != rows).any(-1).sum())
