"""Decoders of known history, in plain numpy: what each step of a trainer or a converter does to the rows.

Every generator says which verdicts are right for what it makes. More than one is right only where
`docs/numerics.md` lists the pair as ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Rows32 = NDArray[np.float32]
Rows64 = NDArray[np.float64]

EPS32 = np.float32(2.0**-23)
U = 2.0**-24


@dataclass(frozen=True)
class Decoder:
    """Rows as they lie in a file, and what may be said about them.

    Attributes:
        history: How the rows were made.
        data: The elements, row-major and little endian.
        dtype: Their type as the scan names it.
        shape: Rows and elements of a row.
        right: Verdicts that are right.
        normaliser: Claims about the arithmetic that would be right.
        repeated: Whether rows were within about 1e-4 of unit before the last pass.
        lattice: The 16-bit format that rows went through before the last division, if any.
        strided: Whether the tensor reduces an axis that is not its last.
        other_axis: The rows over the other axis, where it was the one normalised.
    """

    history: str
    data: bytes
    dtype: str
    shape: tuple[int, int]
    right: frozenset[str]
    normaliser: frozenset[str] = field(default=frozenset())
    repeated: bool = False
    lattice: str | None = None
    strided: bool = False
    other_axis: Decoder | None = None


# --- formats ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """A format of at most 16 bits: precision, exponent of the smallest normal number, largest number."""

    precision: int
    smallest_exponent: int
    largest: float


FORMATS = {
    "bf16": Format(8, -126, float.fromhex("0x1.fep127")),
    "f16": Format(11, -14, 65504.0),
    "f8_e4m3": Format(4, -6, 448.0),
    "f8_e5m2": Format(3, -14, 57344.0),
    "f8_e4m3fnuz": Format(4, -7, 240.0),
    "f8_e5m2fnuz": Format(3, -15, 57344.0),
}


def rounded(values: NDArray[np.floating], name: str, *, truncate: bool = False) -> Rows32:
    """The nearest values (ties to even) that a format holds, or the next ones towards 0."""
    form = FORMATS[name]
    wide = values.astype(np.float64)
    _, exponent = np.frexp(wide)
    spacing = np.ldexp(1.0, np.maximum(exponent - 1, form.smallest_exponent) - form.precision + 1)
    steps = np.trunc(wide / spacing) if truncate else np.rint(wide / spacing)
    return np.clip(steps * spacing, -form.largest, form.largest).astype(np.float32)


def stored(values: NDArray[np.floating], name: str) -> bytes:
    """The bytes of values that a format holds exactly."""
    if name == "f64":
        return values.astype("<f8").tobytes()
    if name == "f32":
        return values.astype("<f4").tobytes()
    if name == "f16":
        return values.astype("<f2").tobytes()
    if name == "bf16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    table = np.array([decoded(code, name) for code in range(128)])
    codes = np.searchsorted(table[np.isfinite(table)], np.abs(values).astype(np.float64))
    sign = (values < 0) & (codes > 0)  # the fnuz formats have no negative zero
    return (codes + 128 * sign).astype(np.uint8).tobytes()


def decoded(code: int, name: str) -> float:
    """The value of a non-negative 8-bit code; infinite where it is no number."""
    form = FORMATS[name]
    mantissa = form.precision - 1
    exponent, fraction = code >> mantissa, code & ((1 << mantissa) - 1)
    if exponent:
        fraction += 1 << mantissa
    value = fraction * 2.0 ** (max(exponent, 1) - 1 + form.smallest_exponent - mantissa)
    return value if value <= form.largest else np.inf


# --- rows before anything was normalised -----------------------------------------------------------------


def gaussian(rng: np.random.Generator, rows: int, length: int) -> Rows64:
    return rng.standard_normal((rows, length))


def student(rng: np.random.Generator, rows: int, length: int) -> Rows64:
    return rng.standard_t(4.0, (rows, length))


def sparse(rng: np.random.Generator, rows: int, length: int) -> Rows64:
    """A tenth of the elements, and the noise that an optimiser leaves on the rest."""
    mask = rng.random((rows, length)) < 0.1
    mask[np.arange(rows), rng.integers(0, length, rows)] = True
    return rng.standard_normal((rows, length)) * np.where(mask, 1.0, 1e-4)


def peaky(rng: np.random.Generator, rows: int, length: int) -> Rows64:
    """One element carries most of each row."""
    values = rng.standard_normal((rows, length)) * 0.02
    values[np.arange(rows), rng.integers(0, length, rows)] += 1.0 + rng.random(rows)
    return values


Source = Callable[[np.random.Generator, int, int], Rows64]
SOURCES: dict[str, Source] = {"gaussian": gaussian, "student": student, "sparse": sparse, "peaky": peaky}


def scaled(rng: np.random.Generator, values: Rows64) -> Rows32:
    """Rows at norms between 0.3 and 3, in float32."""
    norms = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return (values / norms * rng.uniform(0.3, 3.0, (len(values), 1))).astype(np.float32)


# --- float32 norms, by order of summation ----------------------------------------------------------------


def lanes(values: Rows32, count: int) -> Rows32:
    """Squares in `count` running float32 sums, added up left to right."""
    rows, length = values.shape
    squares = np.zeros((rows, -(-length // count) * count), np.float32)
    squares[:, :length] = values * values
    sums = np.zeros((rows, count), np.float32)
    for start in range(0, squares.shape[1], count):
        sums += squares[:, start : start + count]
    total = sums[:, :1].copy()
    for lane in range(1, count):
        total += sums[:, lane : lane + 1]
    return total


SUMS: dict[str, Callable[[Rows32], Rows32]] = {
    "sequential": lambda values: np.cumsum(values * values, axis=1, dtype=np.float32)[:, -1:],
    "lanes8": lambda values: lanes(values, 8),
    "lanes16": lambda values: lanes(values, 16),
    "lanes32": lambda values: lanes(values, 32),
    "pairwise": lambda values: (values * values).sum(axis=1, keepdims=True, dtype=np.float32),
}

DIVISIONS: dict[str, Callable[[Rows32, Rows32], Rows32]] = {
    "divide": lambda values, total: values / np.sqrt(total),
    "reciprocal": lambda values, total: values * (np.float32(1.0) / np.sqrt(total)),
    "eps": lambda values, total: values / (np.sqrt(total) + EPS32),
    "small-eps": lambda values, total: values / (np.sqrt(total) + np.float32(1e-8)),
}


def normalised(values: Rows32, order: str = "lanes8", division: str = "divide", passes: int = 1) -> Rows32:
    for _ in range(passes):
        values = DIVISIONS[division](values, SUMS[order](values))
    return values


def normalised_wide(values: NDArray[np.floating]) -> Rows64:
    wide = values.astype(np.float64)
    return wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))


def normalised_in(values: Rows32, name: str, *, eps: float = 0.0, passes: int = 1) -> Rows32:
    """Division by a norm that was itself rounded to a 16-bit format, as its own tensors do it."""
    values = rounded(values, name)
    for _ in range(passes):
        norms = rounded(np.sqrt(SUMS["lanes8"](values)), name)
        if eps:
            norms = rounded(norms + np.float32(eps), name)
        values = rounded(values / norms, name)
    return values


def stepped(rng: np.random.Generator, values: Rows32, rate: float, *, project: bool) -> Rows32:
    """One optimiser step whose elements all move by about `rate`."""
    step = rng.standard_normal(values.shape) * rate
    if project:
        step -= (step * values).sum(axis=1, keepdims=True) * values
    return (values + step).astype(np.float32)


# --- decoders --------------------------------------------------------------------------------------------


def make(history: str, values: NDArray[np.floating], dtype: str, right: str, **known: object) -> Decoder:
    names = known.pop("normaliser", "")
    assert isinstance(names, str)
    return Decoder(
        history,
        stored(values, dtype),
        dtype,
        (values.shape[0], values.shape[1]),
        frozenset(right.split()),
        normaliser=frozenset(names.split()),
        **known,  # type: ignore[arg-type]
    )


def unit(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Normalised in float32 or wider, once or at every step."""
    plain = SOURCES[source](rng, rows, length)
    start = scaled(rng, plain)
    for order in SUMS:
        for division in ("divide", "reciprocal", "small-eps"):
            right = "unit unit-drifted" if order == "sequential" and source == "sparse" else "unit"
            for passes in (1, 4):
                yield make(
                    f"float32 {order} {division} x{passes}",
                    normalised(start, order, division, passes),
                    "f32",
                    right,
                    normaliser="f32",
                    repeated=passes > 1,
                    strided=order == "sequential",
                )
    yield make("float64 stored in float32", normalised_wide(start), "f32", "unit", normaliser="f64")
    yield make("float64", normalised_wide(plain), "f64", "unit", normaliser="f64")
    yield make("float32 widened", normalised(start), "f64", "unit", normaliser="f32")
    trained = normalised(start)
    for _ in range(5):
        trained = normalised(stepped(rng, trained, 1e-5 / np.sqrt(length), project=True))
    yield make("projected at every step", trained, "f32", "unit", normaliser="f32", repeated=True)


def short(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Divided by norm + eps."""
    start = scaled(rng, SOURCES[source](rng, rows, length))
    for order in ("lanes8", "lanes16", "pairwise"):
        values = normalised(start, order, "eps", 5)
        right = "unit-eps" if rows >= 64 else "unit"
        yield make(f"eps {order} x5", values, "f32", right, normaliser="norm+eps f32", repeated=True)
    once = normalised(normalised(start), "lanes8", "eps")
    yield make(
        "one eps pass on unit rows", once, "f32", "unit-eps unit", normaliser="f32 norm+eps", repeated=True
    )
    first = normalised(start, "lanes8", "eps")
    yield make("one eps pass", first, "f32", "unit-eps unit", normaliser="f32 norm+eps")
    level = normalised(start) * np.float32(1.2)
    even = normalised(level, "lanes8", "eps")
    yield make("one eps pass from one norm", even, "f32", "unit-eps unit", normaliser="f32 norm+eps")
    for eps in (1e-6, 1e-5):
        values = normalised(start) / np.float32(1.0 + eps)
        yield make(
            f"eps {eps}", values, "f32", "unit-eps uniform unit", normaliser="f32 norm+eps", repeated=True
        )
    for name, eps in (("bf16", 2.0**-7), ("f16", 2.0**-10)):
        values = normalised_in(start, name, eps=eps, passes=12)
        right = "unit-eps uniform" if name == "bf16" else "unit-eps uniform unit-rounded"
        yield make(f"{name} eps x12", values, name, right, normaliser="norm+eps low-precision", repeated=True)


def low_precision(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Stored in 16 bits or fewer, stored so once, or normalised in such arithmetic."""
    start = scaled(rng, SOURCES[source](rng, rows, length))
    done = normalised(start)
    for name in FORMATS:
        values = rounded(done, name)
        yield make(f"stored in {name}", values, name, "unit-rounded", normaliser="f32")
        if not name.endswith("fnuz"):
            yield make(f"{name} widened to float32", values, "f32", "unit-rounded", normaliser="f32")
    yield make("bf16 widened to float64", rounded(done, "bf16"), "f64", "unit-rounded", normaliser="f32")
    yield make(
        "bf16 truncated",
        rounded(done, "bf16", truncate=True),
        "bf16",
        "unit-rounded uniform unit-eps unit-drifted",
    )
    for name in ("bf16", "f16"):
        values = normalised_in(start, name)
        yield make(f"divided in {name}", values, name, "unit-rounded", normaliser="low-precision")
        again = normalised(rounded(start, name))
        yield make(
            f"{name} rows divided in float32",
            again,
            "f32",
            "unit unit-rounded",
            normaliser="f32",
            lattice=name,
        )
    values = rounded(normalised(rounded(start, "bf16")), "bf16")
    yield make("bf16 parameter, float32 division", values, "bf16", "unit-rounded", normaliser="f32")


def drifted(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Normalised, then moved by optimiser steps."""
    done = normalised(scaled(rng, SOURCES[source](rng, rows, length)))
    for share in (3e-3, 3e-2):
        values = stepped(rng, done, share / np.sqrt(length), project=False)
        yield make(f"one step of {share}", values, "f32", "unit-drifted unit")
    values = stepped(rng, done, 0.05 / np.sqrt(length), project=True)
    yield make("one projected step of 0.05", values, "f32", "unit-drifted uniform unit")
    exact = normalised_wide(done).astype(np.float32)
    for share in (1e-4, 1e-3):
        values = stepped(rng, exact, share / np.sqrt(length), project=False)
        yield make(f"float64, then one step of {share}", values, "f32", "unit-drifted unit")
    pulled = (exact * (1.0 - np.abs(rng.normal(3e-7, 5e-7, (rows, 1))))).astype(np.float32)
    yield make("float64, then pulled in", pulled, "f32", "unit-drifted unit")
    steps = done
    for _ in range(4):
        steps = stepped(rng, steps, 0.01 / np.sqrt(length), project=False)
    yield make("four steps of 0.01", steps, "f32", "unit-drifted unit")
    yield make("four steps, stored in bf16", rounded(steps, "bf16"), "bf16", "unit-rounded unit-drifted")


def uniform(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Normalised, then multiplied by one number."""
    start = scaled(rng, SOURCES[source](rng, rows, length))
    done = normalised(start)
    for factor in (0.09, 0.93, 1.25, 48.0, 1e-12, 1e15):
        yield make(f"times {factor}", done * np.float32(factor), "f32", "uniform")
    yield make("times 0.37 in float64", normalised_wide(start) * 0.37, "f64", "uniform")
    yield make(
        "bf16 rows times 3 in float32",
        rounded(done, "bf16") * np.float32(3.3),
        "f32",
        "uniform",
        lattice="bf16",
    )
    yield make("times 2.7, stored in bf16", rounded(done * np.float32(2.7), "bf16"), "bf16", "uniform")
    yield make("times 0.2, stored in f16", rounded(done * np.float32(0.2), "f16"), "f16", "uniform")


def bounded(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Norms cut at 1."""
    start = scaled(rng, SOURCES[source](rng, rows, length))
    cut = start / np.maximum(np.sqrt(SUMS["lanes8"](start)), np.float32(1.0))
    yield make("cut at 1", cut, "f32", "bounded")
    yield make("cut at 1, stored in bf16", rounded(cut, "bf16"), "bf16", "bounded")


def free(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Never normalised."""
    plain = SOURCES[source](rng, rows, length)
    done = normalised_wide(plain)
    for spread in (0.12, 0.5):
        values = (done * rng.lognormal(0.0, spread, (rows, 1))).astype(np.float32)
        yield make(f"lognormal norms, {spread}", values, "f32", "free")
        yield make(f"lognormal norms, {spread}, bf16", rounded(values, "bf16"), "bf16", "free")
    values = (done * rng.uniform(0.2, 0.5, (rows, 1))).astype(np.float32)
    yield make("norms around 0.35", values, "f32", "free")
    start = (gaussian(rng, rows, length) / np.sqrt(length)).astype(np.float32)
    if 1.0 / np.sqrt(2.0 * length) > 0.05:
        yield make("untrained, independent elements", start, "f32", "free")
    else:
        yield make("untrained, independent elements", start, "f32", "free unit-drifted")


def wrong_axis(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Normalised over the latents."""
    plain = (SOURCES[source](rng, rows, length) * rng.lognormal(0.0, 0.3, (rows, 1))).astype(np.float32)
    columns = normalised(np.ascontiguousarray(plain.T), "sequential")
    for name in ("f32", "bf16"):
        values = rounded(columns, name) if name == "bf16" else columns
        other = make("columns", values, name, "unit unit-rounded unit-drifted", strided=True)
        yield make(f"other axis, {name}", values.T.copy(), name, "wrong-axis", other_axis=other)


def odd(rng: np.random.Generator, rows: int, length: int, source: str) -> Iterator[Decoder]:
    """Rows that cannot be judged, among rows that can."""
    done = normalised(scaled(rng, SOURCES[source](rng, rows, length)))
    for special in (np.nan, np.inf, -np.inf):
        values = done.copy()
        values[rows // 2, length // 2] = special
        yield make(f"one {special}", values, "f32", "undecided")
    values = done.copy()
    values[rng.random(rows) < 0.4] = 0.0
    yield make("zero rows", values, "f32", "unit", normaliser="f32")
    values[1:] = 0.0
    yield make("one row that is not zero", np.vstack([values, done[:1]]), "f32", "unit", normaliser="f32")
    yield make("only zeros", np.zeros_like(done), "f32", "free")
    values = done.copy()
    values[rows // 3] *= np.float32(1.5)
    yield make("one outlier", values, "f32", "unit-drifted free")


FAMILIES = {
    family.__name__: family
    for family in (unit, short, low_precision, drifted, uniform, bounded, free, wrong_axis, odd)
}
