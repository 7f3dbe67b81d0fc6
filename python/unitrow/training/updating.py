"""The optimizer's part of a step: gradients, parameters, thresholds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitrow.torch._optim import UnitNormAdam
from unitrow.training import schedules
from unitrow.training.distributed import average_gradients_

if TYPE_CHECKING:
    from unitrow.training.config import TrainerConfig
    from unitrow.transcoder.model import JumpReLUTranscoder


class NotFiniteError(Exception):
    """The gradients have no norm: `norm` is what it came to, `where` the parameters to blame."""

    def __init__(self, norm: float, where: list[str]) -> None:
        super().__init__(norm, where)
        self.norm = norm
        self.where = where


class Updater:
    """`UnitNormAdam` over a transcoder's parameters; it may move the thresholds' logarithms instead.

    Attributes:
        trained: The parameters that the optimizer moves, by name.
    """

    def __init__(self, model: JumpReLUTranscoder, config: TrainerConfig) -> None:
        self._model = model
        self._config = config
        self.trained: dict[str, nn.Parameter] = dict(model.named_parameters())
        self._log_threshold: nn.Parameter | None = None
        if config.threshold == "log":
            self._log_threshold = nn.Parameter(self.trained.pop("threshold").detach().log())
            self.trained["log_threshold"] = self._log_threshold
        last = ("W_dec", "threshold", "log_threshold")
        groups: list[dict[str, Any]] = [
            {
                "params": [model.W_dec],
                "unit_norm": config.decoder == "unit",
                "lr_factor": config.decoder_lr_factor,
            },
            {"params": [tensor for name, tensor in self.trained.items() if name not in last]},
            {
                "params": [self.trained[name] for name in last[1:] if name in self.trained],
                "lr_factor": config.threshold_lr_factor,
            },
        ]
        groups = [{"unit_norm": False, "lr_factor": 1.0, **group} for group in groups]
        self._optimizer = UnitNormAdam(
            groups,
            lr=config.lr,
            betas=config.betas,
            eps=config.adam_eps,
            compiled=config.compile_backend == "inductor",
        )
        # At once, for `tensors` to name: thresholds may have no gradient for a while.
        for tensor in self.trained.values():
            self._optimizer.state[tensor] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(tensor),
                "exp_avg_sq": torch.zeros_like(tensor),
            }

    def update(self, step: int) -> float:
        """Average gradients over processes, clip them, and update the parameters.

        Returns:
            The norm of all gradients together, before clipping.

        Raises:
            NotFiniteError: It is not finite; parameters and moments are as they were.
        """
        average_gradients_(list(self._model.parameters()))
        if self._log_threshold is not None and self._model.threshold.grad is not None:
            self._log_threshold.grad = self._model.threshold.grad * self._model.threshold.detach()
        norm = self._clip()
        for group in self._optimizer.param_groups:
            group["lr"] = schedules.learning_rate(self._config, step) * group["lr_factor"]
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._log_threshold is not None:
            with torch.no_grad():
                self._model.threshold.copy_(self._log_threshold.exp())
            self._model.threshold.grad = None
        return norm

    @torch.no_grad()
    def scale_thresholds(self, factor: float) -> None:
        """Multiply all thresholds."""
        self._model.threshold.mul_(factor)
        if self._log_threshold is not None:
            self._log_threshold.add_(math.log(factor))

    @torch.no_grad()
    def follow(self, threshold: Tensor, kept: float) -> None:
        """Bring all thresholds nearer to one: to `kept` of what they are and the rest of what it is."""
        thresholds = self._model.threshold
        thresholds.lerp_(threshold.to(thresholds.dtype), 1 - kept)
        if self._log_threshold is not None:
            self._log_threshold.copy_(thresholds.clamp(min=torch.finfo(thresholds.dtype).tiny).log())

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and moments by name; not copies."""
        tensors: dict[str, Tensor] = {name: tensor.detach() for name, tensor in self.trained.items()}
        tensors["threshold"] = self._model.threshold.detach()
        for name, tensor in self.trained.items():
            for key, value in self._optimizer.state[tensor].items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors

    def _clip(self) -> float:
        gradients = {name: tensor.grad for name, tensor in self.trained.items() if tensor.grad is not None}
        norms = torch.stack([torch.linalg.vector_norm(grad) for grad in gradients.values()])
        norm = torch.linalg.vector_norm(norms)
        if not torch.isfinite(norm):
            finite = torch.isfinite(norms).tolist()
            raise NotFiniteError(
                float(norm), [name for name, fine in zip(gradients, finite, strict=True) if not fine]
            )
        limit = self._config.clip_norm
        if limit is not None and norm > limit:
            for grad in gradients.values():
                grad.mul_(limit / norm)
        return float(norm)
