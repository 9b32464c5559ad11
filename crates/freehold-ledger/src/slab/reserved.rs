//! The writer's side of a new record: its place, until it is visible.

use super::{Slab, Slot, changed, state};
use crate::record::WORDS;
use crate::sync::{AtomicU64, Ordering};

/// A place for the writer to open a record in.
// Each of its facts is read where it is needed, which takes less time than to keep it while the record is written.
pub(crate) struct Reserved<'a> {
    slab: &'a Slab,
    slot: &'a Slot,
    pub(crate) index: u32,
}

impl<'a> Reserved<'a> {
    /// `slot` is the place with this index, at the head of the slab's free list.
    #[inline(always)]
    pub(super) fn new(slab: &'a Slab, slot: &'a Slot, index: u32) -> Reserved<'a> {
        Reserved { slab, slot, index }
    }

    /// Where the record goes.
    #[inline(always)]
    pub(crate) fn words(&self) -> &'a [AtomicU64; WORDS] {
        &self.slot.words
    }

    /// Takes the place off the free list, before its first word is written. For the writer only.
    #[inline(always)]
    pub(crate) fn take(&self) {
        let next = self.slot.words[0].load(Ordering::Relaxed) as u32;
        self.slab.free.store(next, Ordering::Relaxed);
    }

    /// Makes the record visible, the words of which are written, and returns its generation. For the writer only.
    #[inline(always)]
    pub(crate) fn publish(&self, thread: u16, flags: u32) -> u32 {
        // The bits below the generation are 0 in a free place.
        let free = self.slot.state.load(Ordering::Relaxed) + (1 << state::GENERATION_SHIFT);
        let state = free
            | u64::from(thread) << state::THREAD_SHIFT
            | (u64::from(flags) << state::FLAGS_SHIFT) & state::FLAGS_MASK
            | state::LIVE;
        self.slot.state.store(state, Ordering::Release);
        // SAFETY: the place is there, so its chunk is.
        changed::step(unsafe { self.slab.notes.own(self.index) });
        state::generation(free)
    }
}
