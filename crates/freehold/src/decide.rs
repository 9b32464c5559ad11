//! The decision: a pure function of metadata.

use smallvec::SmallVec;

use crate::decision::{Decision, Detail, Reason, Sync};
use crate::policy::{AliasPolicy, CopiesPolicy, Policy, ReadonlyPolicy, SyncPolicy};
use crate::request::{CopyRule, Request};
use crate::{Caps, Code, DType, OnLoss, Order, Steps, StrideRule, TensorDesc, Traits, Verdict, trace};

use freehold_tensor::copy::{CastKind, Lazy, cast_kind};

mod device;
mod plain;

pub use plain::shares_plainly;

/// The findings while they are collected.
struct Findings {
    steps: Steps,
    reasons: SmallVec<[Reason; 2]>,
}

impl Findings {
    fn need(&mut self, step: Steps, code: Code, detail: Detail) {
        self.steps |= step;
        self.reasons.push(Reason { code, detail });
    }
}

/// Decides between share, copy and reject, from metadata alone: no byte of the tensor is read, nothing is allocated
/// on the share path, and the same inputs always give the same decision.
///
/// Questions are asked in a fixed order (graph, dtype, device, lazy bits, strides, order, alignment, writing), so
/// the first reason names the first field that fails. [`crate::execute`] carries the decision out; the only thing it
/// can still find is a value that does not fit (`CA02`) or memory that cannot be had (`ME01`).
///
/// ```
/// use freehold::{Caps, Code, Policy, Request, Steps, Tensor, Verdict, decide};
///
/// let t = Tensor::from(vec![1.0f32, 2.0]).read_only();
/// let answer = |request| decide(&t.desc(), &request, &Caps::TORCH, &Policy::default());
/// let share = answer(Request::share());
/// assert_eq!((share.verdict, share.code()), (Verdict::Reject, Some(Code::RO01)));
/// let convert = answer(Request::convert());
/// assert_eq!((convert.verdict, convert.steps, convert.bytes_copied), (Verdict::Copy, Steps::FRESH, 8));
/// ```
pub fn decide(desc: &TensorDesc<'_>, request: &Request, caps: &Caps, policy: &Policy) -> Decision {
    if trace::listens() {
        return trace::decide_span(desc, caps).in_scope(|| weigh(desc, request, caps, policy));
    }
    weigh(desc, request, caps, policy)
}

fn weigh(desc: &TensorDesc<'_>, request: &Request, caps: &Caps, policy: &Policy) -> Decision {
    let mut decision = Decision {
        verdict: Verdict::Share,
        steps: Steps::empty(),
        reasons: SmallVec::new(),
        dtype: request.dtype.unwrap_or(desc.dtype),
        bit_view: false,
        device: desc.device,
        order: Order::Any,
        alignment: request.alignment,
        writable: true,
        trusted: false,
        on_loss: request.on_loss,
        freeze: request.freeze,
        bytes_copied: 0,
        bytes_allocated: 0,
        sync: Sync::None,
    };
    let mut found = Findings { steps: Steps::empty(), reasons: SmallVec::new() };

    let outcome = check_graph(desc, request, caps)
        .and_then(|()| check_promise(request, caps))
        .and_then(|()| check_dtype(desc, request, caps, &mut decision, &mut found))
        .and_then(|()| device::check(desc, request, caps, policy, &mut decision, &mut found))
        .and_then(|()| check_memory(desc, request, caps, &decision, &mut found));
    if let Err(reason) = outcome {
        return refuse(decision, reason, found.reasons);
    }
    if request.copy == CopyRule::Always {
        found.steps |= Steps::FRESH;
    }
    if caps.own_memory && found.steps.is_empty() {
        found.need(Steps::FRESH, Code::OB02, Detail::None);
    }
    if found.steps.is_empty()
        && let Err(reason) = check_writing(desc, request, caps, policy, &mut decision, &mut found)
    {
        return refuse(decision, reason, found.reasons);
    }

    decision.steps = found.steps;
    decision.reasons = found.reasons;
    if !decision.steps.is_empty() {
        if request.copy == CopyRule::Never {
            decision.verdict = Verdict::Reject;
            return decision;
        }
        // A target that carries lazy bits of its own tensors still gets plain values where something else copies.
        if let Some(reason) = unresolvable(desc, &decision) {
            let others = std::mem::take(&mut decision.reasons);
            return refuse(decision, reason, others);
        }
        become_copy(desc, request, caps, &mut decision);
        if let Some(reason) = check_budget(request, policy, &decision) {
            let others = std::mem::take(&mut decision.reasons);
            return refuse(decision, reason, others);
        }
    }
    if !desc.device.kind.is_host() && decision.device.kind == desc.device.kind && request.stream.is_some() {
        // The consumer's stream waits for the producer's, if they are not one.
        decision.sync = decision.sync.max(Sync::Event);
    }
    if policy.sync == SyncPolicy::Error && decision.sync == Sync::Host {
        let text = format!("sync=\"error\" (asked: the host waits for {})", desc.device);
        let others = std::mem::take(&mut decision.reasons);
        return refuse(decision, Reason::text(Code::PO01, text), others);
    }
    add_hints(desc, request, caps, &mut decision);
    decision
}

fn refuse(mut decision: Decision, reason: Reason, others: SmallVec<[Reason; 2]>) -> Decision {
    decision.verdict = Verdict::Reject;
    decision.steps = Steps::empty();
    decision.bytes_copied = 0;
    decision.bytes_allocated = 0;
    decision.reasons = SmallVec::new();
    decision.reasons.push(reason);
    decision.reasons.extend(others);
    decision
}

/// A target of the same framework keeps what only that framework can say of a tensor.
fn same_framework(desc: &TensorDesc<'_>, caps: &Caps) -> bool {
    desc.framework.as_str() == caps.name
}

fn check_graph(desc: &TensorDesc<'_>, request: &Request, caps: &Caps) -> Result<(), Reason> {
    if desc.traits.contains(Traits::REQUIRES_GRAD) && !request.detach && !(caps.grad && same_framework(desc, caps)) {
        return Err(Reason::new(Code::GR01, Detail::None));
    }
    Ok(())
}

/// What a target that never changes its tensors cannot promise.
fn check_promise(request: &Request, caps: &Caps) -> Result<(), Reason> {
    if caps.immutable && request.writable == Some(true) {
        return Err(Reason::text(Code::RO01, format!("{}'s tensors are never written to", caps.name)));
    }
    Ok(())
}

fn check_dtype(
    desc: &TensorDesc<'_>,
    request: &Request,
    caps: &Caps,
    decision: &mut Decision,
    found: &mut Findings,
) -> Result<(), Reason> {
    if request.dtype.is_none()
        && let Some(narrow) = caps.narrowed(desc.dtype)
    {
        decision.dtype = narrow;
    }
    let (from, to) = (desc.dtype, decision.dtype);
    if from != to {
        let cast = Detail::Cast { from, to };
        if from.is_carried_as_bits() && from.bits_dtype() == Some(to) {
            decision.bit_view = true;
        } else {
            match cast_kind(from, to) {
                CastKind::Unsupported => {
                    return Err(Reason::text(Code::DT02, format!("there is no cast {from} -> {to}")));
                }
                CastKind::TruthOrReal if request.on_loss == OnLoss::Error => {
                    let what = if to.is_bool() { "only truth values remain" } else { "imaginary parts are dropped" };
                    return Err(Reason::text(Code::CA02, format!("{from} -> {to}: {what}")));
                }
                _ => found.need(Steps::CAST, Code::CA01, cast),
            }
        }
    }
    let carried = caps.dtypes.contains(to) || (caps.any_dtype && to.index().is_none());
    if carried { Ok(()) } else { Err(Reason::new(Code::DT02, Detail::Cast { from: to, to })) }
}

/// The lazy bits that change values. The conjugate of a real value is the value.
fn signs(desc: &TensorDesc<'_>) -> Lazy {
    let mut signs = Lazy::empty();
    signs.set(Lazy::NEG, desc.traits.contains(Traits::NEG));
    signs.set(Lazy::CONJ, desc.traits.contains(Traits::CONJ) && desc.dtype.is_complex());
    signs
}

/// Why a copy could not turn the bytes into values.
fn unresolvable(desc: &TensorDesc<'_>, decision: &Decision) -> Option<Reason> {
    let read = if decision.bit_view { decision.dtype } else { desc.dtype };
    (!signs(desc).resolves(read)).then(|| Reason::text(Code::LZ01, format!("{read} has no negation")))
}

/// Lazy bits, strides, order, alignment: what a copy mends.
fn check_memory(
    desc: &TensorDesc<'_>,
    request: &Request,
    caps: &Caps,
    decision: &Decision,
    found: &mut Findings,
) -> Result<(), Reason> {
    let traits = desc.traits;
    let own = caps.lazy_bits && same_framework(desc, caps);
    if !signs(desc).is_empty() && !own {
        if let Some(reason) = unresolvable(desc, decision) {
            return Err(reason);
        }
        found.need(Steps::RESOLVE, Code::LZ01, Detail::None);
    }
    if traits.contains(Traits::SWAPPED) {
        found.need(Steps::RESOLVE, Code::BO01, Detail::None);
    }
    let ndim = desc.layout.shape.len();
    if ndim > caps.max_ndim as usize {
        let text = format!("the tensor has {ndim} dimensions, {} takes at most {}", caps.name, caps.max_ndim);
        return Err(Reason::text(Code::LY04, text));
    }
    if desc.layout.is_empty() {
        return Ok(());
    }
    if traits.contains(Traits::BYTE_STRIDES) && (!caps.byte_strides || request.order != Order::Any) {
        let size = desc.dtype.padded_size() as i64;
        let odd = desc.layout.strides.iter().position(|s| s % size != 0).unwrap_or(0);
        let stride = desc.layout.strides.get(odd).copied().unwrap_or(0);
        // A stride that is no multiple of the item size is compact in no order.
        let code = if caps.byte_strides { Code::LY01 } else { Code::ST03 };
        found.need(Steps::LAYOUT, code, Detail::Dim { dim: odd as u32, stride, want: size });
    }
    if caps.strides != StrideRule::Any {
        let gap = match caps.strides {
            StrideRule::Any | StrideRule::NonNegative => None,
            StrideRule::Packed => desc.layout.first_not_packed(),
            StrideRule::Compact => desc.layout.first_not_compact(Order::C),
        };
        if let Some((dim, stride)) = desc.layout.first_negative() {
            found.need(Steps::LAYOUT, Code::ST01, Detail::Dim { dim: dim as u32, stride, want: 0 });
        } else if let Some((dim, stride, want)) = gap {
            found.need(Steps::LAYOUT, Code::ST02, Detail::Dim { dim: dim as u32, stride, want });
        }
        if caps.strides == StrideRule::Compact && request.order == Order::F && !either_order(desc) {
            let text = format!("order=\"F\" was asked for, and {} has row-major tensors only", caps.name);
            return Err(Reason::text(Code::ST02, text));
        }
    }
    if request.order != Order::Any
        && !traits.contains(Traits::BYTE_STRIDES)
        && let Some((dim, stride, want)) = desc.layout.first_not_compact(request.order)
    {
        found.need(Steps::LAYOUT, Code::LY01, Detail::Dim { dim: dim as u32, stride, want });
    }
    let need = caps.alignment_of(desc.dtype).max(request.alignment).max(1);
    let rem = (desc.address % u64::from(need)) as u32;
    if rem != 0 {
        found.need(Steps::LAYOUT, Code::AG01, Detail::Align { rem, need });
    }
    Ok(())
}

/// Whether row-major and column-major are the same: at most one dimension is walked.
fn either_order(desc: &TensorDesc<'_>) -> bool {
    desc.layout.shape.iter().filter(|n| **n > 1).count() <= 1
}

/// Who may write to shared memory.
fn check_writing(
    desc: &TensorDesc<'_>,
    request: &Request,
    caps: &Caps,
    policy: &Policy,
    decision: &mut Decision,
    found: &mut Findings,
) -> Result<(), Reason> {
    let traits = desc.traits;
    let detached = request.detach && traits.intersects(Traits::REQUIRES_GRAD | Traits::DETACHED);
    let mut why: Option<Reason> = None;
    if traits.intersects(Traits::READ_ONLY | Traits::IMMUTABLE) {
        why = Some(Reason::new(Code::RO01, Detail::None));
    } else if detached {
        why = Some(Reason::new(Code::GR02, Detail::None));
    } else if let Some((dim, stride)) = desc.layout.first_self_overlap() {
        why = Some(Reason::new(Code::AL02, Detail::Dim { dim: dim as u32, stride, want: 0 }));
    }
    // A frozen owner that cannot be made read-only is watched by checksum, which only tells who wrote if the
    // receiver cannot.
    let watched = request.freeze && !traits.contains(Traits::FROZEN) && caps.read_only;
    let asked_read_only = request.writable == Some(false) || watched;
    if let Some(reason) = why {
        let must_write = request.writable == Some(true);
        if must_write || !caps.read_only {
            return without_read_only(reason, must_write, policy, decision, found);
        }
        decision.writable = false;
        // RO01 is the refusal; a target that has read-only tensors only needs to be told, one that has no others not even that.
        let code = if reason.code == Code::RO01 { Code::RO02 } else { reason.code };
        if !caps.immutable || code == Code::GR02 {
            found.reasons.push(Reason { code, detail: reason.detail });
        }
    } else if asked_read_only {
        decision.writable = false;
        if !caps.read_only {
            let reason = Reason::text(Code::RO01, "writable=False was asked for");
            return without_read_only(reason, false, policy, decision, found);
        }
    }
    if caps.immutable {
        decision.writable = false;
        if why_mutable(traits) && !request.freeze {
            match policy.alias {
                AliasPolicy::OneWriter => found.need(Steps::FRESH, Code::AL03, Detail::None),
                // On record, so that whoever carries the decision out can say so.
                AliasPolicy::Trust => found.reasons.push(Reason::new(Code::AL03, Detail::None)),
            }
        }
    }
    Ok(())
}

fn why_mutable(traits: Traits) -> bool {
    // Read-only for us is not immutable: the owner behind a read-only view can still write.
    !traits.intersects(Traits::IMMUTABLE | Traits::IS_COPIED)
}

/// Read-only memory where the result would be writable: copied, refused or trusted, as the policy says.
fn without_read_only(
    reason: Reason,
    must_write: bool,
    policy: &Policy,
    decision: &mut Decision,
    found: &mut Findings,
) -> Result<(), Reason> {
    match policy.readonly {
        ReadonlyPolicy::Trust => {
            decision.trusted = true;
            decision.writable = true;
            found.reasons.push(reason);
            Ok(())
        }
        // The policy is about targets that cannot say read-only. A caller who demands a writable result and may
        // copy gets a copy.
        ReadonlyPolicy::Reject if !must_write => Err(reason),
        ReadonlyPolicy::Reject | ReadonlyPolicy::Copy => {
            found.steps |= Steps::FRESH;
            found.reasons.push(reason);
            Ok(())
        }
    }
}

fn become_copy(desc: &TensorDesc<'_>, request: &Request, caps: &Caps, decision: &mut Decision) {
    decision.verdict = Verdict::Copy;
    // A copy keeps column-major where the source has it, so that the pass is one run; everything else becomes C.
    decision.order = match request.order {
        Order::Any if caps.strides == StrideRule::Compact => Order::C,
        Order::Any if desc.layout.is_f_contiguous() && !desc.layout.is_c_contiguous() => Order::F,
        Order::Any => Order::C,
        order => order,
    };
    decision.alignment = request.alignment.max(caps.alignment_of(decision.dtype));
    decision.writable = !(caps.immutable || (request.writable == Some(false) && caps.read_only));
    decision.bytes_copied = desc.bytes_as(decision.dtype);
    decision.bytes_allocated = decision.bytes_copied;
}

fn check_budget(request: &Request, policy: &Policy, decision: &Decision) -> Option<Reason> {
    if policy.copies == CopiesPolicy::Error && request.copy != CopyRule::Always {
        let text = format!("copies=\"error\" (asked: {} B)", decision.bytes_copied);
        return Some(Reason::text(Code::PO01, text));
    }
    let limit = policy.max_copy_bytes?;
    (decision.bytes_copied > limit)
        .then(|| Reason::new(Code::PO01, Detail::Limit { bytes: decision.bytes_copied, limit }))
}

fn add_hints(desc: &TensorDesc<'_>, request: &Request, caps: &Caps, decision: &mut Decision) {
    if request.dtype.is_none() && decision.dtype == desc.dtype && hints_dtype(desc, caps) {
        decision.reasons.push(Reason::new(Code::HT01, Detail::Cast { from: DType::F64, to: caps.default_dtype }));
    }
}

/// Only for the pair that surprises people: f64 from NumPy into a framework of f32. Nothing else is implied.
#[inline]
fn hints_dtype(desc: &TensorDesc<'_>, caps: &Caps) -> bool {
    desc.dtype == DType::F64 && caps.default_dtype == DType::F32 && !caps.any_dtype && !same_framework(desc, caps)
}
