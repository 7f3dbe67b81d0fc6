//! In-place work on a strided axis: matrix rows are streamed in order, with a coefficient for each column.
//!
//! Gathering columns would touch a page for every element. Here norms or scalar products come from a pass of
//! their own, and a second pass writes; both read memory in order.

use crate::adam::Coefficients;
use crate::dispatch::Kernel;
use crate::kernel::adam::update_columns;
use crate::kernel::narrow::Narrow;
use crate::kernel::range::{ReadWindow, RowRange, Window};
use crate::kernel::renorm::{Outcome, load_block, normalize_outcome, store_block};
use crate::kernel::widen::{BLOCK, with_element};
use crate::renorm::Normalized;
use crate::vector::{LANES, Vector};
use crate::{Dtype, Rows};

/// Which columns to divide: turns norms into divisors, 0 for columns that stay.
pub(crate) struct Decide<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) norms: &'a mut [f64],
}

impl Kernel for Decide<'_> {
    type Output = Normalized;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Normalized {
        let mut window = ReadWindow::new(self.rows);
        let mut total = Normalized::default();
        for (index, norm) in self.norms.iter_mut().enumerate() {
            with_element!(self.rows.layout.dtype, E => {
                let len = self.rows.layout.shape[1];
                // SAFETY: by contract; a column is gathered only where its norm alone does not decide.
                let outcome = unsafe {
                    normalize_outcome::<V, E, _>(*norm, len, || {
                        window.load::<V>(index, 1);
                        window.row(0).to_vec()
                    })
                };
                if outcome != Outcome::Changed {
                    *norm = 0.0;
                }
                total.count(outcome);
            });
        }
        total
    }
}

/// Divides the elements of matrix rows by the divisors of their columns.
pub(crate) struct DivideColumns<'a> {
    /// Matrix rows: the view with the reduced and the inner axis exchanged.
    pub(crate) range: RowRange<'a>,
    pub(crate) divisors: &'a [f64],
}

impl Kernel for DivideColumns<'_> {
    type Output = Normalized;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Normalized {
        let dtype = self.range.layout().dtype;
        // SAFETY: by contract.
        with_element!(dtype, E => unsafe { self.run_typed::<V, E>() });
        Normalized::default()
    }
}

impl DivideColumns<'_> {
    /// # Safety
    /// The CPU has the instruction set of `V`; the view holds elements of `E`.
    #[inline(always)]
    unsafe fn run_typed<V: Vector, E: Narrow>(self) {
        let size_bytes = E::DTYPE.size_bytes();
        let (count, first) = (self.range.count(), self.range.first());
        let [_, inner, len] = self.range.layout().shape;
        let mut window = Window::new(self.range);
        for index in 0..count {
            window.load::<V>(index, 1);
            let columns = &self.divisors[(first + index) / len * inner..][..inner];
            let parts = window.row(0).chunks_mut(BLOCK * size_bytes);
            for (part, columns) in parts.zip(columns.chunks(BLOCK)) {
                let mut divisors = [1.0; BLOCK];
                let mut kept = 0_u64;
                for (at, (slot, divisor)) in divisors.iter_mut().zip(columns).enumerate() {
                    *slot = if *divisor == 0.0 { 1.0 } else { *divisor };
                    kept |= u64::from(*divisor == 0.0) << at;
                }
                let mut before = [0_u8; BLOCK * 8];
                if kept != 0 {
                    before[..part.len()].copy_from_slice(part);
                }
                // SAFETY: by contract; both arrays hold a block.
                unsafe {
                    let mut values = load_block::<V, E>(part);
                    for start in (0..BLOCK).step_by(LANES) {
                        let slot = values.as_mut_ptr().add(start);
                        let divisor = V::load(divisors.as_ptr().add(start));
                        let value = V::load(slot);
                        if E::DTYPE == Dtype::F64 {
                            value.div(divisor).store(slot);
                        } else {
                            value.quotient(divisor, V::splat(1.0).div(divisor)).store(slot);
                        }
                    }
                    store_block::<E>(&values, part);
                }
                // Dividing by 1 gives the same number, but may give another NaN.
                while kept != 0 {
                    let at = kept.trailing_zeros() as usize * size_bytes;
                    part[at..at + size_bytes].copy_from_slice(&before[at..at + size_bytes]);
                    kept &= kept - 1;
                }
            }
        }
    }
}

/// For each column, how much of `y` there is in `x`: `x · y / y · y`, and what may be done about it.
pub(crate) struct ColumnComponents<'a> {
    pub(crate) x: Rows<'a>,
    pub(crate) y: Rows<'a>,
    pub(crate) first: usize,
    pub(crate) along: &'a mut [f64],
    pub(crate) squares: &'a mut [f64],
}

impl Kernel for ColumnComponents<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [_, len, inner] = self.y.layout.shape;
        let (x_dtype, y_dtype) = (self.x.layout.dtype, self.y.layout.dtype);
        let part = |rows: &Rows<'_>, start: usize, step: usize, columns: usize| {
            let size_bytes = rows.layout.dtype.size_bytes();
            let at = (start + step * rows.layout.strides[1]) * size_bytes;
            at..at + columns * size_bytes
        };
        let mut done = 0;
        while done < self.along.len() {
            let row = self.first + done;
            // A column's sum is one running sum, whatever is worked on beside it.
            let width = (8 * BLOCK).min(inner - row % inner).min(self.along.len() - done);
            let (x_start, y_start) = (self.x.layout.start(row), self.y.layout.start(row));
            let along = &mut self.along[done..done + width];
            let squares = &mut self.squares[done..done + width];
            along.fill(0.0);
            squares.fill(0.0);
            for step in 0..len {
                for block in (0..width).step_by(BLOCK) {
                    let columns = BLOCK.min(width - block);
                    // SAFETY: by contract; the views were checked to lie within their buffers.
                    let (x, y) = unsafe {
                        let x = &self.x.bytes[part(&self.x, x_start + block, step, columns)];
                        let y = &self.y.bytes[part(&self.y, y_start + block, step, columns)];
                        (load_any::<V>(x_dtype, x), load_any::<V>(y_dtype, y))
                    };
                    let sums = along[block..].iter_mut().zip(&mut squares[block..]);
                    for ((along, square), (x, y)) in sums.zip(x.iter().zip(&y)) {
                        *along += x * y;
                        *square += y * y;
                    }
                }
            }
            for (along, square) in along.iter_mut().zip(squares) {
                *along /= *square;
            }
            done += width;
        }
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; `part` holds at most a block of elements of `dtype`.
#[inline(always)]
unsafe fn load_any<V: Vector>(dtype: Dtype, part: &[u8]) -> [f64; BLOCK] {
    // SAFETY: by contract.
    with_element!(dtype, E => unsafe { load_block::<V, E>(part) })
}

/// Adam on matrix rows, given for each column how much of it its gradient holds.
pub(crate) struct StepColumns<'a> {
    /// All with the reduced and the inner axis exchanged, f32.
    pub(crate) params: RowRange<'a>,
    pub(crate) grads: Rows<'a>,
    pub(crate) exp_avg: RowRange<'a>,
    pub(crate) exp_avg_sq: RowRange<'a>,
    pub(crate) along: &'a [f64],
    pub(crate) coefficients: Coefficients,
}

impl Kernel for StepColumns<'_> {
    type Output = Normalized;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Normalized {
        let (count, first) = (self.params.count(), self.params.first());
        let [_, inner, len] = self.params.layout().shape;
        let mut params = Window::new(self.params);
        let mut grads = ReadWindow::new(self.grads);
        let mut exp_avg = Window::new(self.exp_avg);
        let mut exp_avg_sq = Window::new(self.exp_avg_sq);
        for index in 0..count {
            params.load::<V>(index, 1);
            exp_avg.load::<V>(index, 1);
            exp_avg_sq.load::<V>(index, 1);
            grads.load::<V>(first + index, 1);
            let along = &self.along[(first + index) / len * inner..][..inner];
            let state = (exp_avg.row(0), exp_avg_sq.row(0));
            update_columns(params.row(0), grads.row(0), state.0, state.1, along, &self.coefficients);
        }
        Normalized::default()
    }
}
