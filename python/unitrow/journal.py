"""The journal of an audit that can be resumed: what was learned of each file, as soon as it was.

One JSON object a line. The first says what wrote it and with which options; each other one holds the scan of
one file under a key that names the state of the file and what was asked of it. Each ends in the CRC-32 of the
bytes before that member, so that a torn or damaged line is known as such.

A scan is a function of its key, so an audit that finds it here reports the same bytes as one that reads the
file again. Files that could not be read are not written down: the next run tries them again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self

from unitrow import _native
from unitrow.atomic import sync_folder
from unitrow.errors import JournalError

if TYPE_CHECKING:
    from types import TracebackType

    from unitrow._native import FileScan

FORMAT = 1
"""Version of what a line holds; a change of it makes older journals unusable."""

_SYNC_SECONDS = 1.0
"""A machine that stops loses no more than what was learned in this time."""

_LONGEST_HEAD = 1 << 16


class Journal:
    """The journal in one file, made where it is missing.

    Args:
        path: The file.
        options: What decides what a scan gives, beside the file and what is asked of it.

    Raises:
        JournalError: The file cannot be used; the message says why.
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self._path = path
        self._places: dict[bytes, tuple[int, int]] = {}
        head = {"unitrow_journal": FORMAT, "version": _native.__version__, "options": options}
        try:
            self._file = _open(path)
            try:
                self._end = self._read(head)
                os.ftruncate(self._file, self._end)
                if self._end == 0:
                    self._append(head)
                    sync_folder(os.path.dirname(path))
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file)
        except OSError as failure:
            if error is None:
                raise self._error(failure.strerror or str(failure)) from failure
        finally:
            os.close(self._file)

    def find(self, key: bytes | None) -> FileScan | None:
        """The scan under a key, if there is one."""
        place = self._places.get(key) if key else None
        if place is None:
            return None
        record = _parse(os.pread(self._file, place[1], place[0]))
        return record["scan"] if record else None

    def add(self, key: bytes | None, scan: FileScan) -> None:
        """Write a scan down, unless its file could not be read.

        Raises:
            JournalError: It could not be written.
        """
        if key is None or any(found["severity"] == "unreadable" for found in scan["findings"]):
            return
        try:
            self._append({"key": key.hex(), "scan": scan})
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error

    def _append(self, record: dict[str, Any]) -> None:
        line = memoryview(_line(record))
        while line:
            line = line[os.write(self._file, line) :]

    def _read(self, head: dict[str, Any]) -> int:
        """Note where scans are; returns where the last whole line ends."""
        end = 0
        with os.fdopen(os.dup(self._file), "rb") as lines:
            first = lines.readline(_LONGEST_HEAD)
            if not first.endswith(b"\n") and _line(head).startswith(first):
                return 0  # new, or stopped before its first line was whole
            self._check(_parse(first), head)
            end = len(first)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                record = _parse(line)
                if record is not None:
                    self._places[bytes.fromhex(record["key"])] = (end, len(line))
                end += len(line)
        return end

    def _check(self, found: dict[str, Any] | None, head: dict[str, Any]) -> None:
        if found is None or "unitrow_journal" not in found:
            raise self._error("it is no journal of an audit")
        if (found["unitrow_journal"], found["version"]) != (FORMAT, head["version"]):
            raise self._error(
                f"unitrow {found['version']} wrote it, and this is {head['version']}: "
                "delete it, or finish the audit with that version"
            )
        if found["options"] != head["options"]:
            raise self._error(f"it was begun with {_words(found)}, and now it is {_words(head)}")

    def _error(self, reason: str) -> JournalError:
        return JournalError(f"cannot use the journal {self._path}: {reason}")


def key_of(identity: tuple[int, ...] | None, request: object) -> bytes | None:
    """The name of a scan: which state of which file, and what was asked of it; `None` without a file."""
    if identity is None:
        return None
    return blake2b(json.dumps([identity, request]).encode(), digest_size=16).digest()


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    file = os.open(path, flags, 0o666)
    try:
        _take(file)
    except BaseException:
        os.close(file)
        raise
    return file


def _take(file: int) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EAGAIN, "another audit is using it") from None
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.ENOTSUP}:  # a file system without locks
            raise


_MARK = b',"crc":'


def _line(record: dict[str, Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()[:-1]
    return body + _MARK + str(zlib.crc32(body)).encode() + b"}\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line; `None` if it is damaged or not ours."""
    body, mark, sum_ = line.rpartition(_MARK)
    if not mark or sum_ != str(zlib.crc32(body)).encode() + b"}\n":
        return None
    record: dict[str, Any] = json.loads(body + b"}")
    return record


def _words(head: dict[str, Any]) -> str:
    return ", ".join(f"--{name} {value}" for name, value in head["options"].items())
