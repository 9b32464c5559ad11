//! The C exchange table (DLPack 1.2 and later): a tensor in one C call, without a Python frame.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use freehold::dlpack::{self, DLManagedTensorVersioned, DLPackExchangeAPI, DLTensor, VERSION};
use freehold::{Code, Device, DeviceKind, ImportOptions, Label, Stream, Tensor, Traits};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyInt, PyType};

use super::{Ask, Fail, Imported};

pub(crate) const CAPSULE_NAME: &std::ffi::CStr = c"dlpack_exchange_api";

/// The table of a type, from its capsule (1.3) or its integer (1.2); `None` if it has none of our major version.
pub(crate) fn table_of(class: &Bound<'_, PyType>) -> PyResult<Option<NonNull<DLPackExchangeAPI>>> {
    let pointer = if let Some(capsule) = class.getattr_opt("__dlpack_c_exchange_api__")? {
        if !capsule.is_instance_of::<PyCapsule>() {
            return Ok(None);
        }
        // SAFETY: the object is a capsule; a wrong name gives NULL with an exception, which is cleared.
        let pointer = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), CAPSULE_NAME.as_ptr()) };
        if pointer.is_null() {
            drop(PyErr::take(class.py()));
        }
        pointer
    } else if let Some(number) = class.getattr_opt("__c_dlpack_exchange_api__")? {
        if !number.is_instance_of::<PyInt>() {
            return Ok(None);
        }
        ptr::with_exposed_provenance_mut::<c_void>(number.extract::<usize>()?)
    } else {
        return Ok(None);
    };
    let mut table = pointer.cast::<DLPackExchangeAPI>();
    while !table.is_null() {
        // SAFETY: DLPack says that the table is static, and that its header can be read whatever its version.
        let header = unsafe { (*table).header };
        if header.version.major == VERSION.0 {
            return Ok(NonNull::new(table));
        }
        table = header.prev_api.cast();
    }
    Ok(None)
}

/// A table that was looked for once.
pub(crate) struct Shared(PyOnceLock<Option<NonNull<DLPackExchangeAPI>>>);

// SAFETY: tables are static memory that nobody writes to, as DLPack asks.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) const fn new() -> Shared {
        Shared(PyOnceLock::new())
    }

    pub(crate) fn get(
        &self,
        py: Python<'_>,
        find: impl FnOnce() -> PyResult<Option<NonNull<DLPackExchangeAPI>>>,
    ) -> PyResult<Option<NonNull<DLPackExchangeAPI>>> {
        self.0.get_or_try_init(py, find).copied()
    }
}

/// A managed tensor from an object whose type has the table. The caller owns it.
///
/// # Safety
///
/// * `table` is the exchange table of the object's type.
#[inline]
pub(crate) unsafe fn managed_from(
    x: &Bound<'_, PyAny>,
    table: NonNull<DLPackExchangeAPI>,
) -> PyResult<*mut DLManagedTensorVersioned> {
    let mut managed = ptr::null_mut();
    // SAFETY: a table of our major version has this entry; the object is of the table's type by the caller's word.
    unsafe {
        let Some(from_py) = (*table.as_ptr()).managed_tensor_from_py_object_no_sync else {
            return Err(pyo3::exceptions::PyBufferError::new_err("the exchange table has no producer function"));
        };
        if from_py(x.as_ptr().cast(), &mut managed) != 0 || managed.is_null() {
            return Err(PyErr::fetch(x.py()));
        }
    }
    Ok(managed)
}

/// What an object's tensor looks like until control returns to Python. Nobody owns it.
///
/// # Safety
///
/// * `table` is the exchange table of the object's type.
#[inline]
pub(crate) unsafe fn look(x: &Bound<'_, PyAny>, table: NonNull<DLPackExchangeAPI>) -> PyResult<DLTensor> {
    let mut view = MaybeUninit::<DLTensor>::zeroed();
    // SAFETY: a table of our major version has this entry; the object is of the table's type by the caller's word. All zeros
    // are a value of the struct, whatever the function writes of it.
    unsafe {
        let Some(view_of) = (*table.as_ptr()).dltensor_from_py_object_no_sync else {
            return Err(pyo3::exceptions::PyBufferError::new_err("the exchange table has no function for a view"));
        };
        if view_of(x.as_ptr().cast(), view.as_mut_ptr()) != 0 {
            return Err(PyErr::fetch(x.py()));
        }
        Ok(view.assume_init())
    }
}

/// The stream that a framework works on, by DLPack's number; `None` where it has none, or does not say.
pub(crate) fn work_stream(table: NonNull<DLPackExchangeAPI>, device: Device) -> Option<Stream> {
    if !matches!(device.kind, DeviceKind::CUDA | DeviceKind::CUDA_MANAGED) {
        return None;
    }
    let mut stream = ptr::null_mut();
    // SAFETY: a table of our major version has this entry, which writes a handle and may be called with the GIL held, as
    // everything here is.
    let asked = unsafe {
        let current = (*table.as_ptr()).current_work_stream?;
        current(dlpack::device_to(device).device_type, device.id, &mut stream)
    };
    // CUDA's NULL is the legacy default stream, which DLPack calls 1.
    let number = if stream.is_null() { Stream::LEGACY_DEFAULT } else { Stream(stream.expose_provenance() as i64) };
    if asked != 0 {
        // A build without CUDA, or no device: said by whoever uses the stream.
        // SAFETY: the interpreter is attached, as it was for the call of the table's function.
        drop(PyErr::take(unsafe { Python::assume_attached() }));
        return None;
    }
    Some(number)
}

/// Imports a managed tensor that we own, and releases it if it is refused.
///
/// # Safety
///
/// * `managed` is an initialised managed tensor that the caller owns and gives up.
#[inline]
pub(crate) unsafe fn take(managed: *mut DLManagedTensorVersioned, options: &ImportOptions) -> Result<Tensor, Fail> {
    // SAFETY: forwarded from the caller.
    match unsafe { Tensor::from_versioned(managed, options) } {
        Ok(tensor) => Ok(tensor),
        Err(error) => {
            // On an error the capsule is still ours, except after an unknown major version.
            if error.code() != Code::VE01 {
                // SAFETY: the caller gave the managed tensor up, and nobody has released it.
                unsafe { release(managed) };
            }
            Err(error.into())
        }
    }
}

/// Calls a managed tensor's deleter, if it has one.
///
/// # Safety
///
/// * `managed` is owned by the caller, who gives it up.
pub(crate) unsafe fn release(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: by the caller's word.
    unsafe {
        if let Some(deleter) = (*managed).deleter {
            deleter(managed);
        }
    }
}

/// An object of any type with a table.
pub(super) fn import(
    x: &Bound<'_, PyAny>,
    table: NonNull<DLPackExchangeAPI>,
    framework: Label,
    ask: &Ask<'_, '_>,
    traits: Traits,
) -> Result<Imported, Fail> {
    // SAFETY: the table was found on the object's type.
    let managed = unsafe { managed_from(x, table) }?;
    let mut options = ask.options(framework, traits, None);
    // SAFETY: `managed_from` made us its owner, and the device is plain data.
    options.stream = work_stream(table, dlpack::device_from(unsafe { (*managed).dl_tensor.device }));
    // SAFETY: as above.
    unsafe { take(managed, &options) }.map(Imported::from)
}
