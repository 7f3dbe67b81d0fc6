"""Whatever safetensors refuses, an audit refuses."""

from __future__ import annotations

import pytest
import safetensors_cases
import value_cases
from test_exhaustive import FILES, examined, flips, written

pytestmark = pytest.mark.interop

CASES = safetensors_cases.CASES | value_cases.CASES


@pytest.fixture(scope="module")
def accepts():
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed (group interop)")

    def run(data):
        try:
            safetensors.deserialize(data)
        except safetensors.SafetensorError:
            return False
        return True

    return run


def test_cases(accepts, tmp_path):
    refused = []
    for name, case in CASES.items():
        folder = tmp_path / name
        folder.mkdir()
        case.build(folder)
        if not accepts((folder / "model.safetensors").read_bytes()):
            refused.append(name)
    assert len(refused) > 50
    assert [name for name in refused if CASES[name].verdict != "fail"] == []


@pytest.mark.parametrize("variants", ["truncations", "flips"])
def test_damaged_files(accepts, tmp_path, variants):
    whole = FILES["w.safetensors"]
    damaged = list(flips(whole)) if variants == "flips" else [whole[:length] for length in range(len(whole))]
    refused = [not accepts(data) for data in damaged]
    ours = [failed for failed, *_ in examined(written(tmp_path, "w.safetensors", damaged))]
    assert any(refused)
    assert [
        at for at, (theirs, mine) in enumerate(zip(refused, ours, strict=True)) if theirs and not mine
    ] == []
