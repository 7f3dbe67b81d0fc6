//! Values that no sound checkpoint holds: NaN, Inf, booleans beyond 0 and 1.

use unitrow_norms::Counts;
use unitrow_tensors::{Code, Defect, Dtype, Severity};

/// A value is not a number.
pub const V_NAN: Code = Code { name: "V_NAN", severity: Severity::Fail };
/// A value is infinite.
pub const V_INF: Code = Code { name: "V_INF", severity: Severity::Fail };
/// A byte of a BOOL tensor is neither 0 nor 1.
pub const V_BAD_BOOL: Code = Code { name: "V_BAD_BOOL", severity: Severity::Fail };

/// Every code that this module raises.
pub const ALL: &[Code] = &[V_NAN, V_INF, V_BAD_BOOL];

/// What a scan learned about the values of one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// Counts over all elements; `None` for dtypes whose every bit pattern is an ordinary number.
    pub counts: Option<Counts>,
    /// Bytes of a BOOL tensor beyond 0 and 1.
    pub bad_bool: u64,
    /// Byte offset in the tensor of one NaN, one Inf and one bad BOOL: the same ones in every run.
    pub example: [Option<u64>; 3],
}

/// The dtype as the norm kernels know it; `None` if they do not.
#[must_use]
pub fn norm_dtype(dtype: Dtype) -> Option<unitrow_norms::Dtype> {
    use unitrow_norms::Dtype as Norm;
    Some(match dtype {
        Dtype::F64 => Norm::F64,
        Dtype::F32 => Norm::F32,
        Dtype::F16 => Norm::F16,
        Dtype::Bf16 => Norm::Bf16,
        Dtype::F8E4M3 => Norm::F8E4M3,
        Dtype::F8E5M2 => Norm::F8E5M2,
        Dtype::F8E4M3Fnuz => Norm::F8E4M3Fnuz,
        Dtype::F8E5M2Fnuz => Norm::F8E5M2Fnuz,
        _ => return None,
    })
}

/// Look at some elements of a tensor.
///
/// `locate` turns a byte offset in `bytes` into one in the tensor.
#[must_use]
pub fn look(dtype: Dtype, bytes: &[u8], locate: impl Fn(u64) -> u64) -> Values {
    let counts = counts_of(dtype, bytes);
    let mut values = Values { counts, ..Values::default() };
    if let Some(counts) = values.counts {
        if counts.nan > 0 {
            values.example[0] = position(dtype, bytes, Class::Nan).map(&locate);
        }
        if counts.inf > 0 {
            values.example[1] = position(dtype, bytes, Class::Inf).map(&locate);
        }
    }
    if dtype == Dtype::Bool {
        values.bad_bool = bytes.iter().filter(|&&byte| byte > 1).count() as u64;
        values.example[2] = bytes.iter().position(|&byte| byte > 1).map(|place| locate(place as u64));
    }
    values
}

impl Values {
    /// Add what was learned about other elements of the same tensor.
    pub fn merge(&mut self, other: &Self) {
        self.counts = match (self.counts, other.counts) {
            (Some(mine), Some(theirs)) => Some(mine.merge(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self.bad_bool += other.bad_bool;
        for (mine, theirs) in self.example.iter_mut().zip(other.example) {
            // Blocks arrive in any order; the least offset is the same in all of them.
            *mine = [*mine, theirs].into_iter().flatten().min();
        }
    }

    /// The findings on a tensor whose data starts at `start` of its file, in (offset, code) order.
    #[must_use]
    pub fn findings(&self, name: &str, dtype: Dtype, start: Option<u64>) -> Vec<Defect> {
        let counts = self.counts.unwrap_or_default();
        let found =
            [(V_NAN, counts.nan, "NaN"), (V_INF, counts.inf, "Inf"), (V_BAD_BOOL, self.bad_bool, "other")];
        let mut found: Vec<_> = found.into_iter().zip(self.example).collect();
        found.sort_by_key(|((code, ..), offset)| (*offset, code.name));
        let mut defects = Vec::new();
        for ((code, count, what), offset) in found {
            if count == 0 {
                continue;
            }
            let item = (dtype.bits() / 8).max(1);
            let place =
                offset.map_or(String::new(), |offset| format!(", for example element {}", offset / item));
            let boolean = code.name == V_BAD_BOOL.name;
            let message = match (boolean, count) {
                (true, _) => format!("{count} bytes of a BOOL tensor are neither 0 nor 1{place}"),
                (false, 1) => format!("one value is {what}{place}"),
                (false, _) => format!("{count} values are {what}{place}"),
            };
            let mut defect = Defect::new(code, message)
                .tensor(name)
                .length(item)
                .expected(if boolean { "0 or 1" } else { "finite values" }, format!("{count} {what}"));
            defect.byte_offset = start.zip(offset).map(|(start, offset)| start + offset);
            defects.push(defect);
        }
        defects
    }
}

/// Counts over all elements, complex numbers by their parts.
///
/// Names every dtype, so that none that can hold NaN or Inf is forgotten.
fn counts_of(dtype: Dtype, bytes: &[u8]) -> Option<Counts> {
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
enum Class {
    Nan,
    Inf,
}

/// Bytes that are searched at a time, before the run that holds an element is halved down to it.
const SEARCH_BYTES: usize = 4 << 10;

/// Offset of the first element of a class, of complex numbers the first part: no more than one more pass.
fn position(dtype: Dtype, bytes: &[u8], class: Class) -> Option<u64> {
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
