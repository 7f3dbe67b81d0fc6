"""References that a download leaves beside the files, so that it can be verified without a network.

- A Hugging Face cache names each blob by its content: SHA-256 (64 hex digits), or git's SHA-1 of small files
  (40). Snapshots are links to blobs.
- `hf download --local-dir` leaves `.cache/huggingface/download/<file>.metadata`: commit, that same digest,
  time of the download.
- Git LFS names its objects by SHA-256; where a file was not fetched, a pointer stands in for it.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unitrow.findings import Finding
from unitrow.identity.reference import Entry
from unitrow.identity.walk import read_small, walk

if TYPE_CHECKING:
    from collections.abc import Callable

METADATA = ".cache/huggingface/download"
_ETAG = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-\d-.*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n?"
)
_POINTER_BYTES = 1024
_METADATA_BYTES = 4096


@dataclass(slots=True)
class Downloads:
    """What the files below a folder should be, according to what their download left.

    Attributes:
        entries: Files with a digest to compare with; names are relative to the folder.
        findings: Unfinished downloads, pointers in place of files, folders that cannot be listed.
        extras: Files of a download for which nothing vouches.
    """

    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)

    def add(self, name: str, etag: str, source: str) -> bool:
        """Add a file by the name of its content; `False` if that name is no digest."""
        if not _ETAG.fullmatch(etag):
            return False
        algorithm = "sha256" if len(etag) == 64 else "git-sha1"
        self.entries.append(Entry(name, etag, (algorithm,), source=source))
        return True


def find_downloads(root: str) -> Downloads:
    """References for a file, or for all files below a folder.

    Raises:
        FileNotFoundError: The path does not exist.
    """
    os.lstat(root)
    found = Downloads()
    only = None
    if os.path.isdir(root):
        folder = root
        files, found.findings = walk(root)
    else:
        folder, only = os.path.split(root)
        files = [only]
    linked = _blobs(folder, files, found)
    _local_dirs(folder, files, only, found)
    for file in files:
        path = os.path.join(folder, file)
        if os.path.realpath(path) not in linked:
            _lfs(folder, file, path, found)
            if os.path.islink(path) and _local_dir(folder, os.path.dirname(file)) is None:
                found.add(file, _noted(os.path.realpath(path)), "download metadata")
    return found


def stated_sha256(path: str) -> tuple[str, str] | None:
    """The SHA-256 that a download says a file has, and where it says so; `None` where it says none.

    A link is asked where it stands and where it leads.
    """
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    if os.path.basename(directory) == "blobs":
        stated = [(name, "blob name")]
    else:
        places = dict.fromkeys((os.path.abspath(path), target))
        stated = [(_noted(place), "download metadata") for place in places]
    return next((one for one in stated if len(one[0]) == 64 and _ETAG.fullmatch(one[0])), None)


def _noted(path: str) -> str:
    """The digest that a `--local-dir` download noted for a file; empty where none did."""
    home = _local_dir(os.path.dirname(path), "")
    return _etag(os.path.join(home, METADATA, os.path.relpath(path, home) + ".metadata")) if home else ""


def read_pointers(folder: str) -> list[Entry]:
    """What the LFS pointers below a folder say about the files that they stand for."""
    files, _ = walk(folder, (".git",))
    entries = []
    for file in files:
        pointer = _pointer(os.path.join(folder, file))
        if pointer is not None:
            entries.append(Entry(file, pointer[0], size=pointer[1], source="git-lfs pointer"))
    return entries


def _blobs(folder: str, files: list[str], found: Downloads) -> set[str]:
    """Snapshot links, and blobs that none of them leads to; returns all blobs that are entries now."""
    blobs: set[str] = set()
    loose = []
    for file in files:
        path = os.path.join(folder, file)
        target = os.path.realpath(path)
        parent, blob = os.path.split(target)
        if os.path.basename(parent) == "blobs" and not os.path.islink(path):
            loose.append((file, target))
        elif os.path.basename(parent) == "blobs" and found.add(file, blob, "blob name"):
            blobs.add(target)
        elif _in_snapshot(path):
            found.extras.append(file)
    for file, target in loose:
        parent, blob = os.path.split(target)
        if target in blobs or not os.path.isdir(os.path.join(parent, "..", "snapshots")):
            continue
        if blob.endswith(".incomplete"):
            _incomplete(file, found, whole=os.path.exists(os.path.join(parent, blob.partition(".")[0])))
        elif found.add(file, blob, "blob name"):
            blobs.add(target)
        else:
            found.extras.append(file)
    return blobs


def _in_snapshot(path: str) -> bool:
    """Whether a path lies in `models--org--name/snapshots/<commit>`."""
    parts = os.path.abspath(path).split(os.sep)
    return any(
        part == "snapshots" and re.match(r"(models|datasets|spaces)--", before)
        for before, part in itertools.pairwise(parts)
    )


def _incomplete(file: str, found: Downloads, *, whole: bool) -> None:
    message = "a Hugging Face download that has not finished" + (
        ", beside the finished file" if whole else ""
    )
    severity = "warn" if whole else "fail"
    hint = "let it finish, or fetch the file again"
    found.findings.append(Finding("FS_PARTIAL_DOWNLOAD", severity, file, message, hint=hint))


def _local_dirs(folder: str, files: list[str], only: str | None, found: Downloads) -> None:
    """Files that `--local-dir` downloads left metadata for: in the folder, below it, or around it."""
    homes = {
        directory: _local_dir(folder, directory) for directory in {os.path.dirname(file) for file in files}
    }
    covered: set[str] = set()
    for home in sorted({one for one in homes.values() if one is not None}):
        notes = os.path.join(home, METADATA)
        names, unlisted = walk(notes)
        found.findings += unlisted
        etags = set()
        for name in names:
            file = os.path.relpath(os.path.join(home, name.removesuffix(".metadata")), folder or ".")
            outside = file.startswith(f"..{os.sep}") if only is None else file != only
            if name.endswith(".metadata") and not outside:
                etag = _etag(os.path.join(notes, name))
                etags.add(etag)
                covered.add(file)
                if not found.add(file, etag, "download metadata"):
                    found.extras.append(file)
        for name in names if only is None else ():
            if name.endswith(".incomplete"):
                file = os.path.relpath(os.path.join(notes, name), folder or ".")
                _incomplete(file, found, whole=not etags.isdisjoint(name.split(".")))
    for file in files:
        around = homes[os.path.dirname(file)]
        if around is not None and file not in covered:
            inside = os.path.relpath(os.path.join(folder, file), around)
            if not inside.startswith((".cache/", ".git/")):
                found.extras.append(file)


def _local_dir(folder: str, directory: str) -> str | None:
    """The nearest folder around a directory that `--local-dir` downloaded to."""
    return _around(os.path.join(folder, directory), METADATA, os.path.isdir)


def _around(directory: str, below: str, exists: Callable[[str], bool]) -> str | None:
    """The nearest folder, from `directory` upwards, that has something `below` it."""
    directory = os.path.abspath(directory)
    while not exists(os.path.join(directory, below)):
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent
    return directory


def _etag(path: str) -> str:
    """The digest in a metadata file; its first line is the commit, its third the time of the download."""
    try:
        lines = read_small(path, _METADATA_BYTES).decode("ascii", "replace").splitlines()
    except OSError:
        return ""
    return lines[1].strip() if len(lines) >= 2 else ""


def _pointer(path: str) -> tuple[str, int] | None:
    """Object and size that an LFS pointer names; `None` for any other file."""
    try:
        if os.stat(path).st_size >= _POINTER_BYTES:
            return None
        match = _POINTER.fullmatch(read_small(path, _POINTER_BYTES))
    except OSError:
        return None
    return (match[1].decode(), int(match[2])) if match else None


def _lfs(folder: str, file: str, path: str, found: Downloads) -> None:
    """An object of Git LFS, or a pointer that stands in for one."""
    if re.search(r"/lfs/objects/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}$", os.path.abspath(path)):
        found.add(file, os.path.basename(path), "object name")
        return
    pointer = _pointer(path)
    if pointer is None:
        return
    oid, size = pointer
    place = os.path.join(".git", "lfs", "objects", oid[:2], oid[2:4], oid)
    home = _around(os.path.dirname(path), place, os.path.isfile)
    if home is not None:
        name = os.path.relpath(os.path.join(home, place), folder or ".")
        if name.startswith(".."):  # below the folder it is found by itself
            found.entries.append(Entry(name, oid, size=size, source="git-lfs pointer"))
    found.findings.append(
        Finding(
            "FS_LFS_POINTER",
            "fail",
            file,
            "a git-lfs pointer stands in for the file",
            expected=f"{size} bytes with SHA-256 {oid}",
            found="the pointer",
            hint="run `git lfs checkout`" if home else "run `git lfs pull`, or download the file",
        )
    )
