//! What there is to say of each reason code, before it is written in a language.

use super::{Asked, Verb};
use crate::decision::{Detail, Reason};
use crate::dialect::Spell;
use crate::fix::{Fix, annotate};
use crate::{Caps, Code, Dialect, OnLoss, Verdict};

/// A message before it says what was asked.
pub(super) struct Text {
    pub(super) headline: String,
    pub(super) lines: Vec<String>,
    fixes: Vec<Fix>,
    raw_fixes: Vec<String>,
}

impl Text {
    fn new(headline: impl Into<String>) -> Self {
        Self { headline: headline.into(), lines: Vec::new(), fixes: Vec::new(), raw_fixes: Vec::new() }
    }

    fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    fn fix(mut self, fix: Fix) -> Self {
        self.fixes.push(fix);
        self
    }

    /// What the source's own library does: a line of Python, or in words where that is another language.
    fn own(self, asked: &Asked<'_>, python: &str, words: &str) -> Self {
        self.raw(if asked.dialect == Dialect::Python { python } else { words })
    }

    fn raw(mut self, fix: impl Into<String>) -> Self {
        self.raw_fixes.push(fix.into());
        self
    }

    /// The lines to type: only calls that would not be refused in their turn, unless there is nothing else.
    pub(super) fn fixes(&mut self, asked: &Asked<'_>) -> Vec<String> {
        let mut lines: Vec<String> =
            self.fixes.iter().filter(|fix| fix.works(asked)).map(|fix| fix.write(asked)).collect();
        lines.append(&mut self.raw_fixes);
        if lines.is_empty() {
            lines.extend(self.fixes.first().map(|fix| fix.write(asked)));
        }
        lines
    }
}

/// What there is to say of a reason; `bytes` is what a copy takes.
pub(super) fn text_of(asked: &Asked<'_>, reason: &Reason, bytes: u64) -> Text {
    let target = asked.caps.name;
    let detail = reason.detail.to_string();
    // An adapter that could not describe the source does not know its size.
    let copied = if asked.desc.is_some() { format!("{bytes} B copied") } else { String::new() };
    let copy = || Fix::new(asked, Verb::Copy, copied.clone());
    let convert = |what: &str| Fix::new(asked, Verb::Convert, format!("{bytes} B copied: {what}"));
    match reason.code {
        Code::RO01 => read_only(asked, bytes),
        Code::RO02 => Text::new(": the view is read-only because the owner is.")
            .line(format!("owner: {}", owner(asked)))
            .fix(Fix::new(asked, Verb::Copy, format!("independent and writable, {bytes} B copied"))),
        Code::ST01 => Text::new(format!(": {target} takes no negative strides."))
            .line(format!("{detail}; {target} accepts >= 0"))
            .fix(convert("compact")),
        Code::ST02 if matches!(reason.detail, Detail::Text(_)) => Text::new(format!(": {target} has one order."))
            .line(
                detail.replace(
                    &Dialect::Python.given("order", order(asked)),
                    &asked.dialect.given("order", order(asked)),
                ),
            )
            .fix(Fix::new(asked, copying(asked), asked.dialect.without("order")).with(|r| r.order = crate::Order::Any)),
        Code::ST02 => Text::new(format!(": {target} needs compact strides.")).line(detail).fix(convert("compact")),
        Code::ST03 => Text::new(": a byte stride is not a multiple of the item size (field of a packed record?).")
            .line(match &reason.detail {
                Detail::Dim { dim, stride, want } => format!("dim {dim} steps {stride} bytes; the item has {want}"),
                other => other.to_string(),
            })
            .fix(convert("compact")),
        Code::LY01 if matches!(reason.detail, Detail::Text(_)) => {
            Text::new(": it is not one block of memory.").line(detail).fix(convert("gathered in one pass"))
        }
        Code::LY01 => Text::new(format!(": {} was asked for.", asked.dialect.given("order", order(asked))))
            .line(format!("the source is not in that order: {detail}"))
            .fix(convert("in that order"))
            .fix(
                Fix::new(asked, asked.verb, format!("{}: shares", asked.dialect.without("order")))
                    .with(|r| r.order = crate::Order::Any),
            ),
        Code::LY02 => Text::new(": a sparse tensor has no dense buffer.").line(detail).own(
            asked,
            "x.to_dense()",
            "make it dense first, with its own library",
        ),
        Code::LY03 => Text::new(": there is no storage behind this tensor.").line(detail).own(
            asked,
            "materialise it first, for example torch.empty_like(t, device=\"cpu\")",
            "materialise it first, with its own library",
        ),
        Code::LY04 => Text::new(format!(": {target} has fewer dimensions.")).line(detail).own(
            asked,
            "x.reshape(...)  # fewer dimensions",
            "describe it with fewer dimensions",
        ),
        Code::CA01 => widened(asked, Text::new(format!(": the dtype changes, {detail}, which copies {bytes} B.")))
            .fix(convert("cast"))
            .fix(
                Fix::new(asked, asked.verb, format!("{}: shares", asked.dialect.without("dtype")))
                    .with(|r| r.dtype = None),
            ),
        Code::CA02 => widened(asked, loss(asked, reason)),
        Code::DT01 => Text::new(": the elements are Python objects, not numbers.").line(detail).own(
            asked,
            &annotate("x.astype(\"float64\")".to_owned(), "#", "or the dtype that the objects hold"),
            "make numbers of them in Python",
        ),
        Code::DT02 => widened(asked, missing_dtype(asked, reason)),
        // "what: what to do", as the adapter knows it.
        Code::DT03 => match detail.split_once(": ") {
            Some((what, recipe)) => Text::new(": DLPack has no type code for this dtype.").line(what).raw(recipe),
            None => Text::new(": DLPack has no type code for this dtype.").line(detail).own(
                asked,
                "x.astype(...)",
                "cast it first, to a dtype that DLPack has",
            ),
        },
        Code::BO01 => Text::new(format!(": the bytes are {}-endian, the host is {}.", other_endian(), HOST_ENDIAN))
            .fix(convert("bytes swapped")),
        Code::AG01 => Text::new(format!(": {target} needs more alignment."))
            .line(format!("{detail}; {target} needs a multiple of {}", align_needed(reason)))
            .fix(convert("aligned")),
        Code::DV01 => {
            let text = Text::new(": source and target are on different devices.").line(detail);
            match reason.detail {
                // Copying was not allowed.
                Detail::Move { from, to } if asked.verb == Verb::Share && asked.policy.moves(from) => {
                    text.fix(Fix::new(asked, Verb::Convert, format!("{bytes} B copied")).with(|r| r.device = Some(to)))
                }
                Detail::Move { from, .. } if !asked.policy.reaches(from) => text
                    .line(format!("there is no {from} here to copy from."))
                    .own(asked, CPU, "move it with its own framework first"),
                _ => text.own(asked, CPU, "move it with its own framework first"),
            }
        }
        Code::DV02 => {
            let have = asked.policy.available.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let to = match reason.detail {
                Detail::Move { to, .. } => to.to_string(),
                _ => "such device".to_owned(),
            };
            let mut text = Text::new(format!(": no {to} here; have {have}.")).line(detail);
            for device in asked.policy.available.iter().take(3) {
                text = text
                    .fix(Fix::new(asked, copying(asked), "a device that is here").with(|r| r.device = Some(*device)));
            }
            text
        }
        Code::DV03 => {
            Text::new(": the capsule's device is not the pointer's.").line(detail).raw("report it to the producer")
        }
        Code::SY01 => Text::new(": the streams are not ordered.").line(detail).raw(asked.dialect.stream()),
        Code::GR01 => Text::new(format!(": {target} cannot carry the autograd graph."))
            .line(format!(
                "sharing without {} would drop the graph; Freehold never does that silently.",
                asked.dialect.given("detach", "True")
            ))
            .fix(Fix::new(asked, Verb::Convert, "").with(|r| r.detach = true).noted(asked, |verdict| match verdict {
                Verdict::Share => "shares memory, read-only, graph ends here".to_owned(),
                _ => format!("{bytes} B copied, graph ends here"),
            }))
            .fix(Fix::new(asked, Verb::Copy, "independent, writable").with(|r| r.detach = true)),
        Code::GR02 => Text::new(": a detached view is read-only.")
            .line("a write through it would corrupt the backward pass without a word.")
            .fix(Fix::new(asked, Verb::Copy, "independent, writable").with(|r| r.detach = true)),
        Code::LZ01 => {
            let (what, harm) = lazy(asked);
            Text::new(format!(": the bytes in memory are the {what} of the values; sharing would {harm}."))
                .fix(convert("resolved"))
        }
        Code::NU01 => {
            let text = Text::new(": null or masked elements have no tensor value.").line(detail);
            // Only the adapters of Python take a value for nulls.
            match asked.dialect {
                Dialect::Python => text.fix(Fix::new(asked, copying(asked), "null elements become 0").filled()),
                _ => text.raw("fill the nulls where the data is read"),
            }
        }
        Code::AL01 => Text::new(": a buffer changed while it was lent.").line(detail).fix(copy()),
        Code::AL02 => Text::new(": elements overlap in memory, so the view is read-only.")
            .line(format!(
                "{}; {target} {}",
                overlap_detail(reason),
                if asked.caps.read_only { "gets a read-only view" } else { "has no read-only tensors" }
            ))
            .fix(copy()),
        Code::AL03 => {
            Text::new(format!(": {target} promises that its tensors never change, but the owner can still write."))
                .line(format!("owner: {}", owner(asked)))
                .fix(Fix::new(asked, asked.verb, "the owner is made read-only while lent").with(|r| r.freeze = true))
                .fix(copy())
        }
        Code::PO01 => policy(asked, reason),
        Code::VE01 => Text::new(": unknown DLPack major version.").line(detail).raw("upgrade Freehold or the producer"),
        Code::CP01 => Text::new(": the capsule was consumed already.")
            .line(detail)
            .raw("pass the tensor itself, not its capsule: each import then takes a fresh one"),
        Code::CP02 => Text::new(": the capsule breaks a rule of DLPack.").line(detail).raw("report it to the producer"),
        Code::CP03 => {
            Text::new(": a capsule was not given back as DLPack says.").line(detail).raw("report it to the consumer")
        }
        Code::OB01 => Text::new(": the object offers no tensor protocol.").line(detail).fix(Fix::new(
            asked,
            Verb::Copy,
            "builds a tensor from sequences and numbers",
        )),
        Code::OB02 => Text::new(format!(": {target} cannot hold this memory."))
            .line(format!("{target} copies what it is given, or would never give it back."))
            .fix(Fix::new(asked, Verb::Convert, format!("{bytes} B copied, once"))),
        Code::HT01 => {
            Text::new(format!(": no dtype is implied; {target}'s own default would be {}.", asked.caps.default_dtype))
                .fix(
                    Fix::new(asked, copying(asked), "cast in the same pass")
                        .with(|r| r.dtype = Some(asked.caps.default_dtype)),
                )
        }
        Code::HT02 => Text::new(": a small view keeps a large buffer alive.").line(detail).fix(copy()),
        Code::AR01 | Code::ME01 | Code::IN01 => Text::new(format!(": {detail}")),
    }
}

/// The verb of the call, or the weakest that may copy.
fn copying(asked: &Asked<'_>) -> Verb {
    if asked.verb == Verb::Share { Verb::Convert } else { asked.verb }
}

const CPU: &str = "move it with its own framework first, for example t.cpu()";
const HOST_ENDIAN: &str = if cfg!(target_endian = "little") { "little" } else { "big" };

fn other_endian() -> &'static str {
    if cfg!(target_endian = "little") { "big" } else { "little" }
}

fn order(asked: &Asked<'_>) -> &'static str {
    crate::decision::order_name(asked.request.order)
}

fn owner(asked: &Asked<'_>) -> String {
    asked
        .owner
        .clone()
        .unwrap_or_else(|| asked.desc.map_or_else(|| "unknown".to_owned(), |desc| desc.framework.as_str().to_owned()))
}

fn align_needed(reason: &Reason) -> u32 {
    match reason.detail {
        Detail::Align { need, .. } => need,
        _ => 1,
    }
}

fn overlap_detail(reason: &Reason) -> String {
    match reason.detail {
        Detail::Dim { dim, stride, .. } => format!("dim {dim} has stride {stride}"),
        _ => reason.detail.to_string(),
    }
}

fn lazy(asked: &Asked<'_>) -> (&'static str, &'static str) {
    match asked.desc {
        Some(desc) if desc.traits.contains(crate::Traits::CONJ) => ("complex conjugate", "flip imaginary parts"),
        _ => ("negation", "flip signs"),
    }
}

fn read_only(asked: &Asked<'_>, bytes: u64) -> Text {
    let target = asked.caps.name;
    let text = Text::new(" would make a writable alias of read-only memory.");
    let copy = Fix::new(asked, Verb::Copy, format!("{bytes} B copied"));
    if asked.caps.immutable {
        return Text::new(format!(": {target} has no writable tensors."))
            .line(format!("{} was asked for", asked.dialect.given("writable", "True")))
            .fix(Fix::new(asked, asked.verb, asked.dialect.without("writable")).with(|r| r.writable = None));
    }
    if asked.request.writable == Some(true) {
        return text
            .line(format!("owner: {}; {} was asked for", owner(asked), asked.dialect.given("writable", "True")))
            .fix(copy)
            .fix(Fix::new(asked, Verb::Share, "a read-only view").with(|r| r.writable = Some(false)));
    }
    let source_is_writable =
        asked.desc.is_some_and(|d| !d.traits.intersects(crate::Traits::READ_ONLY | crate::Traits::IMMUTABLE));
    let first = if source_is_writable {
        format!("owner: {}; {} was asked for", owner(asked), asked.dialect.given("writable", "False"))
    } else {
        format!("owner: {}", owner(asked))
    };
    text.line(first)
        .line(format!("{target} has no read-only tensors; a write through it would change the owner (or crash on a read-only mapping)."))
        .fix(copy)
        .fix(
            Fix::new(asked, Verb::Share, "you promise not to write")
                .with(|r| r.writable = Some(false))
                .under("readonly", "trust"),
        )
}

/// Adds how to keep 64 bits, where the target has a way and the source has 64.
fn widened(asked: &Asked<'_>, mut text: Text) -> Text {
    let wide = |dtype| asked.caps.narrowed(dtype).is_some();
    let (from, to) = (asked.desc.map(|desc| desc.dtype), asked.request.dtype);
    if let (Some(switch), Dialect::Python) = (asked.caps.narrows, asked.dialect)
        && (to.is_some_and(wide) || (to.is_none() && from.is_some_and(wide)))
    {
        text.lines.push(format!("{} has no 64-bit types as it is configured.", asked.caps.name));
        text.raw_fixes.push(annotate(switch.to_owned(), "#", "keeps 64 bits"));
    }
    text
}

fn loss(asked: &Asked<'_>, reason: &Reason) -> Text {
    let text = Text::new(": values would be lost.").line(reason.detail.to_string());
    let allowed = match &reason.detail {
        Detail::Text(_) => "keeps the real part or the truth value",
        Detail::Loss(loss) if !loss.to.is_integer() => "rounds to the nearest",
        _ => "truncates toward zero and saturates",
    };
    text.fix(Fix::new(asked, copying(asked), allowed).with(|r| r.on_loss = OnLoss::Allow)).fix(
        Fix::new(asked, copying(asked), format!("{}, or ask for a wider one", asked.dialect.without("dtype")))
            .with(|r| r.dtype = None),
    )
}

fn missing_dtype(asked: &Asked<'_>, reason: &Reason) -> Text {
    let target = asked.caps.name;
    let Detail::Cast { to: dtype, .. } = reason.detail else {
        return Text::new(format!(": {}.", reason.detail)).raw("cast in two steps, or with another framework");
    };
    let cast_to = |to, note: &str| Fix::new(asked, copying(asked), note).with(|r| r.dtype = Some(to));
    let full = dtype.name().map_or_else(|| dtype.to_string(), str::to_owned);
    let mut text = Text::new(format!(": {target} has no {full}."));
    if dtype.is_carried_as_bits() {
        let bytes = asked.desc.map_or(0, |d| d.bytes_as(crate::DType::F32));
        text = text.fix(cast_to(crate::DType::F32, &format!("exact, {bytes} B copied")));
        if target == Caps::NUMPY.name && asked.dialect == Dialect::Python {
            text = text.raw(annotate("pip install ml_dtypes".to_owned(), "#", "keeps the bits, shares"));
        }
        if let Some(bits) = dtype.bits_dtype().filter(|bits| asked.caps.dtypes.contains(*bits)) {
            text = text.fix(cast_to(bits, "raw bits, shares"));
        }
    } else {
        let exact = asked.caps.dtypes.iter().find(|to| {
            use freehold_tensor::copy::{CastKind, cast_kind};
            matches!(cast_kind(dtype, *to), CastKind::Exact) && !to.is_bool()
        });
        text = match exact {
            Some(to) => text.fix(cast_to(to, "exact")),
            None => text.raw(format!("cast to a dtype that {target} has")),
        };
    }
    text
}

fn policy(asked: &Asked<'_>, reason: &Reason) -> Text {
    let again = Fix::new(asked, asked.verb, "");
    match &reason.detail {
        Detail::Limit { limit, bytes } => Text::new(": the policy in force forbids it.")
            .line(format!("{} (asked: {bytes} B)", asked.dialect.rule("max_copy_bytes", &limit.to_string())))
            .fix(again.under("max_copy_bytes", bytes.to_string())),
        Detail::Text(rule) if rule.starts_with("sync=") => Text::new(": the policy in force forbids it.")
            .line(asked.dialect.rule_text(rule))
            .fix(again.under("sync", "allow")),
        Detail::Text(rule) if rule.starts_with("devices=") => Text::new(": the policy in force forbids it.")
            .line(asked.dialect.rule_text(rule))
            .fix(again.under("devices", "any")),
        other => Text::new(": the policy in force forbids it.")
            .line(asked.dialect.rule_text(&other.to_string()))
            .fix(Fix::new(asked, Verb::Copy, "a copy asked for by name is allowed"))
            .fix(again.under("copies", "allow")),
    }
}
