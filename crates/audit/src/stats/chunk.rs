//! Consecutive rows: their norms, and closer looks at the few rows that need them.

use unitrow_norms::{Counts, Dtype, Error};

use super::DecoderShape;
use super::bounds::{Answer, Bounds, Range};
use super::detail::{detail, norm_rounding};
use super::glance::glance;
use super::grid::{Alive, is_low_precision, roundoff};
use super::measure::Batch;
use super::sample::{Choice, Sample, is_near_unit, scale_of};
use super::torch::TorchFigure;
use super::widen::widen;

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

/// What is known of one row beyond its norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Closer {
    /// T.
    pub(super) tolerance: Range,
    /// C on the bfloat16 grid.
    pub(super) bf16_cast: Range,
}

/// The results of consecutive rows.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) first_row: usize,
    pub(super) norms: Vec<f64>,
    /// Rows that needed a closer look, by their place in `norms`, ascending.
    closer: Vec<(usize, Closer)>,
    /// The grid that the closer looks assumed.
    pub(super) grid: Dtype,
    pub(super) alive: Alive,
    bounds: Bounds,
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
    let mut torch = TorchFigure::new(*shape, row_bytes);
    let mut row = Vec::with_capacity(shape.len);

    let block_rows = (BLOCK_BYTES / row_bytes).max(1);
    for (block, out) in bytes.chunks(block_rows * row_bytes).zip(norms.chunks_mut(block_rows)) {
        elements = elements.merge(torch.look(block, out)?);
        for one in block.chunks_exact(row_bytes) {
            if alive.is_empty() {
                break;
            }
            alive.strike(one, stored, &mut row);
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
        torch_max_abs_deviation: torch.max_abs_deviation(),
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
        let mut sampled = plan.choice.within(shape, &range).into_iter().peekable();
        let bounded = !self.norms.iter().any(|&norm| norm - 1.0 > self.bounds.of(norm).high);
        let tail = shape.tail();
        let mut row = Vec::with_capacity(shape.len + 8);
        let mut batch = Batch::default();
        let mut in_batch = Vec::new();
        for (index, &norm) in self.norms.iter().enumerate() {
            let row_index = self.first_row + index;
            let place = sampled.next_if(|&(_, row)| row == row_index).map(|(place, _)| place);
            let mut asked = plan.every_row || is_undecided(norm, self.bounds.of(norm), self.grid, bounded);
            if !is_judged(norm) || !(asked || place.is_some()) {
                continue;
            }
            let bytes = &bytes[index * row_bytes..][..row_bytes];
            if !plan.every_row && place.is_none() {
                let tolerance = self.bounds.narrowed(norm, &glance(bytes, shape.dtype, norm, &mut row));
                asked = is_undecided(norm, tolerance, self.grid, bounded);
                if !asked {
                    self.closer.push((index, Closer { tolerance, bf16_cast: self.bounds.bf16_cast(norm) }));
                    continue;
                }
            }
            widen(bytes, shape.dtype, &mut row);
            let mut measured = None;
            if let Some(place) = place {
                let near_unit = self.grid == Dtype::F32 && is_near_unit(norm, &self.bounds);
                if near_unit {
                    batch.push(&row, norm, scale_of(row_index));
                }
                measured = Some((near_unit, plan.choice.lattice(shape, self.grid, place, &row)));
            }
            let found = detail(&mut row, norm, self.grid, tail);
            let exactly = |limit| Range::exactly(limit);
            let closer = Closer { tolerance: exactly(found.tolerance), bf16_cast: exactly(found.bf16_cast) };
            self.closer.push((index, closer));
            if let Some((near_unit, lattice)) = measured {
                in_batch.push(near_unit);
                self.samples.push(Sample { norm, detail: found, float32: None, lattice });
            }
        }
        let mut float32 = batch.measure(shape.len)?.into_iter();
        for (sample, near_unit) in self.samples.iter_mut().zip(in_batch) {
            sample.float32 = if near_unit { float32.next() } else { None };
        }
        Ok(())
    }

    /// Norms of judged rows with what is known of each, in the order of rows.
    pub(super) fn judged(&self) -> impl Iterator<Item = (f64, Closer)> + '_ {
        let mut closer = self.closer.iter().peekable();
        self.norms.iter().enumerate().filter(|&(_, &norm)| is_judged(norm)).map(move |(index, &norm)| {
            let known = closer.next_if(|&&(place, _)| place == index);
            let unknown =
                || Closer { tolerance: self.bounds.of(norm), bf16_cast: self.bounds.bf16_cast(norm) };
            (norm, known.map_or_else(unknown, |&(_, found)| found))
        })
    }
}

/// Whether it is open on which side of a limit in units of its own tolerance a row lies.
fn is_undecided(norm: f64, tolerance: Range, grid: Dtype, bounded: bool) -> bool {
    let (deviation, distance) = (norm - 1.0, (norm - 1.0).abs());
    if tolerance.holds(distance) == Answer::Open {
        return true;
    }
    // Below 1, a row of low precision may be short by up to three roundoffs more, and the rows next below a
    // bounded set's atom are counted as far as 21 tolerances down.
    let shrunk = tolerance.shifted(3.0 * roundoff(grid) - norm_rounding(grid));
    let next_below = tolerance.times(NEXT_BELOW);
    deviation < 0.0
        && (is_low_precision(grid) && shrunk.holds(distance) == Answer::Open
            || bounded && next_below.holds(distance) == Answer::Open)
}

/// How many tolerances below 1 the neighbourhood of a bounded set's atom ends.
pub(super) const NEXT_BELOW: f64 = 21.0;
