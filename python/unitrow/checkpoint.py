"""Step four of an audit: one checkpoint in words and figures, with the fields of the JSON report."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unitrow.findings import Finding, integrity, ordered_and_capped, severity_of
from unitrow.values import value_findings, weigh_holes
from unitrow.verdict import Verdict, decide, undecided, without_decoder, worst_verdict

if TYPE_CHECKING:
    from unitrow._native import FileScan
    from unitrow.findings import Expect
    from unitrow.layouts.model import Decoder, Match
    from unitrow.plan import Plan
    from unitrow.verdict import Stats

_NORM_FINDINGS = {
    "free": ("N_NOT_UNIT", "rows are not unit vectors"),
    "bounded": ("N_NOT_UNIT", "rows are bounded by 1, not unit vectors"),
    "uniform": ("N_UNIFORM_SCALE", "rows share one norm that is not 1"),
    "wrong-axis": ("N_WRONG_AXIS", "the other axis is normalised, this one is not"),
    "unit-drifted": ("N_DRIFTED", "rows are near unit, and farther from it than rounding explains"),
    "unit-eps": ("N_EPS_BIAS", "rows are short by the mark of a division by norm + eps"),
}
"""The finding that a verdict raises."""

_UNIT = frozenset({"unit", "unit-rounded", "unit-eps", "unit-drifted"})

_NORM_FIELDS = frozenset(
    {
        "min",
        "max",
        "mean",
        "max_abs_deviation",
        "mean_deviation",
        "max_abs_deviation_ulp",
        "torch_max_abs_deviation",
        "zero_rows",
        "nonfinite_rows",
        "worst_rows",
    }
)


@dataclass(slots=True)
class Scanned:
    """What the scan of a checkpoint's files gave.

    Attributes:
        stats: Row statistics by the decoder's place in the match.
        not_measured: Why a decoder has none.
        other_axis: Statistics over the other axis, for decoders whose rows are not unit.
        values: Smallest and largest value and counts, by (file, tensor).
        findings: Findings by file, as the Rust side gives them.
        digests: Hexadecimal digests by file and algorithm.
    """

    stats: dict[int, Stats] = field(default_factory=dict)
    not_measured: dict[int, str] = field(default_factory=dict)
    other_axis: dict[int, Stats] = field(default_factory=dict)
    values: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    findings: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    digests: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, file: str, places: list[int], scan: FileScan) -> None:
        """Add one file's scan; `places` are those of its decoders in the match."""
        for place, judged in zip(places, scan["decoders"], strict=True):
            if isinstance(judged, str):
                self.not_measured[place] = judged
            else:
                self.stats[place] = judged
        for name, values in scan["values"].items():
            self.values[file, name] = values
        self.findings += [(file, found) for found in scan["findings"]]
        if scan["digests"]:
            self.digests[file] = scan["digests"]


def to_checkpoint(plan: Plan, scanned: Scanned, expect: Expect) -> dict[str, Any]:
    """The checkpoint's entry in the report."""
    match = plan.match
    findings = plan.findings + value_findings(plan, scanned) + _identity_findings(plan, scanned)
    weigh_holes(findings)
    decoders: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    if match is None or not plan.sound:
        verdicts.append(undecided(_not_measured(findings)))
    elif not match.decoders:
        verdicts.append(without_decoder(match.layout) if plan.whole else undecided(_not_measured(findings)))
    else:
        for place, decoder in enumerate(match.decoders):
            verdict = _judge(plan, place, match, scanned)
            if not plan.whole:
                verdict = undecided(_in_doubt(plan, verdict))
            verdicts.append(verdict)
            decoders.append(_decoder(plan, decoder, verdict, scanned.stats.get(place)))
            findings += _norm_findings(plan, match, decoder, verdict, scanned.stats.get(place), expect)
        findings += _threshold_findings(plan, match, scanned, expect)
    deciding = verdicts[worst_verdict([verdict.verdict for verdict in verdicts])]
    return {
        "root": plan.folder.root,
        "path": plan.path,
        "container": next((header.container for header in plan.headers.values()), "unknown"),
        "layout": match.layout if match else "unknown",
        "integrity": integrity(findings),
        "verdict": deciding.verdict,
        "expected": match.expected if match else "unknown",
        "explanation": deciding.explanation,
        "decoders": decoders,
        "history": deciding.history,
        "findings": [finding.to_json() for finding in ordered_and_capped(findings)],
        "digests": {plan.folder.display(file): found for file, found in sorted(scanned.digests.items())},
    }


def _judge(plan: Plan, place: int, match: Match, scanned: Scanned) -> Verdict:
    decoder = match.decoders[place]
    found = plan.tensor(decoder.file, decoder.tensor)
    if found is not None and plan.is_lost(decoder.file, found[0]):
        return undecided(_not_measured(plan.structure))
    if decoder.latent_axis is None:
        return undecided(f"which axis holds the latents is not determined: {decoder.why}")
    if place in scanned.not_measured:
        return undecided(scanned.not_measured[place])
    stats = scanned.stats.get(place)
    if stats is None:
        return undecided("the tensor could not be found in its file")
    return decide(stats, expected=match.expected, other_axis=scanned.other_axis.get(place))


def _in_doubt(plan: Plan, verdict: Verdict) -> str:
    """Why a damaged file has no verdict, and what it would be if nothing but its end were damaged."""
    if verdict.verdict == "undecided":
        return _not_measured(plan.structure)
    damage = next(one.message for one in plan.structure if one.severity in {"fail", "unreadable"})
    return (
        f"it is in doubt where rows lie: {damage}; if only the end is damaged, the rows are {verdict.verdict}"
    )


def _decoder(plan: Plan, decoder: Decoder, verdict: Verdict, stats: Stats | None) -> dict[str, Any]:
    found = plan.tensor(decoder.file, decoder.tensor)
    dtype, shape = (found[1].dtype, list(found[1].shape)) if found else ("unknown", [])
    rows = stats["rows"] if stats else None
    return {
        "tensor": decoder.tensor,
        "file": plan.folder.display(decoder.file),
        "dtype": dtype,
        "shape": shape,
        "latent_axis": decoder.latent_axis,
        "reduce_axis": decoder.reduce_axis,
        "axis_why": decoder.why,
        "rows": rows,
        "verdict": verdict.verdict,
        "explanation": verdict.explanation,
        "history": verdict.history,
        "norms": _norms(stats) if stats else None,
    }


def _norms(stats: Stats) -> dict[str, Any]:
    histogram = {"edges": stats["histogram_edges"], "counts": stats["histogram_counts"]}
    figures: dict[str, Any] = {name: figure for name, figure in stats.items() if name in _NORM_FIELDS}
    return {**figures, "histogram": histogram}


def _norm_findings(
    plan: Plan,
    match: Match,
    decoder: Decoder,
    verdict: Verdict,
    stats: Stats | None,
    expect: Expect,
) -> list[Finding]:
    raised: list[tuple[str, str, bool]] = []
    if verdict.verdict in _NORM_FINDINGS:
        code, message = _NORM_FINDINGS[verdict.verdict]
        raised.append((code, message, code == "N_DRIFTED" and match.trainer_order_explains_drift))
    if verdict.verdict in _UNIT and match.expected == "no":
        raised.append(("N_UNEXPECTED_UNIT", "rows are unit although this trainer leaves them free", False))
    if stats and stats["zero_rows"] and not decoder.zero_rows_legal:
        count = stats["zero_rows"]
        raised.append(("R_ZERO_ROW", f"{count} of {stats['rows']} rows are zero", False))
    return [
        Finding(
            code=code,
            severity=severity_of(code, expect, match.expected, explained=explained),
            file=plan.folder.display(decoder.file),
            message=message,
            tensor=decoder.tensor,
            found=verdict.figure if code.startswith("N_") else None,
        )
        for code, message, explained in raised
    ]


def _threshold_findings(plan: Plan, match: Match, scanned: Scanned, expect: Expect) -> list[Finding]:
    findings = []
    for (file, name), values in scanned.values.items():
        lowest = values.get("min")
        if name == match.threshold_tensor and lowest is not None and lowest < 0:
            findings.append(
                Finding(
                    code="L_NEGATIVE_THRESHOLD",
                    severity=severity_of("L_NEGATIVE_THRESHOLD", expect, match.expected),
                    file=plan.folder.display(file),
                    tensor=name,
                    message="a JumpReLU threshold is below zero",
                    expected="thresholds of zero or more",
                    found=f"a smallest value of {lowest:g}",
                )
            )
    return findings


def _identity_findings(plan: Plan, scanned: Scanned) -> list[Finding]:
    """Files whose digest was computed anyway and is not the one that their download names."""
    digests = {file: found["sha256"] for file, found in scanned.digests.items() if "sha256" in found}
    if not digests:
        return []
    from unitrow.identity.downloads import stated_sha256  # only audits with a digest pay for it

    findings = []
    for file, digest in digests.items():
        stated = stated_sha256(os.path.join(plan.folder.directory, file))
        if stated is not None and stated[0] != digest:
            expected, got = f"sha256 {stated[0]}", f"sha256 {digest}"
            findings.append(
                Finding(
                    code="H_MISMATCH",
                    severity="fail",
                    file=plan.folder.display(file),
                    message=f"not the bytes that its {stated[1]} names: expected {expected}, found {got}",
                    expected=expected,
                    found=got,
                    hint="fetch the file again; if it comes out the same, suspect the reference",
                )
            )
    return findings


def _not_measured(findings: list[Finding]) -> str:
    reasons = [finding.message for finding in findings if finding.severity in {"fail", "unreadable"}]
    return "nothing was measured: " + (reasons[0] if reasons else "its structure is not sound")
