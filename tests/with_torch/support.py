"""Oracles of the torch tests, in float64."""

from __future__ import annotations

import torch


def exact_norms(x, dim=-1):
    """Norms as torch takes them in float64: right to a few ulp where no square leaves its range."""
    return torch.linalg.vector_norm(x.detach().double(), dim=dim)


def is_unit_to_rounding(w, dim=-1):
    """For each row, whether rounding in the dtype of `w` alone can have moved its norm away from 1."""
    info = torch.finfo(w.dtype)
    wide = w.detach().double().abs()
    lowest = torch.tensor(info.smallest_normal, dtype=torch.float64)
    step = torch.maximum(torch.exp2(torch.frexp(wide).exponent - 1.0), lowest) * info.eps
    excess = (wide * wide).sum(dim) - 1
    slack = 2**-48  # of this sum itself
    bound = (wide * step).sum(dim) + slack
    return (excess <= bound) & (-excess <= bound + (step * step).sum(dim) / 4)
