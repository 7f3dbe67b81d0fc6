"""Findings: what is wrong, how severe it is under a policy, and what the exit code follows from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Expect = Literal["auto", "unit", "any"]
FailOn = Literal["fail", "warn", "never"]

SEVERITIES = ("note", "warn", "fail", "unreadable")
"""From harmless to undecidable; `max` by position gives the worst."""

LAYERS = {
    "FS": "file",
    "ST": "container",
    "Z": "container",
    "NPY": "container",
    "PT": "container",
    "X": "set",
    "V": "values",
    "H": "identity",
    "L": "layout",
    "N": "norms",
    "R": "norms",
    "F": "foldability",
}
INTEGRITY_LAYERS = frozenset({"file", "container", "set", "values", "identity"})

# Severity of each code of ours by (--expect unit, auto with expected == "yes", auto otherwise, any).
_POLICY = {
    "N_NOT_UNIT": ("fail", "fail", "note", "note"),
    "N_UNIFORM_SCALE": ("fail", "warn", "note", "note"),
    "N_WRONG_AXIS": ("fail", "fail", "fail", "warn"),
    "N_DRIFTED": ("warn", "warn", "warn", "note"),
    "N_EPS_BIAS": ("note", "note", "note", "note"),
    "N_UNEXPECTED_UNIT": ("note", "note", "note", "note"),
    "R_ZERO_ROW": ("warn", "warn", "warn", "note"),
    "L_UNKNOWN": ("unreadable", "unreadable", "unreadable", "note"),
    "L_AMBIGUOUS_AXIS": ("unreadable", "unreadable", "unreadable", "note"),
    "L_NO_DECODER": ("note", "note", "note", "note"),
    "L_CONFIG_MISMATCH": ("fail", "fail", "fail", "fail"),
    "L_MISSING_TENSOR": ("fail", "fail", "fail", "fail"),
    "L_NEGATIVE_THRESHOLD": ("warn", "warn", "warn", "warn"),
}


def policy_codes() -> tuple[str, ...]:
    """The codes whose severity depends on this module."""
    return tuple(_POLICY)


def severity_of(code: str, expect: Expect, expected: str, *, explained: bool = False) -> str:
    """Severity of a layout, norm or row finding.

    Args:
        code: One of `policy_codes()`.
        expect: What the user asked for.
        expected: Whether the layout's trainer keeps rows unit: `yes`, `no` or `unknown`.
        explained: The order in which that trainer normalises and saves accounts for the finding; under
            `auto` such a finding is a note.
    """
    if expect == "auto" and explained:
        return "note"
    if code.startswith("FS_"):  # what could not be read is not known, whatever was asked for
        return "unreadable"
    column = {"unit": 0, "any": 3}.get(expect, 1 if expected == "yes" else 2)
    return _POLICY[code][column]


@dataclass(slots=True)
class Finding:
    """One finding on one file; the fields are those of the JSON report."""

    code: str
    severity: str
    file: str
    message: str
    tensor: str | None = None
    byte_offset: int | None = None
    length: int | None = None
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    more: int = 0
    """Findings like this one that were only counted."""

    @property
    def layer(self) -> str:
        """What the finding is about: file, container, set, values, identity, layout, norms, foldability."""
        return LAYERS[self.code.partition("_")[0]]

    def to_json(self) -> dict[str, Any]:
        """The finding as the JSON report shows it: absent fields are left out."""
        fields = {
            "code": self.code,
            "severity": self.severity,
            "layer": self.layer,
            "file": self.file,
            "tensor": self.tensor,
            "byte_offset": self.byte_offset,
            "length": self.length,
            "expected": self.expected,
            "found": self.found,
            "message": self.message,
            "hint": self.hint,
        }
        return {key: value for key, value in fields.items() if value is not None}


CAP = 20
"""Findings of one code and severity that a checkpoint reports one by one; the rest are counted."""


def ordered_and_capped(findings: list[Finding]) -> list[Finding]:
    """Findings by file, offset and code, capped."""
    return capped(
        sorted(
            findings, key=lambda one: (one.file, -1 if one.byte_offset is None else one.byte_offset, one.code)
        )
    )


def capped(findings: list[Finding]) -> list[Finding]:
    """At most `CAP` findings of one code and severity, then one that counts the others."""
    kept: list[Finding] = []
    last: dict[tuple[str, str], Finding] = {}
    shown: Counter[tuple[str, str]] = Counter()
    hidden: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        kind = (finding.code, finding.severity)
        if shown[kind] < CAP:
            shown[kind] += 1
            kept.append(finding)
            last[kind] = finding
        else:
            hidden[kind] += 1
        hidden[kind] += finding.more
    for (code, severity), count in hidden.items():
        if count:
            before = last[code, severity]
            more = Finding(code, severity, before.file, f"and {count} more {code}")
            kept.insert(next(i for i, one in enumerate(kept) if one is before) + 1, more)
    return kept


def worst(severities: Iterable[str]) -> str:
    """The worst of some severities; `pass` when there is none."""
    return max(severities, key=SEVERITIES.index, default="pass")


def integrity(findings: Iterable[Finding]) -> str:
    """Integrity of a checkpoint: the worst finding on its bytes. Layout and norms never change it."""
    return worst(finding.severity for finding in findings if finding.layer in INTEGRITY_LAYERS)


def wanted(code: str, select: tuple[str, ...], ignore: tuple[str, ...]) -> bool:
    """Whether `--select` and `--ignore` let a code through; both take codes or prefixes such as `ST_`."""
    return (not select or code.startswith(select)) and not (ignore and code.startswith(ignore))


def exit_code(checkpoints: Sequence[Mapping[str, Any]], *, expect: Expect, fail_on: FailOn) -> int:
    """Exit code of an audit: 0 clean, 1 findings at or above `fail_on`, 3 nothing audited or undecided.

    1 beats 3. What was not decided never ends in 0, whatever `fail_on` says; `expect="any"` does not ask for
    a decision about norms, so `none` counts as an answer then, and `undecided` does where integrity did not
    fail: of a damaged file some was perhaps not read.
    """
    severities = {finding["severity"] for one in checkpoints for finding in one["findings"]}
    failing = {"fail": {"fail"}, "warn": {"fail", "warn"}, "never": set[str]()}[fail_on]
    if severities & failing:
        return 1
    verdicts = {one["verdict"] for one in checkpoints if expect != "any" or one["integrity"] == "fail"}
    if not checkpoints or "unreadable" in severities | {one["integrity"] for one in checkpoints}:
        return 3
    if "undecided" in verdicts or (expect != "any" and verdicts == {"none"}):
        return 3
    return 0
