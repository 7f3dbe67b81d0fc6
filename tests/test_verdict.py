"""Verdicts on real decoders, their order, their words and their smallest cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from histories import FAMILIES, SOURCES, make, normalised
from unitrow._native import decoder_stats
from unitrow.verdict import (
    ORDER,
    Verdict,
    decide,
    needs_other_axis,
    undecided,
    without_decoder,
    worst_verdict,
)

EXAMPLES = Path(__file__).parent.parent / "examples"
REAL = {
    "unit": (EXAMPLES / "minilm-layer3-unit" / "sae_weights.safetensors", "W_dec"),
    "free": (
        EXAMPLES / "minilm-layer3-free" / "transcoder" / "layer_3_width_1k_l0_small" / "params.safetensors",
        "w_dec",
    ),
}


def real_rows(name: str) -> np.ndarray:
    """A real transcoder's decoder, read without any help of the package."""
    path, tensor = REAL[name]
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + length])[tensor]
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    return np.frombuffer(data[start:end], "<f4").reshape(entry["shape"])


def stats_of(values: np.ndarray, dtype: str = "f32") -> dict:
    decoder = make("", values, dtype, "")
    return decoder_stats(decoder.data, decoder.dtype, *decoder.shape)


def test_the_real_unit_transcoder_shows_how_it_was_trained() -> None:
    stats = stats_of(real_rows("unit"))
    verdict = decide(stats, expected="yes")
    assert verdict.verdict == "unit"
    assert math.isclose(stats["max_abs_deviation"], 1.30e-07, rel_tol=0.01)
    assert verdict.history["normaliser"]["value"] == "f32"
    assert verdict.history["passes"]["value"] == "repeated"
    assert verdict.history["passes"]["strength"] == "suggestive"


def test_the_real_free_transcoder_is_free() -> None:
    stats = stats_of(real_rows("free"))
    assert decide(stats).verdict == "free"
    assert math.isclose(stats["mean"], 0.36, abs_tol=0.005)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows * np.float32(2.5), "uniform"),
        (lambda rows: rows * np.linspace(0.5, 1.5, len(rows), dtype=np.float32)[:, None], "free"),
        (lambda rows: rows + np.float32(1e-4), "unit-drifted"),
        (lambda rows: np.where(np.arange(len(rows))[:, None] % 7 == 0, 0, rows), "unit"),
    ],
)
def test_variants_of_the_real_unit_transcoder(change, expected: str) -> None:
    assert decide(stats_of(change(real_rows("unit")).astype(np.float32))).verdict == expected


@pytest.mark.parametrize("length", [2, 3, 8, 33])
@pytest.mark.parametrize("source", SOURCES)
def test_short_rows(source: str, length: int) -> None:
    rng = np.random.default_rng(length)
    for family in ("unit", "low_precision", "uniform", "free", "odd"):
        for decoder in FAMILIES[family](rng, 400, length, source):
            stats = decoder_stats(decoder.data, decoder.dtype, *decoder.shape, decoder.strided)
            verdict = decide(stats)
            assert verdict.verdict in decoder.right, decoder.history
            claim = verdict.history["normaliser"]
            assert claim["strength"] == "inconclusive" or claim["value"] in decoder.normaliser


def test_one_row_shares_its_norm_with_none() -> None:
    row = np.full((1, 50), 0.3, np.float32)
    assert decide(stats_of(row)).verdict == "free"
    assert decide(stats_of(np.vstack([row, row]))).verdict == "uniform"


def test_rows_of_few_bits_that_are_exactly_unit_are_unit() -> None:
    identity = np.eye(300, dtype=np.float32)
    assert decide(stats_of(identity)).verdict == "unit"
    assert decide(stats_of(identity, "bf16")).verdict == "unit-rounded"


def test_the_worst_verdict_decides() -> None:
    assert ORDER == (
        "none",
        "unit",
        "unit-rounded",
        "unit-eps",
        "unit-drifted",
        "uniform",
        "bounded",
        "free",
        "wrong-axis",
        "undecided",
    )
    assert worst_verdict(["unit", "free", "uniform", "free"]) == 1
    assert worst_verdict(["none"]) == 0


def test_without_rows_there_are_words_and_no_claims() -> None:
    for verdict in (undecided("the axis is not determined"), without_decoder("saelens")):
        assert verdict.explanation.endswith(".")
        assert {claim["strength"] for claim in verdict.history.values()} == {"inconclusive"}
    assert decide(stats_of(real_rows("free")), latent_axis_known=False).verdict == "undecided"


def told(verdict: Verdict) -> str:
    return " ".join([verdict.explanation, *(claim["evidence"] for claim in verdict.history.values())])


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_sentences_without_gaps(family: str) -> None:
    rng = np.random.default_rng(3)
    for decoder in FAMILIES[family](rng, 150, 80, "gaussian"):
        stats = decoder_stats(decoder.data, decoder.dtype, *decoder.shape, decoder.strided)
        other = decoder.other_axis
        over = decoder_stats(other.data, other.dtype, *other.shape, other.strided) if other else None
        for expected in ("yes", "no", "unknown"):
            verdict = decide(stats, expected=expected, other_axis=over)
            text = told(verdict)
            assert text.isascii()
            assert verdict.explanation[0] in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
            assert verdict.explanation.endswith(".")
            assert not {"None", "nan", "inf "} & set(verdict.explanation.split())
            assert len(verdict.explanation) < 400
            json.dumps([verdict.evidence, verdict.history], allow_nan=False)
        assert needs_other_axis(stats) == (decide(stats).verdict in {"free", "bounded"})


def test_figures_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((500, 40)).astype(np.float32)
    values[7] = 0.0
    norms = np.sqrt((values.astype(np.float64) ** 2).sum(axis=1))
    judged = norms[norms > 0]
    stats = stats_of(values)
    assert stats["zero_rows"] == 1
    assert (stats["min"], stats["max"]) == pytest.approx((judged.min(), judged.max()), rel=1e-15)
    assert stats["mean"] == pytest.approx(judged.mean(), rel=1e-14)
    assert stats["standard_deviation"] == pytest.approx(judged.std(), rel=1e-12)
    assert stats["max_abs_deviation_ulp"] == pytest.approx(abs(judged - 1).max() * 2**24, rel=1e-14)
    worst = sorted(range(500), key=lambda row: (-abs(norms[row] - 1) if norms[row] else 0, row))[:8]
    assert [row for row, _ in stats["worst_rows"]] == worst
    counts, _ = np.histogram(judged - 1, [-np.inf, *stats["histogram_edges"], np.inf])
    assert stats["histogram_counts"] == counts.tolist()
    assert sum(stats["histogram_counts"]) == stats["judged_rows"] == 499


def test_a_normalised_set_and_a_free_one_fill_different_bins() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((500, 40)).astype(np.float32)
    unit, free = stats_of(normalised(values)), stats_of(values)
    middle = len(unit["histogram_counts"]) // 2
    assert sum(unit["histogram_counts"][middle - 4 : middle + 5]) == 500
    assert sum(free["histogram_counts"][middle - 4 : middle + 5]) == 0
