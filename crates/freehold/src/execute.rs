//! Carrying a decision out: share is another handle, everything else is one pass into new memory.

use freehold_ledger::{Edge, HolderId, Party, Role};
use freehold_tensor::copy::{self, CopyError, CopyOptions, Lazy, Operand};
use smallvec::SmallVec;

use crate::canary::Watch;
use crate::carry;
use crate::decision::{Decision, Detail, LossDetail, Reason};
use crate::import::{Place, Room};
use crate::message::{Asked, Message};
use crate::tensor::{Allocation, Inner, Owner, Tensor, unit_of};
use crate::validate::Valid;
use crate::{Caps, Code, Dialect, Error, Label, Policy, Request, Result, Runtime, Traits, Verdict, decide, trace};
use freehold_device::Buffer;

mod gather;
mod into;

pub use gather::{Along, gather};
pub use into::{copied_by_target, copy_for_target, copy_into};

/// Carries out a decision that was made for this tensor. `asked` words the refusals.
///
/// ```
/// use freehold::{Asked, Caps, Dialect, Label, Policy, Request, Tensor, decide, execute};
///
/// let t = Tensor::from(vec![1.0f32, 2.0]);
/// let (request, policy) = (Request::share(), Policy::default());
/// let decision = decide(&t.desc(), &request, &Caps::TORCH, &policy);
/// let asked = Asked::new(t.desc(), &request, &Caps::TORCH, &policy, Dialect::Rust);
/// let shared = execute(&t, &decision, &asked, Label::intern("train.rs:12"))?;
/// assert_eq!(shared.data_ptr(), t.data_ptr());
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// # Errors
///
/// The decision's own refusal; `AR01` where it was made for another tensor and shows it; `CA02` where a value does not
/// fit (nothing is handed out); `ME01` where memory for the result cannot be had. The source is untouched in every case.
pub fn execute(tensor: &Tensor, decision: &Decision, asked: &Asked<'_>, site: Label) -> Result<Tensor> {
    if decision.bit_view && tensor.dtype().bits_dtype() != Some(decision.dtype) {
        // Elements of another width would reach past the memory.
        return Err(Error::argument("the decision", "one for another tensor", "be made for this tensor"));
    }
    if trace::listens() {
        trace::decision(tensor, decision, asked.caps, site);
    }
    match decision.verdict {
        Verdict::Reject => Err(refuse(tensor.runtime(), asked, decision)),
        Verdict::Share => {
            order(tensor, decision, asked)?;
            Ok(share(tensor, decision, asked.caps.name, site))
        }
        Verdict::Copy => make_copy(tensor, decision, asked, site),
    }
}

/// The error for a decision that refuses, counted on the ledger.
fn refuse(runtime: &Runtime, asked: &Asked<'_>, decision: &Decision) -> Error {
    let message = Message::of(asked, decision);
    let from = asked.desc.map_or(Label::UNKNOWN, |d| d.framework);
    runtime.ledger().reject(from, Label::intern(asked.caps.name), message.code);
    Error::rejected(message, Some(decision.clone()))
}

/// Has the consumer's stream wait for the values of device memory that is shared, or the host where it gets them.
fn order(tensor: &Tensor, decision: &Decision, asked: &Asked<'_>) -> Result<()> {
    match (&tensor.0.flow, asked.request.stream) {
        (Some(flow), _) if decision.device.kind.is_host() => flow.wait(),
        (Some(flow), Some(stream)) => flow.hand_to_number(Some(stream)),
        _ => Ok(()),
    }
}

fn share(tensor: &Tensor, decision: &Decision, to: &str, site: Label) -> Tensor {
    let mut result = tensor.clone();
    let detach = decision.has(Code::GR02);
    let lock = !decision.writable && result.is_writable();
    if decision.bit_view || detach || lock || decision.trusted || decision.device != tensor.device() {
        result = result.derive(|inner| {
            if decision.bit_view {
                inner.dtype = decision.dtype;
            }
            if detach {
                inner.traits.remove(Traits::REQUIRES_GRAD);
                inner.traits |= Traits::DETACHED;
            }
            if lock {
                inner.traits |= Traits::READ_ONLY;
            }
            if decision.trusted {
                inner.traits.remove(Traits::READ_ONLY | Traits::IMMUTABLE);
            }
            inner.device = decision.device;
        });
    }
    if decision.freeze && !tensor.traits().contains(Traits::FROZEN) {
        // Last, so that it is the outermost handle that is watched: the one that is exported.
        result = result.watch_at(Label::intern(to), site);
    }
    // The caller's promise is on record, with the code that it overrules.
    let promise = if decision.trusted {
        let code = decision.code().unwrap_or(Code::RO01);
        Some((code, format!("{} shared with {to} as writable under readonly=\"trust\"", tensor.desc())))
    } else if decision.has(Code::AL03) {
        let desc = tensor.desc();
        Some((Code::AL03, format!("{desc} shared with {to}, which takes it for immutable, under alias=\"trust\"")))
    } else {
        None
    };
    if let Some((code, note)) = promise {
        let runtime = tensor.runtime();
        let with = Party { id: HolderId::NONE, framework: Label::intern(to), site };
        trace::hazard(runtime, code, &[runtime.ledger().party(tensor.id()), with], note);
    }
    result
}

fn make_copy(tensor: &Tensor, decision: &Decision, asked: &Asked<'_>, site: Label) -> Result<Tensor> {
    let _span = trace::copy(tensor, decision, asked.caps, site).entered();
    let inner = &*tensor.0;
    let padded = inner.traits.contains(Traits::PADDED) && decision.dtype == inner.dtype;
    let runtime = &inner.runtime;
    let source_dtype = if decision.bit_view { decision.dtype } else { inner.dtype };
    // On the consumer's stream; without one, where the source is in order already.
    let stream = asked.request.stream.filter(|stream| !stream.is_none());
    let near = inner.flow.as_ref().filter(|flow| decision.device.id == flow.context().ordinal());
    let stream = stream.or_else(|| near.map(|flow| flow.ready().number()));
    let room = Room { device: decision.device, align: decision.alignment, padded, stream };
    let (valid, place, buffer) = Tensor::allocate(decision.dtype, tensor.shape(), decision.order, room, runtime)?;
    let on_host = decision.device.kind.is_host();
    if decision.dtype.is_sub_byte() && on_host && !buffer.is_empty() {
        // Elements that share a byte are written one after the other, so the copy asks that the byte be initialised;
        // and bits that no element has would otherwise be somebody's old ones.
        // SAFETY: fresh host memory of this length, which nobody else has.
        unsafe { std::ptr::write_bytes(buffer.as_ptr(), 0, buffer.len()) };
    }
    let source = Operand { dtype: source_dtype, ..operand(tensor) };
    let target = Operand {
        data: buffer.as_ptr(),
        dtype: decision.dtype,
        layout: valid.layout(),
        unit: crate::StrideUnit::Elements,
        traits: if padded { Lazy::PADDED } else { Lazy::empty() },
    };
    let options = CopyOptions { threads: asked.policy.threads, ..CopyOptions::new(decision.on_loss) };
    if inner.device.kind.is_host() && on_host {
        // SAFETY: the source's extent was validated when it was imported and its owner keeps it readable; the target is
        // a fresh buffer of the extent that `allocate` computed, which nobody else has.
        unsafe { copy::copy(&target, &source, &options) }.map_err(|e| copy_error(runtime, asked, decision, e))?;
    } else {
        let to = carry::End { operand: target, device: decision.device, flow: place.flow.as_deref() };
        let from = carry::End { operand: source, device: inner.device, flow: inner.flow.as_deref() };
        // SAFETY: as above, and both ends say whose memory they are.
        unsafe { carry::copy(&to, &from, tensor, &options) }.map_err(|e| carry_error(runtime, asked, decision, e))?;
    }
    let result = finish(tensor, valid, place, buffer, decision, asked, site);
    debug_assert!(!result.overlaps(tensor).may(), "a copy must not alias its source");
    Ok(result)
}

/// A failure of a copy that involves a device, in the words of the call that asked for it.
fn carry_error(runtime: &Runtime, asked: &Asked<'_>, decision: &Decision, error: carry::CarryError) -> Error {
    match error {
        carry::CarryError::Copy(error) => copy_error(runtime, asked, decision, error),
        carry::CarryError::Failed(error) => {
            let from = asked.desc.map_or(Label::UNKNOWN, |d| d.framework);
            runtime.ledger().reject(from, Label::intern(asked.caps.name), error.code());
            error
        }
    }
}

/// How [`execute`] would make the copy that was decided for this tensor: the way through both layouts, the instruction
/// set, the threads that the policy allows. `None` where nothing is copied.
///
/// ```
/// use freehold::{Caps, DType, Policy, Request, Tensor, decide, describe};
///
/// let t = Tensor::from(vec![1.0f32, 2.0]);
/// let policy = Policy::default();
/// let plan = |request| describe(&t, &decide(&t.desc(), &request, &Caps::FREEHOLD, &policy), &policy);
/// let cast = plan(Request::convert().dtype(DType::F64)).expect("it is a copy");
/// assert_eq!((cast.class(), cast.threads()), ("run", 1));
/// assert!(plan(Request::share()).is_none());
/// ```
pub fn describe(tensor: &Tensor, decision: &Decision, policy: &Policy) -> Option<copy::Description> {
    if decision.verdict != Verdict::Copy || !tensor.device().kind.is_host() || !decision.device.kind.is_host() {
        return None;
    }
    let source = operand(tensor);
    let source = Operand { dtype: if decision.bit_view { decision.dtype } else { source.dtype }, ..source };
    let strides = freehold_tensor::compact_strides(tensor.shape(), decision.order).ok()?;
    let padded = source.traits & Lazy::PADDED;
    let target = Operand {
        // Nothing is read or written, and a block of ours begins where a page or a line does.
        data: std::ptr::null_mut(),
        dtype: decision.dtype,
        layout: crate::Layout::new(tensor.shape(), &strides),
        unit: crate::StrideUnit::Elements,
        traits: if decision.dtype == source.dtype { padded } else { Lazy::empty() },
    };
    let options = CopyOptions { threads: policy.threads, ..CopyOptions::new(decision.on_loss) };
    copy::describe(&target, &source, &options).ok()
}

/// How [`execute`] would make a copy that involves a device: the road, and the bytes that cross the link. `None` where there
/// is none.
///
/// ```
/// use freehold::{Caps, Policy, Request, Tensor, decide, road};
///
/// let t = Tensor::from(vec![1.0f32, 2.0]);
/// let decision = decide(&t.desc(), &Request::copy(), &Caps::FREEHOLD, &Policy::default());
/// assert_eq!(road(&t, &decision), None); // from host to host there is no link
/// ```
pub fn road(tensor: &Tensor, decision: &Decision) -> Option<String> {
    let on_host = tensor.device().kind.is_host() && decision.device.kind.is_host();
    if decision.verdict != Verdict::Copy || on_host {
        return None;
    }
    let source = operand(tensor);
    let dtype = if decision.bit_view { decision.dtype } else { source.dtype };
    carry::road(tensor, decision, Operand { dtype, ..source })
}

/// The new tensor of a copy, on the ledger with where it came from.
fn finish(
    source: &Tensor,
    valid: Valid,
    place: Place,
    buffer: Buffer,
    decision: &Decision,
    asked: &Asked<'_>,
    site: Label,
) -> Tensor {
    let from = &*source.0;
    let mut traits = Traits::IS_COPIED;
    traits.set(Traits::PADDED, from.traits.contains(Traits::PADDED) && decision.dtype == from.dtype);
    traits.set(Traits::READ_ONLY, !decision.writable);
    let mut result = Tensor(valid.dims.finish(Inner {
        data: valid.data,
        byte_offset: 0,
        device: decision.device,
        dtype: decision.dtype,
        traits,
        framework: Label::FREEHOLD,
        holder: HolderId::NONE,
        owns_record: false,
        alloc: Allocation::new(place.alloc),
        flow: place.flow,
        watch: Watch::ours(&from.runtime),
        runtime: from.runtime.clone(),
        owner: Owner::Buffer(buffer),
    }));
    let codes: SmallVec<[Code; 4]> = decision.codes();
    let edge = Edge {
        from: from.holder,
        from_framework: from.framework,
        to: Label::intern(asked.caps.name),
        verdict: Verdict::Copy,
        steps: decision.steps,
        reasons: &codes,
        bytes: decision.bytes_copied,
        sync: decision.sync,
    };
    result.record(Role::Owner, site, Some(&edge));
    result
}

/// A copy's failure in the words of the call that asked for it.
fn copy_error(runtime: &Runtime, asked: &Asked<'_>, decision: &Decision, error: CopyError) -> Error {
    let reason = match error {
        CopyError::Loss(loss) => {
            let index = loss.first_index.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let detail = LossDetail {
                count: loss.count,
                total: loss.total,
                index,
                value: loss.first_value.to_string(),
                to: loss.to,
            };
            Reason::new(Code::CA02, Detail::Loss(Box::new(detail)))
        }
        CopyError::Unsupported { from, to } => Reason::text(Code::DT02, format!("there is no cast {from} -> {to}")),
        CopyError::Forbidden { from, to } => {
            Reason::text(Code::CA02, format!("{from} -> {to} needs on_loss=\"allow\""))
        }
        CopyError::Shape(field) => Reason::new(Code::CP02, Detail::Field(field)),
        other => Reason::text(Code::DT02, other.to_string()),
    };
    let mut failed = decision.clone();
    failed.verdict = Verdict::Reject;
    failed.reasons.insert(0, reason);
    refuse(runtime, asked, &failed)
}

/// Decides and executes in one call.
///
/// ```
/// use freehold::{Caps, DType, Policy, Request, Tensor, convert};
///
/// let t = Tensor::from(vec![1i32, 2, 3]);
/// let wide = convert(&t, &Request::convert().dtype(DType::F64), &Caps::FREEHOLD, &Policy::default())?;
/// assert_eq!(wide.view::<f64>()?.to_vec(), [1.0, 2.0, 3.0]);
/// // 300 does not fit a byte: nothing is handed out.
/// let t = Tensor::from(vec![300i32]);
/// let refused = convert(&t, &Request::convert().dtype(DType::U8), &Caps::FREEHOLD, &Policy::default()).unwrap_err();
/// assert_eq!(refused.code(), freehold::Code::CA02);
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// # Errors
///
/// As [`execute`].
pub fn convert(tensor: &Tensor, request: &Request, caps: &Caps, policy: &Policy) -> Result<Tensor> {
    let decision = decide(&tensor.desc(), request, caps, policy);
    let asked = Asked::new(tensor.desc(), request, caps, policy, Dialect::Rust);
    execute(tensor, &decision, &asked, Label::NONE)
}

fn operand(tensor: &Tensor) -> Operand<'_> {
    let traits = tensor.traits();
    let mut lazy = Lazy::empty();
    for (bit, flag) in [
        (Traits::SWAPPED, Lazy::SWAPPED),
        (Traits::CONJ, Lazy::CONJ),
        (Traits::NEG, Lazy::NEG),
        (Traits::PADDED, Lazy::PADDED),
    ] {
        lazy.set(flag, traits.contains(bit));
    }
    Operand {
        data: tensor.data_ptr(),
        dtype: tensor.dtype(),
        layout: tensor.layout(),
        unit: unit_of(traits),
        traits: lazy,
    }
}
