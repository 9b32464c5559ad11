//! `fh.Tensor.__dlpack__`.

use std::ffi::CStr;

use freehold::dlpack::{CAPSULE_LEGACY, CAPSULE_VERSIONED, VERSION};
use freehold::{
    Error, ExportOptions, LegacyCapsule, Request, Tensor, VersionedCapsule, drop_unconsumed_legacy,
    drop_unconsumed_versioned,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::PyTensor;
use crate::arguments::{copy_rule, stream_argument};
use crate::error::raise;
use crate::names::shown;
use crate::{call, device};

/// A capsule as the array API says: legacy unless `max_version[0] >= 1`, a copy if `copy` or `dl_device` need one.
pub(super) fn export<'py>(
    py: Python<'py>,
    tensor: &PyTensor,
    stream: Option<&Bound<'py, PyAny>>,
    max_version: Option<&Bound<'py, PyAny>>,
    dl_device: Option<&Bound<'py, PyAny>>,
    copy: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyCapsule>> {
    crate::gil::drain(py);
    let copy = match copy.filter(|v| !v.is_none()) {
        None => None,
        Some(value) => Some(
            value
                .extract::<bool>()
                .map_err(|_| raise(py, Error::argument("copy", shown(value), "be True, False or None")))?,
        ),
    };
    // SAFETY: to read a field runs no Python code.
    let own_device = unsafe { tensor.borrowed(py, |tensor| Ok(tensor.device())) }.map_err(|error| raise(py, error))?;
    let version = match max_version.filter(|v| !v.is_none()) {
        None => None,
        Some(pair) => Some(pair.extract::<(u32, u32)>().map_err(|_| {
            raise(py, Error::argument("max_version", shown(pair), "be a pair of integers, such as (1, 3)"))
        })?),
    };
    let device = match dl_device.filter(|v| !v.is_none()) {
        None => None,
        Some(value) => Some(device::argument(value)?),
    };
    if let Some(stream) = stream.filter(|v| !v.is_none())
        && own_device.kind.is_host()
    {
        return Err(raise(
            py,
            Error::argument("stream", shown(stream), "be None for host memory, which has no stream"),
        ));
    }
    let stream = match stream.filter(|v| !v.is_none()) {
        None => None,
        Some(stream) => Some(stream_argument(stream)?),
    };
    let mut made = None;
    if copy == Some(true) || device.is_some_and(|device| device != own_device) {
        let source = tensor.tensor(py).map_err(|error| raise(py, error))?;
        made = Some(call::execute_on(
            py,
            &source,
            &Request { copy: copy_rule(copy), device, stream, ..Request::default() },
        )?);
    }
    let options = ExportOptions {
        consumer: crate::site::caller(py),
        site: crate::site::here(py),
        max_version: version.unwrap_or((0, 8)),
        stream,
        ..ExportOptions::default()
    };
    match version {
        Some((major, _)) if major >= VERSION.0 => versioned_capsule(
            py,
            from(py, tensor, made, |tensor| tensor.to_versioned(&options)).map_err(|error| raise(py, error))?,
        ),
        _ => legacy_capsule(
            py,
            from(py, tensor, made, |tensor| tensor.to_legacy(&options)).map_err(|error| raise(py, error))?,
        ),
    }
}

/// The Python object around a versioned capsule.
pub(crate) fn versioned_capsule(py: Python<'_>, managed: VersionedCapsule) -> PyResult<Bound<'_, PyCapsule>> {
    // SAFETY: the managed tensor is ours until the capsule has it, and its deleter is its own.
    unsafe { wrap(py, managed.into_raw(), CAPSULE_VERSIONED, destroy_versioned, |m| (*m).deleter) }
}

/// The Python object around a legacy capsule.
pub(crate) fn legacy_capsule(py: Python<'_>, managed: LegacyCapsule) -> PyResult<Bound<'_, PyCapsule>> {
    // SAFETY: as above.
    unsafe { wrap(py, managed.into_raw(), CAPSULE_LEGACY, destroy_legacy, |m| (*m).deleter) }
}

/// Exports from the one handle that there is: a clone would be a second holder of a copy, which then is no longer the
/// consumer's alone.
fn from<R>(
    py: Python<'_>,
    own: &PyTensor,
    made: Option<Tensor>,
    export: impl FnOnce(&Tensor) -> Result<R, Error>,
) -> Result<R, Error> {
    match made {
        Some(made) => export(&made),
        // SAFETY: an export runs no Python code.
        None => unsafe { own.borrowed(py, export) },
    }
}

/// # Safety
///
/// * `managed` is owned by the caller, and its deleter is the one that `deleter` reads.
unsafe fn wrap<'py, M>(
    py: Python<'py>,
    managed: *mut M,
    name: &'static CStr,
    destructor: unsafe extern "C" fn(*mut ffi::PyObject),
    deleter: impl FnOnce(*mut M) -> Option<unsafe extern "C" fn(*mut M)>,
) -> PyResult<Bound<'py, PyCapsule>> {
    // SAFETY: the pointer is not NULL, the name is static, and the destructor gets the capsule once.
    unsafe {
        let capsule = ffi::PyCapsule_New(managed.cast(), name.as_ptr(), Some(destructor));
        if capsule.is_null() {
            let error = PyErr::fetch(py);
            if let Some(deleter) = deleter(managed) {
                deleter(managed);
            }
            return Err(error);
        }
        Ok(Bound::from_owned_ptr(py, capsule).cast_into_unchecked())
    }
}

/// Frees what nobody consumed. A consumer renames the capsule, or clears this destructor, or both.
///
/// # Safety
///
/// * Called by the interpreter, with a capsule that is being freed.
unsafe fn destroy<M>(capsule: *mut ffi::PyObject, name: &CStr, drop_unconsumed: unsafe fn(*mut M)) {
    // SAFETY: the object is a capsule; the name test sets no exception. The capsule still owns the managed tensor, which
    // is ours.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, name.as_ptr()) == 0 {
            return;
        }
        let managed = ffi::PyCapsule_GetPointer(capsule, name.as_ptr()).cast::<M>();
        crate::gil::keeping_error(Python::assume_attached(), || drop_unconsumed(managed));
    }
}

unsafe extern "C" fn destroy_versioned(capsule: *mut ffi::PyObject) {
    // SAFETY: forwarded from the interpreter.
    unsafe { destroy(capsule, CAPSULE_VERSIONED, drop_unconsumed_versioned) }
}

unsafe extern "C" fn destroy_legacy(capsule: *mut ffi::PyObject) {
    // SAFETY: forwarded from the interpreter.
    unsafe { destroy(capsule, CAPSULE_LEGACY, drop_unconsumed_legacy) }
}
