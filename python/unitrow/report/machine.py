"""JSON and JSON Lines: for programs, in pure ASCII so that no name can act on a terminal."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from unitrow.report import SCHEMA_VERSION

if TYPE_CHECKING:
    from unitrow.report import AuditReport


def to_json(report: AuditReport) -> str:
    """One object with tool, summary, run and all checkpoints."""
    whole = {"schema_version": SCHEMA_VERSION, "tool": report.tool, "summary": report.summary}
    if report.run is not None:
        whole["run"] = report.run
    whole["checkpoints"] = report.checkpoints
    return json.dumps(_finite(whole), indent=1, allow_nan=False) + "\n"


def to_jsonl(report: AuditReport) -> str:
    """One checkpoint a line, each with the schema version."""
    return "".join(
        json.dumps({"schema_version": SCHEMA_VERSION, **_finite(one)}, allow_nan=False) + "\n"
        for one in report.checkpoints
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinities: they become the strings `NaN`, `Infinity` and `-Infinity`."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
