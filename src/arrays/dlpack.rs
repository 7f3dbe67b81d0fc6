//! `DLPack`, the array exchange that carries bf16 and fp8: structures of `dlpack.h` 1.x and how to take one.
//!
//! Three ways, from the cheapest: the producer's table of C functions (no Python call, no allocation), a
//! versioned capsule (carries the read-only flag), a legacy capsule.
#![expect(unsafe_code, reason = "DLPack hands out raw pointers")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCapsule};
use pyo3::{ffi, intern};
use unitrow_norms::Dtype;

use super::{Array, Keep, type_name};
use crate::errors::Class;

pub(super) const MAJOR: u32 = 1;
pub(super) const FLAG_READ_ONLY: u64 = 1;
/// The producer exported a copy: what is written to it is lost.
const FLAG_IS_COPIED: u64 = 2;

/// The CPU, and the pinned host memory of the two GPU families, which the CPU reads like any other.
const HOST_DEVICES: [i32; 3] = [1, 3, 11];

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DataType {
    pub(super) code: u8,
    pub(super) bits: u8,
    pub(super) lanes: u16,
}

/// `DLTensor`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Tensor {
    pub(super) data: *mut c_void,
    pub(super) device_type: i32,
    pub(super) device_id: i32,
    pub(super) ndim: i32,
    pub(super) dtype: DataType,
    pub(super) shape: *const i64,
    /// In elements. Before `DLPack` 1.2 null meant C order.
    pub(super) strides: *const i64,
    pub(super) byte_offset: u64,
}

impl Tensor {
    const EMPTY: Self = Self {
        data: std::ptr::null_mut(),
        device_type: 0,
        device_id: 0,
        ndim: 0,
        dtype: DataType { code: 0, bits: 0, lanes: 0 },
        shape: std::ptr::null(),
        strides: std::ptr::null(),
        byte_offset: 0,
    };
}

/// `DLManagedTensor`.
#[repr(C)]
struct Legacy {
    tensor: Tensor,
    manager_context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Legacy)>,
}

#[repr(C)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
pub(super) struct Versioned {
    pub(super) version: Version,
    pub(super) manager_context: *mut c_void,
    pub(super) deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    pub(super) flags: u64,
    pub(super) tensor: Tensor,
}

/// `DLPackExchangeAPI`; the functions that are not called here stand as plain pointers.
#[repr(C)]
struct ExchangeApi {
    version: Version,
    previous: *const c_void,
    allocate: *const c_void,
    managed_from_object: *const c_void,
    managed_to_object: *const c_void,
    tensor_from_object: Option<unsafe extern "C" fn(*mut ffi::PyObject, *mut Tensor) -> c_int>,
    current_stream: *const c_void,
}

/// A managed tensor that was taken from its capsule; dropping it hands the memory back to the producer.
pub(super) struct Managed(Owned);

enum Owned {
    Legacy(NonNull<Legacy>),
    Versioned(NonNull<Versioned>),
}

impl Drop for Managed {
    fn drop(&mut self) {
        // SAFETY: `take` renamed the capsule, so this value alone owns the structure, which the producer keeps
        // valid until its deleter runs; the deleter and the version stay at their places in every version.
        unsafe {
            match self.0 {
                Owned::Legacy(managed) => {
                    if let Some(deleter) = managed.as_ref().deleter {
                        deleter(managed.as_ptr());
                    }
                }
                Owned::Versioned(managed) => {
                    if let Some(deleter) = managed.as_ref().deleter {
                        deleter(managed.as_ptr());
                    }
                }
            }
        }
    }
}

impl Managed {
    pub(super) fn is_legacy(&self) -> bool {
        matches!(self.0, Owned::Legacy(_))
    }

    /// Takes the tensor out of a capsule, as the protocol asks: renamed, so that nobody takes it twice.
    fn take(capsule: &Bound<'_, PyCapsule>) -> PyResult<Option<Self>> {
        let take = |name: &'static CStr, used: &'static CStr| -> PyResult<Option<NonNull<c_void>>> {
            if !capsule.is_valid_checked(Some(name)) {
                return Ok(None);
            }
            let pointer = capsule.pointer_checked(Some(name))?;
            // SAFETY: a capsule that was just found valid, and a name that lives for ever.
            match unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), used.as_ptr()) } {
                0 => Ok(Some(pointer)),
                _ => Err(PyErr::fetch(capsule.py())),
            }
        };
        if let Some(pointer) = take(c"dltensor_versioned", c"used_dltensor_versioned")? {
            return Ok(Some(Self(Owned::Versioned(pointer.cast()))));
        }
        Ok(take(c"dltensor", c"used_dltensor")?.map(|pointer| Self(Owned::Legacy(pointer.cast()))))
    }
}

/// The array behind the producer's C functions, if its type has them. No reference is taken: the caller's
/// argument keeps the memory alive.
pub(super) fn exchanged<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Array<'py>>> {
    let py = object.py();
    let Some(table) = object.get_type().getattr_opt(intern!(py, "__dlpack_c_exchange_api__"))? else {
        return Ok(None);
    };
    let Ok(capsule) = table.cast::<PyCapsule>() else { return Ok(None) };
    let api = capsule.pointer_checked(Some(c"dlpack_exchange_api"))?.cast::<ExchangeApi>();
    // SAFETY: the name says what the capsule holds; producers keep the table for the life of the process, and
    // its version is readable in every version.
    let tensor_from_object = unsafe {
        let api = api.as_ref();
        if api.version.major == MAJOR { api.tensor_from_object } else { None }
    };
    let Some(tensor_from_object) = tensor_from_object else { return Ok(None) };
    let mut tensor = Tensor::EMPTY;
    // SAFETY: the table came from this object's own type; we are attached to the interpreter.
    if unsafe { tensor_from_object(object.as_ptr(), &raw mut tensor) } != 0 {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: filled in by the producer just now; the object outlives the call.
    unsafe { array_of(object, tensor, Keep::Nothing, false) }.map(Some)
}

/// The array behind `object.__dlpack__()`, if there is such a method.
pub(super) fn from_capsule<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Array<'py>>> {
    let py = object.py();
    let Some(export) = object.getattr_opt(intern!(py, "__dlpack__"))? else { return Ok(None) };
    if let Some(device) = object.getattr_opt(intern!(py, "__dlpack_device__"))? {
        let (kind, _): (i32, i64) = device.call0()?.extract()?;
        check_device(object, kind)?;
    }
    let version = [(intern!(py, "max_version"), (MAJOR, 0_u32))].into_py_dict(py)?;
    let capsule = match export.call((), Some(&version)) {
        // Producers from before version 1 do not know the argument.
        Err(error) if error.is_instance_of::<PyTypeError>(py) => export.call0()?,
        other => other?,
    };
    let managed = match capsule.cast::<PyCapsule>() {
        Ok(capsule) => Managed::take(capsule)?,
        Err(_) => None,
    };
    let Some(managed) = managed else {
        let message = format!("__dlpack__ of {} gave no fresh DLPack capsule", type_name(object));
        return Err(Class::ArrayType.error(py, message));
    };
    // SAFETY: `managed` owns a structure that its producer filled in, and moves into the array that uses it;
    // of a structure of another major version only the version is read.
    unsafe {
        match managed.0 {
            Owned::Legacy(legacy) => {
                let Legacy { tensor, .. } = *legacy.as_ptr();
                // A legacy capsule cannot say whether the memory may be written, so it may not.
                array_of(object, tensor, Keep::Managed(managed), true)
            }
            Owned::Versioned(versioned) => {
                let Version { major, .. } = (*versioned.as_ptr()).version;
                if major != MAJOR {
                    let message =
                        format!("{} exports DLPack {major}.x; this build reads 1.x", type_name(object));
                    return Err(Class::ArrayType.error(py, message));
                }
                let Versioned { flags, tensor, .. } = *versioned.as_ptr();
                let read_only = flags & (FLAG_READ_ONLY | FLAG_IS_COPIED) != 0;
                array_of(object, tensor, Keep::Managed(managed), read_only)
            }
        }
    }
    .map(Some)
}

/// Copies what describes a tensor, and checks it.
///
/// # Safety
/// `tensor` must be as its producer filled it in, and its memory must live as long as `keep` or `object`.
unsafe fn array_of<'py>(
    object: &Bound<'py, PyAny>,
    tensor: Tensor,
    keep: Keep<'py>,
    read_only: bool,
) -> PyResult<Array<'py>> {
    let py = object.py();
    check_device(object, tensor.device_type)?;
    let dtype = dtype_of(tensor.dtype).ok_or_else(|| {
        let DataType { code, bits, lanes } = tensor.dtype;
        let found = match (code, lanes) {
            (0, 1) => format!("int{bits}"),
            (1, 1) => format!("uint{bits}"),
            (5, 1) => format!("complex{bits}"),
            (6, 1) => "bool".to_owned(),
            _ => format!("DLPack type code {code} with {bits} bits and {lanes} lanes"),
        };
        super::unsupported_dtype(object, &found)
    })?;
    let Ok(rank) = usize::try_from(tensor.ndim) else {
        return Err(Class::Array.error(py, format!("{} reports a negative rank", type_name(object))));
    };
    // SAFETY: both point to `ndim` values while the tensor lives; null is allowed for rank 0, and for strides.
    let (shape, strides) = unsafe {
        let values = |pointer: *const i64| match rank {
            0 => &[][..],
            _ => std::slice::from_raw_parts(pointer, rank),
        };
        let strides = (!tensor.strides.is_null()).then(|| values(tensor.strides));
        (values(tensor.shape), strides)
    };
    let lengths: Result<Vec<usize>, _> = shape.iter().map(|&length| usize::try_from(length)).collect();
    let Ok(shape) = lengths else {
        return Err(Class::Array.error(py, format!("{} reports shape {shape:?}", type_name(object))));
    };
    let strides = match strides {
        #[expect(clippy::cast_possible_truncation, reason = "an address space holds its own distances")]
        Some(strides) => strides.iter().map(|&step| step as isize).collect(),
        None => super::c_order(&shape),
    };
    #[expect(clippy::cast_possible_truncation, reason = "an address space holds its own distances")]
    let data = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
    let data = if tensor.data.is_null() { tensor.data.cast() } else { data };
    // SAFETY: passed on to the caller.
    unsafe { Array::new(object, data, dtype, shape, strides, read_only, keep) }
}

fn check_device(object: &Bound<'_, PyAny>, kind: i32) -> PyResult<()> {
    if HOST_DEVICES.contains(&kind) {
        return Ok(());
    }
    let message = format!(
        "{} is not in CPU memory (DLPack device type {kind}); unitrow.torch runs where a torch tensor lies",
        type_name(object)
    );
    Err(Class::ArrayType.error(object.py(), message))
}

fn dtype_of(dtype: DataType) -> Option<Dtype> {
    match (dtype.code, dtype.bits, dtype.lanes) {
        (2, 64, 1) => Some(Dtype::F64),
        (2, 32, 1) => Some(Dtype::F32),
        (2, 16, 1) => Some(Dtype::F16),
        (4, 16, 1) => Some(Dtype::Bf16),
        (10, 8, 1) => Some(Dtype::F8E4M3),
        (11, 8, 1) => Some(Dtype::F8E4M3Fnuz),
        (12, 8, 1) => Some(Dtype::F8E5M2),
        (13, 8, 1) => Some(Dtype::F8E5M2Fnuz),
        _ => None,
    }
}
