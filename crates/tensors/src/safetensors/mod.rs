//! safetensors: eight bytes of length, a JSON header, and data.
//!
//! The rules are the written format's, not the reference reader's: that one also takes names that stand twice, entries
//! as arrays, and white space where the format forbids it. Whatever the reference rejects is rejected here.

mod entry;
mod header;
mod twins;
mod validate;

pub(crate) use validate::{MAX_HEADER_LEN, read};
