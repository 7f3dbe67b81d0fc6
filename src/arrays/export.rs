//! Mapped bytes as a read-only Python buffer, from which numpy makes arrays without a copy.
#![expect(unsafe_code, reason = "the buffer protocol hands out raw pointers")]

use std::ffi::c_int;
use std::sync::Arc;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use unitrow_tensors::Mapping;

/// A range of a mapped file. Keeps the map alive for as long as an array looks at it.
#[pyclass(frozen, name = "MappedBytes", module = "unitrow._native")]
pub(crate) struct MappedBytes {
    mapping: Arc<Mapping>,
    start: usize,
    len: usize,
}

impl MappedBytes {
    /// The bytes from `start`; `None` if the map does not hold them.
    pub(crate) fn new(mapping: &Arc<Mapping>, start: u64, len: u64) -> Option<Self> {
        let (start, len) = (usize::try_from(start).ok()?, usize::try_from(len).ok()?);
        mapping.get(start..start.checked_add(len)?)?;
        Some(Self { mapping: Arc::clone(mapping), start, len })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.mapping[self.start..self.start + self.len]
    }
}

#[pymethods]
impl MappedBytes {
    fn __len__(&self) -> usize {
        self.len
    }

    /// # Safety
    /// Called by Python with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        let bytes = slf.get().as_slice();
        // SAFETY: `view` is not null and Python's to fill; the bytes live as long as `slf`, to which the view
        // takes a reference; it is marked read-only, so that nobody writes through the cast pointer.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr().cast_mut().cast(),
                bytes.len().cast_signed(),
                1,
                flags,
            )
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
