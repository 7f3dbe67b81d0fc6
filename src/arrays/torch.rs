//! What torch tensors need beyond a pointer: refusals in words, and news of what was written.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::{Access, Array, type_name};
use crate::errors::Class;

/// `torch.Tensor`, if torch has been imported: without it nothing can be one.
fn tensor_type(py: Python<'_>) -> Option<&Bound<'_, PyType>> {
    static TENSOR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let imported = || {
        let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
        let class = modules.get_item(intern!(py, "torch"))?.getattr(intern!(py, "Tensor"))?;
        Ok::<_, PyErr>(class.cast_into::<PyType>()?.unbind())
    };
    TENSOR.get_or_try_init(py, imported).ok().map(|class| class.bind(py))
}

fn is_tensor(object: &Bound<'_, PyAny>) -> bool {
    tensor_type(object.py()).is_some_and(|class| object.is_instance(class).unwrap_or(false))
}

/// The same memory without autograd, for the capsules of torch, which refuse what requires grad.
pub(super) fn detached<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if is_tensor(object) && object.getattr(intern!(py, "requires_grad"))?.is_truthy()? {
        return object.call_method0(intern!(py, "detach"));
    }
    Ok(object.clone())
}

/// Borrows with `borrow`, and says in words why a tensor cannot be borrowed.
pub(super) fn explained<'py>(
    object: &Bound<'py, PyAny>,
    access: Access,
    borrow: impl FnOnce() -> PyResult<Array<'py>>,
) -> PyResult<Array<'py>> {
    let py = object.py();
    if access == Access::Write && is_tensor(object) {
        check_in_place(object)?;
        let mut array = borrow().map_err(|error| explain(object, error))?;
        if array.keep.is_unflagged() {
            // A torch from before DLPack 1 has no flags to say so, but tensors are writable.
            array.read_only = false;
        }
        return Ok(array);
    }
    borrow()
        .map_err(|error| if is_tensor(object) { explain(object, error) } else { foreign(py, object, error) })
}

/// Refuses in-place work that autograd would not see, or that would be lost.
fn check_in_place(tensor: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = tensor.py();
    if tensor.getattr(intern!(py, "requires_grad"))?.is_truthy()? {
        let torch = py.import(intern!(py, "torch"))?;
        if torch.call_method0(intern!(py, "is_grad_enabled"))?.is_truthy()? {
            let message = "the tensor requires grad, and a change in place would be invisible to autograd; \
                           call it under torch.no_grad(), or pass x.detach()";
            return Err(Class::Array.error(py, message));
        }
    }
    if tensor.call_method0(intern!(py, "is_neg"))?.is_truthy()? {
        let message = "the tensor is a lazily negated view; x.resolve_neg() makes it plain memory";
        return Err(Class::Array.error(py, message));
    }
    Ok(())
}

/// An error of ours as it is; torch's own refusal with the facts that explain it.
#[cold]
fn explain(tensor: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = tensor.py();
    if Class::Base.is_class_of(py, &error) {
        return error;
    }
    let fact = |name| tensor.getattr(name).and_then(|value| value.str()).map(|text| text.to_string());
    let fact = |name| fact(name).unwrap_or_else(|_| "unknown".to_owned());
    let message = format!(
        "{} of layout {} on device {} has no plain CPU memory to work on",
        type_name(tensor),
        fact("layout"),
        fact("device")
    );
    caused(py, Class::ArrayType.error(py, message), error)
}

/// An exporter's own refusal as our error, with the exporter's as its cause.
#[cold]
fn foreign(py: Python<'_>, object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    use pyo3::exceptions::{PyException, PyMemoryError};
    if Class::Base.is_class_of(py, &error)
        || !error.is_instance_of::<PyException>(py)
        || error.is_instance_of::<PyMemoryError>(py)
    {
        return error;
    }
    let message = format!("{} cannot be read as an array: {}", type_name(object), error.value(py));
    caused(py, Class::ArrayType.error(py, message), error)
}

fn caused(py: Python<'_>, error: PyErr, cause: PyErr) -> PyErr {
    error.set_cause(py, Some(cause));
    error
}

/// Makes autograd notice a write, as it would one of torch's own operations.
pub(super) fn written(object: &Bound<'_, PyAny>) -> PyResult<()> {
    static INCREMENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    if !is_tensor(object) {
        return Ok(());
    }
    let increment = INCREMENT.import(py, "torch.autograd.graph", "increment_version")?;
    increment.call1((object,)).map(drop)
}
