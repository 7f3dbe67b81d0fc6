"""The table that people read first, its findings and its footer."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from unitrow.findings import INTEGRITY_LAYERS
from unitrow.report.text import count_of, decoder_name, escape, size, sparkline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
_MIN_PATH = 20
_MIN_WIDTH = 40
_NORMS_WIDTH = 16 + len(" max 1.23e-07")
_PLAIN = Console(width=WIDE)


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
    width = max(width, _MIN_WIDTH) if width else None
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
            for line in _checkpoints(report, width or WIDE, ascii_only=ascii_only):
                console.print(line)
            console.print()
        findings = list(_findings(report, width or WIDE))
        for line in findings:
            console.print(line, soft_wrap=True)
        if findings:
            console.print()
        console.print(_footer(report))
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def _checkpoints(report: AuditReport, width: int, *, ascii_only: bool) -> Iterator[Text]:
    """A header; then for each checkpoint its columns, and its explanation below them."""
    rows = [_cells(report, one, ascii_only=ascii_only) for one in report.checkpoints]
    header = ("PATH", "DECODER", "VERDICT", "norm-1" if ascii_only else "‖w‖−1")
    widths = [
        max(cell_len(header[column]), *(cell_len(text) for row in rows for text in row[column].split("\n")))
        for column in range(3)
    ]
    widths[0] = max(_MIN_PATH, min(widths[0], width - sum(widths[1:]) - _NORMS_WIDTH - 6))
    yield _line(header, widths, "bold")
    for one, (path, *others) in zip(report.checkpoints, rows, strict=True):
        columns = [_folded(path, widths[0]), *(text.split("\n") for text in others)]
        for index in range(max(map(len, columns))):
            cells = [column[index] if index < len(column) else "" for column in columns]
            yield _line(cells, widths, _STYLES.get(one["verdict"], "") if index == 0 else _STYLES["fail"])
        for text in Text(escape(one["explanation"])).wrap(_PLAIN, width - 2):
            yield Text("  ") + Text(text.plain.rstrip(), style="dim")


def _cells(report: AuditReport, one: dict[str, Any], *, ascii_only: bool) -> tuple[str, str, str, str]:
    path = escape(report.location(one) if report.has_several_roots or one["path"] == "." else one["path"])
    verdict = one["verdict"]
    if one["integrity"] in {"fail", "unreadable"}:
        verdict += "\n" + one["integrity"].upper()
    decoders = one["decoders"]
    shown = decoders[:_MAX_DECODERS]
    names = [decoder_name(decoder) for decoder in shown]
    if ascii_only:
        names = [name.replace("×", "x") for name in names]
    if len(decoders) > _MAX_DECODERS:
        names.append(f"and {len(decoders) - _MAX_DECODERS} more")
    norms = [_norms(decoder, ascii_only=ascii_only) for decoder in shown]
    return path, "\n".join(names) or "-", verdict, "\n".join(norms) or "-"


def _line(cells: Sequence[str], widths: list[int], style: str) -> Text:
    padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=False)]
    line = Text("  ".join(padded[:2]) + "  ", style="bold" if style == "bold" else "")
    return line.append(padded[2], style=style).append(
        "  " + cells[3], style="bold" if style == "bold" else ""
    )


def _folded(path: str, width: int) -> list[str]:
    """A path on as many lines as it takes: nothing of it is cut."""
    return [line.plain for line in Text(path).wrap(_PLAIN, width, overflow="fold")]


def _norms(decoder: dict[str, Any], *, ascii_only: bool) -> str:
    norms = decoder.get("norms")
    if not norms or norms["max_abs_deviation"] is None:
        return "-"
    line = sparkline(norms["histogram"]["counts"], ascii_only=ascii_only)
    return f"{line} max {norms['max_abs_deviation']:.2g}"


def _findings(report: AuditReport, width: int) -> Iterator[Text]:
    """Each finding: what and where on one line, then the message and what to do."""
    for one in report.checkpoints:
        for finding in one["findings"]:
            place = escape(report.place(one, finding["file"]))
            if "tensor" in finding:
                place += f" [{escape(finding['tensor'])}]"
            if "byte_offset" in finding:
                place += f" at byte {finding['byte_offset']:,}"
            severity = finding["severity"]
            yield Text(f"{severity} {finding['code']}", _STYLES.get(severity, "")) + Text(f"  {place}")
            words = [escape(finding["message"])]
            if "hint" in finding:
                words.append(f"hint: {escape(finding['hint'])}")
            for sentence in words:
                for line in Text(sentence).wrap(_PLAIN, width - 2):
                    yield Text(f"  {line.plain.rstrip()}")


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
