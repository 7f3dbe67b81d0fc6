"""What the torch tests share: every test that asks for `path` runs on each implementation."""

from __future__ import annotations

import contextlib

import pytest


@pytest.fixture(params=["rust", "torch", "compensated"])
def path(request):
    """`torch` is what a GPU runs, `compensated` what a device without float64 runs; here on the CPU."""
    from unitrow.torch._dispatch import _force_torch

    contexts = {
        "rust": contextlib.nullcontext(),
        "torch": _force_torch(),
        "compensated": _force_torch(compensated=True),
    }
    with contexts[request.param]:
        yield request.param


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(20)
