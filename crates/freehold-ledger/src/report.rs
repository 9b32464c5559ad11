//! What the ledger answers with: plain owned data, as it was when it was asked.
//!
//! The JSON form is described by `docs/ledger-schema.json`. There, ids and addresses are strings, because a reader
//! that keeps numbers as doubles (JavaScript, `jq`) would change those above 2^53.

use freehold_tensor::{Code, DType, Device, Overlap, Steps, StrideUnit, Verdict};
use serde::{Serialize, Serializer};

use crate::{HolderFlags, HolderId, Level, Role, Sync};

/// The schema of [`Snapshot`]. The number changes when a reader of the old one would misread the new one.
pub const SCHEMA: &str = "freehold.ledger/1";

/// A live holder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HolderReport {
    /// Its id.
    #[serde(serialize_with = "text")]
    pub id: HolderId,
    /// The buffer that it holds; 0 for a holder that came to be while the question was answered.
    pub buffer: u64,
    /// Owner or holder.
    #[serde(serialize_with = "role")]
    pub role: Role,
    /// The framework whose object holds the view.
    pub framework: &'static str,
    /// Where in the caller's code it came to be; empty if the caller did not say.
    pub site: &'static str,
    /// Where the memory is.
    #[serde(serialize_with = "text")]
    pub device: Device,
    /// Address of the first element.
    #[serde(serialize_with = "hex")]
    pub address: u64,
    /// The lowest address that the view reaches.
    #[serde(serialize_with = "hex")]
    pub extent_start: u64,
    /// Bytes from the lowest to one past the highest.
    pub extent_bytes: u64,
    /// Element type.
    #[serde(serialize_with = "text")]
    pub dtype: DType,
    /// Whether sub-byte elements fill a byte each.
    pub padded: bool,
    /// Elements along each dimension.
    pub shape: Vec<i64>,
    /// Steps along each dimension.
    pub strides: Vec<i64>,
    /// What the strides count.
    #[serde(serialize_with = "unit")]
    pub stride_unit: StrideUnit,
    /// What is known about the view.
    #[serde(serialize_with = "flags")]
    pub flags: HolderFlags,
    /// Nanoseconds from the ledger's start to the record's opening, exact to a few milliseconds.
    pub opened_ns: u64,
    /// The thread that opened it, as a small number.
    pub thread: u16,
    /// The holder that it was made from; [`HolderId::NONE`] if there was none, or it was not recorded.
    #[serde(serialize_with = "id_or_null")]
    pub parent: HolderId,
    /// The framework of that holder; `None` if the record has no source.
    pub from: Option<&'static str>,
    /// Shared or copied from there; `None` if the record has no source.
    #[serde(serialize_with = "verdict_or_null")]
    pub verdict: Option<Verdict>,
    /// The steps of the copy.
    #[serde(serialize_with = "steps")]
    pub steps: Steps,
    /// Why, the first reason first.
    #[serde(serialize_with = "codes")]
    pub reasons: Vec<Code>,
    /// Bytes copied.
    pub bytes: u64,
    /// How the handover was ordered with work on the device.
    #[serde(serialize_with = "sync")]
    pub sync: Sync,
}

/// A buffer and everyone who holds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BufferReport {
    /// Its id: given when the buffer is first seen by a query, never used again.
    pub id: u64,
    /// How many buffers the ledger has seen at this address, this one included (for the first 65 536 addresses).
    pub generation: u32,
    /// Where the memory is.
    #[serde(serialize_with = "text")]
    pub device: Device,
    /// Where the allocation begins, or the lowest address that is held if nobody said.
    #[serde(serialize_with = "hex")]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AliasReport {
    /// The other holder.
    pub holder: HolderReport,
    /// [`Overlap::Some`], or [`Overlap::Unknown`] where the search gave up: treat as shared.
    #[serde(serialize_with = "overlap")]
    pub overlap: Overlap,
    /// The lowest address that both may reach.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// Bytes of the range that both may reach; with strides, not every byte of it is shared.
    pub bytes: u64,
}

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyReport {
    /// The holder that got the copy; it may be closed by now.
    #[serde(serialize_with = "id_or_null")]
    pub holder: HolderId,
    /// The framework that was copied from.
    pub from: &'static str,
    /// The framework that got the copy.
    pub to: &'static str,
    /// Bytes copied.
    pub bytes: u64,
    /// What the pass did.
    #[serde(serialize_with = "steps")]
    pub steps: Steps,
    /// Why, the first reason first.
    #[serde(serialize_with = "codes")]
    pub reasons: Vec<Code>,
    /// Where in the caller's code; empty if the caller did not say.
    pub site: &'static str,
    /// Nanoseconds from the ledger's start.
    pub at_ns: u64,
    /// The thread that copied, as a small number.
    pub thread: u16,
}

/// Something that went wrong, or may.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HazardReport {
    /// What.
    #[serde(serialize_with = "text")]
    pub code: Code,
    /// Which holders are part of it; they may be closed by now.
    pub holders: Vec<HazardHolder>,
    /// In words.
    pub note: String,
    /// Nanoseconds from the ledger's start.
    pub at_ns: u64,
}

/// A holder that is part of a hazard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HazardHolder {
    /// Its id.
    #[serde(serialize_with = "text")]
    pub id: HolderId,
    /// Its framework; empty if it was not open when the hazard was recorded.
    pub framework: &'static str,
}

/// Totals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// The level in force.
    #[serde(serialize_with = "text")]
    pub level: Level,
    /// Holders that came to be since the ledger began, recorded or only counted.
    pub opened: u64,
    /// Records closed. In a forked child this counts records of the parent too.
    pub closed: u64,
    /// What is live now.
    pub live: LiveStats,
    /// Handovers by pair of frameworks and verdict.
    pub handovers: Vec<HandoverStats>,
    /// Copies by the first reason.
    pub copied: Vec<CopiedStats>,
    /// Refusals.
    pub refused: Vec<RefusedStats>,
    /// Hazards by code.
    pub hazards: Vec<HazardStats>,
    /// Other events; those that never happened are left out.
    pub counters: Vec<CounterStats>,
    /// Copies that were made but are no longer listed.
    pub copies_dropped: u64,
    /// Hazards that were recorded but are no longer listed.
    pub hazards_dropped: u64,
}

/// What is live.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveStats {
    /// Open records.
    pub holders: u64,
    /// Buffers that they hold.
    pub buffers: u64,
    /// Bytes of those buffers.
    pub bytes: u64,
    /// The same for each device.
    pub by_device: Vec<DeviceStats>,
}

/// What is live on one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceStats {
    /// The device.
    #[serde(serialize_with = "text")]
    pub device: Device,
    /// Open records.
    pub holders: u64,
    /// Buffers that they hold.
    pub buffers: u64,
    /// Bytes of those buffers.
    pub bytes: u64,
}

/// Handovers of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandoverStats {
    /// From this framework.
    pub from: &'static str,
    /// To this one.
    pub to: &'static str,
    /// How.
    #[serde(serialize_with = "verdict")]
    pub verdict: Verdict,
    /// How often.
    pub count: u64,
}

/// Copies for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopiedStats {
    /// The first reason; `None` for copies that were asked for.
    #[serde(serialize_with = "code_or_null")]
    pub code: Option<Code>,
    /// How many copies.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Refusals of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RefusedStats {
    /// From this framework.
    pub from: &'static str,
    /// To this one.
    pub to: &'static str,
    /// Why.
    #[serde(serialize_with = "text")]
    pub code: Code,
    /// How often.
    pub count: u64,
}

/// Hazards of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HazardStats {
    /// What.
    #[serde(serialize_with = "text")]
    pub code: Code,
    /// How often.
    pub count: u64,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CounterStats {
    /// Its name; see [`crate::Counter`].
    pub name: &'static str,
    /// How often.
    pub count: u64,
}

/// Everything the ledger knows. Other threads are not stopped meanwhile, so each part is true at a moment of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The version of this crate.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// When, in milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// When, in nanoseconds since the ledger's start.
    pub taken_ns: u64,
    /// Totals.
    pub stats: Stats,
    /// Live buffers, by id.
    pub buffers: Vec<BufferReport>,
    /// The most recent copies, the oldest first.
    pub copies: Vec<CopyReport>,
    /// The most recent hazards, the oldest first.
    pub hazards: Vec<HazardReport>,
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

fn hex<S: Serializer>(value: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{value:#x}"))
}

fn id_or_null<S: Serializer>(id: &HolderId, s: S) -> Result<S::Ok, S::Error> {
    if id.is_none() { s.serialize_none() } else { s.collect_str(id) }
}

fn role<S: Serializer>(role: &Role, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(role.name())
}

fn unit<S: Serializer>(unit: &StrideUnit, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(match unit {
        StrideUnit::Elements => "elements",
        StrideUnit::Bytes => "bytes",
    })
}

fn flags<S: Serializer>(flags: &HolderFlags, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(flags.names())
}

fn steps<S: Serializer>(steps: &Steps, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(steps.names())
}

fn codes<S: Serializer>(codes: &[Code], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(codes.iter().map(|code| code.name()))
}

fn code_or_null<S: Serializer>(code: &Option<Code>, s: S) -> Result<S::Ok, S::Error> {
    code.map(Code::name).serialize(s)
}

fn verdict<S: Serializer>(verdict: &Verdict, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(verdict.name())
}

fn verdict_or_null<S: Serializer>(verdict: &Option<Verdict>, s: S) -> Result<S::Ok, S::Error> {
    verdict.map(Verdict::name).serialize(s)
}

fn sync<S: Serializer>(sync: &Sync, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(sync.name())
}

fn overlap<S: Serializer>(overlap: &Overlap, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(overlap_name(*overlap))
}

const fn overlap_name(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::None => "none",
        Overlap::Some => "some",
        Overlap::Unknown => "unknown",
    }
}
