"""Figures of training and of held-out data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unitrow.training import distributed

DENSITY_EDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""What divides the bins of the density histogram; before the first bin come latents that never fired."""


class Meter:
    """Adds up what the figures of a number of batches are made of.

    The fraction of variance unexplained is Σ‖y − t‖² / Σ‖t − t̄‖², with outputs y, targets t and t̄ their mean
    over all tokens that were added: 1 for the best constant output, 0 for exact ones. L0 is the mean number
    of active latents of a token. A latent's density is the part of the tokens on which it is active.
    """

    def __init__(self, d_out: int, d_sae: int, device: torch.device, *, shared: bool = True) -> None:
        """`shared`: figures are those of all processes, of which each has to ask."""
        self._shared = shared
        wide = torch.float32 if device.type == "mps" else torch.float64  # it has no other
        self._sums = {
            "rows": torch.zeros((), dtype=wide, device=device),
            "error": torch.zeros((), dtype=wide, device=device),
            "squares": torch.zeros((), dtype=wide, device=device),
            "targets": torch.zeros(d_out, dtype=wide, device=device),
            "fired": torch.zeros(d_sae, dtype=wide, device=device),
        }

    @torch.no_grad()
    def add(self, outputs: Tensor, targets: Tensor, activations: Tensor) -> Tensor:
        """Count a batch in.

        Args:
            outputs: y, (batch, d_out).
            targets: t, (batch, d_out).
            activations: f, (batch, d_sae).

        Returns:
            On how many tokens of this process each latent was active, (d_sae,).
        """
        sums = self._sums
        wide = sums["rows"].dtype
        fired = (activations > 0).sum(0)
        sums["rows"] += len(outputs)
        sums["error"] += (outputs - targets).square().sum(dtype=wide)
        sums["squares"] += targets.square().sum(dtype=wide)
        sums["targets"] += targets.sum(0, dtype=wide)
        sums["fired"] += fired
        return fired

    def figures(self) -> dict[str, Any]:
        """Figures of everything counted."""
        sums = {name: value.clone() for name, value in self._sums.items()}
        if self._shared:
            sums = {name: distributed.sum_(value) for name, value in sums.items()}
        rows = float(sums["rows"])
        if rows == 0:
            return {}
        variance = float(sums["squares"] - sums["targets"].square().sum() / rows)
        density = sums["fired"] / rows
        return {
            "fvu": float(sums["error"]) / variance if variance > 0 else None,
            "mse": float(sums["error"]) / rows,
            "l0": float(density.sum()),
            "never_fired": float((density == 0).float().mean()),
            "density": histogram(density),
        }

    def reset(self) -> None:
        """Forget everything."""
        for value in self._sums.values():
            value.zero_()

    def state(self) -> dict[str, Tensor]:
        """The sums by name; not copies."""
        return dict(self._sums)


def histogram(density: Tensor) -> list[int]:
    """How many latents have density 0, and how many one in each bin that `DENSITY_EDGES` divide."""
    edges = torch.tensor(DENSITY_EDGES, dtype=density.dtype, device=density.device)
    bins = torch.where(density == 0, 0, torch.bucketize(density, edges, right=True) + 1)
    counts: list[int] = torch.bincount(bins, minlength=len(DENSITY_EDGES) + 2).tolist()
    return counts
