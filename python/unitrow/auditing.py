"""An audit, in four steps: headers (Rust), plan, one parallel scan (Rust), words."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, get_args

from unitrow import _native, explain
from unitrow.checkpoint import Scanned, to_checkpoint
from unitrow.discover import FoundFolder, Unlisted, find
from unitrow.errors import JournalError
from unitrow.findings import Expect, FailOn, Finding, wanted
from unitrow.journal import Journal
from unitrow.plan import Plan, plan_folder
from unitrow.report import AuditReport
from unitrow.scanning import Hash, Io, Scanner
from unitrow.verdict import needs_other_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from unitrow._native import FileHeader
    from unitrow.layouts.model import Decoder
    from unitrow.scanning import Task
    from unitrow.verdict import Stats

    Batch = list[tuple[FoundFolder, list[FileHeader]]]
    """Folders with the headers of their files."""

_BATCH_FILES = 4096
"""Headers kept in memory at a time."""

_BATCH_WEIGHT = 1 << 20
"""Bytes of headers from which no more are read before these files are done."""

MAX_JOBS = 1024
"""More threads than any machine has cores for would only cost their stacks."""

_PROBE_ROWS = 64
"""Rows of the other axis that decide whether all of it is worth reading."""

_PROBE_DEVIATION = 0.1
"""No row of a unit axis is farther from 1 than this, whatever it was stored in."""


def audit(
    *paths: str | os.PathLike[str],
    expect: Expect = "auto",
    fail_on: FailOn = "fail",
    jobs: int | None = None,
    hash: Hash = "none",  # noqa: A002  (the option's name on the command line too)
    io: Io = "auto",
    resume: str | os.PathLike[str] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    run_info: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Audit every checkpoint below some paths: structure, values, and whether decoder rows are unit.

    A file that is corrupt, or cannot be read, is a finding in the report and never an exception.

    Args:
        paths: Files or folders. An explicit file is read whatever its name is.
        expect: `auto` judges rows by what the checkpoint's trainer is known to leave, `unit` requires unit
            rows, `any` asks nothing of them.
        fail_on: The severity from which `AuditReport.exit_code` is 1: `fail`, `warn` or `never`.
        jobs: Threads; by default as many as this process may use.
        hash: The digest of every file that is computed from the same read: `none`, `sha256` or `blake3`.
        io: `read` reads into buffers, which survives whatever happens to a file; `mmap` maps, in a process of
            its own, and reads what ends that one; `auto` is `read`.
        resume: A journal, made when missing and continued when there: files that it knows, and that did not
            change since, are not read again. The report is that of a run without it.
        select: Report only findings whose code starts with one of these.
        ignore: Leave out findings whose code starts with one of these.
        run_info: Whether the report says how the run went. Without it, equal input gives equal bytes.
        progress: Called about ten times a second with the bytes looked at and the bytes known of so far.

    Raises:
        FileNotFoundError: A path does not exist.
        JournalError: The journal is none, or of another audit, or cannot be written, or lies in a folder that
            is audited.
        ValueError: One of the other arguments is none of what it may be.
    """
    for name, value, allowed in (
        ("expect", expect, get_args(Expect)),
        ("fail_on", fail_on, get_args(FailOn)),
        ("hash", hash, get_args(Hash)),
        ("io", io, get_args(Io)),
    ):
        if value not in allowed:
            msg = f"expected {name} to be one of {', '.join(allowed)}, found {value!r}"
            raise ValueError(msg)
    if jobs is not None and not 1 <= jobs <= MAX_JOBS:
        msg = f"expected 1 to {MAX_JOBS} jobs, found {jobs}"
        raise ValueError(msg)
    started = time.perf_counter()
    select, ignore = _known(select), _known(ignore)
    names = [os.fsdecode(path) for path in paths]
    folders, unlisted = find(names)
    rows: list[tuple[dict[str, Any], int]] = [_unlisted(one) for one in unlisted]
    with _journal(resume, names, hash) as journal:
        scan = Scanner(hash, io, jobs, journal)
        for batch in _batches(folders, jobs):
            before = sum(size for _, size in rows)
            rows += _audit_batch(batch, expect, scan, _Progress(progress, before))
            batch.clear()  # or it would stay until the next one is read
    for one, _ in rows:
        one["findings"] = [found for found in one["findings"] if wanted(found["code"], select, ignore)]
    checkpoints = sorted((one for one, _ in rows), key=lambda one: (one["root"], one["path"]))
    return AuditReport(
        checkpoints=checkpoints,
        tool={"name": "unitrow", "version": _native.__version__},
        run=_run_info(started, jobs) if run_info else None,
        bytes=sum(size for _, size in rows),
        expect=expect,
        fail_on=fail_on,
        file_roots=frozenset(folder.root for folder in folders if folder.explicit),
    )


def _journal(
    path: str | os.PathLike[str] | None, audited: Sequence[str], digest: Hash
) -> AbstractContextManager[Journal | None]:
    """The journal, if one is wanted. What is audited is never written to, so it must lie elsewhere."""
    if path is None:
        return nullcontext()
    place = os.path.realpath(os.fsdecode(path))
    for root in map(os.path.realpath, audited):
        if os.path.commonpath([root, place]) == root:
            what = "it is audited itself" if root == place else f"it lies in {root}, which is audited"
            raise JournalError(f"cannot use the journal {os.fsdecode(path)}: {what}; put it elsewhere")
    return Journal(os.fsdecode(path), {"hash": digest})


def _known(codes: Sequence[str]) -> tuple[str, ...]:
    """Codes and prefixes of codes. A misspelt one would hide findings, so each must fit some code."""
    for code in codes:
        if not any(known.startswith(code) for known in explain.codes()):
            msg = f"no finding has a code that starts with {code!r}"
            raise ValueError(msg)
    return tuple(codes)


def _run_info(started: float, jobs: int | None) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - started, "threads": jobs or _native.available_threads()}


def _batches(folders: list[FoundFolder], jobs: int | None) -> Iterator[Batch]:
    """Folders with the headers of their files, as many at a time as may stay in memory.

    A folder is planned whole, so its headers stay together however much they weigh.
    """
    paths = (os.path.join(folder.directory, name) for folder in folders for name in folder.files)
    offered: list[str] = []
    headers: deque[FileHeader] = deque()
    batch: Batch = []
    files = weight = 0
    for folder in folders:
        while len(headers) < len(folder.files):
            offered += islice(paths, _BATCH_FILES - len(offered))
            read = _native.read_headers(offered, jobs, _BATCH_WEIGHT)
            del offered[: len(read)]
            headers += read
        batch.append((folder, [headers.popleft() for _ in folder.files]))
        files += len(folder.files)
        weight += sum(header.weight for header in batch[-1][1])
        if files >= _BATCH_FILES or weight >= _BATCH_WEIGHT:
            yield batch
            batch, files, weight = [], 0, 0
    if batch:
        yield batch


@dataclass(slots=True)
class _Progress:
    """What is told to the caller's `progress` while one batch is scanned."""

    call: Callable[[int, int], None] | None
    before: int
    total: int = 0

    def __call__(self, done: int) -> None:
        if self.call is not None:
            self.call(self.before + min(done, self.total), self.before + self.total)


def _audit_batch(
    batch: Batch, expect: Expect, scan: Scanner, progress: _Progress
) -> list[tuple[dict[str, Any], int]]:
    plans = [plan for folder, headers in batch for plan in plan_folder(folder, headers, expect)]
    sizes = [sum(header.size for header in plan.headers.values()) for plan in plans]
    progress.total = sum(sizes)
    scanned = _scan_all(plans, scan, progress)
    _judge_other_axes(plans, scanned, scan)
    return [
        (to_checkpoint(plan, found, expect), size)
        for plan, found, size in zip(plans, scanned, sizes, strict=True)
    ]


def _scan_all(plans: list[Plan], scan: Scanner, progress: _Progress) -> list[Scanned]:
    """Scan every sound checkpoint once: values of all tensors, rows of the decoders; digest every file."""
    tasks: list[Task] = []
    owners = []
    results = [Scanned() for _ in plans]
    digest = scan.digest
    for plan, result in zip(plans, results, strict=True):
        sound = plan.sound and plan.match is not None
        decoders = plan.match.decoders if sound and plan.match else ()
        for file, header in plan.headers.items():
            wanted_here = []
            for place, decoder in enumerate(decoders):
                tensor = plan.tensor(file, decoder.tensor) if decoder.file == file else None
                if tensor is None or plan.is_lost(file, tensor[0]):
                    continue
                if decoder.reduce_axis is not None:
                    wanted_here.append((place, (tensor[0], decoder.reduce_axis, None)))
            if sound or digest:
                tasks.append((header, [request for _, request in wanted_here], sound, digest))
                owners.append((result, file, [place for place, _ in wanted_here]))
    for (result, file, places), found in zip(owners, scan(tasks, progress), strict=True):
        result.add(file, places, found)
    return results


def _judge_other_axes(plans: list[Plan], scanned: list[Scanned], scan: Scanner) -> None:
    """Measure the other axis of decoders whose rows are not unit; first a few rows, then all if those are."""
    candidates = []
    for plan, result in zip(plans, scanned, strict=True):
        for place, stats in result.stats.items():
            decoder = plan.match.decoders[place] if plan.match else None
            tensor = plan.tensor(decoder.file, decoder.tensor) if decoder else None
            if decoder and tensor and decoder.latent_axis is not None and needs_other_axis(stats):
                header = plan.headers[decoder.file]
                candidates.append(_OtherAxis(result, place, decoder, header, tensor[0], decoder.latent_axis))
    close = [one for one, stats in _measured(candidates, _PROBE_ROWS, scan) if _is_near_unit(stats)]
    for one, stats in _measured(close, None, scan):
        one.result.other_axis[one.place] = stats


@dataclass(slots=True)
class _OtherAxis:
    """A decoder to be measured along the axis of its latents."""

    result: Scanned
    place: int
    decoder: Decoder
    header: FileHeader
    tensor: int
    axis: int


def _measured(
    candidates: list[_OtherAxis], rows: int | None, scan: Scanner
) -> Iterator[tuple[_OtherAxis, Stats]]:
    """Candidates with their figures over the other axis; without those that could not be measured."""
    by_file = [list(group) for _, group in groupby(candidates, key=lambda one: id(one.header))]
    tasks: list[Task] = [
        (group[0].header, [(one.tensor, one.axis, rows) for one in group], False, None) for group in by_file
    ]
    for group, found in zip(by_file, scan(tasks), strict=True):
        group[0].result.findings += [(group[0].decoder.file, finding) for finding in found["findings"]]
        for one, stats in zip(group, found["decoders"], strict=True):
            if not isinstance(stats, str):
                yield one, stats


def _is_near_unit(stats: Stats) -> bool:
    deviation = stats["max_abs_deviation"]
    return deviation is not None and deviation <= _PROBE_DEVIATION


def _unlisted(one: Unlisted) -> tuple[dict[str, Any], int]:
    code = {PermissionError: "FS_PERMISSION", FileNotFoundError: "FS_BROKEN_LINK"}.get(
        type(one.error), "FS_IO"
    )
    reason = one.error.strerror or str(one.error)
    finding = Finding(
        code=code,
        severity="unreadable",
        file=one.path,
        message=f"what is here could not be looked at: {reason}",
        expected="a file or a folder that can be read",
        found=reason,
    )
    plan = Plan(FoundFolder(one.root, one.path, one.path), one.path, None, {}, [finding])
    return to_checkpoint(plan, Scanned(), "auto"), 0
