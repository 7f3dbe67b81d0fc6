//! From the sums of eight lanes to a norm: the lanes fold by exact two-sums, and the root is corrected once.

use std::array::from_fn;

use crate::kernel::sum::SquareSum;
use crate::vector::{Arithmetic, LANES, Vector};

/// The norms of eight rows, and the sums of squares in float64: folded together, because one after the other waits for
/// each addition, root and quotient. With each fold of the lanes two rows come into one vector, until each lane has one.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn norms_of_rows<V: Vector>(rows: [SquareSum<V>; LANES]) -> ([f64; LANES], [f64; LANES]) {
    // SAFETY: by contract.
    unsafe {
        let rows = fold_pairs::<V, 8, 4>(rows);
        let rows = fold_pairs::<V, 4, 2>(rows);
        let [rows] = fold_pairs::<V, 2, 1>(rows);
        norms_of_sums(rows)
    }
}

/// Eight norms from eight lanes of sums each, and the sums of squares in float64.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn norms<V: Vector>(lanes: [SquareSum<V>; LANES]) -> ([f64; LANES], [f64; LANES]) {
    // SAFETY: by contract.
    unsafe { norms_of_sums(fold(lanes)) }
}

/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn norms_of_sums<V: Vector>(sum: SquareSum<V>) -> ([f64; LANES], [f64; LANES]) {
    let (mut sums, mut roots) = ([0.0; LANES], [0.0; LANES]);
    // SAFETY: by contract; both arrays hold eight float64.
    unsafe {
        sum.high.store(sums.as_mut_ptr());
        root(sum).store(roots.as_mut_ptr());
    }
    (from_fn(|index| special_norm(sums[index], roots[index])), sums)
}

/// The norm, where the root does not know it: it divides zero by zero, and the lost part is NaN beside an
/// infinite sum. One NaN for all, because its sign and payload depend on the instruction set.
#[inline(always)]
pub(crate) fn special_norm(sum: f64, root: f64) -> f64 {
    if sum.is_nan() {
        f64::NAN
    } else if sum == 0.0 || sum == f64::INFINITY {
        sum
    } else {
        root
    }
}

/// The sum of eight lanes, folded in a fixed tree.
///
/// # Safety
/// The CPU has the instruction set of `A`.
#[inline(always)]
pub(crate) unsafe fn fold<A: Arithmetic>(lanes: [SquareSum<A>; LANES]) -> SquareSum<A> {
    // SAFETY: by contract.
    unsafe {
        let lanes = fold_half::<A, 8, 4>(lanes);
        let lanes = fold_half::<A, 4, 2>(lanes);
        let [sum] = fold_half::<A, 2, 1>(lanes);
        sum
    }
}

/// Adds the upper half of the lanes to the lower one.
///
/// # Safety
/// The CPU has the instruction set of `A`.
#[inline(always)]
unsafe fn fold_half<A: Arithmetic, const FROM: usize, const TO: usize>(
    lanes: [SquareSum<A>; FROM],
) -> [SquareSum<A>; TO] {
    // Not a closure for `from_fn`: where that is not inlined, it loses the target features, and each operation becomes
    // a call. The same below.
    let mut sums = [lanes[0]; TO];
    for (lane, sum) in sums.iter_mut().enumerate() {
        // SAFETY: by contract.
        *sum = unsafe { join(lanes[lane], lanes[lane + TO]) };
    }
    sums
}

/// [`fold_half`] within `FROM` vectors that hold the sums of eight rows, `FROM` lanes of each: those of two vectors come
/// into one, half as many lanes of each row.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn fold_pairs<V: Vector, const FROM: usize, const TO: usize>(
    rows: [SquareSum<V>; FROM],
) -> [SquareSum<V>; TO] {
    let mut sums = [rows[0]; TO];
    for (index, sum) in sums.iter_mut().enumerate() {
        let (a, b) = (rows[index], rows[index + TO]);
        // SAFETY: by contract.
        *sum = unsafe {
            let (lower_high, upper_high) = a.high.halves::<FROM>(b.high);
            let (lower_low, upper_low) = a.low.halves::<FROM>(b.low);
            join(
                SquareSum { high: lower_high, low: lower_low },
                SquareSum { high: upper_high, low: upper_low },
            )
        };
    }
    sums
}

/// The sum of two sums, with what the addition lost.
///
/// # Safety
/// The CPU has the instruction set of `A`.
#[inline(always)]
unsafe fn join<A: Arithmetic>(a: SquareSum<A>, b: SquareSum<A>) -> SquareSum<A> {
    // SAFETY: by contract.
    unsafe {
        let high = a.high.add(b.high);
        let b_part = high.sub(a.high);
        let rest = a.high.sub(high.sub(b_part)).add(b.high.sub(b_part));
        SquareSum { high, low: a.low.add(b.low).add(rest) }
    }
}

/// The square root of a sum that is finite and positive; of others nothing that [`special_norm`] would use.
///
/// # Safety
/// The CPU has the instruction set of `A`.
#[inline(always)]
pub(crate) unsafe fn root<A: Arithmetic>(sum: SquareSum<A>) -> A {
    let SquareSum { high, low } = sum;
    // SAFETY: by contract.
    unsafe {
        let square = high.add(low);
        let rest = low.sub(square.sub(high));
        let root = square.sqrt();
        // One Newton step.
        let remainder = square.root_remainder(root).add(rest);
        root.add(remainder.div(root.add(root)))
    }
}
