"""One line per checkpoint and per finding: for grep, and for editors that jump to `path: message`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrow.report.text import escape

if TYPE_CHECKING:
    from unitrow.report import AuditReport


def to_lines(report: AuditReport) -> str:
    """`path: verdict` lines, each followed by the checkpoint's findings as `file: severity CODE message`."""
    lines: list[str] = []
    for one in report.checkpoints:
        path = escape(report.location(one))
        lines.append(f"{path}: {one['verdict']} {one['layout']} integrity={one['integrity']}")
        for finding in one["findings"]:
            tensor = f" [{escape(finding['tensor'])}]" if "tensor" in finding else ""
            place = escape(report.place(one, finding["file"])) + f": {finding['severity']} {finding['code']}"
            lines.append(f"{place}{tensor} {escape(finding['message'])}")
    return "".join(line + "\n" for line in lines)


def failing_paths(report: AuditReport) -> str:
    """Paths of the checkpoints that did not pass, one a line (`-q`)."""
    return "".join(
        escape(report.location(one)) + "\n" for one in report.checkpoints if not report.passed(one)
    )
