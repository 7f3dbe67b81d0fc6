//! Reading a zip member's data: streamed, never more than it says, its check sum compared.

use std::ops::ControlFlow;

use flate2::{Decompress, FlushDecompress, Status};

use crate::code;
use crate::defect::Defect;
use crate::error::Error;
use crate::name::quote;
use crate::source::ReadAt;
use crate::table::{Storage, Tensor};

/// Bytes read, and bytes inflated, at a time.
const CHUNK_LEN: usize = 128 << 10;

/// Streams a tensor's values to `sink`, in order, never more than the table says; `sink` may break off. Pieces
/// can be empty.
///
/// What `sink` has seen is void where a defect comes back. A stored tensor is read and its check sum compared in the
/// same way; one that no check sum covers is only read.
///
/// # Errors
/// Only where the file could not be read; a damaged stream is the defect returned.
pub fn inflate(
    source: &(impl ReadAt + ?Sized),
    tensor: &Tensor,
    sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<Option<Defect>, Error> {
    match tensor.storage {
        Storage::Deflated { offset, compressed_len, header_len, len, crc32 } => {
            let inflated_len = tensor.member.as_ref().map_or(header_len + len, |member| member.inflated_len);
            let mut window = Window { skip: header_len, take: len, sink };
            let mut stream = Stream::new(source, offset, compressed_len, inflated_len);
            let mut sum = crc32fast::Hasher::new();
            while let Some(chunk) = stream.next()? {
                sum.update(chunk);
                if window.pass(chunk).is_break() {
                    return Ok(None);
                }
            }
            if let Some(fault) = stream.fault {
                return Ok(Some(damaged(Some(&tensor.name), offset, fault).length(compressed_len)));
            }
            Ok(wrong_sum(&tensor.name, offset, compressed_len, crc32, sum.finalize()))
        }
        Storage::Stored { offset, len } => {
            let (start, span_len, crc32) = match &tensor.member {
                Some(member) => (member.offset, member.len, Some(member.crc32)),
                None => (offset, len, None),
            };
            let mut window = Window { skip: offset - start, take: len, sink };
            let mut sum = crc32fast::Hasher::new();
            let mut buffer = vec![0; CHUNK_LEN];
            let mut done = 0;
            while done < span_len {
                let step = usize::try_from(span_len - done).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
                source.read_exact_at(&mut buffer[..step], start + done)?;
                sum.update(&buffer[..step]);
                if window.pass(&buffer[..step]).is_break() {
                    return Ok(None);
                }
                done += step as u64;
            }
            Ok(crc32.and_then(|crc32| wrong_sum(&tensor.name, start, span_len, crc32, sum.finalize())))
        }
    }
}

/// Reads a zip member again, whole, and compares its check sum; tensors outside zip archives have none.
///
/// # Errors
/// Only where the file could not be read; a wrong sum or a damaged stream is the defect returned.
pub fn check_crc(source: &(impl ReadAt + ?Sized), tensor: &Tensor) -> Result<Option<Defect>, Error> {
    if tensor.member.is_none() && matches!(tensor.storage, Storage::Stored { .. }) {
        return Ok(None);
    }
    inflate(source, tensor, &mut |_| ControlFlow::Continue(()))
}

/// Compares the check sum that a caller computed over a stored member's data, npy header included, with its own.
#[must_use]
pub fn compare_crc(tensor: &Tensor, found: u32) -> Option<Defect> {
    let member = tensor.member.as_ref()?;
    wrong_sum(&tensor.name, member.offset, member.len, member.crc32, found)
}

/// The finding for a compressed stream that is not what the directory says.
pub(crate) fn damaged(tensor: Option<&str>, at: u64, fault: &str) -> Defect {
    let name = tensor.map_or("a member".to_owned(), |name| format!("array {}", quote(name)));
    let defect = Defect::new(code::Z_INFLATE, format!("{name}: {fault}")).at(at);
    match tensor {
        Some(name) => defect.tensor(name),
        None => defect,
    }
}

fn wrong_sum(name: &str, at: u64, len: u64, expected: u32, found: u32) -> Option<Defect> {
    (expected != found).then(|| {
        Defect::new(code::Z_CRC, format!("array {}: its bytes do not have its check sum", quote(name)))
            .at(at)
            .length(len)
            .tensor(name)
            .expected(format!("{expected:08x}"), format!("{found:08x}"))
            .hint("bytes were changed after the file was written: fetch it again")
    })
}

/// The first `want` bytes of a compressed stream, or as many as come out of it.
pub(crate) fn prefix(
    source: &(impl ReadAt + ?Sized),
    offset: u64,
    compressed_len: u64,
    want: u64,
) -> Result<Vec<u8>, Error> {
    let mut stream = Stream::new(source, offset, compressed_len, u64::MAX);
    let want = usize::try_from(want).unwrap_or(usize::MAX);
    let mut head = Vec::new();
    while head.len() < want
        && let Some(chunk) = stream.next()?
    {
        let missing = want - head.len();
        head.extend_from_slice(&chunk[..chunk.len().min(missing)]);
    }
    Ok(head)
}

/// Lets the values of a member through and nothing around them.
struct Window<'s> {
    skip: u64,
    take: u64,
    sink: &'s mut dyn FnMut(&[u8]) -> ControlFlow<()>,
}

impl Window<'_> {
    fn pass(&mut self, chunk: &[u8]) -> ControlFlow<()> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        self.skip -= skipped as u64;
        let rest = &chunk[skipped..];
        let taken = usize::try_from(self.take).unwrap_or(usize::MAX).min(rest.len());
        self.take -= taken as u64;
        // Called for what lies around the values too, so that it can break off there.
        (self.sink)(&rest[..taken])
    }
}

/// A raw deflate stream of known lengths on both sides.
struct Stream<'a, S: ReadAt + ?Sized> {
    source: &'a S,
    /// Where the compressed bytes that have not been read begin, and how many they are.
    offset: u64,
    left: u64,
    /// How many bytes may still come out.
    room: u64,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    machine: Decompress,
    ended: bool,
    /// Why the stream is not what it should be, once that is known.
    fault: Option<&'static str>,
}

impl<'a, S: ReadAt + ?Sized> Stream<'a, S> {
    fn new(source: &'a S, offset: u64, compressed_len: u64, inflated_len: u64) -> Self {
        Self {
            source,
            offset,
            left: compressed_len,
            room: inflated_len,
            input: Vec::new(),
            used: 0,
            output: vec![0; CHUNK_LEN],
            machine: Decompress::new(false),
            ended: false,
            fault: None,
        }
    }

    /// The next bytes that come out; `None` at the end, where `fault` tells what was wrong.
    fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        while !self.ended && self.fault.is_none() {
            if self.used == self.input.len() && self.left > 0 {
                self.refill()?;
            }
            let (before_in, before_out) = (self.machine.total_in(), self.machine.total_out());
            let input = &self.input[self.used..];
            let status = self.machine.decompress(input, &mut self.output, FlushDecompress::None);
            let consumed = usize::try_from(self.machine.total_in() - before_in).unwrap_or(input.len());
            let produced = usize::try_from(self.machine.total_out() - before_out).unwrap_or(0);
            self.used += consumed;
            match status {
                Err(_) => self.fault = Some("its compressed bytes are damaged"),
                Ok(Status::StreamEnd) => self.end(produced),
                Ok(_) if consumed == 0 && produced == 0 => {
                    self.fault = Some("its compressed bytes end too early");
                }
                Ok(_) => {}
            }
            if produced as u64 > self.room {
                self.fault = Some("it inflates to more bytes than the archive says");
                return Ok(None);
            }
            self.room -= produced as u64;
            if produced > 0 {
                return Ok(Some(&self.output[..produced]));
            }
        }
        Ok(None)
    }

    fn end(&mut self, produced: usize) {
        self.ended = true;
        if self.left > 0 || self.used < self.input.len() {
            self.fault = Some("bytes follow the end of its compressed stream");
        } else if (produced as u64) < self.room && self.room != u64::MAX {
            self.fault = Some("it inflates to fewer bytes than the archive says");
        }
    }

    fn refill(&mut self) -> Result<(), Error> {
        let step = usize::try_from(self.left).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        self.input.resize(step, 0);
        self.source.read_exact_at(&mut self.input, self.offset)?;
        self.used = 0;
        self.offset += step as u64;
        self.left -= step as u64;
        Ok(())
    }
}
