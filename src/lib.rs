//! The Python binding: convert, release the GIL, call, wrap.
#![expect(clippy::needless_pass_by_value, reason = "PyO3 extracts arguments by value")]
use pyo3::prelude::*;

mod adam;
mod arrays;
mod audit;
mod errors;
mod identity;
mod norms;
mod stats;
mod tensors;

/// Rust operations behind the `unitrow` package.
#[pymodule(gil_used = false)]
mod _native {
    use std::ffi::CString;

    use pyo3::exceptions::PyRuntimeWarning;
    use unitrow_norms::{MOST_THREADS, threads_asked_for};

    use super::{Bound, PyErr, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use crate::adam::adam_step_;
    #[pymodule_export]
    use crate::arrays::export::MappedBytes;
    #[pymodule_export]
    use crate::audit::{PyFileHeader, available_threads, check_index, read_headers, scan};
    #[pymodule_export]
    use crate::identity::{content_ids, digest_files};
    #[pymodule_export]
    use crate::norms::{normalize_rows_, remove_parallel_, row_norms};
    #[pymodule_export]
    use crate::stats::decoder_stats;
    #[pymodule_export]
    use crate::tensors::{MappedFile, codes, write_npz, write_safetensors};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        if let Some(Err(text)) = threads_asked_for() {
            let words =
                format!("UNITROW_NUM_THREADS is no number from 1 to {MOST_THREADS} and is ignored: {text:?}");
            let words = CString::new(words).unwrap_or_default();
            PyErr::warn(module.py(), &module.py().get_type::<PyRuntimeWarning>(), &words, 1)?;
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
