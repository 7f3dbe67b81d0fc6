"""Oracles of the torch tests, in float64."""

from __future__ import annotations

import torch


def exact_norms(x, dim=-1):
    """Norms as torch takes them in float64: right to a few ulp where no square leaves its range."""
    return torch.linalg.vector_norm(x.detach().double(), dim=dim)


def limits(dtype):
    """`eps` and the smallest normal number, as the codes have them: torch.finfo was wrong about float8."""
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}[dtype.itemsize]
    after_one = (torch.ones(1).to(dtype).view(integers) + 1).view(dtype)
    eps = float(after_one.double()) - 1
    return eps, float(torch.ones(1, dtype=integers).view(dtype).double()) / eps


def is_unit_to_rounding(w, dim=-1):
    """For each row, whether rounding in the dtype of `w` alone can have moved its norm away from 1."""
    eps, smallest_normal = limits(w.dtype)
    wide = w.detach().double().abs()
    lowest = torch.tensor(smallest_normal, dtype=torch.float64)
    step = torch.maximum(torch.exp2(torch.frexp(wide).exponent - 1.0), lowest) * eps
    excess = (wide * wide).sum(dim) - 1
    slack = 2**-48  # of this sum itself
    bound = (wide * step).sum(dim) + slack
    return (excess <= bound) & (-excess <= bound + (step * step).sum(dim) / 4)
