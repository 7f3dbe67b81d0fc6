"""What findings on values weigh: layouts know what may be NaN or zero; holes make zeros suspicious."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrow.findings import Finding

if TYPE_CHECKING:
    from unitrow.checkpoint import Scanned
    from unitrow.plan import Plan

_LOST = frozenset({"V_ALL_ZERO", "V_ZERO_PAGES"})
"""Zeros that a hole explains as data that was never written."""


def value_findings(plan: Plan, scanned: Scanned) -> list[Finding]:
    """Findings of the scan, weighed by what the checkpoint's layout allows."""
    findings = []
    for file, found in scanned.findings:
        finding = Finding(file=plan.folder.display(file), **found)
        if not _is_legal_zero(plan, scanned, file, finding):
            _soften(plan, finding)
            findings.append(finding)
    return findings


def weigh_holes(findings: list[Finding]) -> None:
    """Make holes a fail where zeros that nothing else explains lie in the same file."""
    lost = {one.file for one in findings if one.code in _LOST and one.severity != "note"}
    for finding in findings:
        if finding.code == "FS_SPARSE" and finding.file in lost:
            finding.severity = "fail"


def _soften(plan: Plan, finding: Finding) -> None:
    match = plan.match
    if match is None:
        return
    if finding.code == "V_NAN" and finding.tensor in match.nan_allowed:
        finding.severity = "note"
        finding.hint = "this layout fills the buffer with NaN until it is used"
    elif finding.code == "V_ALL_ZERO" and finding.tensor in match.zero_allowed:
        finding.severity = "note"
        finding.hint = "this layout starts the tensor at zero"


def _is_legal_zero(plan: Plan, scanned: Scanned, file: str, finding: Finding) -> bool:
    """Whether the finding is about zero rows of a decoder whose training leaves such rows."""
    decoders = plan.match.decoders if plan.match else []
    if not any(one.zero_rows_legal and (one.file, one.tensor) == (file, finding.tensor) for one in decoders):
        return False
    if finding.code == "V_ZERO_PAGES":
        return bool(scanned.values[file, finding.tensor or ""]["zero_pages_are_rows"])
    return finding.code == "V_ZERO_ROW"
