//! One step of Adam on rows of unit length, fused: each of the streams is read once and written once.

use crate::Dtype;
use crate::adam::Coefficients;
use crate::dispatch::Kernel;
use crate::kernel::narrow::bf16_from_f32;
use crate::kernel::range::{ReadWindow, RowRange, Window, group_of};
use crate::kernel::renorm::{
    Outcome, divide, normalize_outcome, normalize_row, normalize_row_of_norm, store_block,
};
use crate::kernel::sum::{AHEAD_BYTES, LINE_BYTES, SquareSum};
use crate::kernel::widen::{BLOCK, Bf16, F32};
use crate::renorm::Normalized;
use crate::vector::{LANES, Single, Vector};

/// One step on some rows. All views have the same rows; each holds f32 or bf16, the master f32.
pub(crate) struct Step<'a> {
    pub(crate) params: RowRange<'a>,
    pub(crate) master: Option<RowRange<'a>>,
    pub(crate) grads: crate::Rows<'a>,
    pub(crate) exp_avg: RowRange<'a>,
    pub(crate) exp_avg_sq: RowRange<'a>,
    pub(crate) coefficients: Coefficients,
}

/// Rows as float32 where memory does not hold them so.
#[derive(Default)]
struct Scratch {
    param: Vec<f32>,
    grad: Vec<f32>,
    exp_avg: Vec<f32>,
    exp_avg_sq: Vec<f32>,
}

impl Kernel for Step<'_> {
    type Output = Normalized;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Normalized {
        let (count, first) = (self.params.count(), self.params.first());
        let layouts =
            [self.params.layout(), self.grads.layout, self.exp_avg.layout(), self.exp_avg_sq.layout()];
        let group = layouts.iter().map(group_of).max().unwrap_or(1);
        let coefficients = self.coefficients;
        let param_dtype = self.params.layout().dtype;
        let moment_dtypes = (self.exp_avg.layout().dtype, self.exp_avg_sq.layout().dtype);
        let mut params = Window::new(self.params);
        let mut master = self.master.map(Window::new);
        let mut grads = ReadWindow::new(self.grads);
        let mut exp_avg = Window::new(self.exp_avg);
        let mut exp_avg_sq = Window::new(self.exp_avg_sq);
        let mut scratch = Scratch::default();
        let mut total = Normalized::default();
        for start in (0..count).step_by(group) {
            let loaded = group.min(count - start);
            params.load::<V>(start, loaded);
            grads.load::<V>(first + start, loaded);
            exp_avg.load::<V>(start, loaded);
            exp_avg_sq.load::<V>(start, loaded);
            if let Some(master) = &mut master {
                master.load::<V>(start, loaded);
            }
            for index in 0..loaded {
                let (param_bytes, grad_bytes) = (params.row(index), grads.row(index));
                let (avg_bytes, sq_bytes) = (exp_avg.row(index), exp_avg_sq.row(index));
                if master.is_none() {
                    let dtypes = [param_dtype, grads.dtype(), moment_dtypes.0, moment_dtypes.1];
                    if let Some(row) = Row::in_place(dtypes, param_bytes, grad_bytes, avg_bytes, sq_bytes) {
                        // SAFETY: by contract.
                        total.count(unsafe { row.step::<V>(&coefficients) });
                        continue;
                    }
                }
                let (source, dtype) = match &mut master {
                    Some(master) => (master.row(index), Dtype::F32),
                    None => (&mut *param_bytes, param_dtype),
                };
                load(dtype, source, &mut scratch.param);
                load(grads.dtype(), grad_bytes, &mut scratch.grad);
                load(moment_dtypes.0, avg_bytes, &mut scratch.exp_avg);
                load(moment_dtypes.1, sq_bytes, &mut scratch.exp_avg_sq);
                let mut row = Row {
                    param: &mut scratch.param,
                    grad: &scratch.grad,
                    exp_avg: &mut scratch.exp_avg,
                    exp_avg_sq: &mut scratch.exp_avg_sq,
                };
                // SAFETY: by contract.
                let outcome = unsafe {
                    let norm = row.update::<V>(&coefficients);
                    finish::<V>(dtype, row.param, norm, source, &coefficients)
                };
                if master.is_some() {
                    store(param_dtype, &scratch.param, param_bytes);
                }
                store(moment_dtypes.0, &scratch.exp_avg, avg_bytes);
                store(moment_dtypes.1, &scratch.exp_avg_sq, sq_bytes);
                total.count(outcome);
            }
            params.store::<V>(loaded);
            exp_avg.store::<V>(loaded);
            exp_avg_sq.store::<V>(loaded);
            if let Some(master) = &mut master {
                master.store::<V>(loaded);
            }
        }
        total
    }
}

/// Widens a row of f32 or bf16.
#[inline(always)]
fn load(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    if dtype == Dtype::F32 {
        values.resize(bytes.len() / 4, 0.0);
        bytemuck::cast_slice_mut::<f32, u8>(values).copy_from_slice(bytes);
    } else {
        let codes = bytes.as_chunks().0;
        values.resize(codes.len(), 0.0);
        for (value, code) in values.iter_mut().zip(codes) {
            *value = f32::from_bits(u32::from(u16::from_le_bytes(*code)) << 16);
        }
    }
}

/// Rounds a row to f32 or bf16.
#[inline(always)]
fn store(dtype: Dtype, values: &[f32], bytes: &mut [u8]) {
    if dtype == Dtype::F32 {
        bytes.copy_from_slice(bytemuck::cast_slice(values));
    } else {
        for (value, code) in values.iter().zip(bytes.as_chunks_mut().0) {
            *code = bf16_from_f32(*value).to_le_bytes();
        }
    }
}

/// One row in float32.
struct Row<'a> {
    param: &'a mut [f32],
    grad: &'a [f32],
    exp_avg: &'a mut [f32],
    exp_avg_sq: &'a mut [f32],
}

impl<'a> Row<'a> {
    /// The rows where they lie, if that is in float32 and aligned.
    #[inline(always)]
    fn in_place(
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
    unsafe fn step<V: Vector>(mut self, by: &Coefficients) -> Outcome {
        // SAFETY: by contract.
        unsafe {
            let norm = self.update::<V>(by);
            if !by.unit_norm {
                return Outcome::Unchanged;
            }
            let outcome = normalize_outcome::<V, F32, _>(norm, self.param.len(), || {
                bytemuck::cast_slice::<f32, u8>(self.param)
            });
            if outcome == Outcome::Changed {
                scale::<V>(self.param, norm);
            }
            outcome
        }
    }

    /// The step itself; the gradient loses its component along the row on the way. Gives the new row's norm
    /// where that is constrained.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn update<V: Vector>(&mut self, by: &Coefficients) -> f64 {
        // SAFETY: by contract.
        let along = if by.unit_norm { unsafe { self.component::<V>() } } else { 0.0 };
        let row_bytes = size_of_val(self.param);
        let (whole, len) = (self.param.len() / BLOCK * BLOCK, self.param.len());
        let row = self.streams();
        // SAFETY: by contract; blocks of the row, then what is left of it. A prefetch may point anywhere.
        unsafe {
            let mut sum = SquareSum::<V>::new();
            let (by_lane, along) = (Splat::<V>::new(by), V::Single::splat(along));
            for at in (0..whole).step_by(BLOCK) {
                let block = row.at(at);
                if by.unit_norm {
                    // The update keeps the divider busy, the sums before and after it the multipliers, and both
                    // would wait for memory. So all that the next row needs is asked for here, evenly; asked
                    // for during the sums it would come in their way.
                    let ask =
                        |part: *const f32| V::prefetch_for_later(part.cast::<u8>().wrapping_add(row_bytes));
                    update_block::<V>(block, along, ask, &by_lane);
                    sum.add_written(block.param);
                } else {
                    let ask = |part: *const f32| V::prefetch(part.cast::<u8>().wrapping_add(AHEAD_BYTES));
                    update_block::<V>(block, along, ask, &by_lane);
                }
            }
            let rest = row.at(whole);
            update::<V>(rest, len - whole, |_| along, &by_lane);
            sum.add_elements::<F32>(rest.param.cast(), len - whole);
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

    /// How much of the row there is in its gradient; none where the row has no direction.
    ///
    /// Products and the sums of eight of them are float32, which is what the projection is: it leaves 5 U of
    /// the gradient's length along the row at most, and mostly far less.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn component<V: Vector>(&self) -> f32 {
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
            (sums[0].total(), sums[1].total())
        };
        finite_component(product / square)
    }
}

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
            product[index % 2] = product[index % 2].add(grad.mul(param));
            square[index % 2] = square[index % 2].add(param.mul(param));
        }
        sums[0].add_chunk(V::from_single(product[0].add(product[1])));
        sums[1].add_chunk(V::from_single(square[0].add(square[1])));
    }
}

/// Divides a row by its norm in float32: `x (high + low)` with `high + low = 1 / norm` to 2⁻⁴⁸, rounded once. So
/// an element may be further than half an ulp from its quotient, but by no more than 2⁻²³ ulp.
///
/// # Safety
/// The CPU has the instruction set of `V`; `norm` is that of `row`, and not zero.
#[inline(always)]
unsafe fn scale<V: Vector>(row: &mut [f32], norm: f64) {
    // Where neither factor nor products leave the range of float32.
    if !(1e-6..1e6).contains(&norm) {
        // SAFETY: by contract.
        unsafe { divide::<V, F32>(bytemuck::cast_slice_mut(row), norm) };
        return;
    }
    let inverse = 1.0 / norm;
    #[expect(clippy::cast_possible_truncation, reason = "split into what float32 holds and what it does not")]
    let (high, low) = (inverse as f32, (inverse - f64::from(inverse as f32)) as f32);
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

/// A component that can be removed in float32, else none.
pub(crate) fn finite_component(along: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the step is float32 arithmetic")]
    let along = along as f32;
    if along.is_finite() { along } else { 0.0 }
}

/// What a step computes once, in every lane.
struct Splat<V: Vector> {
    unit_norm: bool,
    decoupled: bool,
    weight_is_small: bool,
    sign: V::Single,
    shrink: V::Single,
    weight_decay: V::Single,
    beta1: V::Single,
    one_minus_beta1: V::Single,
    beta2: V::Single,
    one_minus_beta2: V::Single,
    inverse_correction2_sqrt: V::Single,
    eps: V::Single,
    minus_step_size: V::Single,
}

impl<V: Vector> Splat<V> {
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn new(by: &Coefficients) -> Self {
        // SAFETY: by contract.
        unsafe {
            Self {
                unit_norm: by.unit_norm,
                decoupled: by.decoupled,
                weight_is_small: by.weight_is_small,
                sign: V::Single::splat(by.sign),
                shrink: V::Single::splat(by.shrink),
                weight_decay: V::Single::splat(by.weight_decay),
                beta1: V::Single::splat(by.beta1),
                one_minus_beta1: V::Single::splat(by.one_minus_beta1),
                beta2: V::Single::splat(by.beta2),
                one_minus_beta2: V::Single::splat(by.one_minus_beta2),
                inverse_correction2_sqrt: V::Single::splat(by.inverse_correction2_sqrt),
                eps: V::Single::splat(by.eps),
                minus_step_size: V::Single::splat(by.minus_step_size),
            }
        }
    }
}

/// Where the elements of a row stand.
#[derive(Clone, Copy)]
struct Streams {
    param: *mut f32,
    grad: *const f32,
    average: *mut f32,
    square: *mut f32,
}

impl Streams {
    /// From the element at `index` on.
    #[inline(always)]
    fn at(self, index: usize) -> Self {
        Self {
            param: self.param.wrapping_add(index),
            grad: self.grad.wrapping_add(index),
            average: self.average.wrapping_add(index),
            square: self.square.wrapping_add(index),
        }
    }
}

/// Float32 in a cache line.
const LINE: usize = LINE_BYTES / size_of::<f32>();

/// The step on a block. Calls `ask` with each cache line of it, to ask for what is needed later.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block of each is readable, and writable but for the gradient.
#[inline(always)]
unsafe fn update_block<V: Vector>(block: Streams, along: V::Single, ask: impl Fn(*const f32), by: &Splat<V>) {
    for line in (0..BLOCK).step_by(LINE) {
        let part = block.at(line);
        ask(part.param);
        ask(part.grad);
        ask(part.average);
        ask(part.square);
        for eight in (0..LINE).step_by(LANES) {
            // SAFETY: by contract.
            unsafe { update_eight::<V>(part.at(eight), along, by) }
        }
    }
}

/// The step on `count` elements. `along(at)` gives the components for the eight elements from `at` on.
///
/// # Safety
/// The CPU has the instruction set of `V`; `count` of each are readable, and writable but for the gradient.
#[inline(always)]
unsafe fn update<V: Vector>(
    elements: Streams,
    count: usize,
    along: impl Fn(usize) -> V::Single,
    by: &Splat<V>,
) {
    let whole = count / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        // SAFETY: by contract; eight elements from `at` on.
        unsafe { update_eight::<V>(elements.at(at), along(at), by) }
    }
    if whole == count {
        return;
    }
    let (rest, rest_bytes) = (elements.at(whole), (count - whole) * size_of::<f32>());
    let mut padded = [[0.0; LANES]; 4];
    let [param, grad, average, square] = &mut padded;
    let eight = Streams {
        param: param.as_mut_ptr(),
        grad: grad.as_mut_ptr(),
        average: average.as_mut_ptr(),
        square: square.as_mut_ptr(),
    };
    // SAFETY: by contract; fewer than eight elements, in arrays of eight. As bytes, whose alignment is one.
    unsafe {
        let copy = |from: *const f32, to: *mut f32| {
            to.cast::<u8>().copy_from_nonoverlapping(from.cast(), rest_bytes);
        };
        copy(rest.param, eight.param);
        copy(rest.grad, grad.as_mut_ptr());
        copy(rest.average, eight.average);
        copy(rest.square, eight.square);
        update_eight::<V>(eight, along(whole), by);
        copy(eight.param, rest.param);
        copy(eight.average, rest.average);
        copy(eight.square, rest.square);
    }
}

/// The step on eight elements, in float32 and in the order of `torch.optim.Adam(fused=True)`.
///
/// # Safety
/// The CPU has the instruction set of `V`; eight of each are readable, and writable but for the gradient.
#[inline(always)]
unsafe fn update_eight<V: Vector>(eight: Streams, along: V::Single, by: &Splat<V>) {
    // SAFETY: by contract.
    unsafe {
        let mut value = V::Single::load(eight.param);
        let mut gradient = V::Single::load(eight.grad);
        if by.unit_norm {
            gradient = gradient.sub(value.mul(along));
        }
        gradient = gradient.mul(by.sign);
        if by.decoupled {
            value = value.mul(by.shrink);
        } else {
            gradient = gradient.add(value.mul(by.weight_decay));
        }
        let before = V::Single::load(eight.average);
        let difference = gradient.sub(before);
        let average = if by.weight_is_small {
            before.add(by.one_minus_beta1.mul(difference))
        } else {
            gradient.sub(difference.mul(by.beta1))
        };
        let new_part = by.one_minus_beta2.mul(gradient).mul(gradient);
        let square = V::Single::load(eight.square).mul(by.beta2).add(new_part);
        let denominator = square.sqrt().mul(by.inverse_correction2_sqrt).add(by.eps);
        average.store(eight.average);
        square.store(eight.square);
        value.add(by.minus_step_size.mul(average).div(denominator)).store(eight.param);
    }
}

/// The step on one matrix row of float32, with a component for each of its columns.
///
/// # Safety
/// The CPU has the instruction set of `V`; all are equally long.
#[inline(always)]
pub(crate) unsafe fn update_columns<V: Vector>(
    params: &mut [u8],
    grads: &[u8],
    averages: &mut [u8],
    squares: &mut [u8],
    along: &[f32],
    by: &Coefficients,
) {
    // SAFETY: by contract.
    let by = unsafe { Splat::<V>::new(by) };
    let components = |at: usize| {
        let mut eight = [0.0; LANES];
        let part = &along[at..along.len().min(at + LANES)];
        eight[..part.len()].copy_from_slice(part);
        // SAFETY: by contract; eight float32.
        unsafe { V::Single::load(eight.as_ptr()) }
    };
    let lens = [params.len(), grads.len(), averages.len(), squares.len()];
    assert!(lens.into_iter().all(|len_bytes| len_bytes == size_of_val(along)), "equal lengths");
    // Only loads and stores for any alignment see the pointers.
    let row = Streams {
        param: params.as_mut_ptr().cast(),
        grad: grads.as_ptr().cast(),
        average: averages.as_mut_ptr().cast(),
        square: squares.as_mut_ptr().cast(),
    };
    // SAFETY: by contract, and the lengths were just checked.
    unsafe { update::<V>(row, along.len(), components, &by) }
}

/// Renormalises the updated row and stores it, rounded once. Leaves in `values` what was stored.
///
/// # Safety
/// The CPU has the instruction set of `V`; `target` holds as many elements of `dtype` as there are values.
#[inline(always)]
unsafe fn finish<V: Vector>(
    dtype: Dtype,
    values: &mut [f32],
    norm: f64,
    target: &mut [u8],
    c: &Coefficients,
) -> Outcome {
    if !c.unit_norm {
        store(dtype, values, target);
        return Outcome::Unchanged;
    }
    if dtype == Dtype::F32 {
        // SAFETY: by contract.
        let outcome = unsafe { normalize_row_of_norm::<V, F32>(bytemuck::cast_slice_mut(values), norm) };
        store(dtype, values, target);
        return outcome;
    }
    let is_still = values
        .iter()
        .zip(target.as_chunks().0)
        .all(|(value, code)| value.to_bits() == u32::from(u16::from_le_bytes(*code)) << 16);
    if is_still {
        // Stored numbers: within their bound they stay, as they would without a step.
        // SAFETY: by contract.
        return unsafe { normalize_row::<V, Bf16>(target) };
    }
    if norm == 0.0 || !norm.is_finite() {
        store(dtype, values, target);
        return if norm == 0.0 { Outcome::Zero } else { Outcome::Nonfinite };
    }
    // From the updated float32 numbers straight to the stored format: one rounding.
    for (values, target) in values.chunks(BLOCK).zip(target.chunks_mut(BLOCK * 2)) {
        let mut quotients = [0.0; BLOCK];
        for (quotient, value) in quotients.iter_mut().zip(values) {
            *quotient = f64::from(*value) / norm;
        }
        // SAFETY: by contract.
        unsafe { store_block::<Bf16>(&quotients, target) };
    }
    Outcome::Changed
}
