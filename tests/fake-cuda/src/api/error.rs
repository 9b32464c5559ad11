//! `cuGetErrorName` and `cuGetErrorString`: of no state, not counted, never failing by request.

use std::ffi::c_char;
use std::ptr;

use crate::status::Status;

/// # Safety
///
/// * `place` is null or a place for a pointer.
unsafe fn text(status: i32, place: *mut *const c_char, pick: fn((&'static str, &'static str)) -> &'static str) -> i32 {
    if place.is_null() {
        return Status::INVALID_VALUE.0;
    }
    let text = Status(status).text().map(pick);
    // SAFETY: the caller gives a place; the texts end with a NUL and live for ever.
    unsafe { place.write(text.map_or(ptr::null(), |text| text.as_ptr().cast())) };
    if text.is_some() { 0 } else { Status::INVALID_VALUE.0 }
}

/// The name of a result.
///
/// # Safety
///
/// * `place` is null or a place for a pointer.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the driver's name")]
pub unsafe extern "C" fn cuGetErrorName(status: i32, place: *mut *const c_char) -> i32 {
    // SAFETY: the caller gives a place.
    unsafe { text(status, place, |texts| texts.0) }
}

/// A sentence about a result.
///
/// # Safety
///
/// * `place` is null or a place for a pointer.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the driver's name")]
pub unsafe extern "C" fn cuGetErrorString(status: i32, place: *mut *const c_char) -> i32 {
    // SAFETY: the caller gives a place.
    unsafe { text(status, place, |texts| texts.1) }
}
