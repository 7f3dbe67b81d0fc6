"""Shard indexes: files that one names are one checkpoint, and what is wrong with the set is said of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unitrow import _native
from unitrow.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrow._native import FileHeader
    from unitrow.discover import FoundFolder
    from unitrow.layouts.model import Match


@dataclass(slots=True)
class ShardedSet:
    """An index and the files of its folder that it names.

    Attributes:
        index: Name of the index in the folder.
        shards: Names of the shards, whether they are there or not.
        findings: What is wrong with the index and the set.
    """

    index: str
    shards: frozenset[str]
    findings: list[Finding]


def sets_of(folder: FoundFolder, headers: Mapping[str, FileHeader]) -> list[ShardedSet]:
    """Compare every index of a folder with the folder's files.

    Args:
        folder: The folder.
        headers: The headers of its files, by name.
    """
    sets = []
    for name in folder.indexes:
        check = _native.check_index(os.path.join(folder.directory, name), list(headers.values()))
        findings = [Finding(file=folder.display(name), **found) for found in check["findings"]]
        sets.append(ShardedSet(name, frozenset(check["shards"]), findings))
    return sets


def joined(matches: Sequence[Match], shards: frozenset[str]) -> tuple[list[Match], Match | None]:
    """Take the matches that consist of shards out of all and join them to one.

    Returns:
        The other matches, and the joined one; None where no shard was recognised as anything.
    """
    inside = [match for match in matches if not shards.isdisjoint(match.files)]
    others = [match for match in matches if shards.isdisjoint(match.files)]
    if not inside:
        return others, None
    leading = next((match for match in inside if match.decoders), inside[0])
    decoders = [decoder for match in inside for decoder in match.decoders]
    findings = [found for match in inside for found in match.findings]
    if decoders:
        findings = [found for found in findings if found.code != "L_NO_DECODER"]
    whole = replace(
        leading,
        files=tuple(dict.fromkeys(file for match in inside for file in match.files)),
        decoders=decoders,
        nan_allowed=frozenset().union(*(match.nan_allowed for match in inside)),
        zero_allowed=frozenset().union(*(match.zero_allowed for match in inside)),
        findings=findings,
    )
    return others, whole
