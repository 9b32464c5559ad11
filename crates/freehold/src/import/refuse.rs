//! Refusals of what walks in: apart, because nearly nothing is refused, and each takes longer than what is taken.

use std::ptr::NonNull;

use crate::dialect::Advice;
use crate::dlpack::{self, DLManagedTensorVersioned, DLPackVersion};
use crate::{Code, Decision, Dialect, Error, FieldError, Message, Reason, trace};

#[cold]
#[inline(never)]
pub(super) fn bad_pointer<T>(pointer: *mut T) -> Error {
    match NonNull::new(pointer) {
        None => Error::argument("the capsule pointer", "NULL", "point to a managed tensor"),
        Some(p) => Error::argument("the capsule pointer", format!("{p:p}"), "be aligned to 8 bytes"),
    }
}

#[cold]
#[inline(never)]
pub(super) fn refused(error: FieldError) -> Error {
    trace::refused(error.field, &error.value);
    Error::capsule(error)
}

/// # Safety
///
/// `raw` is a versioned managed tensor that the caller gives up, of a major version that is not ours.
#[cold]
#[inline(never)]
pub(super) unsafe fn refuse_major(raw: NonNull<DLManagedTensorVersioned>, version: DLPackVersion) -> Error {
    // SAFETY: dlpack.h keeps version, manager_ctx, deleter and flags where they are in every major version, so that
    // the deleter can be called.
    let deleter = unsafe { (&raw const (*raw.as_ptr()).deleter).read() };
    if let Some(deleter) = deleter {
        // SAFETY: the caller gives the capsule up, and this is the only call.
        unsafe { deleter(raw.as_ptr()) };
    }
    let DLPackVersion { major, minor } = version;
    let mut message = Message::plain(
        Code::VE01,
        format!("DLPack {major}.{minor}: unknown major version; contents not read, deleter called."),
        Advice::OlderVersion.say(Dialect::Rust),
    );
    message.lines.push(format!("this build reads {}.x", dlpack::VERSION.0));
    let reason = Reason::text(Code::VE01, format!("{major}.{minor}; this build reads {}.x", dlpack::VERSION.0));
    Error::rejected(message, Some(Decision::reject(reason)))
}
