//! Giving Python objects back from wherever a deleter runs.
//!
//! A DLPack deleter may be called from any thread, with or without the GIL, in the middle of another library's lock,
//! and after the interpreter is gone. It never takes the GIL here: what needs it is put on a list without locks (so a
//! forked child cannot inherit a lock that nobody will release) and dropped at the next entry into this module, or by
//! the interpreter itself through a pending call, whichever is first.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use freehold::Runtime;
use freehold::ledger::Counter;
use pyo3::ffi;
use pyo3::prelude::*;

/// Something of Python's that a tensor kept alive.
pub(crate) enum Deferred {
    /// A strong reference.
    Object(*mut ffi::PyObject),
    /// An export of the buffer protocol.
    Buffer(*mut ffi::Py_buffer),
    /// A frozen array, which becomes writeable again: a strong reference.
    Thaw(*mut ffi::PyObject),
}

struct Node {
    what: Deferred,
    next: *mut Node,
}

static HEAD: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());
/// Set by `atexit`: from then on, objects given back by other threads are left alone.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether this thread holds the GIL. `PyGILState_Check` answers "yes" everywhere once a sub-interpreter was made.
fn holds_gil() -> bool {
    // SAFETY: both functions may be called at any time by any thread; they read thread-local or atomic state.
    unsafe {
        let current = ffi::compat::PyThreadState_GetUnchecked();
        !current.is_null() && current == ffi::PyGILState_GetThisThreadState()
    }
}

/// Gives something back, from any thread: now if this thread holds the GIL, later if not, never if the interpreter
/// is shutting down.
pub(crate) fn give_back(what: Deferred) {
    // SAFETY: may be called at any time.
    if unsafe { ffi::Py_IsInitialized() } == 0 {
        Runtime::global().ledger().count(Counter::LeakedAtShutdown);
        return;
    }
    if holds_gil() {
        // In the order in which they were given back, as far as threads have one.
        // SAFETY: the GIL is held, and the reference is ours to give.
        unsafe {
            drain(Python::assume_attached());
            drop_now(what);
        }
        return;
    }
    if CLOSED.load(Ordering::Acquire) {
        Runtime::global().ledger().count(Counter::LeakedAtShutdown);
        return;
    }
    let node = Box::into_raw(Box::new(Node { what, next: ptr::null_mut() }));
    let mut head = HEAD.load(Ordering::Relaxed);
    loop {
        // SAFETY: the node is ours until it is published.
        unsafe { (*node).next = head };
        match HEAD.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => head = now,
        }
    }
    Runtime::global().ledger().count(Counter::DeferredDrops);
    // Whoever put the first node on the list made the pending call that drops them all. That the interpreter's queue is
    // full is no loss: the next entry into this module drains the list too.
    if head.is_null() {
        // SAFETY: may be called by any thread, without the GIL; the function is static.
        unsafe { ffi::Py_AddPendingCall(Some(pending), ptr::null_mut()) };
    }
}

extern "C" fn pending(_: *mut c_void) -> c_int {
    // SAFETY: the interpreter makes pending calls with the GIL held.
    drain(unsafe { Python::assume_attached() });
    0
}

/// Drops what was given back without the GIL. One relaxed load where there is nothing.
#[inline]
pub(crate) fn drain(py: Python<'_>) {
    if !HEAD.load(Ordering::Relaxed).is_null() {
        drain_all(py);
    }
}

#[cold]
fn drain_all(py: Python<'_>) {
    keeping_error(py, || {
        let mut node = HEAD.swap(ptr::null_mut(), Ordering::Acquire);
        while !node.is_null() {
            // SAFETY: taken off the list as a whole, so nobody else has these nodes; each was a box.
            let Node { what, next } = *unsafe { Box::from_raw(node) };
            // SAFETY: the GIL is held, and the reference is ours to give.
            unsafe { drop_now(what) };
            node = next;
        }
    });
}

/// Runs what may call a foreign deleter. That may run Python code, which must neither see nor lose an exception that is
/// on its way: an object is often dropped by the very code that unwinds.
#[inline]
pub(crate) fn keeping_error(py: Python<'_>, f: impl FnOnce()) {
    // SAFETY: the GIL is held, as `py` proves.
    if unsafe { ffi::PyErr_Occurred() }.is_null() {
        return f();
    }
    let error = PyErr::take(py);
    f();
    if let Some(error) = error {
        error.restore(py);
    }
}

/// # Safety
///
/// * The GIL is held, and what is given has not been given back before.
unsafe fn drop_now(what: Deferred) {
    match what {
        // SAFETY: forwarded from the caller.
        Deferred::Object(object) => unsafe { ffi::Py_DECREF(object) },
        Deferred::Buffer(view) => {
            // SAFETY: the view was a box, filled by `PyObject_GetBuffer`.
            let mut view = unsafe { Box::from_raw(view) };
            // SAFETY: as above.
            unsafe { ffi::PyBuffer_Release(&mut *view) };
        }
        // SAFETY: forwarded from the caller.
        Deferred::Thaw(array) => unsafe { crate::freeze::thaw(array) },
    }
}

/// [`freehold::Owner::Raw`]'s function for a strong reference.
///
/// # Safety
///
/// * `object` is a strong reference that is given up.
pub(crate) unsafe fn drop_object(object: *mut c_void) {
    give_back(Deferred::Object(object.cast()));
}

/// Called by `atexit`, while the interpreter is whole: drops what waits, leaves alone what comes later, and writes the
/// ledger where `FREEHOLD_LEDGER` says.
#[pyfunction]
pub(crate) fn _shutdown(py: Python<'_>) {
    CLOSED.store(true, Ordering::Release);
    drain(py);
    crate::ledger::still_lent_at_shutdown();
    // Before the interpreter drops its objects, which would leave nothing to see, and may crash.
    freehold::exit::save();
}
