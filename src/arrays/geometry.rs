//! From shapes and strides of any rank to the `[outer, len, inner]` blocks that kernels take.
//!
//! A "row" is a slice over the model axis. What is left of the shape is merged where memory allows it; what
//! cannot be merged becomes a loop over blocks. So every layout is right, and the usual ones are one call.

/// A dimension of `N` arrays of one shape: its length and its stride in each, in elements.
type Dimension<const N: usize> = (usize, [isize; N]);

/// How to walk `N` arrays of one shape, row by row, in the row order of the result.
#[derive(Debug)]
pub(crate) struct Plan<const N: usize> {
    /// The dimensions outside a block, slowest first.
    loops: Vec<Dimension<N>>,
    /// `[outer, len, inner]` of one block.
    pub(crate) shape: [usize; 3],
    /// The strides that go with `shape`, in elements, for each array.
    pub(crate) strides: [[usize; 3]; N],
}

impl<const N: usize> Plan<N> {
    /// Plans a walk over arrays of shape `shape`, whose rows run along `axis`.
    ///
    /// `axis` must be below the rank and every stride slice as long as the shape. None where rows run
    /// backwards in memory: the sum would be taken in another order than over a copy.
    pub(crate) fn new(shape: &[usize], strides: [&[isize]; N], axis: usize) -> Option<Self> {
        let len = shape[axis];
        let is_run = len > 1 && !shape.contains(&0);
        let along = if is_run { strides.map(|s| s[axis]) } else { [1; N] };
        let along = forward(along)?;
        let mut loops = merged(shape, strides, axis);
        // The fastest of the rest is `inner` where memory is denser along it than along the row.
        let inner = pop_if(&mut loops, |(_, step)| is_run && step[0].unsigned_abs() < along[0]);
        let outer = pop_if(&mut loops, |_| true);
        Some(Self {
            loops,
            shape: [outer.0, len, inner.0],
            strides: std::array::from_fn(|n| [outer.1[n], along[n], inner.1[n]]),
        })
    }

    /// How many blocks there are.
    pub(crate) fn count(&self) -> usize {
        self.loops.iter().map(|(count, _)| count).product()
    }

    /// Rows in each block.
    pub(crate) fn rows_per_block(&self) -> usize {
        self.shape[0] * self.shape[2]
    }

    /// Where the blocks begin, in elements from the first element of each array, in the order of the result.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = [isize; N]> {
        (0..self.count()).map(|mut index| {
            let mut offset = [0; N];
            for (count, step) in self.loops.iter().rev() {
                // A position is below the length of its dimension, and lengths fit isize.
                let position = (index % count).cast_signed();
                index /= count;
                for (sum, step) in offset.iter_mut().zip(step) {
                    *sum += position * step;
                }
            }
            offset
        })
    }
}

/// The dimensions other than `axis`, without those of length 1, neighbours joined where they are one run.
fn merged<const N: usize>(shape: &[usize], strides: [&[isize]; N], axis: usize) -> Vec<Dimension<N>> {
    let mut rest: Vec<Dimension<N>> = Vec::with_capacity(shape.len());
    for d in (0..shape.len()).filter(|&d| d != axis && shape[d] != 1) {
        let (count, step) = (shape[d], strides.map(|s| s[d]));
        match rest.last_mut() {
            Some(slow) if continues(&slow.1, &step, count) => *slow = (slow.0 * count, step),
            _ => rest.push((count, step)),
        }
    }
    rest
}

/// Whether one step of the slow dimension is exactly all of the fast one, in every array.
fn continues<const N: usize>(slow: &[isize; N], fast: &[isize; N], count: usize) -> bool {
    let whole = |step: isize| isize::try_from(count).ok().and_then(|count| step.checked_mul(count));
    slow.iter().zip(fast).all(|(slow, fast)| whole(*fast) == Some(*slow))
}

/// Takes the last dimension if it runs forward and satisfies `wanted`; else one of length 1.
fn pop_if<const N: usize>(
    rest: &mut Vec<Dimension<N>>,
    wanted: impl Fn(&Dimension<N>) -> bool,
) -> (usize, [usize; N]) {
    let found = rest.last().filter(|last| wanted(last)).and_then(|last| Some((last.0, forward(last.1)?)));
    if found.is_some() {
        rest.pop();
    }
    found.unwrap_or((1, [0; N]))
}

/// These strides, if none is negative.
fn forward<const N: usize>(strides: [isize; N]) -> Option<[usize; N]> {
    (strides.iter().all(|&step| step >= 0)).then(|| strides.map(isize::unsigned_abs))
}

/// Lowest and highest element that an array reaches, counted from its first; none where that overflows.
///
/// The shape must hold no zero.
pub(crate) fn reach(shape: &[usize], strides: &[isize]) -> Option<(isize, isize)> {
    let (mut lowest, mut highest) = (0_isize, 0_isize);
    for (&length, &step) in shape.iter().zip(strides) {
        let last = isize::try_from(length - 1).ok()?.checked_mul(step)?;
        if last < 0 {
            lowest = lowest.checked_add(last)?;
        } else {
            highest = highest.checked_add(last)?;
        }
    }
    Some((lowest, highest))
}

/// Whether no two elements can share memory.
///
/// Sufficient and not necessary: sorted by stride, each dimension must step over all that lies below it.
pub(crate) fn is_disjoint(shape: &[usize], strides: &[isize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut steps: Vec<_> = (shape.iter().zip(strides))
        .filter(|(length, _)| **length > 1)
        .map(|(length, step)| (step.unsigned_abs(), *length))
        .collect();
    steps.sort_unstable();
    let mut extent = 1_usize;
    for (step, length) in steps {
        if step < extent {
            return false;
        }
        extent = extent.saturating_add(step.saturating_mul(length - 1));
    }
    true
}
