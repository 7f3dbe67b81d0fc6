"""A run as one page of HTML: it loads nothing, and every string in it is escaped."""

from __future__ import annotations

import html
import json
import os
from typing import TYPE_CHECKING, Any

from unitrow.atomic import write_atomically
from unitrow.training.charts import Series, bar_chart, line_chart
from unitrow.training.logs import read_lines
from unitrow.training.metrics import DENSITY_EDGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2329; background: #fbfbfa; margin: 2rem auto;
  max-width: 1200px; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
section { background: #fff; border: 1px solid #e3e5e8; border-radius: 6px; padding: 0.8rem 1rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: #5b6770; }
.grid { stroke: #e9ebed; } .axis { stroke: #5b6770; } .mark { stroke: #5b6770; stroke-dasharray: 5 4; }
.note, .legend { color: #5b6770; font-size: 0.85rem; margin: 0; }
.legend span { margin-right: 1em; font-weight: 600; }
dl { display: flex; flex-wrap: wrap; gap: 0.4rem 2rem; }
dt { color: #5b6770; font-size: 0.85rem; }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-size: 0.85rem; } td { padding: 0.1rem 1.5rem 0.1rem 0; }
"""


def write_page(run_dir: str | os.PathLike[str]) -> str:
    """Write `index.html` of a run from its `metrics.jsonl` and `config.json`.

    Returns:
        The path of the page.

    Raises:
        OSError: Something cannot be read or written.
    """
    folder = os.fspath(run_dir)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    lines = read_lines(os.path.join(folder, "metrics.jsonl"))
    path = os.path.join(folder, "index.html")
    write_atomically(path, to_html(os.path.basename(os.path.abspath(folder)), config, lines).encode())
    return path


def to_html(name: str, config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """The page of a run.

    Args:
        name: What it is called.
        config: Fields of its `TrainerConfig`.
        lines: Its metrics.
    """
    title = html.escape(name)
    sizes = f"{config.get('d_in')} → {config.get('d_sae')} → {config.get('d_out')}"
    about = f"recipe {config.get('recipe')}, {sizes}, batches of {config.get('batch_size')}"
    rows = "".join(
        f"<tr><td>{html.escape(str(key))}</td><td>{html.escape(json.dumps(value))}</td></tr>"
        for key, value in config.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1><p class="note">{html.escape(about)}</p>
<dl>{_figures(config, lines)}</dl>
<main>{"".join(_sections(config, lines))}</main>
<details><summary>Configuration</summary><table>{rows}</table></details>
</body></html>
"""


def _figures(config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    last = lines[-1]
    beyond = sum(line.get("rows_beyond_rounding") or 0 for line in lines)
    shown = {
        "step": f"{last['step']:,} of {config.get('steps'):,}",
        "FVU": _figure(last.get("fvu"), ".4f"),
        "L0": _figure(last.get("l0"), ".1f"),
        "dead latents": _figure(last.get("dead"), ".1%"),
        "largest |norm − 1|": _figure(last.get("max_norm_deviation_u"), ".2f", " U"),
        "rows beyond rounding, all steps logged": f"{beyond:,}",
        "tokens per second": _figure(last.get("tokens_per_second"), ",.0f"),
    }
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>" for name, text in shown.items()
    )


def _figure(value: float | None, form: str, unit: str = "") -> str:
    return "none" if value is None else format(value, form) + unit


def _sections(config: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> list[str]:
    def series(*names: str) -> list[Series]:
        return [
            Series(name, [(line["step"], line[name]) for line in lines if line.get(name) is not None])
            for name in names
        ]

    def chart(*names: str, log: bool = False, mark: float | None = None) -> str:
        return line_chart(series(*names), x_label="step", log=log, mark=mark)

    parts = [
        name
        for name in ("sparsity", "preact", "frequency", "dead_loss")
        if any(name in line for line in lines)
    ]
    density = lines[-1].get("density", []) if lines else []
    return [
        _section(
            "Fraction of variance unexplained",
            "of the mean-centred targets, between two lines of metrics",
            chart("fvu", log=True),
        ),
        _section("Loss", "of the last step, with its parts", chart("loss", "error", *parts, log=True)),
        _section("L0", "active latents per token", chart("l0", mark=config.get("target_l0"))),
        _section(
            "Dead latents",
            f"fraction silent for {config.get('dead_after')} steps, and since the last metrics",
            chart("dead", "never_fired"),
        ),
        _section(
            "Largest |norm − 1| of a decoder row",
            "in U = 2⁻²⁴, over all steps since the last metrics",
            chart("max_norm_deviation_u"),
        ),
        _section(
            "How often latents fire",
            "latents by the fraction of tokens, since the last metrics",
            bar_chart(list(zip(_bins(), density, strict=False)), x_label="fraction of tokens, from"),
        ),
        _section("Learning rate", "", chart("lr")),
        _section("Sparsity coefficient", "", chart("sparsity_coefficient")),
    ]


def _bins() -> list[str]:
    return ["never", "above 0", *(f"{edge:g}" for edge in DENSITY_EDGES)]


def _section(title: str, note: str, body: str) -> str:
    return f'<section><h2>{html.escape(title)}</h2><p class="note">{html.escape(note)}</p>{body}</section>'
