//! Plain arrays: what every target has, and the reference for the rest.

use std::array::from_fn;

use crate::dispatch::Kernel;
use crate::vector::{Arithmetic, LANES, Vector};

/// Eight lanes in an array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable([f64; LANES]);

/// Runs `kernel` compiled for the target's baseline.
// Never inlined, so that no arithmetic moves across the switch of the floating-point mode around this call.
#[inline(never)]
pub(crate) fn call<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: `Portable` needs no instruction beyond the baseline.
    unsafe { kernel.run::<Portable>() }
}

// SAFETY: no instruction beyond the target's baseline; memory as each method names it.
unsafe impl Arithmetic for Portable {
    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] + other.0[lane]))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] - other.0[lane]))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] * other.0[lane]))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] / other.0[lane]))
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(self.0.map(f64::sqrt))
    }
}

// SAFETY: no instruction beyond the target's baseline; memory as each method names it.
unsafe impl Vector for Portable {
    type Single = [f32; LANES];

    #[inline(always)]
    unsafe fn load(source: *const f64) -> Self {
        // SAFETY: the caller vouches for 64 readable bytes.
        Self(unsafe { source.cast::<[f64; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn widen(source: *const f32) -> Self {
        // SAFETY: the caller vouches for 32 readable bytes.
        let singles = unsafe { source.cast::<[f32; LANES]>().read_unaligned() };
        Self(singles.map(f64::from))
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f64) {
        // SAFETY: the caller vouches for 64 writable bytes.
        unsafe { target.cast::<[f64; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn from_single(lanes: [f32; LANES]) -> Self {
        Self(lanes.map(f64::from))
    }

    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}

    #[inline(always)]
    unsafe fn prefetch_for_later(_address: *const u8) {}

    #[inline(always)]
    unsafe fn add_exact_product(self, x: Self, y: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] + x.0[lane] * y.0[lane]))
    }

    #[inline(always)]
    unsafe fn quotient(self, norm: Self, _inverse: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] / norm.0[lane]))
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the rounding that is asked for")]
    unsafe fn narrow(self, target: *mut f32) {
        // SAFETY: the caller vouches for 32 writable bytes.
        unsafe { target.cast::<[f32; LANES]>().write_unaligned(self.0.map(|lane| lane as f32)) }
    }
}
