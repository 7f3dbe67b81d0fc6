"""The page of a run: whole, self-contained, and harmless whatever its strings are."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("torch")

from unitrow.training import TrainerConfig, write_page
from unitrow.training.charts import Series, bar_chart, line_chart
from unitrow.training.page import to_html

pytestmark = pytest.mark.torch

VOID = {"meta", "line", "polyline", "rect", "circle", "br"}


class Checker(HTMLParser):
    """Raises where tags do not nest; collects names of tags and what would be fetched."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in {"src", "href", "action", "data"}]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, _attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def line(step, **values):
    usual = {
        "step": step, "tokens": 32 * step, "loss": 9.0 / step, "error": 8.0 / step, "sparsity": 1.0 / step,
        "grad_norm": 1.0, "fvu": 2.0 / step, "mse": 8.0 / step, "l0": 30.0, "never_fired": 0.0,
        "density": [1, 0, 0, 0, 2, 3, 4], "dead": 0.125, "max_norm_deviation_u": 0.44,
        "rows_beyond_rounding": 0, "lr": 1e-3, "sparsity_coefficient": 0.1, "tokens_per_second": 1234.5,
    }  # fmt: skip
    return usual | values


def config(**values):
    return TrainerConfig.from_recipe("demo", d_in=6, d_out=10, d_sae=64, **values).to_json()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 5000])
def test_a_page_of_any_length(count):
    text = to_html("run", config(), [line(step) for step in range(1, count + 1)])
    found = Checker(text)
    assert found.links == []
    assert "script" not in found.tags
    assert re.search(r"url\(|@import|https?:", text) is None
    assert len(text) < 300_000
    if count:
        assert found.tags.count("svg") == 8
        assert {"12.5%", "0.44 U", "1,234"} <= {word.strip() for word in found.words}


def test_strings_are_escaped():
    bad = '<script>alert("1")</script>&'
    text = to_html(bad, {**config(), "recipe": bad, bad: bad}, [line(1)])
    found = Checker(text)
    assert "script" not in found.tags
    assert bad in "".join(found.words)


def test_figures_that_are_missing():
    lines = [line(1, fvu=None), line(2, fvu=None), line(3, loss=0.0)]
    text = to_html("run", config(), lines)
    assert "FVU" in text
    Checker(text)
    Checker(to_html("run", config(), [{"step": 3}]))


def test_the_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config()))
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line(1)) + "\n" + '{"step": 2, "cut o')
    path = write_page(tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert path == str(tmp_path / "index.html")
    Checker(text)
    assert f"<title>{tmp_path.name}</title>" in text


def points(text):
    return [tuple(map(float, point.split(","))) for point in re.search(r'points="([^"]*)"', text)[1].split()]


def test_lines_are_drawn_to_scale():
    drawn = points(line_chart([Series("a", [(0, 0.0), (50, 5.0), (100, 10.0)])], x_label="step"))
    (x0, y0), (x1, y1), (x2, y2) = drawn
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2
    drawn = points(
        line_chart([Series("a", [(0, 0.01), (1, 0.1), (2, 1.0), (3, 0.0)])], x_label="x", log=True)
    )
    assert len(drawn) == 3
    assert drawn[0][1] - drawn[1][1] == pytest.approx(drawn[1][1] - drawn[2][1], abs=0.2)


def test_a_spike_survives_thinning():
    values = [(float(step), 1.0) for step in range(20_000)]
    values[12_345] = (12_345.0, 100.0)
    drawn = points(line_chart([Series("a", values)], x_label="step"))
    assert len(drawn) < 600
    assert min(y for _, y in drawn) < 20 < max(y for _, y in drawn)


def test_bars():
    text = bar_chart([("<a>", 0), ("b", 10), ("c", 5)], x_label="x")
    heights = [float(found) for found in re.findall(r'<rect[^>]* height="([\d.]+)"', text)]
    assert heights[0] == 0
    assert heights[1] == pytest.approx(2 * heights[2], abs=0.2)
    assert "&lt;a&gt;" in text
    assert "<svg" in bar_chart([], x_label="x")
