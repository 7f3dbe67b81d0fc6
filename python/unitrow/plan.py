"""Step two of an audit: from headers to a plan, one entry per checkpoint."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unitrow.findings import Finding, severity_of
from unitrow.layouts import recognise
from unitrow.layouts.model import FileMeta, Folder, Match, TensorMeta
from unitrow.sharded import joined, sets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrow._native import FileHeader
    from unitrow.discover import FoundFolder
    from unitrow.findings import Expect

_OF_THE_END = frozenset({"FS_PARTIAL_DOWNLOAD", "FS_POLYGLOT", "ST_TRAILING_BYTES", "ST_TRUNCATED_DATA"})
"""Failures with which tensors within the file can be measured, though not judged (docs/integrity.md)."""

SIDE_FILE_BYTES = 4 << 20
"""No side file of a checkpoint is longer; what is beyond is not read."""


@dataclass(slots=True)
class Plan:
    """One checkpoint: where it is, what it was recognised as, what is to be scanned.

    Attributes:
        folder: Where it was found.
        path: The checkpoint as reports show it, relative to its root.
        match: What the catalogue says about it; `None` where the bytes are not sound enough to ask.
        headers: The checkpoint's tensor files by name.
        metas: What their headers say.
        structure: Findings on the structure of its files.
        findings: These, and what the layout says before any value is read.
    """

    folder: FoundFolder
    path: str
    match: Match | None
    headers: dict[str, FileHeader]
    structure: list[Finding] = field(default_factory=list)
    metas: dict[str, FileMeta] = field(default_factory=dict)
    findings: list[Finding] = field(init=False)
    _places: dict[tuple[str, str], tuple[int, TensorMeta]] = field(init=False, repr=False)
    _read: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.findings = list(self.structure)
        self._read = {file: len(meta.tensors) - meta.lost for file, meta in self.metas.items()}
        self._places = {
            (file, tensor.name): (index, tensor)
            for file, meta in self.metas.items()
            for index, tensor in enumerate(meta.tensors)
        }

    @property
    def sound(self) -> bool:
        """Whether the structure of every file allows to measure the tensors that lie within it."""
        failed = {one.code for one in self.structure if one.severity in {"fail", "unreadable"}}
        return failed <= _OF_THE_END and all(header.sound for header in self.headers.values())

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with the structure of any file."""
        return self.sound and not any(one.severity in {"fail", "unreadable"} for one in self.structure)

    def tensor(self, file: str, name: str) -> tuple[int, TensorMeta] | None:
        """Index and description of a tensor of the checkpoint; the file may be too short for it."""
        return self._places.get((file, name))

    def is_lost(self, file: str, index: int) -> bool:
        """Whether a file is too short for the tensor of this index."""
        return index >= self._read[file]


def plan_folder(folder: FoundFolder, headers: Sequence[FileHeader], expect: Expect) -> list[Plan]:
    """The checkpoints of one folder.

    Args:
        folder: The folder, with the names of its files.
        headers: The header of each of `folder.files`, in that order.
        expect: The policy for the severities of layout findings.
    """
    by_name = dict(zip(folder.files, headers, strict=True))
    metas = {name: _meta(name, header) for name, header in by_name.items()}
    seen = Folder(
        path=folder.display(),
        siblings=folder.siblings,
        read_text=side_file_reader(folder.directory),
        parts=folder_parts(folder.directory),
    )
    matches = recognise(seen, list(metas.values())) if metas else []
    plans = []
    for one in sets_of(folder, by_name):
        matches, whole = joined(matches, one.shards)
        files = {} if whole is None else {name: by_name[name] for name in whole.files if name in by_name}
        plans.append(_plan(folder, folder.display(one.index), whole, files, metas, one.findings))
    if not (folder.explicit and folder.indexes):
        for match in matches:
            files = {name: by_name[name] for name in match.files if name in by_name}
            whole_folder = match.is_folder and not folder.explicit
            path = folder.display() if whole_folder else folder.display(match.files[0])
            plans.append(_plan(folder, path, match, files, metas, []))
    for plan in plans:
        if plan.sound and plan.match:
            plan.findings += _layout_findings(plan.match, folder, expect)
    side_files = {name for plan in plans if plan.match for name in plan.match.files}
    plans.extend(_unsupported(folder, name) for name in folder.unsupported if name not in side_files)
    return plans


def _plan(
    folder: FoundFolder,
    path: str,
    match: Match | None,
    files: dict[str, FileHeader],
    metas: dict[str, FileMeta],
    findings: list[Finding],
) -> Plan:
    structure = findings + [
        Finding(file=folder.display(name), **found)
        for name, header in files.items()
        for found in header.findings
    ]
    return Plan(folder, path, match, files, structure, {name: metas[name] for name in files})


def side_file_reader(directory: str) -> Callable[[str], bytes | None]:
    """A bounded reader of the small files beside a checkpoint; absent files are `None`."""

    def read(name: str) -> bytes | None:
        path = os.path.join(directory, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError:
            if os.path.islink(path):
                raise
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", name)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(SIDE_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > SIDE_FILE_BYTES:
            raise OSError(errno.EFBIG, f"longer than {SIDE_FILE_BYTES >> 20} MiB", name)
        return data

    return read


def _meta(name: str, header: FileHeader) -> FileMeta:
    lost = header.lost
    named = header.tensors + lost
    tensors = tuple(TensorMeta(tensor, dtype, tuple(shape)) for tensor, dtype, shape in named)
    return FileMeta(name, header.container, tensors, header.metadata, len(lost))


def folder_parts(directory: str) -> tuple[str, ...]:
    """Names of a folder and the folders around it, outermost first."""
    return tuple(part for part in os.path.abspath(directory).split(os.sep) if part)


def _layout_findings(match: Match, folder: FoundFolder, expect: Expect) -> list[Finding]:
    return [
        Finding(
            code=found.code,
            severity=severity_of(found.code, expect, match.expected),
            file=folder.display(found.file),
            message=found.message,
            tensor=found.tensor,
            expected=found.expected,
            found=found.found,
            hint=found.hint,
        )
        for found in match.findings
    ]


def _unsupported(folder: FoundFolder, name: str) -> Plan:
    finding = Finding(
        code="FS_UNSUPPORTED",
        severity="unreadable",
        file=folder.display(name),
        message="a checkpoint in a container that is not read by this version",
        expected="safetensors, npz or npy",
        found=os.path.splitext(name)[1],
        hint="convert it to safetensors",
    )
    return Plan(folder, folder.display(name), None, {}, [finding])
