//! AVX2 with FMA and F16C: two registers of four float64.

use std::arch::x86_64::{
    __m256, __m256d, _MM_HINT_T0, _MM_HINT_T1, _mm_loadu_ps, _mm_loadu_si128, _mm_prefetch, _mm_storeu_ps,
    _mm256_add_pd, _mm256_add_ps, _mm256_castps256_ps128, _mm256_cvtpd_ps, _mm256_cvtph_ps, _mm256_cvtps_pd,
    _mm256_div_pd, _mm256_div_ps, _mm256_extractf128_ps, _mm256_fmadd_pd, _mm256_fmadd_ps, _mm256_fmsub_pd,
    _mm256_fnmadd_pd, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_mul_pd, _mm256_mul_ps, _mm256_permute2f128_pd,
    _mm256_set1_pd, _mm256_set1_ps, _mm256_sqrt_pd, _mm256_sqrt_ps, _mm256_storeu_pd, _mm256_storeu_ps,
    _mm256_sub_pd, _mm256_sub_ps, _mm256_unpackhi_pd, _mm256_unpacklo_pd,
};

use crate::dispatch::Kernel;
use crate::vector::{Arithmetic, Single, Vector};

/// Eight lanes in two registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(__m256d, __m256d);

/// Whether this CPU can run [`call`].
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

/// Runs `kernel` compiled for AVX2.
///
/// # Safety
/// [`is_available`] returned true on this CPU.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt")]
pub(crate) unsafe fn call<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function has the features that `Avx2` needs.
    unsafe { kernel.run::<Avx2>() }
}

// SAFETY: memory as each method names it; the caller of each method vouches for AVX2, FMA and F16C.
unsafe impl Arithmetic for Avx2 {
    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        // SAFETY: AVX by contract.
        unsafe { Self(_mm256_set1_pd(value), _mm256_set1_pd(value)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { Self(_mm256_add_pd(self.0, other.0), _mm256_add_pd(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { Self(_mm256_sub_pd(self.0, other.0), _mm256_sub_pd(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { Self(_mm256_mul_pd(self.0, other.0), _mm256_mul_pd(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { Self(_mm256_div_pd(self.0, other.0), _mm256_div_pd(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { Self(_mm256_sqrt_pd(self.0), _mm256_sqrt_pd(self.1)) }
    }

    #[inline(always)]
    unsafe fn root_remainder(self, root: Self) -> Self {
        // SAFETY: FMA by contract.
        unsafe { Self(_mm256_fnmadd_pd(root.0, root.0, self.0), _mm256_fnmadd_pd(root.1, root.1, self.1)) }
    }
}

// SAFETY: memory as each method names it; the caller of each method vouches for AVX2, FMA and F16C.
unsafe impl Vector for Avx2 {
    type Single = __m256;
    // Two-byte formats gain by it here (Milan), and lose on AVX-512 (Emerald Rapids).
    const LEAST_STREAMED_BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(source: *const f64) -> Self {
        // SAFETY: AVX and 64 readable bytes by contract.
        unsafe { Self(_mm256_loadu_pd(source), _mm256_loadu_pd(source.add(4))) }
    }

    #[inline(always)]
    unsafe fn widen(source: *const f32) -> Self {
        // SAFETY: AVX and 32 readable bytes by contract.
        unsafe { Self(_mm256_cvtps_pd(_mm_loadu_ps(source)), _mm256_cvtps_pd(_mm_loadu_ps(source.add(4)))) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f64) {
        // SAFETY: AVX and 64 writable bytes by contract.
        unsafe {
            _mm256_storeu_pd(target, self.0);
            _mm256_storeu_pd(target.add(4), self.1);
        }
    }

    #[inline(always)]
    unsafe fn from_single(lanes: __m256) -> Self {
        // SAFETY: AVX by contract.
        unsafe {
            let (lower, upper) = (_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
            Self(_mm256_cvtps_pd(lower), _mm256_cvtps_pd(upper))
        }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: a hint; no address faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_for_later(address: *const u8) {
        // SAFETY: a hint; no address faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn add_exact_product(self, x: Self, y: Self) -> Self {
        // SAFETY: FMA by contract.
        unsafe { Self(_mm256_fmadd_pd(x.0, y.0, self.0), _mm256_fmadd_pd(x.1, y.1, self.1)) }
    }

    #[inline(always)]
    unsafe fn quotient(self, norm: Self, inverse: Self) -> Self {
        // SAFETY: FMA by contract.
        unsafe { Self(half_quotient(self.0, norm.0, inverse.0), half_quotient(self.1, norm.1, inverse.1)) }
    }

    #[inline(always)]
    unsafe fn halves<const GROUP: usize>(self, other: Self) -> (Self, Self) {
        // SAFETY: AVX by contract.
        unsafe {
            match GROUP {
                8 => (Self(self.0, other.0), Self(self.1, other.1)),
                4 => (
                    Self(
                        _mm256_permute2f128_pd::<0x20>(self.0, other.0),
                        _mm256_permute2f128_pd::<0x20>(self.1, other.1),
                    ),
                    Self(
                        _mm256_permute2f128_pd::<0x31>(self.0, other.0),
                        _mm256_permute2f128_pd::<0x31>(self.1, other.1),
                    ),
                ),
                _ => (
                    Self(_mm256_unpacklo_pd(self.0, other.0), _mm256_unpacklo_pd(self.1, other.1)),
                    Self(_mm256_unpackhi_pd(self.0, other.0), _mm256_unpackhi_pd(self.1, other.1)),
                ),
            }
        }
    }

    #[inline(always)]
    unsafe fn narrow(self, target: *mut f32) {
        // SAFETY: AVX and 32 writable bytes by contract.
        unsafe {
            _mm_storeu_ps(target, _mm256_cvtpd_ps(self.0));
            _mm_storeu_ps(target.add(4), _mm256_cvtpd_ps(self.1));
        }
    }

    #[inline(always)]
    unsafe fn widen_f16(source: *const u8, target: *mut f32, scale: Option<f32>) {
        // SAFETY: F16C, 32 readable and 64 writable bytes by contract. The conversion ignores the
        // denormals-are-zero mode.
        unsafe {
            let mut lower = _mm256_cvtph_ps(_mm_loadu_si128(source.cast()));
            let mut upper = _mm256_cvtph_ps(_mm_loadu_si128(source.add(16).cast()));
            if let Some(scale) = scale {
                let scale = _mm256_set1_ps(scale);
                (lower, upper) = (_mm256_mul_ps(lower, scale), _mm256_mul_ps(upper, scale));
            }
            _mm256_storeu_ps(target, lower);
            _mm256_storeu_ps(target.add(8), upper);
        }
    }
}

// SAFETY: memory as each method names it; the caller of each method vouches for AVX and FMA.
unsafe impl Single for __m256 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: AVX by contract.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: AVX and 32 readable bytes by contract.
        unsafe { _mm256_loadu_ps(source) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: AVX and 32 writable bytes by contract.
        unsafe { _mm256_storeu_ps(target, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { _mm256_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { _mm256_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { _mm256_div_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: FMA by contract.
        unsafe { _mm256_fmadd_ps(self, factor, term) }
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: AVX by contract.
        unsafe { _mm256_sqrt_ps(self) }
    }
}

/// `x / norm`: multiplied, then put right by the remainder, which is cheaper than a division and gives the same
/// bits (Markstein).
///
/// # Safety
/// The CPU has AVX2 and FMA.
// A function, because a closure that is called twice may not be inlined and then loses the target features.
#[inline(always)]
unsafe fn half_quotient(x: __m256d, norm: __m256d, inverse: __m256d) -> __m256d {
    // SAFETY: by contract.
    unsafe {
        let near = _mm256_mul_pd(x, inverse);
        // What is too much, not what is missing: subtracted from a zero of either sign, a zero leaves the sign.
        let excess = _mm256_fmsub_pd(near, norm, x);
        _mm256_fnmadd_pd(excess, inverse, near)
    }
}
