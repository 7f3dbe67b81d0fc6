//! Exact row norms, renormalisation and projections, in SIMD.
//!
//! Rows are views of bytes ([`Rows`], [`RowsMut`]) in one of eight floating-point formats ([`Dtype`]). Every
//! norm is accumulated in float64 from exactly widened elements, and has the same bits on every instruction
//! set, for every number of threads and for every memory layout.

mod adam;
mod counts;
pub mod dispatch;
mod element;
mod error;
mod float32;
mod isa;
mod kernel;
mod norm;
mod parallel;
mod pool;
mod renorm;
mod rows;
mod tangent;
mod vector;

#[cfg(target_endian = "big")]
compile_error!("elements are read as little-endian");

pub use adam::{Adam, AdamTensors, adam_step, adam_step_with};
pub use counts::{Counts, value_counts, value_counts_with};
pub use dispatch::Isa;
pub use element::Dtype;
pub use error::Error;
pub use float32::{Summation, float32_norm, float32_norm_with, torch_figure, torch_figure_with};
pub use norm::{
    row_norms, row_norms_counted, row_norms_counted_with, row_norms_figured, row_norms_figured_with,
    row_norms_with,
};
pub use pool::{MOST_THREADS, Pool, threads_asked_for};
pub use renorm::{Compat, Normalize, Normalized, OnDegenerate, normalize_rows, normalize_rows_with};
pub use rows::{Rows, RowsMut, zeros};
pub use tangent::{Removed, remove_parallel, remove_parallel_with};
