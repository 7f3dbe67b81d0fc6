//! An npy header: magic, version, literal; and whether the bytes behind it are as many as it says.

use super::dtype::{self, Descr};
use super::literal::{self, Value};
use crate::code::{self, Code};
use crate::defect::{Defect, Defects};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::name::{escape, quote};

const MAGIC: &[u8] = b"\x93NUMPY";
/// What numpy reads without being told to trust the file, in bytes.
const NUMPY_HEADER_LEN: u64 = 10_000;
/// What is read here, in bytes; structured types, the only reason for more, are not read anyway.
const MAX_HEADER_LEN: u64 = 1 << 20;

/// The most dimensions that numpy takes.
const MAX_RANK: usize = 64;

/// What a header says about an array that is all there.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) fortran_order: bool,
    pub(crate) big_endian: bool,
    /// Bytes before the values, magic included.
    pub(crate) header_len: u64,
    /// Length of the values in bytes.
    pub(crate) len: u64,
}

/// Where an array's bytes are, for its defects.
pub(crate) struct Place<'a> {
    /// The tensor's name; none for a plain file.
    pub(crate) name: Option<&'a str>,
    /// Where its bytes begin in the file.
    pub(crate) start: u64,
    /// How many bytes there are, header included.
    pub(crate) len: u64,
    /// Whether the bytes come out of a compressed stream, so that positions in them are not positions in the file.
    pub(crate) inflated: bool,
}

impl Place<'_> {
    fn defect(&self, code: Code, at: u64, message: &str) -> Defect {
        let at = if self.inflated { self.start } else { self.start + at };
        match self.name {
            Some(name) => Defect::new(code, format!("array {}: {message}", quote(name))).at(at).tensor(name),
            None => Defect::new(code, message).at(at),
        }
    }
}

/// Gives the first so many bytes, or all where there are fewer.
pub(crate) type Prefix<'p> = &'p mut dyn FnMut(u64) -> Result<Vec<u8>, Error>;

/// Reads a header and compares what it says with how many bytes there are; `None` where a defect says why not.
pub(crate) fn parse(
    prefix: Prefix<'_>,
    place: &Place<'_>,
    defects: &mut Defects,
) -> Result<Option<Array>, Error> {
    let Some((start, len)) = extent(&prefix(12)?, place, defects) else { return Ok(None) };
    let header_len = start + len;
    if header_len > place.len {
        defects.push(
            place
                .defect(code::NPY_TRUNCATED, 8, "the file ends inside its header")
                .length(header_len - place.len)
                .expected(format!("a header of {len} bytes"), format!("{} bytes", place.len - start)),
        );
        return Ok(None);
    }
    if len > NUMPY_HEADER_LEN {
        defects.push(
            place
                .defect(code::NPY_HEADER_OVERSIZE, 8, "its header is longer than numpy reads")
                .expected(format!("at most {NUMPY_HEADER_LEN} bytes"), format!("{len} bytes")),
        );
    }
    if len > MAX_HEADER_LEN {
        defects.push(
            place
                .defect(code::NPY_HEADER, 8, "its header is too long to be read")
                .expected(format!("at most {MAX_HEADER_LEN} bytes"), format!("{len} bytes")),
        );
        return Ok(None);
    }
    let head = prefix(header_len)?;
    let Some(text) = usize::try_from(start).ok().and_then(|start| head.get(start..)) else { return Ok(None) };
    if text.len() as u64 != len {
        defects.push(
            place
                .defect(code::NPY_TRUNCATED, start, "its bytes end inside its header")
                .expected(format!("a header of {len} bytes"), format!("{} bytes", text.len())),
        );
        return Ok(None);
    }
    let utf8 = head.get(6) == Some(&3);
    let pairs = if utf8 && std::str::from_utf8(text).is_err() {
        Err(literal::Stop { at: 0, message: "it is not UTF-8" })
    } else {
        literal::dictionary(text)
    };
    match pairs {
        Ok(pairs) => Ok(fields(pairs, header_len, place, defects)),
        Err(stop) => {
            let found: String = text.iter().skip(stop.at).take(16).map(|&byte| char::from(byte)).collect();
            defects.push(
                place
                    .defect(
                        code::NPY_HEADER,
                        start + stop.at as u64,
                        &format!("its header: {}", stop.message),
                    )
                    .expected("{'descr': ..., 'fortran_order': ..., 'shape': ...}", escape(&found)),
            );
            Ok(None)
        }
    }
}

/// Where the literal begins and how long it is.
fn extent(head: &[u8], place: &Place<'_>, defects: &mut Defects) -> Option<(u64, u64)> {
    let magic = &head[..head.len().min(MAGIC.len())];
    if !MAGIC.starts_with(magic) {
        let found: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
        defects.push(
            place
                .defect(code::NPY_MAGIC, 0, "it does not begin as an npy array")
                .length(MAGIC.len() as u64)
                .expected("93 4e 55 4d 50 59", found.join(" ")),
        );
        return None;
    }
    let short = |defects: &mut Defects| {
        defects.push(
            place
                .defect(code::NPY_TRUNCATED, 0, "its bytes end before its header begins")
                .expected("at least 12 bytes", format!("{} bytes", head.len())),
        );
        None
    };
    match head.get(6..) {
        Some(&[1, 0, a, b, ..]) => Some((10, u64::from(u16::from_le_bytes([a, b])))),
        Some(&[2 | 3, 0, a, b, c, d]) => Some((12, u64::from(u32::from_le_bytes([a, b, c, d])))),
        None | Some(&([] | [_] | [1..=3, 0, ..])) => short(defects),
        Some(&[major, minor, ..]) => {
            defects.push(
                place
                    .defect(code::NPY_VERSION, 6, "its version does not exist")
                    .length(2)
                    .expected("1.0, 2.0 or 3.0", format!("{major}.{minor}")),
            );
            None
        }
    }
}

fn fields(
    pairs: Vec<(String, Value)>,
    header_len: u64,
    place: &Place<'_>,
    defects: &mut Defects,
) -> Option<Array> {
    let (mut descr, mut order, mut shape) = (None, None, None);
    for (key, value) in pairs {
        match key.as_str() {
            "descr" => descr = Some(value),
            "fortran_order" => order = Some(value),
            "shape" => shape = Some(value),
            other => {
                defects.push(
                    place
                        .defect(code::NPY_HEADER, 0, "its header has another key")
                        .expected("descr, fortran_order and shape", quote(other)),
                );
                return None;
            }
        }
    }
    let dims = shape.and_then(dimensions);
    let (Some(descr), Some(Value::Bool(fortran_order)), Some(dims)) = (descr, order, dims) else {
        defects.push(
            place
                .defect(code::NPY_HEADER, 0, "its header lacks a key, or a value is of another kind")
                .expected(
                    "descr, fortran_order True or False, shape a tuple of natural numbers",
                    "another header",
                ),
        );
        return None;
    };
    let (dtype, big_endian) = item(&descr, place, defects)?;
    let (shape, len) = size(dims, dtype, place, defects)?;
    let available = place.len - header_len;
    if len > available {
        truncated(len, available, header_len, place, defects);
        return None;
    }
    if len < available {
        let extra = available - len;
        defects.push(
            place
                .defect(code::NPY_TRAILING, header_len + len, &format!("{extra} bytes follow the values"))
                .length(extra)
                .expected(format!("{len} bytes"), format!("{available} bytes")),
        );
    }
    Some(Array { dtype, shape, fortran_order, big_endian, header_len, len })
}

/// The dimensions of a tuple of natural numbers; those that exceed 64 bits are `None`.
fn dimensions(shape: Value) -> Option<Vec<Option<u64>>> {
    let Value::Tuple(dims) = shape else { return None };
    let natural = |dim| match dim {
        Value::Integer(dim) => Some(dim),
        _ => None,
    };
    dims.into_iter().map(natural).collect()
}

fn item(descr: &Value, place: &Place<'_>, defects: &mut Defects) -> Option<(Dtype, bool)> {
    match dtype::read(descr) {
        Some(Descr::Plain { dtype, big_endian }) => Some((dtype, big_endian)),
        Some(Descr::Opaque { len_bytes, severity, what }) => {
            defects.push(
                place
                    .defect(code::NPY_STRUCTURED, 0, &format!("it holds {what}: its values are not read"))
                    .severity(severity)
                    .expected("numbers", what),
            );
            Some((Dtype::Opaque { len_bytes }, false))
        }
        Some(Descr::Objects) => {
            defects.push(
                place
                    .defect(
                        code::NPY_OBJECT_PICKLE,
                        0,
                        "it holds pickled objects, which can run code when loaded",
                    )
                    .expected("numbers", "objects")
                    .hint("do not load it with allow_pickle=True unless you trust its source"),
            );
            None
        }
        None => {
            let found = match descr {
                Value::Text(text) => quote(text),
                _ => "another kind of value".to_owned(),
            };
            defects.push(
                place
                    .defect(code::NPY_HEADER, 0, "its descr is none that numpy writes")
                    .expected("a type such as '<f4'", found),
            );
            None
        }
    }
}

fn size(
    dims: Vec<Option<u64>>,
    dtype: Dtype,
    place: &Place<'_>,
    defects: &mut Defects,
) -> Option<(Vec<u64>, u64)> {
    let signed = |value: u64| i64::try_from(value).is_ok();
    let shape: Option<Vec<u64>> = dims.into_iter().map(|dim| dim.filter(|&dim| signed(dim))).collect();
    // numpy leaves zeros out of the product, so that an array of nothing can be too big for it.
    let product = |shape: &[u64], item: u64| {
        let mut dims = shape.iter().filter(|&&dim| dim != 0);
        let len = dims.try_fold(item, |product, &dim| product.checked_mul(dim)).filter(|&len| signed(len))?;
        Some(if shape.contains(&0) { 0 } else { len })
    };
    let len = shape.as_deref().and_then(|shape| product(shape, dtype.bits() / 8));
    if let (Some(shape), Some(len)) = (shape, len) {
        if shape.len() > MAX_RANK {
            defects.push(
                place
                    .defect(code::ST_RANK_LIMIT, 0, "it has more dimensions than numpy takes")
                    .expected(format!("at most {MAX_RANK}"), shape.len()),
            );
        }
        if shape.contains(&0) {
            defects.push(place.defect(code::ST_EMPTY_TENSOR, 0, "it has no elements"));
        }
        return Some((shape, len));
    }
    defects.push(
        place
            .defect(code::NPY_OVERFLOW, 0, "its size does not fit 63 bits")
            .expected("at most 2^63 - 1 bytes", "a larger shape"),
    );
    // No file holds as much, so it is short of bytes as well.
    defects.push(
        place
            .defect(code::NPY_TRUNCATED, 0, "it has fewer bytes than its shape needs")
            .expected("2^63 bytes or more", format!("{} bytes", place.len)),
    );
    None
}

fn truncated(len: u64, available: u64, header_len: u64, place: &Place<'_>, defects: &mut Defects) {
    let missing = len - available;
    let percent = 100.0 * missing as f64 / len as f64;
    let message = format!("{missing} of {len} bytes are missing ({percent:.1} %)");
    defects.push(
        place
            .defect(code::NPY_TRUNCATED, header_len + available, &message)
            .length(missing)
            .expected(format!("{len} bytes of values"), format!("{available} bytes"))
            .hint("fetch the file again"),
    );
}
