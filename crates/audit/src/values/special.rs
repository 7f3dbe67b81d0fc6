//! NaN and Inf by each dtype's own table, and where the first one is.

use unitrow_norms::Counts;
use unitrow_tensors::Dtype;

/// Counts over all elements, complex numbers by their parts.
///
/// Names every dtype, so that none that can hold NaN or Inf is forgotten.
pub(super) fn counts_of(dtype: Dtype, bytes: &[u8]) -> Option<Counts> {
    use unitrow_norms::Dtype as Norm;
    let part = match dtype {
        Dtype::F64 | Dtype::C128 => Norm::F64,
        Dtype::F32 | Dtype::C64 => Norm::F32,
        Dtype::F16 => Norm::F16,
        Dtype::Bf16 => Norm::Bf16,
        Dtype::F8E4M3 => Norm::F8E4M3,
        Dtype::F8E5M2 => Norm::F8E5M2,
        Dtype::F8E4M3Fnuz => Norm::F8E4M3Fnuz,
        Dtype::F8E5M2Fnuz => Norm::F8E5M2Fnuz,
        // A scale of eight exponent bits: one code is NaN, every other a power of two.
        Dtype::F8E8M0 => {
            let nan = bytes.iter().map(|&byte| u64::from(byte == 0xff)).sum();
            return Some(Counts { nan, ..Counts::default() });
        }
        // Microscaling formats of less than a byte have no codes to spare.
        Dtype::F4
        | Dtype::F6E2M3
        | Dtype::F6E3M2
        | Dtype::Bool
        | Dtype::U8
        | Dtype::U16
        | Dtype::U32
        | Dtype::U64
        | Dtype::I8
        | Dtype::I16
        | Dtype::I32
        | Dtype::I64
        | Dtype::Opaque { .. } => return None,
    };
    Some(unitrow_norms::value_counts(bytes, part))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Nan,
    Inf,
}

/// Bytes that are searched at a time, before the run that holds an element is halved down to it.
const SEARCH_BYTES: usize = 4 << 10;

/// Offset of the first element of a class, of complex numbers the first part: no more than one more pass.
pub(super) fn position(dtype: Dtype, bytes: &[u8], class: Class) -> Option<u64> {
    // Parts are aligned to their own size, and all sizes divide the length of a run.
    let part = usize::try_from(dtype.alignment()).unwrap_or(1);
    let holds = |run: &[u8]| {
        counts_of(dtype, run).is_some_and(|counts| match class {
            Class::Nan => counts.nan > 0,
            Class::Inf => counts.inf > 0,
        })
    };
    let (index, mut run) = bytes.chunks(SEARCH_BYTES).enumerate().find(|(_, run)| holds(run))?;
    let mut first = index * SEARCH_BYTES;
    while run.len() > part {
        let (left, right) = run.split_at((run.len() / part).div_ceil(2) * part);
        if holds(left) {
            run = left;
        } else {
            first += left.len();
            run = right;
        }
    }
    Some(first as u64)
}
