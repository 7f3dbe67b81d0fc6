//! Values that no sound checkpoint holds, found in the pass that measures norms.
//!
//! Every block is counted once: NaN, Inf, zeros, subnormal numbers, the smallest and the largest value. The counts
//! alone tell that nearly every block is ordinary; what they leave open is looked at closer.

mod frame;
mod report;
mod rows;
mod special;
mod spread;
mod text;
mod twins;
mod zeros;

use unitrow_norms::Counts;
use unitrow_tensors::code::V_ZERO_PAGES;
use unitrow_tensors::{Code, Dtype, Severity};

pub use frame::Frame;
pub(crate) use report::copies;
pub(crate) use twins::Pages;

use rows::OddRows;
use special::{Class, counts_of, position};
use spread::Spread;
use zeros::{ZeroRuns, is_zero};

/// A value is not a number.
pub const V_NAN: Code = Code { name: "V_NAN", severity: Severity::Fail };
/// A value is infinite.
pub const V_INF: Code = Code { name: "V_INF", severity: Severity::Fail };
/// A byte of a BOOL tensor is neither 0 nor 1.
pub const V_BAD_BOOL: Code = Code { name: "V_BAD_BOOL", severity: Severity::Fail };
/// Every element is zero; fail where the file was never written there, note for vectors.
pub const V_ALL_ZERO: Code = Code { name: "V_ALL_ZERO", severity: Severity::Warn };
/// Rows of a matrix are zero.
pub const V_ZERO_ROW: Code = Code { name: "V_ZERO_ROW", severity: Severity::Warn };
/// A few values are far above all others.
pub const V_OUTLIER: Code = Code { name: "V_OUTLIER", severity: Severity::Warn };
/// Values make sense only with their bytes swapped.
pub const V_SUSPECT_ENDIAN: Code = Code { name: "V_SUSPECT_ENDIAN", severity: Severity::Warn };
/// Text among the bytes of numbers.
pub const V_FOREIGN_TEXT: Code = Code { name: "V_FOREIGN_TEXT", severity: Severity::Warn };
/// The sum of a row's squares leaves the range of its dtype.
pub const V_ROW_NORM_OVERFLOW: Code = Code { name: "V_ROW_NORM_OVERFLOW", severity: Severity::Warn };
/// A whole row is subnormal.
pub const V_SUBNORMAL: Code = Code { name: "V_SUBNORMAL", severity: Severity::Note };
/// Pages of the file hold the same bytes.
pub const V_DUP_BLOCK: Code = Code { name: "V_DUP_BLOCK", severity: Severity::Note };

/// Every code of the family.
pub const ALL: &[Code] = &[
    V_NAN,
    V_INF,
    V_BAD_BOOL,
    V_ZERO_PAGES,
    V_ALL_ZERO,
    V_ZERO_ROW,
    V_OUTLIER,
    V_SUSPECT_ENDIAN,
    V_FOREIGN_TEXT,
    V_ROW_NORM_OVERFLOW,
    V_SUBNORMAL,
    V_DUP_BLOCK,
];

/// What a scan learned about the values of one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// Counts over all elements; `None` for dtypes whose every bit pattern is an ordinary number.
    pub counts: Option<Counts>,
    /// Bytes of a BOOL tensor beyond 0 and 1.
    pub bad_bool: u64,
    /// Byte offset in the tensor of one NaN, one Inf and one bad BOOL: the same ones in every run.
    pub example: [Option<u64>; 3],
    /// Whether any element is not zero.
    pub nonzero: bool,
    zeros: ZeroRuns,
    /// Few tensors have any, and a file can hold very many tensors.
    rows: Option<Box<OddRows>>,
    spread: Spread,
    /// Offset in the tensor and length of the first stretch of text.
    text: Option<(u64, u64)>,
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

/// Look at some whole elements of a tensor, which begin `at` bytes into it.
///
/// `counts` are those of the same elements, where somebody has counted them before. Rows are seen where the block
/// is made of whole ones.
#[must_use]
pub fn look(frame: &Frame, at: u64, bytes: &[u8], counts: Option<Counts>) -> Values {
    let dtype = frame.dtype;
    let mut values = Values { counts: counts.or_else(|| counts_of(dtype, bytes)), ..Values::default() };
    let Some(counts) = values.counts else {
        values.nonzero = !is_zero(bytes);
        if dtype == Dtype::Bool {
            values.bad_bool = bytes.iter().filter(|&&byte| byte > 1).count() as u64;
            values.example[2] = bytes.iter().position(|&byte| byte > 1).map(|place| at + place as u64);
        }
        return values;
    };
    let located = |class, count| if count > 0 { position(dtype, bytes, class) } else { None };
    values.example[0] = located(Class::Nan, counts.nan).map(|place| at + place);
    values.example[1] = located(Class::Inf, counts.inf).map(|place| at + place);
    // The parts of complex numbers are counted, and as large as they are aligned.
    let zero_bytes = counts.zero * dtype.alignment();
    values.nonzero = if dtype == Dtype::F8E8M0 { true } else { zero_bytes < bytes.len() as u64 };
    values.zeros = ZeroRuns::of(frame, at, bytes, zero_bytes);
    let rows = OddRows::of(frame, at, bytes, &counts);
    values.rows = (rows != OddRows::default()).then(|| Box::new(rows));
    values.spread = Spread::of(frame, at, bytes, &counts);
    values.text = text::find(dtype, bytes, &counts).map(|(place, len)| (at + place, len));
    values
}

impl Values {
    /// Add what was learned about other elements of the same tensor, in any order.
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
        self.nonzero |= other.nonzero;
        self.zeros.merge(&other.zeros);
        if let Some(rows) = &other.rows {
            self.rows.get_or_insert_default().merge(rows);
        }
        self.spread.merge(&other.spread);
        self.text = [self.text, other.text].into_iter().flatten().min();
    }
}
