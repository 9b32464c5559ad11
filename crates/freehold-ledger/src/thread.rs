//! Which shard a thread writes to.
//!
//! Every thread that uses a ledger claims a shard index for itself and gives it back when it ends. As long as it has
//! the index it is the only thread that writes the owner's side of that shard in any ledger, so the hot path needs
//! no atomic read-modify-write. Index 0 belongs to nobody: it is for threads beyond the last index and for those
//! whose thread-local storage is already being destroyed, and is written under a lock.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;

use crate::holder::SHARD_BITS;
use crate::slot::{ThreadSlot, at_hand, here, leave};
use crate::sync::{AtomicU64, Ordering};

/// How many shards a ledger can have.
pub(crate) const SHARDS: usize = 1 << SHARD_BITS;
/// The shard that is written under a lock.
pub(crate) const SHARED: usize = 0;

/// One bit for each index, set while a thread has it; bit 0 is never given out.
#[cfg(not(loom))]
static CLAIMED: [AtomicU64; SHARDS / 64] = {
    let mut words = [const { AtomicU64::new(0) }; SHARDS / 64];
    words[0] = AtomicU64::new(1);
    words
};
#[cfg(loom)]
loom::lazy_static! {
    static ref CLAIMED: [AtomicU64; SHARDS / 64] = std::array::from_fn(|word| AtomicU64::new(u64::from(word == 0)));
}
/// The number of the next thread.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A thread as the ledger sees it: its index in the low 8 bits, in the 16 above them its number, which is never 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writer(u32);

impl Writer {
    #[inline]
    pub(crate) const fn shard(self) -> usize {
        self.0 as usize & (SHARDS - 1)
    }

    /// A small number for reports; the 65 535th thread and all later ones share the last.
    #[inline]
    pub(crate) const fn number(self) -> u16 {
        (self.0 >> SHARD_BITS) as u16
    }
}

/// Gives the index back when the thread ends.
struct Claim {
    index: Cell<u32>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let index = self.index.get();
        if index != 0 {
            // From here on this thread, which may still run destructors that close holders, writes shard 0.
            let writer = writer();
            writer.set(writer.get() & !(SHARDS as u32 - 1));
            give_back(index);
        }
        leave::<Slot>();
    }
}

/// What [`Writer`] holds; 0 until the thread is known.
struct Slot(Cell<u32>);

impl ThreadSlot for Slot {
    const NEW: Slot = Slot(Cell::new(0));

    crate::thread_slot_statics!(Slot);

    fn will_leave() -> bool {
        CLAIM.try_with(|_| ()).is_ok()
    }

    fn renew(&self) {
        self.0.set(0);
    }
}

thread_local!(static CLAIM: Claim = const { Claim { index: Cell::new(0) } });

#[inline(always)]
fn writer<'a>() -> &'a Cell<u32> {
    // SAFETY: the calling thread's until it leaves, which is when it ends. The cell stays on its thread, and no caller keeps the
    // reference.
    unsafe { &(*here::<Slot>()).0 }
}

/// The calling thread.
#[inline]
pub(crate) fn current() -> Writer {
    let value = writer().get();
    if value == 0 { register() } else { Writer(value) }
}

/// The calling thread, if it has a shard of its own and is found without a call. `None` says nothing.
#[inline(always)]
pub(crate) fn usual() -> Option<Writer> {
    // SAFETY: as in `writer`.
    let writer = at_hand::<Slot>().map(|slot| unsafe { Writer((*slot).0.get()) });
    writer.filter(|writer| writer.shard() != SHARED)
}

#[cold]
fn register() -> Writer {
    let last = u32::from(u16::MAX);
    let number = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < last).then_some(n + 1));
    let number = number.unwrap_or(last);
    // An index is claimed only where the destructor that gives it back is sure to run.
    let index = CLAIM.try_with(|claim| {
        claim.index.set(claim_index());
        claim.index.get()
    });
    let index = index.unwrap_or(0);
    let value = number << SHARD_BITS | index;
    writer().set(value);
    Writer(value)
}

/// Takes the lowest index that no thread has; 0 if there is none.
fn claim_index() -> u32 {
    for (w, word) in CLAIMED.iter().enumerate() {
        // Acquire: what the index's last owner wrote to its shards must be visible here.
        let taken = word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |bits| (bits != u64::MAX).then(|| bits | (bits + 1)));
        if let Ok(before) = taken {
            return w as u32 * 64 + before.trailing_ones();
        }
    }
    0
}

/// Lets another thread have an index.
fn give_back(index: u32) {
    // Release: what this thread wrote to the index's shards must be visible to the next that has it.
    CLAIMED[index as usize / 64].fetch_and(!(1 << (index % 64)), Ordering::Release);
}

#[cfg(all(test, loom))]
mod model {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;

    use super::*;

    #[test]
    fn loom_an_index_has_one_thread_at_a_time() {
        loom::model(|| {
            // What the owner of an index writes; loom reports a use beside another, and one that is not ordered after it.
            let shards: Arc<[UnsafeCell<u32>; 3]> = Arc::new(std::array::from_fn(|_| UnsafeCell::new(0)));
            let work = |shards: &[UnsafeCell<u32>; 3]| {
                for _ in 0..2 {
                    let index = claim_index();
                    assert!(index == 1 || index == 2, "of two threads none has a third index");
                    // SAFETY: loom checks that nobody else uses it meanwhile.
                    shards[index as usize].with_mut(|value| unsafe { *value += 1 });
                    give_back(index);
                }
            };
            let other = {
                let shards = Arc::clone(&shards);
                loom::thread::spawn(move || work(&shards))
            };
            work(&shards);
            other.join().unwrap();
            // SAFETY: the other thread has ended.
            let total: u32 = shards.iter().map(|shard| shard.with(|value| unsafe { *value })).sum();
            assert_eq!(total, 4);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn live_threads_have_different_indices_and_ended_ones_give_theirs_back() {
        let me = current();
        assert_eq!(current().0, me.0);
        let mut numbers = std::collections::HashSet::from([me.number()]);
        for _ in 0..if cfg!(miri) { 4 } else { 2 * SHARDS } {
            let other = std::thread::spawn(current).join().expect("no panic");
            assert!(other.shard() != SHARED, "an index was not given back");
            assert!(other.shard() != me.shard());
            assert!(numbers.insert(other.number()));
        }
    }

    #[test]
    fn a_thread_that_is_ending_writes_the_shared_shard() {
        struct Late(std::sync::mpsc::Sender<bool>);
        impl Drop for Late {
            fn drop(&mut self) {
                let shard = current().shard();
                let claimed = CLAIMED[shard / 64].load(Ordering::Relaxed) >> (shard % 64) & 1 == 1;
                let _ = self.0.send(CLAIM.try_with(|_| ()).is_ok() && claimed || shard == SHARED);
            }
        }
        thread_local!(static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) });
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Whether this is destroyed before the claim or after it differs between platforms; either way the index
            // must be one that this thread may write.
            LATE.with(|late| *late.borrow_mut() = Some(Late(send)));
            current().shard()
        })
        .join()
        .expect("no panic");
        assert!(receive.recv().expect("sent by the destructor"));
    }
}
