"""What one file says about itself, and what it was recognised as: `unitrow inspect`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitrow import _native
from unitrow.discover import find
from unitrow.plan import Plan, plan_folder
from unitrow.report.text import count_of, escape, size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN_TENSORS = 40
_SHOWN_CHARACTERS = 200


@dataclass(slots=True)
class Inspection:
    """One file, described.

    Attributes:
        text: The description.
        path: The file.
        decoder: Name of its first decoder whose axis is known; `None` where there is none.
        exit_code: 0, 1 if the structure failed, 3 if the file could not be read.
    """

    text: str
    path: str
    decoder: str | None
    exit_code: int

    def norms(self) -> NDArray[np.float64]:
        """Row norms of `decoder`, float64."""
        from unitrow.reading import open as open_checkpoint

        with open_checkpoint(self.path) as checkpoint:
            rows = next(rows for rows in checkpoint.decoders if rows.tensor == self.decoder)
            return rows.row_norms()


def inspect(path: str) -> Inspection:
    """Describe a file: container, metadata, tensors, findings, layout, decoders.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: It is a folder.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(path)
    (folder,), _ = find([path])
    headers = _native.read_headers([path])
    (plan,) = plan_folder(folder, headers, "any")
    header = headers[0]
    whole, lost = len(header.tensors), len(header.lost)
    tensors = f"{whole} of {count_of(whole + lost, 'tensor')}" if lost else count_of(whole, "tensor")
    lines = [
        f"{escape(path)}: {header.container}, {size(header.size)}, {tensors}",
        *_metadata(header.metadata),
        *_tensors(header.tensors, header.lost),
        "",
        *_layout(plan),
    ]
    for finding in plan.findings:
        lines.append(f"{finding.severity} {finding.code}: {escape(finding.message)}")
        if finding.hint:
            lines.append(f"  hint: {escape(finding.hint)}")
    severities = {finding.severity for finding in plan.findings}
    return Inspection(
        text="".join(line.rstrip() + "\n" for line in lines),
        path=path,
        decoder=_measurable(plan),
        exit_code=1 if "fail" in severities else 3 if "unreadable" in severities else 0,
    )


def _metadata(metadata: dict[str, str]) -> list[str]:
    return [f"  {escape(key)} = {_cut(escape(value))}" for key, value in metadata.items()]


def _tensors(there: list[tuple[str, str, list[int]]], lost: list[tuple[str, str, list[int]]]) -> list[str]:
    if not there and not lost:
        return []
    rows = [("TENSOR", "DTYPE", "SHAPE")]
    for tensors, note in ((there, ""), (lost, ", not whole")):
        rows += [
            (_cut(escape(name)), dtype, ("×".join(map(str, shape)) or "scalar") + note)
            for name, dtype, shape in tensors
        ]
    hidden = len(rows) - 1 - _SHOWN_TENSORS
    if hidden > 0:
        half = _SHOWN_TENSORS // 2
        rows = [*rows[: half + 1], (f"… {hidden} more", "", ""), *rows[-half:]]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return ["", *(f"{name:<{widths[0]}}  {dtype:<{widths[1]}}  {shape}" for name, dtype, shape in rows)]


def _layout(plan: Plan) -> list[str]:
    match = plan.match
    if match is None or not plan.sound:
        return ["layout: not judged, because the structure is not sound"]
    lines = [f"layout: {match.layout}, because {escape(match.why)}"]
    for decoder in match.decoders:
        axis = "undetermined" if decoder.latent_axis is None else decoder.latent_axis
        lines.append(f"decoder: {escape(decoder.tensor)}, latent axis {axis}, because {escape(decoder.why)}")
    lines.append(f"unit rows expected: {match.expected}, because {escape(match.expected_why)}")
    return lines


def _measurable(plan: Plan) -> str | None:
    if plan.match is None or not plan.whole:
        return None
    name = os.path.basename(plan.folder.root)
    known: Any = (d.tensor for d in plan.match.decoders if d.reduce_axis is not None and d.file == name)
    return next(known, None)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
