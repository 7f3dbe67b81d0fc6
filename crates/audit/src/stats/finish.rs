//! From the results of rows to the figures of a decoder, in the order of rows.

use std::ops::RangeInclusive;

use unitrow_norms::{Counts, Dtype};

use super::bounds::Answer;
use super::chunk::{Chunk, Closer, NEXT_BELOW, Plan, is_judged};
use super::detail::norm_rounding;
use super::figures::{DecoderStats, Float32Figures};
use super::grid::{Alive, is_low_precision, roundoff};
use super::lattice::Lattice;
use super::measure::Way;
use super::sample::{Choice, Sample};
use super::{DecoderShape, U, histogram};

pub(super) enum Outcome {
    Stats(Box<DecoderStats>),
    Again(Plan),
}

/// Formats with fewer non-zero elements to show for themselves are not believed.
const FEWEST_ELEMENTS: u64 = 256;
/// With fewer judged rows in an even sample than this (and more outside it) the sample is chosen anew.
const FEWEST_SAMPLES: usize = 64;
/// How far from a common norm c != 1 rows may lie that were bfloat16 once: half an ulp and a little more.
const BF16_ENVELOPE: f64 = 1.01 / 256.0;
const WORST_ROWS: usize = 8;

pub(super) fn finish(shape: &DecoderShape, plan: &Plan, chunks: &[Chunk]) -> Outcome {
    let all = All::new(shape, plan, chunks);
    if !plan.every_row && all.guessed_another_grid() {
        return Outcome::Again(Plan { grid: Some(all.grid), every_row: true, choice: plan.choice.clone() });
    }
    if plan.choice == Choice::Even && all.sample.len() < FEWEST_SAMPLES.min(all.norms.len()) {
        let norms = chunks.iter().flat_map(|chunk| &chunk.norms).enumerate();
        let judged: Vec<usize> = norms.filter(|&(_, &norm)| is_judged(norm)).map(|(row, _)| row).collect();
        let choice = Choice::from_judged(shape, &judged);
        return Outcome::Again(Plan { grid: Some(all.grid), every_row: plan.every_row, choice });
    }
    match all.stats() {
        Some(stats) => Outcome::Stats(Box::new(stats)),
        None => Outcome::Again(Plan { grid: Some(all.grid), every_row: true, choice: plan.choice.clone() }),
    }
}

struct All<'a> {
    shape: &'a DecoderShape,
    chunks: &'a [Chunk],
    grid: Dtype,
    elements: Counts,
    /// Norms of judged rows.
    norms: Vec<f64>,
    sample: Vec<&'a Sample>,
    median: f64,
    robust_sd: f64,
    tolerance_median: f64,
}

impl<'a> All<'a> {
    fn new(shape: &'a DecoderShape, plan: &Plan, chunks: &'a [Chunk]) -> Self {
        let elements = chunks.iter().fold(Counts::EMPTY, |sum, chunk| sum.merge(chunk.elements));
        let total = (shape.rows as u64).saturating_mul(shape.len as u64);
        let nonzero = total - elements.zero - elements.nan - elements.inf;
        let alive = chunks.iter().fold(Alive::coarser_than(shape.dtype), |set, chunk| set.both(chunk.alive));
        let grid = match plan.grid {
            Some(grid) => grid,
            None if nonzero >= FEWEST_ELEMENTS => alive.coarsest(shape.dtype),
            None => shape.dtype,
        };
        let norms: Vec<f64> = chunks.iter().flat_map(Chunk::judged).map(|(norm, _)| norm).collect();
        let sample: Vec<&Sample> = chunks.iter().flat_map(|chunk| &chunk.samples).collect();
        let median = median_of(norms.clone());
        let robust_sd = 1.4826 * median_of(norms.iter().map(|norm| (norm - median).abs()).collect());
        let tolerance_median = median_of(sample.iter().map(|row| row.detail.tolerance).collect());
        Self { shape, chunks, grid, elements, norms, sample, median, robust_sd, tolerance_median }
    }

    fn guessed_another_grid(&self) -> bool {
        let judges = |chunk: &Chunk| chunk.norms.iter().any(|&norm| is_judged(norm));
        self.chunks.iter().any(|chunk| chunk.grid != self.grid && judges(chunk))
    }

    fn deviations(&self) -> impl Iterator<Item = f64> + '_ {
        self.norms.iter().map(|norm| norm - 1.0)
    }

    /// `None` where a question that matters stays open.
    fn stats(&self) -> Option<DecoderStats> {
        let places = self.places();
        let unit = places.above == 0 && places.below.is_empty();
        let shrunk_range = (is_low_precision(self.grid)).then(|| self.shrunk_range());
        let away = (self.median - 1.0).abs();
        let eps_reach = self.grid == Dtype::F32 && (1.0 - 1.0 / 8192.0..1.0).contains(&self.median);
        let asks_uniform = !unit && away > self.tolerance_median && away > 4.0 * self.robust_sd;
        let envelope = asks_uniform.then(|| self.uniform_envelope());
        let asks_scale = !unit && (eps_reach || envelope.is_some_and(|answer| answer != Answer::No));
        let common_scale = asks_scale.then(|| self.common_scale());
        if [shrunk_range, envelope, common_scale].contains(&Some(Answer::Open)) || places.open {
            return None;
        }

        let count = self.norms.len() as f64;
        let mean_deviation = self.deviations().sum::<f64>() / count;
        let moment = |power| {
            self.deviations().map(|deviation| (deviation - mean_deviation).powi(power)).sum::<f64>() / count
        };
        let (variance, fourth_moment) = (moment(2), moment(4));
        let max_abs_deviation = self.deviations().map(f64::abs).fold(f64::NAN, f64::max);
        let rows: Vec<f64> = self.chunks.iter().flat_map(|chunk| chunk.norms.iter().copied()).collect();
        let zero_rows = rows.iter().filter(|&&norm| norm == 0.0).count() as u64;
        let torch = self.chunks.iter().map(|chunk| chunk.torch_max_abs_deviation).fold(0.0, f64::max);
        let judged_rows = self.norms.len() as u64;
        let zero_rows = if self.shape.len == 0 { self.shape.rows as u64 } else { zero_rows };
        let lattices = |kind| self.sample.iter().filter(|row| row.lattice == kind).count() as u64;
        let on_lattice = [lattices(Lattice::Bf16), lattices(Lattice::F16), lattices(Lattice::None)];
        let over_sample = |figure: fn(&Sample) -> f64| self.sample.iter().map(move |row| figure(row));
        Some(DecoderStats {
            shape: *self.shape,
            grid: self.grid,
            judged_rows,
            zero_rows,
            nonfinite_rows: self.shape.rows as u64 - judged_rows - zero_rows,
            nan_elements: self.elements.nan,
            inf_elements: self.elements.inf,
            zero_elements: self.elements.zero,
            subnormal_elements: self.elements.subnormal,
            min: self.norms.iter().copied().fold(f64::NAN, f64::min),
            max: self.norms.iter().copied().fold(f64::NAN, f64::max),
            mean: 1.0 + mean_deviation,
            max_abs_deviation,
            mean_deviation,
            standard_deviation: variance.sqrt(),
            kurtosis: fourth_moment / (variance * variance),
            max_abs_deviation_ulp: max_abs_deviation / roundoff(self.shape.dtype),
            torch_max_abs_deviation: if judged_rows == 0 { f64::NAN } else { torch },
            median: self.median,
            robust_sd: self.robust_sd,
            histogram_edges: histogram::edges(),
            histogram_counts: histogram::counts(self.deviations()),
            worst_rows: worst_rows(&rows),
            rows_within: places.within,
            rows_above: places.above,
            rows_below: places.below.len() as u64,
            rows_next_below: (places.above == 0).then_some(places.next_below),
            below_median: (!places.below.is_empty()).then(|| median_of(places.below)),
            rows_within_tenth: self.deviations().filter(|deviation| deviation.abs() <= 0.1).count() as u64,
            shrunk_range_holds: shrunk_range.and_then(known),
            common_scale_holds: common_scale.and_then(known),
            uniform_envelope_holds: envelope.and_then(known),
            relative_spread: self
                .norms
                .iter()
                .map(|norm| (norm / self.median - 1.0).abs())
                .fold(f64::NAN, f64::max),
            sample_rows: self.sample.len() as u64,
            tolerance_median: self.tolerance_median,
            tolerance_max: over_sample(|row| row.detail.tolerance).fold(f64::NAN, f64::max),
            rounding_spread: median_of(over_sample(|row| row.detail.spread).collect()),
            independent_spread: median_of(over_sample(|row| row.detail.independent).collect()),
            rounding_ratio: self.rounding_ratio(1.0),
            rounding_ratio_centred: self.rounding_ratio(self.median),
            float32: self.float32(),
            lattice_rows: on_lattice.iter().sum(),
            lattice_bf16_rows: on_lattice[0],
            lattice_f16_rows: on_lattice[1],
        })
    }

    /// On which side of its tolerance each row lies.
    fn places(&self) -> Places {
        let mut places = Places::default();
        for (norm, closer) in self.judged() {
            let deviation = norm - 1.0;
            match closer.tolerance.holds(deviation.abs()) {
                Answer::Yes => places.within += 1,
                Answer::Open => places.open = true,
                Answer::No if deviation > 0.0 => places.above += 1,
                Answer::No => {
                    places.below.push(deviation);
                    match closer.tolerance.times(NEXT_BELOW).holds(-deviation) {
                        Answer::Yes => places.next_below += 1,
                        Answer::No => {}
                        Answer::Open => places.next_open = true,
                    }
                }
            }
        }
        places.open |= places.next_open && places.above == 0;
        places
    }

    /// Whether every deviation lies in (-3u - C - K, T).
    fn shrunk_range(&self) -> Answer {
        let further = 3.0 * roundoff(self.grid) - norm_rounding(self.grid);
        self.every_row(|norm, closer| {
            if norm >= 1.0 {
                closer.tolerance.holds(norm - 1.0)
            } else {
                closer.tolerance.shifted(further).holds(1.0 - norm)
            }
        })
    }

    /// Whether every norm over the median lies within its tolerance of 1.
    fn common_scale(&self) -> Answer {
        self.every_row(|norm, closer| closer.tolerance.holds((norm / self.median - 1.0).abs()))
    }

    /// Whether every norm over the median lies as near to 1 as rows do that were bfloat16 once.
    fn uniform_envelope(&self) -> Answer {
        self.every_row(|norm, closer| {
            let limit = closer.bf16_cast.plus(closer.tolerance).shifted(BF16_ENVELOPE);
            limit.holds((norm / self.median - 1.0).abs())
        })
    }

    fn judged(&self) -> impl Iterator<Item = (f64, Closer)> + '_ {
        self.chunks.iter().flat_map(Chunk::judged)
    }

    fn every_row(&self, holds: impl Fn(f64, Closer) -> Answer) -> Answer {
        let mut answer = Answer::Yes;
        for (norm, closer) in self.judged() {
            match holds(norm, closer) {
                Answer::Yes => {}
                Answer::No => return Answer::No,
                Answer::Open => answer = Answer::Open,
            }
        }
        answer
    }

    /// rms((norm - centre) / s) over the sample.
    fn rounding_ratio(&self, centre: f64) -> f64 {
        let squares = self.sample.iter().map(|row| ((row.norm - centre) / row.detail.spread).powi(2));
        (squares.sum::<f64>() / self.sample.len() as f64).sqrt()
    }

    fn float32(&self) -> Option<Float32Figures> {
        let measured: Option<Vec<_>> = self.sample.iter().map(|row| row.float32).collect();
        let measured = measured.filter(|rows| !rows.is_empty())?;
        let count = measured.len() as f64;
        let losses = |order: usize| mean_and_error(measured.iter().map(move |row| row.losses[order] / U));
        let ((usual, _), (most, error)) = (losses(0), losses(1));
        // One running sum scatters widely; what it loses counts where that is certain.
        let lane_loss = usual.max(most - 2.0 * error);
        let mut least = f64::INFINITY;
        let mut found = Float32Figures {
            way: Way::Exact,
            mean: 0.0,
            standard_error: 0.0,
            fixed: 0.0,
            settled: 0.0,
            lane_loss,
        };
        for (place, way) in Way::ALL.into_iter().enumerate() {
            let figures = || measured.iter().map(|row| (row.norms[place] - 1.0) / U);
            let share = |range: RangeInclusive<f64>| {
                figures().filter(|figure| range.contains(figure)).count() as f64 / count
            };
            let (mean, standard_error) = mean_and_error(figures());
            if standard_error < least {
                least = standard_error;
                (found.way, found.mean, found.standard_error) = (way, mean, standard_error);
            }
            // The ends are those between which an exact norm rounds to the float32 numbers that are meant.
            found.fixed = found.fixed.max(share(-0.5..=1.0));
            found.settled = found.settled.max(share(-2.5..=-0.5));
        }
        Some(found)
    }
}

#[derive(Default)]
struct Places {
    within: u64,
    above: u64,
    /// Deviations of the rows below their tolerance.
    below: Vec<f64>,
    next_below: u64,
    next_open: bool,
    open: bool,
}

/// Mean, and standard deviation over the root of the count.
fn mean_and_error(figures: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = figures.clone().count() as f64;
    let mean = figures.clone().sum::<f64>() / count;
    let variance = figures.map(|figure| (figure - mean).powi(2)).sum::<f64>() / count;
    (mean, (variance / count).sqrt())
}

/// The answer where there is one.
fn known(answer: Answer) -> Option<bool> {
    match answer {
        Answer::Yes => Some(true),
        Answer::No => Some(false),
        Answer::Open => None,
    }
}

/// The judged rows farthest from 1; of equal ones the first.
fn worst_rows(norms: &[f64]) -> Vec<(u64, f64)> {
    let mut worst: Vec<(u64, f64)> = Vec::with_capacity(WORST_ROWS + 1);
    for (row, &norm) in norms.iter().enumerate().filter(|&(_, &norm)| is_judged(norm)) {
        let place = worst.partition_point(|&(_, other)| (other - 1.0).abs() >= (norm - 1.0).abs());
        if place < WORST_ROWS {
            worst.insert(place, (row as u64, norm));
            worst.truncate(WORST_ROWS);
        }
    }
    worst
}

/// Median; the mean of the middle two of an even number; NaN of none.
fn median_of(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return f64::NAN;
    }
    let even = values.len().is_multiple_of(2);
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if even { f64::midpoint(below.iter().copied().fold(f64::NEG_INFINITY, f64::max), upper) } else { upper }
}
