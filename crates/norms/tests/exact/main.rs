//! Every kernel against exact arithmetic, on every instruction set that this machine has.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::float_cmp, reason = "the same bits are what is promised")]

mod float32;
mod norms;
mod oracle;
mod renorm;
mod step;
