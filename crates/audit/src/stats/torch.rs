//! The largest deviation that torch's own norms show, without measuring rows that cannot show it.
//!
//! `torch.linalg.vector_norm` on an x86 CPU with AVX2 or better: float32 sums of float32 squares, eight running
//! ones along the last axis of float32 and bfloat16, a single one for float16 and along any other axis; the result
//! rounded to the tensor's own type. float64 stays float64, and 8-bit floats have no norm.

use unitrow_norms::{
    Counts, Dtype, Error, Rows, Summation, float32_norm, row_norms_counted, row_norms_figured, torch_figure,
};

use super::chunk::is_judged;
use super::grid::roundoff;
use super::{DecoderShape, U};

/// Looks for the row whose figure is farthest from 1.
pub(super) struct TorchFigure {
    shape: DecoderShape,
    row_bytes: usize,
    max_abs_deviation: f64,
    /// Largest deviation that some row is certain to show.
    certain: f64,
    relative_error: f64,
    figures: Vec<f64>,
    single: Vec<f32>,
}

impl TorchFigure {
    pub(super) fn new(shape: DecoderShape, row_bytes: usize) -> Self {
        // Adding d squares in float32, in any order, costs at most (d + 1) U relative in the sum and half of that
        // in the norm; rounding the result to the stored type comes on top.
        let summing = (shape.len as f64 + 16.0) * U;
        let relative_error =
            if summing < 0.125 { summing + 2.0 * roundoff(shape.dtype) } else { f64::INFINITY };
        Self {
            shape,
            row_bytes,
            max_abs_deviation: 0.0,
            certain: 0.0,
            relative_error,
            figures: Vec::new(),
            single: Vec::new(),
        }
    }

    /// The largest deviation seen; NaN where torch has no norm for the type.
    pub(super) fn max_abs_deviation(&self) -> f64 {
        if self.shape.dtype.size_bytes() == 1 { f64::NAN } else { self.max_abs_deviation }
    }

    /// Measures the norms of the rows of a block and counts their elements, and looks at torch's figures for them.
    pub(super) fn look(&mut self, block: &[u8], norms: &mut [f64]) -> Result<Counts, Error> {
        let rows = Rows::contiguous(block, self.shape.dtype, norms.len(), self.shape.len, 1)?;
        if self.shape.dtype == Dtype::F32 && !self.shape.strided {
            // All of them come with the norms, at no cost.
            self.figures.resize(norms.len(), 0.0);
            let counts = row_norms_figured(rows, norms, &mut self.figures)?;
            self.keep(norms);
            return Ok(counts);
        }
        let counts = row_norms_counted(rows, norms, None)?;
        if self.shape.dtype.size_bytes() > 1 {
            self.look_at_leading(block, norms)?;
        }
        Ok(counts)
    }

    /// Measures those rows of a block that may show the largest deviation.
    fn look_at_leading(&mut self, block: &[u8], norms: &[f64]) -> Result<(), Error> {
        for &norm in norms.iter().filter(|&&norm| is_judged(norm)) {
            self.certain = self.certain.max(self.range(norm).0);
        }
        let may_lead = |&norm: &f64| is_judged(norm) && self.range(norm).1 >= self.certain;
        let Some(first) = norms.iter().position(may_lead) else { return Ok(()) };
        let end = norms.iter().rposition(may_lead).unwrap_or(first) + 1;
        let part = &block[first * self.row_bytes..end * self.row_bytes];
        let rows = Rows::contiguous(part, self.shape.dtype, end - first, self.shape.len, 1)?;
        self.figures.clear();
        self.figures.resize(end - first, 0.0);
        self.measure(rows)?;
        self.keep(&norms[first..end]);
        self.certain = self.certain.max(self.max_abs_deviation);
        Ok(())
    }

    fn keep(&mut self, norms: &[f64]) {
        for (figure, _) in self.figures.iter().zip(norms).filter(|&(_, &norm)| is_judged(norm)) {
            self.max_abs_deviation = self.max_abs_deviation.max((figure - 1.0).abs());
        }
    }

    fn measure(&mut self, rows: Rows<'_>) -> Result<(), Error> {
        let dtype = self.shape.dtype;
        if !self.shape.strided || dtype == Dtype::F64 {
            return torch_figure(rows, &mut self.figures);
        }
        // These rows are contiguous here and were not in their tensor.
        self.single.resize(self.figures.len(), 0.0);
        float32_norm(rows, Summation::Sequential, &mut self.single)?;
        for (figure, &norm) in self.figures.iter_mut().zip(&self.single) {
            let norm = f64::from(norm);
            *figure = if dtype == Dtype::F32 { norm } else { dtype.decode(dtype.encode(norm)) };
        }
        Ok(())
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
}
