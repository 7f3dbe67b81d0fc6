//! Dividing rows that are written among threads.

use std::ops::Add;

use rayon::prelude::*;

use crate::Pool;
use crate::kernel::range::group_of;
use crate::norm::PARALLEL_BYTES;
use crate::rows::Layout;

/// Rows of one part: all of them where a second thread would not pay, and never less than a group.
pub(crate) fn part_of(layouts: &[Layout], pool: Option<&Pool>) -> usize {
    let rows = layouts.iter().map(Layout::count).max().unwrap_or(0);
    let row_bytes: usize =
        layouts.iter().map(|layout| layout.shape[1].saturating_mul(layout.dtype.size_bytes())).sum();
    let pays = row_bytes.saturating_mul(rows) >= PARALLEL_BYTES;
    if !pays || pool.is_none_or(|pool| pool.threads() < 2) {
        return rows.max(1);
    }
    let group = layouts.iter().map(group_of).max().unwrap_or(1);
    (PARALLEL_BYTES / 4 / row_bytes.max(1)).max(1).next_multiple_of(group)
}

/// Runs `work` on every part, in the pool where there is more than one, and adds up the results.
pub(crate) fn run_parts<P: Send, R: Send + Default + Add<Output = R>>(
    pool: Option<&Pool>,
    mut parts: Vec<P>,
    work: impl Fn(P) -> R + Sync + Send,
) -> R {
    match pool {
        Some(pool) if parts.len() > 1 => {
            pool.install(|| parts.into_par_iter().map(work).reduce(R::default, Add::add))
        }
        _ => parts.drain(..).map(work).fold(R::default(), Add::add),
    }
}
