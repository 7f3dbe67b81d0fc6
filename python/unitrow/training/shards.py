"""Recorded activations: a folder of safetensors files with inputs and targets, row for row."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from io import FileIO
from typing import TYPE_CHECKING

from unitrow.errors import FormatError, LayoutError
from unitrow.reading import open as open_file
from unitrow.report.text import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("inputs", "targets")
_FILE = re.compile(r"activations-(\d{5,})-of-(\d{5,})\.safetensors")
_SAMPLES = 65
_SAMPLE_BYTES = 4096
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Stored:
    """One tensor of a shard.

    Attributes:
        name: `inputs` or `targets`.
        dtype: As safetensors calls it.
        width: Elements of a row.
        offset: Where its bytes begin in the file.
    """

    name: str
    dtype: str
    width: int
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Shard:
    """One file of pairs.

    Attributes:
        path: The file.
        rows: Pairs in it.
        tensors: `inputs` and `targets`.
        metadata: What the recorder says: `model`, `site`, `tokens`.
    """

    path: str
    rows: int
    tensors: tuple[Stored, Stored]
    metadata: dict[str, str]

    def open(self) -> FileIO:
        """The file, for `read_into`."""
        return FileIO(self.path)

    def read_into(self, file: FileIO, tensor: Stored, first: int, buffer: memoryview) -> None:
        """Fill a buffer of whole rows, from row `first` on.

        Raises:
            FormatError: The file is shorter than when its header was read.
        """
        self.read_bytes_into(file, tensor, first * tensor.row_bytes, buffer)

    def read_bytes_into(self, file: FileIO, tensor: Stored, first: int, buffer: memoryview) -> None:
        """Fill a buffer from byte `first` of a tensor on; raises as `read_into` does."""
        at = tensor.offset + first
        file.seek(at)
        done = 0
        while done < len(buffer):
            count = file.readinto(buffer[done:])
            if not count:
                place = f"{len(buffer)} bytes at byte {at}"
                raise wrong(self.path, tensor.name, place, f"{done}: the file was cut", FormatError)
            done += count


def digest(shards: Sequence[Shard]) -> str:
    """Tells one recording from another: SHA-256 over samples of every tensor, whole where it is small.

    A sample is a page, and a tensor has `_SAMPLES`, its first and its last bytes among them. Reading all of a
    recording that is larger than memory would take longer than much of the training.

    Raises:
        FormatError: A file is shorter than when its header was read.
    """
    found = hashlib.sha256()
    for shard in shards:
        with shard.open() as file:
            for tensor in shard.tensors:
                size = shard.rows * tensor.row_bytes
                last = max(0, size - _SAMPLE_BYTES)
                places = sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)})
                for at in places:
                    sample = bytearray(min(_SAMPLE_BYTES, size))
                    shard.read_bytes_into(file, tensor, at, memoryview(sample))
                    found.update(sample)
    return found.hexdigest()


def wrong(
    path: str, what: str, expected: object, found: object, kind: type[Exception] = LayoutError
) -> Exception:
    """The exception for a shard that cannot be used."""
    return kind(f"{path}: {escape(what)}: expected {expected}, found {found}")


def open_shards(folder: str | os.PathLike[str]) -> list[Shard]:
    """The shards of a folder, in order; only their headers are read.

    Raises:
        OSError: Something cannot be read; the subclass is the one that `open` would raise.
        FormatError: A file is truncated, or otherwise no safetensors file.
        LayoutError: No shards, some are missing, or one does not fit: tensors are missing, of another
            number of rows, of another width than in the first shard, empty, or of no dtype for activations.
    """
    directory = os.fspath(folder)
    found = [match for name in sorted(os.listdir(directory)) if (match := _FILE.fullmatch(name))]
    if not found:
        raise wrong(directory, "files", "activations-00000-of-00001.safetensors and so on", "none")
    total = int(found[0][2])
    expected = [f"activations-{number:05d}-of-{total:05d}.safetensors" for number in range(total)]
    names = [match[0] for match in found]
    if names != expected:
        missing = [name for name in expected if name not in names]
        strangers = [name for name in names if name not in expected]
        what = f"no {missing[0]}" if missing else f"also {strangers[0]}"
        raise wrong(directory, "files", f"{total} shards", what)
    shards = [_open(os.path.join(directory, name)) for name in names]
    _check_alike(shards)
    return shards


def _open(path: str) -> Shard:
    with open_file(path) as file:
        offsets = _offsets(path)
        for name in NAMES:
            if name not in file:
                raise wrong(path, name, "a tensor [rows, width]", "none")
            tensor = file[name]
            if tensor.dtype not in _ITEM_BYTES:
                raise wrong(path, name, " or ".join(_ITEM_BYTES), tensor.dtype)
            if len(tensor.shape) != 2 or not all(tensor.shape):
                raise wrong(path, name, "[rows, width], both at least 1", list(tensor.shape))
        (rows, _), (target_rows, _) = (file[name].shape for name in NAMES)
        if target_rows != rows:
            raise wrong(path, "targets", f"{rows} rows, as inputs have", target_rows)
        inputs, targets = (
            Stored(name, file[name].dtype, file[name].shape[1], offsets[name]) for name in NAMES
        )
        return Shard(path, rows, (inputs, targets), file.metadata())


def _offsets(path: str) -> dict[str, int]:
    """Where tensors begin in a file whose header has been validated."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {name: 8 + length + header[name]["data_offsets"][0] for name in NAMES if name in header}


def _check_alike(shards: Sequence[Shard]) -> None:
    first = shards[0]
    for shard in shards[1:]:
        for tensor, other in zip(first.tensors, shard.tensors, strict=True):
            if (other.width, other.dtype) != (tensor.width, tensor.dtype):
                expected = f"{tensor.dtype} [rows, {tensor.width}], as in {first.path}"
                raise wrong(shard.path, other.name, expected, f"{other.dtype} [rows, {other.width}]")
