//! Call sites: the line of Python behind a handover, on the ledger from level 3 on.

use freehold::ledger::Level;
use freehold::{Label, Runtime};
use pyo3::ffi;
use pyo3::prelude::*;

/// `train.py:31`, for the line that called us; nothing below level 3.
#[inline]
pub(crate) fn here(py: Python<'_>) -> Label {
    if Runtime::global().ledger().level() < Level::Sites { Label::NONE } else { look(py).unwrap_or(Label::NONE) }
}

#[cold]
fn look(py: Python<'_>) -> Option<Label> {
    // A function of ours has no frame, so the current one is the caller's.
    // SAFETY: the GIL is held, as `py` proves; the frame is borrowed, and lives while we are called from it.
    let (line, code) = unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            return None;
        }
        let code = Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetCode(frame).cast())?;
        (ffi::PyFrame_GetLineNumber(frame), code)
    };
    let file = code.getattr(pyo3::intern!(py, "co_filename")).ok()?;
    Some(Label::intern(&format!("{}:{line}", file.extract::<String>().ok()?)))
}

/// The package of the Python code that called us, from level 3 on: who takes a capsule that nobody put a name on.
#[inline]
pub(crate) fn caller(py: Python<'_>) -> Label {
    if Runtime::global().ledger().level() < Level::Sites {
        Label::UNKNOWN
    } else {
        package(py).unwrap_or(Label::UNKNOWN)
    }
}

#[cold]
fn package(py: Python<'_>) -> Option<Label> {
    // SAFETY: the GIL is held, as `py` proves; the globals are borrowed from the frame that called us.
    let globals = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetGlobals()) }?;
    let name: String = globals.get_item(pyo3::intern!(py, "__name__")).ok()?.extract().ok()?;
    let package = name.split('.').next().filter(|package| !package.starts_with("__"))?;
    Some(Label::intern(package))
}
