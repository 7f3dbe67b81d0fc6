"""Manifests as text: `sha256sum`, `b3sum`, their BSD form, BagIt. Arbitrary bytes never raise."""

from __future__ import annotations

import os
import re

from unitrow.identity.names import bagit_unescaped, gnu_unescaped, refusal
from unitrow.identity.reference import Entry, Reference
from unitrow.identity.statement import read_statement
from unitrow.identity.walk import read_small

LIMIT_BYTES = 256 << 20
"""No manifest is longer."""

_GNU = re.compile(rb"(\\?)([0-9a-fA-F]+) [ *](.+)", re.DOTALL)
_BSD = re.compile(rb"(\\?)([A-Za-z0-9/-]+) ?\((.+)\) = ([0-9a-fA-F]+)", re.DOTALL)
_TAGS = {b"SHA256": ("sha256", 64), b"BLAKE3": ("blake3", 64), b"GIT-SHA1": ("git-sha1", 40)}
_LENGTHS = {
    32: "MD5",
    40: "SHA-1 (or git's: those lines need the form that `unitrow hash --tag` writes)",
    56: "SHA-224",
    96: "SHA-384",
    128: "SHA-512 or BLAKE2b",
}


def read_manifest(path: str) -> Reference:
    """Read a manifest file, or the folder of a bag, and say what cannot be used of it.

    Raises:
        OSError: The manifest cannot be read.
    """
    if os.path.isdir(path):
        return _read_bag(path)
    reference = parse(read_small(path, LIMIT_BYTES), path)
    if _is_bag_manifest(path):
        reference.base = "data" if reference.kind == "bagit" else ""
    return reference


def _is_bag_manifest(path: str) -> bool:
    return re.fullmatch(r"(tag)?manifest-\w+\.txt", os.path.basename(path)) is not None


def parse(data: bytes, name: str) -> Reference:
    """A manifest from its bytes; `name` gives a hint where a line fits two algorithms or two formats."""
    data = data.removeprefix(b"\xef\xbb\xbf")  # editors leave a byte order mark
    if b"\0" in data:  # no name of a file has one
        reference = Reference(name)
        hint = "manifests are UTF-8, and lines end with a line feed, not with the NUL of `sha256sum -z`"
        reference.unusable("binary data, no manifest", hint=hint)
    elif data.lstrip()[:1] == b"{":
        reference = read_statement(data, name)
    elif _is_bag_manifest(name):
        reference = _bagit_lines(data, name)
    else:
        reference = _sums(data, name)
    reference.drop(refusal)
    reference.compare_duplicates()
    return reference


def _sums(data: bytes, name: str) -> Reference:
    reference = Reference(name)
    base = os.path.basename(name).lower()
    if "blake3" in base or "b3" in base:
        untagged: tuple[str, ...] = ("blake3",)
    else:
        untagged = ("sha256",) if "sha256" in base else ("sha256", "blake3")
    for number, line in enumerate(_lines(data), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        entry = _sum(line, f"line {number}", untagged)
        if isinstance(entry, Entry):
            reference.entries.append(entry)
        else:
            reference.unusable_line(number, entry)
    if len({entry.algorithms for entry in reference.entries}) > 1:
        reference.unusable("the manifest mixes algorithms", severity="note")
    return reference


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if all(line.endswith(b"\r") for line in lines):
        lines = [line[:-1] for line in lines]
    return lines


def _sum(line: bytes, source: str, untagged: tuple[str, ...]) -> Entry | str:
    if match := _GNU.fullmatch(line):
        mark, digest, raw = match.groups()
        if len(digest) != 64:
            kind = _LENGTHS.get(len(digest), "unknown")
            return f"digests of {len(digest)} digits are not computed here: {kind}"
        algorithms = untagged
    elif match := _BSD.fullmatch(line):
        mark, tag, raw, digest = match.groups()
        algorithm, length = _TAGS.get(tag.upper(), ("", 0))
        if len(digest) != length:
            return f"no digest of a kind that is computed here: {tag[:20].decode()}, {len(digest)} digits"
        algorithms = (algorithm,)
    else:
        return "neither a digest and a name nor an algorithm, a name and a digest"
    decoded = gnu_unescaped(raw) if mark else os.fsdecode(raw)
    if decoded is None:
        return "the name holds an escape that does not exist"
    return Entry(decoded, digest.lower().decode(), algorithms, source=source)


def _bagit_lines(data: bytes, name: str) -> Reference:
    reference = Reference(name, "bagit")
    if "-sha256" not in os.path.basename(name):
        reference.unusable("only SHA-256 manifests of bags are read")
        return reference
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", data), 1):
        if not line.strip():
            continue
        match = re.fullmatch(rb"([0-9a-fA-F]{64})[ \t]+\*?(.+)", line)
        if match is None:
            reference.unusable_line(number, "not a SHA-256 digest and a name")
            continue
        decoded = bagit_unescaped(os.fsdecode(match[2]))
        digest = match[1].lower().decode()
        reference.entries.append(Entry(decoded, digest, source=f"line {number}"))
    return reference


def _read_bag(folder: str) -> Reference:
    """All SHA-256 manifests of a bag: payload, and the tag files that describe it."""
    whole = Reference(folder, "bagit", base="data")
    if not os.path.lexists(os.path.join(folder, "bagit.txt")):
        whole.unusable("the folder has no bagit.txt, so it is no bag")
        return whole
    for name in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        path = os.path.join(folder, name)
        if not os.path.lexists(path):
            if not name.startswith("tag"):
                whole.unusable(f"the bag has no {name}", hint="only SHA-256 manifests of bags are read")
            continue
        part = parse(read_small(path, LIMIT_BYTES), path)
        whole.entries += part.entries
        whole.findings += part.findings
    return whole
