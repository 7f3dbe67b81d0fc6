"""What the torch tests share: every test that asks for `path` runs on each implementation."""

from __future__ import annotations

import contextlib

import pytest


def paths():
    """The implementations that this machine can run."""
    try:
        import torch
    except ImportError:
        return []
    cuda = [pytest.param("cuda", marks=pytest.mark.gpu)] if torch.cuda.is_available() else []
    return ["rust", "torch", "compensated", *cuda]


@pytest.fixture(params=paths())
def path(request):
    """`torch` is what a GPU runs, `compensated` what a device without float64 runs; both on the CPU."""
    import torch

    from unitrow.torch._dispatch import _force_torch

    contexts = {
        "rust": contextlib.nullcontext,
        "torch": _force_torch,
        "compensated": lambda: _force_torch(compensated=True),
        "cuda": lambda: torch.device("cuda"),  # where tensors are made that name no other device
    }
    with contexts[request.param]():
        yield request.param


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(20)
