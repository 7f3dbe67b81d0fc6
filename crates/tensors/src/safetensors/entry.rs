//! One tensor's entry: its three fields, and whether they hold together.

use crate::code;
use crate::defect::{Defect, Defects};
use crate::dtype::Dtype;
use crate::json::{Keys, Kind, Reader, Stop, Text};
use crate::name::quote;
use crate::safetensors::header::{Claim, Header, duplicate_key, in_file};
use crate::table::{Storage, Tensor};

/// The rank that numpy and torch stop at.
const MAX_RANK: usize = 64;
/// Dimensions above this are implausible where the tensor has no elements to show for them.
const MAX_EMPTY_DIM: u64 = 1 << 31;

/// What an entry said; `None` for what it did not say, or not in the format's terms.
#[derive(Default)]
struct Fields {
    seen: [bool; 3],
    dtype: Option<Dtype>,
    shape: Option<Vec<u64>>,
    offsets: Option<(u64, u64)>,
}

const NAMES: [&str; 3] = ["dtype", "shape", "data_offsets"];

/// The name of the entry that is being read, for its defects.
struct Owner<'a> {
    name: &'a str,
    at: u64,
}

impl Owner<'_> {
    fn defect(&self, code: code::Code, message: &str) -> Defect {
        Defect::new(code, format!("tensor {}: {message}", quote(self.name))).at(self.at).tensor(self.name)
    }
}

/// Reads the value that stands under the key `name` and adds what it says to the header.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    name: String,
    key: Text,
    header: &mut Header,
    defects: &mut Defects,
) -> Result<(), Stop> {
    let owner = Owner { name: &name, at: in_file(key.start() as usize) };
    let kind = reader.kind()?;
    if kind != Kind::Object {
        let at = in_file(reader.at());
        defects.add(code::ST_BAD_ENTRY, || {
            owner
                .defect(code::ST_BAD_ENTRY, "its entry is not an object")
                .at(at)
                .expected("an object with dtype, shape and data_offsets", kind.name())
        });
        header.unknown_claims = true;
        return reader.skip(1, &mut |reader, key| duplicate_key(reader, key, defects));
    }
    let fields = fields(reader, &owner, defects)?;
    let missing: Vec<&str> =
        NAMES.iter().zip(fields.seen).filter(|(_, seen)| !seen).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        defects.add(code::ST_BAD_ENTRY, || {
            let missing = missing.join(", ");
            owner
                .defect(code::ST_BAD_ENTRY, &format!("its entry has no {missing}"))
                .expected("dtype, shape and data_offsets", format!("no {missing}"))
        });
    }
    let len = match (fields.dtype, &fields.shape) {
        (Some(dtype), Some(shape)) => size(&owner, dtype, shape, defects),
        _ => None,
    };
    let Some((begin, end)) = fields.offsets else {
        header.unknown_claims = true;
        return Ok(());
    };
    let fits = len == Some(end - begin);
    if let Some(len) = len.filter(|_| !fits) {
        defects.add(code::ST_SIZE_MISMATCH, || {
            owner.defect(code::ST_SIZE_MISMATCH, "its offsets and its shape disagree on its size").expected(
                format!("{len} bytes by dtype and shape"),
                format!("{} bytes by data_offsets", end - begin),
            )
        });
    }
    let (Some(dtype), Some(shape), true) = (fields.dtype, fields.shape, fits) else {
        header.claims.push(Claim { begin, end, at: key.start(), sized: false });
        return Ok(());
    };
    if begin == end {
        defects.add(code::ST_EMPTY_TENSOR, || owner.defect(code::ST_EMPTY_TENSOR, "it has no elements"));
    } else if let Some(size) = dtype.len_bytes().filter(|&size| !begin.is_multiple_of(size)) {
        defects.add(code::ST_UNALIGNED_TENSOR, || {
            owner
                .defect(code::ST_UNALIGNED_TENSOR, "its data is not aligned to its item size")
                .expected(format!("a multiple of {size}"), format!("data offset {begin}"))
        });
    }
    header.claims.push(Claim { begin, end, at: key.start(), sized: true });
    header.at.push(key.start());
    header.tensors.push(Tensor {
        name,
        dtype,
        shape,
        storage: Storage::Stored { offset: begin, len: end - begin },
        fortran_order: false,
        big_endian: false,
        member: None,
    });
    Ok(())
}

fn fields(reader: &mut Reader<'_>, owner: &Owner<'_>, defects: &mut Defects) -> Result<Fields, Stop> {
    let mut fields = Fields::default();
    let mut others = Keys::default();
    let mut more = reader.open(b'}');
    while more {
        let key = reader.key()?;
        let known = reader.find(key, &NAMES);
        if let Some(known) = known
            && std::mem::replace(&mut fields.seen[known], true)
        {
            duplicate_key(reader, key, defects);
        }
        match known {
            Some(0) => fields.dtype = dtype(reader, owner, defects)?,
            Some(1) => fields.shape = shape(reader, owner, defects)?,
            Some(_) => fields.offsets = offsets(reader, owner, defects)?,
            None => {
                others.push(reader, key);
                defects.add(code::ST_EXTRA_FIELD, || {
                    let field = quote(&reader.text(key));
                    owner
                        .defect(code::ST_EXTRA_FIELD, &format!("its entry has a field {field}"))
                        .at(in_file(key.start() as usize))
                        .expected("dtype, shape and data_offsets", field)
                });
                reader.skip(2, &mut |reader, key| duplicate_key(reader, key, defects))?;
            }
        }
        more = reader.more(b'}')?;
    }
    others.twins(reader, &mut |reader, key| duplicate_key(reader, key, defects));
    Ok(fields)
}

fn dtype(reader: &mut Reader<'_>, owner: &Owner<'_>, defects: &mut Defects) -> Result<Option<Dtype>, Stop> {
    let kind = reader.kind()?;
    let start = reader.at();
    if kind == Kind::String {
        let text = reader.string()?;
        let known = std::str::from_utf8(reader.raw(text)).ok().and_then(Dtype::from_name);
        // Escapes inside the word are legal JSON; nobody writes them, so only then is the word built.
        let known = known.or_else(|| Dtype::from_name(&reader.text(text)));
        if known.is_none() {
            defects.add(code::ST_BAD_DTYPE, || {
                owner
                    .defect(code::ST_BAD_DTYPE, "its dtype is none that the format defines")
                    .at(in_file(start))
                    .expected("a dtype such as F32", quote(&reader.text(text)))
                    .hint("the file may be of a newer format: its size was not judged by this dtype")
            });
        }
        return Ok(known);
    }
    reader.skip(2, &mut |reader, key| duplicate_key(reader, key, defects))?;
    // A structure in place of the word is not an entry of this format at all; a bare value is a wrong word.
    let code =
        if matches!(kind, Kind::Object | Kind::Array) { code::ST_BAD_ENTRY } else { code::ST_BAD_DTYPE };
    defects.add(code, || {
        owner.defect(code, "its dtype is not a string").at(in_file(start)).expected("a string", kind.name())
    });
    Ok(None)
}

/// What was found in place of a list of integers, or in it.
struct Odd {
    at: usize,
    found: String,
}

/// Reads a list and hands its integers to `take`; gives the first thing that does not belong, and how many members
/// there are.
fn list(
    reader: &mut Reader<'_>,
    defects: &mut Defects,
    mut take: impl FnMut(u64),
) -> Result<(usize, Option<Odd>), Stop> {
    let kind = reader.kind()?;
    if kind != Kind::Array {
        let at = reader.at();
        reader.skip(2, &mut |reader, key| duplicate_key(reader, key, defects))?;
        return Ok((0, Some(Odd { at, found: found(reader, at, kind) })));
    }
    let (mut count, mut odd) = (0, None);
    let mut more = reader.open(b']');
    while more {
        let kind = reader.kind()?;
        let at = reader.at();
        let value = if kind == Kind::Number {
            reader.integer()?
        } else {
            reader.skip(3, &mut |reader, key| duplicate_key(reader, key, defects))?;
            None
        };
        match value {
            Some(value) => take(value),
            None if odd.is_none() => odd = Some(Odd { at, found: found(reader, at, kind) }),
            None => {}
        }
        count += 1;
        more = reader.more(b']')?;
    }
    Ok((count, odd))
}

/// What was read since `at`: numbers and words as they stand, all else by kind.
fn found(reader: &Reader<'_>, at: usize, kind: Kind) -> String {
    match (kind, reader.since(at)) {
        (Kind::Number | Kind::Word, literal) if literal.len() <= 32 => {
            String::from_utf8_lossy(literal).into_owned()
        }
        _ => kind.name().to_owned(),
    }
}

fn shape(
    reader: &mut Reader<'_>,
    owner: &Owner<'_>,
    defects: &mut Defects,
) -> Result<Option<Vec<u64>>, Stop> {
    let _ = reader.kind()?;
    // Counted first: growing by doubling would take twice the memory.
    let mut shape = Vec::with_capacity(reader.count_flat());
    let (_, odd) = list(reader, defects, |dim| shape.push(dim))?;
    let Some(Odd { at, found }) = odd else { return Ok(Some(shape)) };
    defects.add(code::ST_BAD_SHAPE, || {
        owner
            .defect(code::ST_BAD_SHAPE, "its shape is not a list of sizes")
            .at(in_file(at))
            .expected("integers from 0 to 2^64 - 1", found)
    });
    Ok(None)
}

fn offsets(
    reader: &mut Reader<'_>,
    owner: &Owner<'_>,
    defects: &mut Defects,
) -> Result<Option<(u64, u64)>, Stop> {
    let _ = reader.kind()?;
    let start = reader.at();
    let (mut begin, mut end, mut taken) = (0, 0, 0);
    let (count, odd) = list(reader, defects, |offset| {
        (begin, end) = if taken == 0 { (offset, 0) } else { (begin, offset) };
        taken += 1;
    })?;
    let (at, found) = match odd {
        Some(Odd { at, found }) => (at, found),
        None if count != 2 => (start, format!("{count} integers")),
        None if begin <= end => return Ok(Some((begin, end))),
        None => (start, format!("[{begin}, {end}]")),
    };
    defects.add(code::ST_BAD_OFFSETS, || {
        owner
            .defect(code::ST_BAD_OFFSETS, "its data_offsets are not a range")
            .at(in_file(at))
            .expected("two integers, begin <= end", found)
    });
    Ok(None)
}

/// The size in bytes that dtype and shape need; `None` where there is no such size.
fn size(owner: &Owner<'_>, dtype: Dtype, shape: &[u64], defects: &mut Defects) -> Option<u64> {
    if shape.len() > MAX_RANK {
        defects.add(code::ST_RANK_LIMIT, || {
            owner
                .defect(code::ST_RANK_LIMIT, "it has more dimensions than array libraries take")
                .expected(format!("at most {MAX_RANK}"), shape.len())
        });
    }
    // From left to right, as the reference multiplies: a zero only saves what stands after it.
    let elements = shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let Some((elements, bits)) = elements.and_then(|count| Some((count, count.checked_mul(dtype.bits())?)))
    else {
        defects.add(code::ST_OVERFLOW, || {
            let found = shape.iter().take(8).map(u64::to_string).collect::<Vec<_>>().join(", ");
            let more = if shape.len() > 8 { ", ..." } else { "" };
            owner
                .defect(code::ST_OVERFLOW, "its size in bits does not fit 64 bits")
                .expected("at most 2^64 - 1 bits", format!("{dtype} [{found}{more}]"))
        });
        return None;
    };
    if let Some(dim) = shape.iter().find(|&&dim| elements == 0 && dim > MAX_EMPTY_DIM) {
        defects.add(code::ST_SHAPE_IMPLAUSIBLE, || {
            owner
                .defect(code::ST_SHAPE_IMPLAUSIBLE, "it has no elements, and a dimension beyond any array's")
                .expected(format!("at most {MAX_EMPTY_DIM}"), dim)
        });
    }
    if !bits.is_multiple_of(8) {
        defects.add(code::ST_SUBBYTE, || {
            owner
                .defect(code::ST_SUBBYTE, "its size is not a whole number of bytes")
                .expected("a multiple of 8 bits", format!("{bits} bits"))
        });
        return None;
    }
    let row_bits = shape.last().map_or(0, |&dim| dim.wrapping_mul(dtype.bits()));
    if elements > 0 && !row_bits.is_multiple_of(8) {
        defects.add(code::ST_SUBBYTE_ROW, || {
            owner
                .defect(code::ST_SUBBYTE_ROW, "its rows share bytes")
                .expected("rows of whole bytes", format!("rows of {row_bits} bits"))
        });
    }
    Some(bits / 8)
}
