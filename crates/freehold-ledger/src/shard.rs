//! What one thread writes: its records and its totals.

use crate::lock::Lock;
use crate::slab::Slab;
use crate::sync::{AtomicU64, Ordering, bump};
use crate::tally::{Cold, Pairs};

/// One shard of a ledger.
#[repr(align(128))]
pub(crate) struct Shard {
    pub(crate) slab: Slab,
    /// Records opened. Written by the shard's writer only, after the record is visible.
    opened: AtomicU64,
    /// Records closed by the writer.
    closed: AtomicU64,
    /// Holders that were only counted (level 1) or for which there was no memory.
    pub(crate) unrecorded: AtomicU64,
    pub(crate) pairs: Pairs,
    pub(crate) cold: Lock<Cold>,
    others: Others,
}

/// Written by other threads, so on a line of its own.
#[repr(align(128))]
struct Others {
    closed: AtomicU64,
}

impl Shard {
    pub(crate) fn new() -> Shard {
        Shard {
            slab: Slab::new(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            unrecorded: AtomicU64::new(0),
            pairs: Pairs::new(),
            cold: Lock::new(Cold::default()),
            others: Others { closed: AtomicU64::new(0) },
        }
    }

    /// Counts an opened record. For the writer only.
    #[inline]
    pub(crate) fn count_opened(&self) {
        // Release: who sees the count must see the record, or a cached index would miss it for ever.
        bump(&self.opened, Ordering::Release);
    }

    /// Counts a record that the writer closed.
    #[inline]
    pub(crate) fn count_closed(&self) {
        bump(&self.closed, Ordering::Release);
    }

    /// Counts a record that another thread closed.
    pub(crate) fn count_closed_by_other(&self) {
        self.others.closed.fetch_add(1, Ordering::Release);
    }

    #[inline]
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Acquire) + self.others.closed.load(Ordering::Acquire)
    }

    /// Changes whenever a record is opened or closed.
    pub(crate) fn version(&self) -> u64 {
        self.opened().wrapping_add(self.closed())
    }

    /// Starts the totals again from nothing. For the child of a fork, where no other thread is left.
    pub(crate) fn forget_totals(&self) {
        for counter in [&self.opened, &self.closed, &self.unrecorded, &self.others.closed] {
            counter.store(0, Ordering::Relaxed);
        }
        self.pairs.clear();
        *self.cold.lock() = Cold::default();
    }
}

#[cfg(all(test, loom))]
mod model {
    use std::sync::Arc;

    use super::*;

    fn open(shard: &Shard) -> (u32, u32) {
        let place = shard.slab.reserve(&mut || panic!("nothing was closed twice")).expect("memory");
        let generation = place.publish(1, 0);
        shard.count_opened();
        (place.index, generation)
    }

    #[test]
    fn loom_who_sees_a_count_sees_what_was_counted() {
        loom::model(|| {
            let shard = Arc::new(Shard::new());
            let (index, generation) = open(&shard);
            // Its place is the next that is used, whatever comes back meanwhile.
            let free = open(&shard);
            assert!(shard.slab.close_own(free.0, free.1));
            shard.count_closed();
            let seen = shard.version();
            let closer = {
                let shard = Arc::clone(&shard);
                loom::thread::spawn(move || {
                    assert!(shard.slab.close_remote(index, generation, &mut || panic!("first")));
                    shard.count_closed_by_other();
                })
            };
            let reader = {
                let shard = Arc::clone(&shard);
                loom::thread::spawn(move || {
                    let now = shard.version();
                    let closed = shard.slab.live_generation(index) == 0;
                    let opened = shard.slab.live_generation(free.0) != 0;
                    assert!(now - seen <= u64::from(closed) + u64::from(opened));
                })
            };
            assert_eq!(open(&shard).0, free.0);
            closer.join().unwrap();
            reader.join().unwrap();
            assert_eq!((shard.opened(), shard.closed()), (3, 2));
        });
    }
}
