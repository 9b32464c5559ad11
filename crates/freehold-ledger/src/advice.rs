//! What would have made a copy a share, and what to do about what is lent or pinned: one line each, in the language of
//! whoever reads it.
//!
//! Advice about the data is the same in every language and stands here once; only what is to be typed differs.

use freehold_tensor::{Code, Steps};

use crate::report::{CopyGroup, Findings, Lent, LentReport, PinnedReport};
use crate::text::bytes;

/// The language that advice and messages are written in: that of the face which was called.
///
/// ```
/// use freehold_ledger::Dialect;
///
/// assert_eq!(Dialect::Python.without("order"), "drop order=");
/// assert_eq!(Dialect::C.without("order"), "without request.order");
/// assert_eq!(Dialect::Rust.without("order"), "without .order()");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dialect {
    /// `fh.copy(x, "torch")`
    Python,
    /// `request.copy = FH_COPY_ALWAYS;`
    C,
    /// `Request::copy()`
    Rust,
}

impl Dialect {
    /// The advice to ask for less: `drop order=`, `without request.order`, `without .order()`.
    pub fn without(self, name: &str) -> String {
        match self {
            Dialect::Python => format!("drop {name}="),
            Dialect::C => format!("without request.{name}"),
            Dialect::Rust => format!("without .{name}()"),
        }
    }

    /// What asks why a handover copies, as the subject of a sentence.
    fn plan(self, to: &str) -> String {
        match self {
            Dialect::Python => format!("fh.plan(x, \"{to}\")"),
            Dialect::C => "fh_decide() with fh_decision_explain()".to_owned(),
            Dialect::Rust => "decide() with Message::explain()".to_owned(),
        }
    }
}

impl Findings {
    /// Writes what to do about each finding. All that it depends on is in the finding, so one that was read from a file
    /// can be told again in another language.
    pub(crate) fn advise(&mut self, dialect: Dialect) {
        self.copies.iter_mut().for_each(|copies| copies.fix = for_copy(dialect, copies));
        self.pinned.iter_mut().for_each(|pinned| pinned.fix = for_pinned(dialect, pinned));
        self.lent.iter_mut().for_each(|lent| lent.fix = for_lent(dialect, lent));
    }
}

/// What would have made the copies shares.
fn for_copy(dialect: Dialect, copies: &CopyGroup) -> String {
    let CopyGroup { reasons, steps, to, .. } = copies;
    // The first reason that somebody can do something about: information comes along with other reasons.
    let reason = reasons.iter().copied().find(|code| !code.is_info()).or_else(|| reasons.first().copied());
    let to = if to.is_empty() { "the target" } else { to };
    let less = |name: &str| match dialect {
        Dialect::Python => dialect.without(name),
        Dialect::C | Dialect::Rust => format!("ask {}", dialect.without(name)),
    };
    match reason {
        None if *steps == Steps::FRESH => {
            let convert = match dialect {
                Dialect::Python => format!("fh.convert(x, \"{to}\")"),
                Dialect::C => "request.copy = FH_COPY_IF_NEEDED".to_owned(),
                Dialect::Rust => "Request::convert()".to_owned(),
            };
            format!("if nobody writes to it afterwards, {convert} shares instead of copying")
        }
        None => format!("{} at this line says what is in the way of sharing", dialect.plan(to)),
        Some(Code::CA01 | Code::CA02) => {
            format!("make the data in the dtype that is needed here, where it is created; or {}", less("dtype"))
        }
        Some(Code::DT02) => {
            let bits = match dialect {
                Dialect::Python => "dtype=\"uint8\"",
                Dialect::C => "request.dtype = (DLDataType){kDLUInt, 8, 1}",
                Dialect::Rust => ".dtype(DType::U8)",
            };
            format!("make the data in a dtype that {to} has, where it is created; or share its bits with {bits}")
        }
        Some(Code::LY01) => format!("make the data row-major where it is created, or {}", less("order")),
        Some(Code::ST01) => format!("share it the right way round and reverse it in {to}, or where it is created"),
        Some(Code::ST02) => format!("make it compact where it is created: {to} takes no views with gaps"),
        Some(Code::ST03) => "keep the field in an array of its own, not in a packed record".to_owned(),
        Some(Code::LY04) => format!("reshape it to fewer dimensions before {to}"),
        Some(Code::LY02 | Code::LY03) => "make it dense where it is created".to_owned(),
        Some(Code::RO01) => {
            let trust = match dialect {
                Dialect::Python => format!("with fh.policy(readonly=\"trust\"): fh.share(x, \"{to}\", writable=False)"),
                Dialect::C => "policy.readonly = FH_READONLY_TRUST in fh_runtime_set_policy(), and request.writable = \
                               FH_WRITABLE_NO"
                    .to_owned(),
                Dialect::Rust => {
                    "Policy { readonly: ReadonlyPolicy::Trust, ..policy } and Request::share().writable(false)"
                        .to_owned()
                }
            };
            format!("give {to} a writable source; or promise not to write: {trust}")
        }
        Some(Code::AL03) => {
            let freeze = match dialect {
                Dialect::Python => format!("fh.share(x, \"{to}\", freeze=True)"),
                Dialect::C => "request.freeze = 1".to_owned(),
                Dialect::Rust => "Request::share().freeze()".to_owned(),
            };
            format!("promise that nobody writes: {freeze}")
        }
        Some(Code::AL02) => format!("share the part that is repeated, and broadcast it in {to}"),
        Some(Code::BO01) => "store it in this machine's byte order where it is read".to_owned(),
        Some(Code::AG01) => {
            let copy = match dialect {
                Dialect::Python => "fh.copy",
                Dialect::C => "FH_COPY_ALWAYS",
                Dialect::Rust => "Request::copy()",
            };
            format!("make it with Freehold ({copy} once, 256-byte aligned) and reuse it for {to}")
        }
        Some(Code::DV01 | Code::DV02) => "make it on the device where it is used".to_owned(),
        Some(Code::LZ01) => match dialect {
            Dialect::Python => "resolve it once where it is made: t.resolve_conj().resolve_neg()".to_owned(),
            Dialect::C => {
                "resolve it once where it is made, so that it has neither FH_FLAG_CONJ nor FH_FLAG_NEG".to_owned()
            }
            Dialect::Rust => "resolve it once where it is made, so that it has no Traits::LAZY".to_owned(),
        },
        Some(Code::GR01 | Code::GR02) => {
            let detach = match dialect {
                Dialect::Python => "detach=True",
                Dialect::C => "request.detach = 1",
                Dialect::Rust => ".detach()",
            };
            format!("{detach} shares it read-only")
        }
        Some(Code::NU01) => "fill the nulls where the data is read; data without nulls is shared".to_owned(),
        Some(Code::OB02) => format!("{to} always makes memory of its own: hand it less, or less often"),
        Some(Code::OB01) => "hand over an array in place of a list or a scalar".to_owned(),
        Some(Code::PO01) => {
            let policy = match dialect {
                Dialect::Python => "fh.policy()",
                Dialect::C => "fh_runtime_set_policy()",
                Dialect::Rust => "Runtime::policy()",
            };
            format!("the policy asks for it: see {policy}")
        }
        Some(code) => format!("docs/e/{code}.md; {} at this line says what would share", dialect.plan(to)),
    }
}

/// What to do about a large buffer that small views keep.
fn for_pinned(dialect: Dialect, pinned: &PinnedReport) -> String {
    let (used, frees) = (bytes(pinned.used_bytes), bytes(pinned.frees));
    let copy = match (dialect, pinned.holders.first().map_or("numpy", |holder| holder.framework)) {
        (Dialect::Python, "" | "unknown" | "freehold") => "fh.copy(view)".to_owned(),
        (Dialect::Python, to) => format!("fh.copy(view, \"{to}\")"),
        (Dialect::C, _) => "fh_convert() with request.copy = FH_COPY_ALWAYS".to_owned(),
        (Dialect::Rust, _) => "convert() with Request::copy()".to_owned(),
    };
    format!("keep a copy of the part, {copy}: {used} copied, and {frees} can be freed")
}

/// What to do about views that are held.
fn for_lent(dialect: Dialect, lent: &LentReport) -> String {
    let many = lent.since_mark > 1 || lent.count > 2;
    match lent.state {
        Lent::Unconsumed => {
            let take = match dialect {
                Dialect::Python => "hand it to from_dlpack, or drop it",
                Dialect::C => "hand it to a consumer, or call its deleter",
                Dialect::Rust => "hand it to a consumer, or drop it",
            };
            format!("the capsule made here was never taken: {take}")
        }
        Lent::Frozen => match dialect {
            Dialect::Python => {
                "the owner must not write until it is dropped: lend it in a with block (with fh.share(..., freeze=True) \
                 as y:)"
            }
            Dialect::C => {
                "the owner must not write until it is released: fh_tensor_release(), or its capsule's deleter, as soon \
                 as it was read"
            }
            Dialect::Rust => "the owner must not write until it is dropped: drop it as soon as it was read",
        }
        .to_owned(),
        Lent::Held if many => {
            let give_back = match dialect {
                Dialect::Python => "(a list, a cache, a closure): drop them, or lend in a with block",
                Dialect::C => "(an array, a cache, a global): fh_tensor_release() each, or call its capsule's deleter",
                Dialect::Rust => "(a Vec, a cache, a closure): drop them, or lend in a scope that ends",
            };
            format!("something keeps every one of them {give_back}")
        }
        Lent::Held => {
            let give_back = match dialect {
                Dialect::Python => "del the view, or lend it in a with block",
                Dialect::C => "fh_tensor_release() or its capsule's deleter gives it back",
                Dialect::Rust => "drop the view afterwards",
            };
            format!("nothing to do while it is in use; {give_back}")
        }
    }
}
