//! The structure of containers: catalogued cases, every truncation and bit flip, and the reference reader's word.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod build;
mod file;
mod hostile;
mod index;
mod npz;
mod round_trip;
mod safetensors;
