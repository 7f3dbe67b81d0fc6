"""Charts as SVG text, without a library."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 560, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 34
_COLORS = ("#2a6fbb", "#c8553d", "#3c8d5a", "#8a5fb0", "#a07c1e", "#5b6770")
_MOST_POINTS = 500


@dataclass
class Series:
    """One line of a chart.

    Attributes:
        name: What the legend calls it.
        points: (x, y), in order of x.
    """

    name: str
    points: list[tuple[float, float]]


def line_chart(
    series: Sequence[Series], *, x_label: str, log: bool = False, mark: float | None = None
) -> str:
    """Lines over a common axis.

    Args:
        series: The lines; points that cannot be drawn (on a logarithmic axis those not above 0) are left out.
        x_label: What x is.
        log: Whether the vertical axis is logarithmic.
        mark: Value of a dashed horizontal line.
    """
    drawn = [Series(one.name, _thinned([p for p in one.points if p[1] > 0 or not log])) for one in series]
    drawn = [one for one in drawn if one.points]
    if not drawn:
        return "<p>Nothing to draw yet.</p>"
    xs = [x for one in drawn for x, _ in one.points]
    ys = [y for one in drawn for _, y in one.points] + ([mark] if mark is not None else [])
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = (min(ys), max(ys)) if log else (min(0.0, *ys), max(ys))
    y_ticks = _log_ticks(y_low, y_high) if log else _ticks(y_low, y_high)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])
    across = _scale(x_low, x_high, _LEFT, WIDTH - _RIGHT, log=False)
    down = _scale(y_low, y_high, HEIGHT - _BOTTOM, _TOP, log=log)
    parts = [
        _y_axis(y_ticks, down),
        _x_axis([(across(x), _number(x)) for x in _ticks(x_low, x_high, whole=True)], x_label),
    ]
    if mark is not None:
        parts.append(_line(_LEFT, down(mark), WIDTH - _RIGHT, down(mark), "mark"))
    for one, color in zip(drawn, _COLORS * len(drawn), strict=False):
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in one.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>')
        if len(one.points) == 1:
            ((x, y),) = one.points
            parts.append(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{color}"/>')
    names = zip((one.name for one in drawn), _COLORS * len(drawn), strict=False)
    legend = "".join(f'<span style="color:{color}">{html.escape(name)}</span>' for name, color in names)
    return f'{_svg(parts)}<p class="legend">{legend}</p>' if len(drawn) > 1 else _svg(parts)


def bar_chart(bars: Sequence[tuple[str, float]], *, x_label: str) -> str:
    """Counts side by side, each with its number above."""
    high = max((value for _, value in bars), default=0) or 1
    ticks = _ticks(0, high)
    down = _scale(0, max(high, ticks[-1]), HEIGHT - _BOTTOM, _TOP, log=False)
    step = (WIDTH - _RIGHT - _LEFT) / max(len(bars), 1)
    parts = [_y_axis(ticks, down)]
    labels = []
    for number, (name, value) in enumerate(bars):
        left, top = _LEFT + (number + 0.12) * step, down(value)
        size = f'width="{0.76 * step:.1f}" height="{HEIGHT - _BOTTOM - top:.1f}"'
        parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{_COLORS[0]}"/>')
        middle = left + 0.38 * step
        parts.append(_text(middle, max(top - 3, 10), _number(value), "middle"))
        labels.append((middle, name))
    return _svg([*parts, _x_axis(labels, x_label)])


def _scale(low: float, high: float, start: float, end: float, *, log: bool) -> Callable[[float], float]:
    def of(value: float) -> float:
        return math.log10(value) if log else value

    span = of(high) - of(low)
    return lambda value: start + (end - start) * ((of(value) - of(low)) / span if span else 0.5)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """About `_MOST_POINTS` points; of each stretch the lowest and the highest, so that spikes stay."""
    if len(points) <= _MOST_POINTS:
        return points
    length = math.ceil(2 * len(points) / _MOST_POINTS)
    kept = []
    for at in range(0, len(points), length):
        part = points[at : at + length]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return [points[0], *kept, points[-1]]


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`; the last may lie above."""
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    if whole:
        step = max(1.0, step)
        return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [step * number for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, (last - first) // 5)
    ticks = [10.0**power for power in range(first, last + 1, every)]
    if last - first > 2:
        return ticks
    finer = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    above = next(tick for tick in finer if tick >= high)
    below = [tick for tick in finer if tick <= low][-1]
    return [tick for tick in finer if below <= tick <= above]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _y_axis(ticks: Sequence[float], down: Callable[[float], float]) -> str:
    return "".join(
        _line(_LEFT, down(tick), WIDTH - _RIGHT, down(tick), "grid")
        + _text(_LEFT - 6, down(tick) + 4, _number(tick), "end")
        for tick in ticks
    )


def _x_axis(labels: Sequence[tuple[float, str]], name: str) -> str:
    base = HEIGHT - _BOTTOM
    marks = "".join(_text(x, base + 15, label, "middle") for x, label in labels)
    return (
        _line(_LEFT, base, WIDTH - _RIGHT, base, "axis")
        + marks
        + _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 4, name, "middle")
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
