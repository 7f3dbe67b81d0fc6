//! Buffers that are used again, by any thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers that nobody uses at the moment; there are never more than were in use at once.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer of `len` bytes with anything in it.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.lock().pop().unwrap_or_default();
        // Only what is new is cleared.
        buffer.resize(len, 0);
        buffer
    }

    /// Leave a buffer to others.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        self.lock().push(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
