//! Asking for memory before it is needed.

use crate::vector::Vector;

/// Bytes of a cache line.
pub(crate) const LINE_BYTES: usize = 64;

/// How far ahead memory is asked for: the hardware's own prefetchers stop at each page.
pub(crate) const AHEAD_BYTES: usize = 6144;

/// Asks for what lies [`AHEAD_BYTES`] beyond the next `len_bytes`.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn prefetch<V: Vector>(next: *const u8, len_bytes: usize) {
    // SAFETY: by contract.
    unsafe { prefetch_lines::<V>(next.wrapping_add(AHEAD_BYTES), len_bytes) }
}

/// Asks for `len_bytes` from `start` on, which need not be readable.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn prefetch_lines<V: Vector>(start: *const u8, len_bytes: usize) {
    for line in (0..len_bytes).step_by(LINE_BYTES) {
        // SAFETY: by contract; a prefetch may point anywhere.
        unsafe { V::prefetch(start.wrapping_add(line)) }
    }
}

/// Asks for what lies `ahead_bytes` beyond `part`, for some time later.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn prefetch_later<V: Vector, T>(part: &[T], ahead_bytes: usize) {
    for line in (0..size_of_val(part)).step_by(LINE_BYTES) {
        // SAFETY: by contract; a prefetch may point anywhere.
        unsafe { V::prefetch_for_later(part.as_ptr().cast::<u8>().wrapping_add(ahead_bytes + line)) }
    }
}
