"""Rust operations behind the `unitrow` package."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, TypedDict, final, type_check_only

import numpy as np
from numpy.typing import NDArray

__version__: str

@type_check_only
class FileScan(TypedDict):
    findings: list[dict[str, Any]]
    values: dict[str, dict[str, Any]]
    decoders: list[Any]
    digests: dict[str, str]

@type_check_only
class IndexCheck(TypedDict):
    shards: list[str]
    findings: list[dict[str, Any]]

@final
class FileHeader:
    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def weight(self) -> int: ...
    @property
    def identity(self) -> tuple[int, int, int, int, int] | None: ...
    @property
    def container(self) -> str: ...
    @property
    def sound(self) -> bool: ...
    @property
    def tensors(self) -> list[tuple[str, str, list[int]]]: ...
    @property
    def lost(self) -> list[tuple[str, str, list[int]]]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def findings(self) -> list[dict[str, Any]]: ...

@final
class MappedBytes:
    def __len__(self) -> int: ...
    def dlpack(self, dtype: str, shape: Sequence[int]) -> Any: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class MappedFile:
    def __new__(cls, path: str | PathLike[str]) -> MappedFile: ...
    @property
    def container(self) -> str: ...
    @property
    def tensors(self) -> list[tuple[str, str, list[int], bool, bool]]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    def row_norms(self, index: int, axis: int) -> NDArray[np.float64]: ...
    def bytes(self, index: int) -> MappedBytes | bytearray: ...

def available_threads() -> int: ...
def decoder_stats(
    data: bytes,
    dtype: str,
    rows: int,
    len: int,  # noqa: A002
    strided: bool = False,
    chunk_rows: int | None = None,
) -> dict[str, Any]: ...
def codes() -> list[tuple[str, str]]: ...
def read_headers(
    paths: Sequence[str | PathLike[str]], jobs: int | None = None, most_weight: int | None = None
) -> list[FileHeader]: ...
def check_index(path: str | PathLike[str], headers: Sequence[FileHeader]) -> IndexCheck: ...
def scan(
    tasks: Sequence[tuple[FileHeader, Sequence[tuple[int, int, int | None]], bool, str | None]],
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
    finished: Callable[[int, FileScan], None] | None = None,
    mapped: bool = False,
) -> list[FileScan]: ...
def write_npz(
    path: str | PathLike[str], tensors: Sequence[tuple[str, str, Sequence[int], bytes]]
) -> None: ...
def write_safetensors(
    path: str | PathLike[str],
    tensors: Sequence[tuple[str, str, Sequence[int], bytes]],
    metadata: Sequence[tuple[str, str]],
) -> None: ...

# Rows of arrays: see unitrow.arrays, which documents them.

def row_norms(x: Any, axis: int = ...) -> NDArray[np.float64]: ...
def normalize_rows_(
    x: Any, axis: int = ..., *, on_degenerate: str = "keep", compat: str | None = None
) -> tuple[int, int, int, int]: ...
def remove_parallel_(grad: Any, rows: Any, axis: int = ...) -> None: ...
def adam_step_(
    parameter: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    axis: int = ...,
    *,
    master: Any = None,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = ...,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = True,
    maximize: bool = False,
    unit_norm: bool = True,
) -> None: ...

# Digests: see unitrow.identity. Both can be interrupted.

@type_check_only
class FileDigests(TypedDict, total=False):
    size: int
    digests: dict[str, str]
    finding: dict[str, Any]

@type_check_only
class ContentId(TypedDict, total=False):
    content: str
    size: int
    tensors: int
    finding: dict[str, Any]
    file: int

def digest_files(
    requests: Sequence[tuple[str | PathLike[str], Sequence[str], tuple[int, int] | None]],
    jobs: int | None = None,
) -> list[FileDigests]: ...
def content_ids(
    sets: Sequence[Sequence[str | PathLike[str]]], jobs: int | None = None
) -> list[ContentId]: ...
