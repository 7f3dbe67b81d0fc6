//! Norms of float32 rows whose elements are adjacent, torch's own figures for them, and the counts, in one sweep.
//!
//! The same sums in the same orders as [`crate::kernel::last_axis`], [`crate::kernel::float32`] and
//! [`crate::kernel::scan`], a block at a time while it is in registers: the float64 sum waits for conversions, the
//! float32 one for each of its additions, and the look at the codes for neither.

use crate::dispatch::Kernel;
use crate::kernel::float32::finish_lanes;
use crate::kernel::scan::{Seen, settle};
use crate::kernel::sum::{SquareSum, chunk, prefetch};
use crate::kernel::widen::{BLOCK, F32};
use crate::vector::{LANES, Vector};
use crate::{Counts, Rows};

/// Rows of a contiguous view of float32.
pub(crate) struct Figured<'a> {
    pub(crate) rows: Rows<'a>,
    pub(crate) norms: &'a mut [f64],
    pub(crate) figures: &'a mut [f64],
}

impl Kernel for Figured<'_> {
    type Output = Counts;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Counts {
        let mut counts = Counts::EMPTY;
        let layout = self.rows.layout;
        let row_bytes = layout.shape[1] * size_of::<f32>();
        for (index, (norm, figure)) in self.norms.iter_mut().zip(self.figures).enumerate() {
            // The view was checked to lie within the buffer.
            let row = &self.rows.bytes[layout.start(index) * size_of::<f32>()..][..row_bytes];
            // SAFETY: by contract.
            (*norm, *figure) = unsafe { row_figures::<V>(row, &mut counts) };
        }
        counts
    }
}

/// The norm of a row and torch's figure for it.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn row_figures<V: Vector>(row: &[u8], counts: &mut Counts) -> (f64, f64) {
    let (blocks, rest) = row.as_chunks::<{ BLOCK * size_of::<f32>() }>();
    let (mut single, mut seen) = ([0.0; LANES], Seen::<u32, LANES>::NOTHING);
    // SAFETY: by contract; each block is readable, and all elements before the rest are whole blocks.
    let norm = unsafe {
        let mut sum = SquareSum::<V>::new();
        for block in blocks {
            prefetch::<V>(block.as_ptr(), BLOCK * size_of::<f32>());
            #[expect(clippy::cast_ptr_alignment, reason = "only loads for any alignment see it")]
            let first = block.as_ptr().cast::<f32>();
            sum.add_chunk(chunk::<V, f32>(|index| first.wrapping_add(index * LANES)));
            for group in 0..BLOCK / LANES {
                let codes = first.cast::<[u32; LANES]>().add(group).read_unaligned();
                add_squares(&mut single, codes);
                seen.look(codes, i32::MAX.cast_unsigned());
            }
        }
        sum.add_elements::<F32>(rest.as_ptr(), rest.len() / size_of::<f32>());
        sum.norm().0
    };
    let (groups, rest) = rest.as_chunks::<{ LANES * size_of::<f32>() }>();
    for group in groups {
        let codes = std::array::from_fn(|lane| code(group, lane));
        add_squares(&mut single, codes);
        seen.look(codes, i32::MAX.cast_unsigned());
    }
    let count = rest.len() / size_of::<f32>();
    let mut left = [0.0; LANES];
    for (lane, left) in left.iter_mut().enumerate().take(count) {
        *left = f32::from_bits(code(rest, lane));
        seen.look([code(rest, lane); LANES], i32::MAX.cast_unsigned());
    }
    let figure = finish_lanes(single, &left[..count], 4, f32::mul_add).sqrt();
    if !row.is_empty() {
        // SAFETY: the row's elements are readable.
        unsafe { settle::<F32>(seen.fold(), row.as_ptr(), row.len() / size_of::<f32>(), counts) };
    }
    (norm, f64::from(figure))
}

/// One step of eight running sums: the product is rounded, then the sum.
#[inline(always)]
fn add_squares(sums: &mut [f32; LANES], codes: [u32; LANES]) {
    for (sum, code) in sums.iter_mut().zip(codes) {
        let value = f32::from_bits(code);
        *sum += value * value;
    }
}

/// The bits of element `index`.
#[inline(always)]
fn code(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[index])
}
