//! The structure of containers: catalogued cases, every truncation and bit flip, and the reference reader's word.

mod build;
mod file;
mod npz;
mod safetensors;
