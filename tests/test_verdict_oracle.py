"""The scan's shortcuts change nothing: figures and verdicts are those of the rules applied to every row."""

from __future__ import annotations

import numpy as np
import pytest

from histories import FAMILIES, FORMATS, SOURCES, Decoder, normalised_wide, rounded, stored
from unitrow._native import decoder_stats
from unitrow.verdict import decide
from verdict_oracle import Oracle

DTYPES = ("f32", "f64", *FORMATS)


def elements(decoder: Decoder) -> np.ndarray:
    """The elements as float64."""
    if decoder.dtype == "bf16":
        values = (np.frombuffer(decoder.data, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(decoder.data, {"f64": "<f8", "f32": "<f4", "f16": "<f2"}[decoder.dtype])
    return values.astype(np.float64).reshape(decoder.shape)


def compare(stats: dict, oracle: Oracle) -> None:
    assert stats["grid"] == oracle.grid
    assert stats["judged_rows"] == len(oracle.n)
    assert stats["rows_within"] == len(oracle.n) - oracle.below.sum() - oracle.above.sum()
    assert stats["rows_above"] == oracle.above.sum()
    assert stats["rows_below"] == oracle.below.sum()
    assert stats["rows_next_below"] == (None if oracle.above.any() else oracle.next_below)
    assert stats["shrunk_range_holds"] == (oracle.shrunk_range if oracle.low else None)
    if stats["common_scale_holds"] is not None:
        assert stats["common_scale_holds"] == oracle.common_scale
    if stats["uniform_envelope_holds"] is not None:
        assert stats["uniform_envelope_holds"] == oracle.envelope
    close = {"rtol": 1e-9, "atol": 1e-16}
    np.testing.assert_allclose(stats["tolerance_median"], np.median(oracle.tolerance[oracle.sample]), **close)
    np.testing.assert_allclose(stats["tolerance_max"], oracle.tolerance[oracle.sample].max(), **close)
    np.testing.assert_allclose(
        stats["independent_spread"], np.median(oracle.q[oracle.sample]), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(stats["median"], oracle.c, rtol=1e-14)
    np.testing.assert_allclose(stats["robust_sd"], oracle.robust_sd, rtol=1e-6, atol=1e-15)
    ratio = np.sqrt(np.mean((oracle.delta[oracle.sample] / oracle.s[oracle.sample]) ** 2))
    np.testing.assert_allclose(stats["rounding_ratio"], ratio, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in {"unit", "odd"}])
def test_decoders_of_known_history(family: str, source: str) -> None:
    rng = np.random.default_rng([7, *map(ord, family + source)])
    for decoder in FAMILIES[family](rng, 200, 96, source):
        if decoder.dtype.startswith("f8"):
            continue
        stats = decoder_stats(decoder.data, decoder.dtype, *decoder.shape, decoder.strided, chunk_rows=37)
        oracle = Oracle(elements(decoder), decoder.dtype)
        compare(stats, oracle)
        expected = oracle.verdict()
        if expected == "unit-eps" and stats["lattice_f16_rows"] + stats["lattice_bf16_rows"]:
            expected = "unit"  # the one rule that the oracle leaves out
        assert decide(stats).verdict == expected, decoder.history


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
def test_rows_at_every_distance(dtype: str, seed: int) -> None:
    """Norms on both sides of every limit, of either or of one sign, around 1 or around another norm."""
    rng = np.random.default_rng([seed, DTYPES.index(dtype)])
    rows, length = int(rng.integers(1, 700)), int(rng.choice([1, 2, 3, 17, 64, 300]))
    source = list(SOURCES.values())[seed % len(SOURCES)]
    distance = 10.0 ** rng.uniform(
        *rng.choice([[-9.0, -1.0], [-7.0, -4.0], [-4.0, -1.5], [-12.0, -6.0]]), rows
    )
    sign = rng.choice([[-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]])
    norms = rng.choice([1.0, 1.0, 0.7, 1.0 - 1e-5]) * (1.0 + distance * rng.choice(sign, rows))
    values = normalised_wide(source(rng, rows, length)) * norms[:, None]
    values[rng.random(rows) < rng.choice([0.0, 0.3, 0.95])] = 0.0
    if dtype == "f32":
        values = values.astype(np.float32)
        if seed % 3 == 0:  # a coarser format in some rows only: the effective grid is that of all rows
            values[: rows // 2] = rounded(values[: rows // 2], "bf16")
    elif dtype != "f64":
        values = rounded(values, dtype)
    oracle = Oracle(values.astype(np.float64), dtype)
    data = stored(values, dtype)
    stats = decoder_stats(data, dtype, rows, length, chunk_rows=int(rng.integers(1, rows + 1)))
    if not len(oracle.n):
        assert decide(stats).verdict == "free"
        return
    compare(stats, oracle)
    if not (stats["lattice_bf16_rows"] or stats["lattice_f16_rows"]):
        assert decide(stats).verdict == oracle.verdict()


@pytest.mark.parametrize("family", FAMILIES)
def test_figures_do_not_depend_on_how_rows_come(family: str) -> None:
    rng = np.random.default_rng(11)
    for decoder in FAMILIES[family](rng, 150, 64, "student"):
        whole = decoder_stats(decoder.data, decoder.dtype, *decoder.shape, decoder.strided)
        for chunk_rows in (1, 64, 149):
            parts = decoder_stats(
                decoder.data, decoder.dtype, *decoder.shape, decoder.strided, chunk_rows=chunk_rows
            )
            assert parts == whole, decoder.history
