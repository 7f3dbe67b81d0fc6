"""Pieces of text that every format for people shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " .:-=+*#@"


def escape(text: str) -> str:
    r"""Text from a file, made harmless for a terminal: `\x1b`, `\u202e` and the like are spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isprintable() and not 0xD800 <= ord(char) <= 0xDFFF else _spelled(char) for char in text
    )


def _spelled(char: str) -> str:
    point = ord(char)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def size(count: int) -> str:
    """Bytes for people: `1.2 GB`; decimal units, as disks and hubs count."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count_of(number: int, noun: str) -> str:
    """`1 checkpoint`, `2 checkpoints`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def sparkline(counts: Sequence[int], *, cells: int = 16, ascii_only: bool = False) -> str:
    """Bin counts as one line of blocks, on a logarithmic scale so that a few outliers stay visible."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    merged = [0] * min(cells, len(counts))
    for place, count in enumerate(counts):
        merged[place * len(merged) // len(counts)] += count
    top = math.log1p(max(merged, default=0)) or 1.0
    last = len(blocks) - 1
    return "".join(blocks[math.ceil(last * math.log1p(count) / top)] for count in merged)


def decoder_name(decoder: dict[str, Any]) -> str:
    """`W_dec F32 1024x384`, with the latent axis where it is not the first."""
    shape = "×".join(str(length) for length in decoder["shape"])
    axis = decoder["latent_axis"]
    where = "" if axis in (0, None) else f" [axis {axis}]"
    return f"{escape(decoder['tensor'])} {decoder['dtype']} {shape}{where}"
