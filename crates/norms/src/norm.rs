//! Row norms.

use rayon::prelude::*;

use crate::dispatch::Isa;
use crate::float32::torch_figure_with;
use crate::kernel::columns::{Columns, TILE};
use crate::kernel::figured::Figured;
use crate::kernel::last_axis::LastAxis;
use crate::kernel::widen::BLOCK;
use crate::{Counts, Dtype, Error, Pool, Rows};

/// Bytes below which a second thread costs more than it saves where rows are written.
pub(crate) const PARALLEL_BYTES: usize = 1 << 18;

/// The same for norms alone, which take a tenth of the time: waking a thread can cost as much as reading 4 MiB.
const PARALLEL_NORM_BYTES: usize = 1 << 24;

/// Bytes of one part of a parallel pass: long enough for prefetchers, short enough to share evenly.
const PART_BYTES: usize = 1 << 20;

/// The Euclidean norm of every row, accumulated in float64 from exactly widened elements.
///
/// `norms` receives one value per row, in the order of [`Rows`], within 4 ulp for rows of up to 65,536
/// elements. A row with a NaN has norm NaN; one with an infinity and no NaN has norm +Inf; an empty row has
/// norm 0. Without a pool the calling thread works alone; the bits are the same for any number of threads.
///
/// # Errors
/// [`Error::Length`] where `norms` is not as long as there are rows.
pub fn row_norms(rows: Rows<'_>, norms: &mut [f64], pool: Option<&Pool>) -> Result<(), Error> {
    row_norms_with(Isa::detect(), rows, norms, pool)
}

/// [`row_norms`] on a chosen instruction set; the bits are the same on all of them.
///
/// # Errors
/// As [`row_norms`].
pub fn row_norms_with(isa: Isa, rows: Rows<'_>, norms: &mut [f64], pool: Option<&Pool>) -> Result<(), Error> {
    rows.check_output(norms.len())?;
    over_rows(rows, norms, pool, |first, norms| {
        run(isa, rows, first, norms, None);
        Counts::EMPTY
    });
    Ok(())
}

/// [`row_norms`] and, from the same pass over memory, the counts of special values.
///
/// # Errors
/// As [`row_norms`].
pub fn row_norms_counted(rows: Rows<'_>, norms: &mut [f64], pool: Option<&Pool>) -> Result<Counts, Error> {
    row_norms_counted_with(Isa::detect(), rows, norms, pool)
}

/// [`row_norms_counted`] on a chosen instruction set.
///
/// # Errors
/// As [`row_norms`].
pub fn row_norms_counted_with(
    isa: Isa,
    rows: Rows<'_>,
    norms: &mut [f64],
    pool: Option<&Pool>,
) -> Result<Counts, Error> {
    rows.check_output(norms.len())?;
    Ok(over_rows(rows, norms, pool, |first, norms| {
        let mut counts = Counts::EMPTY;
        run(isa, rows, first, norms, Some(&mut counts));
        counts
    }))
}

/// [`row_norms_counted`] on the calling thread, and [`crate::torch_figure`] into `figures`: float32 rows whose elements
/// are adjacent are swept once for all three.
///
/// # Errors
/// [`Error::Length`] where `norms` or `figures` is not as long as there are rows.
pub fn row_norms_figured(rows: Rows<'_>, norms: &mut [f64], figures: &mut [f64]) -> Result<Counts, Error> {
    row_norms_figured_with(Isa::detect(), rows, norms, figures)
}

/// [`row_norms_figured`] on a chosen instruction set.
///
/// # Errors
/// As [`row_norms_figured`].
pub fn row_norms_figured_with(
    isa: Isa,
    rows: Rows<'_>,
    norms: &mut [f64],
    figures: &mut [f64],
) -> Result<Counts, Error> {
    rows.check_output(norms.len())?;
    rows.check_output(figures.len())?;
    if rows.dtype() == Dtype::F32 && rows.layout.strides[1] == 1 {
        return Ok(isa.run(Figured { rows, norms, figures }));
    }
    torch_figure_with(isa, rows, figures)?;
    row_norms_counted_with(isa, rows, norms, None)
}

fn run(isa: Isa, rows: Rows<'_>, first: usize, norms: &mut [f64], counts: Option<&mut Counts>) {
    if rows.layout.is_columns() {
        isa.run(Columns { rows, first, norms, counts });
    } else {
        isa.run(LastAxis { rows, first, norms, counts });
    }
}

/// Calls `work(first_row, norms)` on parts of `norms`, in parallel where that pays.
fn over_rows(
    rows: Rows<'_>,
    norms: &mut [f64],
    pool: Option<&Pool>,
    work: impl Fn(usize, &mut [f64]) -> Counts + Sync,
) -> Counts {
    let row_bytes = rows.layout.shape[1].saturating_mul(rows.dtype().size_bytes());
    let total_bytes = row_bytes.saturating_mul(norms.len());
    match pool.filter(|pool| pool.threads() > 1 && total_bytes >= PARALLEL_NORM_BYTES) {
        None => work(0, norms),
        Some(pool) => {
            let mut part = (PART_BYTES / row_bytes.max(1)).max(1);
            if rows.layout.is_columns() {
                // As wide as possible, but enough of them for threads that are not equally fast.
                let wide = norms.len().div_ceil(2 * pool.threads()).min(TILE);
                part = part.max(wide).next_multiple_of(BLOCK);
            }
            pool.install(|| {
                norms
                    .par_chunks_mut(part)
                    .enumerate()
                    .map(|(index, norms)| work(index * part, norms))
                    .reduce(|| Counts::EMPTY, Counts::merge)
            })
        }
    }
}
