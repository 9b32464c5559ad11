//! The C functions behind `share`, `convert` and `from_dlpack`.
//!
//! PyO3's own entry finds a dozen arguments and readies the process for whatever may follow. Nearly every call is
//! `f(x)` or `f(x, "torch")` for a type that was seen before, and shares plainly: that call is carried out here. Every
//! other one, and every refusal, goes through PyO3's entry with the arguments as they came, so there is one reading of
//! them and one wording of what is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use freehold::Error;
use pyo3::ffi::{self, Py_ssize_t, PyMethodDef, PyMethodDefPointer, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::call;
use crate::error::raise;
use crate::target::Target;

/// PyO3's entry of a function, and the definition that has ours in its place.
struct Verb {
    pyo3: ffi::PyCFunctionFastWithKeywords,
    ours: PyMethodDef,
}

// SAFETY: a definition is only read.
unsafe impl Send for Verb {}
// SAFETY: as above.
unsafe impl Sync for Verb {}

/// A function whose plain calls are carried out here.
struct Entry {
    verb: OnceLock<Verb>,
    /// How many positional arguments it takes.
    most: usize,
    never_copies: bool,
}

impl Entry {
    const fn new(most: usize, never_copies: bool) -> Entry {
        Entry { verb: OnceLock::new(), most, never_copies }
    }
}

static SHARE: Entry = Entry::new(2, true);
static CONVERT: Entry = Entry::new(2, false);
static FROM_DLPACK: Entry = Entry::new(1, false);

macro_rules! entry {
    ($name:ident, $entry:ident) => {
        unsafe extern "C" fn $name(
            module: *mut PyObject,
            arguments: *const *mut PyObject,
            count: Py_ssize_t,
            names: *mut PyObject,
        ) -> *mut PyObject {
            // SAFETY: called by the interpreter, with the GIL held and arguments as the flags of the definition say.
            unsafe { enter(&$entry, module, arguments, count, names) }
        }
    };
}

entry!(share, SHARE);
entry!(convert, CONVERT);
entry!(from_dlpack, FROM_DLPACK);

/// # Safety
///
/// * The GIL is held; the arguments are those of a vectorcall without self.
#[inline(always)]
unsafe fn enter(
    entry: &'static Entry,
    module: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: by the caller's word.
    let py = unsafe { Python::assume_attached() };
    if names.is_null() && (1..=entry.most).contains(&count.cast_unsigned()) {
        // SAFETY: the array has `count` borrowed references, which the caller of a call keeps until it is over.
        let (x, to) = unsafe {
            let x = Bound::<PyAny>::ref_from_ptr(py, &*arguments);
            (x, (count == 2).then(|| Bound::<PyAny>::ref_from_ptr(py, &*arguments.add(1))))
        };
        if let Some(target) = Target::usual(to) {
            match catch_unwind(AssertUnwindSafe(|| call::plainly(py, x, target, entry.never_copies))) {
                Ok(Some(result)) => return result,
                Ok(None) => {}
                Err(_) => return call::given(py, Err(raise(py, Error::internal("a panic in a plain call")))),
            }
        }
    }
    let Some(verb) = entry.verb.get() else {
        return call::given(py, Err(raise(py, Error::internal("a function without its definition"))));
    };
    // SAFETY: forwarded from the caller, to a function that takes the same.
    unsafe { (verb.pyo3)(module, arguments, count, names) }
}

/// Puts our entries in the place of PyO3's, under the same names, with the same signatures and texts.
pub(crate) fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let entries: [(&str, &'static Entry, ffi::PyCFunctionFastWithKeywords); 3] =
        [("share", &SHARE, share), ("convert", &CONVERT, convert), ("from_dlpack", &FROM_DLPACK, from_dlpack)];
    for (name, entry, ours) in entries {
        let function = module.getattr(name)?.cast_into::<PyCFunction>()?;
        // SAFETY: the object is a C function, whose definition and module live as long as it does, and PyO3's definitions
        // are static.
        let replacement = unsafe {
            let object = function.as_ptr().cast::<ffi::PyCFunctionObject>();
            let made = &*(*object).m_ml;
            if made.ml_flags != ffi::METH_FASTCALL | ffi::METH_KEYWORDS {
                continue;
            }
            let verb = entry.verb.get_or_init(|| Verb {
                pyo3: made.ml_meth.PyCFunctionFastWithKeywords,
                ours: PyMethodDef {
                    ml_name: made.ml_name,
                    ml_meth: PyMethodDefPointer { PyCFunctionFastWithKeywords: ours },
                    ml_flags: made.ml_flags,
                    ml_doc: made.ml_doc,
                },
            });
            let definition: *const PyMethodDef = &verb.ours;
            let function = ffi::PyCFunction_NewEx(definition.cast_mut(), (*object).m_self, (*object).m_module);
            Bound::from_owned_ptr_or_err(module.py(), function)?
        };
        module.setattr(name, replacement)?;
    }
    Ok(())
}
