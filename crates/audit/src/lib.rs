//! One pass over checkpoint bytes: findings and the statistics behind a verdict.
//!
//! [`header::read_headers`] opens and validates files, [`scan::scan`] reads their data once: the values of all tensors
//! and the rows of those that are named as decoders. Nothing here knows a publisher or a layout, and nothing here
//! raises an error for what is wrong with a file: that is a finding.
#![forbid(unsafe_code)]

pub mod digest;
pub mod header;
mod pass;
mod read;
pub mod scan;
mod scanner;
pub mod set;
pub mod stats;
pub mod values;
pub mod view;
pub mod watch;
