//! A scan seen from outside: how far it is, and a way to end it early.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::scan::Failure;

/// Shared between a scan and whoever waits for it.
#[derive(Debug, Default)]
pub struct Watch {
    bytes_done: AtomicU64,
    cancelled: AtomicBool,
}

impl Watch {
    /// Bytes of tensor data that were looked at so far; bytes that are looked at twice count twice.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Ask the scan to end at the next block; what it returns then is of no use.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.bytes_done.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Count a block that is looked at, and end here if the scan is to end.
    pub(crate) fn step(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.add(bytes.len());
        if self.is_cancelled() { Err(Failure::Cancelled) } else { Ok(()) }
    }
}
