"""The rules of `docs/numerics.md`, applied naively: every quantity of every row, and no bounds.

Slow and plain on purpose. Written from the page, not from the scan that it checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U = 2.0**-24
Wide = NDArray[np.float64]

# name: significand bits, exponent of the smallest normal number, largest number
FORMATS = {
    "f8_e5m2": (3, -14, 57344.0),
    "f8_e4m3": (4, -6, 448.0),
    "bf16": (8, -126, float.fromhex("0x1.fep127")),
    "f16": (11, -14, 65504.0),
    "f32": (24, -126, float(np.finfo(np.float32).max)),
    "f64": (53, -1022, float(np.finfo(np.float64).max)),
    "f8_e4m3fnuz": (4, -7, 240.0),
    "f8_e5m2fnuz": (3, -15, 57344.0),
}
CANDIDATES = ("f8_e5m2", "f8_e4m3", "bf16", "f16", "f32")


def on_grid(values: Wide, name: str) -> bool:
    precision, smallest, largest = FORMATS[name]
    _, exponent = np.frexp(values)
    spacing = np.ldexp(1.0, np.maximum(exponent - 1, smallest) - precision + 1)
    return bool(np.all(np.abs(values) <= largest) and np.all(np.rint(values / spacing) * spacing == values))


def half_ulps(values: Wide, name: str) -> Wide:
    precision, smallest, _ = FORMATS[name]
    _, exponent = np.frexp(values)
    halves = np.ldexp(1.0, np.maximum(exponent - 1, smallest) - precision)
    return np.where(values == 0.0, 0.0, halves)


@dataclass
class Oracle:
    """Every figure of every judged row."""

    rows: Wide
    dtype: str

    def __post_init__(self) -> None:
        nonzero = self.rows[self.rows != 0.0]
        self.grid = self.dtype
        for name in CANDIDATES:
            if len(nonzero) >= 256 and FORMATS[name][0] < FORMATS[self.dtype][0] and on_grid(nonzero, name):
                self.grid = name
                break
        self.tail = np.sqrt(2.0 * np.log(2.0 * len(self.rows) / 1e-6))
        self.norms = np.sqrt((self.rows**2).sum(axis=1))
        self.judged = self.norms > 0.0
        self.w = np.abs(self.rows[self.judged])
        self.n = self.norms[self.judged]
        self.delta = self.n - 1.0
        self.u = 2.0 ** -FORMATS[self.grid][0]
        self.low = self.u >= 2.0**-11
        self._tolerances()
        self.c = float(np.median(self.n))
        self.robust_sd = 1.4826 * float(np.median(np.abs(self.n - self.c)))

    def cast(self, name: str) -> tuple[Wide, Wide]:
        """s and C on a grid."""
        h = half_ulps(self.w, name)
        s = np.sqrt((self.w**2 * h**2).sum(axis=1) / 3.0) / self.n**2
        worst = (self.w * h + h**2 / 2.0).sum(axis=1) / self.n**2
        return s, np.minimum(worst, self.tail * s)

    def _tolerances(self) -> None:
        self.s, c = self.cast(self.grid)
        _, self.bf16_cast = self.cast("bf16")
        square, unit = self.w**2, (U * self.n**2)[:, None]
        lost = np.where(square <= 8.0 * unit, np.minimum(square, unit), 0.0).sum(axis=1) / 2.0 / self.n**2
        k = (self.w != 0.0).sum(axis=1)
        walk = self.tail * np.sqrt(k / 12.0)
        self.summing = U * (walk + 3.0) + lost
        if self.grid == "f64":
            self.tolerance = c + 2.0**-53 * (2.0 * walk + 3.0)
        elif self.low:
            self.tolerance = c + self.summing + self.u * (1.0 + self.u)
        else:
            self.tolerance = c + self.summing
        self.shrunk = 3.0 * self.u + c + self.summing
        fourth = (self.w**4).sum(axis=1) / self.n**4
        self.q = np.sqrt(np.maximum(fourth - 1.0 / self.rows.shape[1], 0.0)) / 2.0

    # --- what the scan counts over all rows

    @property
    def unit(self) -> bool:
        return bool(np.all(np.abs(self.delta) <= self.tolerance))

    @property
    def below(self) -> NDArray[np.bool_]:
        return self.delta < -self.tolerance

    @property
    def above(self) -> NDArray[np.bool_]:
        return self.delta > self.tolerance

    @property
    def next_below(self) -> int:
        return int((self.below & (self.delta >= -21.0 * self.tolerance)).sum())

    @property
    def common_scale(self) -> bool:
        return bool(np.all(np.abs(self.n / self.c - 1.0) <= self.tolerance))

    @property
    def envelope(self) -> bool:
        limit = 1.01 * 2.0**-8 + self.bf16_cast + self.tolerance
        return bool(np.all(np.abs(self.n / self.c - 1.0) <= limit))

    @property
    def shrunk_range(self) -> bool:
        return bool(np.all((self.delta > -self.shrunk) & (self.delta <= self.tolerance)))

    # --- the sample

    @property
    def sample(self) -> NDArray[np.bool_]:
        """Up to 1,024 evenly spaced rows; of the judged ones where that would leave fewer than 64."""
        total = len(self.rows)
        most = min(max(2**20 // self.rows.shape[1], 256), 1024)
        picked = np.zeros(total, bool)
        count = min(total, most)
        picked[[place * total // count for place in range(count)]] = True
        if (picked & self.judged).sum() >= min(64, self.judged.sum()):
            return picked[self.judged]
        count = min(len(self.n), most)
        picked = np.zeros(len(self.n), bool)
        picked[[place * len(self.n) // count for place in range(count)]] = True
        return picked

    def short_in_float32(self) -> bool:
        """Whether the mean of the float32 figures that scatter least is short of 1 by more than 0.7 U."""
        rows = self.rows[self.judged][self.sample].astype(np.float32)
        figures = [self.n[self.sample]]
        figures += [np.sqrt(running(rows, lanes)).astype(np.float64) for lanes in (1, 8, 16, 32)]
        figures.append(np.sqrt((rows * rows).sum(axis=1, dtype=np.float32)).astype(np.float64))
        spreads = [figure.std() for figure in figures]
        best = figures[int(np.argmin(spreads))] / U - 1.0 / U
        settled = [np.mean((figure >= 1.0 - 2.5 * U) & (figure <= 1.0 - 0.5 * U)) for figure in figures]
        if max(settled) >= 0.97:
            return True
        alike = best.std() <= max(1.5, -best.mean() / 2.0)
        return bool(alike and best.mean() + 4.0 * best.std() / np.sqrt(len(best)) < -0.7)

    def short_in_low_precision(self) -> bool:
        mean, sd = self.delta.mean(), self.delta.std()
        s, n = self.s[self.sample], self.n[self.sample]
        centred = np.sqrt((((n - self.c) / s) ** 2).mean())
        biased = mean + 4.0 * sd / np.sqrt(len(self.n)) < -0.7 * self.u and centred > 3.0
        inside = -2.1 * self.u < mean < -0.9 * self.u
        return bool((inside or biased) and self.shrunk_range and self.robust_sd < self.u)

    # --- the rules

    def is_bounded(self) -> bool:
        if self.above.any() or self.below.sum() < 10 or np.median(self.delta[self.below]) >= -0.01:
            return False
        e = self.next_below / 10.0
        return bool((~self.below).sum() > e + 6.0 * np.sqrt(e + 1.0))

    def verdict(self) -> str:
        if not np.isfinite(self.rows).all():
            return "undecided"
        if not len(self.n):
            return "free"
        many = len(self.n) >= 64
        if self.grid == "f32" and many:
            shared = 1.0 - 2.0**-13 < self.c < 1.0 and self.common_scale
            if (self.unit or shared) and self.short_in_float32():
                return "unit-eps"
        if self.low and many and self.short_in_low_precision():
            return "unit-eps"
        if self.unit:
            exact = self.dtype in {"f32", "f64"} and np.abs(self.delta).max() <= U
            return "unit-rounded" if self.low and not exact else "unit"
        if many and self.is_bounded():
            return "bounded"
        away = abs(self.c - 1.0)
        if (
            away > np.median(self.tolerance[self.sample])
            and away > 4.0 * self.robust_sd
            and self.envelope
            and len(self.n) > 1
        ):
            return "uniform"
        near = (np.abs(self.delta) <= 0.1).mean() >= 0.99
        if away <= 0.02 and near and self.robust_sd < np.median(self.q[self.sample]) / 2.0:
            return "unit-drifted"
        return "free"


def running(rows: NDArray[np.float32], lanes: int) -> NDArray[np.float32]:
    """Sums of squares in `lanes` running sums, added up left to right, all in float32."""
    squares = rows * rows
    sums = np.zeros((len(rows), lanes), np.float32)
    for start in range(0, rows.shape[1], lanes):
        part = squares[:, start : start + lanes]
        sums[:, : part.shape[1]] += part
    total = sums[:, 0].copy()
    for lane in range(1, lanes):
        total += sums[:, lane]
    return total
