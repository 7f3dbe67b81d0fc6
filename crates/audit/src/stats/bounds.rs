//! What is certain about a row's tolerance before its elements are weighed.

use unitrow_norms::Dtype;

use super::U;
use super::detail::{lost_on, norm_rounding, summation};
use super::glance::Glance;
use super::grid::{half_floor, roundoff};

/// Where a limit lies; both ends are equal once it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// An answer that may need a closer look at some row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Open,
}

impl Range {
    pub(super) fn exactly(limit: f64) -> Self {
        Self { low: limit, high: limit }
    }

    /// Whether a distance is within the limit.
    pub(super) fn holds(self, distance: f64) -> Answer {
        if distance <= self.low {
            Answer::Yes
        } else if distance > self.high {
            Answer::No
        } else {
            Answer::Open
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    pub(super) fn shifted(self, by: f64) -> Self {
        self.plus(Self::exactly(by))
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self { low: self.low * factor, high: self.high * factor }
    }
}

/// Bounds on the tolerances of the rows of a decoder on one grid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    grid: Dtype,
    len: usize,
    tail: f64,
    /// For rows of which at least some number of elements is not zero, but for subnormal elements.
    any: Range,
}

/// Wider than any rounding in the formulas themselves.
const SLACK: f64 = 1e-9;

impl Bounds {
    /// Bounds for rows of `len` elements of which at least `nonzero` are not zero.
    pub(super) fn new(grid: Dtype, len: usize, nonzero: usize, tail: f64) -> Self {
        let unit = roundoff(grid);
        let lost = lost_on(grid, 0.5 * (len as f64 * U).min(1.0));
        let rounded = norm_rounding(grid);
        let low = summation(grid, nonzero as f64, tail) + rounded;
        let high = unit * (1.0 + unit) + summation(grid, len as f64, tail) + lost + rounded;
        Self { grid, len, tail, any: Range { low: low * (1.0 - SLACK), high: high * (1.0 + SLACK) } }
    }

    /// The tolerance of any row of this norm.
    pub(super) fn of(&self, norm: f64) -> Range {
        Range { low: self.any.low, high: self.any.high + self.subnormal_cast(self.grid, norm) }
    }

    /// The tolerance of a row that was glanced at.
    pub(super) fn narrowed(&self, norm: f64, glance: &Glance) -> Range {
        let nonzero = glance.nonzero as f64;
        let unit = roundoff(self.grid);
        // Each small element adds at most U n^2 to what may be lost.
        let small = (glance.small + glance.nonzero).saturating_sub(self.len) as f64;
        let lost = lost_on(self.grid, 0.5 * (small * U).min(1.0));
        // h <= u |w| + f, so s <= (u max|w| + f) / (sqrt(3) n).
        let spread = (unit * glance.largest + half_floor(self.grid)) / (3.0_f64.sqrt() * norm);
        let worst = unit * (1.0 + unit) + self.subnormal_cast(self.grid, norm);
        let cast = worst.min(self.tail * spread);
        let low = summation(self.grid, nonzero, self.tail) + norm_rounding(self.grid);
        Range { low: low * (1.0 - SLACK), high: (low + lost + cast) * (1.0 + SLACK) }
    }

    /// What a bfloat16 cast can move a row of this norm: C on that grid.
    pub(super) fn bf16_cast(&self, norm: f64) -> Range {
        let unit = roundoff(Dtype::Bf16);
        let worst = unit * (1.0 + unit) + self.subnormal_cast(Dtype::Bf16, norm);
        Range { low: 0.0, high: worst * (1.0 + SLACK) }
    }

    /// What the subnormal floor of half an ulp adds to C at most: h <= u |w| + f, so by Cauchy-Schwarz
    /// sum(|w| h + h^2 / 2) <= (u + u^2) n^2 + f sqrt(d) n + d f^2.
    fn subnormal_cast(&self, grid: Dtype, norm: f64) -> f64 {
        let (floor, len) = (half_floor(grid) / norm, self.len as f64);
        (floor * len.sqrt() + len * floor * floor) * (1.0 + SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::super::detail::detail;
    use super::super::glance::glance;
    use super::*;
    use proptest::prelude::*;

    fn contains(range: Range, limit: f64) -> bool {
        range.low <= limit && limit <= range.high
    }

    /// Elements between the norm and far below what a float32 sum or a format's normal range still sees.
    fn elements() -> impl Strategy<Value = Vec<f64>> {
        let element = (0_u8..4, 0.3_f64..1.0, any::<bool>());
        (proptest::collection::vec(element, 1..400), -9.0_f64..-1.0, -30_i32..4).prop_map(
            |(row, small, scale)| {
                let one = |(kind, value, negative): (u8, f64, bool)| {
                    let magnitude = match kind {
                        0 => 0.0,
                        1 => value,
                        _ => value * 10.0_f64.powf(small),
                    };
                    magnitude * if negative { -1.0 } else { 1.0 } * 10.0_f64.powi(scale)
                };
                row.into_iter().map(one).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_weighed_lies_where_the_bounds_say(
            row in elements(),
            grid in proptest::sample::select(Dtype::ALL.to_vec()),
            tail in 5.0_f64..8.0,
        ) {
            let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
            prop_assume!(norm > 0.0);
            let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
            let glance = glance(&bytes, Dtype::F64, norm, &mut Vec::new());
            let found = detail(&mut row.clone(), norm, grid, tail);
            for nonzero in [1, glance.nonzero] {
                let bounds = Bounds::new(grid, row.len(), nonzero, tail);
                prop_assert!(contains(bounds.of(norm), found.tolerance));
                prop_assert!(contains(bounds.narrowed(norm, &glance), found.tolerance));
                prop_assert!(contains(bounds.bf16_cast(norm), found.bf16_cast));
            }
        }
    }
}
