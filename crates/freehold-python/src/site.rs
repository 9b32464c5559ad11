//! Call sites: the line of Python behind a handover, on the ledger from level 3 on.

use std::sync::{Mutex, TryLockError};

use freehold::ledger::Level;
use freehold::{Label, Runtime};
use pyo3::ffi;
use pyo3::prelude::*;

/// How many places in the code are remembered: a power of two.
const KEPT: usize = 256;

/// A place in the code whose name was made before. The code object is kept alive, so that its address names no other.
struct Known {
    code: Py<PyAny>,
    /// The instruction in it.
    at: i32,
    label: Label,
}

/// The places that called last, each where its address sends it.
static KNOWN: Mutex<[Option<Known>; KEPT]> = Mutex::new([const { None }; KEPT]);

/// `train.py:31 in step`, for the line that called us; nothing below level 3.
#[inline]
pub(crate) fn here(py: Python<'_>) -> Label {
    if Runtime::global().ledger().level() < Level::Sites { Label::NONE } else { look(py).unwrap_or(Label::NONE) }
}

#[cold]
fn look(py: Python<'_>) -> Option<Label> {
    // A function of ours has no frame, so the current one is the caller's.
    // SAFETY: the GIL is held, as `py` proves; the frame is borrowed, and lives while we are called from it.
    let (frame, at, code) = unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            return None;
        }
        let code = Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetCode(frame).cast())?;
        (frame, ffi::PyFrame_GetLasti(frame), code)
    };
    let place = place(&code, at);
    // Another thread that looks at this moment costs us the name's making, never a wait.
    if let Some(known) = known().as_ref().and_then(|known| known[place].as_ref())
        && known.code.is(&code)
        && known.at == at
    {
        return Some(known.label);
    }
    // SAFETY: as above.
    let line = unsafe { ffi::PyFrame_GetLineNumber(frame) };
    let label = name(py, &code, line)?;
    let new = Known { code: code.unbind(), at, label };
    let before = known().and_then(|mut known| known[place].replace(new));
    // After the lock: what watches a code object with a weak reference runs when it goes.
    drop(before);
    Some(label)
}

fn known() -> Option<std::sync::MutexGuard<'static, [Option<Known>; KEPT]>> {
    match KNOWN.try_lock() {
        Ok(known) => Some(known),
        // Nothing that panics is done under it.
        Err(TryLockError::Poisoned(known)) => Some(known.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Where a call site is remembered: objects are 16 bytes apart, instructions two.
fn place(code: &Bound<'_, PyAny>, at: i32) -> usize {
    let mixed = (code.as_ptr() as usize >> 4) ^ (at as usize >> 1);
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - KEPT.ilog2())) & (KEPT - 1)
}

/// `file:line in function`, the function with the classes around it; the body of a module is in none.
fn name(py: Python<'_>, code: &Bound<'_, PyAny>, line: i32) -> Option<Label> {
    let file: String = code.getattr(pyo3::intern!(py, "co_filename")).ok()?.extract().ok()?;
    let function: String = code.getattr(pyo3::intern!(py, "co_qualname")).ok()?.extract().ok()?;
    Some(match function.as_str() {
        "<module>" => Label::intern(&format!("{file}:{line}")),
        function => Label::intern(&format!("{file}:{line} in {function}")),
    })
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
