"""What follows the run itself: λ where it is controlled, the bandwidth, and the final thresholds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unitrow.training import schedules
from unitrow.training.distributed import sum_

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unitrow.training.config import TrainerConfig
    from unitrow.transcoder.model import JumpReLUTranscoder

_OCTAVES = 8
_BINS = 1 << 16


class Control:
    """λ and the bandwidth of a run.

    Attributes:
        coefficient: λ where it is controlled: on `l0-control`.
        bandwidth: Width of the window where it is taken from the thresholds.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self.coefficient = 0.0
        self.bandwidth = config.bandwidth

    def begin(self, step: int, threshold: Tensor) -> None:
        """Before update number `step`; thresholds begin to be trained at the one that is looked for."""
        if step != self._config.topk_steps:
            return
        mean = float(threshold.double().mean())
        self.coefficient = self._config.sparsity_coefficient * mean**2
        if self._config.bandwidth_of_threshold is not None:
            self.bandwidth = self._config.bandwidth_of_threshold * mean

    def follow(self, step: int, l0: float) -> None:
        """After update number `step`, whose batch had that many active latents per token."""
        config = self._config
        if config.sparsity == "l0-control" and not schedules.is_topk(config, step):
            self.coefficient *= math.exp(config.control_rate * (l0 / schedules.target_l0(config, step) - 1))

    def sparsity_at(self, step: int) -> float:
        """λ at update number `step`."""
        if self._config.sparsity == "l0-control":
            return self.coefficient * schedules.sparsity_warmup(self._config, step)
        return schedules.sparsity_coefficient(self._config, step)

    def bandwidth_at(self, step: int) -> float:
        """Width of the window at update number `step`."""
        if self._config.bandwidth_of_threshold is not None:
            return self.bandwidth
        return schedules.bandwidth(self._config, step)

    def values(self) -> dict[str, float]:
        """What a checkpoint holds."""
        return {"coefficient": self.coefficient, "bandwidth": self.bandwidth}

    def load_values(self, values: Mapping[str, float]) -> None:
        """Take over what a checkpoint holds."""
        self.coefficient, self.bandwidth = values["coefficient"], values["bandwidth"]


@torch.no_grad()
def threshold_factor(model: JumpReLUTranscoder, inputs: Iterable[Tensor], l0: float) -> float:
    """The factor on all thresholds with which so many latents per token are active, within a sixteenth to 16.

    Args:
        model: The transcoder.
        inputs: Scaled inputs, this process's part of each batch.
        l0: Active latents per token, over all processes.
    """
    device = model.threshold.device
    half = _OCTAVES // 2
    counts = torch.zeros(_BINS, dtype=torch.int64, device=device)
    rows_and_above = torch.zeros(2, dtype=torch.int64, device=device)
    for x in inputs:
        z = model.pre_activations(x).float()
        # Which factor on its threshold would just silence each pre-activation.
        octave = torch.log2((z / model.threshold)[z > 0])
        counts += torch.histc(octave, _BINS, -half, half).long()
        rows_and_above += torch.stack([torch.tensor(len(z), device=device), (octave > half).sum()])
    rows, above = sum_(rows_and_above).tolist()
    # Active with the lower edge of each bin as the factor's logarithm.
    active = sum_(counts).flip(0).cumsum(0).flip(0) + above
    place = int((active > l0 * rows).sum())
    return float(2.0 ** (place * _OCTAVES / _BINS - half))
