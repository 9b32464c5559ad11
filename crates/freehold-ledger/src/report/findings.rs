//! What is worth a look, with what to do about it.

use freehold_tensor::{Code, Device, Steps};
use serde::{Deserialize, Serialize};

use super::{Name, form};
use crate::HolderId;

/// What a reader should look at first.
///
/// ```
/// use freehold_ledger::{HolderId, Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::COPY;
/// let ledger = Ledger::new(Level::Records);
/// ledger.copied(HolderId::NONE, &ARRAY, &COPY);
/// let findings = ledger.snapshot().findings;
/// assert_eq!((findings.copies.len(), findings.waits.len(), findings.lent.len()), (1, 0, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Copies by call site and reason, the most bytes first.
    pub copies: Vec<CopyGroup>,
    /// Where the host waited for a device, the most often first. Files written before it was counted have none.
    #[serde(default)]
    pub waits: Vec<WaitGroup>,
    /// Small views that keep large buffers, those that would free most first.
    pub pinned: Vec<PinnedReport>,
    /// What is out of its owner's hands, by call site, the longest first.
    pub lent: Vec<LentReport>,
    /// What each framework owns and holds.
    pub frameworks: Vec<FrameworkStats>,
    /// The most bytes that were live at once, as far as it is known.
    pub peak: Option<PeakReport>,
}

/// Copies from one call site for one reason.
///
/// ```
/// use freehold_ledger::{HolderId, Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::COPY;
/// let ledger = Ledger::new(Level::Records);
/// (0..3).for_each(|_| ledger.copied(HolderId::NONE, &ARRAY, &COPY)); // 24 B each, for CA01
/// let copies = &ledger.snapshot().findings.copies[0];
/// assert_eq!((copies.count, copies.bytes, copies.asked), (3, 72, false));
/// assert!(copies.fix.starts_with("make the data in the dtype that is needed here"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyGroup {
    /// The framework that was copied from.
    #[serde(with = "form::name")]
    pub from: Name,
    /// The framework that got the copies.
    #[serde(with = "form::name")]
    pub to: Name,
    /// What the passes did.
    #[serde(with = "form::names")]
    pub steps: Steps,
    /// Why, the first reason first; at most four.
    #[serde(with = "form::words")]
    pub reasons: Vec<Code>,
    /// Where in the caller's code; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the caller asked for a copy by name, so that there is no reason but the wish.
    pub asked: bool,
    /// What would have made each a share.
    pub fix: String,
}

/// Handovers from one call site for which the host waited until a device had done what was queued.
///
/// ```
/// use freehold_ledger::{Edge, Ledger, Level, Sync, WaitGroup};
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::SHARE;
/// let ledger = Ledger::new(Level::Records);
/// for _ in 0..2 { // NumPy to PyTorch
///     ledger.open(&ARRAY, Some(&Edge { sync: Sync::Host, ..SHARE }));
/// }
/// let wait = WaitGroup { from: "numpy", to: "torch", site: "", count: 2 };
/// assert_eq!(ledger.snapshot().findings.waits, [wait]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitGroup {
    /// The framework that handed over.
    #[serde(with = "form::name")]
    pub from: Name,
    /// The framework that it went to.
    #[serde(with = "form::name")]
    pub to: Name,
    /// Where in the caller's code; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// How often.
    pub count: u64,
}

/// A large buffer of which little is used.
///
/// ```
/// use freehold_ledger::{HolderDesc, Label, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let view = HolderDesc { role: Role::Holder, framework: Label::TORCH, alloc: Some((0x1000, 2 << 20)), ..ARRAY };
/// ledger.open(&view, None);
/// let pinned = &ledger.snapshot().findings.pinned[0];
/// assert_eq!((pinned.used_bytes, pinned.len, pinned.frees), (12, 2 << 20, (2 << 20) - 12));
/// assert!(pinned.fix.starts_with("keep a copy of the part"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedReport {
    /// The buffer's id.
    pub buffer: u64,
    /// Where it is.
    #[serde(with = "form::word")]
    pub device: Device,
    /// Its bytes.
    pub len: u64,
    /// At most how many of them the views touch.
    pub used_bytes: u64,
    /// How many would be freed if the views were copies.
    pub frees: u64,
    /// The views.
    pub holders: Vec<PinnedHolder>,
    /// What to do.
    pub fix: String,
}

/// A view that keeps a buffer.
///
/// ```
/// use freehold_ledger::{HolderDesc, Label, Ledger, Level, PinnedHolder, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let view = HolderDesc { role: Role::Holder, framework: Label::TORCH, alloc: Some((0x1000, 2 << 20)), ..ARRAY };
/// let id = ledger.open(&view, None);
/// let holder = PinnedHolder { id, framework: "torch", site: "", bytes: 12 };
/// assert_eq!(ledger.snapshot().findings.pinned[0].holders, [holder]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedHolder {
    /// Its id.
    #[serde(with = "form::word")]
    pub id: HolderId,
    /// Its framework.
    #[serde(with = "form::name")]
    pub framework: Name,
    /// Where it came to be; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// Bytes that it touches, at most.
    pub bytes: u64,
}

/// In which way something is lent.
///
/// ```
/// use freehold_ledger::{HolderDesc, HolderFlags, Ledger, Lent, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let state = |flags| {
///     let ledger = Ledger::new(Level::Records);
///     ledger.open(&HolderDesc { role: Role::Holder, flags, ..ARRAY }, None);
///     ledger.snapshot().findings.lent[0].state
/// };
/// assert_eq!(state(HolderFlags::empty()), Lent::Held);
/// assert_eq!(state(HolderFlags::EXPORTED), Lent::Unconsumed);
/// assert_eq!(state(HolderFlags::CONSUMED | HolderFlags::FROZEN), Lent::Frozen);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lent {
    /// A capsule was handed out, and nobody is known to have consumed it.
    Unconsumed,
    /// The owner must not write meanwhile.
    Frozen,
    /// A view is held.
    Held,
}

/// Views from one call site that are still held.
///
/// ```
/// use freehold_ledger::{HolderDesc, Label, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// ledger.mark();
/// let view = HolderDesc { role: Role::Holder, framework: Label::TORCH, site: Label::intern("train.py:31"), ..ARRAY };
/// for _ in 0..2 {
///     ledger.open(&view, None);
/// }
/// let lent = &ledger.snapshot().findings.lent[0];
/// assert_eq!((lent.to, lent.site, lent.count, lent.since_mark), ("torch", "train.py:31", 2, 2));
/// assert_eq!((lent.buffers, lent.bytes), (1, 12));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LentReport {
    /// How.
    pub state: Lent,
    /// The framework that lent it.
    #[serde(with = "form::name")]
    pub from: Name,
    /// The framework that holds it.
    #[serde(with = "form::name")]
    pub to: Name,
    /// Where it was lent; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// How many views.
    pub count: u64,
    /// How many of them since the newest mark: what a step took and did not give back. 0 if there is no mark.
    pub since_mark: u64,
    /// How many buffers they keep.
    pub buffers: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// For how long the oldest is held, in nanoseconds.
    pub oldest_ns: u64,
    /// For how long the youngest.
    pub youngest_ns: u64,
    /// The oldest.
    #[serde(with = "form::word")]
    pub holder: HolderId,
    /// The buffer that it keeps.
    pub buffer: u64,
    /// What to do.
    pub fix: String,
}

/// What a framework owns and holds.
///
/// ```
/// use freehold_ledger::{HolderDesc, Label, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let view = ledger.open(&HolderDesc { role: Role::Holder, framework: Label::TORCH, ..ARRAY }, None);
/// let [numpy, torch] = &ledger.snapshot().findings.frameworks[..] else { panic!("there are two") };
/// assert_eq!((numpy.framework, numpy.owned_bytes), ("numpy", 12));
/// assert_eq!((torch.framework, torch.owned_bytes, torch.borrowed_bytes), ("torch", 0, 12));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameworkStats {
    /// The framework.
    #[serde(with = "form::name")]
    pub framework: Name,
    /// Live records.
    pub holders: u64,
    /// Buffers that it owns, and their bytes.
    pub owned: u64,
    /// Bytes of those.
    pub owned_bytes: u64,
    /// Buffers of others that it holds.
    pub borrowed: u64,
    /// Bytes of those.
    pub borrowed_bytes: u64,
    /// Bytes copied for it since the ledger began.
    pub copied_in: u64,
    /// Bytes copied from it.
    pub copied_out: u64,
}

/// The most bytes that were live at once.
///
/// ```
/// use freehold_ledger::{Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Sites); // which keeps a history
/// let array = ledger.open(&ARRAY, None);
/// ledger.close(array);
/// let peak = ledger.snapshot().findings.peak.expect("something was live");
/// assert_eq!((peak.bytes, peak.exact), (12, true));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeakReport {
    /// How many.
    pub bytes: u64,
    /// When, in nanoseconds from the ledger's start.
    pub at_ns: u64,
    /// Whether every moment was looked at: the history is whole since the ledger began to keep one. If not, this is
    /// the most that a question to the ledger came across.
    pub exact: bool,
    /// The largest buffers of that moment.
    pub holders: Vec<PeakHolder>,
}

/// A buffer that was live at the peak.
///
/// ```
/// use freehold_ledger::{Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Sites);
/// let array = ledger.open(&ARRAY, None);
/// ledger.close(array);
/// let holders = ledger.snapshot().findings.peak.expect("something was live").holders;
/// assert_eq!((holders[0].framework, holders[0].bytes, holders[0].buffer), ("numpy", 12, None));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeakHolder {
    /// Its bytes.
    pub bytes: u64,
    /// Where.
    #[serde(with = "form::word")]
    pub device: Device,
    /// The framework of its first holder.
    #[serde(with = "form::name")]
    pub framework: Name,
    /// Where that came to be; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// The id of the buffer if it is still live.
    pub buffer: Option<u64>,
}
