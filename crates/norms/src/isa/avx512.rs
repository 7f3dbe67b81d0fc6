//! AVX-512: one register of eight float64.

use std::arch::x86_64::{
    __m256, __m512d, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_storeu_ps, _mm512_add_pd, _mm512_castps512_ps256, _mm512_cvtpd_ps, _mm512_cvtph_ps,
    _mm512_cvtps_pd, _mm512_div_pd, _mm512_extractf32x8_ps, _mm512_fmadd_pd, _mm512_fmsub_pd,
    _mm512_fnmadd_pd, _mm512_loadu_pd, _mm512_mul_pd, _mm512_mul_ps, _mm512_permutex2var_pd, _mm512_set1_pd,
    _mm512_set1_ps, _mm512_setr_epi64, _mm512_shuffle_f64x2, _mm512_sqrt_pd, _mm512_storeu_pd, _mm512_sub_pd,
    _mm512_unpackhi_pd, _mm512_unpacklo_pd,
};

use crate::dispatch::Kernel;
use crate::vector::{Arithmetic, Vector};

/// Eight lanes in one register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(__m512d);

/// Whether this CPU can run [`call`].
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && super::avx2::is_available()
}

/// Runs `kernel` compiled for AVX-512.
///
/// # Safety
/// [`is_available`] returned true on this CPU.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2,popcnt")]
pub(crate) unsafe fn call<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function has the features that `Avx512` needs.
    unsafe { kernel.run::<Avx512>() }
}

// SAFETY: memory as each method names it; the caller of each method vouches for AVX-512.
unsafe impl Arithmetic for Avx512 {
    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_set1_pd(value) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_add_pd(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_sub_pd(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_mul_pd(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_div_pd(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_sqrt_pd(self.0) })
    }

    #[inline(always)]
    unsafe fn root_remainder(self, root: Self) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_fnmadd_pd(root.0, root.0, self.0) })
    }
}

// SAFETY: memory as each method names it; the caller of each method vouches for AVX-512.
unsafe impl Vector for Avx512 {
    // Half a register: what takes its time in float32 is division, which is no faster in whole ones.
    type Single = __m256;
    // Measured on Zen 5, whose first-level cache has 48 KiB and twelve ways, as those of Intel from Ice Lake on; with 32
    // KiB and eight ways (Zen 3, AVX2) requests for columns lose.
    const COLUMNS_AHEAD_BYTES: usize = 1024;
    // On Zen 5, too; the next on Emerald Rapids besides.
    const COLUMNS_IN_PIECES: usize = 12_288;
    const DIVISION_LATER_BYTES: usize = 131_072;
    const STEP_AHEAD_BYTES: usize = 1024;
    const STEP_TO_FIRST_LEVEL: bool = true;

    #[inline(always)]
    unsafe fn load(source: *const f64) -> Self {
        // SAFETY: AVX-512 and 64 readable bytes by contract.
        Self(unsafe { _mm512_loadu_pd(source) })
    }

    #[inline(always)]
    unsafe fn widen(source: *const f32) -> Self {
        // SAFETY: AVX-512 and 32 readable bytes by contract.
        Self(unsafe { _mm512_cvtps_pd(_mm256_loadu_ps(source)) })
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f64) {
        // SAFETY: AVX-512 and 64 writable bytes by contract.
        unsafe { _mm512_storeu_pd(target, self.0) }
    }

    #[inline(always)]
    unsafe fn from_single(lanes: __m256) -> Self {
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_cvtps_pd(lanes) })
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
        // SAFETY: AVX-512 by contract.
        Self(unsafe { _mm512_fmadd_pd(x.0, y.0, self.0) })
    }

    #[inline(always)]
    unsafe fn quotient(self, norm: Self, inverse: Self) -> Self {
        // Multiply, then put the remainder right: cheaper than a division, and the same bits (Markstein).
        // SAFETY: AVX-512 by contract.
        unsafe {
            let near = _mm512_mul_pd(self.0, inverse.0);
            // What is too much, not what is missing: subtracted from a zero of either sign, a zero leaves the
            // sign.
            let excess = _mm512_fmsub_pd(near, norm.0, self.0);
            Self(_mm512_fnmadd_pd(excess, inverse.0, near))
        }
    }

    #[inline(always)]
    unsafe fn halves<const GROUP: usize>(self, other: Self) -> (Self, Self) {
        // SAFETY: AVX-512 by contract.
        let (lower, upper) = unsafe {
            match GROUP {
                8 => (
                    _mm512_shuffle_f64x2::<0b01_00_01_00>(self.0, other.0),
                    _mm512_shuffle_f64x2::<0b11_10_11_10>(self.0, other.0),
                ),
                4 => {
                    let lower = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
                    let upper = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
                    (
                        _mm512_permutex2var_pd(self.0, lower, other.0),
                        _mm512_permutex2var_pd(self.0, upper, other.0),
                    )
                }
                _ => (_mm512_unpacklo_pd(self.0, other.0), _mm512_unpackhi_pd(self.0, other.0)),
            }
        };
        (Self(lower), Self(upper))
    }

    #[inline(always)]
    unsafe fn narrow(self, target: *mut f32) {
        // SAFETY: AVX-512 and 32 writable bytes by contract.
        unsafe { _mm256_storeu_ps(target, _mm512_cvtpd_ps(self.0)) }
    }

    #[inline(always)]
    unsafe fn widen_f16(source: *const u8, target: *mut f32, scale: Option<f32>) {
        // Written in halves, as they are read to be widened further: a whole register that is read back in halves
        // the compiler takes apart lane by lane.
        // SAFETY: AVX-512, 32 readable and 64 writable bytes by contract. The conversion ignores the
        // denormals-are-zero mode.
        unsafe {
            let mut wide = _mm512_cvtph_ps(_mm256_loadu_si256(source.cast()));
            if let Some(scale) = scale {
                wide = _mm512_mul_ps(wide, _mm512_set1_ps(scale));
            }
            _mm256_storeu_ps(target, _mm512_castps512_ps256(wide));
            _mm256_storeu_ps(target.add(8), _mm512_extractf32x8_ps::<1>(wide));
        }
    }
}
