//! Arguments from C: NULL and misaligned pointers become errors, text becomes labels.

use std::ffi::{CStr, c_char};
use std::fmt::Display;
use std::ptr::NonNull;

use freehold::{Error, Label};

use crate::guard::{Failure, Outcome};

/// An argument that is not valid.
#[cold]
pub(crate) fn invalid(name: &str, value: impl Display, must: &str) -> Failure {
    Failure::from(Error::argument(name, value, must))
}

/// Whether both are aligned to eight bytes, and neither NULL nor above 2^63. `false` says nothing.
#[inline(always)]
pub(crate) fn are_places<A, B>(a: *const A, b: *const B) -> bool {
    // The sign and the bits that a multiple of eight has not, next to each other.
    ((a.addr().wrapping_sub(8)) | (b.addr().wrapping_sub(8))).rotate_left(1) & 0b1111 == 0
}

#[cold]
pub(crate) fn bad_pointer(address: usize, align: usize, name: &str) -> Failure {
    if address == 0 {
        return invalid(name, "NULL", "not be NULL");
    }
    invalid(name, format_args!("{address:#x}"), &format!("be aligned to {align} bytes"))
}

/// Where a result goes, checked before anything is done so that a success can always be reported.
#[inline]
pub(crate) fn output<T>(pointer: *mut T, name: &str) -> Outcome<NonNull<T>> {
    known_output(pointer).ok_or_else(|| bad_pointer(pointer.addr(), align_of::<T>(), name))
}

/// As [`output`]; what is wrong with it, another way is to say.
#[inline(always)]
pub(crate) fn known_output<T>(pointer: *mut T) -> Option<NonNull<T>> {
    NonNull::new(pointer).filter(|p| p.is_aligned())
}

/// Text that the caller passed, where it is not NULL. Bytes that are not UTF-8 are replaced.
///
/// # Safety
///
/// * `text` is NULL or points to bytes that end with NUL and live for the call.
pub(crate) unsafe fn text<R>(text: *const c_char, use_it: impl FnOnce(Option<&str>) -> R) -> R {
    if text.is_null() {
        return use_it(None);
    }
    // SAFETY: forwarded from the caller.
    let bytes = unsafe { CStr::from_ptr(text) };
    match bytes.to_str() {
        Ok(text) => use_it(Some(text)),
        Err(_) => use_it(Some(&bytes.to_string_lossy())),
    }
}

/// The two parts of a caller's label: `framework` or `framework@site`.
///
/// # Safety
///
/// As [`text`].
#[inline]
pub(crate) unsafe fn label(label: *const c_char) -> (Label, Label) {
    // SAFETY: forwarded from the caller.
    unsafe { known_label(label).map_or_else(|| new_label(label), |framework| (framework, Label::NONE)) }
}

/// The framework of a label that is a well-known name, or NULL. `None` says nothing.
///
/// # Safety
///
/// As [`text`].
#[inline(always)]
pub(crate) unsafe fn known_label(label: *const c_char) -> Option<Label> {
    // SAFETY: forwarded from the caller.
    if label.is_null() { Some(Label::C) } else { unsafe { Label::well_known_in_c(label) } }
}

/// # Safety
///
/// As [`text`].
#[cold]
unsafe fn new_label(label: *const c_char) -> (Label, Label) {
    let parts = |text: Option<&str>| match text {
        None => (Label::C, Label::NONE),
        Some(text) => match text.split_once('@') {
            None => (Label::intern(text), Label::NONE),
            Some((framework, site)) => (Label::intern(framework), Label::intern(site)),
        },
    };
    // SAFETY: forwarded from the caller.
    unsafe { text(label, parts) }
}

/// The place of a call: the whole label, unless it has the form `framework@site`.
///
/// # Safety
///
/// As [`text`].
pub(crate) unsafe fn site(label: *const c_char) -> Label {
    // SAFETY: forwarded from the caller.
    unsafe {
        text(label, |text| {
            text.map_or(Label::NONE, |text| Label::intern(text.split_once('@').map_or(text, |(_, site)| site)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_two_parts() {
        // SAFETY: literals end with NUL.
        unsafe {
            assert_eq!(label(std::ptr::null()), (Label::C, Label::NONE));
            assert_eq!(label(c"torch".as_ptr()), (Label::TORCH, Label::NONE));
            assert_eq!(label(c"torch@a.c:3@x".as_ptr()), (Label::TORCH, Label::intern("a.c:3@x")));
            assert_eq!(label(c"\xff".as_ptr()).0.as_str(), "\u{fffd}");
            assert_eq!(site(c"a.c:3".as_ptr()), Label::intern("a.c:3"));
            assert_eq!(site(c"torch@a.c:3".as_ptr()), Label::intern("a.c:3"));
        }
    }

    #[test]
    fn bad_pointers_are_named() {
        let odd = std::ptr::without_provenance_mut::<u64>(3);
        assert_eq!(output(odd, "out").err().unwrap().error.code(), freehold::Code::AR01);
        let text = output::<u64>(std::ptr::null_mut(), "out").err().unwrap().error.to_string();
        assert!(text.contains("out is NULL"), "{text}");
    }
}
