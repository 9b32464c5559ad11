//! The ledger itself. `open` and `close` have the two ends of a record.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use freehold_tensor::Code;

use crate::index::IndexCache;
use crate::lock::Lock;
use crate::record::Record;
use crate::shard::Shard;
use crate::thread::{self, SHARDS};
use crate::{Counter, HolderFlags, HolderId, Label, Level, clock, slab};

mod close;
mod fork;
mod hazard;
mod open;

pub use hazard::HAZARDS_KEPT;
pub(crate) use hazard::{Hazard, Hazards};
pub use open::Describe;

/// Who owns which buffer, who holds a view of it, and what was copied and why.
///
/// A process has one, as a `static`; tests make their own. Every call may come from any thread, from a deleter and
/// after a panic. See the crate's documentation for what a call costs and what it may wait for.
///
/// ```
/// use freehold_ledger::{HolderDesc, Label, Ledger, Level, Role};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let view = ledger.open(&HolderDesc { role: Role::Holder, framework: Label::TORCH, ..ARRAY }, None);
/// assert_eq!(ledger.live().len(), 1); // one buffer, of both
/// assert_eq!(ledger.aliases(view)[0].holder.id, array);
/// assert_eq!(ledger.holders(ARRAY.device, 0x100b).len(), 2);
/// assert!(ledger.close(array)); // its owner is gone, and somebody still has it
/// assert!(ledger.live()[0].owner.is_none());
/// assert_eq!((ledger.stats().opened, ledger.stats().closed), (2, 1));
/// ```
pub struct Ledger {
    level: AtomicU8,
    forking: AtomicBool,
    /// Counts marks; a record keeps the value it was opened under.
    epoch: AtomicU32,
    /// Records of an earlier epoch belong to the parent process.
    inherited: AtomicU32,
    /// When the first record or total was written; 0 before.
    start: AtomicU64,
    shards: [AtomicPtr<Shard>; SHARDS],
    /// No shard has an index from here on.
    shards_end: AtomicUsize,
    /// Held by the writer of the shared shard.
    shared: Lock<()>,
    /// Held while a shard is added.
    growth: Lock<()>,
    pub(crate) hazards: Lock<Hazards>,
    /// How many there were, for who only asks whether there is a new one.
    pub(crate) hazard_count: AtomicU64,
    counters: [AtomicU64; Counter::ALL.len()],
    pub(crate) index: Lock<IndexCache>,
    /// See [`Ledger::before_answers`].
    look: OnceLock<fn()>,
}

/// A moment in the life of a ledger; see [`Ledger::leaks`].
///
/// ```
/// use freehold_ledger::{Ledger, Level, Mark};
///
/// # use freehold_ledger::example::ARRAY;
/// let ledger = Ledger::new(Level::Records);
/// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
/// let mark = ledger.mark();
/// let later = ledger.open(&ARRAY, None);
/// assert_eq!(ledger.leaks(mark).iter().map(|holder| holder.id).collect::<Vec<_>>(), [later]);
/// assert_eq!(ledger.leaks(Mark::from_raw(0)).len(), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mark(u32);

impl Mark {
    /// The number, for a C struct or another language.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The mark with this number. Number 0 is before every record.
    pub const fn from_raw(raw: u32) -> Mark {
        Mark(raw)
    }
}

impl Ledger {
    /// A ledger at a level.
    pub const fn new(level: Level) -> Ledger {
        Ledger {
            level: AtomicU8::new(level as u8),
            forking: AtomicBool::new(false),
            epoch: AtomicU32::new(1),
            inherited: AtomicU32::new(0),
            start: AtomicU64::new(0),
            shards: [const { AtomicPtr::new(ptr::null_mut()) }; SHARDS],
            shards_end: AtomicUsize::new(0),
            shared: Lock::new(()),
            growth: Lock::new(()),
            hazards: Lock::new(Hazards::none()),
            hazard_count: AtomicU64::new(0),
            counters: [const { AtomicU64::new(0) }; Counter::ALL.len()],
            index: Lock::new(IndexCache::new()),
            look: OnceLock::new(),
        }
    }

    /// The level in force.
    #[inline]
    pub fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Relaxed)).unwrap_or(Level::HIGHEST)
    }

    /// Whether the level is [`Level::Off`]: what the hot path asks first.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.level.load(Ordering::Relaxed) == Level::Off as u8
    }

    /// Whether the level is [`Level::Canaries`]: what the hot path asks.
    #[inline]
    pub fn watches(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= Level::Canaries as u8
    }

    /// Changes the level. Records that are open stay, and close as usual, at any level.
    ///
    /// ```
    /// use freehold_ledger::{Ledger, Level};
    ///
    /// # use freehold_ledger::example::ARRAY;
    /// let ledger = Ledger::new(Level::Records);
    /// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
    /// ledger.set_level(Level::Off);
    /// assert!(ledger.is_off() && ledger.open(&ARRAY, None).is_none());
    /// assert!(ledger.close(array)); // its record stayed
    /// ```
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Changes what is known about a holder; `false` if it is not open.
    pub fn update_flags(&self, id: HolderId, set: HolderFlags, clear: HolderFlags) -> bool {
        self.shard(id.shard())
            .is_some_and(|shard| shard.slab.update_flags(id.slot(), id.generation(), set.bits(), clear.bits()))
    }

    /// Counts a refusal.
    pub fn reject(&self, from: Label, to: Label, code: Code) {
        if self.level() == Level::Off {
            return;
        }
        if let Some(shard) = self.shard_or_new(thread::current().shard()) {
            *shard.cold.lock().refused.entry((from, to, code)).or_default() += 1;
        }
    }

    /// Counts one event.
    pub fn count(&self, counter: Counter) {
        self.count_by(counter, 1);
    }

    /// Counts several events of one kind.
    pub fn count_by(&self, counter: Counter, n: u64) {
        if self.level() != Level::Off {
            self.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
        }
    }

    #[cold]
    fn count_always(&self, counter: Counter) {
        self.counters[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often an event was counted.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// A mark at this moment, for [`Ledger::leaks`].
    ///
    /// A record that another thread opens at the same time may count as before it or after it.
    pub fn mark(&self) -> Mark {
        let next = self.epoch.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |epoch| epoch.checked_add(1));
        Mark(next.map_or(u32::MAX, |before| before + 1))
    }

    /// The records of this process that are open, one shard after another.
    ///
    /// `f` runs under no lock. A record that is opened or closed meanwhile may be seen or not; one that is open all
    /// the time is seen once.
    pub(crate) fn each_record(&self, f: &mut dyn FnMut(Record) -> bool) {
        for (index, shard) in self.each_shard() {
            for slot in (0..shard.slab.used()).map(slab::nth) {
                if let Some(copied) = shard.slab.read(slot) {
                    let record = Record::decode(index, slot, copied);
                    if !self.is_inherited(&record) && !f(record) {
                        return;
                    }
                }
            }
        }
    }

    /// The open record with an id.
    pub(crate) fn record(&self, id: HolderId) -> Option<Record> {
        self.record_in(id.shard(), id.slot()).filter(|record| record.id == id)
    }

    /// The open record in a place.
    pub(crate) fn record_in(&self, shard: usize, slot: u32) -> Option<Record> {
        let copied = self.shard(shard)?.slab.read(slot)?;
        let record = Record::decode(shard, slot, copied);
        (!self.is_inherited(&record)).then_some(record)
    }

    fn is_inherited(&self, record: &Record) -> bool {
        record.epoch < self.inherited.load(Ordering::Relaxed)
    }

    /// The number of the newest mark.
    pub(crate) fn newest_mark(&self) -> Mark {
        Mark(self.epoch.load(Ordering::Relaxed))
    }

    /// When the ledger began to record.
    pub(crate) fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    /// Changes whenever a record is opened or closed.
    pub(crate) fn version(&self) -> u64 {
        self.each_shard().fold(0, |sum, (_, shard)| sum.wrapping_add(shard.version()))
    }

    pub(crate) fn each_shard(&self) -> impl Iterator<Item = (usize, &Shard)> {
        (0..self.shards_end.load(Ordering::Acquire)).filter_map(|i| Some((i, self.shard(i)?)))
    }

    #[inline]
    fn shard(&self, index: usize) -> Option<&Shard> {
        let shard = self.shards[index % SHARDS].load(Ordering::Acquire);
        // SAFETY: a non-null pointer came from `Box::into_raw` in `add_shard`, is shared only, and is freed by
        // `Drop`, which has the ledger to itself.
        unsafe { shard.as_ref() }
    }

    #[inline]
    fn shard_or_new(&self, index: usize) -> Option<&Shard> {
        match self.shard(index) {
            Some(shard) => Some(shard),
            None => self.add_shard(index),
        }
    }

    #[cold]
    fn add_shard(&self, index: usize) -> Option<&Shard> {
        self.started(clock::exact());
        let _growth = self.growth.lock();
        if self.shard(index).is_none() {
            self.shards[index % SHARDS].store(Box::into_raw(Box::new(Shard::new())), Ordering::Release);
            self.shards_end.fetch_max(index + 1, Ordering::Release);
        }
        self.shard(index)
    }

    fn started(&self, now: u64) {
        let _ = self.start.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            let shard = *shard.get_mut();
            if !shard.is_null() {
                // SAFETY: the pointer came from `Box::into_raw` in `add_shard`, and `&mut self` says that nobody
                // else uses the ledger.
                drop(unsafe { Box::from_raw(shard) });
            }
        }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("level", &self.level()).finish_non_exhaustive()
    }
}
