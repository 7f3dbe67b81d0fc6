"""Files against what a reference says about them."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unitrow import _native
from unitrow.findings import Finding, capped
from unitrow.identity.downloads import find_downloads, read_pointers
from unitrow.identity.manifest import read_manifest
from unitrow.identity.reference import Reference
from unitrow.identity.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unitrow.identity.reference import Entry


@dataclass(frozen=True, slots=True)
class Checked:
    """One file and what came of it: `ok`, `mismatch`, `missing`, `extra`, `unreadable` or `refused`."""

    file: str
    status: str
    reason: str = ""
    algorithm: str | None = None


@dataclass(slots=True)
class Verification:
    """The result of `verify`.

    Attributes:
        files: What came of each file, in the order of the references.
        findings: What is wrong, as in an audit.
        references: What files were compared with.
        notes: What a reader has to know about that.
    """

    files: list[Checked] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    references: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """Files by status."""
        return Counter(checked.status for checked in self.files)

    @property
    def exit_code(self) -> int:
        """What the command line exits with.

        0 if all is well; 1 if something failed; 3 if nothing was verified, or something that is listed could
        not be read or is not computed here.
        """
        severities = {finding.severity for finding in self.findings}
        if "fail" in severities:
            return 1
        return 3 if "unreadable" in severities or not self.counts["ok"] else 0

    def to_json(self) -> dict[str, Any]:
        """The result as plain data; findings have the fields of the audit's."""
        return {
            "schema_version": 1,
            "tool": {"name": "unitrow", "version": _native.__version__},
            "summary": {
                "files": len(self.files),
                "by_status": dict(sorted(self.counts.items())),
                "signature_checked": False,
            },
            "references": self.references,
            "notes": self.notes,
            "files": [
                {"file": one.file, "status": one.status}
                | ({"algorithm": one.algorithm} if one.algorithm else {})
                for one in self.files
            ],
            "findings": [finding.to_json() for finding in capped(self.findings)],
        }


def verify(
    *paths: str | os.PathLike[str],
    manifest: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    fail_on_missing: bool = False,
    fail_on_extra: bool = False,
) -> Verification:
    """Compare files with a manifest, or with what their download left beside them. Needs no network.

    Args:
        paths: Folders or files. With a manifest: the folder that its names are relative to; by default the
            current one, or the manifest's own if none of the names exists in the current one.
        manifest: Lines of `sha256sum` or `b3sum`, a bag, a model-signing statement or bundle, or a folder
            of LFS pointers. Without one, the names of blobs in Hugging Face caches, the metadata of
            `--local-dir` downloads, and LFS objects are compared.
        jobs: Threads; by default as many as this process may use.
        fail_on_missing: Whether a listed file that is absent fails.
        fail_on_extra: Whether a file that nothing vouches for fails.

    Raises:
        OSError: A path does not exist, or the manifest cannot be read.
    """
    result = Verification()
    severities = ("fail" if fail_on_missing else "warn", "fail" if fail_on_extra else "note")
    if manifest is None:
        for path in [os.fspath(path) for path in paths]:
            found = find_downloads(path)
            folder = path if os.path.isdir(path) else os.path.dirname(path)
            result.findings += [_under(folder, finding) for finding in found.findings]
            result.files += [
                Checked(
                    finding.file,
                    "unreadable" if finding.severity == "unreadable" else "mismatch",
                    finding.message,
                )
                for finding in found.findings
                if finding.severity != "warn"
            ]
            if found.entries:
                result.references.append({"kind": "download", "name": path, "files": len(found.entries)})
            _check(result, folder, found.entries, severities[0], jobs)
            _extras(result, folder, found.extras, severities[1])
        return result
    source = os.fspath(manifest)
    reference = _read(source)
    result.notes += reference.notes
    result.references.append(
        {"kind": reference.kind, "name": source, "files": len({entry.name for entry in reference.entries})}
    )
    result.findings += reference.findings
    result.files += [
        Checked(finding.file, "refused", finding.found or "")
        for finding in reference.findings
        if finding.code == "H_PATH"
    ]
    for folder in [os.fspath(path) for path in paths] or [_base_of(reference, source)]:
        os.lstat(folder)
        _check(result, folder, reference.entries, severities[0], jobs)
        _extras(result, folder, _unlisted(reference, source, folder, result), severities[1])
    return result


def _read(source: str) -> Reference:
    is_folder = os.path.isdir(source)
    if is_folder and not os.path.lexists(os.path.join(source, "bagit.txt")):
        pointers = read_pointers(source)
        if pointers:
            return Reference(source, "lfs-pointers", pointers)
    return read_manifest(source)


def _base_of(reference: Reference, source: str) -> str:
    if os.path.isdir(source):
        return source
    beside = os.path.dirname(source)
    names = [entry.name for entry in reference.entries]
    if beside and not any(map(os.path.lexists, names)):
        return beside
    return "."


def _shown(folder: str, name: str) -> str:
    return os.path.join(folder, name) if folder not in {"", "."} else name


def _under(folder: str, finding: Finding) -> Finding:
    finding.file = _shown(folder, finding.file)
    return finding


def _check(result: Verification, folder: str, entries: list[Entry], missing: str, jobs: int | None) -> None:
    """Hash what is there, each file once for all that is said about it, and compare."""
    wanted: dict[tuple[str, tuple[int, int] | None], list[Entry]] = {}
    for entry in entries:
        path = os.path.join(folder, entry.name)
        if _is_absent(path, entry):
            message = f"{entry.source} lists the file, and it is not there"
            shown = _shown(folder, entry.name)
            result.findings.append(
                Finding("H_MISSING", missing, shown, message, expected=entry.digest, found="no file")
            )
            result.files.append(Checked(shown, "missing"))
        else:
            wanted.setdefault((os.path.realpath(path), entry.span), []).append(entry)
    requests = [
        (
            os.path.join(folder, same[0].name),
            sorted({name for entry in same for name in entry.algorithms}),
            span,
        )
        for (_, span), same in wanted.items()
    ]
    ends: dict[str, int] = {}
    for path, span in wanted:
        if span is not None:
            ends[path] = max(ends.get(path, 0), span[1])
    sizes = {path: os.stat(path).st_size for path in ends if os.path.isfile(path)}
    for place, ((path, _), _) in enumerate(zip(wanted, requests, strict=True)):
        # Nothing is to be read where shards and file do not end together.
        if path in sizes and sizes[path] != ends[path]:
            requests[place] = (requests[place][0], [], (0, 0))
    found = _native.digest_files(requests, jobs)
    for ((path, _), same), one in zip(wanted.items(), found, strict=True):
        for entry in same:
            _compare(result, _shown(folder, entry.name), entry, one, ends.get(path))


def _is_absent(path: str, entry: Entry) -> bool:
    """Whether nothing is there: a blob that was deleted is missing, any other link to nothing is damage."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return not os.path.islink(path) or entry.source == "blob name"
    except OSError:  # reported when it is opened
        return False
    return False


def _compare(
    result: Verification, shown: str, entry: Entry, one: _native.FileDigests, end: int | None
) -> None:
    if "finding" in one:
        finding = Finding(file=shown, **one["finding"])
        result.findings.append(finding)
        result.files.append(Checked(shown, "unreadable", finding.message))
        return
    size = end if end is not None else entry.size
    if size is not None and size != one["size"]:
        expected, got, algorithm = f"{size} bytes", f"{one['size']} bytes", None
    else:
        matches = [name for name in entry.algorithms if one["digests"][name] == entry.digest]
        if matches:
            result.files.append(Checked(shown, "ok", algorithm=matches[0]))
            return
        algorithm = entry.algorithms[0]
        label = " or ".join(entry.algorithms)
        expected, got = f"{label} {entry.digest}", f"{algorithm} {one['digests'][algorithm]}"
    message = f"not the bytes that {entry.source or 'the reference'} names: expected {expected}, found {got}"
    hint = "fetch the file again; if it comes out the same, suspect the reference"
    span = entry.span
    result.findings.append(
        Finding(
            "H_MISMATCH",
            "fail",
            shown,
            message,
            byte_offset=span[0] if span else None,
            length=span[1] - span[0] if span else None,
            expected=expected,
            found=got,
            hint=hint,
        )
    )
    result.files.append(Checked(shown, "mismatch", f"expected {expected}, found {got}", algorithm))


def _unlisted(reference: Reference, source: str, folder: str, result: Verification) -> list[str]:
    """Files below the folder that a manifest does not list."""
    base = os.path.join(folder, reference.base)
    if not os.path.isdir(base):
        return []
    files, findings = walk(base, {".git", ".cache/huggingface", *reference.ignored})
    result.findings += [_under(folder, finding) for finding in findings]
    listed = {os.path.normpath(entry.name) for entry in reference.entries}
    own = os.path.realpath(source)
    names = (os.path.join(reference.base, file) for file in files)
    return [
        name for name in names if name not in listed and os.path.realpath(os.path.join(folder, name)) != own
    ]


def _extras(result: Verification, folder: str, names: Iterable[str], severity: str) -> None:
    for name in names:
        shown = _shown(folder, name)
        message = "no reference vouches for the file"
        result.findings.append(Finding("H_EXTRA", severity, shown, message))
        result.files.append(Checked(shown, "extra"))
