//! What an instruction set must offer: eight float64 lanes.
//!
//! Every algorithm of this crate is written once over this trait. An instruction set with shorter registers
//! uses several of them, so that lanes, and with them every rounding, are the same everywhere.
#![expect(unsafe_code, reason = "vector instructions and loads through pointers")]
#![expect(
    clippy::inline_always,
    reason = "a function that is not inlined loses the caller's target features"
)]

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
}

/// Eight float64 lanes.
///
/// # Safety
/// Implementations touch only the memory that each method names. For calls see [`Arithmetic`].
pub(crate) unsafe trait Vector: Arithmetic {
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

    /// Asks for the cache line at `address`, which need not be readable.
    ///
    /// # Safety
    /// The CPU has this instruction set.
    unsafe fn prefetch(address: *const u8);

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

    /// Rounds to float32 and writes eight, at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `target` is writable for 32 bytes.
    unsafe fn narrow(self, target: *mut f32);

    /// Widens sixteen float16 to float32, at any alignment.
    ///
    /// # Safety
    /// The CPU has this instruction set; `source` is readable for 32 bytes and `target` writable for 64.
    unsafe fn widen_f16(source: *const u8, target: *mut f32);
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
