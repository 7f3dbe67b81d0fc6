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
            lines.append(
                f"{escape(finding['file'])}: {finding['severity']} {finding['code']}{tensor} "
                f"{escape(finding['message'])}"
            )
    return "".join(line + "\n" for line in lines)


def failing_paths(report: AuditReport) -> str:
    """Paths of checkpoints with something failed, unreadable or undecided, one a line (`-q`)."""
    bad = {"fail", "unreadable"}
    return "".join(
        escape(report.location(one)) + "\n"
        for one in report.checkpoints
        if any(finding["severity"] in bad for finding in one["findings"])
        or (one["verdict"] == "undecided" and report.expect != "any")
    )
