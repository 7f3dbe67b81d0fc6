"""Checkpoint files, mapped: `unitrow.open`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from unitrow import _native
from unitrow.discover import siblings_of
from unitrow.errors import LayoutError
from unitrow.layouts import recognise
from unitrow.layouts.model import FileMeta, Folder, TensorMeta
from unitrow.plan import folder_parts, side_file_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from unitrow.layouts.model import Decoder, Match

Specials = Literal["ieee", "fn", "fnuz"]

_NUMPY = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "u2",
    "I16": "i2",
    "F16": "f2",
    "U32": "u4",
    "I32": "i4",
    "F32": "f4",
    "C64": "c8",
    "U64": "u8",
    "I64": "i8",
    "F64": "f8",
    "C128": "c16",
}
_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
# Exponent bits, mantissa bits, exponent bias and special values of the formats that widen by a table.
_SMALL_FLOATS: dict[str, tuple[int, int, int, Specials]] = {
    "F8_E4M3": (4, 3, 7, "fn"),
    "F8_E5M2": (5, 2, 15, "ieee"),
    "F8_E4M3FNUZ": (4, 3, 8, "fnuz"),
    "F8_E5M2FNUZ": (5, 2, 16, "fnuz"),
}


def open(path: str | os.PathLike[str]) -> Checkpoint:  # noqa: A001  (ur.open is what it is called)
    """Map a safetensors, npz or npy file read-only, without copying it.

    Raises:
        OSError: The file cannot be read; the subclass is the one that `open` would raise.
        FormatError: Its structure is not what its format demands.
    """
    return Checkpoint(os.fspath(path))


class Checkpoint:
    """A mapped file: tensors by name, and the decoders that its layout names.

    Use it as a context manager. Arrays made from it stay valid after it is closed. While another process
    writes to the file the values are undefined, and cutting it short can end this process: `unitrow.audit`
    survives both.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: _native.MappedFile | None = _native.MappedFile(path)
        self._index = {tensor[0]: place for place, tensor in enumerate(self._file.tensors)}
        self._match: Match | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the map go, as soon as no array looks at it."""
        self._file = None

    def keys(self) -> list[str]:
        """Names of the tensors, in the file's order."""
        return list(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._index:
            raise KeyError(name)
        return Tensor(self._opened(), self._index[name])

    def metadata(self) -> dict[str, str]:
        """The container's own metadata."""
        return self._opened().metadata

    @property
    def container(self) -> str:
        """`safetensors`, `npz` or `npy`."""
        return self._opened().container

    @property
    def layout(self) -> str:
        """Id of the layout, judged by the tensors, their shapes and the files beside this one."""
        return self._matched().layout

    @property
    def decoders(self) -> list[DecoderRows]:
        """The decoders that the layout names; empty where it names none."""
        file = self._opened()
        return [
            DecoderRows(file, self._index[decoder.tensor], decoder)
            for decoder in self._matched().decoders
            if decoder.tensor in self._index
        ]

    def _opened(self) -> _native.MappedFile:
        if self._file is None:
            msg = f"{self._path} is closed"
            raise ValueError(msg)
        return self._file

    def _matched(self) -> Match:
        if self._match is None:
            file = self._opened()
            directory, name = os.path.split(self._path)
            directory = directory or "."
            tensors = tuple(TensorMeta(key, dtype, tuple(shape)) for key, dtype, shape, *_ in file.tensors)
            folder = Folder(
                path=directory,
                siblings=siblings_of(directory, name),
                read_text=side_file_reader(directory),
                parts=folder_parts(directory),
            )
            self._match = recognise(folder, [FileMeta(name, file.container, tensors, file.metadata)])[0]
        return self._match


class Tensor:
    """One tensor of a mapped file; nothing is copied until a method says so."""

    def __init__(self, file: _native.MappedFile, index: int) -> None:
        self._file = file
        self._at = index
        self.name, self.dtype, shape, self._fortran, self._big_endian = file.tensors[index]
        self.shape = tuple(shape)

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.dtype}, {list(self.shape)})"

    def numpy(self) -> NDArray[Any]:
        """A read-only array over the mapped bytes; over inflated ones if the file is compressed.

        Raises:
            TypeError: numpy has no such dtype, and `ml_dtypes`, which adds it, is not installed.
        """
        if self.dtype in _NUMPY:
            dtype = np.dtype((">" if self._big_endian else "<") + _NUMPY[self.dtype])
        elif self.dtype in _ML_DTYPES and find_spec("ml_dtypes"):
            import ml_dtypes

            dtype = np.dtype(getattr(ml_dtypes, _ML_DTYPES[self.dtype]))
        else:
            hint = "install ml_dtypes, or use .to_float32()" if self.dtype in _ML_DTYPES else "use .bytes()"
            msg = f"numpy has no dtype for {self.dtype} (tensor {self.name!r}): {hint}"
            raise TypeError(msg)
        array = self._shaped(np.frombuffer(self.bytes(), dtype))
        array.flags.writeable = False
        return array

    def bytes(self) -> memoryview:
        """The raw bytes."""
        return memoryview(self._file.bytes(self._at))

    def to_float32(self) -> NDArray[np.float32]:
        """A float32 copy; exact for bfloat16, float16 and float8, rounded for float64.

        Raises:
            TypeError: The dtype is no floating-point format of whole bytes.
        """
        if self.dtype == "BF16":
            bits = np.frombuffer(self.bytes(), "<u2").astype(np.uint32) << 16
            return self._shaped(bits.view(np.float32))
        if self.dtype in _SMALL_FLOATS:
            table = small_float_values(*_SMALL_FLOATS[self.dtype])
            return self._shaped(table[np.frombuffer(self.bytes(), np.uint8)])
        if self.dtype not in {"F16", "F32", "F64"}:
            msg = f"{self.dtype} (tensor {self.name!r}) is no floating-point format that widens to float32"
            raise TypeError(msg)
        return np.array(self.numpy(), dtype=np.float32)

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A read-only view for `from_dlpack` of another library; carries bfloat16 and float8 too.

        Raises:
            BufferError: The consumer knows no read-only tensors (DLPack before 1.0), wants a copy or another
                device, or the tensor is compressed, big-endian or in Fortran order.
        """
        if stream is not None or dl_device not in {None, (1, 0)} or copy:
            msg = f"tensor {self.name!r} is mapped on the CPU: no stream, other device or copy"
            raise BufferError(msg)
        if max_version is None or max_version < (1, 0):
            msg = f"tensor {self.name!r} is read-only, which DLPack before 1.0 cannot say"
            raise BufferError(msg)
        data = self._file.bytes(self._at)
        if self._big_endian or self._fortran or not isinstance(data, _native.MappedBytes):
            msg = f"tensor {self.name!r} is not stored as plain rows: use .numpy()"
            raise BufferError(msg)
        return data.dlpack(self.dtype, list(self.shape))

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def _shaped(self, flat: NDArray[Any]) -> NDArray[Any]:
        return flat.reshape(self.shape, order="F" if self._fortran else "C")


class DecoderRows:
    """A decoder of a mapped file.

    Attributes:
        tensor: Name of the tensor.
        latent_axis: The axis that counts latents; `None` if the evidence does not tell.
        reduce_axis: The axis that norms reduce over.
    """

    def __init__(self, file: _native.MappedFile, index: int, decoder: Decoder) -> None:
        self._file = file
        self._at = index
        self.tensor = decoder.tensor
        self.latent_axis = decoder.latent_axis
        self.reduce_axis = decoder.reduce_axis
        self._why = decoder.why

    def __repr__(self) -> str:
        return f"DecoderRows({self.tensor!r}, latent_axis={self.latent_axis}, reduce_axis={self.reduce_axis})"

    def row_norms(self) -> NDArray[np.float64]:
        """Norms of the rows, float64, in the shape of the tensor without the reduced axis.

        Raises:
            LayoutError: Which axis to reduce over is not known.
        """
        if self.reduce_axis is None:
            msg = f"{self.tensor}: which axis holds the latents is not determined: {self._why}"
            raise LayoutError(msg)
        _, _, shape, fortran, big_endian = self._file.tensors[self._at]
        if big_endian or not isinstance(self._file.bytes(self._at), _native.MappedBytes):
            array = Tensor(self._file, self._at).numpy()
            native = array.astype(array.dtype.newbyteorder("="), copy=False)
            return _native.row_norms(native, self.reduce_axis)
        norms = self._file.row_norms(self._at, self.reduce_axis)
        kept = [length for axis, length in enumerate(shape) if axis != self.reduce_axis]
        return norms.reshape(kept, order="F" if fortran else "C")


def small_float_values(
    exponent_bits: int, mantissa_bits: int, bias: int, specials: Specials
) -> NDArray[np.float32]:
    """Values of all 256 codes of an 8-bit float.

    Args:
        exponent_bits: Width of the exponent.
        mantissa_bits: Width of the mantissa.
        bias: Exponent bias.
        specials: `ieee`: the largest exponent holds Inf and NaN; `fn`: only the codes of all ones are NaN;
            `fnuz`: only 0x80 is NaN, and there is no negative zero.
    """
    codes = np.arange(256, dtype=np.int64)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    values = sign * (fraction + (exponent > 0)) * 2.0 ** (np.maximum(exponent, 1) - bias)
    if specials == "fnuz":
        values[0x80] = np.nan
    elif specials == "fn":
        values[(codes & 0x7F) == 0x7F] = np.nan
    else:
        top = exponent == (1 << exponent_bits) - 1
        values[top] = np.where(fraction[top] == 0, sign[top] * np.inf, np.nan)
    widened: NDArray[np.float32] = values.astype(np.float32)
    return widened
