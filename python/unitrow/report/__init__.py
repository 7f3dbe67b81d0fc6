"""An audit's result: plain checkpoints in, reports of several formats out."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitrow.findings import SEVERITIES, Expect, FailOn, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA_VERSION = 1
"""Version of the JSON report; a field that changes its meaning changes this."""


@dataclass(slots=True)
class AuditReport:
    """The result of `unitrow.audit`.

    Attributes:
        checkpoints: One dictionary per checkpoint with the fields of the JSON report, sorted by (root, path).
        tool: Name and version of this program.
        run: How the run went (seconds, threads); `None` leaves it out of the reports, which makes the
            bytes of a report depend on its input alone.
        bytes: Size of all files that belong to the checkpoints.
        expect: The policy that the severities follow.
        fail_on: The severity from which `exit_code` is 1.
        file_roots: The arguments that were files; a checkpoint below another argument is `root/path`.
    """

    checkpoints: list[dict[str, Any]]
    tool: dict[str, str]
    run: dict[str, Any] | None
    bytes: int
    expect: Expect = "auto"
    fail_on: FailOn = "fail"
    file_roots: frozenset[str] = frozenset()

    @property
    def exit_code(self) -> int:
        """What the command line exits with: 0, 1 or 3."""
        return exit_code(self.checkpoints, expect=self.expect, fail_on=self.fail_on)

    @property
    def summary(self) -> dict[str, Any]:
        """Counts over all checkpoints."""
        verdicts = Counter(one["verdict"] for one in self.checkpoints)
        severities = Counter(finding["severity"] for one in self.checkpoints for finding in one["findings"])
        return {
            "checkpoints": len(self.checkpoints),
            "bytes": self.bytes,
            "by_verdict": dict(sorted(verdicts.items())),
            "by_severity": {name: severities[name] for name in reversed(SEVERITIES)},
        }

    @property
    def has_several_roots(self) -> bool:
        """Whether the checkpoints were found below more than one argument."""
        return len({one["root"] for one in self.checkpoints}) > 1

    def location(self, checkpoint: dict[str, Any]) -> str:
        """Path under which a checkpoint can be opened from where the audit ran."""
        root, path = checkpoint["root"], checkpoint["path"]
        if root in self.file_roots or path == ".":
            return str(root)
        return f"{root.rstrip('/')}/{path}"

    def place(self, checkpoint: dict[str, Any], file: str) -> str:
        """Path under which a file that a finding names can be opened from where the audit ran."""
        root = checkpoint["root"]
        if root in self.file_roots:
            return os.path.join(os.path.dirname(root), file)
        return str(root) if file == "." else f"{root.rstrip('/')}/{file}"

    def passed(self, checkpoint: dict[str, Any]) -> bool:
        """Whether the audit of this checkpoint alone would exit with 0."""
        return exit_code([checkpoint], expect=self.expect, fail_on=self.fail_on) == 0

    def to_json(self) -> str:
        """The whole report as one JSON object, pure ASCII, floats in full."""
        return self.render("json")

    def render(self, form: str, **options: Any) -> str:
        """The report as text.

        Args:
            form: `full`, `concise`, `json` or `jsonl`.
            options: What the format takes; `full` takes `width` and `color`.

        Raises:
            ValueError: `form` is none of these.
        """
        return _renderer(form)(self, **options)

    def __str__(self) -> str:
        return self.render("full")


def _renderer(form: str) -> Callable[..., str]:
    if form in {"json", "jsonl"}:
        from unitrow.report import machine

        return machine.to_json if form == "json" else machine.to_jsonl
    if form == "full":
        from unitrow.report import table

        return table.to_table
    if form == "concise":
        from unitrow.report import concise

        return concise.to_lines
    msg = f"unknown format {form!r}; expected full, concise, json or jsonl"
    raise ValueError(msg)
