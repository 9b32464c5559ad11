//! What the ledger answers with: plain owned data, as it was when it was asked.
//!
//! The JSON form is described by `docs/ledger-schema.json`. There, ids and addresses are strings, because a reader
//! that keeps numbers as doubles (JavaScript, `jq`) would change those above 2^53.

use freehold_tensor::{Code, DType, Device, Overlap, Steps, StrideUnit, Verdict};
use serde::{Deserialize, Serialize};

use crate::{Dialect, HolderFlags, HolderId, Role, Sync};

mod findings;
mod form;
mod history;
mod stats;

pub use findings::{
    CopyGroup, Findings, FrameworkStats, Lent, LentReport, PeakHolder, PeakReport, PinnedHolder, PinnedReport,
    WaitGroup,
};
pub use history::{ClosedReport, History, LaneReport};
pub use stats::{CopiedStats, CounterStats, DeviceStats, HandoverStats, HazardStats, LiveStats, RefusedStats, Stats};

/// The schema of [`Snapshot`]. The number changes when a reader of the old one would misread the new one.
///
/// ```
/// use freehold_ledger::{Ledger, Level, SCHEMA};
///
/// assert_eq!((SCHEMA, Ledger::new(Level::Off).snapshot().schema), ("freehold.ledger/2", SCHEMA));
/// ```
pub const SCHEMA: &str = "freehold.ledger/2";

/// The name of a framework, of a place in the caller's code, of a counter: kept for the life of the process.
///
/// ```
/// use freehold_ledger::{Label, Name};
///
/// let name: Name = Label::TORCH.as_str();
/// assert_eq!(name, "torch");
/// ```
pub type Name = &'static str;

/// A live holder.
///
/// ```
/// use freehold_ledger::{Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let holder = ledger.holder(array).expect("it is open");
/// assert_eq!((holder.framework, holder.role, &holder.shape[..]), ("numpy", Role::Owner, &[3][..]));
/// assert_eq!((holder.extent_start, holder.extent_bytes, holder.verdict), (0x1000, 12, None));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HolderReport {
    /// Its id.
    #[serde(with = "form::word")]
    pub id: HolderId,
    /// The buffer that it holds; 0 for a holder that came to be while the question was answered.
    pub buffer: u64,
    /// Owner or holder.
    #[serde(with = "form::word")]
    pub role: Role,
    /// The framework whose object holds the view.
    #[serde(with = "form::name")]
    pub framework: Name,
    /// Where in the caller's code it came to be; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// Where the memory is.
    #[serde(with = "form::word")]
    pub device: Device,
    /// Address of the first element.
    #[serde(with = "form::hex")]
    pub address: u64,
    /// The lowest address that the view reaches.
    #[serde(with = "form::hex")]
    pub extent_start: u64,
    /// Bytes from the lowest to one past the highest.
    pub extent_bytes: u64,
    /// Element type.
    #[serde(with = "form::word")]
    pub dtype: DType,
    /// Whether sub-byte elements fill a byte each.
    pub padded: bool,
    /// Elements along each dimension.
    pub shape: Vec<i64>,
    /// Steps along each dimension.
    pub strides: Vec<i64>,
    /// What the strides count.
    #[serde(with = "form::word")]
    pub stride_unit: StrideUnit,
    /// What is known about the view.
    #[serde(with = "form::names")]
    pub flags: HolderFlags,
    /// Nanoseconds from the ledger's start to the record's opening, exact to a few milliseconds.
    pub opened_ns: u64,
    /// The thread that opened it, as a small number.
    pub thread: u16,
    /// The number of the newest mark when it was opened; see [`crate::Ledger::mark`].
    pub mark: u32,
    /// The holder that it was made from; [`HolderId::NONE`] if there was none, or it was not recorded.
    #[serde(with = "form::id_or_null")]
    pub parent: HolderId,
    /// The framework of that holder; `None` if the record has no source.
    #[serde(with = "form::name_or_null")]
    pub from: Option<Name>,
    /// Shared or copied from there; `None` if the record has no source.
    #[serde(with = "form::word_or_null")]
    pub verdict: Option<Verdict>,
    /// The steps of the copy.
    #[serde(with = "form::names")]
    pub steps: Steps,
    /// Why, the first reason first.
    #[serde(with = "form::words")]
    pub reasons: Vec<Code>,
    /// Bytes copied.
    pub bytes: u64,
    /// How the handover was ordered with work on the device.
    #[serde(with = "form::word")]
    pub sync: Sync,
}

/// A buffer and everyone who holds it.
///
/// ```
/// use freehold_ledger::{HolderDesc, Label, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let first = HolderDesc { role: Role::Holder, framework: Label::TORCH, shape: &[1], ..ARRAY };
/// for holder in [ARRAY, first] {
///     ledger.open(&holder, None);
/// }
/// let buffer = ledger.owner(ARRAY.device, 0x1000).expect("somebody holds it");
/// assert_eq!((buffer.base, buffer.len, buffer.used_bytes), (0x1000, 12, 4)); // of 3 elements, one is looked at
/// assert_eq!(buffer.members().map(|holder| holder.framework).collect::<Vec<_>>(), ["numpy", "torch"]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BufferReport {
    /// Its id: given when the buffer is first seen by a query, never used again.
    pub id: u64,
    /// How many buffers the ledger has seen at this address, this one included (for the first 65 536 addresses).
    pub generation: u32,
    /// Where the memory is.
    #[serde(with = "form::word")]
    pub device: Device,
    /// Where the allocation begins, or the lowest address that is held if nobody said.
    #[serde(with = "form::hex")]
    pub base: u64,
    /// Bytes of the allocation, or from the lowest address held to the highest.
    pub len: u64,
    /// Whether some holder knew the allocation.
    pub allocation_known: bool,
    /// The record of whoever's deleter frees the memory, if it is open.
    pub owner: Option<HolderReport>,
    /// Everyone else who has a live view.
    pub holders: Vec<HolderReport>,
    /// At most how many bytes of the buffer the holders touch (the owner, if there is no holder).
    pub used_bytes: u64,
    /// `used_bytes` as a part of `len`, 0 to 1; small means that small views keep a large buffer alive.
    pub pinned_ratio: f64,
}

impl BufferReport {
    /// The owner, then the holders.
    pub fn members(&self) -> impl Iterator<Item = &HolderReport> {
        self.owner.iter().chain(&self.holders)
    }
}

/// A live holder that shares memory with a view.
///
/// ```
/// use freehold_ledger::{HolderDesc, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let view = HolderDesc { role: Role::Holder, strides: &[2], alloc: None, ..ARRAY };
/// let [even, odd, third] = [0x1000, 0x1004, 0x1008].map(|address| ledger.open(&HolderDesc { address, ..view }, None));
/// // What begins with the third element shares it with the even ones; the odd ones lie between.
/// let aliases = ledger.aliases(third);
/// assert_eq!(aliases.iter().map(|alias| alias.holder.id).collect::<Vec<_>>(), [even]);
/// assert_eq!((aliases[0].start, aliases[0].bytes), (0x1008, 12));
/// assert!(ledger.aliases(odd).is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AliasReport {
    /// The other holder.
    pub holder: HolderReport,
    /// [`Overlap::Some`], or [`Overlap::Unknown`] where the search gave up: treat as shared.
    #[serde(with = "form::word")]
    pub overlap: Overlap,
    /// The lowest address that both may reach.
    #[serde(with = "form::hex")]
    pub start: u64,
    /// Bytes of the range that both may reach; with strides, not every byte of it is shared.
    pub bytes: u64,
}

/// A copy that was made.
///
/// ```
/// use freehold_ledger::{HolderDesc, Label, Ledger, Level};
/// use freehold_tensor::{Code, Steps};
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::COPY;
/// let ledger = Ledger::new(Level::Records);
/// let copy = ledger.open(&HolderDesc { framework: Label::FREEHOLD, ..ARRAY }, Some(&COPY)); // NumPy to PyTorch
/// ledger.close(copy);
/// let copies = ledger.copies(); // which outlive their holders
/// assert_eq!((copies[0].holder, copies[0].from, copies[0].to), (copy, "numpy", "torch"));
/// assert_eq!((copies[0].bytes, copies[0].steps, &copies[0].reasons[..]), (24, Steps::CAST, &[Code::CA01][..]));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyReport {
    /// The holder that got the copy; it may be closed by now.
    #[serde(with = "form::id_or_null")]
    pub holder: HolderId,
    /// The framework that was copied from.
    #[serde(with = "form::name")]
    pub from: Name,
    /// The framework that got the copy.
    #[serde(with = "form::name")]
    pub to: Name,
    /// Bytes copied.
    pub bytes: u64,
    /// What the pass did.
    #[serde(with = "form::names")]
    pub steps: Steps,
    /// Why, the first reason first.
    #[serde(with = "form::words")]
    pub reasons: Vec<Code>,
    /// Where in the caller's code; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// Nanoseconds from the ledger's start.
    pub at_ns: u64,
    /// The thread that copied, as a small number.
    pub thread: u16,
}

/// Something that went wrong, or may.
///
/// ```
/// use freehold_ledger::{Ledger, Level};
/// use freehold_tensor::Code;
///
/// let ledger = Ledger::new(Level::Records);
/// ledger.hazard(Code::AL01, &[], "it changed while it was lent".to_owned());
/// let hazards = ledger.hazards();
/// assert_eq!((hazards[0].code, hazards[0].note.as_str()), (Code::AL01, "it changed while it was lent"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HazardReport {
    /// What.
    #[serde(with = "form::word")]
    pub code: Code,
    /// Which holders are part of it; they may be closed by now.
    pub holders: Vec<HazardHolder>,
    /// In words.
    pub note: String,
    /// Nanoseconds from the ledger's start.
    pub at_ns: u64,
}

/// A holder that is part of a hazard.
///
/// ```
/// use freehold_ledger::{HazardHolder, HolderId, Label, Ledger, Level, Party};
/// use freehold_tensor::Code;
///
/// let ledger = Ledger::new(Level::Records);
/// let gone = Party { framework: Label::TORCH, ..Party::NONE };
/// ledger.hazard_among(Code::AL01, &[gone], "it changed while it was lent".to_owned());
/// assert_eq!(ledger.hazards()[0].holders, [HazardHolder { id: HolderId::NONE, framework: "torch", site: "" }]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HazardHolder {
    /// Its id; [`HolderId::NONE`] if it has no record.
    #[serde(with = "form::id_or_null")]
    pub id: HolderId,
    /// Its framework; empty if it was not open when the hazard was recorded.
    #[serde(with = "form::name")]
    pub framework: Name,
    /// Where in the caller's code it came to be; empty if that is not known.
    #[serde(with = "form::name")]
    pub site: Name,
}

/// Everything the ledger knows. Other threads are not stopped meanwhile, so each part is true at a moment of its own.
///
/// ```
/// use freehold_ledger::{Ledger, Level, Snapshot};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let snapshot = ledger.snapshot();
/// ledger.close(array);
/// assert_eq!(snapshot.buffers[0].len, 12); // as it was
/// let mut json = Vec::new();
/// snapshot.write_json(&mut json, false)?;
/// let read = Snapshot::from_json(std::str::from_utf8(&json).expect("JSON is text")).expect("it was just written");
/// assert_eq!(read, snapshot);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    #[serde(with = "form::name")]
    pub schema: Name,
    /// The version of this crate.
    #[serde(with = "form::name")]
    pub version: Name,
    /// The process.
    pub pid: u32,
    /// When, in milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// When, in nanoseconds since the ledger's start.
    pub taken_ns: u64,
    /// The number of the newest mark.
    pub mark: u32,
    /// Totals.
    pub stats: Stats,
    /// Live buffers, by id.
    pub buffers: Vec<BufferReport>,
    /// The most recent copies, the oldest first.
    pub copies: Vec<CopyReport>,
    /// The most recent hazards, the oldest first.
    pub hazards: Vec<HazardReport>,
    /// What is worth a look: copies that could have been shares, small views of large buffers, what is still lent.
    pub findings: Findings,
    /// What was live before, as far as it is kept.
    pub history: History,
}

impl Snapshot {
    /// With the advice in its findings for readers of a language; the facts stay as they are.
    ///
    /// ```
    /// use freehold_ledger::{Dialect, Ledger, Level, TextOptions};
    ///
    /// static LEDGER: Ledger = Ledger::new(Level::Records);
    ///
    /// let text = LEDGER.snapshot().in_dialect(Dialect::C).text(TextOptions::default());
    /// assert!(text.starts_with("freehold ledger"));
    /// ```
    pub fn in_dialect(mut self, dialect: Dialect) -> Snapshot {
        self.findings.advise(dialect);
        self
    }
}
