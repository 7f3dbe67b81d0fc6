//! A container's contents as one table, whatever the container.

use std::fmt;

use crate::code::Severity;
use crate::defect::Defect;
use crate::dtype::Dtype;

/// What kind of container a file's bytes are, whatever its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// A safetensors file.
    Safetensors,
    /// A zip archive of npy arrays.
    Npz,
    /// One npy array.
    Npy,
    /// A zip archive as `torch.save` writes it: recognised, not read.
    TorchZip,
    /// None of these; a defect says what it is instead.
    Unknown,
}

impl Container {
    /// The word that reports print.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
            Self::Npy => "npy",
            Self::TorchZip => "torch-zip",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a tensor's bytes lie in the file. All positions are in bytes from the file's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As they are: they can be mapped.
    Stored {
        /// First byte of the values.
        offset: u64,
        /// Length of the values.
        len: u64,
    },
    /// As a raw deflate stream: [`inflate`](crate::inflate) gives the values.
    Deflated {
        /// First byte of the stream.
        offset: u64,
        /// Length of the stream.
        compressed_len: u64,
        /// Bytes at the beginning of the inflated stream that come before the values: the npy header.
        header_len: u64,
        /// Length of the values, inflated.
        len: u64,
        /// CRC-32 of the whole inflated stream, npy header included.
        crc32: u32,
    },
}

impl Storage {
    /// Length of the values in bytes, as they are in memory.
    #[must_use]
    pub const fn len(self) -> u64 {
        match self {
            Self::Stored { len, .. } | Self::Deflated { len, .. } => len,
        }
    }

    /// Whether there are no values.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The zip member that holds a tensor, and what its check sum covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// First byte of the member's data, npy header included, in the file.
    pub offset: u64,
    /// Length of that data in the file, in bytes.
    pub len: u64,
    /// CRC-32 of the member's data, inflated.
    pub crc32: u32,
    /// Length of the member's data, inflated, npy header included.
    pub inflated_len: u64,
}

/// One tensor of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name as the file spells it: untrusted, see [`escape`](crate::escape). Empty for a plain npy file.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions; none for a scalar.
    pub shape: Vec<u64>,
    /// Where its values are.
    pub storage: Storage,
    /// Whether the first index moves fastest; npy only.
    pub fortran_order: bool,
    /// Whether elements are stored with the high byte first; npy only.
    pub big_endian: bool,
    /// The zip member around it; npz only.
    pub member: Option<Member>,
}

impl Tensor {
    /// Number of elements. The shape was checked when the table was read, so that it fits.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// What a container holds, and everything that is wrong with it.
#[derive(Clone, Debug)]
pub struct Table {
    /// What the bytes are.
    pub container: Container,
    /// The tensors that are well formed and lie inside the file, in the file's order. Where a name stands twice, the
    /// last, which is what stock loaders see.
    pub tensors: Vec<Tensor>,
    /// Tensors that the file is too short for, as its header describes them: none of them can be read.
    pub lost: Vec<Tensor>,
    /// Free-form metadata, in the file's order.
    pub metadata: Vec<(String, String)>,
    /// All defects, in (offset, code) order, capped per code.
    pub defects: Vec<Defect>,
    /// Bytes before the data section: for safetensors the length field and the header, for npy magic and header, for
    /// npz none.
    pub header_len: u64,
    /// Size of the file in bytes.
    pub file_len: u64,
    /// Whether the tensors listed mean what they say, so that their values are worth reading. Truncated data, foreign
    /// bytes behind the data and odd names leave this true; a header that does not parse, names that stand twice,
    /// overlaps and disagreeing sizes make it false.
    pub sound: bool,
}

impl Table {
    /// A table of nothing, for a reader to fill.
    pub(crate) fn empty(container: Container, file_len: u64) -> Self {
        Self {
            container,
            tensors: Vec::new(),
            lost: Vec::new(),
            metadata: Vec::new(),
            defects: Vec::new(),
            header_len: 0,
            file_len,
            sound: false,
        }
    }

    /// The weight of the worst defect.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.defects.iter().map(|defect| defect.severity).max()
    }
}
