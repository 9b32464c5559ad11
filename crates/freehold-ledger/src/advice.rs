//! What would have made a copy a share, and what to do about what is lent or pinned: one line each.

use freehold_tensor::{Code, Steps};

use crate::report::{BufferReport, Lent};
use crate::text::bytes;

/// What would have made copies for these reasons shares.
pub(crate) fn for_copy(reasons: &[Code], steps: Steps, to: &str) -> String {
    // The first reason that somebody can do something about: information comes along with other reasons.
    let reason = reasons.iter().copied().find(|code| !code.is_info()).or_else(|| reasons.first().copied());
    let to = if to.is_empty() { "the target" } else { to };
    match reason {
        None if steps == Steps::FRESH => {
            format!("if nobody writes to it afterwards, fh.convert(x, \"{to}\") shares instead of copying")
        }
        None => format!("fh.plan(x, \"{to}\") at this line says what is in the way of sharing"),
        Some(Code::CA01 | Code::CA02) => {
            "make the data in the dtype that is needed here, where it is created; or drop dtype=".to_owned()
        }
        Some(Code::DT02) => {
            format!(
                "make the data in a dtype that {to} has, where it is created; or share its bits with dtype=\"uint8\""
            )
        }
        Some(Code::LY01) => "make the data row-major where it is created, or drop order=".to_owned(),
        Some(Code::ST01) => format!("share it the right way round and reverse it in {to}, or where it is created"),
        Some(Code::ST02) => format!("make it compact where it is created: {to} takes no views with gaps"),
        Some(Code::ST03) => "keep the field in an array of its own, not in a packed record".to_owned(),
        Some(Code::LY04) => format!("reshape it to fewer dimensions before {to}"),
        Some(Code::LY02 | Code::LY03) => "make it dense where it is created".to_owned(),
        Some(Code::RO01) => format!(
            "give {to} a writable source; or promise not to write: with fh.policy(readonly=\"trust\"): fh.share(x, \
             \"{to}\", writable=False)"
        ),
        Some(Code::AL03) => format!("promise that nobody writes: fh.share(x, \"{to}\", freeze=True)"),
        Some(Code::AL02) => format!("share the part that is repeated, and broadcast it in {to}"),
        Some(Code::BO01) => "store it in this machine's byte order where it is read".to_owned(),
        Some(Code::AG01) => format!("make it with Freehold (fh.copy once, 256-byte aligned) and reuse it for {to}"),
        Some(Code::DV01 | Code::DV02) => "make it on the device where it is used".to_owned(),
        Some(Code::LZ01) => "resolve it once where it is made: t.resolve_conj().resolve_neg()".to_owned(),
        Some(Code::GR01 | Code::GR02) => "detach=True shares it read-only".to_owned(),
        Some(Code::NU01) => "fill the nulls where the data is read; data without nulls is shared".to_owned(),
        Some(Code::OB02) => format!("{to} always makes memory of its own: hand it less, or less often"),
        Some(Code::OB01) => "hand over an array in place of a list or a scalar".to_owned(),
        Some(Code::PO01) => "the policy asks for it: see fh.policy()".to_owned(),
        Some(code) => format!("docs/e/{code}.md; fh.plan(x, \"{to}\") at this line says what would share"),
    }
}

/// What to do about a large buffer that small views keep.
pub(crate) fn for_pinned(buffer: &BufferReport, to: &str) -> String {
    let (used, frees) = (bytes(buffer.used_bytes), bytes(buffer.len - buffer.used_bytes));
    let call = match to {
        "" | "unknown" | "freehold" => "fh.copy(view)".to_owned(),
        to => format!("fh.copy(view, \"{to}\")"),
    };
    format!("keep a copy of the part, {call}: {used} copied, and {frees} can be freed")
}

/// What to do about views that are held.
pub(crate) fn for_lent(state: Lent, since_mark: u64, count: u64) -> String {
    match state {
        Lent::Unconsumed => "the capsule made here was never taken: hand it to from_dlpack, or drop it".to_owned(),
        Lent::Frozen => {
            "the owner must not write until it is dropped: lend it in a with block (with fh.share(..., freeze=True) as \
             y:)"
            .to_owned()
        }
        Lent::Held if since_mark > 1 || count > 2 => {
            "something keeps every one of them (a list, a cache, a closure): drop them, or lend in a with block"
                .to_owned()
        }
        Lent::Held => "nothing to do while it is in use; del the view, or lend it in a with block".to_owned(),
    }
}
