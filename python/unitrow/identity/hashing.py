"""Digests of files and folders, and how they are written down."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from unitrow import _native
from unitrow.discover import READ_SUFFIXES, UNSUPPORTED_SUFFIXES
from unitrow.findings import Finding
from unitrow.identity.names import bagit_escaped, gnu_escaped
from unitrow.identity.walk import walk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Algorithm = Literal["sha256", "blake3", "git-sha1", "content"]

TAGS = {"sha256": "SHA256", "blake3": "BLAKE3", "git-sha1": "GIT-SHA1", "content": "CONTENT"}
"""Algorithms as lines in the BSD form name them."""

_SHARD = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})(\.safetensors)")


@dataclass(slots=True)
class Hashed:
    """Digests of some paths.

    Attributes:
        algorithm: What was computed.
        digests: Hexadecimal digest by name, in the order of the lines.
        links: Whether a name is a symbolic link, or lies below one.
        findings: What could not be read, and why; such a file has no digest.
    """

    algorithm: Algorithm
    digests: dict[str, str] = field(default_factory=dict)
    links: bool = False
    findings: list[Finding] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """What the command line exits with: 0, or 3 if nothing was hashed or something could not be."""
        return 3 if self.findings or not self.digests else 0

    def lines(self, *, tag: bool = False) -> bytes:
        """Lines as `sha256sum` and `b3sum` write them; with `tag` in the BSD form."""
        return b"".join(self._line(name, digest, tag=tag) for name, digest in self.digests.items())

    def _line(self, name: str, digest: str, *, tag: bool) -> bytes:
        mark, escaped = gnu_escaped(name)
        if tag:
            return mark + TAGS[self.algorithm].encode() + b" (" + escaped + b") = " + digest.encode() + b"\n"
        return mark + digest.encode() + b"  " + escaped + b"\n"

    def bagit(self, *, is_bag: bool = False) -> bytes:
        """The `manifest-sha256.txt` of a bag (RFC 8493).

        Args:
            is_bag: Whether the folder is a bag already, so that only what lies in its `data` is payload. Any
                other folder is a payload, and its files are listed as they will lie in the bag.
        """
        if is_bag:
            names = {name: name for name in self.digests if name.startswith("data/")}
        else:
            names = {name: f"data/{name}" for name in self.digests}
        lines = (f"{self.digests[name]}  {bagit_escaped(shown)}\n" for name, shown in names.items())
        return b"".join(os.fsencode(line) for line in lines)


def hash_paths(
    *paths: str | os.PathLike[str],
    algorithm: Algorithm = "sha256",
    jobs: int | None = None,
    skip: Collection[str] = (),
) -> Hashed:
    """Digest files, and all files below folders.

    A file keeps the name it was given by. Below a folder names are relative to it; where there are several
    arguments, names begin with theirs. `content` gives one id per checkpoint instead: a tensor file, or all
    shards of a set.

    Args:
        paths: Files or folders.
        algorithm: What to compute.
        jobs: Threads; by default as many as this process may use.
        skip: Paths below a single folder, relative to it, that are left out.

    Raises:
        FileNotFoundError: A path does not exist.
    """
    names = [os.fspath(path) for path in paths]
    result = Hashed(algorithm)
    found: dict[str, str] = {}
    for root in names:
        os.lstat(root)
        if not os.path.isdir(root):
            found[root] = root
            continue
        files, findings = walk(root, skip if len(names) == 1 else ())
        result.findings += findings
        for file in files:
            name = file if len(names) == 1 else f"{root.rstrip('/')}/{file}"
            found[name] = os.path.join(root, file)
    if algorithm == "content":
        _content_ids(
            result, {name: path for name, path in found.items() if _is_tensor_file(name, names)}, jobs
        )
        return result
    requests = [(path, [algorithm], None) for path in found.values()]
    for (name, path), one in zip(found.items(), _native.digest_files(requests, jobs), strict=True):
        if "finding" in one:
            result.findings.append(Finding(file=name, **one["finding"]))
        else:
            result.digests[name] = one["digests"][algorithm]
            result.links = result.links or os.path.realpath(path) != os.path.abspath(path)
    return result


def _is_tensor_file(name: str, given: Collection[str]) -> bool:
    return name in given or name.lower().endswith(READ_SUFFIXES + UNSUPPORTED_SUFFIXES)


def _content_ids(result: Hashed, files: dict[str, str], jobs: int | None) -> None:
    sets = dict(_sets(files))
    whole = {name: members for name, members in sets.items() if members is not None}
    for name in sets.keys() - whole.keys():
        message = "shards of this set are missing, so it has no content id"
        result.findings.append(Finding("X_SHARD_MISSING", "fail", name, message))
    paths = [[files[member] for member in members] for members in whole.values()]
    for (name, members), one in zip(whole.items(), _native.content_ids(paths, jobs), strict=True):
        if "finding" in one:
            result.findings.append(Finding(file=members[one["file"]], **one["finding"]))
        else:
            result.digests[name] = one["content"]
    result.digests = dict(sorted(result.digests.items()))


def _sets(files: Collection[str]) -> Iterator[tuple[str, list[str] | None]]:
    """Checkpoints by name, with their files: `None` for a set that is not whole."""
    shards: dict[str, dict[int, str]] = {}
    for name in files:
        match = _SHARD.fullmatch(name)
        if match is None:
            yield name, [name]
        else:
            stem, number, count, suffix = match.groups()
            shards.setdefault(f"{stem}-*-of-{count}{suffix}", {})[int(number)] = name
    for name, members in shards.items():
        count = int(name.rsplit("-of-", 1)[1].partition(".")[0])
        whole = count == len(members) and max(members) == count and min(members) == 1
        yield name, list(members.values()) if whole else None
