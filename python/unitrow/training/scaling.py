"""What is done to activations before training, and undone in the transcoder that is exported."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unitrow.errors import TrainingError
from unitrow.training.distributed import sum_, world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrow.training.config import TrainerConfig
    from unitrow.training.data import Pair
    from unitrow.transcoder.model import JumpReLUTranscoder

# A variance below this part of the mean square is what cancellation leaves of a constant.
_NO_VARIANCE = 1e-12


class Scaling:
    """Inputs and targets divided by a constant each; inputs standardised before, where the run says so.

    Attributes:
        input_scale: What inputs are divided by.
        target_scale: What targets are divided by.
        mean: What is subtracted from raw inputs, (d_in,).
        deviation: What they are divided by then, (d_in,).
    """

    def __init__(self, config: TrainerConfig, device: torch.device) -> None:
        self._config = config
        self._device = device
        self.input_scale = self.target_scale = 1.0
        self.mean = torch.zeros(config.d_in, device=device)
        self.deviation = torch.ones(config.d_in, device=device)

    def measure(self, pairs: Sequence[Pair]) -> None:
        """Choose the constants on raw batches; every process gets those of all.

        Raises:
            TrainingError: Activations are all zero, or not all finite.
        """
        config = self._config
        inputs, targets = zip(*pairs, strict=True)
        if config.standardize_inputs:
            mean, deviation = _moments(inputs, self._device)
            self.mean.copy_(mean)
            self.deviation.copy_(deviation)
            inputs = tuple((part.to(mean) - mean) / deviation for part in inputs)
        if config.scaling == "none":
            return
        self.input_scale = self._scale("inputs", inputs)
        separate = config.scaling == "separate"
        self.target_scale = self._scale("targets", targets) if separate else self.input_scale

    def apply(self, pair: Pair) -> Pair:
        """Raw activations as the transcoder is trained on them: float32, on its device."""
        x, target = (tensor.to(self._device, torch.float32, non_blocking=True) for tensor in pair)
        if self._config.standardize_inputs:
            x = (x - self.mean) / self.deviation
        return x / self.input_scale, target / self.target_scale

    def fold_into(self, model: JumpReLUTranscoder) -> None:
        """Turn a transcoder on the CPU into one of raw activations; the decoder stays as it is."""
        model.fold_scales(self.input_scale, self.target_scale)
        if self._config.standardize_inputs:
            model.fold_standardization(self.mean.cpu(), self.deviation.cpu())

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it, beside `values`; not copies."""
        return {"input_mean": self.mean, "input_deviation": self.deviation}

    def values(self) -> dict[str, float]:
        """The two constants."""
        return {"input_scale": self.input_scale, "target_scale": self.target_scale}

    def load_values(self, values: Mapping[str, float]) -> None:
        """Take over the two constants."""
        self.input_scale, self.target_scale = values["input_scale"], values["target_scale"]

    def _scale(self, name: str, tensors: Sequence[Tensor]) -> float:
        sums = torch.zeros(3, dtype=torch.float64)  # rows, norms, squared norms
        for tensor in tensors:
            norms = torch.linalg.vector_norm(tensor, dim=-1, dtype=torch.float32).double().cpu()
            sums += torch.stack([torch.tensor(len(norms)), norms.sum(), norms.square().sum()])
        rows, total, squares = _over_processes(sums, self._device).tolist()
        width = tensors[0].shape[-1]
        if self._config.scaled_to == "mean-norm-sqrt-width":
            scale = total / rows / math.sqrt(width)
        else:
            scale = math.sqrt(squares / rows / (width if self._config.scaled_to == "unit-rms" else 1))
        if not (math.isfinite(scale) and scale > 0):
            raise TrainingError(f"{name} of the first {len(tensors)} batches have no scale: it is {scale}")
        return float(scale)


def _moments(inputs: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension, float32; 1 for a dimension that never changes."""
    sums = torch.zeros(3, inputs[0].shape[-1], dtype=torch.float64)  # rows, values, squares
    for part in inputs:
        wide = part.double().cpu()
        sums += torch.stack([torch.full_like(sums[0], len(wide)), wide.sum(0), wide.square().sum(0)])
    rows, total, squares = _over_processes(sums, device)
    mean, square = total / rows, squares / rows
    variance = square - mean.square()
    changes = variance > _NO_VARIANCE * square
    return mean.float(), torch.where(changes, variance.clamp(min=0).sqrt(), 1).float()


def _over_processes(x: Tensor, device: torch.device) -> Tensor:
    """The sum over processes of a tensor on the CPU; they talk through the devices that they train on."""
    return sum_(x.to(device)).cpu() if world() > 1 else x
