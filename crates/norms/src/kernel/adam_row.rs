//! The step of Adam on one row of float32 where it lies.

use crate::Dtype;
use crate::adam::Coefficients;
use crate::kernel::renorm::{Outcome, divide, normalize_outcome};
use crate::kernel::sum::{SquareSum, block_sum};
use crate::kernel::tangent::dots;
use crate::kernel::update::{Splat, Streams, update, update_block};
use crate::kernel::widen::{BLOCK, F32, Wide};
use crate::vector::{LANES, Single, Vector};

/// How far ahead each of the streams is asked for where rows are not constrained.
const AHEAD_BYTES: usize = 2048;

/// One row in float32.
pub(crate) struct Row<'a> {
    pub(crate) param: &'a mut [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) exp_avg: &'a mut [f32],
    pub(crate) exp_avg_sq: &'a mut [f32],
}

impl<'a> Row<'a> {
    /// The rows where they lie, if that is in float32 and aligned.
    #[inline(always)]
    pub(crate) fn in_place(
        dtypes: [Dtype; 4],
        param: &'a mut [u8],
        grad: &'a [u8],
        exp_avg: &'a mut [u8],
        exp_avg_sq: &'a mut [u8],
    ) -> Option<Self> {
        if dtypes != [Dtype::F32; 4] {
            return None;
        }
        Some(Self {
            param: bytemuck::try_cast_slice_mut(param).ok()?,
            grad: bytemuck::try_cast_slice(grad).ok()?,
            exp_avg: bytemuck::try_cast_slice_mut(exp_avg).ok()?,
            exp_avg_sq: bytemuck::try_cast_slice_mut(exp_avg_sq).ok()?,
        })
    }

    /// Updates and renormalises in place.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn step<V: Vector>(mut self, by: &Coefficients) -> Outcome {
        // SAFETY: by contract.
        unsafe {
            let norm = self.update::<V>(by);
            if !by.unit_norm {
                return Outcome::Unchanged;
            }
            renormalise::<V>(self.param, norm)
        }
    }

    /// The step itself; the gradient loses its component along the row on the way. Gives the new row's norm
    /// where that is constrained.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    pub(crate) unsafe fn update<V: Vector>(&mut self, by: &Coefficients) -> f64 {
        let (whole, len) = (self.param.len() / BLOCK * BLOCK, self.param.len());
        let row_bytes = size_of_val(self.param);
        // SAFETY: by contract; blocks of the row, then what is left of it. A prefetch may point anywhere.
        unsafe {
            let (row, by_lane) = (self.streams(), Splat::<V>::new(by));
            let rest = row.at(whole);
            if !by.unit_norm {
                let ask = |part: *const f32| V::prefetch(part.cast::<u8>().wrapping_add(AHEAD_BYTES));
                for at in (0..whole).step_by(BLOCK) {
                    update_block::<V>(row.at(at), None, ask, &by_lane);
                }
                update::<V>(rest, len - whole, |_| None, &by_lane);
                return 0.0;
            }
            let pull = Some(V::Single::splat(by.pull(self.component::<V>())));
            // The update keeps the divider busy, the sums before and after it the multipliers, and both would
            // wait for memory. So all that the next row needs is asked for here (and the start of the row after it, if
            // that is faster), evenly; asked for during the sums it would come in their way.
            let ask = |part: *const f32| {
                let next = part.cast::<u8>().wrapping_add(row_bytes + V::STEP_AHEAD_BYTES);
                if V::STEP_TO_FIRST_LEVEL { V::prefetch(next) } else { V::prefetch_for_later(next) }
            };
            let mut sum = SquareSum::<V>::new();
            let mut first = V::splat(0.0);
            for at in (0..whole).step_by(BLOCK) {
                let block = row.at(at);
                update_block::<V>(block, pull, ask, &by_lane);
                let squares = block_sum::<V, f32>(block.param);
                if at % f32::CHUNK == 0 {
                    first = squares;
                } else {
                    sum.add_chunk(first.add(squares));
                }
            }
            update::<V>(rest, len - whole, |_| pull, &by_lane);
            let summed = len / f32::CHUNK * f32::CHUNK;
            sum.add_rest::<F32>(row.at(summed).param.cast(), len - summed);
            sum.norm().0
        }
    }

    fn streams(&mut self) -> Streams {
        let len = self.param.len();
        assert!(len == self.grad.len() && len == self.exp_avg.len() && len == self.exp_avg_sq.len());
        Streams {
            param: self.param.as_mut_ptr(),
            grad: self.grad.as_ptr(),
            average: self.exp_avg.as_mut_ptr(),
            square: self.exp_avg_sq.as_mut_ptr(),
        }
    }

    /// How much of the row there is in its gradient; NaN where the row has no direction.
    ///
    /// Sums of eight products are float32, as the projection is: about 5 U of the gradient's length can be left
    /// along the row, and mostly far less than one is. Where they leave the range in which float32 is that good,
    /// they are float64.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn component<V: Vector>(&self) -> f64 {
        // SAFETY: by contract.
        let (product, square) = unsafe {
            let mut sums = [SquareSum::<V>::new(); 2];
            let (grads, grad_rest) = self.grad.as_chunks::<BLOCK>();
            let (params, param_rest) = self.param.as_chunks::<BLOCK>();
            for (grad, param) in grads.iter().zip(params) {
                add_block::<V>(&mut sums, grad, param);
            }
            let (mut grad, mut param) = ([0.0; BLOCK], [0.0; BLOCK]);
            grad[..grad_rest.len()].copy_from_slice(grad_rest);
            param[..param_rest.len()].copy_from_slice(param_rest);
            add_block::<V>(&mut sums, &grad, &param);
            match (sums[0].total(), sums[1].total()) {
                (product, square) if IN_RANGE.contains(&product.abs()) && IN_RANGE.contains(&square) => {
                    (product, square)
                }
                _ => dots::<V>(self.grad, self.param),
            }
        };
        product / square
    }
}

/// Sums of float32 products to which underflow adds less than rounding does, and which no overflow made.
const IN_RANGE: std::ops::Range<f64> = 1e-24..1e30;

/// Adds a block of `grad param` to the first sum and of `param param` to the second.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn add_block<V: Vector>(sums: &mut [SquareSum<V>; 2], grad: &[f32; BLOCK], param: &[f32; BLOCK]) {
    // SAFETY: by contract.
    unsafe {
        let zero = V::Single::splat(0.0);
        let (mut product, mut square) = ([zero; 2], [zero; 2]);
        for index in 0..BLOCK / LANES {
            let grad = V::Single::load(grad.as_ptr().add(index * LANES));
            let param = V::Single::load(param.as_ptr().add(index * LANES));
            product[index % 2] = grad.mul_add(param, product[index % 2]);
            square[index % 2] = param.mul_add(param, square[index % 2]);
        }
        sums[0].add_chunk(V::from_single(product[0].add(product[1])));
        sums[1].add_chunk(V::from_single(square[0].add(square[1])));
    }
}

/// Divides an updated row by its norm, unless it is within its rounding bound already.
///
/// # Safety
/// The CPU has the instruction set of `V`; `norm` is that of `row`.
#[inline(always)]
pub(crate) unsafe fn renormalise<V: Vector>(row: &mut [f32], norm: f64) -> Outcome {
    // SAFETY: by contract.
    unsafe {
        let len = row.len();
        let outcome = normalize_outcome::<V, F32, _>(norm, len, || bytemuck::cast_slice::<f32, u8>(row));
        if outcome == Outcome::Changed {
            scale::<V>(row, norm);
        }
        outcome
    }
}

/// Divides a row by its norm in float32: `x (high + low)` with `high + low = 1 / norm`, rounded once.
///
/// Before that rounding the quotient is off by 2⁻⁴⁶ of itself at most, which [`normalize_outcome`] allows for; an
/// element below 2⁻¹⁰⁰, whose product with `low` may underflow, by less than half an ulp.
///
/// # Safety
/// The CPU has the instruction set of `V`; `norm` is that of `row`, and not zero.
#[inline(always)]
unsafe fn scale<V: Vector>(row: &mut [f32], norm: f64) {
    // Where neither the factors nor the larger product can leave the range of float32.
    if !(1e-6..1e6).contains(&norm) {
        // SAFETY: by contract.
        unsafe { divide::<V, F32>(bytemuck::cast_slice_mut(row), norm) };
        return;
    }
    let inverse = 1.0 / norm;
    // Towards zero, so that `low` is not negative: a negative zero times a negative number would lose its sign.
    let high = f64::from_bits(inverse.to_bits() & !((1 << 29) - 1));
    #[expect(clippy::cast_possible_truncation, reason = "the first is a float32 number")]
    let (high, low) = (high as f32, (inverse - high) as f32);
    // SAFETY: by contract.
    let factors = unsafe { (V::Single::splat(high), V::Single::splat(low)) };
    let (eights, rest) = row.as_chunks_mut::<LANES>();
    for eight in eights {
        // SAFETY: by contract; eight elements.
        unsafe { scale_eight::<V>(eight, factors) }
    }
    let mut last = [0.0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    // SAFETY: by contract.
    unsafe { scale_eight::<V>(&mut last, factors) }
    rest.copy_from_slice(&last[..rest.len()]);
}

/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn scale_eight<V: Vector>(eight: &mut [f32; LANES], (high, low): (V::Single, V::Single)) {
    // SAFETY: by contract; eight elements.
    unsafe {
        let x = V::Single::load(eight.as_ptr());
        x.mul_add(high, x.mul(low)).store(eight.as_mut_ptr());
    }
}

#[cfg(test)]
mod tests {
    use super::{F32, Row};
    use crate::Isa;
    use crate::adam::{Adam, Coefficients};
    use crate::dispatch::Kernel;
    use crate::kernel::last_axis::row_norm;
    use crate::vector::Vector;

    struct Norms<'a> {
        row: Row<'a>,
        by: Coefficients,
    }

    impl Kernel for Norms<'_> {
        type Output = [f64; 2];

        #[inline(always)]
        unsafe fn run<V: Vector>(mut self) -> [f64; 2] {
            // SAFETY: by contract.
            unsafe {
                let norm = self.row.update::<V>(&self.by);
                [norm, row_norm::<V, F32>(bytemuck::cast_slice(self.row.param), None)]
            }
        }
    }

    /// The quotients would hide another order of its sum.
    #[test]
    fn an_updated_row_has_its_norm() {
        let numbers = |from: usize, len: usize| {
            (from..from + len).map(|index| (index as f32).sin()).collect::<Vec<_>>()
        };
        let by = Adam { unit_norm: true, ..Adam::default() }.coefficients();
        for len in 1..300 {
            for start in 0..20 {
                for isa in Isa::all_available() {
                    let (mut param, grad) = (numbers(start * 400, len), numbers(start * 400 + 77, len));
                    let (mut exp_avg, mut exp_avg_sq) = (vec![0.0; len], vec![0.0; len]);
                    let row = Row {
                        param: &mut param,
                        grad: &grad,
                        exp_avg: &mut exp_avg,
                        exp_avg_sq: &mut exp_avg_sq,
                    };
                    let [found, expected] = isa.run(Norms { row, by });
                    assert_eq!(found.to_bits(), expected.to_bits(), "{isa} {len}");
                }
            }
        }
    }
}
