"""All files below a folder, in one order on every machine; and small files read without being held up."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from unitrow.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Collection


def walk(root: str, skip: Collection[str] = ()) -> tuple[list[str], list[Finding]]:
    """Everything below `root` that is no folder, relative to it with `/`, sorted by the bytes of the name.

    Links are followed; a folder that is reached twice is visited once. Folders that cannot be listed are
    findings.

    Args:
        root: The folder.
        skip: Paths relative to it, of folders or files, that are left out.
    """
    files: list[str] = []
    findings: list[Finding] = []
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        relative = pending.pop()
        directory = os.path.join(root, relative)
        try:
            status = os.stat(directory)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as listing:
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            findings.append(_unlisted(relative or ".", error))
            continue
        below: list[str] = []
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if path not in skip:
                (below if _is_dir(entry) else files).append(path)
        pending += reversed(below)
    return sorted(files, key=os.fsencode), findings


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be resolved is reported when it is opened
        return False


def _unlisted(path: str, error: OSError) -> Finding:
    denied = isinstance(error, PermissionError)
    return Finding(
        code="FS_PERMISSION" if denied else "FS_IO",
        severity="unreadable",
        file=path,
        message=f"the folder could not be listed: {error.strerror}",
        expected="a folder that can be listed",
        found=error.strerror,
    )


def read_small(path: str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes, opened without waiting for a FIFO's writer.

    Raises:
        OSError: It cannot be read, is no regular file, or is longer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file", path)
        if status.st_size > limit:
            raise OSError(0, f"longer than {limit} bytes", path)
        return file.read(limit)
