//! What was live before.

use freehold_tensor::{Code, DType, Device, Steps, Verdict};
use serde::{Deserialize, Serialize};

use super::{Name, form};
use crate::{HolderFlags, HolderId, Role};

/// Holders that are gone, and the buffers that they held. Empty below [`crate::Level::Sites`].
///
/// ```
/// use freehold_ledger::{Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Sites);
/// let array = ledger.open(&ARRAY, None);
/// assert!(ledger.snapshot().history.closed.is_empty());
/// ledger.close(array);
/// let history = ledger.snapshot().history;
/// assert_eq!((history.closed.len(), history.lanes.len(), history.dropped), (1, 1, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The most recent holders that are gone, in the order in which they went.
    pub closed: Vec<ClosedReport>,
    /// Their buffers and those of the live holders, in the order in which they came; empty where nothing is closed.
    pub lanes: Vec<LaneReport>,
    /// Holders that went but are no longer listed.
    pub dropped: u64,
}

/// A holder that is gone.
///
/// ```
/// use freehold_ledger::{Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Sites);
/// let array = ledger.open(&ARRAY, None);
/// ledger.close(array);
/// let closed = &ledger.snapshot().history.closed[0];
/// assert_eq!((closed.id, closed.framework, closed.extent_bytes), (array, "numpy", 12));
/// assert!(closed.opened_ns <= closed.closed_ns && closed.thread == closed.closed_by);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedReport {
    /// Its id.
    #[serde(with = "form::word")]
    pub id: HolderId,
    /// The buffer that it held: the number of a [`LaneReport`].
    pub lane: u32,
    /// Owner or holder.
    #[serde(with = "form::word")]
    pub role: Role,
    /// The framework whose object held the view.
    #[serde(with = "form::name")]
    pub framework: Name,
    /// Where in the caller's code it came to be; empty if the caller did not say.
    #[serde(with = "form::name")]
    pub site: Name,
    /// Bytes from the lowest that the view reached to one past the highest.
    pub extent_bytes: u64,
    /// Element type.
    #[serde(with = "form::word")]
    pub dtype: DType,
    /// Elements along each dimension.
    pub shape: Vec<i64>,
    /// What was known about the view.
    #[serde(with = "form::names")]
    pub flags: HolderFlags,
    /// Nanoseconds from the ledger's start to the record's opening.
    pub opened_ns: u64,
    /// Nanoseconds from the ledger's start to its closing.
    pub closed_ns: u64,
    /// The thread that opened it, as a small number.
    pub thread: u16,
    /// The thread that closed it.
    pub closed_by: u16,
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
}

/// A buffer from its first holder to its last.
///
/// ```
/// use freehold_ledger::{HolderDesc, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Sites);
/// let holders = [ARRAY, HolderDesc { role: Role::Holder, ..ARRAY }].map(|holder| ledger.open(&holder, None));
/// for id in holders {
///     ledger.close(id);
/// }
/// let lanes = ledger.snapshot().history.lanes; // both held one buffer
/// assert_eq!((lanes.len(), lanes[0].base, lanes[0].len), (1, 0x1000, 12));
/// assert!(lanes[0].buffer.is_none() && lanes[0].closed_ns.is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// Its number in this snapshot; another snapshot may give it another.
    pub lane: u32,
    /// The id of the buffer if it is live; `None` if it is gone.
    pub buffer: Option<u64>,
    /// Where the memory is.
    #[serde(with = "form::word")]
    pub device: Device,
    /// Where it begins, as far as its holders knew.
    #[serde(with = "form::hex")]
    pub base: u64,
    /// Bytes from there to the end.
    pub len: u64,
    /// Nanoseconds from the ledger's start to its first holder.
    pub opened_ns: u64,
    /// Nanoseconds from the ledger's start to the end of its last holder; `None` if it is live.
    pub closed_ns: Option<u64>,
}
