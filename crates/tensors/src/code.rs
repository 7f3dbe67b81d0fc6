//! The codes that a finding about a container's structure can carry.

use std::fmt;

/// How much a finding weighs. The order is the order of weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; the bytes are sound.
    Note,
    /// The stock loaders accept it, and it can mislead somebody.
    Warn,
    /// The bytes are not what the format allows.
    Fail,
    /// Nothing can be said, because the bytes could not be read.
    Unreadable,
}

impl Severity {
    /// The word that reports print: `note`, `warn`, `fail` or `unreadable`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A finding's stable name and the severity it usually has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// The name as reports print it, such as `ST_DUP_NAME`.
    pub name: &'static str,
    /// The severity where no rule says otherwise.
    pub severity: Severity,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

macro_rules! codes {
    ($($name:ident $severity:ident $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: Code = Code { name: stringify!($name), severity: Severity::$severity };
        )*
        /// Every code of the structural families, in the order in which they are declared.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    // The file itself.
    FS_EMPTY Fail "The file holds no bytes.";
    FS_NOT_REGULAR Unreadable "A FIFO, device, socket or directory under a checkpoint's name.";
    FS_BROKEN_LINK Unreadable "A symbolic link whose target is gone.";
    FS_CHANGED Unreadable "Size, times or inode differ after the read from what they were before it.";
    FS_IO Unreadable "The operating system reported an error while reading.";
    FS_PERMISSION Unreadable "The file may not be read by this user.";
    FS_LFS_POINTER Fail "A git-lfs pointer stands in for the file.";
    FS_TEXT Fail "A web page, XML or JSON answer, or other text.";
    FS_WRONG_FORMAT Fail "Another container than the name says.";
    FS_PARTIAL_DOWNLOAD Fail "A download or save that did not finish; warn for a control file beside a whole one.";
    FS_SPARSE Note "Holes in the file: blocks never written, or zeros stored as holes.";
    FS_POLYGLOT Fail "A second format appended; warn where it lies inside a tensor at the end.";
    // The safetensors header.
    ST_TOO_SHORT Fail "Fewer than the eight bytes of a header length.";
    ST_HEADER_TOO_LARGE Fail "A header length above 100,000,000 bytes.";
    ST_TRUNCATED_HEADER Fail "The file ends inside its header.";
    ST_HEADER_NOT_OBJECT Fail "The header does not begin with a brace.";
    ST_NOT_UTF8 Fail "The header is not UTF-8.";
    ST_JSON_SYNTAX Fail "The header is not one JSON object.";
    ST_JSON_DEPTH Fail "JSON nested deeper than the reference reader goes.";
    ST_HEADER_LEADING_WS Warn "White space before the header's brace.";
    ST_HEADER_PADDING Warn "Header padding other than spaces.";
    ST_HEADER_OVERSIZE Warn "A header above 8 MiB.";
    ST_DUP_NAME Fail "A tensor name stands twice.";
    ST_DUP_KEY Fail "A key other than a tensor name stands twice in one object.";
    // Entries of the safetensors header.
    ST_BAD_ENTRY Fail "A tensor's entry is not an object with `dtype`, `shape` and `data_offsets`.";
    ST_BAD_DTYPE Fail "A dtype that the format does not define.";
    ST_BAD_SHAPE Fail "A shape that is not a list of integers from 0 to 2^64 - 1.";
    ST_BAD_OFFSETS Fail "Offsets that are not two integers in order.";
    ST_EXTRA_FIELD Warn "An entry has a field that the format does not define.";
    ST_OVERFLOW Fail "The size in bits does not fit 64 bits.";
    ST_RANK_LIMIT Warn "More than 64 dimensions.";
    ST_SHAPE_IMPLAUSIBLE Warn "No elements, and a dimension that no array library accepts.";
    ST_SUBBYTE Fail "The size is not a whole number of bytes.";
    ST_SUBBYTE_ROW Warn "Rows of a sub-byte dtype that share a byte.";
    ST_SIZE_MISMATCH Fail "Offsets and shape disagree on the size.";
    ST_HOLE Fail "Bytes of data that no tensor owns.";
    ST_OVERLAP Fail "Bytes of data that two tensors own.";
    ST_TRUNCATED_DATA Fail "The file ends before its last tensor does.";
    ST_TRAILING_BYTES Fail "The file goes on after its last tensor.";
    ST_EMPTY_TENSOR Note "A tensor without elements.";
    ST_NO_TENSORS Note "A container without tensors.";
    ST_UNALIGNED_DATA Note "The data section does not begin at a multiple of 8.";
    ST_UNALIGNED_TENSOR Warn "A tensor does not begin at a multiple of its item size.";
    // Names and metadata.
    ST_NAME_UNSAFE Warn "A tensor name that can mislead a person, a terminal, a spreadsheet or a path.";
    ST_NAME_TOO_LONG Warn "A tensor name longer than any real one.";
    ST_NAME_CONFUSABLE Warn "Two names equal after NFC; note when equal only after case folding.";
    ST_BAD_METADATA Fail "Metadata that is not an object of strings.";
    ST_METADATA_NULL Warn "Metadata given as null.";
    ST_METADATA_ODD Note "An empty metadata key or value.";
    ST_METADATA_UNSAFE Warn "Control or direction characters in metadata.";
    ST_METADATA_HASH Warn "Metadata names a digest of the data that differs.";
    // The shard index.
    X_BAD_INDEX Fail "The index is not an object with a `weight_map` of strings; warn for a BOM or an empty map.";
    X_DUP_KEY Fail "A key of the index stands twice in one object.";
    X_PATH Fail "A shard's name leaves the folder or is no file name; warn for a link out of the folder.";
    X_SHARD_MISSING Fail "A shard that the index names is not there.";
    X_SHARD_COUNT Fail "Shard names disagree on how many shards there are.";
    X_TENSOR_MISSING Fail "A tensor that the index lists is in no shard.";
    X_TENSOR_UNLISTED Fail "A tensor of a shard that the index does not list.";
    X_WRONG_SHARD Fail "A tensor is in another shard than the index says.";
    X_DUP_TENSOR Fail "A tensor is in two shards.";
    X_DUP_SHARD Fail "Two shards hold the same bytes.";
    X_ORPHAN Warn "A shard-like file outside the index's series.";
    X_TOTAL_SIZE Warn "`total_size` disagrees; note when absent or a whole float.";
    X_AMBIGUOUS_SET Warn "An index and a single file that differ.";
    // Zip archives and their members.
    Z_NO_EOCD Fail "No usable end of a central directory.";
    Z_AMBIGUOUS_EOCD Fail "More than one way to find the central directory.";
    Z_CRC Fail "A member's bytes do not have its check sum.";
    Z_INFLATE Fail "A member's compressed bytes are damaged or of another length.";
    Z_METHOD Fail "A compression method that npz files do not use.";
    Z_ENCRYPTED Fail "An encrypted member.";
    Z_LOCAL_CENTRAL_MISMATCH Fail "A member's two headers disagree.";
    Z_OVERLAP Fail "Two records of the archive share bytes.";
    Z_DUP_NAME Fail "A member name stands twice.";
    Z_PATH Fail "A member name that leaves the folder.";
    Z_SYMLINK Fail "A member that is a symbolic link.";
    Z_BOMB Fail "A member that expands beyond any real compression.";
    Z_PREFIX Warn "Bytes before the archive.";
    Z_TRAILING Warn "Bytes after or between the archive's records.";
    Z_UNKNOWN_MEMBER Note "A member that is no array.";
    NPY_MAGIC Fail "Not the magic bytes of an npy array.";
    NPY_VERSION Fail "An npy version that does not exist.";
    NPY_HEADER Fail "An npy header that is not the literal of the three keys.";
    NPY_HEADER_OVERSIZE Warn "An npy header above the 10,000 bytes that numpy reads.";
    NPY_OVERFLOW Fail "An array size that does not fit 63 bits.";
    NPY_TRUNCATED Fail "Fewer bytes than the shape needs.";
    NPY_TRAILING Warn "More bytes than the shape needs.";
    NPY_STRUCTURED Warn "Records rather than numbers; note for opaque items and text.";
    NPY_OBJECT_PICKLE Fail "Pickled objects, which are never read.";
    // Torch archives: recognised, not read.
    PT_PICKLE Note "A pickle: the format can carry code.";
    PT_LEGACY Fail "A bare pickle or tar in place of a torch archive.";
}

/// Zero pages, where a header shows them; otherwise found by the pass over the values, whose family lists it.
pub const V_ZERO_PAGES: Code = Code { name: "V_ZERO_PAGES", severity: Severity::Fail };
