"""Small activations of known structure, as tensors and as shards."""

from __future__ import annotations

import torch

from unitrow import _native

D_IN, D_OUT = 6, 10


def pairs(rows, seed=0, d_in=D_IN, d_out=D_OUT):
    """Inputs, and a sparse function of them; neither has unit scale."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d_in, 4 * d_out, generator=torch.Generator().manual_seed(99))
    back = torch.randn(4 * d_out, d_out, generator=torch.Generator().manual_seed(98))
    x = 3 * torch.randn(rows, d_in, generator=generator)
    return x, torch.relu(x @ mix - 4) @ back / 5 + 1


def write_shards(folder, inputs, targets, sizes, dtype="F32", site="mlp"):
    """Shards of the given numbers of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    at = 0
    for number, rows in enumerate(sizes):
        path = folder / f"activations-{number:05d}-of-{len(sizes):05d}.safetensors"
        tensors = [
            (name, dtype, list(part.shape), part.to(kinds[dtype]).view(torch.uint8).numpy().tobytes())
            for name, part in (("inputs", inputs[at : at + rows]), ("targets", targets[at : at + rows]))
        ]
        metadata = [("model", "none"), ("site", site), ("tokens", str(rows))]
        _native.write_safetensors(str(path), tensors, metadata)
        at += rows
    return folder
