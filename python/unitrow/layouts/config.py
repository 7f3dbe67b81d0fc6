"""Configuration files beside weights, read as hostile text: bounded, and never an exception."""

from __future__ import annotations

import errno
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrow.layouts.model import Folder

JSON_LIMIT_BYTES = 4 * 1024 * 1024
YAML_LIMIT_BYTES = 256 * 1024
YAML_DEPTH_LIMIT = 32
COUNT_LIMIT = 2**53
_EXCERPT_CHARACTERS = 60
_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")

_UNREAD = {
    errno.EACCES: ("FS_PERMISSION", "it may not be read"),
    errno.EPERM: ("FS_PERMISSION", "it may not be read"),
    errno.ENOENT: ("FS_BROKEN_LINK", "it is a link to nothing"),
    errno.ENOTDIR: ("FS_BROKEN_LINK", "it is a link to nothing"),
    errno.ELOOP: ("FS_BROKEN_LINK", "it is a link to itself, or through more links than the system follows"),
    errno.EINVAL: ("FS_NOT_REGULAR", "it is not a regular file"),
    errno.EISDIR: ("FS_NOT_REGULAR", "it is not a regular file"),
    errno.ENXIO: ("FS_NOT_REGULAR", "it is not a regular file"),
    errno.ENODEV: ("FS_NOT_REGULAR", "it is not a regular file"),
}
"""What it means that a side file cannot be read; a file that is simply absent is no problem."""

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class ConfigError(ValueError):
    """A configuration file that cannot be used as it stands."""


@dataclass(slots=True)
class Config:
    """One configuration file: its values, or the reason why there are none."""

    name: str
    """File name, relative to the folder."""

    present: bool = False
    """Whether the file is there at all."""

    values: dict[str, Any] = field(default_factory=dict)
    """The top-level mapping; empty when the file is absent or cannot be used."""

    problem: str | None = None
    """What is wrong with the file, if something is."""

    unread: str | None = None
    """The `FS_` code that says why its bytes could not be had, where that is the problem."""

    duplicates: tuple[str, ...] = ()
    """Keys that some mapping in the file has twice; the last value is the one kept."""

    def section(self, key: str) -> dict[str, Any]:
        """Return the mapping under `key`, or an empty one."""
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}


def as_count(value: object) -> int | None:
    """Return a positive whole number below 2^53, from an integer, an integral float or digits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        # int() would also take other scripts' digits, underscores and blanks.
        value = int(value) if _WHOLE_NUMBER.fullmatch(value) else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if isinstance(value, int) and 0 < value < COUNT_LIMIT else None


def as_flag(value: object) -> bool | None:
    """Return a boolean, from a boolean or from YAML's words for one."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.lower()
        return True if word in _TRUE else False if word in _FALSE else None
    return None


def as_text(value: object) -> str | None:
    """Return a string as it is, and None for everything else."""
    return value if isinstance(value, str) else None


def excerpt(value: object) -> str:
    """Return a short ASCII rendering of a value from a file, for a finding; text is quoted."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= COUNT_LIMIT:
        return "a number beyond 2^53"  # printing it could take quadratic time
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if not isinstance(value, str):
        return str(value)
    quoted = ascii(value[:_EXCERPT_CHARACTERS])
    if len(value) <= _EXCERPT_CHARACTERS and len(quoted) <= _EXCERPT_CHARACTERS:
        return quoted
    return f"{quoted[: _EXCERPT_CHARACTERS - 1]}{quoted[0]}..."


def major_version(value: object) -> int | None:
    """Return the leading number of a version string such as `6.54.12`, if it has one."""
    text = as_text(value)
    found = re.match(r"v?([0-9]{1,4})(?:\.|$)", text) if text is not None else None
    return int(found[1]) if found else None


def read_json(folder: Folder, name: str) -> Config:
    """Read a JSON configuration file of the folder."""
    duplicates: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            duplicates.extend(key for key, count in counts.items() if count > 1)
        return values

    def parse(text: str) -> dict[str, Any]:
        value = json.loads(text, object_pairs_hook=mapping)
        if not isinstance(value, dict):
            raise ConfigError("the file does not hold a JSON object")
        return value

    config = _read(folder, name, "JSON", JSON_LIMIT_BYTES, parse)
    config.duplicates = tuple(dict.fromkeys(duplicates))
    return config


def read_yaml(folder: Folder, name: str) -> Config:
    """Read a YAML configuration file of the folder; every scalar is kept as text.

    Anchors and aliases are refused: no writer of these layouts uses them, and they are how a small
    file becomes a large object.
    """
    duplicates: list[str] = []

    def parse(text: str) -> dict[str, Any]:
        value = _yaml_value(text, duplicates)
        if not isinstance(value, dict):
            raise ConfigError("the file does not hold a YAML mapping")
        return value

    config = _read(folder, name, "YAML", YAML_LIMIT_BYTES, parse)
    config.duplicates = tuple(dict.fromkeys(duplicates))
    return config


def _read(folder: Folder, name: str, kind: str, limit: int, parse: Any) -> Config:
    try:
        data = folder.read_text(name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno == errno.EFBIG:  # that is damage: its bytes could be had
            return Config(name, present=True, problem=f"it is {reason}")
        code, problem = _UNREAD.get(error.errno or 0, ("FS_IO", f"it cannot be read: {reason}"))
        return Config(name, present=True, problem=problem, unread=code)
    if data is None:
        return Config(name)
    config = Config(name, present=True)
    try:
        if len(data) > limit:
            config.problem = f"the file is larger than {limit} bytes"
        else:
            config.values = parse(bytes(data).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        config.problem = f"the file is not UTF-8 text (byte {error.start})"
    except RecursionError:
        config.problem = f"the {kind} is nested too deeply"
    except json.JSONDecodeError as error:
        config.problem = f"not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    except ConfigError as error:
        config.problem = str(error)
    except ValueError:
        config.problem = f"the {kind} holds a number that is too long to read"
    return config


def _yaml_value(text: str, duplicates: list[str]) -> Any:
    import yaml  # only folders with a YAML file pay for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _compose(yaml, yaml.parse(text, Loader=loader), duplicates)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or "a character that YAML does not allow"
        raise ConfigError(f"not valid YAML: {problem}{where}") from None


def _compose(yaml: Any, events: Iterator[Any], duplicates: list[str]) -> Any:
    """Build a value from parser events; no tag, timestamp or number is ever interpreted."""
    document: list[Any] = []
    open_nodes: list[Any] = [document]
    # Per open mapping the key that waits for its value; per open list the flag that it is none.
    waiting: list[Any] = [_LIST]
    for event in events:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ConfigError("the YAML uses anchors or aliases")
        node: Any
        if isinstance(event, yaml.ScalarEvent):
            node = event.value
        elif isinstance(event, yaml.MappingStartEvent):
            node = {}
        elif isinstance(event, yaml.SequenceStartEvent):
            node = []
        elif isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
            waiting.pop()
            continue
        else:
            continue
        _place(open_nodes[-1], node, waiting, duplicates)
        if not isinstance(node, str):
            open_nodes.append(node)
            waiting.append(_LIST if isinstance(node, list) else _NO_KEY)
            if len(open_nodes) > YAML_DEPTH_LIMIT:
                raise ConfigError("the YAML is nested too deeply")
    if len(document) != 1:
        raise ConfigError(f"the YAML holds {len(document)} documents, not one")
    return document[0]


_LIST = object()
_NO_KEY = object()


def _place(parent: Any, node: Any, waiting: list[Any], duplicates: list[str]) -> None:
    key = waiting[-1]
    if key is _LIST:
        parent.append(node)
    elif key is _NO_KEY:
        if not isinstance(node, str):
            raise ConfigError("the YAML has a key that is not a scalar")
        if node in parent:
            duplicates.append(node)
        waiting[-1] = node
    else:
        parent[key] = node
        waiting[-1] = _NO_KEY
