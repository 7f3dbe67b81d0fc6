"""Tensors as the bytes of a safetensors file, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unitrow import _native
from unitrow.errors import FormatError
from unitrow.reading import open as open_file

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def parts(tensors: Mapping[str, Tensor]) -> list[tuple[str, str, list[int], bytes]]:
    """Tensors of any device as the writers take them."""
    return [
        (
            name,
            _NAMES[tensor.dtype],
            list(tensor.shape),
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, tensor in tensors.items()
    ]


def write_tensors(path: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file: beside its destination, synced, renamed.

    Raises:
        OSError: It cannot be written.
    """
    _native.write_safetensors(path, parts(tensors), list(metadata.items()))


def read_tensors(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Copies of the tensors of a safetensors file, and its metadata.

    Raises:
        OSError: It cannot be read.
        FormatError: It is damaged, or has a dtype that is not written here.
    """
    with open_file(path) as file:
        return {
            name: _copy(path, file[name].dtype, file[name].bytes(), file[name].shape) for name in file
        }, file.metadata()


def _copy(path: str, dtype: str, data: memoryview, shape: tuple[int, ...]) -> Tensor:
    if dtype not in _DTYPES:
        raise FormatError(f"{path}: expected one of {', '.join(_DTYPES)}, found {dtype}")
    if not len(data):
        return torch.empty(shape, dtype=_DTYPES[dtype])
    return torch.frombuffer(bytearray(data), dtype=_DTYPES[dtype]).reshape(shape)
