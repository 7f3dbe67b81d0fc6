//! What an instruction set must offer: eight float64 lanes.
//!
//! Every algorithm of this crate is written once over this trait. An instruction set with shorter registers
//! uses several of them, so that lanes, and with them every rounding, are the same everywhere.
#![expect(unsafe_code, reason = "vector instructions and loads through pointers")]
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined loses the caller's target features"
)]

use std::array::from_fn;

use crate::kernel::widen::f16_to_f32;

/// Lanes of a [`Vector`].
pub(crate) const LANES: usize = 8;

/// Arithmetic on one or on eight float64.
///
/// # Safety
/// Every method may be called only where the CPU has the implementing instruction set;
/// [`crate::dispatch::Isa`] is the proof of that.
pub(crate) unsafe trait Arithmetic: Copy {
    /// All lanes `value`.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn splat(value: f64) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn add(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn sub(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn mul(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn div(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn sqrt(self) -> Self;

    /// `self - root * root` of a square root that was rounded once: a number of this format, so that all ways to it
    /// give the same bits, as long as nothing overflows or underflows on the way (from about 1e-290 to 1e300; who
    /// calls it beyond, does not use the result). This one splits the product (Dekker), for want of a fused
    /// multiplication.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    #[inline(always)]
    unsafe fn root_remainder(self, root: Self) -> Self {
        // SAFETY: by contract.
        unsafe {
            let split = root.mul(Self::splat(134_217_729.0));
            let upper = split.sub(split.sub(root));
            let lower = root.sub(upper);
            let product = root.mul(root);
            let cross = upper.mul(lower);
            let error = upper.mul(upper).sub(product).add(cross.add(cross)).add(lower.mul(lower));
            self.sub(product).sub(error)
        }
    }
}

/// Arithmetic on eight float32.
///
/// # Safety
/// As [`Vector`].
pub(crate) unsafe trait Single: Copy {
    /// All lanes `value`.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn splat(value: f32) -> Self;

    /// Reads eight at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `source` is readable for 32 bytes.
    unsafe fn load(source: *const f32) -> Self;

    /// Writes eight at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `target` is writable for 32 bytes.
    unsafe fn store(self, target: *mut f32);

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn add(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn sub(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn mul(self, other: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn div(self, other: Self) -> Self;

    /// `self * factor + term`, lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;

    /// Lane by lane, rounded once.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn sqrt(self) -> Self;
}

/// Eight float64 lanes.
///
/// # Safety
/// Implementations touch only the memory that each method names. For calls see [`Arithmetic`].
pub(crate) unsafe trait Vector: Arithmetic {
    /// Eight float32 lanes.
    type Single: Single;

    /// Bytes of the smallest elements of which rows are read from several places of memory in turn. A matter of speed
    /// alone, measured: smaller ones are more arithmetic to the byte.
    const LEAST_STREAMED_BYTES: usize = 4;

    /// How far ahead the rows of a matrix are asked for while columns are summed; 0 for not at all. A matter of speed
    /// alone, measured: rows whose distance is a power of two share the sets of the first-level cache, so that this
    /// fills eight ways of each set ahead, and from 4 KiB on, of the set in use.
    const COLUMNS_AHEAD_BYTES: usize = 0;
    /// From how many adjacent columns of float32 on each row is instead read in pieces of four lines, without asking. A
    /// matter of speed alone, measured: it takes sixteen sums in registers, and the hardware's prefetchers take some 8 KiB
    /// of a row until they are at full speed.
    const COLUMNS_IN_PIECES: usize = usize::MAX;

    /// How far ahead rows are asked for into the second-level cache, too, while one is divided; 0 for not at all. A matter
    /// of speed alone, measured.
    const DIVISION_LATER_BYTES: usize = 0;

    /// How far beyond the same place of the next row a constrained step asks for its streams, and whether they are to
    /// come into the first-level cache. A matter of speed alone, measured.
    const STEP_AHEAD_BYTES: usize = 0;
    /// See [`Vector::STEP_AHEAD_BYTES`].
    const STEP_TO_FIRST_LEVEL: bool = false;

    /// Reads eight float64 at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `source` is readable for 64 bytes.
    unsafe fn load(source: *const f64) -> Self;

    /// Reads eight float32 at any alignment and widens them.
    ///
    /// # Safety
    /// The CPU has this instruction set; `source` is readable for 32 bytes.
    unsafe fn widen(source: *const f32) -> Self;

    /// Writes eight float64 at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `target` is writable for 64 bytes.
    unsafe fn store(self, target: *mut f64);

    /// The lanes, widened.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn from_single(lanes: Self::Single) -> Self;

    /// Asks for the cache line at `address`, which need not be readable.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn prefetch(address: *const u8);

    /// Asks for the cache line at `address`, which need not be readable, for some time later: it need not come
    /// further than the second-level cache.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn prefetch_for_later(address: *const u8);

    /// `self + x * y` where the caller knows every product to be exact, so that fused or not is one result.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn add_exact_product(self, x: Self, y: Self) -> Self;

    /// `self / norm`, rounded once, given `inverse = 1 / norm`. No operand or result is near the ends of the
    /// range.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn quotient(self, norm: Self, inverse: Self) -> Self;

    /// The lower and the upper halves of each `GROUP` lanes: those of `self` and `other` in turn. `GROUP` is 8, 4 or 2.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    #[inline(always)]
    unsafe fn halves<const GROUP: usize>(self, other: Self) -> (Self, Self) {
        let (mut lanes, mut halves) = ([[0.0; LANES]; 2], [[0.0; LANES]; 2]);
        // SAFETY: all arrays hold eight float64.
        unsafe {
            self.store(lanes[0].as_mut_ptr());
            other.store(lanes[1].as_mut_ptr());
            for (upper, half) in halves.iter_mut().enumerate() {
                for (lane, value) in half.iter_mut().enumerate() {
                    let (group, within) = (lane / GROUP * GROUP, lane % GROUP);
                    let (of, lane) = (within / (GROUP / 2), within % (GROUP / 2));
                    *value = lanes[of][group + upper * GROUP / 2 + lane];
                }
            }
            (Self::load(halves[0].as_ptr()), Self::load(halves[1].as_ptr()))
        }
    }

    /// Rounds to float32 and writes eight, at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `target` is writable for 32 bytes.
    unsafe fn narrow(self, target: *mut f32);

    /// Widens sixteen float16 to float32, times `scale` if there is one, at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `source` is readable for 32 bytes and `target` writable for 64.
    #[inline(always)]
    unsafe fn widen_f16(source: *const u8, target: *mut f32, scale: Option<f32>) {
        // SAFETY: 32 readable bytes by contract.
        let halves = unsafe { source.cast::<[u16; 2 * LANES]>().read_unaligned() };
        let wide = halves.map(|half| f16_to_f32(half) * scale.unwrap_or(1.0));
        // SAFETY: 64 writable bytes by contract.
        unsafe { target.cast::<[f32; 2 * LANES]>().write_unaligned(wide) }
    }
}

// SAFETY: plain Rust.
unsafe impl Arithmetic for f64 {
    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self - other
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self * other
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self / other
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        self.sqrt()
    }
}

// SAFETY: plain Rust; memory as each method names it.
unsafe impl Single for [f32; LANES] {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: the caller vouches for 32 readable bytes.
        unsafe { source.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: the caller vouches for 32 writable bytes.
        unsafe { target.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        from_fn(|lane| self[lane] - other[lane])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        from_fn(|lane| self[lane] * other[lane])
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        from_fn(|lane| self[lane] / other[lane])
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        from_fn(|lane| self[lane].mul_add(factor[lane], term[lane]))
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }
}
