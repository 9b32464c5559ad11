//! Carrying decisions out.

use std::ffi::c_char;

use freehold::{copy_into, decide, execute};

use crate::args::{invalid, output, site};
use crate::decide::{decision_of, fh_decision};
use crate::error::{fh_error, fh_status};
use crate::guard::guard;
use crate::request::{Question, fh_caps, fh_request};
use crate::tensor::{fh_tensor, hand_out, tensor_of};

/// Carries a decision out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_execute(
    tensor: *const fh_tensor,
    decision: *const fh_decision,
    label: *const c_char,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for handles that live, and text or NULL.
        let (tensor, handle, site) = unsafe { (tensor_of(tensor, "tensor")?, decision_of(decision)?, site(label)) };
        if !handle.is_for(&tensor) {
            return Err(invalid("decision", "one for another tensor", "be made for this tensor"));
        }
        let asked = handle.question.asked(tensor.desc());
        let result = execute(&tensor, &handle.decision, &asked, site)?;
        // SAFETY: checked above.
        unsafe { hand_out(out, result) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Decides and executes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_convert(
    tensor: *const fh_tensor,
    request: *const fh_request,
    caps: *const fh_caps,
    label: *const c_char,
    out: *mut *mut fh_tensor,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for a tensor that lives, for NULL or structs as large as they say, and text or NULL.
        let (tensor, question, site) = unsafe {
            let tensor = tensor_of(tensor, "tensor")?;
            let question = Question::read(request, caps, &tensor)?;
            (tensor, question, site(label))
        };
        let asked = question.asked(tensor.desc());
        let decision = decide(&tensor.desc(), &question.request, &question.caps, &question.policy);
        let result = execute(&tensor, &decision, &asked, site)?;
        // SAFETY: checked above.
        unsafe { hand_out(out, result) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Copies into memory that is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_copy_into(
    source: *const fh_tensor,
    target: *const fh_tensor,
    request: *const fh_request,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for tensors that live, and for NULL or a struct as large as it says.
        let (source, target, question) = unsafe {
            let source = tensor_of(source, "source")?;
            let target = tensor_of(target, "target")?;
            let question = Question::read(request, std::ptr::null(), &source)?;
            (source, target, question)
        };
        let wanted = &question.request;
        if let Some(dtype) = wanted.dtype.filter(|dtype| *dtype != target.dtype()) {
            return Err(invalid("request.dtype", dtype, &format!("be the target's, {}, or all 0", target.dtype())));
        }
        if let Some(device) = wanted.device.filter(|device| *device != target.device()) {
            return Err(invalid("request.device", device, &format!("be the target's, {}, or all 0", target.device())));
        }
        let asked = question.asked(source.desc());
        // SAFETY: the header says that nobody else touches the target's memory during the call.
        unsafe { copy_into(&source, &target, &asked, freehold::Label::NONE) }?;
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}
