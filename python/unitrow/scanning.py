"""Step three of an audit: files are scanned in one parallel call, unless a journal knows them already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unitrow import _native
from unitrow.journal import Journal, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrow._native import FileHeader, FileScan

    Task = tuple[FileHeader, Sequence[tuple[int, int, int | None]], bool, str | None]
    """Header; tensor, axis and row limit of each decoder; whether values are wanted; which digest is."""

Hash = Literal["none", "sha256", "blake3"]
"""The digest that an audit computes on the way."""

Io = Literal["auto", "mmap", "read"]
"""How the bytes of tensors are reached."""


@dataclass(slots=True)
class Scanner:
    """How files are scanned.

    Attributes:
        hash: The digest of every file that is wanted.
        io: `read` (and `auto`) reads into buffers, `mmap` maps, in a process of its own.
        jobs: Threads; `None` for as many as this process may use.
        journal: What an earlier run learned, and where this one writes what it learns.
    """

    hash: Hash = "none"
    io: Io = "auto"
    jobs: int | None = None
    journal: Journal | None = None

    @property
    def digest(self) -> str | None:
        """The name of the digest wanted, if one is."""
        return None if self.hash == "none" else self.hash

    def __call__(
        self, tasks: Sequence[Task], progress: Callable[[int], None] | None = None
    ) -> Sequence[FileScan]:
        """Scan files; results come in the order of the tasks. `progress` gets the number of bytes done."""
        if self.journal is None:
            return self._scan(tasks, progress, None)
        journal = self.journal
        keys = [key_of(header.identity, request) for header, *request in tasks]
        known = [journal.find(key) for key in keys]
        places = [place for place, scan in enumerate(known) if scan is None]
        before = sum(header.size for (header, *_), scan in zip(tasks, known, strict=True) if scan is not None)
        fresh = self._scan(
            [tasks[place] for place in places],
            None if progress is None else lambda done: progress(before + done),
            lambda index, scan: journal.add(keys[places[index]], scan),
        )
        found = dict(zip(places, fresh, strict=True))
        return [found[place] if scan is None else scan for place, scan in enumerate(known)]

    def _scan(
        self,
        tasks: Sequence[Task],
        progress: Callable[[int], None] | None,
        finished: Callable[[int, FileScan], None] | None,
    ) -> Sequence[FileScan]:
        if self.io == "mmap" and tasks:
            from unitrow.mapped import scan_mapped

            return scan_mapped(tasks, self.jobs, progress, finished)
        return _native.scan(tasks, self.jobs, progress, finished)
