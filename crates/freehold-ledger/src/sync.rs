//! The atomics of the slab: the standard ones, or loom's when its model is checked (`RUSTFLAGS="--cfg loom"`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Adds one to a counter that only one thread writes.
#[inline]
pub(crate) fn bump(counter: &AtomicU64, order: Ordering) {
    #[cfg(not(loom))]
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), order);
    // The same to everybody who reads. loom remembers of each atomic one last access: behind the writer's own load it
    // forgets the loads of others, and never tries them on this side of the store.
    #[cfg(loom)]
    counter.fetch_add(1, order);
}

/// Writes a word that only one thread writes, and that it has just read: see [`bump`].
#[inline]
pub(crate) fn replace(word: &AtomicU64, value: u64, order: Ordering) {
    #[cfg(not(loom))]
    word.store(value, order);
    #[cfg(loom)]
    word.swap(value, order);
}

/// Runs a model in every order that loom knows, however often threads take turns.
#[cfg(all(test, loom))]
pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = None;
    builder.check(model);
}
