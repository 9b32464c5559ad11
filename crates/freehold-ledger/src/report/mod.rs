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
pub const SCHEMA: &str = "freehold.ledger/2";

/// The name of a framework, of a place in the caller's code, of a counter: kept for the life of the process.
pub type Name = &'static str;

/// A live holder.
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
