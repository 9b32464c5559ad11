//! Carrying a decision out: share is another handle, everything else is one pass into new memory.

use freehold_ledger::{Edge, Role};
use freehold_tensor::copy::{self, CopyError, CopyOptions, Lazy, Operand};
use smallvec::SmallVec;
use std::sync::Arc;

use crate::decision::{Decision, Detail, LossDetail, Reason};
use crate::message::{Asked, Message};
use crate::tensor::{Inner, Owner, Tensor, unit_of};
use crate::{
    Caps, Code, Device, Dialect, Error, Label, OnLoss, Policy, Request, Result, Runtime, Traits, Verdict, decide,
};

/// Carries out a decision that was made for this tensor. `asked` words the refusals.
///
/// # Errors
///
/// The decision's own refusal; `AR01` where it was made for another tensor and shows it; `CA02` where a value does not fit (nothing is handed out); `ME01` where memory for
/// the result cannot be had. The source is untouched in every case.
pub fn execute(tensor: &Tensor, decision: &Decision, asked: &Asked<'_>, site: Label) -> Result<Tensor> {
    if decision.bit_view && tensor.dtype().bits_dtype() != Some(decision.dtype) {
        // Elements of another width would reach past the memory.
        return Err(Error::argument("the decision", "one for another tensor", "be made for this tensor"));
    }
    match decision.verdict {
        Verdict::Reject => Err(refuse(tensor.runtime(), asked, decision)),
        Verdict::Share => Ok(share(tensor, decision)),
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

fn share(tensor: &Tensor, decision: &Decision) -> Tensor {
    let mut result = tensor.clone();
    if decision.freeze && !tensor.traits().contains(Traits::FROZEN) {
        result = result.watch();
    }
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
    if decision.trusted {
        // The caller's promise not to write is on record, with the code that it overrules.
        let code = decision.code().unwrap_or(Code::RO01);
        let note = format!("{} shared as writable under readonly=\"trust\"", tensor.desc());
        tensor.runtime().ledger().hazard(code, &[tensor.id()], note);
    }
    result
}

fn make_copy(tensor: &Tensor, decision: &Decision, asked: &Asked<'_>, site: Label) -> Result<Tensor> {
    let _span = tracing::debug_span!("freehold.copy", bytes = decision.bytes_copied, to = asked.caps.name).entered();
    let inner = &*tensor.0;
    if !inner.device.kind.is_host() || !decision.device.kind.is_host() {
        return Err(Error::rejected(
            Message::of(
                asked,
                &Decision::reject(Reason::new(Code::DV01, Detail::Move { from: inner.device, to: decision.device })),
            ),
            Some(decision.clone()),
        ));
    }
    let padded = inner.traits.contains(Traits::PADDED) && decision.dtype == inner.dtype;
    let runtime = &inner.runtime;
    let source_dtype = if decision.bit_view { decision.dtype } else { inner.dtype };
    let (valid, buffer) = Tensor::allocate(
        Device::CPU,
        decision.dtype,
        &inner.shape,
        decision.order,
        decision.alignment,
        padded,
        runtime,
    )?;
    if decision.dtype.is_sub_byte() && !buffer.is_empty() {
        // Elements that share a byte are written one after the other, so the copy asks that the byte be initialised;
        // and bits that no element has would otherwise be somebody's old ones.
        // SAFETY: fresh host memory of this length, which nobody else has.
        unsafe { std::ptr::write_bytes(buffer.as_ptr(), 0, buffer.len()) };
    }
    let source = Operand { dtype: source_dtype, ..operand(tensor) };
    let target = Operand {
        data: buffer.as_ptr(),
        dtype: decision.dtype,
        layout: crate::Layout::new(&valid.shape, &valid.strides),
        unit: crate::StrideUnit::Elements,
        traits: if padded { Lazy::PADDED } else { Lazy::empty() },
    };
    let options = CopyOptions { on_loss: decision.on_loss, saturate: false };
    // SAFETY: the source's extent was validated when it was imported and its owner keeps it readable; the target is
    // a fresh buffer of the extent that `allocate` computed, which nobody else has.
    unsafe { copy::copy(&target, &source, &options) }.map_err(|e| copy_error(runtime, asked, decision, e))?;

    let mut traits = Traits::IS_COPIED;
    traits.set(Traits::PADDED, padded);
    traits.set(Traits::READ_ONLY, !decision.writable);
    let alloc = Some((buffer.as_ptr().addr() as u64, buffer.len() as u64));
    let mut result = Inner {
        data: valid.data,
        byte_offset: 0,
        device: decision.device,
        dtype: decision.dtype,
        traits,
        framework: Label::FREEHOLD,
        holder: freehold_ledger::HolderId::NONE,
        owns_record: false,
        shape: valid.shape,
        strides: valid.strides,
        alloc,
        frozen: None,
        runtime: runtime.clone(),
        owner: Owner::Buffer(buffer),
    };
    let codes: SmallVec<[Code; 4]> = decision.codes();
    let edge = Edge {
        from: inner.holder,
        from_framework: inner.framework,
        to: Label::intern(asked.caps.name),
        verdict: Verdict::Copy,
        steps: decision.steps,
        reasons: &codes,
        bytes: decision.bytes_copied,
        sync: decision.sync,
    };
    Tensor::record(&mut result, Role::Owner, site, Some(&edge));
    let result = Tensor(Arc::new(result));
    debug_assert!(!result.overlaps(tensor).may(), "a copy must not alias its source");
    Ok(result)
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
/// # Errors
///
/// As [`execute`].
pub fn convert(tensor: &Tensor, request: &Request, caps: &Caps, policy: &Policy) -> Result<Tensor> {
    let decision = decide(&tensor.desc(), request, caps, policy);
    let asked = Asked::new(tensor.desc(), request, caps, policy, Dialect::Rust);
    execute(tensor, &decision, &asked, Label::NONE)
}

/// Copies and casts into an existing tensor of the same shape, whatever the two layouts are. A source that overlaps
/// the destination is copied out first.
///
/// # Errors
///
/// `RO01` the destination is read-only, `AL02` its own elements overlap, `AR01` the shapes differ, `DV01` a side is
/// not on the host; `CA02`, `DT02`, `ME01` as in [`execute`]. After `CA02` the destination holds the values up to
/// some point: it was the caller's memory, and there is no second buffer.
///
/// # Safety
///
/// * No other thread reads or writes the destination's memory during the call.
pub unsafe fn copy_into(source: &Tensor, target: &Tensor, on_loss: OnLoss, asked: &Asked<'_>) -> Result<()> {
    let reject = |reason: Reason| refuse(source.runtime(), asked, &Decision::reject(reason));
    if !target.is_writable() {
        return Err(reject(Reason::text(Code::RO01, "the destination is read-only")));
    }
    if source.shape() != target.shape() {
        let text = format!("{:?}", source.shape());
        return Err(Error::argument(
            "the source's shape",
            text,
            &format!("be the destination's, {:?}", target.shape()),
        ));
    }
    if let Some((dim, stride)) = target.layout().first_self_overlap() {
        return Err(reject(Reason::new(Code::AL02, Detail::Dim { dim: dim as u32, stride, want: 0 })));
    }
    for side in [source, target] {
        if !side.device().kind.is_host() {
            return Err(reject(Reason::new(Code::DV01, Detail::Move { from: source.device(), to: target.device() })));
        }
    }
    let staged;
    let mut from = source;
    if source.overlaps(target).may() {
        let request = Request::copy();
        let policy = Policy { max_copy_bytes: None, ..source.runtime().policy() };
        staged = convert(source, &request, &Caps::FREEHOLD, &policy)?;
        from = &staged;
    }
    let decision =
        Decision { dtype: target.dtype(), on_loss, ..Decision::reject(Reason::new(Code::CA01, Detail::None)) };
    // SAFETY: both extents were validated at import and are kept alive by their owners; they do not overlap; the
    // caller promises that nobody else touches the destination.
    unsafe { copy::copy(&operand(target), &operand(from), &CopyOptions { on_loss, saturate: false }) }
        .map_err(|e| copy_error(source.runtime(), asked, &decision, e))
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
