//! The largest deviation that torch's own norms show, without measuring rows that cannot show it.
//!
//! `torch.linalg.vector_norm` on an x86 CPU with AVX2 or better: float32 sums of float32 squares, eight running
//! ones along the last axis of float32 and bfloat16, a single one for float16 and along any other axis; the result
//! rounded to the tensor's own type. float64 stays float64, and 8-bit floats have no norm.

use unitrow_norms::Dtype;

use super::chunk::is_judged;
use super::grid::roundoff;
use super::single::{lanes8, lanes8_of_bytes, sequential};
use super::widen::widen_single;
use super::{DecoderShape, U};

/// Looks for the row whose figure is farthest from 1.
pub(super) struct TorchFigure {
    shape: DecoderShape,
    row_bytes: usize,
    max_abs_deviation: f64,
    /// Largest deviation that some row is certain to show.
    certain: f64,
    relative_error: f64,
    single: Vec<f32>,
    sums: Vec<f32>,
}

impl TorchFigure {
    pub(super) fn new(shape: DecoderShape, row_bytes: usize) -> Self {
        // Adding d squares in float32, in any order, costs at most (d + 1) U relative in the sum and half of that
        // in the norm; rounding the result to the stored type comes on top.
        let summing = (shape.len as f64 + 16.0) * U;
        let relative_error =
            if summing < 0.125 { summing + 2.0 * roundoff(shape.dtype) } else { f64::INFINITY };
        let nothing = (Vec::new(), Vec::new());
        Self {
            shape,
            row_bytes,
            max_abs_deviation: 0.0,
            certain: 0.0,
            relative_error,
            single: nothing.0,
            sums: nothing.1,
        }
    }

    /// The largest deviation seen; NaN where torch has no norm for the type.
    pub(super) fn max_abs_deviation(&self) -> f64 {
        if self.shape.dtype.size_bytes() == 1 { f64::NAN } else { self.max_abs_deviation }
    }

    /// Measures those rows of a block that may show the largest deviation.
    pub(super) fn look(&mut self, block: &[u8], norms: &[f64]) {
        match self.shape.dtype {
            Dtype::F64 => {
                for norm in norms.iter().filter(|&&norm| is_judged(norm)) {
                    self.show(*norm);
                }
            }
            Dtype::F32 | Dtype::Bf16 | Dtype::F16 => self.look_in_single(block, norms),
            _ => {}
        }
    }

    fn look_in_single(&mut self, block: &[u8], norms: &[f64]) {
        for &norm in norms.iter().filter(|&&norm| is_judged(norm)) {
            self.certain = self.certain.max(self.range(norm).0);
        }
        let rows = block.chunks_exact(self.row_bytes).zip(norms);
        let certain = self.certain;
        let leading: Vec<&[u8]> = rows
            .filter(|&(_, &norm)| is_judged(norm) && self.range(norm).1 >= certain)
            .map(|(row, _)| row)
            .collect();
        if self.shape.strided || self.shape.dtype == Dtype::F16 {
            self.one_sum(&leading);
        } else {
            self.eight_sums(&leading);
        }
        self.certain = self.certain.max(self.max_abs_deviation);
    }

    fn eight_sums(&mut self, rows: &[&[u8]]) {
        for row in rows {
            if self.shape.dtype == Dtype::F32 {
                self.show(f64::from(lanes8_of_bytes(row).sqrt()));
            } else {
                self.single.clear();
                widen_single(row, self.shape.dtype, &mut self.single);
                self.show_rounded(lanes8(&self.single).sqrt());
            }
        }
    }

    fn one_sum(&mut self, rows: &[&[u8]]) {
        for group in rows.chunks(8) {
            self.single.clear();
            for row in group {
                widen_single(row, self.shape.dtype, &mut self.single);
            }
            sequential(&self.single, self.shape.len, &mut self.sums);
            for place in 0..self.sums.len() {
                self.show_rounded(self.sums[place].sqrt());
            }
        }
    }

    /// A figure in the tensor's own type.
    fn show_rounded(&mut self, norm: f32) {
        let (dtype, norm) = (self.shape.dtype, f64::from(norm));
        self.show(if dtype == Dtype::F32 { norm } else { dtype.decode(dtype.encode(norm)) });
    }

    fn show(&mut self, figure: f64) {
        self.max_abs_deviation = self.max_abs_deviation.max((figure - 1.0).abs());
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
