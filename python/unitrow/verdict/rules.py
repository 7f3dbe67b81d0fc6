"""The rules of `docs/numerics.md` ("Verdict rules"), in their order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from unitrow.verdict import words
from unitrow.verdict.history import (
    FIGURE_SPREAD,
    SETTLED_SHARE,
    UNKNOWN,
    figure_spread,
    hidden_lattice,
    history_of,
)
from unitrow.verdict.model import Name, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

U = 2.0**-24
"""One ulp of float32 below 1.0."""

FEWEST_ROWS = 64
"""`unit-eps` and `bounded` are statements about many rows; with fewer than this they are not made."""

EPS_REACH = 2.0**-13
"""A median norm this close below 1, shared by all rows, may come from division by norm + eps."""

EPS_BIAS = -0.7
"""Mean deviation, in U or u, below which eps shows: finfo.eps leaves -1 to -1.9, without eps it is -0.35."""

EPS_BIAS_LOW_PRECISION = (-2.1, -0.9)
"""Mean deviation, in u, that repeated division by norm + finfo.eps leaves in 16 bits and below."""

ERRORS = 4.0
"""Standard errors that a mean must keep from a limit."""

ATOM_ROWS_BELOW = 10
"""Fewer rows below 1 are outliers, not a bounded set's other part."""

ATOM_MEDIAN_BELOW = -0.01
"""The rows below 1 of a bounded set lie farther off than drift does."""

ATOM_NEIGHBOURS = 10.0
"""The neighbourhood below the atom is ten times as wide as the atom."""

EXACT = U
"""Rows this near to 1 are unit to float32, however few bits their elements take."""

SHARING_ROWS = 2
"""One row alone shares its norm with none."""

DRIFT_CENTRE = 0.02
"""Convention: a drifted decoder's median norm is within 2 % of 1."""

DRIFT_SHARE = 0.99
"""Convention: 99 % of a drifted decoder's rows are within 10 % of 1."""

OTHER_AXIS_DRIFT = 1e-3
"""Drift up to here still says that the other axis was meant."""

OTHER_AXIS_CENTRE = 1e-4
"""How far the median norm over the other axis may be from 1."""


def decide(
    stats: Mapping[str, Any],
    *,
    expected: str = "unknown",
    latent_axis_known: bool = True,
    other_axis: Mapping[str, Any] | None = None,
) -> Verdict:
    """Judge one decoder.

    Args:
        stats: Its figures (`unitrow.verdict.Stats`).
        expected: `yes`, `no` or `unknown`: whether the layout's trainer keeps rows unit. Changes words,
            never the verdict.
        latent_axis_known: Whether it is certain which axis holds the latents.
        other_axis: The figures over the other axis. Without them a decoder normalised along the wrong axis is
            `free` or `bounded`; `needs_other_axis` says when they are wanted.
    """
    if not latent_axis_known:
        return undecided("which axis holds the latents is not determined")
    if stats["nonfinite_rows"]:
        return undecided(words.not_finite(stats))
    if not stats["judged_rows"]:
        return Verdict("free", words.all_zero(stats), {"normaliser": UNKNOWN, "passes": UNKNOWN})
    name = _rule(stats)
    if name in {"free", "bounded"} and other_axis is not None and _is_unit_axis(other_axis):
        name = "wrong-axis"
    return Verdict(
        verdict=name,
        explanation=words.explain(name, stats, expected, other_axis),
        history=history_of(name, stats),
        evidence=_evidence(name, stats, other_axis),
        figure=words.figure(name, stats),
    )


def needs_other_axis(stats: Mapping[str, Any]) -> bool:
    """Whether these figures alone say `free` or `bounded`, so that the other axis has to be judged too."""
    return decide(stats).verdict in {"free", "bounded"}


def undecided(reason: str) -> Verdict:
    """No verdict, and why."""
    return Verdict("undecided", words.sentence(reason), {"normaliser": UNKNOWN, "passes": UNKNOWN})


def without_decoder(layout: str) -> Verdict:
    """The verdict on a checkpoint without a tensor that could be a decoder."""
    return Verdict("none", words.no_decoder(layout), {"normaliser": UNKNOWN, "passes": UNKNOWN})


def _rule(stats: Mapping[str, Any]) -> Name:
    """The first rule that holds."""
    unit = stats["rows_above"] == 0 and stats["rows_below"] == 0
    if stats["grid"] in {"f32", "f64"}:
        if _is_short_of_unit(stats, unit=unit):
            return "unit-eps"
        if unit:
            return "unit"
    else:
        if _is_short_of_unit_in_low_precision(stats):
            return "unit-eps"
        if unit:
            exact = stats["dtype"] in {"f32", "f64"} and stats["max_abs_deviation"] <= EXACT
            return "unit" if exact else "unit-rounded"
    if _is_bounded(stats):
        return "bounded"
    if stats["uniform_envelope_holds"] and stats["judged_rows"] >= SHARING_ROWS:
        return "uniform"
    if _is_drifted(stats):
        return "unit-drifted"
    return "free"


def _is_short_of_unit(stats: Mapping[str, Any], *, unit: bool) -> bool:
    """Rows at a common norm at or below 1, and short of it by more than rounding in float32 can leave."""
    shared = 1.0 - EPS_REACH < stats["median"] < 1.0 and bool(stats["common_scale_holds"])
    mean, error = stats["float32_mean"], stats["float32_standard_error"]
    if not (unit or shared) or mean is None or stats["judged_rows"] < FEWEST_ROWS:
        return False
    if hidden_lattice(stats):  # squares of few-bit numbers round unevenly: such sums are biased by themselves
        return False
    if stats["float32_settled"] >= SETTLED_SHARE:
        return True
    alike = figure_spread(stats) <= max(FIGURE_SPREAD, -mean / 2.0)  # the shortfall is common, unlike drift
    return bool(alike and mean + ERRORS * error < EPS_BIAS)


def _is_short_of_unit_in_low_precision(stats: Mapping[str, Any]) -> bool:
    """The same for rows on a grid of at most 16 bits, in units of its roundoff."""
    roundoff, mean = stats["roundoff"], stats["mean_deviation"]
    if (
        stats["judged_rows"] < FEWEST_ROWS
        or not stats["shrunk_range_holds"]
        or stats["robust_sd"] >= roundoff
    ):
        return False
    low, high = EPS_BIAS_LOW_PRECISION
    if low * roundoff < mean < high * roundoff:
        return True
    error = stats["standard_deviation"] / math.sqrt(stats["judged_rows"])
    rounded_last = stats["rounding_ratio_centred"] <= 3.0
    return bool(mean + ERRORS * error < EPS_BIAS * roundoff and not rounded_last)


def _is_bounded(stats: Mapping[str, Any]) -> bool:
    """No row above 1, more rows at 1 than their neighbourhood explains, the rest well below."""
    if stats["rows_above"] or stats["judged_rows"] < FEWEST_ROWS or stats["rows_below"] < ATOM_ROWS_BELOW:
        return False
    expected = stats["rows_next_below"] / ATOM_NEIGHBOURS
    atom = stats["rows_within"] > expected + 6.0 * math.sqrt(expected + 1.0)
    return bool(atom and stats["below_median"] < ATOM_MEDIAN_BELOW)


def _is_drifted(stats: Mapping[str, Any]) -> bool:
    """Near 1 by convention, and closer together than rows of independent elements would be."""
    return bool(
        abs(stats["median"] - 1.0) <= DRIFT_CENTRE
        and stats["rows_within_tenth"] >= DRIFT_SHARE * stats["judged_rows"]
        and stats["robust_sd"] < stats["independent_spread"] / 2.0
    )


def _is_unit_axis(stats: Mapping[str, Any]) -> bool:
    """Whether an axis that is not the latents' is the one that was normalised."""
    if stats["nonfinite_rows"] or not stats["judged_rows"]:
        return False
    name = _rule(stats)
    near = stats["max_abs_deviation"] < OTHER_AXIS_DRIFT and abs(stats["median"] - 1.0) < OTHER_AXIS_CENTRE
    return name in {"unit", "unit-rounded", "unit-eps"} or (name == "unit-drifted" and near)


def _evidence(
    name: Name, stats: Mapping[str, Any], other_axis: Mapping[str, Any] | None
) -> dict[str, bool | int | float | str | None]:
    """The figures that decided, by name."""
    keys = [
        "grid",
        "judged_rows",
        "rows_within",
        "rows_above",
        "rows_below",
        "max_abs_deviation",
        "tolerance_median",
    ]
    keys += {
        "unit-eps": ["float32_way", "float32_mean", "float32_standard_error", "mean_deviation"],
        "bounded": ["rows_next_below", "below_median"],
        "uniform": ["median", "relative_spread", "common_scale_holds"],
        "unit-drifted": ["median", "robust_sd", "independent_spread", "rows_within_tenth"],
        "free": ["median", "robust_sd", "independent_spread", "rows_within_tenth"],
    }.get(name, [])
    evidence: dict[str, bool | int | float | str | None] = {key: stats[key] for key in keys}
    if name == "wrong-axis" and other_axis is not None:
        evidence["other_axis_max_abs_deviation"] = other_axis["max_abs_deviation"]
    return evidence
