//! `freeze=True` on a NumPy array: it is read-only to everybody while it is lent, and writeable again after.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::gil::{self, Deferred};
use crate::numpy_abi::{ArrayObject, WRITEABLE};

/// How often each array is lent frozen now. Only touched with the GIL held, and the lock is never held across Python.
static FROZEN: Mutex<Option<HashMap<usize, usize>>> = Mutex::new(None);

fn with<R>(f: impl FnOnce(&mut HashMap<usize, usize>) -> R) -> R {
    f(FROZEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(HashMap::new))
}

/// Whether an array is read-only only because it is lent frozen.
pub(crate) fn is_frozen(array: *mut ffi::PyObject) -> bool {
    with(|frozen| frozen.contains_key(&array.addr()))
}

/// Freezes a writeable array, and gives what thaws it when dropped: a context and a function for
/// [`freehold::Owner::Raw`].
///
/// # Safety
///
/// * `array` is a `numpy.ndarray` that is writeable, or frozen already.
pub(crate) unsafe fn freeze(array: &Bound<'_, PyAny>) -> (*mut c_void, unsafe fn(*mut c_void)) {
    let pointer = array.clone().into_ptr();
    with(|frozen| *frozen.entry(pointer.addr()).or_insert(0) += 1);
    // SAFETY: an array by the caller's word, whose flags only change with the GIL held.
    unsafe { (*pointer.cast::<ArrayObject>()).flags &= !WRITEABLE };
    (pointer.cast(), give_back)
}

/// # Safety
///
/// * `array` came from [`freeze`], and is given up.
unsafe fn give_back(array: *mut c_void) {
    gil::give_back(Deferred::Thaw(array.cast()));
}

/// Makes an array writeable again if nobody else has it frozen, and drops the reference.
///
/// # Safety
///
/// * The GIL is held; `array` came from [`freeze`], and is given up.
pub(crate) unsafe fn thaw(array: *mut ffi::PyObject) {
    let last = with(|frozen| match frozen.get_mut(&array.addr()) {
        Some(count) if *count > 1 => {
            *count -= 1;
            false
        }
        _ => frozen.remove(&array.addr()).is_some(),
    });
    // SAFETY: the array is alive by our reference, and was writeable when it was frozen.
    unsafe {
        if last {
            (*array.cast::<ArrayObject>()).flags |= WRITEABLE;
        }
        ffi::Py_DECREF(array);
    }
}
