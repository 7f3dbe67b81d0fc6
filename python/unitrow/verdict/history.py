"""How rows came to be, as far as their figures tell (`docs/numerics.md`, "Normaliser" and "Passes").

What the page marks as not inferable is never said here: how many steps there were, who made them, and whether
a later normalisation erased an earlier history.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from unitrow.verdict.model import Claim, History, Name, Strength

U = 2.0**-24
"""One ulp of float32 below 1.0."""

EXACT_RATIO = 2.0
"""z below this: float64 or wider (which gives at most the square root of 3); float32 gives 4.5 or more."""

SINGLE_RATIO = 3.0
"""z from here on: arithmetic of the rows' own grid."""

FIGURE_SPREAD = 1.5
"""Standard deviation, in U, of float32 norms after some float32 normaliser; drift leaves more."""

SPREAD_SHARE = 1.0 / 8.0
"""Where s is more than this share of a roundoff, a norm rounded to it does not raise z clearly."""

STORED_RATIO = (0.9, 1.1)
"""z of rows that were unit in float32 or wider and then stored in 16 bits or fewer."""

LATTICE_ROWS = 4
"""Fewer rows with enough different elements do not carry the word certain."""

PASSES_ROWS = 256
"""Rows that the bias of repeated passes is told from."""

PASSES_BIAS = (0.15, 1.0)
"""Mean deviation, in U, that repeated float32 passes leave, from the first value up to the second."""

PASSES_SPREAD = 1.4
"""Largest standard deviation, in U, at which that bias means anything."""

PASSES_LANE_LOSS = 0.35
"""Rows whose float32 norm falls short by more than this many U are biased by the kernel, not by passes."""

EPS_WINDOW = (-2.1, -0.7)
"""Mean deviation, in U, that division by norm + finfo.eps leaves on rows that were near unit."""

FIXED_SHARE = 0.7
"""Share of rows that one more float32 pass must leave alone before passes are called repeated."""

SETTLED_SHARE = 0.97
"""Share of rows that one more division by norm + eps must leave alone before they are called its work."""

SETTLED_REPEATED = 0.98
"""The same before its passes are called repeated."""

ROUNDED_SHAPE = 2.4
"""Kurtosis below this: deviations as evenly spread as rounding errors of a norm, unlike drift."""

ROUNDED_SPREAD = (0.25, 0.7)
"""Standard deviation, in u, that rounding a norm to the stored format leaves."""

ROUNDED_BIAS = 0.15
"""Largest mean deviation, in u, that goes with it."""

FEWEST_SAMPLES = 16
"""From fewer rows z is no evidence."""

FEWEST_ELEMENTS = 256
"""From fewer non-zero elements the grid is no evidence."""

SETTLED_LENGTH = 64
"""In shorter rows one division by norm + eps, from one common norm, leaves rows as settled as many do."""

ERRORS = 4.0
"""Standard errors that a mean must keep from a limit."""


def claim(value: str, strength: Strength, evidence: str) -> Claim:
    """One statement on how rows were made."""
    return {"value": value, "strength": strength, "evidence": evidence}


UNKNOWN: Claim = claim("unknown", "inconclusive", "nothing was measured")
"""A claim that claims nothing."""


def history_of(name: Name, stats: Mapping[str, Any]) -> History:
    """What the figures say about the last normalisation, given the verdict."""
    return {"normaliser": _normaliser(name, stats), "passes": _passes(name, stats)}


def hidden_lattice(stats: Mapping[str, Any]) -> str | None:
    """The 16-bit format that rows were stored in before they were divided or scaled, if any."""
    tried = stats["lattice_rows"]
    if tried < LATTICE_ROWS:
        return None
    bf16, f16 = stats["lattice_bf16_rows"], stats["lattice_f16_rows"]
    if bf16 > tried / 2:
        return "bfloat16"
    return "float16" if bf16 + f16 > tried / 2 else None


def figure_spread(stats: Mapping[str, Any]) -> float:
    """Standard deviation, in U, of the float32 norms that scatter least; infinite where none were taken."""
    error = stats["float32_standard_error"]
    return math.inf if error is None else float(error) * math.sqrt(stats["sample_rows"])


def _normaliser(name: Name, stats: Mapping[str, Any]) -> Claim:
    lattice = hidden_lattice(stats)
    stored = f"; the elements were once stored in {lattice} (certain)" if lattice else ""
    if name == "unit":
        base = _of_unit_rows(stats)
    elif name == "unit-rounded":
        base = _of_rounded_rows(stats)
    elif name == "unit-eps":
        base = _of_short_rows(stats)
    else:
        base = claim("unknown", "inconclusive", "rows that are not unit do not show what divided them last")
    return claim(base["value"], base["strength"], base["evidence"] + stored)


def _of_unit_rows(stats: Mapping[str, Any]) -> Claim:
    ratio = stats["rounding_ratio"]
    if stats["sample_rows"] < FEWEST_SAMPLES or _nonzero_elements(stats) < FEWEST_ELEMENTS:
        return claim("unknown", "inconclusive", "too few rows or elements to tell")
    if stats["grid"] == "f64":
        return claim("f64", "strong", "float64 elements, and norms as near to 1 as only float64 leaves them")
    if stats["grid"] != "f32":
        return claim("unknown", "inconclusive", "elements of so few bits, and norms of 1 all the same")
    told = f"deviations are {ratio:.2g} times as large as rounding the elements last would make them"
    if ratio >= SINGLE_RATIO and figure_spread(stats) <= FIGURE_SPREAD:
        return claim("f32", "strong", f"{told}: the norm was computed in float32")
    if ratio >= SINGLE_RATIO:
        return claim(
            "unknown", "inconclusive", f"{told}: float32 in an order not known here, or slight drift"
        )
    if ratio < EXACT_RATIO and stats["rounding_spread"] <= SPREAD_SHARE * U:
        return claim("f64", "strong", f"{told}: the norm was computed in float64 or wider")
    return claim("unknown", "inconclusive", f"{told}, which float32 and float64 may both leave on such rows")


def _nonzero_elements(stats: Mapping[str, Any]) -> int:
    return int(stats["rows"] * stats["row_len"] - stats["zero_elements"])


def _of_rounded_rows(stats: Mapping[str, Any]) -> Claim:
    ratio = stats["rounding_ratio"]
    told = f"deviations are {ratio:.2g} times as large as rounding the elements last would make them"
    roundoff = stats["roundoff"]
    if stats["sample_rows"] < FEWEST_SAMPLES or stats["rounding_spread"] > SPREAD_SHARE * roundoff:
        return claim("unknown", "inconclusive", f"{told}, which tells nothing for such rows")
    low, high = STORED_RATIO
    if low <= ratio <= high:
        return claim("f32", "strong", f"{told}: the rows were unit in float32 or wider and then stored")
    evenly = stats["kurtosis"] < ROUNDED_SHAPE and stats["judged_rows"] >= PASSES_ROWS
    spread = ROUNDED_SPREAD[0] <= stats["standard_deviation"] / roundoff <= ROUNDED_SPREAD[1]
    if ratio > SINGLE_RATIO and evenly and spread and abs(stats["mean_deviation"]) <= ROUNDED_BIAS * roundoff:
        return claim("low-precision", "strong", f"{told}: the norm itself was rounded to that format")
    return claim("unknown", "inconclusive", f"{told}: drift before storing, or arithmetic of that format")


def _of_short_rows(stats: Mapping[str, Any]) -> Claim:
    if stats["grid"] == "f32":
        mean = stats["float32_mean"]
        told = (
            f"measured in float32 ({stats['float32_way']}), rows are short of 1 by {-mean:.3g} U on average"
        )
        if EPS_WINDOW[0] <= mean <= EPS_WINDOW[1] or stats["float32_settled"] >= SETTLED_SHARE:
            return claim("norm+eps", "strong", f"{told}, as division by norm + 2^-23 leaves them")
        return claim(
            "unknown",
            "inconclusive",
            f"{told}: division by norm + {-mean * U:.2g}, or a common factor below 1",
        )
    mean = stats["mean_deviation"] / stats["roundoff"]
    told = f"rows are short of 1 by {-mean:.3g} roundoffs of their format on average"
    if stats["rounding_ratio_centred"] <= SINGLE_RATIO:
        return claim("unknown", "inconclusive", f"{told}, which cutting off low bits leaves too")
    return claim(
        "norm+eps", "suggestive", f"{told}, as repeated division by norm + eps in that format leaves them"
    )


def _passes(name: Name, stats: Mapping[str, Any]) -> Claim:
    if name == "unit-eps":
        return _passes_of_short_rows(stats)
    if name != "unit":
        return claim("inconclusive", "inconclusive", "only unit rows on a float32 grid can tell")
    if stats["grid"] == "f64" or stats["rounding_ratio"] < EXACT_RATIO:
        return claim("inconclusive", "inconclusive", "one float64 pass is final: more of them change nothing")
    bias, spread = stats["mean_deviation"] / U, stats["standard_deviation"] / U
    error = spread / math.sqrt(stats["judged_rows"])
    told = f"the mean deviation is {bias:+.2f} U (standard error {error:.2g})"
    loss = stats["float32_lane_loss"]
    repeated = (
        bias - ERRORS * error - max(loss or 0.0, 0.0) >= PASSES_BIAS[0]
        and bias <= PASSES_BIAS[1]
        and spread <= PASSES_SPREAD
        and loss is not None
        and loss <= PASSES_LANE_LOSS
        and stats["judged_rows"] >= PASSES_ROWS
        and stats["float32_fixed"] >= FIXED_SHARE
        and hidden_lattice(stats) is None
    )
    if repeated:
        return claim(
            "repeated",
            "suggestive",
            f"{told}: float32 passes over rows that were near 1 already leave such a bias",
        )
    if abs(bias) <= PASSES_BIAS[0] and spread <= PASSES_SPREAD:
        told += (
            "; the last pass began far from 1: one normalisation after training, or training steps larger "
            "than about 5e-4"
        )
    return claim("inconclusive", "inconclusive", told)


def _passes_of_short_rows(stats: Mapping[str, Any]) -> Claim:
    if stats["grid"] != "f32":
        return claim(
            "inconclusive", "inconclusive", "one division and many leave similar rows in so few bits"
        )
    settled = stats["float32_settled"]
    told = f"one more division by norm + 2^-23 would leave {settled:.1%} of the rows as they are"
    if settled >= SETTLED_REPEATED and stats["row_len"] >= SETTLED_LENGTH:
        return claim("repeated", "suggestive", told)
    return claim("inconclusive", "inconclusive", told)
