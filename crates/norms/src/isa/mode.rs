//! The floating-point mode of a thread, which a caller may have changed.
//!
//! `torch.set_flush_denormal` and some C libraries make a thread treat subnormal numbers as zero. Kernels run
//! in the mode that Rust assumes (nearest, subnormals kept) and put the caller's back.

use std::arch::asm;

/// Restores the mode that it found when dropped.
pub(crate) struct StandardMode {
    /// Present where it had to be changed.
    found: Option<Word>,
}

#[cfg(target_arch = "x86_64")]
type Word = u32;
#[cfg(not(target_arch = "x86_64"))]
type Word = u64;

impl StandardMode {
    /// Puts the calling thread into the standard mode.
    #[inline]
    pub(crate) fn enter() -> Self {
        let found = read();
        if found & CHECKED == STANDARD & CHECKED {
            return Self { found: None };
        }
        write(STANDARD);
        Self { found: Some(found) }
    }
}

impl Drop for StandardMode {
    #[inline]
    fn drop(&mut self) {
        if let Some(found) = self.found {
            write(found);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    /// Reset value of MXCSR: exceptions masked, nearest, nothing flushed.
    pub(super) const STANDARD: u32 = 0x1f80;
    /// All but the sticky exception flags.
    pub(super) const CHECKED: u32 = 0xffc0;
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    pub(super) const STANDARD: u64 = 0;
    /// Rounding mode, flush to zero, default NaN, flush of float16.
    pub(super) const CHECKED: u64 = 0x07c8_0000;
}

use arch::{CHECKED, STANDARD};

#[cfg(target_arch = "x86_64")]
fn read() -> Word {
    let mut word: u32 = 0;
    // SAFETY: stores four bytes into `word`; SSE is part of every x86-64.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
    word
}

#[cfg(target_arch = "x86_64")]
fn write(word: Word) {
    // SAFETY: `word` is the standard mode or was read from the register. Rust code runs in between only in
    // the standard mode, which is the one that the language assumes.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags)) };
}

#[cfg(target_arch = "aarch64")]
fn read() -> Word {
    let word: u64;
    // SAFETY: reads the mode register of this thread.
    unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
    word
}

#[cfg(target_arch = "aarch64")]
fn write(word: Word) {
    // SAFETY: as on x86-64.
    unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> Word {
    STANDARD
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_word: Word) {}
