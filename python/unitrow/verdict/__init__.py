"""Verdicts on decoder rows: rules over the figures of a scan, and their wording.

The rules and what they rest on: `docs/numerics.md`. Nothing here touches an element; `decide` takes the
figures that the Rust scan computed.
"""

from unitrow.verdict.model import ORDER, Claim, History, Name, Strength, Verdict, worst_verdict
from unitrow.verdict.rules import decide, needs_other_axis, undecided, without_decoder
from unitrow.verdict.stats import Stats

__all__ = [
    "ORDER",
    "Claim",
    "History",
    "Name",
    "Stats",
    "Strength",
    "Verdict",
    "decide",
    "needs_other_axis",
    "undecided",
    "without_decoder",
    "worst_verdict",
]
