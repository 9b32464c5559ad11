//! What the caller says about a holder when it opens a record.

use std::fmt;

use freehold_tensor::{Code, DType, Device, Steps, StrideUnit, Verdict};

use crate::Label;

/// The id of a record. It names one holder for the life of the process: a place is used again, its id never.
///
/// ```
/// use freehold_ledger::{HolderId, Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// let id = Ledger::new(Level::Records).open(&ARRAY, None);
/// assert_eq!(HolderId::from_raw(id.get()), id);
/// let none = Ledger::new(Level::Off).open(&ARRAY, None);
/// assert!(none.is_none() && !id.is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct HolderId(u64);

/// Bits of a [`HolderId`]: generation 32, shard 8, slot 24.
pub(crate) const SLOT_BITS: u32 = 24;
pub(crate) const SHARD_BITS: u32 = 8;

impl HolderId {
    /// Nothing was recorded: the ledger was off or only counted when the holder came to be. Closing it does nothing.
    pub const NONE: HolderId = HolderId(0);

    /// The number, for a C struct or another language.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The id with this number. One that the ledger never gave out is found by no call.
    #[inline]
    pub const fn from_raw(raw: u64) -> HolderId {
        HolderId(raw)
    }

    /// Whether nothing was recorded.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn new(generation: u32, shard: usize, slot: u32) -> HolderId {
        HolderId((generation as u64) << 32 | (shard as u64) << SLOT_BITS | slot as u64)
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn shard(self) -> usize {
        (self.0 >> SLOT_BITS) as usize & ((1 << SHARD_BITS) - 1)
    }

    pub(crate) const fn slot(self) -> u32 {
        self.0 as u32 & ((1 << SLOT_BITS) - 1)
    }
}

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HolderId({:#x})", self.0)
    }
}

/// A holder that is part of a hazard, as it was.
///
/// ```
/// use freehold_ledger::{HolderId, Label, Ledger, Level, Party};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// assert_eq!(ledger.party(array), Party { id: array, framework: Label::NUMPY, site: Label::NONE });
/// assert_eq!(ledger.party(HolderId::NONE), Party::NONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    /// Its record; [`HolderId::NONE`] if it has none.
    pub id: HolderId,
    /// The framework whose object held the view.
    pub framework: Label,
    /// Where in the caller's code it came to be.
    pub site: Label,
}

impl Party {
    /// Nobody.
    pub const NONE: Party = Party { id: HolderId::NONE, framework: Label::NONE, site: Label::NONE };
}

/// What a holder is to the buffer.
///
/// ```
/// use freehold_ledger::{HolderDesc, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// ledger.open(&ARRAY, None);
/// ledger.open(&HolderDesc { role: Role::Holder, ..ARRAY }, None);
/// let buffer = &ledger.live()[0];
/// assert_eq!(buffer.owner.as_ref().map(|owner| owner.role), Some(Role::Owner));
/// assert_eq!(buffer.holders[0].role.name(), "holder");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Role {
    /// The record of whoever's deleter frees the memory.
    Owner,
    /// Has a live view.
    Holder,
}

impl Role {
    /// `owner` or `holder`.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Holder => "holder",
        }
    }
}

bitflags::bitflags! {
    /// What is known about a holder's view.
    ///
    /// ```
    /// use freehold_ledger::{HolderDesc, HolderFlags, Ledger, Level};
    ///
    /// # use freehold_ledger::example::ARRAY;
    /// let ledger = Ledger::new(Level::Records);
    /// let id = ledger.open(&HolderDesc { flags: HolderFlags::READ_ONLY | HolderFlags::EXPORTED, ..ARRAY }, None);
    /// assert!(ledger.update_flags(id, HolderFlags::CONSUMED, HolderFlags::EXPORTED));
    /// let flags = ledger.holder(id).expect("it is open").flags;
    /// assert_eq!(flags.names().collect::<Vec<_>>(), ["read_only", "consumed"]);
    /// ```
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct HolderFlags: u32 {
        /// The holder may not write through its view.
        const READ_ONLY = 1;
        /// The holder promised that nobody writes at all.
        const IMMUTABLE = 2;
        /// The memory is a copy made for this holder.
        const COPIED = 4;
        /// The view was cut from an autograd graph.
        const DETACHED = 8;
        /// The owner must not write while this view is lent.
        const FROZEN = 16;
        /// A capsule was handed out and is not yet known to be consumed.
        const EXPORTED = 32;
        /// The consumer took the capsule.
        const CONSUMED = 64;
    }
}

impl HolderFlags {
    /// The names of the flags, in the order above.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (HolderFlags::READ_ONLY, "read_only"),
            (HolderFlags::IMMUTABLE, "immutable"),
            (HolderFlags::COPIED, "copied"),
            (HolderFlags::DETACHED, "detached"),
            (HolderFlags::FROZEN, "frozen"),
            (HolderFlags::EXPORTED, "exported"),
            (HolderFlags::CONSUMED, "consumed"),
        ]
        .into_iter()
        .filter(move |(flag, _)| self.contains(*flag))
        .map(|(_, name)| name)
    }
}

/// How a handover was ordered with work that is in flight on the device.
///
/// ```
/// use freehold_ledger::{Counter, Edge, Ledger, Level, Sync};
///
/// # use freehold_ledger::example::ARRAY;
/// # use freehold_ledger::example::SHARE;
/// let ledger = Ledger::new(Level::Records);
/// ledger.open(&ARRAY, Some(&Edge { sync: Sync::Host, ..SHARE }));
/// assert_eq!(ledger.counted(Counter::HostWaits), 1);
/// assert!(Sync::Host > Sync::Event && Sync::Event.name() == "event");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub enum Sync {
    /// Nothing had to wait.
    #[default]
    None,
    /// The consumer's stream waits for an event; the host did not.
    Event,
    /// The host waited.
    Host,
}

impl Sync {
    /// `none`, `event` or `host`.
    pub const fn name(self) -> &'static str {
        match self {
            Sync::None => "none",
            Sync::Event => "event",
            Sync::Host => "host",
        }
    }
}

/// A holder as the caller describes it.
///
/// The layout should have passed [`freehold_tensor::Layout::validate`]. One that has not is recorded as it is, and
/// counts as reaching no byte.
///
/// ```
/// use freehold_ledger::{HolderDesc, HolderFlags, Label, Ledger, Level, Role};
/// use freehold_tensor::{DType, Device, StrideUnit};
///
/// let column = HolderDesc {
///     role: Role::Holder,
///     framework: Label::TORCH,
///     site: Label::intern("train.py:31"),
///     device: Device::CPU,
///     address: 0x1004,
///     dtype: DType::F32,
///     padded: false,
///     unit: StrideUnit::Elements,
///     shape: &[2],
///     strides: &[3],
///     alloc: Some((0x1000, 24)),
///     flags: HolderFlags::empty(),
/// };
/// let ledger = Ledger::new(Level::Records);
/// let report = ledger.holder(ledger.open(&column, None)).expect("it is open");
/// assert_eq!((report.extent_start, report.extent_bytes), (0x1004, 16));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HolderDesc<'a> {
    /// Owner or holder.
    pub role: Role,
    /// The framework whose object holds the view.
    pub framework: Label,
    /// Where in the caller's code it came to be, or [`Label::NONE`].
    pub site: Label,
    /// Where the memory is.
    pub device: Device,
    /// Address of the first element; for a device whose pointers are handles, the handle.
    pub address: u64,
    /// Element type.
    pub dtype: DType,
    /// Whether sub-byte elements fill a byte each.
    pub padded: bool,
    /// What the strides count.
    pub unit: StrideUnit,
    /// Elements along each dimension.
    pub shape: &'a [i64],
    /// Steps along each dimension; as many as the shape has.
    pub strides: &'a [i64],
    /// Base and length of the allocation, where the caller knows it.
    pub alloc: Option<(u64, u64)>,
    /// What is known about the view.
    pub flags: HolderFlags,
}

/// Where a holder's view came from.
///
/// ```
/// use freehold_ledger::{Edge, HolderDesc, Label, Ledger, Level, Sync};
/// use freehold_tensor::{Code, Steps, Verdict};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let copied = Edge {
///     from: array,
///     from_framework: Label::NUMPY,
///     to: Label::TORCH,
///     verdict: Verdict::Copy,
///     steps: Steps::LAYOUT,
///     reasons: &[Code::ST01],
///     bytes: 12,
///     sync: Sync::None,
/// };
/// ledger.open(&HolderDesc { framework: Label::FREEHOLD, address: 0x2000, alloc: None, ..ARRAY }, Some(&copied));
/// let copy = &ledger.copies()[0];
/// assert_eq!((copy.from, copy.to, &copy.reasons[..]), ("numpy", "torch", &[Code::ST01][..]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Edge<'a> {
    /// The holder that it was made from, or [`HolderId::NONE`].
    pub from: HolderId,
    /// The framework of that holder.
    pub from_framework: Label,
    /// The framework it was made for, where that is not the holder's own: a copy belongs to Freehold and was made
    /// for PyTorch. [`Label::NONE`] for the holder's.
    pub to: Label,
    /// Shared or copied.
    pub verdict: Verdict,
    /// The steps of the copy.
    pub steps: Steps,
    /// Why, the first reason first.
    pub reasons: &'a [Code],
    /// Bytes copied.
    pub bytes: u64,
    /// How it was ordered.
    pub sync: Sync,
}

impl Edge<'_> {
    /// The framework that the view was made for.
    pub(crate) fn target(&self, holder: &HolderDesc<'_>) -> Label {
        if self.to == Label::NONE { holder.framework } else { self.to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_parts() {
        let id = HolderId::new(u32::MAX, 255, (1 << SLOT_BITS) - 1);
        assert_eq!(id.get(), u64::MAX);
        let id = HolderId::new(7, 3, 12_345);
        assert_eq!((id.generation(), id.shard(), id.slot()), (7, 3, 12_345));
        assert_eq!(HolderId::from_raw(id.get()), id);
        assert!(HolderId::NONE.is_none() && !id.is_none());
    }
}
