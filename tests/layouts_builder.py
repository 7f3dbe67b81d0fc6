"""Folders made of headers and configuration texts, as a layout sees them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from unitrow.layouts import FileMeta, Folder, Match, TensorMeta, recognise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

D_IN, D_OUT, D_SAE = 8, 12, 32

Shapes = dict[str, Any]


def tensors(shapes: Shapes, dtype: str = "F32") -> tuple[TensorMeta, ...]:
    """Tensor headers; a shape may be given as `(dtype, shape)`."""
    metas = []
    for name, shape in shapes.items():
        own, extents = shape if shape and isinstance(shape[0], str) else (dtype, shape)
        metas.append(TensorMeta(name, own, tuple(extents)))
    return tuple(metas)


def container_of(name: str) -> str:
    ending = name.rsplit(".", 1)[-1]
    return ending if ending in {"safetensors", "npz", "npy"} else "unknown"


def recognise_folder(
    files: Mapping[str, Shapes],
    texts: Mapping[str, Any] | None = None,
    *,
    dtype: str = "F32",
    others: Sequence[str] = (),
    path: str = "run",
) -> list[Match]:
    """Recognise a folder of tensor files; texts that are neither bytes nor str are written as JSON."""
    stored = {
        name: text
        if isinstance(text, bytes)
        else (text if isinstance(text, str) else json.dumps(text)).encode()
        for name, text in (texts or {}).items()
    }
    folder = Folder(path, frozenset({*files, *stored, *others}), stored.get, tuple(path.split("/")))
    metas = [FileMeta(name, container_of(name), tensors(shapes, dtype)) for name, shapes in files.items()]
    return recognise(folder, metas)


def recognise_one(
    files: Mapping[str, Shapes], texts: Mapping[str, Any] | None = None, **kwargs: Any
) -> Match:
    """Recognise a folder that is one checkpoint."""
    (match,) = recognise_folder(files, texts, **kwargs)
    return match


def codes(match: Match) -> list[str]:
    return [finding.code for finding in match.findings]


def axes(match: Match) -> tuple[int | None, int | None]:
    (decoder,) = match.decoders
    return decoder.latent_axis, decoder.reduce_axis


def sae(d_in: int = D_IN, d_sae: int = D_SAE, d_out: int | None = None, **more: Any) -> Shapes:
    """Tensors of a plain SAE under the names of SAELens."""
    d_out = d_in if d_out is None else d_out
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_enc": (d_sae,), "b_dec": (d_out,)}
    return shapes | more


def saelens_config(
    architecture: str = "standard", version: str | None = "6.54.12", **more: Any
) -> dict[str, Any]:
    """What `cfg.json` holds since sae-lens 6."""
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "metadata": {"sae_lens_version": "6.54.12", "sae_lens_training_version": version},
    }
    return config | more
