//! The buffer protocol (PEP 3118) and `__array_interface__`.
#![expect(unsafe_code, reason = "both protocols hand out raw pointers")]

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use unitrow_norms::Dtype;

use super::{Array, Keep, c_order, in_elements, odd_strides, type_name, unsupported_dtype};
use crate::errors::Class;

/// A buffer that was asked for and will be released. Boxed, since its address is part of some exporters' state.
pub(super) struct Buffer(Box<ffi::Py_buffer>);

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: filled in by PyObject_GetBuffer, released once, and only while attached.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
    }
}

/// The array behind the buffer protocol, if `object` has it.
pub(super) fn from_buffer<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Array<'py>>> {
    let py = object.py();
    // SAFETY: a live object; the buffer is filled in on success only, and then released on drop.
    let buffer = unsafe {
        if ffi::PyObject_CheckBuffer(object.as_ptr()) == 0 {
            return Ok(None);
        }
        let mut raw = Box::new(ffi::Py_buffer::new());
        if ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *raw, ffi::PyBUF_FULL_RO) != 0 {
            return Err(PyErr::fetch(py));
        }
        Buffer(raw)
    };
    let raw = &buffer.0;
    // SAFETY: a format, where there is one, is a C string of the exporter; none means bytes.
    let format = if raw.format.is_null() { c"B" } else { unsafe { CStr::from_ptr(raw.format) } };
    let format = format.to_string_lossy();
    let dtype = match (native(&format), raw.itemsize) {
        (Some("d"), 8) => Dtype::F64,
        (Some("f"), 4) => Dtype::F32,
        (Some("e"), 2) => Dtype::F16,
        _ => return Err(unsupported_dtype(object, &format!("'{format}' (struct format)"))),
    };
    let rank = usize::try_from(raw.ndim).unwrap_or(0);
    // SAFETY: each is null or points to `ndim` values, which live as long as the buffer.
    let (shape, strides, indirect) = unsafe {
        let values = |pointer: *mut ffi::Py_ssize_t| {
            (!pointer.is_null() && rank > 0).then(|| std::slice::from_raw_parts(pointer, rank))
        };
        let indirect =
            values(raw.suboffsets).is_some_and(|offsets| offsets.iter().any(|&offset| offset >= 0));
        (values(raw.shape), values(raw.strides), indirect)
    };
    if indirect {
        let message =
            format!("{} is made of pointers to rows, not of one block of memory", type_name(object));
        return Err(Class::Array.error(py, message));
    }
    let shape: Vec<usize> = match (shape, rank) {
        (Some(shape), _) => shape.iter().map(|length| length.unsigned_abs()).collect(),
        (None, 0) => Vec::new(),
        (None, _) => vec![raw.len.unsigned_abs() / dtype.size_bytes()],
    };
    let strides = match strides {
        Some(strides) => in_elements(strides, dtype).ok_or_else(|| odd_strides(object))?,
        // ctypes leaves them out though they were asked for; C order is meant.
        None => c_order(&shape),
    };
    if strides.len() != shape.len() {
        return Err(Class::Array.error(py, format!("{} has strides of another rank", type_name(object))));
    }
    let (data, read_only) = (raw.buf.cast::<u8>(), raw.readonly != 0);
    // SAFETY: the exporter keeps this memory in place until the buffer is released.
    unsafe { Array::new(object, data, dtype, shape, strides, read_only, Keep::Buffer(buffer)) }.map(Some)
}

/// The array behind `__array_interface__` (version 3), if `object` has one.
pub(super) fn from_interface<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Array<'py>>> {
    let py = object.py();
    let Some(interface) = object.getattr_opt(intern!(py, "__array_interface__"))? else { return Ok(None) };
    let Ok(interface) = interface.cast_into::<PyDict>() else { return Ok(None) };
    let entry = |name| Ok::<_, PyErr>(interface.get_item(name)?.filter(|value| !value.is_none()));
    let required = |name: &str, value: Option<Bound<'py, PyAny>>| {
        value.ok_or_else(|| {
            let message = format!("__array_interface__ of {} has no usable '{name}'", type_name(object));
            Class::ArrayType.error(py, message)
        })
    };
    let typestr: String = required("typestr", entry("typestr")?)?.extract()?;
    let dtype = match native(&typestr) {
        Some("f8") => Dtype::F64,
        Some("f4") => Dtype::F32,
        Some("f2") => Dtype::F16,
        _ => return Err(unsupported_dtype(object, &format!("'{typestr}' (typestr)"))),
    };
    if entry("mask")?.is_some() {
        return Err(Class::Array.error(py, format!("{} is masked", type_name(object))));
    }
    let shape: Vec<usize> = required("shape", entry("shape")?)?.extract()?;
    let strides = match entry("strides")? {
        None => c_order(&shape),
        Some(strides) => {
            let strides: Vec<isize> = strides.extract()?;
            in_elements(&strides, dtype).ok_or_else(|| odd_strides(object))?
        }
    };
    if strides.len() != shape.len() {
        return Err(Class::Array.error(py, format!("{} has strides of another rank", type_name(object))));
    }
    let (address, read_only): (usize, bool) = required("data", entry("data")?)?.extract()?;
    let data = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: what the interface promises for as long as object and dictionary live.
    unsafe { Array::new(object, data, dtype, shape, strides, read_only, Keep::Object(interface.into_any())) }
        .map(Some)
}

/// The type code behind a byte-order mark, if that order is this machine's.
fn native(format: &str) -> Option<&str> {
    let swapped = if cfg!(target_endian = "little") { ['>', '!'] } else { ['<', '<'] };
    (!format.starts_with(swapped)).then(|| format.trim_start_matches(['@', '=', '<', '>', '!', '|']))
}
