"""The table that people read first, its findings and its footer."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unitrow.findings import INTEGRITY_LAYERS
from unitrow.report.text import count_of, decoder_name, escape, size, sparkline

if TYPE_CHECKING:
    from unitrow.report import AuditReport

WIDE = 1_000_000
"""Width when nobody looks at a terminal: nothing is wrapped or cut."""

_STYLES = {
    "unit": "green",
    "unit-rounded": "green",
    "unit-eps": "green",
    "unit-drifted": "yellow",
    "uniform": "yellow",
    "wrong-axis": "red",
    "undecided": "magenta",
    "fail": "bold red",
    "unreadable": "bold magenta",
    "warn": "yellow",
    "note": "dim",
}
_MAX_DECODERS = 4


def to_table(
    report: AuditReport, *, width: int | None = None, color: bool = False, ascii_only: bool = False
) -> str:
    """The report as a table of checkpoints, a list of findings and a line of totals.

    Args:
        report: What to show.
        width: Columns to wrap at; `None` wraps nothing.
        color: Whether to emit ANSI colours. Everything is readable without.
        ascii_only: Draw sparklines in ASCII, for outputs that cannot encode blocks.
    """
    console = Console(
        file=io.StringIO(),
        width=width or WIDE,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
    )
    with console.capture() as captured:
        if report.checkpoints:
            console.print(_checkpoints(report, ascii_only=ascii_only))
        for line in _findings(report):
            console.print(line, soft_wrap=width is None)
        console.print(_footer(report), soft_wrap=True)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def _checkpoints(report: AuditReport, *, ascii_only: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("PATH", overflow="fold", ratio=None)
    table.add_column("DECODER", overflow="fold")
    table.add_column("VERDICT", no_wrap=True)
    table.add_column("‖w‖−1" if not ascii_only else "norm-1", no_wrap=True)
    table.add_column("WHY", overflow="fold")
    one_root = len({one["root"] for one in report.checkpoints}) == 1
    for one in report.checkpoints:
        path = escape(one["path"] if one_root else report.location(one))
        if one_root and path == ".":
            path = escape(one["root"])
        verdict = Text(one["verdict"], style=_STYLES.get(one["verdict"], ""))
        if one["integrity"] in {"fail", "unreadable"}:
            verdict.append("\n").append(one["integrity"].upper(), style=_STYLES[one["integrity"]])
        decoders = one["decoders"]
        shown = decoders[:_MAX_DECODERS]
        names = [_ascii(decoder_name(decoder), ascii_only) for decoder in shown]
        norms = [_norms(decoder, ascii_only=ascii_only) for decoder in shown]
        if len(decoders) > _MAX_DECODERS:
            names.append(f"… {len(decoders) - _MAX_DECODERS} more")
        table.add_row(
            Text(path),
            Text("\n".join(names) or "-"),
            verdict,
            Text("\n".join(norms) or "-"),
            Text(escape(one["explanation"])),
        )
    return table


def _norms(decoder: dict[str, Any], *, ascii_only: bool) -> str:
    norms = decoder.get("norms")
    if not norms or norms["max_abs_deviation"] is None:
        return "-"
    line = sparkline(norms["histogram"]["counts"], ascii_only=ascii_only)
    return f"{line} max {norms['max_abs_deviation']:.2g}"


def _ascii(text: str, ascii_only: bool) -> str:
    return text.replace("×", "x") if ascii_only else text


def _findings(report: AuditReport) -> list[Text]:
    lines: list[Text] = []
    for one in report.checkpoints:
        for finding in one["findings"]:
            place = escape(finding["file"])
            if "tensor" in finding:
                place += f" [{escape(finding['tensor'])}]"
            if "byte_offset" in finding:
                place += f" at byte {finding['byte_offset']:,}"
            severity = finding["severity"]
            line = Text(f"{severity:<10} {finding['code']:<21} ", _STYLES.get(severity, ""))
            line.append(f"{place}: {escape(finding['message'])}", style="default")
            lines.append(line)
            if "hint" in finding:
                lines.append(Text(f"{'':<33}hint: {escape(finding['hint'])}", style="dim"))
    if lines:
        lines.append(Text(""))
    return lines


def _footer(report: AuditReport) -> Text:
    summary = report.summary
    by_severity = summary["by_severity"]
    verdicts = ", ".join(f"{number} {name}" for name, number in summary["by_verdict"].items())
    sound = sum(
        not any(f["severity"] != "note" and f["layer"] in INTEGRITY_LAYERS for f in one["findings"])
        for one in report.checkpoints
    )
    counts = ", ".join(f"{number} {name}" for name, number in by_severity.items() if number) or "no findings"
    return Text(
        f"{count_of(summary['checkpoints'], 'checkpoint')} ({size(summary['bytes'])}): {verdicts or 'none'}. "
        f"Bytes sound in {sound}. Findings: {counts}. exit {report.exit_code}"
    )
