//! The end of a record.

use std::sync::atomic::Ordering;

use freehold_tensor::Code;

use super::Ledger;
use crate::thread::{self, SHARED, Writer};
use crate::{Counter, HolderId, Level, history};

impl Ledger {
    /// Closes a record: its holder let go. `true` if it was open, and for [`HolderId::NONE`].
    ///
    /// `false` means that the id was closed before (a deleter ran twice) or was never given out; that is counted
    /// and recorded as a hazard.
    ///
    /// ```
    /// use freehold_ledger::{Counter, HolderId, Ledger, Level};
    ///
    /// # use freehold_ledger::example::ARRAY;
    /// let ledger = Ledger::new(Level::Records);
    /// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
    /// assert!(ledger.close(array));
    /// assert!(!ledger.close(array)); // a deleter ran twice
    /// assert_eq!((ledger.counted(Counter::DoubleClosed), ledger.hazards().len()), (1, 1));
    /// assert!(ledger.close(HolderId::NONE));
    /// ```
    #[inline]
    pub fn close(&self, id: HolderId) -> bool {
        let is_place = || self.shard(id.shard()).is_some_and(|shard| shard.slab.has(id.slot()));
        // SAFETY: the place is there.
        id.is_none() || (is_place() && unsafe { self.close_plain(id) }) || self.close_unusual(id)
    }

    /// As [`Ledger::close`], of a record that this ledger opened.
    ///
    /// # Safety
    ///
    /// * This ledger gave the id out, or it is [`HolderId::NONE`]. It may have been closed.
    #[inline(always)]
    pub unsafe fn close_opened(&self, id: HolderId) -> bool {
        // SAFETY: forwarded from the caller.
        id.is_none() || unsafe { self.close_plain(id) } || self.close_unusual(id)
    }

    /// The usual case: an open record of the calling thread that fits its place, at a level without a history. `false` if it is
    /// another.
    ///
    /// # Safety
    ///
    /// * Where the id is of the calling thread's own shard, there is a place with its index.
    #[inline(always)]
    unsafe fn close_plain(&self, id: HolderId) -> bool {
        if thread::usual().is_none_or(|writer| writer.shard() != id.shard()) {
            return false;
        }
        if self.level.load(Ordering::Relaxed) >= Level::Sites as u8 {
            return false;
        }
        match self.shard(id.shard()) {
            // SAFETY: forwarded from the caller.
            Some(shard) if unsafe { shard.slab.close_small(id.slot(), id.generation()) } => {
                shard.count_closed();
                true
            }
            _ => false,
        }
    }

    #[cold]
    #[inline(never)]
    fn close_unusual(&self, id: HolderId) -> bool {
        if self.level.load(Ordering::Relaxed) >= Level::Sites as u8 {
            return self.close_and_remember(id);
        }
        self.close_as(thread::current(), id)
    }

    fn close_and_remember(&self, id: HolderId) -> bool {
        let writer = thread::current();
        let last = history::look(self, id);
        let closed = self.close_as(writer, id);
        if let (true, Some(last), Some(shard)) = (closed, last, self.shard(id.shard())) {
            history::closed(shard, *last, writer.number());
        }
        closed
    }

    fn close_as(&self, writer: Writer, id: HolderId) -> bool {
        let Some(shard) = self.shard(id.shard()) else {
            self.closed_twice(id, 1);
            return false;
        };
        let mut late = 0u32;
        let closed = if writer.shard() == id.shard() && id.shard() != SHARED {
            let closed = shard.slab.close_own(id.slot(), id.generation());
            if closed {
                shard.count_closed();
            }
            closed
        } else {
            let closed = shard.slab.close_remote(id.slot(), id.generation(), &mut || late += 1);
            if closed {
                shard.count_closed_by_other();
            }
            closed
        };
        if !closed || late != 0 {
            self.closed_twice(id, late + u32::from(!closed));
        }
        closed
    }

    #[cold]
    pub(super) fn closed_twice(&self, id: HolderId, times: u32) {
        if self.level() == Level::Off {
            return;
        }
        self.count_by(Counter::DoubleClosed, u64::from(times));
        let note = if id.is_none() {
            "a deleter ran twice, on two threads at once"
        } else {
            "a deleter ran twice, or for a holder that never was"
        };
        self.hazard(Code::CP01, &[id], note.to_owned());
    }
}
