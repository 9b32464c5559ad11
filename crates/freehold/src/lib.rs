//! The boundary: a tensor comes in, a decision is made from its metadata alone, and it goes out, on the ledger.
//!
//! ```
//! use freehold::{Caps, Policy, Request, Tensor, decide};
//!
//! let t = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], &[3])?;
//! let decision = decide(&t.desc(), &Request::share(), &Caps::TORCH, &Policy::default());
//! assert_eq!(decision.verdict, freehold::Verdict::Share);
//! assert_eq!(decision.bytes_copied, 0);
//! # Ok::<(), freehold::Error>(())
//! ```
//!
//! # Design
//!
//! * A [`Tensor`] owns a share of somebody's buffer: a foreign capsule, memory of ours, or any Rust value. Its shape
//!   and strides are copied in when it is made, so nothing a producer does to its struct later reaches us.
//! * [`decide`] is a pure function of metadata: description, request, capabilities of the target, policy. It
//!   allocates nothing on the share path. [`execute`] carries a decision out, in one pass if bytes must move.
//! * Every tensor and every export is a record of the ledger. A record is closed before its memory is given back,
//!   so that a reused address is never mistaken for the old buffer.
//! * Only the [`dlpack`] module names the `dlpark` crate.

#[cfg(any(feature = "ndarray", feature = "candle"))]
mod adapt;
mod block;
mod canary;
mod caps;
mod carry;
mod count;
mod decide;
mod decision;
mod desc;
mod dialect;
pub mod dlpack;
mod error;
mod execute;
pub mod exit;
mod export;
mod fix;
mod flow;
mod flowchart;
mod fork;
mod handle;
mod import;
mod message;
mod policy;
mod request;
mod runtime;
mod tensor;
mod trace;
mod validate;
mod view;

pub use canary::sweep;
pub use caps::{Caps, DeviceSet, StrideRule};
pub use decide::{decide, shares_plainly};
pub use decision::{Decision, Detail, Reason, Sync};
pub use desc::{TensorDesc, Traits};
pub use error::{Error, Result};
pub use execute::{Along, convert, copied_by_target, copy_for_target, copy_into, describe, execute, gather, road};
pub use export::{ExportOptions, LegacyCapsule, VersionedCapsule, drop_unconsumed_legacy, drop_unconsumed_versioned};
pub use flowchart::flowchart;
pub use freehold_tensor::copy::Description;
pub use import::{ImportOptions, OwnedTensor, RawTensor};
pub use message::{Asked, Message, Verb};
pub use policy::{AliasPolicy, CopiesPolicy, Policy, ReadonlyPolicy, SyncPolicy};
pub use request::{CopyRule, Request};
pub use runtime::Runtime;
#[doc(hidden)]
pub use tensor::LastHold;
pub use tensor::{Owner, Tensor};
pub use trace::hazard as report_hazard;
pub use view::{Element, View, ViewMut};

pub use freehold_device::{self as device, Stream};
pub use freehold_ledger::{self as ledger, Dialect, HolderId, Label, Ledger};
/// The layers below, for what this crate does not re-export.
pub use freehold_tensor as tensor_algebra;
pub use freehold_tensor::copy::OnLoss;
pub use freehold_tensor::{
    Code, DType, DTypeSet, Device, DeviceKind, FieldError, Layout, Order, Steps, StrideUnit, Verdict,
};
