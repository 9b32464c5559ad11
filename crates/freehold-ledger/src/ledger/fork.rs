//! What happens to a ledger when its process forks.

use std::sync::atomic::Ordering;

use super::{Hazards, Ledger, Mark};
use crate::clock;

impl Ledger {
    /// Takes every lock of the ledger, so that a child process finds none held by a thread it does not have.
    ///
    /// Call it before `fork`, and [`Ledger::after_fork_in_parent`] and [`Ledger::after_fork_in_child`] after
    /// (`pthread_atfork`, `os.register_at_fork`). Opening and closing take no lock, so other threads go on meanwhile.
    /// Without these calls a child's hot path works too, but a query there may wait for ever if another thread was
    /// inside one, and the child would report the parent's records as its own.
    ///
    /// ```
    /// use freehold_ledger::{Ledger, Level};
    ///
    /// # use freehold_ledger::example::ARRAY;
    /// let ledger = Ledger::new(Level::Records);
    /// let array = ledger.open(&ARRAY, None); // f32[3] of NumPy's at 0x1000
    /// ledger.before_fork();
    /// ledger.after_fork_in_child(); // as the child would
    /// assert!(ledger.live().is_empty()); // the array is the parent's
    /// assert!(ledger.close(array));
    /// ```
    pub fn before_fork(&self) {
        // In the order in which they nest elsewhere.
        self.index.acquire();
        self.shared.acquire();
        self.growth.acquire();
        self.hazards.acquire();
        for (_, shard) in self.each_shard() {
            shard.slab.acquire_lock();
            shard.cold.acquire();
        }
        self.forking.store(true, Ordering::Release);
    }

    /// Gives the locks of [`Ledger::before_fork`] back, in the parent.
    pub fn after_fork_in_parent(&self) {
        if !self.forking.swap(false, Ordering::Acquire) {
            return;
        }
        for (_, shard) in self.each_shard() {
            // SAFETY: `forking` was set, so `before_fork` holds every lock without a guard and uses no value; no
            // shard was added since, because the growth lock is among them.
            unsafe {
                shard.cold.release();
                shard.slab.release_lock();
            }
        }
        // SAFETY: as above.
        unsafe {
            self.hazards.release();
            self.growth.release();
            self.shared.release();
            self.index.release();
        }
    }

    /// Gives the locks of [`Ledger::before_fork`] back and starts the child with an empty ledger.
    ///
    /// The parent's records leave every report. A deleter that the child runs for one of them closes it quietly.
    pub fn after_fork_in_child(&self) {
        if !self.forking.load(Ordering::Acquire) {
            return;
        }
        self.after_fork_in_parent();
        let Mark(epoch) = self.mark();
        self.inherited.store(epoch, Ordering::Relaxed);
        self.each_shard().for_each(|(_, shard)| shard.forget_totals());
        self.counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        *self.hazards.lock() = Hazards::none();
        self.index.lock().forget();
        self.start.store(clock::exact().max(1), Ordering::Relaxed);
    }
}
