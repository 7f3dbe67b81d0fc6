//! Norms as another kernel would print them, to recognise a figure that someone else measured.

use crate::dispatch::Isa;
use crate::kernel::float32::Imitate;
use crate::rows::zeros;
use crate::{Dtype, Error, Rows};

/// The order in which a float32 kernel adds squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Summation {
    /// One running sum: torch along a strided axis, and for float16.
    Sequential,
    /// 8 running sums, folded left to right; then the elements left over, of which the last `n % 4` are
    /// fused: torch along a contiguous last axis of float32 and bfloat16, on x86 with AVX2.
    Lanes8,
    /// 16 running sums, folded left to right; then the elements left over.
    Lanes16,
    /// 32 running sums, folded left to right; then the elements left over.
    Lanes32,
    /// Halves, summed separately, down to 128 elements over 8 running sums: numpy.
    Pairwise,
}

impl Summation {
    /// Every order.
    pub const ALL: [Self; 5] = [Self::Sequential, Self::Lanes8, Self::Lanes16, Self::Lanes32, Self::Pairwise];
}

/// Norms of rows as a float32 kernel with this order of summation gives them.
///
/// Elements are widened exactly (float64 is rounded); products, sums and the root are rounded to float32 each.
///
/// # Errors
/// [`Error::Length`] where `norms` is not as long as there are rows.
pub fn float32_norm(rows: Rows<'_>, way: Summation, norms: &mut [f32]) -> Result<(), Error> {
    float32_norm_with(Isa::detect(), rows, way, norms)
}

/// [`float32_norm`] on a chosen instruction set.
///
/// # Errors
/// As [`float32_norm`].
pub fn float32_norm_with(isa: Isa, rows: Rows<'_>, way: Summation, norms: &mut [f32]) -> Result<(), Error> {
    rows.check_output(norms.len())?;
    let mut wide = zeros(norms.len())?;
    isa.run(Imitate { rows, way, as_torch: false, norms: &mut wide });
    for (norm, wide) in norms.iter_mut().zip(wide) {
        #[expect(clippy::cast_possible_truncation, reason = "these are float32 numbers")]
        let single = wide as f32;
        *norm = single;
    }
    Ok(())
}

/// What `torch.linalg.vector_norm` in the tensor's own dtype prints on an x86 CPU with AVX2 or better.
///
/// Whether the reduced axis is the contiguous last one is read from the view. Eight-bit formats, for which
/// torch has no norm, are treated as upcast to float32 first.
///
/// # Errors
/// [`Error::Length`] where `norms` is not as long as there are rows.
pub fn torch_figure(rows: Rows<'_>, norms: &mut [f64]) -> Result<(), Error> {
    torch_figure_with(Isa::detect(), rows, norms)
}

/// [`torch_figure`] on a chosen instruction set.
///
/// # Errors
/// As [`torch_figure`].
pub fn torch_figure_with(isa: Isa, rows: Rows<'_>, norms: &mut [f64]) -> Result<(), Error> {
    rows.check_output(norms.len())?;
    let dtype = rows.dtype();
    let last_axis = rows.layout.strides[1] == 1;
    let way = if last_axis && dtype != Dtype::F16 { Summation::Lanes8 } else { Summation::Sequential };
    isa.run(Imitate { rows, way, as_torch: true, norms });
    if matches!(dtype, Dtype::F16 | Dtype::Bf16) {
        for norm in norms {
            *norm = dtype.decode(dtype.encode(*norm));
        }
    }
    Ok(())
}
