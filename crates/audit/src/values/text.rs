//! Text among the bytes of numbers: an error page that a download spliced in.

use unitrow_norms::Counts;
use unitrow_tensors::Dtype;

/// Shorter stretches are chance: about one byte in three of a weight's low bytes is printable.
const LEAST_BYTES: usize = 48;

/// The first stretch of text in a block of a float tensor, as (offset, length).
pub(super) fn find(dtype: Dtype, bytes: &[u8], counts: &Counts) -> Option<(u64, u64)> {
    if counts.max < least_letter(dtype)? {
        return None;
    }
    let mut first = 0;
    for stretch in bytes.split(|&byte| !is_text(byte)) {
        if stretch.len() >= LEAST_BYTES && reads(stretch) {
            return Some((first as u64, stretch.len() as u64));
        }
        first += stretch.len() + 1;
    }
    None
}

/// The least number whose high byte is a lower-case letter: text makes larger ones, weights do not.
fn least_letter(dtype: Dtype) -> Option<f64> {
    let letter = u64::from(b'a');
    Some(match dtype {
        Dtype::F64 => f64::from_bits(letter << 56),
        Dtype::F32 | Dtype::Bf16 => unitrow_norms::Dtype::Bf16.decode(letter << 8),
        Dtype::F16 => unitrow_norms::Dtype::F16.decode(letter << 8),
        _ => return None,
    })
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')
}

/// Whether printable bytes are also words: half of them letters, and something between them.
fn reads(stretch: &[u8]) -> bool {
    let letters = stretch.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    letters * 2 >= stretch.len() && stretch.iter().any(u8::is_ascii_whitespace)
}
