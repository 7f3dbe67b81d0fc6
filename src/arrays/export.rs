//! Mapped bytes lent to Python without a copy: as a read-only buffer, from which numpy makes arrays, and as a
//! `DLPack` capsule, which carries the dtypes that numpy does not have.
#![expect(unsafe_code, reason = "the buffer protocol and DLPack hand out raw pointers")]

use std::ffi::{CStr, c_int, c_void};
use std::sync::Arc;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use unitrow_tensors::{Dtype, Mapping};

use super::dlpack::{DataType, FLAG_READ_ONLY, MAJOR, Tensor, Version, Versioned};

const CAPSULE: &CStr = c"dltensor_versioned";
const CPU: i32 = 1;

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

    /// A versioned, read-only `DLPack` capsule over these bytes, as a row-major tensor of `shape`.
    fn dlpack<'py>(&self, py: Python<'py>, dtype: &str, shape: Vec<i64>) -> PyResult<Bound<'py, PyAny>> {
        let elements = shape.iter().try_fold(1_u64, |all, &one| all.checked_mul(u64::try_from(one).ok()?));
        let known = Dtype::from_name(dtype).and_then(|dtype| Some((data_type(dtype)?, dtype.bits())));
        let (dtype, bits) =
            known.ok_or_else(|| PyBufferError::new_err(format!("DLPack has no type for {dtype}")))?;
        if elements.and_then(|count| count.checked_mul(bits)) != Some(8 * self.len as u64) {
            return Err(PyBufferError::new_err(format!("{} bytes do not hold {shape:?}", self.len)));
        }
        let lent = Box::into_raw(Box::new(Lent {
            managed: Versioned {
                version: Version { major: MAJOR, minor: 0 },
                manager_context: std::ptr::null_mut(),
                deleter: Some(give_back),
                flags: FLAG_READ_ONLY,
                tensor: Tensor {
                    data: self.as_slice().as_ptr().cast_mut().cast(),
                    device_type: CPU,
                    device_id: 0,
                    ndim: 0,
                    dtype,
                    shape: std::ptr::null(),
                    strides: std::ptr::null(),
                    byte_offset: 0,
                },
            },
            strides: row_major(&shape),
            shape,
            _mapping: Arc::clone(&self.mapping),
        }));
        // SAFETY: `lent` was just made and nobody else knows it; its own vectors stay where they are until the
        // deleter drops it. The capsule takes it over, and frees it if nobody takes it out.
        unsafe {
            let owned = &mut *lent;
            owned.managed.manager_context = lent.cast();
            owned.managed.tensor.ndim = i32::try_from(owned.shape.len()).unwrap_or_default();
            owned.managed.tensor.shape = owned.shape.as_ptr();
            owned.managed.tensor.strides = owned.strides.as_ptr();
            let managed = (&raw mut owned.managed).cast();
            let capsule = ffi::PyCapsule_New(managed, CAPSULE.as_ptr(), Some(drop_untaken));
            if capsule.is_null() {
                drop(Box::from_raw(lent));
            }
            Bound::from_owned_ptr_or_err(py, capsule)
        }
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

/// A capsule's content: what the consumer sees first, and what keeps it alive behind.
#[repr(C)]
struct Lent {
    managed: Versioned,
    shape: Vec<i64>,
    strides: Vec<i64>,
    _mapping: Arc<Mapping>,
}

/// What the consumer calls when it is done.
unsafe extern "C" fn give_back(managed: *mut Versioned) {
    // SAFETY: a consumer passes the pointer that it took from our capsule, once; `manager_context` is the box that
    // holds it.
    unsafe { drop(Box::from_raw((*managed).manager_context.cast::<Lent>())) }
}

/// What Python calls when the capsule goes: a consumer that took the content has renamed the capsule.
unsafe extern "C" fn drop_untaken(capsule: *mut ffi::PyObject) {
    // SAFETY: Python passes a live capsule; a pointer comes back only under the name that we gave, that is, if
    // nobody took it.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, CAPSULE.as_ptr()) == 1 {
            let managed: *mut c_void = ffi::PyCapsule_GetPointer(capsule, CAPSULE.as_ptr());
            give_back(managed.cast());
        }
    }
}

fn row_major(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1_i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// `DLPack`'s type codes, from `dlpack.h` 1.1.
fn data_type(dtype: Dtype) -> Option<DataType> {
    let code = match dtype {
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => 0,
        Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => 1,
        Dtype::F16 | Dtype::F32 | Dtype::F64 => 2,
        Dtype::Bf16 => 4,
        Dtype::C64 => 5,
        Dtype::Bool => 6,
        Dtype::F8E4M3 => 10,
        Dtype::F8E4M3Fnuz => 11,
        Dtype::F8E5M2 => 12,
        Dtype::F8E5M2Fnuz => 13,
        Dtype::F8E8M0 => 14,
        _ => return None,
    };
    Some(DataType { code, bits: u8::try_from(dtype.bits()).ok()?, lanes: 1 })
}
