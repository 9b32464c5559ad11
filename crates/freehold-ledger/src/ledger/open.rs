//! A record opened, and a handover counted.

use std::sync::atomic::Ordering;

use freehold_tensor::Verdict;

use super::Ledger;
use crate::record;
use crate::shard::Shard;
use crate::sync::bump;
use crate::tally;
use crate::thread::{self, SHARED, Writer};
use crate::{Counter, Edge, HolderDesc, HolderId, Level, Sync, clock, history};

/// What is to be recorded, for [`Ledger::open_under`]: both say the same whenever they are asked. They should be
/// `#[inline(always)]`.
///
/// ```
/// use freehold_ledger::{Describe, Edge, HolderDesc, Ledger, Level};
///
/// # use freehold_ledger::example::ARRAY;
/// #[derive(Clone, Copy)]
/// struct At(u64);
///
/// // SAFETY: neither opens nor closes a record.
/// unsafe impl Describe for At {
///     #[inline(always)]
///     fn holder(&self) -> HolderDesc<'_> {
///         HolderDesc { address: self.0, alloc: None, ..ARRAY }
///     }
///
///     #[inline(always)]
///     fn edge(&self) -> Option<Edge<'_>> {
///         None
///     }
/// }
///
/// let ledger = Ledger::new(Level::Records);
/// let id = ledger.open_under(ledger.level(), At(0x2000));
/// assert_eq!(ledger.holder(id).map(|holder| holder.address), Some(0x2000));
/// ```
///
/// # Safety
///
/// * Neither opens nor closes a record: they are asked while the place of this one is looked at.
pub unsafe trait Describe: Copy {
    /// The holder.
    fn holder(&self) -> HolderDesc<'_>;
    /// Where its view came from.
    fn edge(&self) -> Option<Edge<'_>>;
}

/// A description that is there.
#[derive(Clone, Copy)]
struct Described<'a> {
    holder: &'a HolderDesc<'a>,
    edge: Option<&'a Edge<'a>>,
}

// SAFETY: both are there already.
unsafe impl Describe for Described<'_> {
    #[inline(always)]
    fn holder(&self) -> HolderDesc<'_> {
        *self.holder
    }

    #[inline(always)]
    fn edge(&self) -> Option<Edge<'_>> {
        self.edge.copied()
    }
}

impl Ledger {
    /// Opens a record for a holder that came to be, and counts the handover if there was one.
    ///
    /// The id is [`HolderId::NONE`] below [`Level::Records`], and where there is no memory for a record (counted).
    pub fn open(&self, holder: &HolderDesc<'_>, edge: Option<&Edge<'_>>) -> HolderId {
        self.open_under(self.level(), Described { holder, edge })
    }

    /// As [`Ledger::open`], for a caller that has looked at the level.
    #[inline(always)]
    pub fn open_under(&self, level: Level, what: impl Describe) -> HolderId {
        self.open_usual(level, what).unwrap_or_else(|| self.open_unusual(level, what))
    }

    /// The usual case of [`Ledger::open_under`], which is also to be asked where this is `None`: nothing was done.
    ///
    /// It is in the caller, where what describes the holder goes from registers into the record. So that it stays there, nothing
    /// takes the address of a description: the other cases are functions of their own, best of the caller's too, which makes the
    /// description anew there.
    #[inline(always)]
    pub fn open_usual(&self, level: Level, what: impl Describe) -> Option<HolderId> {
        match level {
            Level::Records => self.open_plain(what),
            Level::Counters => self.count_plain(what).then_some(HolderId::NONE),
            _ => None,
        }
    }

    /// As [`Ledger::open_plain`], where handovers are only counted; `false` if nothing was done.
    #[inline(always)]
    fn count_plain(&self, what: impl Describe) -> bool {
        let shard = thread::usual().and_then(|writer| self.shard(writer.shard()));
        let Some(shard) = shard else { return false };
        if let Some(edge) = what.edge()
            && (!is_plain(&edge)
                || !shard.pairs.count_known(edge.from_framework, edge.target(&what.holder()), edge.verdict))
        {
            return false;
        }
        bump(&shard.unrecorded, Ordering::Relaxed);
        true
    }

    /// The usual case: a thread with a shard and a free place in it, a record that fits its place, no copy and no wait.
    /// `None` if it is another: nothing was done.
    #[inline(always)]
    fn open_plain(&self, what: impl Describe) -> Option<HolderId> {
        let writer = thread::usual()?;
        // Before anything is in a register that the call would have to save.
        let now = clock::coarse();
        let shard = self.shard(writer.shard())?;
        let place = shard.slab.peek()?;
        let words = place.words();
        let opened = record::opened(now, shard.opened());
        let epoch = self.epoch.load(Ordering::Relaxed);
        let (holder, edge) = (what.holder(), what.edge());
        let plain = record::write_plain(words, &holder, edge.as_ref(), epoch, opened);
        if !plain.dims || edge.as_ref().is_some_and(|edge| !is_plain(edge)) {
            return None;
        }
        if let Some(edge) = &edge
            && !shard.pairs.count_known(edge.from_framework, edge.target(&holder), edge.verdict)
        {
            return None;
        }
        place.take();
        record::end_plain(words, &plain, &holder);
        let generation = place.publish(writer.number(), holder.flags.bits());
        shard.count_opened();
        Some(HolderId::new(generation, writer.shard(), place.index))
    }

    #[cold]
    #[inline(never)]
    fn open_unusual(&self, level: Level, what: impl Describe) -> HolderId {
        self.open_any(level, &what.holder(), what.edge().as_ref())
    }

    /// At any level, by any thread.
    fn open_any(&self, level: Level, holder: &HolderDesc<'_>, edge: Option<&Edge<'_>>) -> HolderId {
        if level == Level::Off {
            return HolderId::NONE;
        }
        let writer = thread::current();
        let _writer = (writer.shard() == SHARED).then(|| self.shared.lock());
        self.open_as(writer, level, holder, edge)
    }

    /// The caller is the writer of the shard: it has its index, or holds the lock of the shared one.
    fn open_as(&self, writer: Writer, level: Level, holder: &HolderDesc<'_>, edge: Option<&Edge<'_>>) -> HolderId {
        let Some(shard) = self.shard_or_new(writer.shard()) else {
            self.count_always(Counter::RecordsDropped);
            return HolderId::NONE;
        };
        let mut id = HolderId::NONE;
        if level >= Level::Records {
            if let Some(place) = shard.slab.reserve(&mut || self.closed_twice(HolderId::NONE, 1)) {
                let epoch = self.epoch.load(Ordering::Relaxed);
                let opened = record::opened(clock::coarse(), shard.opened());
                record::write(&shard.slab, place.words(), holder, edge, epoch, opened);
                let generation = place.publish(writer.number(), holder.flags.bits());
                shard.count_opened();
                id = HolderId::new(generation, writer.shard(), place.index);
                if level >= Level::Sites {
                    history::opened(shard, id);
                }
            } else {
                self.count_always(Counter::RecordsDropped);
            }
        }
        if id.is_none() {
            bump(&shard.unrecorded, Ordering::Relaxed);
        }
        if let Some(edge) = edge {
            let to = edge.target(holder);
            if !shard.pairs.count(edge.from_framework, to, edge.verdict) {
                let pair = (edge.from_framework, to, edge.verdict);
                *shard.cold.lock().handovers.entry(pair).or_default() += 1;
            }
            if edge.verdict == Verdict::Copy || edge.sync == Sync::Host {
                self.note(shard, holder, edge, id, writer.number());
            }
        }
        id
    }

    /// Counts a copy into memory that was there: `id` is the holder it was copied into, as `holder` describes it.
    ///
    /// ```
    /// use freehold_ledger::Ledger;
    /// # use freehold_ledger::Level;
    ///
    /// # use freehold_ledger::example::ARRAY;
    /// # use freehold_ledger::example::COPY;
    /// let ledger = Ledger::new(Level::Records);
    /// let array = ledger.open(&ARRAY, None);
    /// ledger.copied(array, &ARRAY, &COPY); // 24 B
    /// assert_eq!((ledger.copies()[0].holder, ledger.copies()[0].bytes), (array, 24));
    /// ```
    pub fn copied(&self, id: HolderId, holder: &HolderDesc<'_>, edge: &Edge<'_>) {
        if self.level() == Level::Off {
            return;
        }
        let writer = thread::current();
        if let Some(shard) = self.shard_or_new(writer.shard()) {
            let pair = (edge.from_framework, edge.target(holder), edge.verdict);
            *shard.cold.lock().handovers.entry(pair).or_default() += 1;
            self.note(shard, holder, edge, id, writer.number());
        }
    }

    /// Keeps of a copy, or of a wait of the host, what outlives the holder. Both take longer than this.
    #[inline(never)]
    fn note(&self, shard: &Shard, holder: &HolderDesc<'_>, edge: &Edge<'_>, id: HolderId, thread: u16) {
        let mut cold = shard.cold.lock();
        if edge.verdict == Verdict::Copy {
            cold.copied(tally::Copy::new(holder, edge, id, clock::exact(), thread));
        }
        if edge.sync == Sync::Host {
            cold.waited((edge.from_framework, edge.target(holder), holder.site));
            self.count_always(Counter::HostWaits);
        }
    }
}

/// Whether an edge is counted by its pair alone, and fits the words of a place.
#[inline(always)]
fn is_plain(edge: &Edge<'_>) -> bool {
    edge.verdict == Verdict::Share && edge.sync != Sync::Host && record::is_small(edge)
}
