//! Objects of ours that are made and dropped by the million: the memory of the last few that died is kept for the next
//! ones. The interpreter's allocator, the collector's list and PyO3's own drop cost more than the rest of a hand-over.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::{PyClass, PyClassInitializer};

/// How many dead objects of a type are kept.
const KEPT: usize = 16;

/// What an object holds: nothing once it is dead, or was emptied. Everything needs the GIL, as the module declares.
pub(crate) struct Content<T>(UnsafeCell<Option<T>>);

// SAFETY: every method takes a token of the GIL, so no two threads are in one at a time; what is held is `Send + Sync`.
unsafe impl<T: Send + Sync> Sync for Content<T> {}

impl<T> Content<T> {
    pub(crate) const fn new(value: Option<T>) -> Self {
        Content(UnsafeCell::new(value))
    }

    /// A look at what is held.
    ///
    /// # Safety
    ///
    /// * `f` runs no Python code and does not let go of the GIL: either could empty this object.
    #[inline]
    pub(crate) unsafe fn look<R>(&self, _py: Python<'_>, f: impl FnOnce(Option<&T>) -> R) -> R {
        // SAFETY: only `put` and `take` write, with the GIL that `f` does not let go of.
        f(unsafe { (*self.0.get()).as_ref() })
    }

    /// Takes out what is held.
    #[inline]
    pub(crate) fn take(&self, _py: Python<'_>) -> Option<T> {
        // SAFETY: the GIL is held, and no look is under way, since a look calls nothing that comes here.
        unsafe { (*self.0.get()).take() }
    }

    /// Fills a new object.
    #[inline]
    fn put(&self, py: Python<'_>, value: T) {
        debug_assert!(self.take(py).is_none());
        // SAFETY: as in `take`; the object is new, and dead ones are empty, so there is nothing to drop.
        unsafe { self.0.get().write(Some(value)) };
    }
}

/// The memory of dead objects of one type.
pub(crate) struct Spares(UnsafeCell<([*mut ffi::PyObject; KEPT], usize)>);

// SAFETY: only used with the GIL held.
unsafe impl Sync for Spares {}

impl Spares {
    pub(crate) const fn new() -> Spares {
        Spares(UnsafeCell::new(([std::ptr::null_mut(); KEPT], 0)))
    }

    #[inline]
    fn pop(&self, _py: Python<'_>) -> Option<*mut ffi::PyObject> {
        // SAFETY: the GIL is held, and nothing is called while the reference lives.
        let (objects, count) = unsafe { &mut *self.0.get() };
        *count = count.checked_sub(1)?;
        objects.get(*count).copied()
    }

    /// `false` if there is no room.
    #[inline]
    fn push(&self, _py: Python<'_>, object: *mut ffi::PyObject) -> bool {
        // SAFETY: as above.
        let (objects, count) = unsafe { &mut *self.0.get() };
        let Some(place) = objects.get_mut(*count) else { return false };
        *place = object;
        *count += 1;
        true
    }
}

/// A class whose objects are recycled. They lead to no Python object that could lead back, so the collector need not
/// know them.
pub(crate) trait Recycled: PyClass<Frozen = True> + Sync {
    type Held: Send + Sync + 'static;

    /// An object as PyO3 makes it.
    fn holding(content: Content<Self::Held>) -> Self;

    fn content(&self) -> &Content<Self::Held>;

    fn spares() -> &'static Spares;

    /// Drops what a dead object held.
    #[inline]
    fn let_go(py: Python<'_>, held: Self::Held) {
        crate::gil::keeping_error(py, || drop(held));
    }
}

/// Has a class, a tuple struct of its [`Content`], recycle what holds `Held`; `let_go` where that takes more than to drop it.
macro_rules! recycled {
    ($class:ident, $held:ty $(, $let_go:item)?) => {
        impl $crate::recycle::Recycled for $class {
            type Held = $held;

            fn holding(content: $crate::recycle::Content<$held>) -> Self {
                $class(content)
            }

            #[inline]
            fn content(&self) -> &$crate::recycle::Content<$held> {
                &self.0
            }

            #[inline]
            fn spares() -> &'static $crate::recycle::Spares {
                static SPARES: $crate::recycle::Spares = $crate::recycle::Spares::new();
                &SPARES
            }

            $($let_go)?
        }
    };
}
pub(crate) use recycled;

/// Makes a class give its dead objects back here. Called before there is an object of it.
pub(crate) fn install<C: Recycled>(py: Python<'_>) {
    // SAFETY: the type is ours, has no subclass (PyO3 allows none unless it is told to) and no object yet; the GIL is held.
    unsafe { (*C::type_object_raw(py)).tp_dealloc = Some(dealloc::<C>) };
}

/// A new object.
#[inline]
pub(crate) fn object<C>(py: Python<'_>, held: C::Held) -> PyResult<Bound<'_, C>>
where
    C: Recycled + Into<PyClassInitializer<C>>,
{
    let Some(memory) = C::spares().pop(py) else { return first(py, held) };
    // SAFETY: the memory was an object of this type, emptied by `dealloc` and otherwise as PyO3 made it.
    let object = unsafe {
        Bound::from_owned_ptr(py, ffi::PyObject_Init(memory, C::type_object_raw(py))).cast_into_unchecked::<C>()
    };
    object.get().content().put(py, held);
    Ok(object)
}

#[cold]
fn first<C>(py: Python<'_>, held: C::Held) -> PyResult<Bound<'_, C>>
where
    C: Recycled + Into<PyClassInitializer<C>>,
{
    let object = Bound::new(py, C::holding(Content::new(Some(held))))?;
    // SAFETY: the object is new, and of a type that the collector knows; PyO3 makes all types so.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
    Ok(object)
}

/// `tp_dealloc`.
///
/// # Safety
///
/// * Called by the interpreter, with an object of the class that has no reference left.
unsafe extern "C" fn dealloc<C: Recycled>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter frees objects with the GIL held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the object is dead and ours; its memory is as PyO3 laid it out, with a list of weak references where the type
    // says. The type is alive while it has an object: the reference that the object had on it is given back last.
    let held = unsafe {
        let class = (*object).ob_type;
        ffi::PyObject_GC_UnTrack(object.cast());
        let offset = (*class).tp_weaklistoffset;
        if offset != 0 && !(*object.byte_offset(offset).cast::<*mut ffi::PyObject>()).is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let held = Bound::<PyAny>::ref_from_ptr(py, &object).cast_unchecked::<C>().get().content().take(py);
        if !C::spares().push(py, object) {
            let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
            free(object.cast());
        }
        ffi::Py_DECREF(class.cast());
        held
    };
    // Last, since it may run any code, which finds this object gone.
    if let Some(held) = held {
        C::let_go(py, held);
    }
}
