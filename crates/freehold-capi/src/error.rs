//! Statuses and errors.

use std::ffi::{CString, c_char};
use std::ptr::NonNull;
use std::sync::OnceLock;

use freehold::Error;

use crate::guard::{Failure, Outcome, calm};
use crate::handles::{self, Handle, Head};

/// What became of a call.
pub type fh_status = i32;

/// It did what it says.
pub const FH_OK: fh_status = 0;
/// A tensor, a capsule or a policy does not allow it.
pub const FH_REJECTED: fh_status = 1;
/// An argument of the call is not valid.
pub const FH_INVALID_ARGUMENT: fh_status = 2;
/// Memory for the result could not be had.
pub const FH_OUT_OF_MEMORY: fh_status = 3;
/// A defect of Freehold.
pub const FH_INTERNAL: fh_status = 4;
/// A file could not be written, or a sink refused.
pub const FH_IO: fh_status = 5;

/// Why a call failed. Its text is written when it is asked for: many callers only look at the code.
#[cfg_attr(all(), repr(C))]
pub struct fh_error {
    head: Head,
    status: fh_status,
    error: Error,
    text: OnceLock<Text>,
}

// SAFETY: it begins with its head.
unsafe impl Handle for fh_error {
    const NAME: &'static str = "fh_error";
    const KIND: u16 = handles::ERROR;
}

struct Text {
    message: CString,
    fixes: Vec<CString>,
}

/// Text for C: a NUL inside would cut it off.
pub(crate) fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|e| {
        let bytes = e.into_vec().into_iter().filter(|b| *b != 0).collect::<Vec<u8>>();
        CString::new(bytes).unwrap_or_default()
    })
}

impl fh_error {
    pub(crate) fn new(failure: Failure) -> *mut fh_error {
        let Failure { status, error } = failure;
        let made = fh_error { head: Head::of::<fh_error>(), status, error, text: OnceLock::new() };
        handles::hand_out(NonNull::from(Box::leak(Box::new(made))))
    }

    /// The error behind a handle.
    ///
    /// # Safety
    ///
    /// * `error` is NULL, misaligned, or an error that lives for `'a`.
    unsafe fn of<'a>(error: *const fh_error) -> Outcome<&'a fh_error> {
        // SAFETY: forwarded from the caller.
        unsafe { handles::find(error, "error").map(|at| at.as_ref()) }
    }

    fn text(&self) -> &Text {
        self.text.get_or_init(|| Text {
            message: c_string(self.error.to_string()),
            fixes: self.error.fixes().iter().cloned().map(c_string).collect(),
        })
    }
}

/// Status of an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_error_code(error: *const fh_error) -> fh_status {
    // SAFETY: the header asks for NULL or an error that lives.
    calm(FH_INTERNAL, || unsafe { fh_error::of(error) }.map_or(FH_OK, |e| e.status))
}

/// Reason of an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_error_reason(error: *const fh_error) -> i32 {
    // SAFETY: as above.
    calm(0, || unsafe { fh_error::of(error) }.map_or(0, |e| e.error.code() as i32))
}

/// Message of an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_error_message(error: *const fh_error) -> *const c_char {
    // SAFETY: as above.
    calm(c"".as_ptr(), || unsafe { fh_error::of(error) }.map_or(c"".as_ptr(), |e| e.text().message.as_ptr()))
}

/// One fix of an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_error_fix(error: *const fh_error, index: usize) -> *const c_char {
    calm(std::ptr::null(), || {
        // SAFETY: as above.
        let fix = unsafe { fh_error::of(error) }.ok().and_then(|e| e.text().fixes.get(index));
        fix.map_or(std::ptr::null(), |fix| fix.as_ptr())
    })
}

/// Frees an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_error_free(error: *mut fh_error) {
    calm((), || {
        // SAFETY: the header asks for NULL or an error that a call handed out and that was not freed.
        unsafe { handles::give_up(error).map(|at| drop(Box::from_raw(at.as_ptr()))) };
    });
}
