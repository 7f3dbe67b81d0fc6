//! The zero-copy border: whatever Python calls an array, as bytes with a shape.
//!
//! Tried in this order: numpy's own structure, `DLPack`, the buffer protocol, `__array_interface__`. Nothing is
//! copied, and nothing is guessed: strides of any sign and rank are kept as they are, and what a kernel could
//! not walk correctly is refused with the words a caller needs.
#![expect(unsafe_code, reason = "memory that Python owns comes as raw pointers")]

mod buffer;
mod dlpack;
pub(crate) mod export;
pub(crate) mod geometry;
mod torch;

use numpy::npyffi::NPY_ARRAY_WRITEABLE;
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::{PyTypeInfo, intern};
use unitrow_norms::Dtype;

use crate::errors::Class;

/// What keeps borrowed memory alive and returns it.
#[expect(dead_code, reason = "held for its drop")]
enum Keep<'py> {
    /// The argument itself, which the caller holds for the length of the call.
    Nothing,
    Managed(dlpack::Managed),
    Buffer(buffer::Buffer),
    Object(Bound<'py, PyAny>),
}

impl Keep<'_> {
    /// Whether the exporter had no way to say that the memory may be written.
    fn is_unflagged(&self) -> bool {
        matches!(self, Self::Managed(managed) if managed.is_legacy())
    }
}

/// What the memory will be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// In place: the memory must be writable, without overlap, and no gradient may be lost.
    Write,
}

/// Somebody's array, borrowed for one call.
pub(crate) struct Array<'py> {
    object: Bound<'py, PyAny>,
    /// Lowest address that an element has; dangling where there is none.
    low: *mut u8,
    /// From `low` to the end of the highest element.
    span_bytes: usize,
    /// The first element, counted in elements from `low`.
    first: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<isize>,
    read_only: bool,
    /// Whether [`Access::Write`] was asked for and granted.
    is_writing: bool,
    keep: Keep<'py>,
}

impl<'py> Array<'py> {
    /// Borrows the memory of `object`.
    ///
    /// # Errors
    /// `ArrayTypeError` for what is no array, or of a dtype or device without norms; `ArrayError` for memory
    /// that cannot be used for this access.
    pub(crate) fn borrow(object: &Bound<'py, PyAny>, access: Access) -> PyResult<Self> {
        let mut array = if let Ok(array) = object.cast::<PyUntypedArray>() {
            from_numpy(array)?
        } else {
            torch::explained(object, access, || {
                if let Some(array) = dlpack::exchanged(object)? {
                    return Ok(array);
                }
                from_protocols(&torch::detached(object)?)
            })?
        };
        if access == Access::Write {
            array.check_writable()?;
            array.is_writing = true;
        }
        Ok(array)
    }

    /// # Safety
    /// `data` must be the address of element `[0, 0, ...]` of live memory laid out as described, for as long
    /// as `keep` (or `object`, which the caller holds) lives.
    unsafe fn new(
        object: &Bound<'py, PyAny>,
        data: *mut u8,
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<isize>,
        read_only: bool,
        keep: Keep<'py>,
    ) -> PyResult<Self> {
        let mut array = Self {
            object: object.clone(),
            low: std::ptr::dangling_mut(),
            span_bytes: 0,
            first: 0,
            dtype,
            shape,
            strides,
            read_only,
            is_writing: false,
            keep,
        };
        if array.shape.contains(&0) {
            return Ok(array);
        }
        if data.is_null() {
            let message = format!("{} has no memory behind its shape {:?}", type_name(object), array.shape);
            return Err(Class::ArrayType.error(object.py(), message));
        }
        let size = dtype.size_bytes();
        let extent = geometry::reach(&array.shape, &array.strides).and_then(|(lowest, highest)| {
            let elements = highest.checked_sub(lowest)?.checked_add(1)?;
            Some((lowest.unsigned_abs(), elements.checked_mul(size.cast_signed())?.unsigned_abs()))
        });
        let Some((first, span_bytes)) = extent else {
            let message = format!("shape {:?} is larger than the address space", array.shape);
            return Err(Class::Array.error(object.py(), message));
        };
        array.low = data.wrapping_sub(first * size);
        array.first = first;
        array.span_bytes = span_bytes;
        Ok(array)
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn strides(&self) -> &[isize] {
        &self.strides
    }

    pub(crate) fn span_bytes(&self) -> usize {
        self.span_bytes
    }

    /// Byte in [`Array::bytes`] at which the element lies that is `offset` elements from the first.
    pub(crate) fn position(&self, offset: isize) -> usize {
        // An array without elements has no span, and strides all the same.
        (self.first.wrapping_add_signed(offset).saturating_mul(self.dtype.size_bytes())).min(self.span_bytes)
    }

    /// All memory from the lowest to the highest element.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `new` computed the span from shape and strides of live memory. Another thread may write to
        // it meanwhile, as with every array library; values are then unspecified, bounds are not.
        unsafe { std::slice::from_raw_parts(self.low, self.span_bytes) }
    }

    /// The same memory, to write to. The array must have been borrowed for that.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.is_writing, "borrowed for reading");
        // SAFETY: as in `bytes`; `check_writable` found it writable, and `check_apart` that no other argument
        // shares it.
        unsafe { std::slice::from_raw_parts_mut(self.low, self.span_bytes) }
    }

    /// Refuses two arguments that do not go together row by row.
    pub(crate) fn check_same_shape(&self, other: &Self) -> PyResult<()> {
        if self.shape != other.shape {
            let message = format!("has shape {:?}, and another argument has {:?}", self.shape, other.shape);
            return Err(self.refused(&message));
        }
        Ok(())
    }

    /// Refuses two arguments of which one would be written while the other is read.
    ///
    /// Compares the whole spans: two interleaved views of one buffer are refused though no element is shared.
    pub(crate) fn check_apart(&self, other: &Self) -> PyResult<()> {
        let (low, other_low) = (self.low.addr(), other.low.addr());
        if low < other_low + other.span_bytes && other_low < low + self.span_bytes {
            return Err(self.refused("shares memory with another argument; copy one of them"));
        }
        Ok(())
    }

    /// The row axis as an index from the front.
    pub(crate) fn axis(&self, axis: isize) -> PyResult<usize> {
        let rank = self.shape.len();
        let index = if axis < 0 { axis.checked_add_unsigned(rank) } else { Some(axis) };
        match index.and_then(|index| usize::try_from(index).ok()).filter(|&index| index < rank) {
            Some(index) => Ok(index),
            None if rank == 0 => Err(self.refused("is 0-dimensional and has no rows")),
            None => Err(self.refused(&format!("has {rank} dimensions, and axis {axis} is not among them"))),
        }
    }

    /// Tells the owner that its memory has changed.
    pub(crate) fn written(&self) -> PyResult<()> {
        torch::written(&self.object)
    }

    /// The `ArrayError` that begins with this array's type.
    #[cold]
    pub(crate) fn refused(&self, why: &str) -> PyErr {
        Class::Array.error(self.object.py(), format!("{} {why}", type_name(&self.object)))
    }

    fn check_writable(&self) -> PyResult<()> {
        if self.read_only {
            return Err(self.refused(if self.keep.is_unflagged() {
                "comes in a DLPack capsule from before version 1, which cannot say that its memory may be written"
            } else {
                "is read-only and cannot be changed in place"
            }));
        }
        if !geometry::is_disjoint(&self.shape, &self.strides) {
            let message = "has elements that share memory (broadcast or overlapping view) and cannot be changed \
                           in place; copy it first";
            return Err(self.refused(message));
        }
        Ok(())
    }
}

fn from_protocols<'py>(object: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    if let Some(array) = dlpack::from_capsule(object)? {
        return Ok(array);
    }
    if let Some(array) = buffer::from_buffer(object)? {
        return Ok(array);
    }
    if let Some(array) = buffer::from_interface(object)? {
        return Ok(array);
    }
    let message = format!(
        "{} is no array: expected numpy, torch, DLPack, the buffer protocol or __array_interface__; \
         numpy.asarray() makes one of most things",
        type_name(object)
    );
    Err(Class::ArrayType.error(object.py(), message))
}

/// numpy's own structure: nothing to call, and it also knows the dtypes that its exports refuse.
fn from_numpy<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Array<'py>> {
    let py = array.py();
    let descr = array.dtype();
    if !array.get_type().is(PyUntypedArray::type_object(py)) && array.hasattr(intern!(py, "mask"))? {
        let message =
            "a masked array has elements that do not count; pass .filled(0) to leave them out of the norms";
        return Err(Class::Array.error(py, message));
    }
    let dtype = match (descr.kind(), descr.itemsize()) {
        (b'f', 8) => Some(Dtype::F64),
        (b'f', 4) => Some(Dtype::F32),
        (b'f', 2) => Some(Dtype::F16),
        // ml_dtypes registers its types under kinds of its own choosing; their names are fixed.
        (b'V' | b'f', 1 | 2) => extension_dtype(&descr.typeobj().name()?.to_cow()?),
        _ => None,
    };
    let Some(dtype) = dtype else {
        return Err(unsupported_dtype(array.as_any(), &descr.str()?.to_cow()?));
    };
    if descr.is_native_byteorder() == Some(false) {
        let message = "the array's bytes are swapped; .astype(x.dtype.newbyteorder('=')) makes a native copy";
        return Err(Class::Array.error(py, message));
    }
    let shape = array.shape().to_vec();
    let Some(strides) = in_elements(array.strides(), dtype) else {
        return Err(odd_strides(array.as_any()));
    };
    // SAFETY: an ndarray that the caller holds; shape and strides are its own. Its memory cannot be resized
    // while there is a second reference to it.
    unsafe {
        let fields = &raw const (*array.as_array_ptr()).fields;
        let read_only = (*fields).flags & NPY_ARRAY_WRITEABLE == 0;
        Array::new(array.as_any(), (*fields).data.cast(), dtype, shape, strides, read_only, Keep::Nothing)
    }
}

/// The formats that numpy itself does not have.
fn extension_dtype(name: &str) -> Option<Dtype> {
    match name {
        "bfloat16" => Some(Dtype::Bf16),
        "float8_e4m3fn" => Some(Dtype::F8E4M3),
        "float8_e5m2" => Some(Dtype::F8E5M2),
        "float8_e4m3fnuz" => Some(Dtype::F8E4M3Fnuz),
        "float8_e5m2fnuz" => Some(Dtype::F8E5M2Fnuz),
        _ => None,
    }
}

/// Byte strides as element strides, where they are whole elements.
fn in_elements(strides: &[isize], dtype: Dtype) -> Option<Vec<isize>> {
    let size = dtype.size_bytes().cast_signed();
    strides.iter().map(|&step| (step % size == 0).then_some(step / size)).collect()
}

/// Strides of a dense array, in elements.
fn c_order(shape: &[usize]) -> Vec<isize> {
    let mut step = 1_isize;
    let mut strides = vec![0; shape.len()];
    for (stride, &length) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(isize::try_from(length).unwrap_or(isize::MAX));
    }
    strides
}

#[cold]
fn odd_strides(object: &Bound<'_, PyAny>) -> PyErr {
    let message = "the array steps by parts of an element (a field of a record?); numpy.ascontiguousarray() makes a copy";
    Class::Array.error(object.py(), message)
}

#[cold]
fn unsupported_dtype(object: &Bound<'_, PyAny>, found: &str) -> PyErr {
    let message = format!(
        "{} of dtype {found}: norms are taken of float64, float32, float16, bfloat16 and float8 \
         (e4m3fn, e5m2 and their fnuz kin)",
        type_name(object)
    );
    Class::ArrayType.error(object.py(), message)
}

/// `torch.Tensor`, `numpy.ndarray`, `list`: what a message calls the argument.
fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().fully_qualified_name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
