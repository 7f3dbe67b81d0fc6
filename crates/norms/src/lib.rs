//! Exact row norms, renormalisation and projections, in SIMD.
//!
//! Rows are views of bytes ([`Rows`], [`RowsMut`]) in one of eight floating-point formats ([`Dtype`]). Every
//! norm is accumulated in float64 from exactly widened elements, and has the same bits on every instruction
//! set, for every number of threads and for every memory layout.

mod counts;
pub mod dispatch;
mod element;
mod error;
mod float32;
mod isa;
mod kernel;
mod norm;
mod pool;
mod rows;
mod vector;

#[cfg(target_endian = "big")]
compile_error!("elements are read as little-endian");

pub use counts::{Counts, value_counts, value_counts_with};
pub use dispatch::Isa;
pub use element::Dtype;
pub use error::Error;
pub use float32::{Summation, float32_norm, float32_norm_with, torch_figure, torch_figure_with};
pub use norm::{row_norms, row_norms_counted, row_norms_counted_with, row_norms_with};
pub use pool::Pool;
pub use rows::{Rows, RowsMut};
