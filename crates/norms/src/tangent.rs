//! Gradients without the component that a norm constraint undoes.

use std::ops::Add;

use crate::dispatch::Isa;
use crate::kernel::range::RowRange;
use crate::kernel::renorm::Outcome;
use crate::kernel::stream::{ColumnComponents, SubtractColumns};
use crate::kernel::tangent::RemoveParallel;
use crate::parallel::{part_of, run_parts};
use crate::rows::{Layout, zeros};
use crate::{Dtype, Error, Pool, Rows, RowsMut};

/// What became of the gradient rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Gradient rows that were written.
    pub changed: usize,
    /// Gradient rows with no component along their row.
    pub unchanged: usize,
    /// Gradient rows left alone because their row is zero.
    pub zero: usize,
    /// Gradient rows left alone because they or their row hold NaN or Inf.
    pub nonfinite: usize,
}

impl Removed {
    pub(crate) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Changed => self.changed += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Zero => self.zero += 1,
            Outcome::Nonfinite => self.nonfinite += 1,
        }
    }
}

impl Add for Removed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            changed: self.changed + other.changed,
            unchanged: self.unchanged + other.unchanged,
            zero: self.zero + other.zero,
            nonfinite: self.nonfinite + other.nonfinite,
        }
    }
}

/// Removes from each row of `grad` its component along the row of the same number, in place.
///
/// `grad -= row (grad · row) / (row · row)` in float64, rounded once to the format of `grad`; exact for rows
/// that are not of unit length too. Both views have as many rows of the same length; their dtypes and strides
/// may differ. Scalar products of a strided axis are summed in another order than those of the last axis, so the
/// two may differ by an ulp; instruction sets and thread counts do not.
///
/// # Errors
/// [`Error::Shape`] where the views disagree.
pub fn remove_parallel(grad: RowsMut<'_>, rows: Rows<'_>, pool: Option<&Pool>) -> Result<Removed, Error> {
    remove_parallel_with(Isa::detect(), grad, rows, pool)
}

/// [`remove_parallel`] on a chosen instruction set; the bits are the same on all of them.
///
/// # Errors
/// As [`remove_parallel`].
pub fn remove_parallel_with(
    isa: Isa,
    grad: RowsMut<'_>,
    rows: Rows<'_>,
    pool: Option<&Pool>,
) -> Result<Removed, Error> {
    rows.layout.check_same_rows("grad", &grad.layout)?;
    let layouts = [grad.layout, rows.layout];
    // Squares of float64 may leave the range, which is dealt with row by row.
    let is_narrow = layouts.iter().all(|layout| layout.dtype != Dtype::F64);
    if is_narrow && grad.layout.shape == rows.layout.shape && layouts.iter().all(Layout::is_columns) {
        return remove_columns(isa, grad, rows, pool);
    }
    let part = part_of(&layouts, pool);
    let parts: Vec<_> = RowRange::whole(grad).split(part).collect();
    Ok(run_parts(pool, parts, |grads| isa.run(RemoveParallel { grads, rows })))
}

/// The strided axis: one pass for the components, one to subtract them, both in the order of memory.
fn remove_columns(
    isa: Isa,
    grad: RowsMut<'_>,
    rows: Rows<'_>,
    pool: Option<&Pool>,
) -> Result<Removed, Error> {
    let (mut along, squares) = column_components(isa, grad.as_rows(), rows, pool)?;
    let mut total = Removed::default();
    for (along, square) in along.iter_mut().zip(squares) {
        let outcome = if square == 0.0 {
            Outcome::Zero
        } else if !square.is_finite() || !along.is_finite() {
            Outcome::Nonfinite
        } else if *along == 0.0 {
            Outcome::Unchanged
        } else {
            Outcome::Changed
        };
        if outcome != Outcome::Changed {
            *along = 0.0;
        }
        total.count(outcome);
    }
    if total.changed > 0 {
        let (grad, y, factors) = (grad.transposed(), rows.transposed(), &along);
        let part = part_of(&[grad.layout, y.layout], pool);
        let parts: Vec<_> = RowRange::whole(grad).split(part).collect();
        run_parts(pool, parts, |x| isa.run(SubtractColumns { x, y, factors }));
    }
    Ok(total)
}

/// For each row of a strided view, how much of `y` there is in `x`, and the square of `y`'s norm.
pub(crate) fn column_components(
    isa: Isa,
    x: Rows<'_>,
    y: Rows<'_>,
    pool: Option<&Pool>,
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let (mut along, mut squares) = (zeros(y.count())?, zeros(y.count())?);
    let part = part_of(&[x.layout, y.layout], pool).max(COLUMNS).min(y.count().max(1));
    let parts: Vec<_> = along
        .chunks_mut(part)
        .zip(squares.chunks_mut(part))
        .enumerate()
        .map(|(index, (along, squares))| ColumnComponents { x, y, first: index * part, along, squares })
        .collect();
    run_parts(pool, parts, |part| {
        isa.run(part);
        Removed::default()
    });
    Ok((along, squares))
}

/// Columns that one thread takes at least: enough of each matrix row to be worth a visit.
const COLUMNS: usize = 512;
