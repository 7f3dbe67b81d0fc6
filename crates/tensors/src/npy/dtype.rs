//! What a `descr` means.

use super::literal::Value;
use crate::code::Severity;
use crate::dtype::Dtype;

/// A `descr` in this crate's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Descr {
    /// Numbers.
    Plain { dtype: Dtype, big_endian: bool },
    /// Items of a known length that are not numbers here: how much that weighs, and what they are.
    Opaque { len_bytes: u32, severity: Severity, what: &'static str },
    /// Python objects, which are pickled.
    Objects,
}

/// `None` for what numpy does not write.
pub(super) fn read(value: &Value) -> Option<Descr> {
    match value {
        Value::Text(text) => word(text),
        Value::List(fields) => record(fields),
        _ => None,
    }
}

fn word(text: &str) -> Option<Descr> {
    let (order, rest) = match text.as_bytes().first()? {
        order @ (b'<' | b'>' | b'|' | b'=') => (*order, text.get(1..)?),
        _ => (b'|', text),
    };
    let kind = rest.chars().next().filter(char::is_ascii)?;
    let rest = rest.get(1..)?;
    if kind == 'O' {
        return matches!(rest, "" | "4" | "8").then_some(Descr::Objects);
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (size, unit) = rest.split_at(digits);
    let dated =
        matches!(kind, 'M' | 'm') && (unit.is_empty() || unit.starts_with('[') && unit.ends_with(']'));
    if !unit.is_empty() && !dated {
        return None;
    }
    let size: u32 = size.parse().ok()?;
    let opaque = |len_bytes, what| Some(Descr::Opaque { len_bytes, severity: Severity::Note, what });
    let dtype = match (kind, size) {
        ('b', 1) => Dtype::Bool,
        ('i', 1) => Dtype::I8,
        ('i', 2) => Dtype::I16,
        ('i', 4) => Dtype::I32,
        ('i', 8) => Dtype::I64,
        ('u', 1) => Dtype::U8,
        ('u', 2) => Dtype::U16,
        ('u', 4) => Dtype::U32,
        ('u', 8) => Dtype::U64,
        ('f', 2) => Dtype::F16,
        ('f', 4) => Dtype::F32,
        ('f', 8) => Dtype::F64,
        ('c', 8) => Dtype::C64,
        ('c', 16) => Dtype::C128,
        ('f', 1 | 12 | 16) => return opaque(size, "floats of a width that is not read"),
        ('c', 24 | 32) => return opaque(size, "complex numbers of a width that is not read"),
        ('V', 2) => return opaque(2, "items of two bytes without a type, as numpy saves bfloat16"),
        ('V', _) => return opaque(size, "items without a type"),
        ('S' | 'a', _) => return opaque(size, "text"),
        ('U', _) => return opaque(size.checked_mul(4)?, "text"),
        ('M' | 'm', 8) => return opaque(8, "dates or durations"),
        _ => return None,
    };
    Some(Descr::Plain { dtype, big_endian: order == b'>' && dtype.bits() > 8 })
}

/// A list of fields: a name or (title, name), a type, and for some a shape.
fn record(fields: &[Value]) -> Option<Descr> {
    let mut len_bytes = 0_u32;
    let mut objects = false;
    for field in fields {
        let Value::Tuple(parts) = field else { return None };
        let (name, kind, shape) = match parts.as_slice() {
            [name, kind] => (name, kind, &[][..]),
            [name, kind, Value::Tuple(shape)] => (name, kind, shape.as_slice()),
            [name, kind, shape @ Value::Integer(_)] => (name, kind, std::slice::from_ref(shape)),
            _ => return None,
        };
        match name {
            Value::Text(_) => {}
            Value::Tuple(names) if names.len() == 2 && names.iter().all(|n| matches!(n, Value::Text(_))) => {}
            _ => return None,
        }
        let item = match read(kind)? {
            Descr::Plain { dtype, .. } => u32::try_from(dtype.bits() / 8).ok()?,
            Descr::Opaque { len_bytes, .. } => len_bytes,
            Descr::Objects => {
                objects = true;
                8
            }
        };
        let count = shape.iter().try_fold(1_u32, |count, dim| match dim {
            Value::Integer(Some(dim)) => count.checked_mul(u32::try_from(*dim).ok()?),
            _ => None,
        })?;
        len_bytes = len_bytes.checked_add(item.checked_mul(count)?)?;
    }
    if objects {
        return Some(Descr::Objects);
    }
    Some(Descr::Opaque { len_bytes, severity: Severity::Warn, what: "records" })
}
