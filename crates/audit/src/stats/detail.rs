//! The tolerance of one row from its own elements.
//!
//! ```text
//! s = sqrt(sum w^2 h^2 / 3) / n^2                        spread of the deviation when elements were rounded last
//! C = min(sum(|w| h + h^2 / 2) / n^2, t s)               bound for the same; the first is the worst case
//! L = sum over w^2 <= 8 U n^2 of min(w^2, U n^2) / 2n^2  terms that a float32 running sum may lose
//! K = U (t sqrt(k / 12) + 3) + L                         any order of summation in float32
//! T = C + K (+ u (1 + u) below float32);  C + 2^-53 (2 t sqrt(k / 12) + 3) on the float64 grid
//! q = sqrt(sum w^4 / n^4 - 1 / d) / 2                    spread that independent elements would have
//! ```
//! n norm, d length, k non-zero elements, h half an ulp of an element on its grid, u the grid's roundoff, t the
//! tail of the tensor ([`super::DecoderShape::tail`]).

use unitrow_norms::Dtype;

use super::U;
use super::grid::{half_floor, is_low_precision, leading_power, roundoff};

/// What a row's elements say about its tolerance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RowDetail {
    /// s: standard deviation of the norm when the elements were rounded last.
    pub(super) spread: f64,
    /// T: how far from 1 (relative) an honestly normalised row may lie.
    pub(super) tolerance: f64,
    /// C on the bfloat16 grid, whatever the grid.
    pub(super) bf16_cast: f64,
    /// q: spread that the norms of independent elements would have.
    pub(super) independent: f64,
}

const LANES: usize = 4;
type Lanes = [f64; LANES];

/// The sums over a row, kept in lanes so that the compiler can use vectors; added up in a fixed order.
#[derive(Default)]
struct Sums {
    nonzero: Lanes,
    fourth: Lanes,
    lost: Lanes,
    on_grid: CastSums,
    on_bf16: CastSums,
}

#[derive(Default)]
struct CastSums {
    weighted: Lanes,
    squares: Lanes,
    spread: Lanes,
}

/// Half ulps on one grid, in the row's own scale.
#[derive(Clone, Copy)]
struct HalfUlp {
    roundoff: f64,
    floor: f64,
}

impl HalfUlp {
    fn new(grid: Dtype, scale: f64) -> Self {
        Self { roundoff: roundoff(grid) * scale, floor: half_floor(grid) * scale }
    }

    fn of(self, power: f64, nonzero: f64) -> f64 {
        (power * self.roundoff).max(self.floor) * nonzero
    }
}

impl CastSums {
    #[inline]
    fn add(&mut self, lane: usize, magnitude: f64, square: f64, half_ulp: f64) {
        let half_ulp_squared = half_ulp * half_ulp;
        self.weighted[lane] += magnitude * half_ulp;
        self.squares[lane] += half_ulp_squared;
        self.spread[lane] += square * half_ulp_squared;
    }

    /// (s, C) for a row whose squared norm is `norm_squared`.
    fn spread_and_cast(&self, norm_squared: f64, tail: f64) -> (f64, f64) {
        let spread = (total(&self.spread) / 3.0).sqrt() / norm_squared;
        let worst = (total(&self.weighted) + total(&self.squares) / 2.0) / norm_squared;
        (spread, worst.min(tail * spread))
    }
}

/// Measures one row. `norm` is its float64 norm, finite and not zero.
pub(super) fn detail(row: &[f64], norm: f64, grid: Dtype, tail: f64) -> RowDetail {
    // A power of two brings the norm into [1, 2): no square below can leave the range, and nothing is rounded.
    let scale = 1.0 / leading_power(norm).max(f64::MIN_POSITIVE);
    let norm_squared = (norm * scale) * (norm * scale);
    let stored = HalfUlp::new(grid, scale);
    let bf16 = HalfUlp::new(Dtype::Bf16, scale);
    let (stagnant, unit) = (8.0 * U * norm_squared, U * norm_squared);

    let mut sums = Sums::default();
    let (head, rest) = row.as_chunks::<LANES>();
    let mut padded = [0.0; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    for values in head.iter().chain(std::iter::once(&padded)) {
        for (lane, &value) in values.iter().enumerate() {
            let nonzero = if value == 0.0 { 0.0 } else { 1.0 };
            let power = leading_power(value);
            let magnitude = value.abs() * scale;
            let square = magnitude * magnitude;
            sums.nonzero[lane] += nonzero;
            sums.fourth[lane] += square * square;
            sums.lost[lane] += if square <= stagnant { square.min(unit) } else { 0.0 };
            sums.on_grid.add(lane, magnitude, square, stored.of(power, nonzero));
            sums.on_bf16.add(lane, magnitude, square, bf16.of(power, nonzero));
        }
    }

    let (spread, cast) = sums.on_grid.spread_and_cast(norm_squared, tail);
    let (_, bf16_cast) = sums.on_bf16.spread_and_cast(norm_squared, tail);
    let lost = total(&sums.lost) / (2.0 * norm_squared);
    let fourth = total(&sums.fourth) / (norm_squared * norm_squared);
    RowDetail {
        spread,
        tolerance: cast
            + summation(grid, total(&sums.nonzero), tail)
            + lost_on(grid, lost)
            + norm_rounding(grid),
        bf16_cast,
        independent: (fourth - 1.0 / row.len() as f64).max(0.0).sqrt() / 2.0,
    }
}

/// K without its last term: what summing `nonzero` squares in any order may cost.
pub(super) fn summation(grid: Dtype, nonzero: f64, tail: f64) -> f64 {
    let walk = tail * (nonzero / 12.0).sqrt();
    match grid {
        Dtype::F64 => roundoff(Dtype::F64) * (2.0 * walk + 3.0),
        _ => U * (walk + 3.0),
    }
}

/// L, which a float64 sum does not have.
pub(super) fn lost_on(grid: Dtype, lost: f64) -> f64 {
    if grid == Dtype::F64 { 0.0 } else { lost }
}

/// What rounding the norm itself to a format of at most 16 bits may cost.
pub(super) fn norm_rounding(grid: Dtype) -> f64 {
    let unit = roundoff(grid);
    if is_low_precision(grid) { unit * (1.0 + unit) } else { 0.0 }
}

fn total(lanes: &Lanes) -> f64 {
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}
