"""Decoders of known history get a verdict that is right, and no claim that is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from histories import FAMILIES, SOURCES, Decoder
from unitrow._native import decoder_stats
from unitrow.verdict import decide

LENGTHS = (64, 200, 768, 2304)


def measured(decoder: Decoder) -> dict:
    return decoder_stats(decoder.data, decoder.dtype, *decoder.shape, decoder.strided)


def mistakes(decoder: Decoder) -> list[str]:
    stats = measured(decoder)
    other = measured(decoder.other_axis) if decoder.other_axis else None
    verdict = decide(stats, other_axis=other)
    found = []
    if verdict.verdict not in decoder.right:
        found.append(f"{verdict.verdict}, not {sorted(decoder.right)}: {verdict.explanation}")
    normaliser, passes = verdict.history["normaliser"], verdict.history["passes"]
    if normaliser["strength"] != "inconclusive" and normaliser["value"] not in decoder.normaliser:
        found.append(f"claims {normaliser}, not {sorted(decoder.normaliser)}")
    if passes["strength"] != "inconclusive" and not decoder.repeated:
        found.append(f"claims {passes}")
    if "certain" in normaliser["evidence"] and decoder.lattice is None:
        found.append(f"claims a lattice: {normaliser['evidence']}")
    return [f"{decoder.history}: {one}" for one in found]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_wrong_verdict_and_no_wrong_claim(family: str, source: str, length: int) -> None:
    rng = np.random.default_rng([length, *map(ord, family + source)])
    rows = 300
    wrong = [one for decoder in FAMILIES[family](rng, rows, length, source) for one in mistakes(decoder)]
    assert not wrong, "\n".join(wrong)
