//! In-place work on a strided axis: matrix rows are streamed in order, with a coefficient for each column.
//!
//! Gathering columns would touch a page for every element. Here norms or scalar products come from a pass of
//! their own, and a second pass writes; both read memory in order.

use std::array::from_fn;

use crate::adam::Coefficients;
use crate::dispatch::Kernel;
use crate::kernel::narrow::Narrow;
use crate::kernel::range::{ReadWindow, RowRange, Window};
use crate::kernel::renorm::{Outcome, load_block, normalize_outcome, store_block};
use crate::kernel::update::update_columns;
use crate::kernel::widen::{BLOCK, with_element};
use crate::renorm::Normalized;
use crate::tangent::Removed;
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
    /// 0 for columns that stay.
    pub(crate) divisors: &'a [f64],
    /// One over each divisor.
    pub(crate) inverses: &'a [f64],
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
        let (count, first) = (self.range.count(), self.range.first());
        let [_, inner, len] = self.range.layout().shape;
        let block_bytes = BLOCK * E::DTYPE.size_bytes();
        let mut window = Window::new(self.range);
        let mut index = 0;
        while index < count {
            let columns = (first + index) / len * inner;
            let together = STEPS.min(count - index).min(len - (first + index) % len);
            window.load::<V>(index, together);
            let factors = (self.divisors[columns..][..inner].chunks(BLOCK))
                .zip(self.inverses[columns..][..inner].chunks(BLOCK));
            for (block, (divisors, inverses)) in factors.enumerate() {
                if E::DTYPE == Dtype::F32
                    && together == STEPS
                    && divisors.len() == BLOCK
                    && !divisors.contains(&0.0)
                {
                    let targets = from_fn(|step| window.row(step)[block * block_bytes..].as_mut_ptr().cast());
                    // SAFETY: by contract; a block of each matrix row, which share no element, and both slices
                    // hold a block.
                    unsafe { divide_steps::<V>(targets, divisors, inverses) }
                    continue;
                }
                for step in 0..together {
                    let part = &mut window.row(step)[block * block_bytes..];
                    let len_bytes = part.len().min(block_bytes);
                    // SAFETY: by contract.
                    unsafe { divide_part::<V, E>(&mut part[..len_bytes], divisors) }
                }
            }
            index += together;
        }
    }
}

/// Divides a block of several matrix rows, so that divisors are read once for all of them: they are four times as
/// many bytes as an element.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block of float32 is readable and writable at each of `targets`, at any
/// alignment, and both slices hold a block.
#[inline(always)]
unsafe fn divide_steps<V: Vector>(targets: [*mut f32; STEPS], divisors: &[f64], inverses: &[f64]) {
    let ahead = STEPS * (targets[STEPS - 1].addr() - targets[STEPS - 2].addr());
    for start in (0..BLOCK).step_by(LANES) {
        // SAFETY: by contract.
        unsafe {
            let (divisor, inverse) =
                (V::load(divisors.as_ptr().add(start)), V::load(inverses.as_ptr().add(start)));
            for target in targets {
                let slot = target.add(start);
                if start % (2 * LANES) == 0 {
                    V::prefetch(slot.cast::<u8>().wrapping_add(ahead));
                }
                V::widen(slot).quotient(divisor, inverse).narrow(slot);
            }
        }
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; `part` holds an element of `E` for each divisor, a block at most.
#[inline(always)]
unsafe fn divide_part<V: Vector, E: Narrow>(part: &mut [u8], divisors: &[f64]) {
    let mut by = [1.0; BLOCK];
    for (slot, divisor) in by.iter_mut().zip(divisors) {
        *slot = if *divisor == 0.0 { 1.0 } else { *divisor };
    }
    // SAFETY: by contract; both arrays hold a block.
    unsafe {
        let mut values = load_block::<V, E>(part);
        for start in (0..BLOCK).step_by(LANES) {
            let slot = values.as_mut_ptr().add(start);
            let (value, divisor) = (V::load(slot), V::load(by.as_ptr().add(start)));
            if E::DTYPE == Dtype::F64 {
                value.div(divisor).store(slot);
            } else {
                value.quotient(divisor, V::splat(1.0).div(divisor)).store(slot);
            }
        }
        store_changed::<E>(&values, part, divisors);
    }
}

/// Stores a block; elements whose factor is 0 keep their bits, which a NaN would lose.
///
/// # Safety
/// `part` holds an element of `E` for each factor, a block at most.
#[inline(always)]
unsafe fn store_changed<E: Narrow>(values: &[f64; BLOCK], part: &mut [u8], factors: &[f64]) {
    let size_bytes = E::DTYPE.size_bytes();
    let mut before = [0_u8; BLOCK * 8];
    before[..part.len()].copy_from_slice(part);
    // SAFETY: by contract.
    unsafe { store_block::<E>(values, part) };
    let elements = part.chunks_exact_mut(size_bytes).zip(before.chunks_exact(size_bytes));
    for ((element, before), factor) in elements.zip(factors) {
        if *factor == 0.0 {
            element.copy_from_slice(before);
        }
    }
}

/// Subtracts from matrix rows `x` those of `y`, times a factor for each column.
pub(crate) struct SubtractColumns<'a> {
    /// Matrix rows: the views with the reduced and the inner axis exchanged.
    pub(crate) x: RowRange<'a>,
    pub(crate) y: Rows<'a>,
    /// 0 for columns that stay.
    pub(crate) factors: &'a [f64],
}

impl Kernel for SubtractColumns<'_> {
    type Output = Removed;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Removed {
        let (x_dtype, y_dtype) = (self.x.layout().dtype, self.y.layout.dtype);
        let (count, first) = (self.x.count(), self.x.first());
        let [_, inner, len] = self.x.layout().shape;
        let mut x = Window::new(self.x);
        let mut y = ReadWindow::new(self.y);
        for index in 0..count {
            x.load::<V>(index, 1);
            y.load::<V>(first + index, 1);
            let factors = &self.factors[(first + index) / len * inner..][..inner];
            let (x, y) = (x.row(0), y.row(0));
            let in_place = (x_dtype == Dtype::F32 && y_dtype == Dtype::F32)
                .then(|| (bytemuck::try_cast_slice_mut(&mut *x), bytemuck::try_cast_slice(y)));
            if let Some((Ok(x), Ok(y))) = in_place {
                subtract(x, y, factors);
                continue;
            }
            let parts =
                x.chunks_mut(BLOCK * x_dtype.size_bytes()).zip(y.chunks(BLOCK * y_dtype.size_bytes()));
            for ((x, y), factors) in parts.zip(factors.chunks(BLOCK)) {
                // SAFETY: by contract; at most a block each.
                let y = unsafe { load_any::<V>(y_dtype, y) };
                with_element!(x_dtype, E => {
                    // SAFETY: by contract; at most a block.
                    unsafe {
                        let mut values = load_block::<V, E>(x);
                        for ((value, y), factor) in values.iter_mut().zip(y).zip(factors) {
                            *value -= y * factor;
                        }
                        store_changed::<E>(&values, x, factors);
                    }
                });
            }
        }
        Removed::default()
    }
}

/// Float32 where it lies.
#[inline(always)]
fn subtract(x: &mut [f32], y: &[f32], factors: &[f64]) {
    for ((x, y), factor) in x.iter_mut().zip(y).zip(factors) {
        #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
        let difference = (f64::from(*x) - f64::from(*y) * factor) as f32;
        *x = if *factor == 0.0 { *x } else { difference };
    }
}

/// For each column, how much of `y` there is in `x`: `x · y / y · y`, both one running sum in float64.
pub(crate) struct ColumnComponents<'a> {
    pub(crate) x: Rows<'a>,
    pub(crate) y: Rows<'a>,
    pub(crate) first: usize,
    pub(crate) along: &'a mut [f64],
    pub(crate) squares: &'a mut [f64],
}

/// Columns whose sums are kept together: both stay in the first-level cache.
const SUMS: usize = 1024;

/// Matrix rows that are added to the sums at a time.
const STEPS: usize = 4;

impl Kernel for ColumnComponents<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let [_, len, inner] = self.y.layout.shape;
        let all_f32 = self.x.layout.dtype == Dtype::F32 && self.y.layout.dtype == Dtype::F32;
        let mut done = 0;
        while done < self.along.len() {
            let row = self.first + done;
            let width = SUMS.min(inner - row % inner).min(self.along.len() - done);
            let (x, y) = (MatrixRows::new(self.x, row, width), MatrixRows::new(self.y, row, width));
            let along = &mut self.along[done..done + width];
            let squares = &mut self.squares[done..done + width];
            along.fill(0.0);
            squares.fill(0.0);
            let mut step = 0;
            if all_f32 {
                while step + STEPS <= len {
                    let (x, y) = (from_fn(|index| x.get(step + index)), from_fn(|index| y.get(step + index)));
                    // SAFETY: by contract; the matrix rows hold `width` float32 each.
                    unsafe { add_steps::<V>(x, y, along, squares) };
                    step += STEPS;
                }
            }
            for step in step..len {
                // SAFETY: by contract.
                unsafe { add_step::<V>(&x, &y, step, along, squares) };
            }
            for (along, square) in along.iter_mut().zip(squares) {
                *along /= *square;
            }
            done += width;
        }
    }
}

/// The same columns of each matrix row.
struct MatrixRows<'a> {
    rows: Rows<'a>,
    start: usize,
    width: usize,
}

impl<'a> MatrixRows<'a> {
    fn new(rows: Rows<'a>, first: usize, width: usize) -> Self {
        Self { rows, start: rows.layout.start(first), width }
    }

    #[inline(always)]
    fn get(&self, step: usize) -> &'a [u8] {
        let size_bytes = self.rows.layout.dtype.size_bytes();
        let start = (self.start + step * self.rows.layout.strides[1]) * size_bytes;
        &self.rows.bytes[start..][..self.width * size_bytes]
    }
}

/// Adds [`STEPS`] matrix rows of float32, whose products are exact in float64.
///
/// # Safety
/// The CPU has the instruction set of `V`; each matrix row holds a float32 for each sum.
#[inline(always)]
unsafe fn add_steps<V: Vector>(x: [&[u8]; STEPS], y: [&[u8]; STEPS], along: &mut [f64], squares: &mut [f64]) {
    let ahead = |rows: [&[u8]; STEPS]| rows[STEPS - 1].as_ptr().addr() - rows[STEPS - 2].as_ptr().addr();
    let (x_ahead, y_ahead) = (STEPS * ahead(x), STEPS * ahead(y));
    let width = along.len();
    for start in (0..width).step_by(LANES) {
        if start + LANES > width {
            for (index, (along, square)) in along.iter_mut().zip(&mut *squares).enumerate().skip(start) {
                for (x, y) in x.iter().zip(y) {
                    let at =
                        |row: &[u8]| f64::from(bytemuck::pod_read_unaligned::<f32>(&row[index * 4..][..4]));
                    *along += at(x) * at(y);
                    *square += at(y) * at(y);
                }
            }
            return;
        }
        // SAFETY: by contract; eight columns from `start` on.
        unsafe {
            let (product, square) = (along.as_mut_ptr().add(start), squares.as_mut_ptr().add(start));
            let (mut products, mut sums) = (V::load(product), V::load(square));
            for (x, y) in x.iter().zip(y) {
                let (x, y) = (x.as_ptr().add(start * 4), y.as_ptr().add(start * 4));
                if start % (2 * LANES) == 0 {
                    V::prefetch(x.wrapping_add(x_ahead));
                    V::prefetch(y.wrapping_add(y_ahead));
                }
                let (x, y) = (V::widen(x.cast()), V::widen(y.cast()));
                products = products.add_exact_product(x, y);
                sums = sums.add_exact_product(y, y);
            }
            products.store(product);
            sums.store(square);
        }
    }
}

/// Adds one matrix row of any format.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn add_step<V: Vector>(
    x: &MatrixRows<'_>,
    y: &MatrixRows<'_>,
    step: usize,
    along: &mut [f64],
    squares: &mut [f64],
) {
    let (x_dtype, y_dtype) = (x.rows.layout.dtype, y.rows.layout.dtype);
    let x = x.get(step).chunks(BLOCK * x_dtype.size_bytes());
    let y = y.get(step).chunks(BLOCK * y_dtype.size_bytes());
    let sums = along.chunks_mut(BLOCK).zip(squares.chunks_mut(BLOCK));
    for ((x, y), (along, squares)) in x.zip(y).zip(sums) {
        // SAFETY: by contract; at most a block each.
        let (x, y) = unsafe { (load_any::<V>(x_dtype, x), load_any::<V>(y_dtype, y)) };
        for ((along, square), (x, y)) in along.iter_mut().zip(squares).zip(x.iter().zip(&y)) {
            *along += x * y;
            *square += y * y;
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

/// Adam on matrix rows, given [`Coefficients::pull`] for each column.
pub(crate) struct StepColumns<'a> {
    /// All with the reduced and the inner axis exchanged, f32.
    pub(crate) params: RowRange<'a>,
    pub(crate) grads: Rows<'a>,
    pub(crate) exp_avg: RowRange<'a>,
    pub(crate) exp_avg_sq: RowRange<'a>,
    pub(crate) pulls: &'a [f32],
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
            let pulls = &self.pulls[(first + index) / len * inner..][..inner];
            let state = (exp_avg.row(0), exp_avg_sq.row(0));
            // SAFETY: by contract; all have the same rows.
            unsafe {
                update_columns::<V>(params.row(0), grads.row(0), state.0, state.1, pulls, &self.coefficients);
            }
        }
        Normalized::default()
    }
}
