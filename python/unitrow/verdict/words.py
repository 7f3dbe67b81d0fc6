"""The words of every verdict, in one place. One or two sentences each, with figures, for newcomers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrow.verdict.history import U, hidden_lattice

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from unitrow.verdict.model import Name

FORMATS = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f8_e4m3": "float8 e4m3",
    "f8_e5m2": "float8 e5m2",
    "f8_e4m3fnuz": "float8 e4m3fnuz",
    "f8_e5m2fnuz": "float8 e5m2fnuz",
}
"""Formats as a reader knows them."""


def explain(name: Name, stats: Mapping[str, Any], expected: str, other_axis: Mapping[str, Any] | None) -> str:
    """The explanation of a verdict on measured rows.

    Raises:
        KeyError: The verdict is not one that rows are measured for.
    """
    text = _EXPLAIN[name](stats)
    if name == "wrong-axis" and other_axis is not None:
        text = _wrong_axis(stats, other_axis)
    return " ".join([text, *_zero_rows(stats), *_expectation(name, expected)])


def figure(name: Name, stats: Mapping[str, Any]) -> str:
    """The one figure that a finding quotes."""
    if name == "uniform":
        return f"norms of {stats['median']:.6g} within {stats['relative_spread']:.1e} of each other"
    return f"max |norm - 1| = {stats['max_abs_deviation']:.3g}"


def not_finite(stats: Mapping[str, Any]) -> str:
    """Why rows with NaN or infinity are not judged."""
    count = _rows(stats["nonfinite_rows"])
    special = f"{stats['nan_elements']} NaN and {stats['inf_elements']} infinite elements"
    return (
        f"{count} of {stats['rows']} {'is' if stats['nonfinite_rows'] == 1 else 'are'} not finite ({special})"
    )


def no_decoder(layout: str) -> str:
    """A checkpoint without decoder."""
    return (
        f"Nothing in this {layout} checkpoint could be a decoder."
        if layout
        else "Nothing here could be a decoder."
    )


def all_zero(stats: Mapping[str, Any]) -> str:
    """Nothing was trained, or nothing was written."""
    return f"All {_rows(stats['rows'])} are zero: a decoder that was never trained, or never written."


def sentence(reason: str) -> str:
    """A reason as a sentence."""
    return reason[:1].upper() + reason[1:].rstrip(".") + "."


def _unit(stats: Mapping[str, Any]) -> str:
    torch = stats["torch_max_abs_deviation"]
    shown = "" if torch is None else f"; torch's own norm shows up to {torch:.1e}, its rounding included"
    return (
        f"All {_rows(stats['judged_rows'])} are unit vectors: their float64 norms lie within "
        f"{_deviation(stats)} of 1, where float32 arithmetic may leave {stats['tolerance_median']:.1e} "
        f"on such rows{shown}."
    )


def _unit_wide(stats: Mapping[str, Any]) -> str:
    return (
        f"All {_rows(stats['judged_rows'])} are unit vectors to float64: "
        f"their norms lie within {stats['max_abs_deviation']:.2g} of 1."
    )


def _unit_rounded(stats: Mapping[str, Any]) -> str:
    grid, stored = FORMATS[stats["grid"]], FORMATS[stats["dtype"]]
    where = f"stored in {grid}"
    if grid != stored:
        where = f"stored in {stored} now, but were in {grid} once (no element has more bits)"
    return (
        f"All {_rows(stats['judged_rows'])} are unit vectors as far as {grid} can hold them: norms lie "
        f"within {stats['max_abs_deviation']:.2g} of 1, and rounding may leave "
        f"{stats['tolerance_median']:.1e}. They are {where}."
    )


def _unit_eps(stats: Mapping[str, Any]) -> str:
    short = f"{-stats['mean_deviation']:.2g}"
    if stats["grid"] == "f32":
        short = f"{-stats['float32_mean']:.3g} U (U = 2^-24) when measured the way they were divided"
    return (
        f"The {_rows(stats['judged_rows'])} are unit but for a common shortfall of {short}: "
        "the mark of dividing by norm + eps instead of the norm."
    )


def _unit_drifted(stats: Mapping[str, Any]) -> str:
    grid = FORMATS[stats["grid"]]
    return (
        f"Norms lie near 1 (median {stats['median']:.6g}, at most {stats['max_abs_deviation']:.2g} away) "
        f"but farther than rounding in {grid} explains (about {stats['tolerance_median']:.1e}): rows were "
        "unit and moved since, for instance by an optimiser step after the last normalisation."
    )


def _uniform(stats: Mapping[str, Any]) -> str:
    explained = stats["common_scale_holds"]
    lattice = hidden_lattice(stats)
    why = f"{'' if explained else 'more than '}rounding in {FORMATS[stats['grid']]} explains"
    if lattice and not explained:
        why += f", as for rows once stored in {lattice}"
    return (
        f"All {_rows(stats['judged_rows'])} share one norm, {stats['median']:.6g}, which is not 1; "
        f"they differ from it by at most {stats['relative_spread']:.1e} ({why})."
    )


def _bounded(stats: Mapping[str, Any]) -> str:
    below = 1.0 + stats["below_median"]
    return (
        f"No row is longer than 1: of {_rows(stats['judged_rows'])}, {stats['rows_within']} sit at 1 to "
        f"rounding and {stats['rows_below']} below it (median {below:.3g}), as a limit on the norm leaves "
        "them."
    )


def _free(stats: Mapping[str, Any]) -> str:
    return (
        f"Rows are not unit vectors: norms range from {stats['min']:.3g} to {stats['max']:.3g} "
        f"(median {stats['median']:.3g}), and nothing holds them to one length."
    )


def _wrong_axis(stats: Mapping[str, Any], other_axis: Mapping[str, Any]) -> str:
    return (
        "The other axis is the normalised one: norms across the latents lie within "
        f"{other_axis['max_abs_deviation']:.2g} of 1, while those of the latents range from "
        f"{stats['min']:.3g} to {stats['max']:.3g}."
    )


_EXPLAIN = {
    "unit": lambda stats: _unit_wide(stats) if stats["grid"] == "f64" else _unit(stats),
    "unit-rounded": _unit_rounded,
    "unit-eps": _unit_eps,
    "unit-drifted": _unit_drifted,
    "uniform": _uniform,
    "bounded": _bounded,
    "free": _free,
    "wrong-axis": _free,
}


def _zero_rows(stats: Mapping[str, Any]) -> list[str]:
    if not stats["zero_rows"]:
        return []
    return [f"{_rows(stats['zero_rows'])} of zeros {'is' if stats['zero_rows'] == 1 else 'are'} not judged."]


def _expectation(name: Name, expected: str) -> list[str]:
    if expected == "yes" and name in {"free", "bounded", "uniform", "wrong-axis"}:
        return ["This layout's trainer keeps rows unit."]
    if expected == "no" and name in {"unit", "unit-rounded", "unit-eps"}:
        return ["This layout's trainer leaves rows free, so they were normalised elsewhere."]
    return []


def _deviation(stats: Mapping[str, Any]) -> str:
    deviation = stats["max_abs_deviation"]
    return f"{deviation:.1e} ({deviation / U:.2g} U, U = 2^-24)"


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
