//! Which instruction set runs a kernel. No algorithm here.
#![expect(unsafe_code, reason = "the check that makes target features callable")]

use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use crate::isa::neon;
#[cfg(target_arch = "x86_64")]
use crate::isa::{avx2, avx512};
use crate::isa::{mode::StandardMode, portable};
use crate::vector::Vector;

/// An instruction set that this CPU has been seen to have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Level);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Work that is compiled once for each instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, or they lose the target features.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}

impl Isa {
    /// The fastest one here.
    #[must_use]
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::all_available().pop().unwrap_or(Self(Level::Portable)))
    }

    /// All of them, slowest first; the first is plain Rust.
    #[must_use]
    pub fn all_available() -> Vec<Self> {
        let mut found = vec![Self(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            found.extend(avx2::is_available().then_some(Self(Level::Avx2)));
            found.extend(avx512::is_available().then_some(Self(Level::Avx512)));
        }
        #[cfg(target_arch = "aarch64")]
        found.extend(neon::is_available().then_some(Self(Level::Neon)));
        found
    }

    /// A short name: `portable`, `avx2`, `avx512`, `neon`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
        }
    }

    /// Runs `kernel` in the standard floating-point mode.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        let _mode = StandardMode::enter();
        match self.0 {
            Level::Portable => portable::call(kernel),
            // SAFETY: `all_available` alone makes this value, after `is_available`.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::call(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::call(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Level::Neon => unsafe { neon::call(kernel) },
        }
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
