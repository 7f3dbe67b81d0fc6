//! Norms as a float32 kernel would print them, to recognise a figure that someone else measured.

use crate::element::value_at;
use crate::{Dtype, Error, Rows};

/// The order in which a float32 kernel adds squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Summation {
    /// One running sum.
    Sequential,
    /// 8 running sums, folded left to right.
    Lanes8,
    /// 16 running sums, folded left to right.
    Lanes16,
    /// 32 running sums, folded left to right.
    Lanes32,
    /// Halves, summed separately, down to short runs.
    Pairwise,
}

/// Norms of rows along the last axis as a float32 kernel with this order of summation gives them.
///
/// # Errors
/// [`Error::Length`] where `norms` is not as long as there are rows.
pub fn float32_norm(rows: Rows<'_>, way: Summation, norms: &mut [f32]) -> Result<(), Error> {
    if norms.len() != rows.count() {
        return Err(Error::Length { what: "norms", expected: rows.count(), found: norms.len() });
    }
    let layout = rows.layout;
    let mut squares = Vec::with_capacity(layout.shape[1]);
    for (row, norm) in norms.iter_mut().enumerate() {
        let start = layout.start(row);
        squares.clear();
        squares.extend((0..layout.shape[1]).map(|k| {
            #[expect(clippy::cast_possible_truncation, reason = "float32 arithmetic is what is imitated")]
            let value = value_at(rows.bytes, layout.dtype, start + k * layout.strides[1]) as f32;
            value * value
        }));
        *norm = match way {
            Summation::Sequential => lanes::<1>(&squares),
            Summation::Lanes8 => lanes::<8>(&squares),
            Summation::Lanes16 => lanes::<16>(&squares),
            Summation::Lanes32 => lanes::<32>(&squares),
            Summation::Pairwise => pairwise(&squares),
        }
        .sqrt();
    }
    Ok(())
}

/// The norm that `torch.linalg.vector_norm` in the tensor's own dtype prints on an x86 CPU.
///
/// # Errors
/// [`Error::Length`] where `norms` is not as long as there are rows.
pub fn torch_figure(rows: Rows<'_>, norms: &mut [f64]) -> Result<(), Error> {
    let last_axis = rows.layout.strides[1] == 1;
    let way = match rows.dtype() {
        Dtype::F32 | Dtype::Bf16 if last_axis => Summation::Lanes8,
        _ => Summation::Sequential,
    };
    let mut singles = vec![0.0; norms.len()];
    float32_norm(rows, way, &mut singles)?;
    for (norm, single) in norms.iter_mut().zip(singles) {
        *norm = f64::from(single);
    }
    Ok(())
}

fn lanes<const LANES: usize>(squares: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for chunk in squares.chunks(LANES) {
        for (sum, square) in sums.iter_mut().zip(chunk) {
            *sum += square;
        }
    }
    sums.iter().skip(1).fold(sums[0], |total, sum| total + sum)
}

fn pairwise(squares: &[f32]) -> f32 {
    if squares.len() <= 8 {
        return lanes::<1>(squares);
    }
    let (left, right) = squares.split_at(squares.len() / 2);
    pairwise(left) + pairwise(right)
}
