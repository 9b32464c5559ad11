//! Which places changed since somebody last asked.
//!
//! Places share a note in blocks of [`BLOCK`]. A note is two counters that only grow: one that the writer steps with a
//! load and a store, and one for closes from other threads, stepped by an atomic addition. Whoever asks keeps the sum
//! that it saw and looks at the places of a block where the sum is another one, so nobody takes a note away and no
//! change can fall between the taking and the looking.
//!
//! * A change is **made first and noted then**, with `Release`; a question **reads the note first and the places then**,
//!   with `Acquire`. A note that was seen therefore says that its change is seen.
//! * A change that a question sees before its note is only looked at once more by the next question.
//! * The counters have 64 bits and come round in no lifetime, so equal sums mean that nothing happened.

use std::ops::Range;
use std::{ptr, slice};

use super::chunk::{CHUNKS, OFFSET_BITS, OFFSET_MASK, number, places_in};
use super::{Slab, Slot, state};
use crate::sync::{AtomicPtr, AtomicU64, Ordering, bump};

/// Places that share a note. Small ones make many notes to compare, large ones many places to look at.
pub(super) const BLOCK: u32 = if cfg!(any(miri, loom)) { 2 } else { 256 };

/// Notes on one cache line and the one that is fetched with it.
const LINE: usize = if cfg!(loom) { 1 } else { 16 };

#[cfg_attr(not(loom), repr(C, align(128)))]
#[cfg_attr(loom, repr(transparent))]
struct Line([AtomicU64; LINE]);

/// The notes of a slab: of each chunk, a line or more for the writer, and after them as many for the others.
pub(super) struct Notes {
    chunks: [AtomicPtr<Line>; CHUNKS],
}

const fn blocks_in(chunk: usize) -> usize {
    places_in(chunk).div_ceil(BLOCK as usize)
}

const fn lines_in(chunk: usize) -> usize {
    blocks_in(chunk).div_ceil(LINE)
}

impl Notes {
    pub(super) fn new() -> Notes {
        Notes { chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }
    }

    /// Makes the notes of a chunk, before the chunk itself can be seen; `false` if there is no memory. For the writer only.
    pub(super) fn add(&self, chunk: usize) -> bool {
        if !self.chunks[chunk].load(Ordering::Relaxed).is_null() {
            return true;
        }
        let (mut lines, len) = (Vec::new(), 2 * lines_in(chunk));
        if lines.try_reserve_exact(len).is_err() {
            return false;
        }
        lines.extend((0..len).map(|_| Line(std::array::from_fn(|_| AtomicU64::new(0)))));
        let lines = Box::into_raw(lines.into_boxed_slice());
        self.chunks[chunk].store(lines.cast(), Ordering::Release);
        true
    }

    /// The writer's note of a place's block.
    ///
    /// # Safety
    /// * The caller has seen the place's chunk, so that [`Notes::add`] was called for it before.
    #[inline]
    pub(super) unsafe fn own(&self, index: u32) -> &AtomicU64 {
        let base = self.chunks[(index >> OFFSET_BITS) as usize % CHUNKS].load(Ordering::Relaxed);
        // SAFETY: the notes of a chunk are stored before the chunk, which the caller saw; they live as long as the slab.
        // The offset is masked to a place of the chunk, and each block of those has a note in the first half. The notes
        // lie one after another: a `Line` is an array of them and has no padding (asserted below).
        unsafe { &*base.cast::<AtomicU64>().add(((index & OFFSET_MASK) / BLOCK) as usize) }
    }

    /// The notes of a chunk: the writer's, and those of the others.
    ///
    /// # Safety
    /// * The caller has seen the chunk, so that [`Notes::add`] was called for it before.
    unsafe fn of(&self, chunk: usize) -> (&[AtomicU64], &[AtomicU64]) {
        let base = self.chunks[chunk].load(Ordering::Relaxed);
        // SAFETY: as above, a note for each block of the chunk in each half.
        unsafe {
            let half = |lines: *mut Line| slice::from_raw_parts(lines.cast::<AtomicU64>(), blocks_in(chunk));
            (half(base), half(base.add(lines_in(chunk))))
        }
    }

    /// Notes a close by a thread that is not the writer.
    ///
    /// # Safety
    /// * As for [`Notes::own`].
    pub(super) unsafe fn note_other(&self, index: u32) {
        // SAFETY: the caller's obligation.
        let (_, others) = unsafe { self.of((index >> OFFSET_BITS) as usize % CHUNKS) };
        others[((index & OFFSET_MASK) / BLOCK) as usize].fetch_add(1, Ordering::Release);
    }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == LINE * size_of::<AtomicU64>());

/// Steps the writer's note of a block. For the writer only.
#[inline]
pub(super) fn step(note: &AtomicU64) {
    bump(note, Ordering::Release);
}

impl Drop for Notes {
    fn drop(&mut self) {
        for (chunk, lines) in self.chunks.iter_mut().enumerate() {
            let lines = lines.load(Ordering::Relaxed);
            if !lines.is_null() {
                // SAFETY: `add` made it from a boxed slice of this length, and `&mut self` says that nobody reads it.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(lines, 2 * lines_in(chunk))) });
            }
        }
    }
}

impl Slab {
    /// Calls `f` with each block, by its number, with its note and its places (see [`super::nth`]), until it says `false`.
    ///
    /// What `f` reads of the places is at least as new as the note that it was given.
    #[inline]
    pub(crate) fn each_block(&self, mut f: impl FnMut(usize, u64, Range<u32>) -> bool) {
        let mut block = 0;
        for chunk in 0..CHUNKS {
            if self.chunks[chunk].load(Ordering::Acquire).is_null() {
                return;
            }
            // SAFETY: the chunk was seen above.
            let (own, others) = unsafe { self.notes.of(chunk) };
            let mut from = number((chunk as u32) << OFFSET_BITS);
            let end = from + places_in(chunk) as u32;
            for (own, others) in own.iter().zip(others) {
                let note = own.load(Ordering::Acquire).wrapping_add(others.load(Ordering::Acquire));
                if !f(block, note, from..end.min(from + BLOCK)) {
                    return;
                }
                (block, from) = (block + 1, from + BLOCK);
            }
        }
    }

    /// The note of each block.
    pub(crate) fn notes(&self) -> Vec<u64> {
        let mut notes = Vec::new();
        self.each_block(|_, note, _| {
            notes.push(note);
            true
        });
        notes
    }

    /// The generation of the live record in a place, from any thread; 0 if there is none.
    pub(crate) fn live_generation(&self, index: u32) -> u32 {
        let Some(slot) = self.slot(index) else { return 0 };
        let seen = slot.state.load(Ordering::Acquire);
        let generation = state::generation(seen);
        if seen & state::LIVE == 0 || is_closed(slot, generation) { 0 } else { generation }
    }
}

/// Whether a record that was live a moment ago was closed by another thread.
fn is_closed(slot: &Slot, generation: u32) -> bool {
    if slot.remote.load(Ordering::Acquire) == generation {
        return true;
    }
    // The request may have come and been served since the state was read. Who served it ended the record first.
    !state::is_live(slot.state.load(Ordering::Acquire), generation)
}

#[cfg(test)]
mod tests;
