"""The page about layouts names every layout, and its example is one that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import unitrow.layouts
from layouts_builder import D_OUT, D_SAE, codes, recognise_one
from unitrow.layouts import CATALOGUE, SETS
from unitrow.layouts.entry import Judgement, Layout, config_sizes
from unitrow.layouts.source import Source

PAGE = Path(__file__).parent.parent / "docs" / "layouts.md"


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text("utf-8")


def test_every_layout_has_its_row(page):
    ids = {layout.id for layout in CATALOGUE}.union(*(layout.ids for layout in SETS))
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall("`([a-z0-9_]+)`", row)}
    assert ids <= listed


def test_the_example_is_a_layout(page, monkeypatch):
    code = re.search("```python\n(.*?)```", page, re.DOTALL)[1]
    names = {
        "re": re,
        "Layout": Layout,
        "Judgement": Judgement,
        "Source": Source,
        "config_sizes": config_sizes,
    }
    exec(code, names)  # noqa: S102
    monkeypatch.setattr(unitrow.layouts, "CATALOGUE", (names["MINE"], *CATALOGUE))
    shapes = {"W_up": (D_SAE, D_OUT), "bias_up": (D_SAE,)}
    match = recognise_one({"mine.safetensors": shapes}, {"mine.json": {"width": D_SAE}})
    assert (match.layout, match.is_folder, match.expected, codes(match)) == ("mine", True, "yes", [])
    assert match.decoders[0].latent_axis == 0
    match = recognise_one({"mine.safetensors": shapes}, {"mine.json": {"width": D_SAE + 1}})
    assert codes(match) == ["L_CONFIG_MISMATCH"]
