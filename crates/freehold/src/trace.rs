//! What subscribers of `tracing` hear: `docs/tracing.md` lists the spans, the events and their fields, which are stable.
//!
//! A step is a span, so that it has a length and what it causes (a hazard, what a foreign deleter says) lands in it; the event
//! inside says how it came out.
//!
//! Without a subscriber each place costs one relaxed load and a comparison: everything else is in functions of its own.

use freehold_ledger::Party;
use tracing::level_filters::LevelFilter;
use tracing::{Span, debug_span};

use crate::{Caps, Code, Decision, ExportOptions, HolderId, ImportOptions, Label, Runtime, Tensor, TensorDesc};

/// Whether anybody listens to what happens at every handover.
#[inline]
pub(crate) fn listens() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// Around the checks of a capsule and its way onto the ledger. A look at metadata is no import.
#[inline]
pub(crate) fn import_span(options: &ImportOptions) -> Span {
    if listens() && !options.quiet { import_span_of(options) } else { Span::none() }
}

#[cold]
#[inline(never)]
fn import_span_of(options: &ImportOptions) -> Span {
    let (framework, site) = (options.framework.as_str(), options.site.as_str());
    debug_span!(target: "freehold", "freehold.import", framework, site)
}

/// Around a decision, whether it is carried out or not.
#[cold]
#[inline(never)]
pub(crate) fn decide_span(desc: &TensorDesc<'_>, caps: &Caps) -> Span {
    debug_span!(target: "freehold", "freehold.decide", from = desc.framework.as_str(), to = caps.name)
}

/// Around the making of a capsule, and what a consumer's stream waits for.
#[cold]
#[inline(never)]
pub(crate) fn export_span(tensor: &Tensor, options: &ExportOptions<'_>) -> Span {
    let (from, to) = (tensor.framework().as_str(), options.consumer.as_str());
    debug_span!(target: "freehold", "freehold.export", from, to, parent = tensor.id().get(), site = options.site.as_str())
}

/// Around a deleter, and the owner's where it was the last.
#[cold]
#[inline(never)]
pub(crate) fn release_span(tensor: &Tensor, holder: HolderId) -> Span {
    let (from, parent) = (tensor.framework().as_str(), tensor.id().get());
    debug_span!(target: "freehold", "freehold.release", from, holder = holder.get(), parent)
}

#[cold]
#[inline(never)]
pub(crate) fn import(tensor: &Tensor, site: Label) {
    tracing::debug!(
        target: "freehold",
        framework = tensor.framework().as_str(),
        holder = tensor.id().get(),
        tensor = %tensor.desc(),
        device = %tensor.device(),
        bytes = tensor.nbytes(),
        writable = tensor.is_writable(),
        site = site.as_str(),
        "freehold.import"
    );
}

#[cold]
#[inline(never)]
pub(crate) fn refused(field: &str, value: &dyn std::fmt::Display) {
    tracing::debug!(target: "freehold", code = Code::CP02.name(), field, %value, "freehold.refuse");
}

#[cold]
#[inline(never)]
pub(crate) fn decision(tensor: &Tensor, decision: &Decision, caps: &Caps, site: Label) {
    let steps: Vec<&str> = decision.steps.names().collect();
    tracing::debug!(
        target: "freehold",
        from = tensor.framework().as_str(),
        to = caps.name,
        holder = tensor.id().get(),
        verdict = decision.verdict.name(),
        codes = names(&decision.codes()),
        steps = steps.join(","),
        bytes = decision.bytes_copied,
        site = site.as_str(),
        "freehold.decide"
    );
}

/// The decision of a share that needed no look at anything but the metadata.
#[cold]
#[inline(never)]
pub(crate) fn plain_share(desc: &TensorDesc<'_>, caps: &Caps, codes: &[Code]) {
    tracing::debug!(
        target: "freehold",
        from = desc.framework.as_str(),
        to = caps.name,
        verdict = "share",
        codes = names(codes),
        steps = "",
        bytes = 0u64,
        "freehold.decide"
    );
}

/// A span around a copy: it ends when the last byte is written.
pub(crate) fn copy(tensor: &Tensor, decision: &Decision, caps: &Caps, site: Label) -> Span {
    if !listens() {
        return Span::none();
    }
    let steps: Vec<&str> = decision.steps.names().collect();
    debug_span!(
        target: "freehold",
        "freehold.copy",
        from = tensor.framework().as_str(),
        to = caps.name,
        holder = tensor.id().get(),
        codes = names(&decision.codes()),
        steps = steps.join(","),
        bytes = decision.bytes_copied,
        site = site.as_str(),
    )
}

#[cold]
#[inline(never)]
pub(crate) fn export(tensor: &Tensor, holder: HolderId, options: &ExportOptions<'_>) {
    tracing::debug!(
        target: "freehold",
        from = tensor.framework().as_str(),
        to = options.consumer.as_str(),
        holder = holder.get(),
        parent = tensor.id().get(),
        tensor = %tensor.desc(),
        writable = tensor.is_writable(),
        site = options.site.as_str(),
        "freehold.export"
    );
}

#[cold]
#[inline(never)]
pub(crate) fn release(tensor: &Tensor, holder: HolderId) {
    let (from, parent) = (tensor.framework().as_str(), tensor.id().get());
    tracing::debug!(target: "freehold", from, holder = holder.get(), parent, "freehold.release");
}

/// Records a hazard on the ledger, and says so to whoever listens.
///
/// ```
/// use freehold::{Code, Runtime, ledger::Level, report_hazard};
///
/// let runtime = Runtime::new(Level::Records);
/// report_hazard(&runtime, Code::AL01, &[], "written to while it was lent".to_owned());
/// assert_eq!(runtime.ledger().hazards()[0].note, "written to while it was lent");
/// ```
#[cold]
#[inline(never)]
pub fn hazard(runtime: &Runtime, code: Code, parties: &[Party], note: String) {
    let holders: Vec<&str> = parties.iter().map(|party| party.framework.as_str()).collect();
    let sites: Vec<&str> = parties.iter().map(|party| party.site.as_str()).collect();
    let (code_name, holders, sites) = (code.name(), holders.join(","), sites.join(","));
    tracing::warn!(target: "freehold", code = code_name, holders, sites, note = note.as_str(), "freehold.hazard");
    runtime.ledger().hazard_among(code, parties, note);
}

fn names(codes: &[Code]) -> String {
    codes.iter().map(|code| code.name()).collect::<Vec<_>>().join(",")
}
