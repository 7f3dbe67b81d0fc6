"""The in-toto statement of OpenSSF model signing: written without a signature, read without checking one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from unitrow.identity.reference import Entry, Reference

if TYPE_CHECKING:
    from unitrow.identity.hashing import Hashed

IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""What model signing leaves out of a folder unless told otherwise."""

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_HEX = re.compile("[0-9a-f]{64}")
_UNSIGNED = "no signature was checked: whoever could write the manifest decided what it says"


def write_statement(hashed: Hashed, model_name: str) -> bytes:
    """The statement that `model_signing` would sign for a folder; SHA-256 only.

    Its subject is the SHA-256 of all raw digests, in the order of the names.
    """
    resources = [
        {"name": name, "algorithm": "sha256", "digest": digest}
        for name, digest in sorted(hashed.digests.items(), key=lambda item: PurePosixPath(item[0]))
    ]
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": model_name, "digest": {"sha256": _root(resources)}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": hashed.links,
                "ignore_paths": list(IGNORED),
            },
            "resources": resources,
        },
    }
    return json.dumps(statement, indent=2).encode() + b"\n"


def _root(resources: list[dict[str, str]]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()


def read_statement(data: bytes, name: str) -> Reference:
    """A statement, a DSSE envelope around one, or a Sigstore bundle around that; no bytes raise."""
    reference = Reference(name, "model-signing", notes=[_UNSIGNED])
    try:
        statement = _loads(data)
        if "dsseEnvelope" in statement:
            statement = statement["dsseEnvelope"]
        if "payload" in statement:
            statement = _loads(base64.b64decode(statement["payload"], validate=True))
        _read(statement, reference)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        reference.entries.clear()
        reference.unusable(f"no in-toto statement with digests: {reason}")
    return reference


def _loads(data: bytes) -> dict[str, Any]:
    statement = json.loads(data, object_pairs_hook=_once)
    if not isinstance(statement, dict):
        msg = "not an object"
        raise TypeError(msg)
    return statement


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        msg = "a key stands twice in one object"
        raise ValueError(msg)
    return fields


def _read(statement: dict[str, Any], reference: Reference) -> None:
    if statement["_type"] != _STATEMENT:
        msg = f"its type is {str(statement['_type'])[:60]!r}"
        raise ValueError(msg)
    if statement["predicateType"] != _PREDICATE:
        # Other predicates (SLSA provenance, model signing before 1.0) name the files as subjects.
        reference.kind = "in-toto"
        for subject in statement["subject"]:
            _add(reference, subject["name"], subject["digest"], f"subject {subject['name']!r}")
        return
    predicate = statement["predicate"]
    serialization = predicate["serialization"]
    sharded = serialization["method"] == "shards"
    ignored = serialization.get("ignore_paths", [])
    reference.ignored = frozenset(str(path).rstrip("/") for path in ignored)
    resources = predicate["resources"]
    for number, one in enumerate(resources, 1):
        name, span = one["name"], None
        if sharded:
            name, start, end = name.rsplit(":", 2)
            span = (int(start), int(end))
        _add(reference, name, {one["algorithm"]: one["digest"]}, f"resource {number}", span)
    _check_coverage(reference)
    [subject] = statement["subject"]
    root = _root(resources)
    if subject["digest"]["sha256"] != root:
        reference.unusable(
            f"its subject is not the digest of its resources: expected {subject['digest']['sha256']}, "
            f"found {root}",
            severity="fail",
        )


def _check_coverage(reference: Reference) -> None:
    """Shards that leave bytes out vouch for a file that anybody can change."""
    ends: dict[str, int] = {}
    for entry in sorted(reference.entries, key=lambda entry: entry.span or (0, 0)):
        if entry.span is None:
            continue
        end = ends.setdefault(entry.name, 0)
        if entry.span[0] > end:
            message = f"no shard of {entry.name} covers bytes {end} to {entry.span[0]}"
            reference.unusable(message, severity="fail")
        ends[entry.name] = max(end, entry.span[1])


def _add(
    reference: Reference, name: str, digests: dict[str, str], source: str, span: tuple[int, int] | None = None
) -> None:
    if not isinstance(name, str):
        msg = "a name is not a string"
        raise TypeError(msg)
    if span and not 0 <= span[0] <= span[1] < 1 << 63:
        msg = "a shard ends before it begins"
        raise ValueError(msg)
    known = {key: value for key, value in digests.items() if key in {"sha256", "blake3"}}
    if not known:
        reference.unusable(f"{source}: no digest of a kind that is computed here: {', '.join(digests)[:60]}")
    for algorithm, digest in known.items():
        if not _HEX.fullmatch(digest.lower()):
            reference.unusable(f"{source}: not a digest of 64 digits")
        else:
            reference.entries.append(Entry(name, digest.lower(), (algorithm,), span=span, source=source))
