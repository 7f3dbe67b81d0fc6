"""Which files below the given paths are checkpoints, folder by folder, in a fixed order."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field

from unitrow import _native

READ_SUFFIXES = (".safetensors", ".npz", ".npy")
"""Containers whose tensors are read."""

UNSUPPORTED_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pkl.gz", ".gguf", ".h5", ".msgpack")
"""Containers that hold weights and are reported as unread, never passed over."""

PARTIAL_SUFFIXES = (".incomplete", ".part", ".crdownload", ".download", ".aria2", ".!qB")
"""What programs append to the name of a file that they have not finished fetching."""

_KILLED_SAVE = re.compile(r"\.tmp[0-9A-Za-z]{6}")
"""The name under which safetensors writes a file before it renames it."""

INDEX_SUFFIX = ".safetensors.index.json"
"""What says which of several files holds which tensor."""


@dataclass(slots=True)
class FoundFolder:
    """One folder that holds checkpoint files.

    Attributes:
        root: The argument as the user gave it.
        directory: The folder, as a path that can be opened.
        relative: The folder relative to `root`, with `/`; empty for `root` itself.
        files: Names of the files to read, sorted.
        unsupported: Names of the checkpoint files in containers that are not read, sorted.
        indexes: Names of the shard indexes, sorted.
        siblings: Names of everything in the folder.
        explicit: Whether the argument was a file.
    """

    root: str
    directory: str
    relative: str
    files: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
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


class MissingPathError(FileNotFoundError):
    """An argument that names nothing."""


def find(paths: list[str]) -> tuple[list[FoundFolder], list[Unlisted]]:
    """Walk `paths` and collect folders with checkpoint files, sorted by path within each argument.

    A file that is named explicitly is taken whatever its suffix. Links to folders are followed, after the
    real folders, unless they lead to where the walk has been or to a folder around it. What is reached twice,
    by links, spellings or arguments inside one another, is taken once.

    Raises:
        MissingPathError: A path does not exist; `filename` names it.
    """
    folders: list[FoundFolder] = []
    unlisted: list[Unlisted] = []
    files: list[str] = []
    visited: set[tuple[int, int]] = set()
    for root in dict.fromkeys(paths):
        try:
            os.lstat(root)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingPathError(errno.ENOENT, os.strerror(errno.ENOENT), root) from None
        except (OSError, ValueError) as error:
            known = error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error), root)
            unlisted.append(Unlisted(root, os.path.basename(root), known))
            continue
        if os.path.isdir(root):
            _Walk(root, visited, folders, unlisted).run()
        else:
            files.append(root)
    taken: set[tuple[tuple[int, int] | None, str]] = set()
    for root in files:
        folder = _folder_of_file(root)
        place = _identity(folder.directory)
        name = os.path.basename(root)
        if (place, name) not in taken and not (
            place in visited and name.lower().endswith((*READ_SUFFIXES, INDEX_SUFFIX))
        ):
            taken.add((place, name))
            folders.append(folder)
    return folders, unlisted


def siblings_of(directory: str, name: str) -> frozenset[str]:
    """Names of everything in a folder; only `name` where it may be passed through but not listed."""
    try:
        return frozenset(os.listdir(directory))
    except OSError:
        return frozenset({name})


def _folder_of_file(root: str) -> FoundFolder:
    directory, name = os.path.split(root)
    directory = directory or "."
    siblings = siblings_of(directory, name)
    if not name.endswith(INDEX_SUFFIX):
        return FoundFolder(root, directory, "", [name], siblings=siblings, explicit=True)
    files = {one for one in siblings if one.endswith(".safetensors")}
    files.update(shards_below(root))
    return FoundFolder(root, directory, "", sorted(files), indexes=[name], siblings=siblings, explicit=True)


def shards_below(index: str) -> list[str]:
    """Names of the shards in folders beside an index that was named explicitly, where they exist."""
    listed = _native.check_index(index, [])["shards"]
    return [
        name for name in listed if "/" in name and os.path.exists(os.path.join(os.path.dirname(index), name))
    ]


@dataclass(slots=True)
class _Walk:
    """A walk below one argument: real folders first, so that they are reported under their own names."""

    root: str
    visited: set[tuple[int, int]]
    folders: list[FoundFolder]
    unlisted: list[Unlisted]
    links: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> None:
        """Visit everything: the folder that comes first in sorted order, then its neighbours."""
        pending = [(self.root, "")]
        while pending or self.links:
            if pending:
                pending.extend(reversed(self._visit(*pending.pop())))
                continue
            self.links.sort(reverse=True)
            link = self.links.pop()
            if not _leads_around(link[0], self.root):
                pending.append(link)

    def _visit(self, directory: str, relative: str) -> list[tuple[str, str]]:
        """Collect one folder; returns the real folders in it, each as it is opened and as it is shown."""
        found = FoundFolder(self.root, directory, relative)
        try:
            identity = _identity(directory)
            if identity in self.visited:
                return []
            with os.scandir(directory) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            self.unlisted.append(Unlisted(self.root, found.display(), error))
            return []
        if identity is not None:
            self.visited.add(identity)
        found.siblings = frozenset(entry.name for entry in entries)
        found.files += [entry.name for entry in entries if _is_unfinished(entry, found.siblings)]
        found.files.sort()
        below = [place for entry in entries if (place := self._sort(entry, found)) is not None]
        if found.files or found.unsupported or found.indexes:
            self.folders.append(found)
        return below

    def _sort(self, entry: os.DirEntry[str], found: FoundFolder) -> tuple[str, str] | None:
        """Put an entry where it belongs; a real folder is returned."""
        lowered = entry.name.lower()
        place = (entry.path, found.display(entry.name))
        if lowered.endswith(READ_SUFFIXES):
            found.files.append(entry.name)
        elif lowered.endswith(INDEX_SUFFIX):
            found.indexes.append(entry.name)
        elif entry.is_dir(follow_symlinks=False):
            return place
        elif entry.is_symlink() and os.path.isdir(entry.path):
            self.links.append(place)
        elif lowered.endswith(UNSUPPORTED_SUFFIXES):
            found.unsupported.append(entry.name)
        elif entry.is_symlink() and _is_folder_name(entry.name) and not os.path.exists(entry.path):
            broken = FileNotFoundError(errno.ENOENT, "a link to nothing", entry.path)
            self.unlisted.append(Unlisted(self.root, place[1], broken))
        return None


def _is_unfinished(entry: os.DirEntry[str], siblings: frozenset[str]) -> bool:
    """Whether this is a part of a file that is not there as a whole; beside it, the whole file says so."""
    whole, suffix = os.path.splitext(entry.name)
    containers = (*READ_SUFFIXES, *UNSUPPORTED_SUFFIXES)
    partial = suffix in PARTIAL_SUFFIXES and whole.lower().endswith(containers) and whole not in siblings
    return (partial or _KILLED_SAVE.fullmatch(entry.name) is not None) and entry.is_file(
        follow_symlinks=False
    )


def _is_folder_name(name: str) -> bool:
    """Whether a link to nothing may have led to checkpoints: `layers.10` may, `notes.md` may not."""
    suffix = os.path.splitext(name)[1][1:]
    return not suffix or suffix.isdigit()


def _identity(directory: str) -> tuple[int, int] | None:
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _leads_around(link: str, root: str) -> bool:
    """Whether a link leads to a folder around `root`: far beyond what was asked for."""
    target, start = os.path.realpath(link), os.path.realpath(root)
    return os.path.commonpath([target, start]) == target
