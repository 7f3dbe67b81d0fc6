//! The arithmetic of a step of Adam: elements at any alignment, eight at a time.

use crate::adam::{Coefficients, Decay};
use crate::kernel::ahead::LINE_BYTES;
use crate::kernel::widen::BLOCK;
use crate::vector::{LANES, Single, Vector};

/// What a step computes once, in every lane.
pub(crate) struct Splat<V: Vector> {
    decay: Decay,
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
    pub(crate) unsafe fn new(by: &Coefficients) -> Self {
        // SAFETY: by contract.
        unsafe {
            Self {
                decay: by.decay,
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
pub(crate) struct Streams {
    pub(crate) param: *mut f32,
    pub(crate) grad: *const f32,
    pub(crate) average: *mut f32,
    pub(crate) square: *mut f32,
}

impl Streams {
    /// From the element at `index` on.
    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> Self {
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

/// The step on a block. `pull` is [`Coefficients::pull`] where there is one. Calls `ask` with each cache line, to ask
/// for what is needed later.
///
/// # Safety
/// The CPU has the instruction set of `V`; a block of each is readable, and writable but for the gradient.
#[inline(always)]
pub(crate) unsafe fn update_block<V: Vector>(
    block: Streams,
    pull: Option<V::Single>,
    ask: impl Fn(*const f32),
    by: &Splat<V>,
) {
    // Root and quotient take most of the time that eight elements need, so that few of them fit into the window in
    // which the CPU reorders. Each line is therefore divided while the next one is started.
    let mut started = None;
    for at in (0..BLOCK).step_by(LINE) {
        let line = block.at(at);
        ask(line.param);
        ask(line.grad);
        ask(line.average);
        ask(line.square);
        // SAFETY: by contract; a cache line holds two times eight elements.
        unsafe {
            let next = [start_eight::<V>(line, pull, by), start_eight::<V>(line.at(LANES), pull, by)];
            if let Some(before) = started.replace(next) {
                finish_line::<V>(before, line.param.wrapping_sub(LINE), by);
            }
        }
    }
    if let Some(last) = started {
        // SAFETY: by contract.
        unsafe { finish_line::<V>(last, block.param.wrapping_add(BLOCK - LINE), by) }
    }
}

/// The step on `count` elements. `pull(at)` is for the eight elements from `at` on what it is in [`update_block`].
///
/// # Safety
/// The CPU has the instruction set of `V`; `count` of each are readable, and writable but for the gradient.
#[inline(always)]
pub(crate) unsafe fn update<V: Vector>(
    elements: Streams,
    count: usize,
    pull: impl Fn(usize) -> Option<V::Single>,
    by: &Splat<V>,
) {
    let whole = count / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        // SAFETY: by contract; eight elements from `at` on.
        unsafe { update_eight::<V>(elements.at(at), pull(at), by) }
    }
    if whole == count {
        return;
    }
    let (rest, rest_bytes) = (elements.at(whole), (count - whole) * size_of::<f32>());
    let mut padded = [[0.0; LANES]; 4];
    let [param, grad, average, square] = padded.each_mut().map(|lanes| lanes.as_mut_ptr());
    let eight = Streams { param, grad, average, square };
    // SAFETY: by contract; fewer than eight elements, in arrays of eight. As bytes, whose alignment is one.
    unsafe {
        let copy = |from: *const f32, to: *mut f32| {
            to.cast::<u8>().copy_from_nonoverlapping(from.cast(), rest_bytes);
        };
        copy(rest.param, eight.param);
        copy(rest.grad, grad);
        copy(rest.average, eight.average);
        copy(rest.square, eight.square);
        update_eight::<V>(eight, pull(whole), by);
        copy(eight.param, rest.param);
        copy(eight.average, rest.average);
        copy(eight.square, rest.square);
    }
}

/// The step on eight elements.
///
/// # Safety
/// The CPU has the instruction set of `V`; eight of each are readable, and writable but for the gradient.
#[inline(always)]
unsafe fn update_eight<V: Vector>(eight: Streams, pull: Option<V::Single>, by: &Splat<V>) {
    // SAFETY: by contract.
    unsafe { finish_eight::<V>(start_eight::<V>(eight, pull, by), eight.param, by) }
}

/// A step on eight elements, as far as the moments, which are stored, and the root.
#[derive(Clone, Copy)]
struct Started<V: Vector> {
    value: V::Single,
    numerator: V::Single,
    root: V::Single,
}

/// The step in float32 and in the order of `torch.optim.Adam(fused=True)`.
///
/// # Safety
/// The CPU has the instruction set of `V`; eight of each are readable, and of the moments writable.
#[inline(always)]
unsafe fn start_eight<V: Vector>(eight: Streams, pull: Option<V::Single>, by: &Splat<V>) -> Started<V> {
    // SAFETY: by contract.
    unsafe {
        let mut value = V::Single::load(eight.param);
        let mut gradient = V::Single::load(eight.grad).mul(by.sign);
        if let Some(pull) = pull {
            gradient = value.mul_add(pull, gradient);
        }
        match by.decay {
            Decay::None => {}
            Decay::Decoupled => value = value.mul(by.shrink),
            Decay::Gradient => gradient = gradient.add(value.mul(by.weight_decay)),
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
        average.store(eight.average);
        square.store(eight.square);
        Started { value, numerator: by.minus_step_size.mul(average), root: square.sqrt() }
    }
}

/// The rest of the step.
///
/// # Safety
/// The CPU has the instruction set of `V`; eight elements are writable at `param`.
#[inline(always)]
unsafe fn finish_eight<V: Vector>(started: Started<V>, param: *mut f32, by: &Splat<V>) {
    // SAFETY: by contract.
    unsafe {
        let denominator = started.root.mul(by.inverse_correction2_sqrt).add(by.eps);
        started.value.add(started.numerator.div(denominator)).store(param);
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; a cache line of elements is writable at `param`.
#[inline(always)]
unsafe fn finish_line<V: Vector>([first, second]: [Started<V>; 2], param: *mut f32, by: &Splat<V>) {
    // SAFETY: by contract.
    unsafe {
        finish_eight::<V>(first, param, by);
        finish_eight::<V>(second, param.wrapping_add(LANES), by);
    }
}

/// The step on one matrix row of float32, with a pull for each of its columns.
///
/// # Safety
/// The CPU has the instruction set of `V`; all are equally long.
#[inline(always)]
pub(crate) unsafe fn update_columns<V: Vector>(
    params: &mut [u8],
    grads: &[u8],
    averages: &mut [u8],
    squares: &mut [u8],
    pulls: &[f32],
    by: &Coefficients,
) {
    let lens = [params.len(), grads.len(), averages.len(), squares.len()];
    assert!(lens.into_iter().all(|len_bytes| len_bytes == size_of_val(pulls)), "equal lengths");
    // Only loads and stores for any alignment see the pointers.
    let row = Streams {
        param: params.as_mut_ptr().cast(),
        grad: grads.as_ptr().cast(),
        average: averages.as_mut_ptr().cast(),
        square: squares.as_mut_ptr().cast(),
    };
    // SAFETY: by contract, and the lengths were just checked.
    unsafe {
        let by_lane = Splat::<V>::new(by);
        if by.unit_norm {
            update::<V>(row, pulls.len(), |at| Some(eight_of::<V>(pulls, at)), &by_lane);
        } else {
            update::<V>(row, pulls.len(), |_| None, &by_lane);
        }
    }
}

/// Eight of `values` from `at` on, and zeros past the end.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn eight_of<V: Vector>(values: &[f32], at: usize) -> V::Single {
    let mut eight = [0.0; LANES];
    let part = &values[at..values.len().min(at + LANES)];
    eight[..part.len()].copy_from_slice(part);
    // SAFETY: by contract; eight float32.
    unsafe { V::Single::load(eight.as_ptr()) }
}
