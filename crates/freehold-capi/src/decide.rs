//! Decisions.

use std::ffi::{CString, c_char};
use std::ptr::NonNull;
use std::sync::OnceLock;

use freehold::tensor_algebra::Dims;
use freehold::{Decision, Device, Label, Layout, Message, Sync, Tensor, TensorDesc, Traits, Verdict, decide};

use crate::args::{invalid, output};
use crate::error::{c_string, fh_error, fh_status};
use crate::guard::{Outcome, calm, guard};
use crate::handles::{self, Handle, Head};
use crate::options::{self, Sized32};
use crate::request::{Question, fh_caps, fh_request};
use crate::tensor::{fh_tensor, tensor_of};

/// Nothing waits.
pub const FH_WAIT_NONE: i32 = 0;
/// A stream waits.
pub const FH_WAIT_EVENT: i32 = 1;
/// The host waits.
pub const FH_WAIT_HOST: i32 = 2;

/// What a decision costs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_cost {
    pub struct_size: u32,
    pub steps: u32,
    pub bytes_copied: u64,
    pub bytes_allocated: u64,
    pub sync: i32,
    pub writable: i32,
}

/// One reason of a decision.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct fh_reason {
    pub struct_size: u32,
    pub code: i32,
    pub info: i32,
    pub reserved0: u32,
    pub name: *const c_char,
    pub detail: *const c_char,
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8, integers only.
unsafe impl Sized32 for fh_cost {
    const NAME: &'static str = "fh_cost";
}

// SAFETY: `repr(C)`, the size is first, the alignment is 8; integers and pointers.
unsafe impl Sized32 for fh_reason {
    const NAME: &'static str = "fh_reason";
}

/// A decision, and everything that its words are made of.
#[cfg_attr(all(), repr(C))]
pub struct fh_decision {
    head: Head,
    pub(crate) decision: Decision,
    pub(crate) question: Question,
    source: Source,
    explanation: OnceLock<CString>,
    details: OnceLock<Vec<CString>>,
}

// SAFETY: it begins with its head.
unsafe impl Handle for fh_decision {
    const NAME: &'static str = "fh_decision";
    const KIND: u16 = handles::DECISION;
}

/// The metadata that a decision was made from, without its memory.
struct Source {
    address: u64,
    device: Device,
    dtype: freehold::DType,
    traits: Traits,
    framework: Label,
    shape: Dims,
    strides: Dims,
}

impl Source {
    fn of(desc: &TensorDesc<'_>) -> Self {
        let &TensorDesc { address, device, dtype, layout, traits, framework } = desc;
        let (shape, strides) = (Dims::from_slice(layout.shape), Dims::from_slice(layout.strides));
        Self { address, device, dtype, traits, framework, shape, strides }
    }

    fn desc(&self) -> TensorDesc<'_> {
        let &Self { address, device, dtype, traits, framework, .. } = self;
        TensorDesc { address, device, dtype, layout: Layout::new(&self.shape, &self.strides), traits, framework }
    }
}

impl fh_decision {
    /// Whether a decision made from this is one for the tensor: everything that `decide` looks at is the same.
    pub(crate) fn is_for(&self, tensor: &Tensor) -> bool {
        let desc = tensor.desc();
        let Source { address, device, dtype, traits, framework, shape, strides } = &self.source;
        (*address, *device, *dtype, *traits, *framework)
            == (desc.address, desc.device, desc.dtype, desc.traits, desc.framework)
            && (&shape[..], &strides[..]) == (desc.layout.shape, desc.layout.strides)
    }
}

/// Decides.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_decide(
    tensor: *const fh_tensor,
    request: *const fh_request,
    caps: *const fh_caps,
    out: *mut *mut fh_decision,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        let out = output(out, "out")?;
        // SAFETY: the header asks for a tensor that lives, and for NULL or structs as large as they say.
        let (tensor, question) = unsafe {
            let tensor = tensor_of(tensor, "tensor")?;
            let question = Question::read(request, caps, &tensor)?;
            (tensor, question)
        };
        let desc = tensor.desc();
        let Question { request, caps, policy } = &question;
        let made = fh_decision {
            head: Head::of::<fh_decision>(),
            decision: decide(&desc, request, caps, policy),
            question,
            source: Source::of(&desc),
            explanation: OnceLock::new(),
            details: OnceLock::new(),
        };
        hand_out(out, made);
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

fn hand_out(out: NonNull<*mut fh_decision>, made: fh_decision) {
    // SAFETY: `output` checked the place, and the header asks that it be writable.
    unsafe { out.write(handles::hand_out(NonNull::from(Box::leak(Box::new(made))))) };
}

/// The decision behind a handle.
///
/// # Safety
///
/// * `decision` is NULL, misaligned, or a decision that lives for `'a`.
pub(crate) unsafe fn decision_of<'a>(decision: *const fh_decision) -> Outcome<&'a fh_decision> {
    // SAFETY: forwarded from the caller.
    unsafe { handles::find(decision, "decision").map(|at| at.as_ref()) }
}

/// The verdict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_decision_verdict(decision: *const fh_decision) -> i32 {
    calm(Verdict::Reject as i32, || {
        // SAFETY: the header asks for NULL or a decision that lives.
        unsafe { decision_of(decision) }.map_or(Verdict::Reject as i32, |d| d.decision.verdict as i32)
    })
}

/// The cost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_decision_cost(
    decision: *const fh_decision,
    out: *mut fh_cost,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for a decision that lives and a struct as large as it says.
        let (decision, size) = unsafe { (&decision_of(decision)?.decision, options::writable(out)?) };
        let cost = fh_cost {
            struct_size: 0,
            steps: u32::from(decision.steps.bits()),
            bytes_copied: decision.bytes_copied,
            bytes_allocated: decision.bytes_allocated,
            sync: match decision.sync {
                Sync::None => FH_WAIT_NONE,
                Sync::Event => FH_WAIT_EVENT,
                Sync::Host => FH_WAIT_HOST,
            },
            writable: i32::from(decision.is_ok() && decision.writable),
        };
        // SAFETY: checked above.
        unsafe { options::write(out, size, cost) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// The number of reasons.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_decision_reason_count(decision: *const fh_decision) -> usize {
    // SAFETY: the header asks for NULL or a decision that lives.
    calm(0, || unsafe { decision_of(decision) }.map_or(0, |d| d.decision.reasons.len()))
}

/// One reason.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_decision_reason(
    decision: *const fh_decision,
    index: usize,
    out: *mut fh_reason,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        // SAFETY: the header asks for a decision that lives and a struct as large as it says.
        let (handle, size) = unsafe { (decision_of(decision)?, options::writable(out)?) };
        let reasons = &handle.decision.reasons;
        let Some(reason) = reasons.get(index) else {
            return Err(invalid("index", index, &format!("be below {}, the number of reasons", reasons.len())));
        };
        let details =
            handle.details.get_or_init(|| reasons.iter().map(|r| c_string(r.detail.to_string())).collect::<Vec<_>>());
        let detail = details.get(index).map_or(c"".as_ptr(), |detail| detail.as_ptr());
        let reason = fh_reason {
            struct_size: 0,
            code: reason.code as i32,
            info: i32::from(reason.code.is_info()),
            reserved0: 0,
            name: crate::ledger::lasting(reason.code.name()),
            detail,
        };
        // SAFETY: checked above.
        unsafe { options::write(out, size, reason) };
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// The decision in words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_decision_explain(decision: *const fh_decision) -> *const c_char {
    calm(c"".as_ptr(), || {
        // SAFETY: the header asks for NULL or a decision that lives.
        let Ok(handle) = (unsafe { decision_of(decision) }) else { return c"".as_ptr() };
        let words = handle
            .explanation
            .get_or_init(|| c_string(Message::explain(&handle.question.asked(handle.source.desc()), &handle.decision)));
        words.as_ptr()
    })
}

/// Frees a decision.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_decision_free(decision: *mut fh_decision) {
    calm((), || {
        // SAFETY: the header asks for NULL or a decision that was handed out and not freed.
        unsafe { handles::give_up(decision).map(|at| drop(Box::from_raw(at.as_ptr()))) };
    });
}
