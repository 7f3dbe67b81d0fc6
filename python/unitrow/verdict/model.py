"""What a verdict is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict

Name = Literal[
    "none",
    "unit",
    "unit-rounded",
    "unit-eps",
    "unit-drifted",
    "uniform",
    "bounded",
    "free",
    "wrong-axis",
    "undecided",
]

Strength = Literal["certain", "strong", "suggestive", "inconclusive"]

ORDER: tuple[Name, ...] = (
    "none",
    "unit",
    "unit-rounded",
    "unit-eps",
    "unit-drifted",
    "uniform",
    "bounded",
    "free",
    "wrong-axis",
    "undecided",
)
"""Verdicts from best to worst: a checkpoint with several decoders gets the worst of theirs."""


class Claim(TypedDict):
    """One statement about how rows came to be, and what it rests on."""

    value: str
    strength: Strength
    evidence: str


class History(TypedDict):
    """How rows were made, as far as their figures tell."""

    normaliser: Claim
    """`f64`, `f32`, `low-precision`, `norm+eps` or `unknown`: the arithmetic of the last normalisation."""
    passes: Claim
    """`repeated` or `inconclusive`: whether rows were near unit already before the last normalisation."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one decoder.

    Attributes:
        verdict: One of `ORDER`.
        explanation: One or two sentences with figures, for readers who are new to this.
        history: How the rows were made, as far as that can be told.
        evidence: The figures that decided.
        figure: The one figure that a finding about this verdict quotes; `None` where nothing was measured.
    """

    verdict: Name
    explanation: str
    history: History
    evidence: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    figure: str | None = None


def worst_verdict(verdicts: list[Name]) -> int:
    """Place of the worst verdict in a list that is not empty; the first of equals."""
    ranks = [ORDER.index(verdict) for verdict in verdicts]
    return ranks.index(max(ranks))
