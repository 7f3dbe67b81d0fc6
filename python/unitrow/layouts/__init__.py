"""Which tensors of a checkpoint are decoders, and which of their axes holds the latents.

`recognise` turns file names, tensor names, shapes and configuration into a plan; no value is read.
"""

from __future__ import annotations

from unitrow.layouts.model import Decoder, FileMeta, Folder, LayoutFinding, Match, TensorMeta

__all__ = ["Decoder", "FileMeta", "Folder", "LayoutFinding", "Match", "TensorMeta"]
