//! Copies into memory that is there already: a caller's tensor, or what a target made.

use freehold_ledger::Edge;
use freehold_tensor::copy::{self, CopyOptions};

use super::{carry_error, convert, copy_error, operand, refuse};
use crate::carry;
use crate::decision::{Decision, Reason};
use crate::message::{Asked, Message};
use crate::tensor::Tensor;
use crate::{Caps, Code, Error, Label, Policy, Request, Result, Runtime, Verdict, decide, trace};

/// Copies and casts into an existing tensor of the same shape, whatever the two layouts are, under the policy of the
/// call. A source that overlaps the destination is copied out first.
///
/// ```
/// use freehold::{Asked, Caps, DType, Dialect, Label, Policy, Request, Runtime, Tensor, copy_into};
///
/// let (x, out) = (Tensor::from(vec![1.5f32, 2.0]), Tensor::zeros(DType::F64, &[2], &Runtime::global())?);
/// let (request, policy) = (Request::copy(), Policy::default());
/// let asked = Asked::new(x.desc(), &request, &Caps::FREEHOLD, &policy, Dialect::Rust);
/// // SAFETY: no other thread has `out`.
/// unsafe { copy_into(&x, &out, &asked, Label::NONE)? };
/// assert_eq!(out.view::<f64>()?.to_vec(), [1.5, 2.0]);
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// # Errors
///
/// `RO01` the destination is read-only, `AL02` its own elements overlap, `AR01` the shapes differ, `DV01` a side is
/// on a device without a driver here; what [`decide`] refuses of a copy (`GR01`, `PO01`); `CA02`, `DT02`, `ME01` as in [`crate::execute`]. After
/// `CA02` the destination holds the values up to some point: it was the caller's memory, and there is no second buffer.
///
/// # Safety
///
/// * No other thread reads or writes the destination's memory during the call.
pub unsafe fn copy_into(source: &Tensor, target: &Tensor, asked: &Asked<'_>, site: Label) -> Result<()> {
    // SAFETY: forwarded from the caller.
    unsafe { fill(source, target, None, asked, site) }
}

/// As [`copy_into`], into memory that a target made for a copy which was decided: the record says why.
///
/// ```
/// use freehold::{Code, DType, Request, Runtime, Tensor, copy_for_target, decide};
/// # use freehold::{Asked, Caps, Dialect, Label, Policy};
///
/// let (x, out) = (Tensor::from(vec![1.5f32, 2.0]), Tensor::zeros(DType::F64, &[2], &Runtime::global())?);
/// let (request, policy) = (Request::convert().dtype(DType::F64), Policy::default());
/// let decided = decide(&x.desc(), &request, &Caps::FREEHOLD, &policy);
/// let asked = Asked::new(x.desc(), &request, &Caps::FREEHOLD, &policy, Dialect::Rust);
/// // SAFETY: no other thread has `out`.
/// unsafe { copy_for_target(&x, &out, &decided, &asked, Label::NONE)? };
/// assert_eq!(Runtime::global().ledger().copies()[0].reasons, [Code::CA01]);
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// # Errors
///
/// As [`copy_into`].
///
/// # Safety
///
/// As [`copy_into`].
pub unsafe fn copy_for_target(
    source: &Tensor,
    target: &Tensor,
    decided: &Decision,
    asked: &Asked<'_>,
    site: Label,
) -> Result<()> {
    // SAFETY: forwarded from the caller.
    unsafe { fill(source, target, Some(decided), asked, site) }
}

/// # Safety
///
/// As [`copy_into`].
unsafe fn fill(
    source: &Tensor,
    target: &Tensor,
    decided: Option<&Decision>,
    asked: &Asked<'_>,
    site: Label,
) -> Result<()> {
    let runtime = source.runtime();
    let request = Request {
        dtype: Some(target.dtype()),
        device: None,
        order: crate::Order::Any,
        writable: None,
        freeze: false,
        copy: crate::CopyRule::Always,
        ..*asked.request
    };
    let decision = decide(&source.desc(), &request, &Caps { grad: false, ..Caps::FREEHOLD }, asked.policy);
    if decision.verdict == Verdict::Reject {
        return Err(refuse(runtime, asked, &decision));
    }
    check_destination(source, target, asked)?;
    let staged;
    let mut from = source;
    if source.overlaps(target).may() {
        let policy = Policy { threads: asked.policy.threads, ..Policy::DEFAULT };
        // Off the ledger: nobody gets to hold it.
        let quiet = Runtime::new(freehold_ledger::Level::Off);
        staged = convert(
            &source.derive(|inner| inner.runtime = quiet),
            &Request::copy().detach(),
            &Caps::FREEHOLD,
            &policy,
        )?;
        from = &staged;
    }
    let options = CopyOptions { threads: asked.policy.threads, ..CopyOptions::new(request.on_loss) };
    let _span = trace::copy(source, &decision, asked.caps, site).entered();
    let end = |tensor| carry::End { operand: operand(tensor), device: tensor.device(), flow: tensor.0.flow.as_deref() };
    let (to, from_end) = (end(target), end(from));
    if carry::is_on_host(&to, &from_end) {
        // SAFETY: both extents were validated at import and are kept alive by their owners; they do not overlap; the
        // caller promises that nobody else touches the destination.
        unsafe { copy::copy(&to.operand, &from_end.operand, &options) }
            .map_err(|e| copy_error(runtime, asked, &decision, e))?;
    } else {
        // SAFETY: as above, and both ends say whose memory they are.
        unsafe { carry::copy(&to, &from_end, from, &options) }
            .map_err(|e| carry_error(runtime, asked, &decision, e))?;
    }
    if target.0.owns_record {
        let codes = decided.unwrap_or(&decision).codes();
        target.copied(
            &Edge {
                from: source.0.holder,
                from_framework: source.framework(),
                to: target.framework(),
                verdict: Verdict::Copy,
                steps: decision.steps,
                reasons: &codes,
                bytes: decision.bytes_copied,
                sync: decision.sync,
            },
            site,
        );
    }
    Ok(())
}

/// Puts a copy on record that a target made itself, as it was decided, byte for byte, into memory of its own: what
/// [`copy_for_target`] does beside copying.
///
/// ```
/// use freehold::{Caps, Code, Label, Policy, Request, Runtime, Tensor, copied_by_target, decide};
///
/// let x = Tensor::from(vec![1.5f32, 2.0]);
/// let decision = decide(&x.desc(), &Request::convert(), &Caps::MLX, &Policy::default());
/// copied_by_target(&x, Label::MLX, &decision, &Caps::MLX, Label::NONE);
/// let copy = &Runtime::global().ledger().copies()[0];
/// assert_eq!((copy.to, copy.bytes, &copy.reasons[..]), ("mlx", 8, &[Code::OB02][..]));
/// ```
pub fn copied_by_target(source: &Tensor, target: Label, decision: &Decision, caps: &Caps, site: Label) {
    let _span = trace::copy(source, decision, caps, site).entered();
    let codes = decision.codes();
    let edge = Edge {
        from: source.0.holder,
        from_framework: source.framework(),
        to: target,
        verdict: Verdict::Copy,
        steps: decision.steps,
        reasons: &codes,
        bytes: decision.bytes_copied,
        sync: decision.sync,
    };
    source.copied_away(&edge, site);
}

/// Whether the destination of [`copy_into`] can take the source.
fn check_destination(source: &Tensor, target: &Tensor, asked: &Asked<'_>) -> Result<()> {
    let (what, code) = if !target.is_writable() {
        ("the destination is read-only".to_owned(), Code::RO01)
    } else if source.shape() != target.shape() {
        (format!("the shapes {:?} and {:?} differ", source.shape(), target.shape()), Code::AR01)
    } else if let Some((dim, stride)) = target.layout().first_self_overlap() {
        (format!("the destination's elements overlap (dim {dim} has stride {stride})"), Code::AL02)
    } else {
        let Some(far) = [source, target].into_iter().find(|side| !carry::reaches(side)) else { return Ok(()) };
        (format!("{} is on a device that cannot be copied to or from here", far.desc()), Code::DV01)
    };
    source.runtime().ledger().reject(source.framework(), target.framework(), code);
    let headline = format!("copy({} -> {}): {what}.", asked.source_text(), target.desc());
    Err(Error::rejected(
        Message::into_new_memory(asked, code, headline),
        Some(Decision::reject(Reason::text(code, what))),
    ))
}
