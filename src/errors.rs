//! Rust errors to Python exceptions: the only place that knows both sides.
//!
//! The exception classes are Python's own (`unitrow.errors`), because only a class statement can have two
//! bases and a docstring that reads well.

use std::io;
use std::path::Path;

use pyo3::exceptions::{PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// A class of `unitrow.errors`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Class {
    /// `UnitrowError`, which is every one of them.
    Base,
    /// `ArrayError`: an array that cannot be used as asked.
    Array,
    /// `ArrayTypeError`: no array, or one of a wrong kind.
    ArrayType,
    /// `FormatError`: bytes that do not follow their format.
    Format,
    /// `IntegrityError`: a file that changed while it was read.
    Integrity,
}

impl Class {
    /// This class, imported once.
    fn bind(self, py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
        static BASE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static ARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static ARRAY_TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static FORMAT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static INTEGRITY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let (cell, name) = match self {
            Self::Base => (&BASE, "UnitrowError"),
            Self::Array => (&ARRAY, "ArrayError"),
            Self::ArrayType => (&ARRAY_TYPE, "ArrayTypeError"),
            Self::Format => (&FORMAT, "FormatError"),
            Self::Integrity => (&INTEGRITY, "IntegrityError"),
        };
        cell.import(py, "unitrow.errors", name)
    }

    /// Whether `error` is of this class.
    pub(crate) fn is_class_of(self, py: Python<'_>, error: &PyErr) -> bool {
        self.bind(py).is_ok_and(|class| error.is_instance(py, class))
    }

    /// An exception of this class; the import's own exception where that fails.
    #[cold]
    pub(crate) fn error(self, py: Python<'_>, message: impl Into<String>) -> PyErr {
        match self.bind(py) {
            Ok(class) => PyErr::from_type(class.clone(), (message.into(),)),
            Err(error) => error,
        }
    }
}

/// Errors of the crates below, as the exception that a caller sees.
pub(crate) trait ToPyErr {
    /// The exception for this error.
    fn to_py_err(&self, py: Python<'_>) -> PyErr;
}

impl ToPyErr for unitrow_norms::Error {
    #[cold]
    fn to_py_err(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Memory { .. } => PyMemoryError::new_err(self.to_string()),
            Self::Dtype { .. } => Class::ArrayType.error(py, self.to_string()),
            _ => Class::Array.error(py, self.to_string()),
        }
    }
}

impl ToPyErr for unitrow_tensors::Error {
    #[cold]
    fn to_py_err(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::NotFound { path } | Self::BrokenLink { path, .. } => {
                os_error(py, &io::Error::from_raw_os_error(ENOENT), path)
            }
            Self::NotRegular { path, found: "directory" } => {
                os_error(py, &io::Error::from_raw_os_error(EISDIR), path)
            }
            Self::Permission { source, path } | Self::Io { source, path, .. } => os_error(py, source, path),
            Self::ShortRead { .. } => Class::Integrity.error(py, self.to_string()),
            _ => Class::Format.error(py, self.to_string()),
        }
    }
}

/// The error numbers of a missing file and of a folder where a file should be, on every Unix.
const ENOENT: i32 = 2;
const EISDIR: i32 = 21;

/// The `OSError` that Python itself would raise for `path`: its subclass follows from the error number.
#[cold]
pub(crate) fn os_error(py: Python<'_>, error: &io::Error, path: &Path) -> PyErr {
    let Some(number) = error.raw_os_error() else {
        // Made up by a library rather than the system: the kind picks the subclass, the text names the path.
        return io::Error::new(error.kind(), format!("{}: {error}", path.display())).into();
    };
    let words = || py.import("os")?.call_method1("strerror", (number,))?.extract::<String>();
    match words() {
        Ok(words) => PyOSError::new_err((number, words, path.as_os_str().to_owned())),
        Err(error) => error,
    }
}
