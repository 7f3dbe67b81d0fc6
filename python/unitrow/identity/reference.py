"""What a reference says: which file should have which digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unitrow.findings import CAP, Finding

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, and the digest that it should have.

    Attributes:
        name: The file, relative to the folder that is verified; untrusted.
        digest: Lower-case hexadecimal.
        algorithms: What the digest may be: a line of 64 digits can be SHA-256 or BLAKE3.
        size: Length in bytes, if the reference gives one.
        span: First and last+1 byte that the digest covers, if not all.
        source: Where the reference says so, for people: `line 3`.
    """

    name: str
    digest: str
    algorithms: tuple[str, ...] = ("sha256",)
    size: int | None = None
    span: tuple[int, int] | None = None
    source: str = ""


@dataclass(slots=True)
class Reference:
    """A manifest as far as it can be used, and what is wrong with the rest.

    Attributes:
        name: The manifest, as reports show it.
        kind: `sums`, `bagit`, `model-signing`, `in-toto` or `lfs-pointers`.
        entries: What it says.
        findings: Lines that say nothing, contradict each other, or lead out of the folder.
        notes: What a reader has to know about it.
        base: Folder below the verified one that it claims to cover completely; other files are no extras.
        ignored: Paths that it says it does not cover.
    """

    name: str
    kind: str = "sums"
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    base: str = ""
    ignored: frozenset[str] = frozenset()
    _unusable: list[Finding] = field(default_factory=list)

    def unusable(self, message: str, *, severity: str = "unreadable", hint: str | None = None) -> None:
        """Note a part of the manifest that nothing can be verified against."""
        self.findings.append(Finding("H_MANIFEST", severity, self.name, message, hint=hint))

    def unusable_line(self, number: int, why: str) -> None:
        """Note a line that says nothing. From some on they are only counted: any file may be given."""
        if len(self._unusable) < CAP:
            self.unusable(f"line {number}: {why}")
            self._unusable.append(self.findings[-1])
        else:
            self._unusable[-1].more += 1

    def drop(self, reason: Callable[[str], str | None]) -> None:
        """Take out entries whose name must not be opened; each is a finding."""
        kept = []
        for entry in self.entries:
            why = reason(entry.name)
            if why is None:
                kept.append(entry)
                continue
            where = f"{self.name}, {entry.source}" if entry.source else self.name
            message = f"{where}: {why}; it was not opened"
            self.findings.append(
                Finding("H_PATH", "fail", entry.name, message, expected="a path inside the folder", found=why)
            )
        self.entries = kept

    def compare_duplicates(self) -> None:
        """Report files that are listed twice: a contradiction fails, a repetition is noted and dropped."""
        first: dict[tuple[str, tuple[int, int] | None], Entry] = {}
        kept = []
        for entry in self.entries:
            same = first.setdefault((_normal(entry.name), entry.span), entry)
            if same is entry or same.algorithms != entry.algorithms:
                kept.append(entry)
            elif same.digest == entry.digest:
                message = f"{entry.source} lists the file again, with the same digest"
                self.findings.append(Finding("H_MANIFEST", "note", entry.name, message))
            else:
                kept.append(entry)
                message = f"{same.source} and {entry.source} give different digests for the file"
                self.findings.append(
                    Finding(
                        "H_MANIFEST", "fail", entry.name, message, expected=same.digest, found=entry.digest
                    )
                )
        self.entries = kept


def _normal(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in {"", "."})
