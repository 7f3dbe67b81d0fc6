//! NEON: four registers of two float64.

use std::arch::aarch64::{
    float64x2_t, vaddq_f64, vcvt_f32_f64, vcvt_f64_f32, vdivq_f64, vdupq_n_f64, vfmaq_f64, vfmsq_f64,
    vld1_f32, vld1q_f64, vmulq_f64, vsqrtq_f64, vst1_f32, vst1q_f64, vsubq_f64,
};
use std::array::from_fn;

use crate::dispatch::Kernel;
use crate::vector::{Arithmetic, LANES, Vector};

/// Eight lanes in four registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon([float64x2_t; 4]);

/// Whether this CPU can run [`call`].
pub(crate) fn is_available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Runs `kernel` compiled for NEON.
///
/// # Safety
/// [`is_available`] returned true on this CPU.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn call<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function has the features that `Neon` needs.
    unsafe { kernel.run::<Neon>() }
}

// SAFETY: memory as each method names it; the caller of each method vouches for NEON.
unsafe impl Arithmetic for Neon {
    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        // SAFETY: NEON by contract.
        Self([unsafe { vdupq_n_f64(value) }; 4])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: NEON by contract.
        Self(from_fn(|pair| unsafe { vaddq_f64(self.0[pair], other.0[pair]) }))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: NEON by contract.
        Self(from_fn(|pair| unsafe { vsubq_f64(self.0[pair], other.0[pair]) }))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: NEON by contract.
        Self(from_fn(|pair| unsafe { vmulq_f64(self.0[pair], other.0[pair]) }))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: NEON by contract.
        Self(from_fn(|pair| unsafe { vdivq_f64(self.0[pair], other.0[pair]) }))
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: NEON by contract.
        Self(self.0.map(|pair| unsafe { vsqrtq_f64(pair) }))
    }

    #[inline(always)]
    unsafe fn root_remainder(self, root: Self) -> Self {
        // SAFETY: NEON by contract.
        Self(from_fn(|pair| unsafe { vfmsq_f64(self.0[pair], root.0[pair], root.0[pair]) }))
    }
}

// SAFETY: memory as each method names it; the caller of each method vouches for NEON.
unsafe impl Vector for Neon {
    type Single = [f32; LANES];

    #[inline(always)]
    unsafe fn load(source: *const f64) -> Self {
        // SAFETY: NEON and 64 readable bytes by contract.
        Self(from_fn(|pair| unsafe { vld1q_f64(source.add(2 * pair)) }))
    }

    #[inline(always)]
    unsafe fn widen(source: *const f32) -> Self {
        // SAFETY: NEON and 32 readable bytes by contract.
        Self(from_fn(|pair| unsafe { vcvt_f64_f32(vld1_f32(source.add(2 * pair))) }))
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f64) {
        for pair in 0..4 {
            // SAFETY: NEON and 64 writable bytes by contract.
            unsafe { vst1q_f64(target.add(2 * pair), self.0[pair]) }
        }
    }

    #[inline(always)]
    unsafe fn from_single(lanes: [f32; LANES]) -> Self {
        // SAFETY: eight float32 are readable.
        unsafe { Self::widen(lanes.as_ptr()) }
    }

    // The instruction is not stable in Rust; these cores prefetch streams by themselves.
    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}

    #[inline(always)]
    unsafe fn prefetch_for_later(_address: *const u8) {}

    #[inline(always)]
    unsafe fn add_exact_product(self, x: Self, y: Self) -> Self {
        // SAFETY: NEON by contract.
        Self(from_fn(|pair| unsafe { vfmaq_f64(self.0[pair], x.0[pair], y.0[pair]) }))
    }

    #[inline(always)]
    unsafe fn quotient(self, norm: Self, _inverse: Self) -> Self {
        // SAFETY: NEON by contract.
        unsafe { self.div(norm) }
    }

    #[inline(always)]
    unsafe fn narrow(self, target: *mut f32) {
        for pair in 0..4 {
            // SAFETY: NEON and 32 writable bytes by contract.
            unsafe { vst1_f32(target.add(2 * pair), vcvt_f32_f64(self.0[pair])) }
        }
    }
}
