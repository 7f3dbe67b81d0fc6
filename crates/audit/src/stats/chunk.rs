//! Consecutive rows: their norms, and closer looks at the few rows that need them.

use unitrow_norms::{Counts, Dtype, Error, Rows, Summation, float32_norm, row_norms_counted, torch_figure};

use super::bounds::Bounds;
use super::detail::{RowDetail, detail};
use super::grid::{Alive, is_low_precision, roundoff};
use super::sample::{Choice, Measuring, Sample};
use super::widen::widen;
use super::{DecoderShape, U};

/// How a scan looks at rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// The effective format, where it is known already.
    pub(super) grid: Option<Dtype>,
    /// Measure the tolerance of every row.
    pub(super) every_row: bool,
    pub(super) choice: Choice,
}

impl Plan {
    pub(super) const FIRST: Self = Self { grid: None, every_row: false, choice: Choice::Even };
}

/// What was measured of one row beyond its norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Closer {
    /// T.
    pub(super) tolerance: f64,
    /// C on the bfloat16 grid.
    pub(super) bf16_cast: f64,
}

impl Closer {
    const UNKNOWN: Self = Self { tolerance: f64::NAN, bf16_cast: f64::NAN };

    pub(super) fn is_known(self) -> bool {
        !self.tolerance.is_nan()
    }
}

/// The results of consecutive rows.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) first_row: usize,
    pub(super) norms: Vec<f64>,
    /// One per row, or empty where no row needed a closer look.
    pub(super) closer: Vec<Closer>,
    /// The grid that the closer looks assumed.
    pub(super) grid: Dtype,
    pub(super) alive: Alive,
    pub(super) bounds: Bounds,
    pub(super) elements: Counts,
    pub(super) torch_max_abs_deviation: f64,
    pub(super) samples: Vec<Sample>,
}

/// Bytes that are worked on while they stay in the second-level cache.
const BLOCK_BYTES: usize = 256 * 1024;

pub(super) fn is_judged(norm: f64) -> bool {
    norm.is_finite() && norm > 0.0
}

/// Measures whole rows. `bytes` must be a multiple of `row_bytes`, which is not 0.
pub(super) fn scan_chunk(
    shape: &DecoderShape,
    row_bytes: usize,
    plan: &Plan,
    first_row: usize,
    bytes: &[u8],
) -> Result<Chunk, Error> {
    let stored = shape.dtype;
    let mut norms = vec![0.0; bytes.len() / row_bytes];
    let mut alive = plan.grid.map_or(Alive::coarser_than(stored), |_| Alive::NONE);
    let mut elements = Counts::EMPTY;
    let mut torch = TorchFigure::new(shape);
    let mut row = Vec::with_capacity(shape.len);

    let block_rows = (BLOCK_BYTES / row_bytes).max(1);
    for (block, out) in bytes.chunks(block_rows * row_bytes).zip(norms.chunks_mut(block_rows)) {
        let rows = Rows::contiguous(block, stored, out.len(), shape.len, 1)?;
        elements = elements.merge(row_norms_counted(rows, out, None)?);
        torch.look(block, row_bytes, out)?;
        for one in block.chunks_exact(row_bytes) {
            if alive.is_empty() {
                break;
            }
            widen(one, stored, &mut row);
            alive.strike(&row);
        }
    }

    let grid = plan.grid.unwrap_or_else(|| alive.coarsest(stored));
    let zero_rows = norms.iter().filter(|&&norm| norm == 0.0).count();
    let zeros_elsewhere =
        usize::try_from(elements.zero).unwrap_or(usize::MAX).saturating_sub(zero_rows * shape.len);
    let nonzero = shape.len.saturating_sub(zeros_elsewhere).max(1);
    let bounds = Bounds::new(grid, shape.len, nonzero, shape.tail());
    let mut chunk = Chunk {
        first_row,
        norms,
        closer: Vec::new(),
        grid,
        alive,
        bounds,
        elements,
        torch_max_abs_deviation: torch.max_abs_deviation,
        samples: Vec::new(),
    };
    chunk.look_closer(shape, row_bytes, plan, bytes)?;
    Ok(chunk)
}

impl Chunk {
    fn look_closer(
        &mut self,
        shape: &DecoderShape,
        row_bytes: usize,
        plan: &Plan,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let range = self.first_row..self.first_row + self.norms.len();
        let mut sampled = plan.choice.within(shape.rows, &range).into_iter().peekable();
        let bounded = !self.norms.iter().any(|&norm| norm - 1.0 > self.bounds.high(norm));
        let measuring = Measuring { shape, choice: &plan.choice, grid: self.grid, bounds: &self.bounds };
        let mut closer = Vec::new();
        let mut row = Vec::with_capacity(shape.len);
        for (index, &norm) in self.norms.iter().enumerate() {
            let row_index = self.first_row + index;
            let place = sampled.next_if(|&(_, row)| row == row_index).map(|(place, _)| place);
            let asked = plan.every_row || is_undecided(norm, &self.bounds, self.grid, bounded);
            if !is_judged(norm) || !(asked || place.is_some()) {
                continue;
            }
            widen(&bytes[index * row_bytes..][..row_bytes], shape.dtype, &mut row);
            let found = detail(&row, norm, self.grid, shape.tail());
            let RowDetail { tolerance, bf16_cast, .. } = found;
            if closer.is_empty() {
                closer = vec![Closer::UNKNOWN; self.norms.len()];
            }
            closer[index] = Closer { tolerance, bf16_cast };
            if let Some(place) = place {
                self.samples.push(measuring.measure(place, row_index, &row, norm, found)?);
            }
        }
        self.closer = closer;
        Ok(())
    }

    /// Row norms with what else is known of each, in order of rows.
    pub(super) fn judged(&self) -> impl Iterator<Item = (f64, Closer)> + '_ {
        let closer = self.closer.iter().copied().chain(std::iter::repeat(Closer::UNKNOWN));
        self.norms.iter().copied().zip(closer).filter(|&(norm, _)| is_judged(norm))
    }
}

/// Whether the bounds leave open on which side of a limit in units of its own tolerance a row lies.
fn is_undecided(norm: f64, bounds: &Bounds, grid: Dtype, bounded: bool) -> bool {
    let deviation = norm - 1.0;
    let (low, high) = (bounds.low, bounds.high(norm));
    let distance = deviation.abs();
    if distance <= low {
        return false;
    }
    // Below 1, a row of low precision may be short by up to three roundoffs more, and the rows next below a
    // bounded set's atom are counted as far as 21 tolerances down.
    let shrunk = if is_low_precision(grid) { 3.0 * roundoff(grid) } else { 0.0 };
    let next_below = NEXT_BELOW * low < distance && distance <= NEXT_BELOW * high;
    distance <= high || (deviation < 0.0 && (distance <= shrunk + high || (bounded && next_below)))
}

/// How many tolerances below 1 the neighbourhood of a bounded set's atom ends.
pub(super) const NEXT_BELOW: f64 = 21.0;

/// The largest deviation that torch's own norms show.
struct TorchFigure<'a> {
    shape: &'a DecoderShape,
    max_abs_deviation: f64,
    /// Largest deviation that some row is certain to show.
    certain: f64,
    relative_error: f64,
    figures: Vec<f64>,
}

impl<'a> TorchFigure<'a> {
    fn new(shape: &'a DecoderShape) -> Self {
        // Adding d squares in any order in float32 costs at most (d + 1) U relative in the sum, and half of
        // that in the norm; rounding the result to the stored format comes on top.
        let summing = (shape.len as f64 + 16.0) * U;
        let relative_error =
            if summing < 0.125 { summing + 2.0 * roundoff(shape.dtype) } else { f64::INFINITY };
        Self { shape, max_abs_deviation: 0.0, certain: 0.0, relative_error, figures: Vec::new() }
    }

    /// The least and most that torch can show for a row, certainly.
    fn range(&self, norm: f64) -> (f64, f64) {
        // Outside, float32 squares may underflow or overflow.
        if (1e-15..1e15).contains(&norm) {
            let (deviation, error) = ((norm - 1.0).abs(), norm * self.relative_error);
            (deviation - error, deviation + error)
        } else {
            (0.0, f64::INFINITY)
        }
    }

    /// Measures the rows of a block that may show the largest deviation.
    fn look(&mut self, block: &[u8], row_bytes: usize, norms: &[f64]) -> Result<(), Error> {
        for &norm in norms.iter().filter(|&&norm| is_judged(norm)) {
            self.certain = self.certain.max(self.range(norm).0);
        }
        let may_lead = |&norm: &f64| is_judged(norm) && self.range(norm).1 >= self.certain;
        let Some(first) = norms.iter().position(may_lead) else { return Ok(()) };
        let last = norms.iter().rposition(may_lead).unwrap_or(first);
        let norms = &norms[first..=last];
        let part = &block[first * row_bytes..(last + 1) * row_bytes];
        let rows = Rows::contiguous(part, self.shape.dtype, norms.len(), self.shape.len, 1)?;
        self.figures.clear();
        self.figures.resize(norms.len(), 0.0);
        self.measure(rows)?;
        for (figure, _) in self.figures.iter().zip(norms).filter(|&(_, &norm)| is_judged(norm)) {
            self.max_abs_deviation = self.max_abs_deviation.max((figure - 1.0).abs());
        }
        self.certain = self.certain.max(self.max_abs_deviation);
        Ok(())
    }

    fn measure(&mut self, rows: Rows<'_>) -> Result<(), Error> {
        if !(self.shape.strided && rows.dtype() != Dtype::F64) {
            return torch_figure(rows, &mut self.figures);
        }
        let mut single = vec![0.0; self.figures.len()];
        float32_norm(rows, Summation::Sequential, &mut single)?;
        for (figure, norm) in self.figures.iter_mut().zip(single) {
            *figure = f64::from(norm);
        }
        Ok(())
    }
}
