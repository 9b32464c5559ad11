//! What is kept of holders that are gone, for a timeline: from [`Level::Sites`](crate::Level::Sites) on.
//!
//! Each shard keeps its most recent closed records, and the exact times at which records were opened (a record itself
//! knows its own to a few milliseconds). Both are rings under the shard's lock: at level 2 and below nothing here is
//! called, and opening and closing a record cost one comparison of the level more.

use std::collections::{HashMap, VecDeque};

use crate::record::Record;
use crate::shard::Shard;
use crate::{HolderId, Ledger, clock, order};

/// The most recent closed records that each shard keeps: some 300 bytes each.
pub(crate) const CLOSED_KEPT: usize = if cfg!(miri) { 64 } else { 32_768 };
/// The most recent exact times of opening that each shard keeps.
const OPENED_KEPT: usize = 2 * CLOSED_KEPT;

/// A record that was closed.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) record: Record,
    pub(crate) at: u64,
    /// The thread that closed it.
    pub(crate) by: u16,
}

/// The history of one shard.
#[derive(Default)]
pub(crate) struct History {
    closed: VecDeque<Closed>,
    opened: VecDeque<(HolderId, u64)>,
    dropped: u64,
}

/// Notes when a record was opened.
#[cold]
pub(crate) fn opened(shard: &Shard, id: HolderId) {
    let now = clock::exact();
    let history = &mut shard.cold.lock().history;
    if history.opened.len() >= OPENED_KEPT {
        history.opened.pop_front();
    }
    history.opened.push_back((id, now));
}

/// The record with an id, before it is closed.
#[cold]
pub(crate) fn look(ledger: &Ledger, id: HolderId) -> Option<Box<Record>> {
    ledger.record(id).map(Box::new)
}

/// Keeps a record that was closed.
#[cold]
pub(crate) fn closed(shard: &Shard, record: Record, by: u16) {
    let closed = Closed { record, at: clock::exact(), by };
    let oldest = {
        let history = &mut shard.cold.lock().history;
        let oldest = if history.closed.len() >= CLOSED_KEPT { history.closed.pop_front() } else { None };
        history.dropped += u64::from(oldest.is_some());
        history.closed.push_back(closed);
        oldest
    };
    // Its memory is given back after the lock.
    drop(oldest);
}

/// The history of all shards at one moment.
pub(crate) struct Past {
    /// The oldest first.
    pub(crate) closed: Vec<Closed>,
    opened: HashMap<HolderId, u64>,
    pub(crate) dropped: u64,
}

impl Past {
    /// When a record was opened, as exactly as that is known.
    pub(crate) fn opened_at(&self, record: &Record) -> u64 {
        self.opened.get(&record.id).copied().unwrap_or_else(|| record.opened_at())
    }

    /// The exact time at which a record was opened.
    pub(crate) fn exactly(&self, id: HolderId) -> Option<u64> {
        self.opened.get(&id).copied()
    }
}

impl Ledger {
    /// What is kept of holders that are gone.
    pub(crate) fn past(&self) -> Past {
        let mut past = Past { closed: Vec::new(), opened: HashMap::new(), dropped: 0 };
        for (_, shard) in self.each_shard() {
            let history = &shard.cold.lock().history;
            past.closed.extend(history.closed.iter().cloned());
            past.opened.extend(history.opened.iter().copied());
            past.dropped += history.dropped;
        }
        order::by_key(&mut past.closed, |closed| (closed.at, closed.record.id));
        past
    }
}
