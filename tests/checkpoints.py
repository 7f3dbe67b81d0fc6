"""Checkpoints written the plain way, so that tests do not trust the code under test to write their input."""

from __future__ import annotations

import json
import struct

import numpy as np

_NAMES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "bool": "BOOL"}


def safetensors_bytes(arrays, metadata=None, *, bf16=()):
    """A safetensors file as bytes; arrays named in `bf16` are uint16 bit patterns."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        dtype = "BF16" if name in bf16 else _NAMES[array.dtype.name]
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def to_bf16(array):
    """Bits of the nearest bfloat16 of finite float32 values."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def unit_rows(rows, length, seed=0):
    """Gaussian rows, normalised in float64 and rounded to float32."""
    matrix = np.random.default_rng(seed).normal(size=(rows, length))
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def saelens_arrays(decoder, d_in=None, *, jumprelu=True):
    """Tensors of a SAELens file around a decoder [d_sae, d_out]."""
    d_sae, d_out = decoder.shape
    generator = np.random.default_rng(1)
    arrays = {
        "W_dec": decoder,
        "W_enc": generator.normal(size=(d_in or d_out, d_sae)).astype(np.float32),
        "b_dec": generator.normal(size=d_out).astype(np.float32),
        "b_enc": generator.normal(size=d_sae).astype(np.float32),
    }
    if jumprelu:
        arrays["threshold"] = np.full(d_sae, 0.1, np.float32)
    return arrays


def write_saelens(directory, decoder, **config):
    """A SAELens JumpReLU transcoder folder."""
    directory.mkdir(parents=True, exist_ok=True)
    d_sae, d_out = decoder.shape
    fields = {
        "architecture": "jumprelu_transcoder",
        "d_in": d_out,
        "d_out": d_out,
        "d_sae": d_sae,
        "dtype": "float32",
        **config,
    }
    (directory / "cfg.json").write_text(json.dumps(fields))
    (directory / "sae_weights.safetensors").write_bytes(safetensors_bytes(saelens_arrays(decoder)))
    return directory
