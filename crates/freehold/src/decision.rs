//! What was decided, and why.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::{Code, DType, Device, FieldError, OnLoss, Order, Steps, Verdict};

pub use freehold_ledger::Sync;

/// The field and value behind a reason.
///
/// ```
/// use freehold::{Caps, DType, Detail, Policy, Request, Tensor, convert, decide};
///
/// let t = Tensor::from(vec![1i32, 300]);
/// let bytes = Request::convert().dtype(DType::U8);
/// let decision = decide(&t.desc(), &bytes, &Caps::FREEHOLD, &Policy::default());
/// assert_eq!(decision.reasons[0].detail, Detail::Cast { from: DType::I32, to: DType::U8 });
/// // Only the pass over the values finds this one.
/// let error = convert(&t, &bytes, &Caps::FREEHOLD, &Policy::default()).unwrap_err();
/// let detail = &error.decision().expect("it was decided").reasons[0].detail;
/// assert_eq!(detail.to_string(), "1 of 2 values do not fit u8 (first: x[1]=300)");
/// assert!(matches!(detail, Detail::Loss(loss) if loss.count == 1));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Detail {
    /// The code says it all.
    None,
    /// A dimension's stride, and the one that would do.
    Dim {
        /// The dimension.
        dim: u32,
        /// Its stride.
        stride: i64,
        /// The stride that the target or the request wants; 0 for "not negative".
        want: i64,
    },
    /// A change of element type, or a type that the target lacks.
    Cast {
        /// The source's.
        from: DType,
        /// The result's.
        to: DType,
    },
    /// A change of device.
    Move {
        /// The source's.
        from: Device,
        /// The result's.
        to: Device,
    },
    /// An address that is not aligned enough.
    Align {
        /// The address modulo what is needed.
        rem: u32,
        /// What is needed, in bytes.
        need: u32,
    },
    /// More bytes than allowed.
    Limit {
        /// Bytes the handover would copy.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Values that the dtype cannot hold.
    Loss(Box<LossDetail>),
    /// A metadata field that breaks a rule.
    Field(FieldError),
    /// Anything else, in words.
    Text(Cow<'static, str>),
}

/// Which values did not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LossDetail {
    /// How many.
    pub count: u64,
    /// Of how many.
    pub total: u64,
    /// The first one's index, such as `3, 0`.
    pub index: String,
    /// The first one's value.
    pub value: String,
    /// The dtype that cannot hold it.
    pub to: DType,
}

/// One reason: a stable code and the field, value and limit behind it.
///
/// ```
/// use freehold::{Code, Decision, Reason};
///
/// let refused = Decision::reject(Reason::text(Code::DT02, "an array of Python objects"));
/// assert_eq!(refused.to_string(), "reject: DT02");
/// assert_eq!(refused.reasons[0].detail.to_string(), "an array of Python objects");
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Reason {
    /// The code.
    pub code: Code,
    /// Field, value, limit.
    pub detail: Detail,
}

impl Reason {
    /// A reason with a detail.
    pub fn new(code: Code, detail: Detail) -> Self {
        Self { code, detail }
    }

    /// A reason told in words.
    pub fn text(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: Detail::Text(text.into()) }
    }
}

/// What will happen at the boundary, computed from metadata alone.
///
/// ```
/// use freehold::{Caps, Code, DType, Policy, Request, Tensor, decide};
///
/// let t = Tensor::from(vec![1.0f32, 2.0]);
/// let decision = decide(&t.desc(), &Request::convert().dtype(DType::F64), &Caps::NUMPY, &Policy::default());
/// assert_eq!(decision.to_string(), "copy (cast) 16 B: CA01");
/// assert!(decision.is_ok() && decision.code() == Some(Code::CA01));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// Share, copy or reject.
    pub verdict: Verdict,
    /// What a copy does on its one pass.
    pub steps: Steps,
    /// Why, the first failing field first; infos and hints come last.
    pub reasons: SmallVec<[Reason; 2]>,
    /// The element type of the result.
    pub dtype: DType,
    /// Whether the result reads the source's elements as the bits of another type of the same width.
    pub bit_view: bool,
    /// The device of the result.
    pub device: Device,
    /// The order of the result where it is a copy.
    pub order: Order,
    /// Alignment of the result in bytes where it is a copy; 0 for the allocator's.
    pub alignment: u32,
    /// Whether the receiver may write to the result.
    pub writable: bool,
    /// Whether read-only memory is shared as writable because the policy trusts the caller: a hazard.
    pub trusted: bool,
    /// What happens to values that do not fit.
    pub on_loss: OnLoss,
    /// Whether the owner is frozen while the memory is lent.
    pub freeze: bool,
    /// Bytes read and written by the copy, counted once.
    pub bytes_copied: u64,
    /// Bytes allocated for the result.
    pub bytes_allocated: u64,
    /// Waiting that the handover needs.
    pub sync: Sync,
}

impl Decision {
    /// A refusal that an adapter made before there was anything to describe: an object array, a sparse tensor.
    pub fn reject(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Reject,
            steps: Steps::empty(),
            reasons: smallvec::smallvec![reason],
            dtype: DType::U8,
            bit_view: false,
            device: Device::CPU,
            order: Order::Any,
            alignment: 0,
            writable: false,
            trusted: false,
            on_loss: OnLoss::default(),
            freeze: false,
            bytes_copied: 0,
            bytes_allocated: 0,
            sync: Sync::None,
        }
    }

    /// The first reason's code, if any.
    pub fn code(&self) -> Option<Code> {
        self.reasons.first().map(|r| r.code)
    }

    /// Whether a reason with this code is among the reasons.
    pub fn has(&self, code: Code) -> bool {
        self.reasons.iter().any(|r| r.code == code)
    }

    /// The codes, in order.
    pub fn codes(&self) -> SmallVec<[Code; 4]> {
        // Mostly one: to collect costs more than to push.
        let mut codes = SmallVec::new();
        for reason in &self.reasons {
            codes.push(reason.code);
        }
        codes
    }

    /// Whether something is handed over (`bool(decision)` in Python).
    pub fn is_ok(&self) -> bool {
        self.verdict != Verdict::Reject
    }

    /// The decision as plain data: the same keys in Python's `to_dict()` and in the ledger's files.
    ///
    /// ```
    /// use freehold::{Caps, Policy, Request, Tensor, decide};
    ///
    /// let t = Tensor::from(vec![1.0f32, 2.0]);
    /// let decision = decide(&t.desc(), &Request::copy(), &Caps::NUMPY, &Policy::default()).to_json();
    /// assert_eq!((decision["verdict"].as_str(), decision["bytes_copied"].as_u64()), (Some("copy"), Some(8)));
    /// ```
    pub fn to_json(&self) -> Value {
        json!({
            "verdict": self.verdict.name(),
            "steps": self.steps.names().collect::<Vec<_>>(),
            "reasons": self.reasons.iter().map(|r| json!({
                "code": r.code.name(),
                "info": r.code.is_info(),
                "detail": r.detail.to_string(),
            })).collect::<Vec<_>>(),
            "dtype": self.dtype.to_string(),
            "bit_view": self.bit_view,
            "device": self.device.to_string(),
            "order": order_name(self.order),
            "writable": self.writable,
            "trusted": self.trusted,
            "on_loss": on_loss_name(self.on_loss),
            "freeze": self.freeze,
            "bytes_copied": self.bytes_copied,
            "bytes_allocated": self.bytes_allocated,
            "sync": sync_name(self.sync),
        })
    }
}

/// What becomes of values that do not fit, as requests spell it.
pub(crate) fn on_loss_name(on_loss: OnLoss) -> &'static str {
    match on_loss {
        OnLoss::Error => "error",
        OnLoss::Allow => "allow",
        OnLoss::Saturate => "saturate",
    }
}

/// `any`, `C` or `F`.
pub(crate) fn order_name(order: Order) -> &'static str {
    match order {
        Order::Any => "any",
        Order::C => "C",
        Order::F => "F",
    }
}

/// `none`, `event` or `host`.
pub(crate) fn sync_name(sync: Sync) -> &'static str {
    match sync {
        Sync::None => "none",
        Sync::Event => "event",
        Sync::Host => "host",
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detail::None => Ok(()),
            Detail::Dim { dim, stride, want: 0 } => write!(f, "dim {dim} has stride {stride} < 0"),
            Detail::Dim { dim, stride, want } => write!(f, "dim {dim}: stride {stride}, compact would be {want}"),
            Detail::Cast { from, to } if from == to => write!(f, "{from}"),
            Detail::Cast { from, to } => write!(f, "{from} -> {to}"),
            Detail::Move { from, to } => write!(f, "{from} -> {to}"),
            Detail::Align { rem, need } => write!(f, "address % {need} = {rem}"),
            Detail::Limit { bytes, limit } => write!(f, "{bytes} B, at most {limit} B"),
            Detail::Loss(loss) => {
                let LossDetail { count, total, index, value, to } = &**loss;
                let fit = if *total == 1 { "value does" } else { "values do" };
                write!(f, "{count} of {total} {fit} not fit {to} (first: x[{index}]={value})")
            }
            Detail::Field(error) => write!(f, "{error}"),
            Detail::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Decision {
    /// One line: `copy (layout, cast) 96 B: ST01, CA01`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict.name())?;
        if !self.steps.is_empty() {
            write!(f, " ({})", self.steps.names().collect::<Vec<_>>().join(", "))?;
        }
        if self.verdict == Verdict::Copy {
            write!(f, " {} B", self.bytes_copied)?;
        }
        if self.verdict != Verdict::Reject && !self.writable {
            f.write_str(", read-only")?;
        }
        for (i, reason) in self.reasons.iter().enumerate() {
            write!(f, "{} {}", if i == 0 { ":" } else { "," }, reason.code)?;
        }
        Ok(())
    }
}
