"""File names in manifests: how each format spells them, and which of them may be opened."""

from __future__ import annotations

import os
import re

_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}
_BAGIT = {"%": "%25", "\n": "%0A", "\r": "%0D"}


def gnu_escaped(name: str) -> tuple[bytes, bytes]:
    r"""The mark before a line of `sha256sum` or `b3sum`, and the name in it: `\` marks `\\`, `\n`, `\r`."""
    raw = os.fsencode(name)
    escaped = raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != raw else b""), escaped


def gnu_unescaped(raw: bytes) -> str | None:
    """The name in a marked line; `None` where it holds another escape than the three."""
    if re.sub(rb"\\[\\nr]", b"", raw).count(b"\\"):
        return None
    return os.fsdecode(re.sub(rb"\\[\\nr]", lambda escape: _ESCAPES[escape[0]], raw))


def bagit_escaped(name: str) -> str:
    """A name in a BagIt manifest (RFC 8493, 2.1.3): line ends and the percent sign are encoded."""
    return re.sub(r"[%\n\r]", lambda match: _BAGIT[match[0]], name)


def bagit_unescaped(name: str) -> str:
    """The name that a BagIt manifest means; other percent signs stand for themselves."""
    return re.sub(r"%(0A|0D|25)", lambda match: chr(int(match[1], 16)), name, flags=re.IGNORECASE)


def refusal(name: str) -> str | None:
    """Why a name from a manifest is not opened; `None` for a name inside the folder.

    A backslash is a letter of a name here and a separator elsewhere, so `..` is looked for between both.
    """
    if not name:
        return "an empty name"
    if "\0" in name:
        return "a name with a NUL in it"
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return "a name that no file can have"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return "an absolute path"
    if ".." in re.split(r"[\\/]", name):
        return "a path that leaves the folder"
    return None
