//! Row norms.

use crate::counts::of_element;
use crate::element::value_at;
use crate::{Counts, Error, Pool, Rows};

/// The Euclidean norm of every row, accumulated in float64 from exactly widened elements.
///
/// `norms` receives one value per row, in the order of [`Rows`]. A row with a NaN has norm NaN; one with an
/// infinity and no NaN has norm +Inf; an empty row has norm 0. Without a pool the calling thread works alone;
/// the bits are the same for any number of threads.
///
/// # Errors
/// [`Error::Length`] where `norms` is not as long as there are rows.
pub fn row_norms(rows: Rows<'_>, norms: &mut [f64], pool: Option<&Pool>) -> Result<(), Error> {
    row_norms_counted(rows, norms, pool).map(|_| ())
}

/// [`row_norms`] and, from the same pass over memory, the counts of special values.
///
/// # Errors
/// As [`row_norms`].
pub fn row_norms_counted(rows: Rows<'_>, norms: &mut [f64], _pool: Option<&Pool>) -> Result<Counts, Error> {
    if norms.len() != rows.count() {
        return Err(Error::Length { what: "norms", expected: rows.count(), found: norms.len() });
    }
    let layout = rows.layout;
    let mut counts = Counts::EMPTY;
    for (row, norm) in norms.iter_mut().enumerate() {
        let start = layout.start(row);
        let indices = (0..layout.shape[1]).map(|k| start + k * layout.strides[1]);
        let mut sum = 0.0;
        let mut nan = false;
        for index in indices {
            let value = value_at(rows.bytes, layout.dtype, index);
            nan |= value.is_nan();
            sum += value * value;
            counts = counts.merge(of_element(rows.bytes, layout.dtype, index));
        }
        *norm = if nan { f64::NAN } else { sum.sqrt() };
    }
    Ok(counts)
}
