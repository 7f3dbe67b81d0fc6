"""Which files below the given paths are checkpoints, folder by folder, in a fixed order."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

READ_SUFFIXES = (".safetensors", ".npz", ".npy")
"""Containers whose tensors are read."""

UNSUPPORTED_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pkl.gz", ".gguf", ".h5", ".msgpack")
"""Containers that hold weights and are reported as unread, never passed over."""


@dataclass(slots=True)
class FoundFolder:
    """One folder that holds checkpoint files.

    Attributes:
        root: The argument as the user gave it.
        directory: The folder, as a path that can be opened.
        relative: The folder relative to `root`, with `/`; empty for `root` itself.
        files: Names of the files to read, sorted.
        unsupported: Names of the checkpoint files in containers that are not read, sorted.
        siblings: Names of everything in the folder.
        explicit: Whether the argument was a file.
    """

    root: str
    directory: str
    relative: str
    files: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    siblings: frozenset[str] = frozenset()
    explicit: bool = False

    def display(self, name: str = "") -> str:
        """Path of a file of this folder (or of the folder) as reports show it: relative to the root."""
        return "/".join(part for part in (self.relative, name) if part) or "."


@dataclass(slots=True)
class Unlisted:
    """A folder that could not be listed."""

    root: str
    path: str
    error: OSError


def find(paths: list[str]) -> tuple[list[FoundFolder], list[Unlisted]]:
    """Walk `paths` and collect folders with checkpoint files, sorted by path within each argument.

    A file that is named explicitly is taken whatever its suffix. Links to folders are followed; a folder that
    is reached twice is visited once.

    Raises:
        FileNotFoundError: A path does not exist; the message names it.
    """
    folders: list[FoundFolder] = []
    unlisted: list[Unlisted] = []
    for root in dict.fromkeys(paths):
        if not os.path.lexists(root):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
        if os.path.isdir(root):
            _walk(root, folders, unlisted)
        else:
            folders.append(_folder_of_file(root))
    return folders, unlisted


def _folder_of_file(root: str) -> FoundFolder:
    directory, name = os.path.split(root)
    directory = directory or "."
    try:
        siblings = frozenset(os.listdir(directory))
    except OSError:  # a folder that may be passed through but not listed
        siblings = frozenset({name})
    found = FoundFolder(root, directory, "", siblings=siblings, explicit=True)
    (found.unsupported if name.lower().endswith(UNSUPPORTED_SUFFIXES) else found.files).append(name)
    return found


def _walk(root: str, folders: list[FoundFolder], unlisted: list[Unlisted]) -> None:
    visited: set[tuple[int, int]] = set()
    pending = [(root, "")]
    while pending:
        directory, relative = pending.pop()
        below: list[tuple[str, str]] = []
        found = FoundFolder(root, directory, relative)
        try:
            status = os.stat(directory)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            unlisted.append(Unlisted(root, found.display(), error))
            continue
        for entry in entries:
            if _is_dir(entry) and not entry.name.lower().endswith(READ_SUFFIXES):
                below.append((entry.path, f"{relative}/{entry.name}" if relative else entry.name))
            elif entry.name.lower().endswith(READ_SUFFIXES):
                found.files.append(entry.name)
            elif entry.name.lower().endswith(UNSUPPORTED_SUFFIXES):
                found.unsupported.append(entry.name)
        found.siblings = frozenset(entry.name for entry in entries)
        if found.files or found.unsupported:
            folders.append(found)
        pending.extend(reversed(below))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be resolved is reported when it is opened
        return False
