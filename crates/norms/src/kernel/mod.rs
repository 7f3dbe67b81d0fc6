//! The algorithms, each written once over [`crate::vector::Vector`].
#![expect(unsafe_code, reason = "loads through pointers at any alignment; vector instructions")]
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined loses the caller's target features"
)]

pub(crate) mod adam;
pub(crate) mod adam_row;
pub(crate) mod ahead;
pub(crate) mod columns;
pub(crate) mod figured;
pub(crate) mod float32;
pub(crate) mod fold;
pub(crate) mod last_axis;
pub(crate) mod narrow;
pub(crate) mod range;
pub(crate) mod renorm;
pub(crate) mod scan;
pub(crate) mod stream;
pub(crate) mod sum;
pub(crate) mod tangent;
pub(crate) mod update;
pub(crate) mod widen;
