"""Files written by the libraries whose layouts we read."""

from __future__ import annotations

import importlib
import os
import warnings

import pytest

import unitrow

os.environ["HF_HUB_OFFLINE"] = "1"  # before any of these libraries is imported
os.environ["TRANSFORMERS_OFFLINE"] = "1"


def _library(name: str, distribution: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.split(".")[0] != name.split(".", maxsplit=1)[0]:
                raise  # installed, and broken
            pytest.skip(f"{distribution} is not installed (dependency group interop)")


@pytest.fixture(scope="session")
def torch():
    return _library("torch", "torch")


@pytest.fixture(scope="session")
def safetensors_torch():
    return _library("safetensors.torch", "safetensors")


@pytest.fixture(scope="session")
def sae_lens():
    return _library("sae_lens", "sae-lens")


@pytest.fixture(scope="session")
def sparsify():
    return _library("sparsify", "eai-sparsify")


@pytest.fixture(scope="session")
def single_layer_transcoder():
    return _library("circuit_tracer.transcoder.single_layer_transcoder", "circuit-tracer")


@pytest.fixture(scope="session")
def cross_layer_transcoder():
    return _library("circuit_tracer.transcoder.cross_layer_transcoder", "circuit-tracer")


@pytest.fixture(autouse=True)
def _seeded(torch):
    torch.manual_seed(0)


@pytest.fixture
def audit():
    """Audit a path that holds sound checkpoints; returns them as the report has them."""

    def run(path, expect="auto"):
        report = unitrow.audit(str(path), expect=expect)
        for checkpoint in report.checkpoints:
            loud = [finding for finding in checkpoint["findings"] if finding["severity"] != "note"]
            assert not loud, loud
            assert checkpoint["integrity"] in {"pass", "note"}
        assert report.exit_code == 0
        return report.checkpoints

    return run


@pytest.fixture
def audit_one(audit):
    def run(path, **options):
        (checkpoint,) = audit(path, **options)
        return checkpoint

    return run
