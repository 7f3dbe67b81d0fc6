//! In-place renormalisation.

use std::ops::Add;

use crate::dispatch::Isa;
use crate::float32::torch_figure_with;
use crate::kernel::range::RowRange;
use crate::kernel::renorm::{Outcome, Renormalise, divisor, is_coarse};
use crate::kernel::stream::{Decide, DivideColumns};
use crate::norm::row_norms_with;
use crate::parallel::{part_of, run_parts};
use crate::rows::zeros;
use crate::{Dtype, Error, Pool, RowsMut};

/// Whose arithmetic divides the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compat {
    /// Division by the float64 norm, rounded once to the stored format; rows within their rounding bound stay.
    #[default]
    Exact,
    /// The bits of `torch.nn.functional.normalize` on a CPU, for every row: division by the norm that torch
    /// prints, but at least 1e-12 (which is 0 in float16, whose zero rows become NaN).
    Torch,
}

/// What happens to rows that have no direction: zero rows and rows with NaN or Inf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDegenerate {
    /// They are counted.
    #[default]
    Keep,
    /// Nothing is written, and the call fails. Takes one more read of memory.
    Raise,
}

/// How to normalise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Normalize {
    /// Whose arithmetic.
    pub compat: Compat,
    /// What about rows without a direction.
    pub on_degenerate: OnDegenerate,
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Normalized {
    /// Rows that were divided.
    pub changed: usize,
    /// Rows within their rounding bound, left bit for bit.
    pub unchanged: usize,
    /// Zero rows.
    pub zero: usize,
    /// Rows with a NaN or an infinity, or float64 rows whose norm is beyond the largest float64.
    pub nonfinite: usize,
}

impl Normalized {
    pub(crate) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Changed => self.changed += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Zero => self.zero += 1,
            Outcome::Nonfinite => self.nonfinite += 1,
        }
    }
}

impl Add for Normalized {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            changed: self.changed + other.changed,
            unchanged: self.unchanged + other.unchanged,
            zero: self.zero + other.zero,
            nonfinite: self.nonfinite + other.nonfinite,
        }
    }
}

/// Divides every row by its norm, in place.
///
/// With [`Compat::Exact`] a row `w` is left bit for bit where rounding alone can have moved its norm away from
/// 1: by `½ Σ |w| ulp(w)` at most, with the ulp of the stored format (below 1 also half of `Σ (½ ulp)²`, and
/// either way what float64 cannot resolve). So the operation is idempotent, and afterwards every row that has a
/// direction is within that bound. Zero rows and rows with NaN or Inf are not touched.
///
/// # Errors
/// [`Error::Degenerate`] as `options` ask for; [`Error::Dtype`] for [`Compat::Torch`] with an eight-bit format,
/// which torch cannot divide.
pub fn normalize_rows(
    rows: RowsMut<'_>,
    options: Normalize,
    pool: Option<&Pool>,
) -> Result<Normalized, Error> {
    normalize_rows_with(Isa::detect(), rows, options, pool)
}

/// [`normalize_rows`] on a chosen instruction set; the bits are the same on all of them.
///
/// # Errors
/// As [`normalize_rows`].
pub fn normalize_rows_with(
    isa: Isa,
    rows: RowsMut<'_>,
    options: Normalize,
    pool: Option<&Pool>,
) -> Result<Normalized, Error> {
    let dtype = rows.layout.dtype;
    if options.compat == Compat::Torch && dtype.size_bytes() == 1 {
        return Err(Error::Dtype { what: "rows to normalise as torch does", found: dtype });
    }
    if options.on_degenerate == OnDegenerate::Raise {
        let mut norms = zeros(rows.count())?;
        row_norms_with(isa, rows.as_rows(), &mut norms, pool)?;
        let zero = norms.iter().filter(|norm| **norm == 0.0).count();
        let nonfinite = norms.iter().filter(|norm| !norm.is_finite()).count();
        if zero + nonfinite > 0 {
            return Err(Error::Degenerate { zero, nonfinite });
        }
    }
    if options.compat == Compat::Exact && rows.layout.is_columns() {
        return normalize_columns(isa, rows, pool);
    }
    let torch_divisors = match options.compat {
        Compat::Exact => None,
        Compat::Torch => Some(torch_divisors(isa, &rows)?),
    };
    let torch_divisors = torch_divisors.as_deref();
    let layout = rows.layout;
    let parts: Vec<_> = RowRange::whole(rows).split(part_of(&[layout], pool)).collect();
    Ok(run_parts(pool, parts, |range| isa.run(Renormalise { range, torch_divisors })))
}

/// The strided axis: one pass for the norms, one for the division, both in the order of memory.
fn normalize_columns(isa: Isa, mut rows: RowsMut<'_>, pool: Option<&Pool>) -> Result<Normalized, Error> {
    let mut norms = zeros(rows.count())?;
    row_norms_with(isa, rows.as_rows(), &mut norms, pool)?;
    let total = isa.run(Decide { rows: rows.as_rows(), norms: &mut norms });
    if total.changed > 0 {
        let again = norms.iter().copied().any(is_coarse);
        for norm in &mut norms {
            *norm = divisor(*norm);
        }
        let turned = rows.reborrow().transposed();
        let part = part_of(&[turned.layout], pool);
        let (divisors, inverses) = (&norms, &norms.iter().map(|norm| 1.0 / norm).collect::<Vec<_>>());
        let parts: Vec<_> = RowRange::whole(turned).split(part).collect();
        run_parts(pool, parts, |range| isa.run(DivideColumns { range, divisors, inverses }));
        if again {
            normalize_columns(isa, rows, pool)?;
        }
    }
    Ok(total)
}

/// The norms by which `F.normalize` divides, each at least 1e-12 in the dtype.
fn torch_divisors(isa: Isa, rows: &RowsMut<'_>) -> Result<Vec<f64>, Error> {
    let dtype = rows.layout.dtype;
    let least = match dtype {
        Dtype::F64 => 1e-12,
        _ => dtype.decode(dtype.encode(f64::from(1e-12_f32))),
    };
    let mut norms = zeros(rows.count())?;
    torch_figure_with(isa, rows.as_rows(), &mut norms)?;
    for norm in &mut norms {
        if *norm < least {
            *norm = least;
        }
    }
    Ok(norms)
}
