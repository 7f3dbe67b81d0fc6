"""Transcoders in files: the layouts that are read, and their tensors under common names.

`unitrow.open` tells which layout a file has. Here is what each layout calls a tensor, which way round it
stores it, and what its configuration says about the function.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unitrow.errors import FormatError, LayoutError
from unitrow.layouts.config import as_count, as_flag, as_text, excerpt, read_json
from unitrow.layouts.model import Folder
from unitrow.plan import side_file_reader
from unitrow.reading import open as open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrow import reading
    from unitrow.layouts.config import Config

SHAPES: Mapping[str, tuple[str, ...]] = {
    "W_enc": ("d_in", "d_sae"),
    "W_dec": ("d_sae", "d_out"),
    "b_enc": ("d_sae",),
    "b_dec": ("d_out",),
    "threshold": ("d_sae",),
    "W_skip": ("d_out", "d_in"),
}
"""The common names, which are those of SAELens, and what they hold."""

_TURNED = ".T"
_SAME = {name: name for name in SHAPES}
_NAMES: Mapping[str, Mapping[str, str]] = {
    "saelens": _SAME | {"log_threshold": "log_threshold"},
    "gemma_scope_1": _SAME | {"w_enc": "W_enc", "w_dec": "W_dec"},
    "gemma_scope_2": _SAME | {"w_enc": "W_enc", "w_dec": "W_dec", "affine_skip_connection": "W_skip.T"},
    "circuit_tracer": _SAME | {"W_enc": "W_enc.T", "activation_function.threshold": "threshold"},
    "sparsify": {
        "encoder.weight": "W_enc.T",
        "encoder.bias": "b_enc",
        "W_dec": "W_dec",
        "decoder.weight": "W_dec.T",
        "b_dec": "b_dec",
        "decoder.bias": "b_dec",
        "W_skip": "W_skip",
    },
}
"""Common name by each layout's own; `.T`: the layout stores it transposed."""

_FAMILY = {"saelens_transcoder": "saelens", "gemma_scope_1_transcoder": "gemma_scope_1"}
_JUMPRELU = ("jumprelu_transcoder", "jumprelu_skip_transcoder", "jumprelu")
_RELU = ("transcoder", "skip_transcoder")


@dataclass
class Stored:
    """One transcoder as a file has it, under common names.

    Attributes:
        path: The file.
        tensors: `W_enc`, `W_dec`, `b_enc` and `b_dec`, and `threshold` and `W_skip` where there are any.
        k: Latents that may be active; None for JumpReLU, and for ReLU, which has no threshold.
        apply_b_dec_to_input: Whether `b_dec` is subtracted from the input.
        metadata: What the file says about the model, if it is in SAELens' layout.
    """

    path: str
    tensors: dict[str, Tensor]
    k: int | None = None
    apply_b_dec_to_input: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """`d_in`, `d_out` and `d_sae`."""
        d_in, d_out = self.tensors["W_enc"].shape[0], self.tensors["b_dec"].shape[0]
        return {"d_in": d_in, "d_out": d_out, "d_sae": self.tensors["b_enc"].shape[0]}

    @property
    def dtype(self) -> torch.dtype:
        """The narrower type that holds both matrices without rounding them."""
        return torch.promote_types(self.tensors["W_enc"].dtype, self.tensors["W_dec"].dtype)

    def wrong(self, what: str, expected: object, found: object, hint: str = "") -> LayoutError:
        """The exception for a file that cannot be loaded."""
        return wrong(self.path, what, expected, found, hint)


def wrong(path: str, what: str, expected: object, found: object, hint: str = "") -> LayoutError:
    """The exception for a file that cannot be loaded: which field, what it should be and what it is."""
    return LayoutError(f"{path}: {what}: expected {expected}, found {found}" + (f"; {hint}" if hint else ""))


def read(path: str | os.PathLike[str]) -> Stored:
    """Read a transcoder from a file, or from a folder that holds just one.

    Raises:
        OSError: Something cannot be read; the subclass is the one that `open` would raise.
        FormatError: The bytes are not what their format demands.
        LayoutError: Not a transcoder or an SAE of a layout that is read here, or it contradicts itself.
    """
    file = _weights(os.fspath(path))
    with open_checkpoint(file) as checkpoint:
        layout = _FAMILY.get(checkpoint.layout, checkpoint.layout)
        if layout not in _NAMES:
            raise wrong(file, "layout", f"one of {', '.join(_NAMES)}", checkpoint.layout)
        names = _NAMES[layout]
        strangers = [name for name in checkpoint if name not in names]
        if strangers:
            raise wrong(file, "tensors", f"none but {', '.join(names)}", ", ".join(map(excerpt, strangers)))
        tensors = {names[name]: _to_torch(file, checkpoint[name]) for name in checkpoint}
    for name in [name for name in tensors if name.endswith(_TURNED)]:
        tensors[name.removesuffix(_TURNED)] = tensors.pop(name).mT.contiguous()
    if "log_threshold" in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").float().exp()
    stored = Stored(file, tensors)
    _check_shapes(stored)
    _INTERPRETERS[layout](stored)
    return stored


def _weights(path: str) -> str:
    """The file itself, or the only one of a folder that holds a transcoder."""
    if not os.path.isdir(path):
        return path
    names = [name for name in sorted(os.listdir(path)) if name.endswith((".safetensors", ".npz"))]
    found = []
    for name in names:
        with open_checkpoint(os.path.join(path, name)) as checkpoint:
            if _FAMILY.get(checkpoint.layout, checkpoint.layout) in _NAMES:
                found.append(name)
    if len(found) != 1:
        known = ", ".join(found) or ", ".join(names) or "no safetensors or npz file"
        raise wrong(path, "files", "one file with a transcoder", known, "name the file" if found else "")
    return os.path.join(path, found[0])


def _to_torch(path: str, tensor: reading.Tensor) -> Tensor:
    """A copy, row-major; 8-bit floats are widened to float32."""
    if not all(tensor.shape):
        raise wrong(path, tensor.name, "entries", f"shape {list(tensor.shape)}")
    if tensor.dtype == "BF16":
        return torch.frombuffer(bytearray(tensor.bytes()), dtype=torch.bfloat16).reshape(tensor.shape)
    try:
        array = tensor.numpy() if tensor.dtype in {"F16", "F32", "F64"} else tensor.to_float32()
    except TypeError as error:
        raise wrong(path, tensor.name, "a floating-point dtype", tensor.dtype) from error
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _check_shapes(stored: Stored) -> None:
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        if name not in stored.tensors:
            raise stored.wrong(name, f"a tensor [{', '.join(SHAPES[name])}]", "none")
    for name in ("b_enc", "b_dec"):
        if stored.tensors[name].ndim != 1:
            raise stored.wrong(name, f"[{SHAPES[name][0]}]", list(stored.tensors[name].shape))
    sizes = stored.sizes
    for name, tensor in stored.tensors.items():
        if list(tensor.shape) != [sizes[symbol] for symbol in SHAPES[name]]:
            expected = ", ".join(f"{symbol} = {sizes[symbol]}" for symbol in SHAPES[name])
            raise stored.wrong(name, f"[{expected}]", list(tensor.shape))


def _saelens(stored: Stored) -> None:
    config = _config(stored)
    architecture = as_text(config.get("architecture"))
    if architecture not in {*_JUMPRELU, *_RELU}:
        known = ", ".join((*_JUMPRELU, *_RELU))
        raise stored.wrong("architecture in cfg.json", f"one of {known}", excerpt(config.get("architecture")))
    for name, size in stored.sizes.items():
        stated = config.get(name)
        if stated is not None and as_count(stated) != size:
            raise stored.wrong(f"{name} in cfg.json", f"{size}, as the tensors have", excerpt(stated))
    normalized = config.get("normalize_activations")
    if normalized not in {None, False, "none"}:
        hint = "activations are scaled at run time, which is not part of the transcoder here"
        raise stored.wrong("normalize_activations in cfg.json", "none", excerpt(normalized), hint)
    for name, needed in (("threshold", architecture in _JUMPRELU), ("W_skip", "skip" in architecture)):
        if needed != (name in stored.tensors):
            found = name if name in stored.tensors else f"no {name}"
            expected = name if needed else f"no {name}"
            raise stored.wrong(name, f"{expected}, as architecture {architecture} in cfg.json says", found)
    subtracts = as_flag(config.get("apply_b_dec_to_input"))
    stored.apply_b_dec_to_input = architecture == "jumprelu" and subtracts is not False
    metadata = config.get("metadata")
    stored.metadata = dict(metadata) if isinstance(metadata, dict) else {}
    if "threshold" in stored.tensors:
        stored.tensors["threshold"].clamp_(min=0)  # its activations pass a ReLU first


def _sparsify(stored: Stored) -> None:
    config = _config(stored)
    stored.k = as_count(config.get("k"))
    if stored.k is None or stored.k > stored.sizes["d_sae"]:
        raise stored.wrong("k in cfg.json", f"1 to d_sae = {stored.sizes['d_sae']}", excerpt(config.get("k")))
    activation = config.get("activation", "topk")
    if activation != "topk" or as_flag(config.get("signed")):
        found = "signed topk" if activation == "topk" else excerpt(activation)
        raise stored.wrong("activation in cfg.json", "topk", found)
    stored.apply_b_dec_to_input = not as_flag(config.get("transcode"))


def _gemma_scope(stored: Stored) -> None:
    if "threshold" not in stored.tensors:
        raise stored.wrong("threshold", "a tensor [d_sae]", "none")


def _circuit_tracer(_: Stored) -> None:
    """Everything is in the tensors; without a threshold it is a ReLU."""


_INTERPRETERS: Mapping[str, Callable[[Stored], None]] = {
    "saelens": _saelens,
    "gemma_scope_1": _gemma_scope,
    "gemma_scope_2": _gemma_scope,
    "circuit_tracer": _circuit_tracer,
    "sparsify": _sparsify,
}


def _config(stored: Stored) -> dict[str, Any]:
    """The values of the `cfg.json` beside the weights."""
    directory = os.path.dirname(stored.path) or "."
    folder = Folder(path=directory, read_text=side_file_reader(directory))
    config: Config = read_json(folder, "cfg.json")
    if not config.present:
        raise stored.wrong("cfg.json", "it beside the weights", "no such file")
    if config.problem is not None:
        raise FormatError(f"{os.path.join(directory, config.name)}: {config.problem}")
    return config.values
