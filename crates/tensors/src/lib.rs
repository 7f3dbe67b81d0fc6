//! Checkpoint containers as tables of tensors, validated strictly.
//!
//! A file becomes a [`Source`], its header becomes a [`Table`]: the tensors that are there, and every [`Defect`] of the
//! bytes. Corrupt bytes are a result; an [`Error`] only says that a file could not be read. Nothing here looks at
//! values.

pub mod code;
mod defect;
mod dtype;
mod error;
mod file;
pub mod index;
mod inflate;
mod json;
mod name;
mod npy;
mod npz;
mod read;
mod safetensors;
mod sniff;
mod source;
mod table;
mod view;
pub mod write;
mod zip;

pub use code::{Code, Severity};
pub use defect::{CAP, Defect};
pub use dtype::Dtype;
pub use error::Error;
pub use file::partial_download;
pub use index::{Index, SetFile, check_set, read_index, read_index_file};
pub use inflate::{check_crc, compare_crc, inflate};
pub use name::escape;
pub use read::{read_table, read_table_from};
pub use source::{Identity, ReadAt, Source};
pub use table::{Container, Member, Storage, Table, Tensor};
pub use view::Mapping;
pub use write::{write_npz, write_safetensors};
