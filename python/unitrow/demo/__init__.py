"""A small real set, and variants of it that show what an audit can tell apart.

The package carries the first 64 latents of two real JumpReLU transcoders (see `examples/README.md` in the
repository): one whose decoder rows were projected after every optimiser step, one never constrained.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from unitrow import _native

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

LATENTS = 64
"""Latents that the package carries of each transcoder."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One checkpoint of the demonstration.

    Attributes:
        path: Where it stands, relative to the demonstration's folder.
        verdict: What an audit must say of it.
        integrity: What an audit must say of its bytes.
    """

    path: str
    verdict: str
    integrity: str = "pass"


VARIANTS = (
    Variant("1-as-trained", "unit"),
    Variant("2-gemma-scope-layout/params.npz", "unit"),
    Variant("3-stored-in-bf16", "unit-rounded"),
    Variant("4-upcast-again", "unit-rounded"),
    Variant("5-never-constrained", "free"),
    Variant("6-truncated", "undecided", "fail"),
)


def write_variants(directory: Path) -> None:
    """Write the demonstration's checkpoints below `directory`."""
    unit, free = load("unit"), load("free")
    saelens = json.loads(_carried("unit.cfg.json"))
    bf16 = {name: _to_bf16(array) for name, array in unit.items()}

    _saelens(directory / "1-as-trained", saelens, unit)
    (directory / "2-gemma-scope-layout").mkdir(parents=True)
    np.savez(directory / "2-gemma-scope-layout" / "params.npz", allow_pickle=False, **unit)
    _saelens(directory / "3-stored-in-bf16", {**saelens, "dtype": "bfloat16"}, bf16)
    upcast = {name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in bf16.items()}
    _saelens(directory / "4-upcast-again", saelens, upcast)
    gemma = directory / "5-never-constrained"
    gemma.mkdir()
    (gemma / "config.json").write_bytes(_carried("free.config.json"))
    write(gemma / "params.safetensors", free)
    truncated = directory / "6-truncated"
    _saelens(truncated, saelens, unit)
    whole = truncated / "sae_weights.safetensors"
    os.truncate(whole, whole.stat().st_size * 2 // 3)


def load(name: str) -> Arrays:
    """Arrays of one of the two carried files, `unit` or `free`, by tensor name; float32."""
    with resources.as_file(resources.files("unitrow.demo") / f"{name}.safetensors") as path:
        from unitrow.reading import open as open_checkpoint

        with open_checkpoint(path) as checkpoint:
            return {key: np.array(checkpoint[key].numpy()) for key in checkpoint.keys()}  # noqa: SIM118


def write(path: Path, arrays: Arrays) -> None:
    """Write arrays as safetensors; uint16 arrays hold bfloat16 bits."""
    dtypes = {"float32": "F32", "uint16": "BF16"}
    tensors = [
        (name, dtypes[array.dtype.name], list(array.shape), array.tobytes()) for name, array in arrays.items()
    ]
    _native.write_safetensors(os.fspath(path), tensors, [])


def _carried(name: str) -> bytes:
    return (resources.files("unitrow.demo") / name).read_bytes()


def _saelens(directory: Path, config: dict[str, Any], arrays: Arrays) -> None:
    directory.mkdir(parents=True)
    (directory / "cfg.json").write_text(json.dumps({**config, "d_sae": LATENTS}), encoding="utf-8")
    write(directory / "sae_weights.safetensors", arrays)


def _to_bf16(array: NDArray[Any]) -> NDArray[Any]:
    """Bits of the nearest bfloat16, ties to even; the values here are finite."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
