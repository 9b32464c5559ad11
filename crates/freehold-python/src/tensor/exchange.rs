//! The C exchange table of `fh.Tensor`: other runtimes reach its memory without a Python frame.

use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use freehold::dlpack::{
    DLManagedTensorVersioned, DLPackExchangeAPI, DLPackExchangeAPIHeader, DLPackVersion, DLTensor, VERSION,
    device_from, dtype_from,
};
use freehold::tensor_algebra::MAX_NDIM;
use freehold::{Code, Error, ExportOptions, ImportOptions, Label, Message, Tensor};
use pyo3::ffi;
use pyo3::prelude::*;

use super::PyTensor;
use crate::error::raise;
use crate::source::exchange::CAPSULE_NAME;

/// A table with pointers in it, shared by reference only.
struct Table(DLPackExchangeAPI);

// SAFETY: the table is never written to.
unsafe impl Sync for Table {}

static TABLE: Table = Table(DLPackExchangeAPI {
    header: DLPackExchangeAPIHeader {
        version: DLPackVersion { major: VERSION.0, minor: VERSION.1 },
        prev_api: ptr::null_mut(),
    },
    managed_tensor_allocator: Some(allocate),
    managed_tensor_from_py_object_no_sync: Some(from_object),
    managed_tensor_to_py_object_no_sync: Some(to_object),
    dltensor_from_py_object_no_sync: Some(view_of_object),
    current_work_stream: Some(current_stream),
});

/// The capsule that the type carries.
pub(super) fn capsule(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let table: *const DLPackExchangeAPI = &TABLE.0;
    // SAFETY: table and name are static.
    unsafe {
        let capsule = ffi::PyCapsule_New(table.cast_mut().cast(), CAPSULE_NAME.as_ptr(), None);
        Ok(Bound::from_owned_ptr_or_err(py, capsule)?.unbind())
    }
}

/// Runs the body of an entry that reports errors as Python exceptions.
fn entry(body: impl FnOnce(Python<'_>) -> PyResult<()>) -> c_int {
    // SAFETY: DLPack's callers hold the GIL in the functions that take or give Python objects.
    let py = unsafe { Python::assume_attached() };
    let result = catch_unwind(AssertUnwindSafe(|| body(py)))
        .unwrap_or_else(|_| Err(raise(py, Error::internal("a panic in the exchange table"))));
    match result {
        Ok(()) => 0,
        Err(error) => {
            error.restore(py);
            -1
        }
    }
}

fn tensor_of(py: Python<'_>, object: *mut c_void) -> PyResult<Tensor> {
    object_of(py, object)?.get().tensor(py).map_err(|error| raise(py, error))
}

fn object_of(py: Python<'_>, object: *mut c_void) -> PyResult<Bound<'_, PyTensor>> {
    // SAFETY: the caller passes a Python object that is alive.
    let object = unsafe { Bound::from_borrowed_ptr(py, object.cast()) };
    Ok(object.cast_into::<PyTensor>()?)
}

unsafe extern "C" fn from_object(object: *mut c_void, out: *mut *mut DLManagedTensorVersioned) -> c_int {
    entry(|py| {
        let object = object_of(py, object)?;
        // Without a synchronisation of its own: the consumer takes it that our work is on the stream that we name, the default.
        let options = ExportOptions { taken: true, stream: None, ..ExportOptions::default() };
        // From the object's own handle: a clone would be a second holder of a copy.
        // SAFETY: an export runs no Python code.
        let managed = unsafe { object.get().borrowed(py, |tensor| tensor.to_versioned(&options)) };
        let managed = managed.map_err(|error| raise(py, error))?;
        // SAFETY: the caller gives a place to write to.
        unsafe { out.write(managed.into_raw()) };
        Ok(())
    })
}

unsafe extern "C" fn to_object(managed: *mut DLManagedTensorVersioned, out: *mut *mut c_void) -> c_int {
    entry(|py| {
        // SAFETY: the caller gives the managed tensor up; it is taken whether or not it is accepted, as the table's
        // documentation says ("stolen").
        let tensor = match unsafe { Tensor::from_versioned(managed, &ImportOptions::default()) } {
            Ok(tensor) => tensor,
            Err(error) => {
                if error.code() != Code::VE01 && !managed.is_null() {
                    // SAFETY: as above; on this error nothing was taken.
                    unsafe { crate::source::exchange::release(managed) };
                }
                return Err(raise(py, error));
            }
        };
        let object = PyTensor::object(py, tensor)?;
        // SAFETY: the caller gives a place to write to.
        unsafe { out.write(object.into_ptr().cast()) };
        Ok(())
    })
}

unsafe extern "C" fn view_of_object(object: *mut c_void, out: *mut DLTensor) -> c_int {
    entry(|py| {
        let tensor = tensor_of(py, object)?;
        // A bare struct has no flags: what may not be written to leaves only in a managed tensor.
        if !tensor.is_writable() {
            let text = format!("view({} -> DLTensor) would lose READ_ONLY.", tensor.desc());
            let fix = "use managed_tensor_from_py_object_no_sync, whose flags say that the memory is read-only";
            return Err(raise(py, Error::rejected(Message::plain(Code::RO01, text, fix), None)));
        }
        // Of a device, the values are in order on the stream that we name.
        tensor.use_on(None).map_err(|error| raise(py, error))?;
        // SAFETY: the caller gives a place to write to, and uses the view only until control returns to Python, for
        // which the object keeps its tensor.
        unsafe { out.write(tensor.as_dltensor()) };
        Ok(())
    })
}

/// DLPack's call-back for an allocation that failed.
type SetError = Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char)>;

unsafe extern "C" fn allocate(
    prototype: *mut DLTensor,
    out: *mut *mut DLManagedTensorVersioned,
    error_context: *mut c_void,
    set_error: SetError,
) -> c_int {
    let made = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller passes a prototype; its fields are plain data.
        let prototype = unsafe { &*prototype };
        let (dtype, device) = (dtype_from(prototype.dtype), device_from(prototype.device));
        let ndim = usize::try_from(prototype.ndim).ok().filter(|ndim| *ndim <= MAX_NDIM);
        let shape: &[i64] = match ndim.ok_or_else(|| Error::argument("ndim", prototype.ndim, "be from 0 to 64"))? {
            0 => &[],
            _ if prototype.shape.is_null() => {
                return Err(Error::argument("shape", "NULL", "not be NULL when ndim > 0"));
            }
            // SAFETY: the shape of the caller's prototype has `ndim` values.
            ndim => unsafe { std::slice::from_raw_parts(prototype.shape, ndim) },
        };
        let options = ImportOptions { framework: Label::FREEHOLD, ..ImportOptions::default() };
        let tensor = Tensor::zeros_on(device, dtype, shape, &options)?;
        tensor.to_versioned(&ExportOptions { taken: true, ..ExportOptions::default() })
    }));
    let error = match made {
        Ok(Ok(managed)) => {
            // SAFETY: the caller gives a place to write to.
            unsafe { out.write(managed.into_raw()) };
            return 0;
        }
        Ok(Err(error)) => error,
        Err(_) => Error::internal("a panic in the exchange table"),
    };
    if let Some(set_error) = set_error {
        let kind = if error.is_out_of_memory() { c"MemoryError" } else { c"BufferError" };
        let text = CString::new(error.to_string().replace('\0', " ")).expect("the NULs were replaced");
        // SAFETY: context and function belong together by the table's documentation; the strings outlive the call.
        unsafe { set_error(error_context, kind.as_ptr(), text.as_ptr()) };
    }
    -1
}

unsafe extern "C" fn current_stream(_kind: freehold::dlpack::DLDeviceType, _id: i32, out: *mut *mut c_void) -> c_int {
    // SAFETY: the caller gives a place to write to. Nothing here ever launches work, so the default stream is right.
    unsafe { out.write(ptr::null_mut()) };
    0
}
