//! Arrow's own arrays of numbers, through the capsule that they give of themselves. It says what the C data interface says of
//! them, without a schema to be written and read.

use std::ffi::c_void;

use freehold::dlpack::{
    CAPSULE_VERSIONED, CAPSULE_VERSIONED_USED, DLManagedTensorVersioned, VERSION, device_from, dtype_from,
};
use freehold::{ImportOptions, Owner, Tensor};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyType};

use super::{Fail, protocol};

/// The classes of `pyarrow.lib` whose elements are the numbers of one dtype.
const NUMBERS: [&str; 11] = [
    "Int8Array",
    "Int16Array",
    "Int32Array",
    "Int64Array",
    "UInt8Array",
    "UInt16Array",
    "UInt32Array",
    "UInt64Array",
    "HalfFloatArray",
    "FloatArray",
    "DoubleArray",
];

/// Whether an object's type is one of Arrow's for plain numbers, of a release that has versioned capsules: it warns of others.
pub(super) fn is_of_numbers(x: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<bool> {
    let module: String = class.getattr("__module__")?.extract()?;
    Ok(module == "pyarrow.lib"
        && class.hasattr("__dlpack__")?
        && class.hasattr("offset")?
        && NUMBERS.contains(&&*class.name()?.to_string_lossy())
        && protocol::takes_max_version(x, class)?)
}

/// An array as a tensor that keeps it; `None` if Arrow gives no capsule of it, or none of memory of the host.
pub(super) fn import(x: &Bound<'_, PyAny>, options: &ImportOptions) -> Result<Option<Tensor>, Fail> {
    let py = x.py();
    let capsule = match protocol::plain_capsule(x, true) {
        Ok(capsule) => capsule,
        // Of an array with nulls.
        Err(error) if error.is_instance_of::<PyTypeError>(py) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !capsule.is_instance_of::<PyCapsule>() {
        return Ok(None);
    }
    let offset: i64 = x.getattr(pyo3::intern!(py, "offset"))?.extract()?;
    // SAFETY: the object is a capsule, which nobody else has; a wrong name gives NULL with an exception, which is cleared.
    let managed = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), CAPSULE_VERSIONED.as_ptr()) };
    if managed.is_null() {
        drop(PyErr::take(py));
        return Ok(None);
    }
    let managed = managed.cast::<DLManagedTensorVersioned>();
    // SAFETY: a capsule of this name holds a managed tensor that nobody has taken, whose version can be read whatever it is;
    // what is copied is plain data.
    let (view, length) = unsafe {
        if (*managed).version.major != VERSION.0 {
            return Ok(None);
        }
        let view = (*managed).dl_tensor;
        if view.ndim != 1 || view.shape.is_null() || !device_from(view.device).kind.is_host() {
            return Ok(None);
        }
        (view, *view.shape)
    };
    // The buffer from its start, as the C data interface shows it: slices of one array are views of one buffer.
    let size = dtype_from(view.dtype).padded_size() as i64;
    let bytes = |n: i64| n.checked_mul(size).and_then(|n| u64::try_from(n).ok());
    let first = (view.data.addr() as u64).checked_add(view.byte_offset);
    let alloc = match (first, bytes(offset), offset.checked_add(length).and_then(bytes)) {
        (Some(first), Some(before), Some(end)) if !view.data.is_null() => first.checked_sub(before).map(|at| (at, end)),
        _ => None,
    };
    // SAFETY: the object is a capsule, and the name is static: from here on the managed tensor is ours to release.
    unsafe {
        ffi::PyCapsule_SetName(capsule.as_ptr(), CAPSULE_VERSIONED_USED.as_ptr());
        ffi::PyCapsule_SetDestructor(capsule.as_ptr(), None);
    }
    let owner = Owner::Raw { context: managed.cast(), drop: release };
    // SAFETY: Arrow describes its array truly, and keeps its buffer readable until the managed tensor is released, which it
    // lets any thread do; nothing is written, as the traits in the options say.
    let tensor = unsafe { Tensor::from_dltensor(&view, owner, &ImportOptions { alloc, ..options.clone() }) };
    tensor.map(Some).map_err(|(error, _owner)| error.into())
}

/// # Safety
///
/// * `managed` was taken out of a capsule, and is given up.
unsafe fn release(managed: *mut c_void) {
    let managed = managed.cast::<DLManagedTensorVersioned>();
    // SAFETY: by the caller's word.
    unsafe {
        if let Some(deleter) = (*managed).deleter {
            deleter(managed);
        }
    }
}
