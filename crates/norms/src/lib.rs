//! Exact row norms, renormalisation and projections, in SIMD.
//!
//! Rows are views of bytes ([`Rows`], [`RowsMut`]) in one of eight floating-point formats ([`Dtype`]). Every
//! norm is accumulated in float64 from exactly widened elements, and has the same bits on every instruction
//! set, for every number of threads and for every memory layout.

mod counts;
mod element;
mod error;
mod float32;
mod norm;
mod pool;
mod rows;

pub use counts::{Counts, value_counts};
pub use element::Dtype;
pub use error::Error;
pub use float32::{Summation, float32_norm, torch_figure};
pub use norm::{row_norms, row_norms_counted};
pub use pool::Pool;
pub use rows::{Rows, RowsMut};
