"""Files that the reference writers wrote are never blamed: every dtype, class of shapes and of values."""

from __future__ import annotations

import numpy as np
import pytest
from interop_case import D_IN, D_SAE

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

SHAPES = {
    "scalar": (),
    "vector": (4099,),
    "empty": (0, 16),
    "matrix": (257, 129),
    "wide": (3, 20_000),
    "decoder": (1024, 192),
    "slices": (4, 64, 128),
    "sites": (64, 5, 3, 32),
}

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
    "float8_e5m2fnuz", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64",
]  # fmt: skip


def gaussian(generator, shape):
    return generator.normal(size=shape) * 0.02


def student(generator, shape):
    return generator.standard_t(3, size=shape) * 0.01


def sparse(generator, shape):
    return generator.normal(size=shape) * (generator.random(size=shape) < 0.1)


def tiny(generator, shape):
    """Small enough that many are subnormal in float16."""
    return generator.normal(size=shape) * 3e-5


def padded(generator, shape):
    """The last quarter of the columns is zero."""
    values = gaussian(generator, shape)
    if values.ndim > 1:
        values[..., -(shape[-1] // 4) :] = 0
    return values


KINDS = [gaussian, student, sparse, tiny, padded]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_safetensors(torch, safetensors_torch, audit, tmp_path, dtype, kind):
    if kind is tiny and dtype.startswith("float8"):
        pytest.skip("rounds to zero throughout")
    generator = np.random.default_rng(0)
    tensors = {}
    for name, shape in SHAPES.items():
        values = kind(generator, shape)
        if "int" in dtype or dtype == "bool":
            values = np.abs(values) > 0.01 if dtype == "bool" else np.abs(values) * 1000
        tensors[name] = torch.tensor(np.asarray(values)).to(getattr(torch, dtype))
    safetensors_torch.save_file(tensors, tmp_path / "model.safetensors")
    audit(tmp_path, expect="any")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f4", "<c8", "<i8", "<i4", "<u2", "|u1", "|b1"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy(audit, tmp_path, save, dtype, kind):
    generator = np.random.default_rng(0)
    arrays = {}
    for name, shape in SHAPES.items():
        values = kind(generator, shape)
        arrays[name] = np.asarray(np.abs(values) * 1000 if dtype[-2] in "iu" else values).astype(dtype)
    arrays["fortran"] = np.asfortranarray(arrays["matrix"])
    save(tmp_path / "params.npz", **arrays)
    audit(tmp_path, expect="any")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_fresh_coders(torch, sae_lens, sparsify, audit, tmp_path, dtype):
    """As they are initialised: zero biases, constant thresholds, decoders that start at zero."""
    from test_saelens import SAES, TRANSCODERS, build

    for name in SAES + TRANSCODERS:
        build(sae_lens, name, dtype=dtype, d_in=64, d_sae=2048).save_model(tmp_path / name)
    for transcode in (False, True):
        config = sparsify.SparseCoderConfig(
            num_latents=D_SAE * 16, k=4, transcode=transcode, skip_connection=transcode
        )
        coder = sparsify.SparseCoder(D_IN * 4, config, dtype=getattr(torch, dtype))
        coder.save_to_disk(tmp_path / f"sparsify-{transcode}")
    audit(tmp_path, expect="any")
