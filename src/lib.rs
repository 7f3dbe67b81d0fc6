//! The Python binding: convert, release the GIL, call, wrap.
use pyo3::prelude::*;

/// Rust operations behind the `unitrow` package.
#[pymodule(gil_used = false)]
mod _native {
    use super::{Bound, PyModule, PyModuleMethods, PyResult, pymodule};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
