//! What is certain about a row's tolerance before its elements are looked at.

use super::detail::{lost_on, norm_rounding, summation};
use unitrow_norms::Dtype;

use super::U;
use super::grid::{half_floor, roundoff};

/// Lower and upper ends between which the tolerance of every row of some rows must lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    grid: Dtype,
    len: f64,
    /// At least this, for every row.
    pub(super) low: f64,
    /// At most this, but for elements below the grid's normal range.
    high: f64,
}

/// Wider than any rounding in the formulas themselves.
const SLACK: f64 = 1e-9;

impl Bounds {
    /// Bounds for rows of `len` elements of which at least `nonzero` are not zero.
    pub(super) fn new(grid: Dtype, len: usize, nonzero: usize, tail: f64) -> Self {
        let longest = len as f64;
        let unit = roundoff(grid);
        let rounded = norm_rounding(grid);
        let lost = lost_on(grid, 0.5 * (longest * U).min(1.0));
        let low = summation(grid, nonzero as f64, tail) + rounded;
        let high = unit * (1.0 + unit) + summation(grid, longest, tail) + lost + rounded;
        Self { grid, len: longest, low: low * (1.0 - SLACK), high: high * (1.0 + SLACK) }
    }

    /// The upper end for a row of this norm.
    pub(super) fn high(&self, norm: f64) -> f64 {
        self.high + subnormal_cast(self.grid, self.len, norm)
    }

    /// Most that a bfloat16 cast can move a row of this norm: the upper end of C on that grid.
    pub(super) fn bf16_cast(&self, norm: f64) -> f64 {
        let unit = roundoff(Dtype::Bf16);
        unit * (1.0 + unit) * (1.0 + SLACK) + subnormal_cast(Dtype::Bf16, self.len, norm)
    }
}

/// What the subnormal floor of half an ulp adds to C at most: h <= u |w| + f, so by Cauchy-Schwarz
/// sum(|w| h + h^2 / 2) <= (u + u^2) n^2 + f sqrt(d) n + d f^2.
fn subnormal_cast(grid: Dtype, len: f64, norm: f64) -> f64 {
    let floor = half_floor(grid) / norm;
    (floor * len.sqrt() + len * floor * floor) * (1.0 + SLACK)
}
