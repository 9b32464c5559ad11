//! The boundary around every body: panics stop here, and an error is handed out where the caller asked for one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use freehold::{Code, Dialect, Error, Runtime};
use freehold_ledger::Counter;

use crate::error::{FH_INTERNAL, FH_INVALID_ARGUMENT, FH_OK, FH_OUT_OF_MEMORY, FH_REJECTED, fh_error, fh_status};

/// Why a call fails: the status for the program, the error for a person.
pub(crate) struct Failure {
    pub(crate) status: fh_status,
    pub(crate) error: Error,
}

/// What a body returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.code() {
            Code::AR01 => FH_INVALID_ARGUMENT,
            Code::ME01 => FH_OUT_OF_MEMORY,
            Code::IN01 => FH_INTERNAL,
            _ => FH_REJECTED,
        };
        Self { status, error: error.in_dialect(Dialect::C) }
    }
}

/// Runs the body of a call that can fail.
///
/// # Safety
///
/// * `error` is NULL, misaligned, or points to a writable `fh_error *`.
#[inline]
pub(crate) unsafe fn guard(error: *mut *mut fh_error, body: impl FnOnce() -> Outcome) -> fh_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => FH_OK,
        Ok(Err(failure)) => {
            // SAFETY: forwarded from the caller.
            unsafe { report(failure, error) }
        }
        Err(payload) => {
            // SAFETY: forwarded from the caller.
            unsafe { report(caught(payload), error) }
        }
    }
}

/// Runs the body of a call that cannot fail; `neutral` is its answer if it panics.
#[inline]
pub(crate) fn calm<T>(neutral: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        drop(caught(payload));
        neutral
    })
}

/// # Safety
///
/// As [`guard`].
#[cold]
unsafe fn report(failure: Failure, error: *mut *mut fh_error) -> fh_status {
    let status = failure.status;
    if !error.is_null() && error.is_aligned() {
        // SAFETY: not NULL and aligned, so the caller says that it is writable.
        unsafe { error.write(fh_error::new(failure)) };
    }
    status
}

#[cold]
fn caught(payload: Box<dyn Any + Send>) -> Failure {
    let what = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without words".to_owned(),
    };
    // Dropping an unknown payload could panic again; its few bytes are leaked instead.
    std::mem::forget(payload);
    Runtime::global().ledger().count(Counter::PanicsCaught);
    Failure::from(Error::internal(&what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{fh_error_free, fh_error_message, fh_error_reason};

    #[test]
    fn an_error_speaks_c() {
        let t = freehold::Tensor::from(vec![1.0f32]).read_only();
        let refused = t.to_legacy(&freehold::ExportOptions::default()).err().expect("it is read-only");
        let failure = Failure::from(refused);
        assert_eq!(failure.status, FH_REJECTED);
        assert!(failure.error.fixes()[0].contains("fh_export_versioned("), "{}", failure.error);
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let before = Runtime::global().ledger().counted(Counter::PanicsCaught);
        let mut error = std::ptr::null_mut();
        // SAFETY: `error` is a local.
        let status = unsafe { guard(&raw mut error, || panic!("dropped {}", 1)) };
        assert_eq!(status, FH_INTERNAL);
        assert_eq!(Runtime::global().ledger().counted(Counter::PanicsCaught), before + 1);
        // SAFETY: the error was just made, and is freed once.
        unsafe {
            assert_eq!(fh_error_reason(error), Code::IN01 as i32);
            let text = std::ffi::CStr::from_ptr(fh_error_message(error)).to_str().unwrap();
            assert!(text.contains("dropped 1"), "{text}");
            fh_error_free(error);
        }
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { guard(std::ptr::null_mut(), || std::panic::panic_any(7u8)) }, FH_INTERNAL);
        assert_eq!(calm(3, || panic!("again")), 3);
    }
}
