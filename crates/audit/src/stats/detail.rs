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
/// Sums kept apart so that the compiler can use vectors; added up in a fixed order.
type Lanes = [f64; LANES];

/// Measures one row and overwrites it. `norm` is its float64 norm, finite and not zero.
pub(super) fn detail(row: &mut Vec<f64>, norm: f64, grid: Dtype, tail: f64) -> RowDetail {
    let len = row.len() as f64;
    let nonzero = row.iter().map(|&value| u64::from(value != 0.0)).sum::<u64>() as f64;
    // A power of two brings the norm into [1, 2): no square below can leave the range, and what is rounded on
    // the way is too small to show in any sum.
    let scale = 1.0 / leading_power(norm).max(f64::MIN_POSITIVE);
    let norm_squared = (norm * scale) * (norm * scale);
    for value in row.iter_mut() {
        *value = value.abs() * scale;
    }
    row.resize(row.len().next_multiple_of(LANES), 0.0);
    let (row, _) = row.as_chunks::<LANES>();

    let (lost, fourth) = lost_and_fourth(row, norm_squared);
    let cast_on = |grid| {
        let (unit, floor) = (roundoff(grid), half_floor(grid) * scale);
        let sums = cast_sums(row, unit, floor);
        // Zeros were counted with the floor as their half ulp; they have none.
        let zeros = (row.len() * LANES) as f64 - nonzero;
        let worst = (sums.weighted + (sums.squares - zeros * floor * floor) / 2.0) / norm_squared;
        let spread = (sums.spread / 3.0).sqrt() / norm_squared;
        (spread, worst.min(tail * spread))
    };
    let (spread, cast) = cast_on(grid);
    let bf16_cast = if grid == Dtype::Bf16 { cast } else { cast_on(Dtype::Bf16).1 };
    let lost = lost_on(grid, lost / (2.0 * norm_squared));
    RowDetail {
        spread,
        tolerance: cast + summation(grid, nonzero, tail) + lost + norm_rounding(grid),
        bf16_cast,
        independent: (fourth / (norm_squared * norm_squared) - 1.0 / len).max(0.0).sqrt() / 2.0,
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

/// (sum over w^2 <= 8 U n^2 of min(w^2, U n^2), sum w^4)
fn lost_and_fourth(row: &[Lanes], norm_squared: f64) -> (f64, f64) {
    let (stagnant, unit) = (8.0 * U * norm_squared, U * norm_squared);
    let (mut lost, mut fourth) = ([0.0; LANES], [0.0; LANES]);
    for values in row {
        for lane in 0..LANES {
            let square = values[lane] * values[lane];
            let capped = if square < unit { square } else { unit };
            lost[lane] += if square <= stagnant { capped } else { 0.0 };
            fourth[lane] += square * square;
        }
    }
    (total(lost), total(fourth))
}

struct CastSums {
    /// sum |w| h
    weighted: f64,
    /// sum h^2
    squares: f64,
    /// sum w^2 h^2
    spread: f64,
}

/// Sums over a row of magnitudes on a grid of this roundoff and this half spacing of subnormal numbers.
fn cast_sums(row: &[Lanes], unit: f64, floor: f64) -> CastSums {
    let (mut weighted, mut squares, mut spread) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for values in row {
        for lane in 0..LANES {
            let half_ulp = leading_power(values[lane]) * unit;
            let half_ulp = if half_ulp > floor { half_ulp } else { floor };
            let product = values[lane] * half_ulp;
            weighted[lane] += product;
            squares[lane] += half_ulp * half_ulp;
            spread[lane] += product * product;
        }
    }
    CastSums { weighted: total(weighted), squares: total(squares), spread: total(spread) }
}

fn total(lanes: Lanes) -> f64 {
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}
