//! Where a slab's places are: numbered without gaps, in chunks that never move.

#[cfg(not(loom))]
use std::alloc::Layout;
#[cfg(loom)]
use std::ptr;

use super::Slot;
use crate::holder::SLOT_BITS;
#[cfg(loom)]
use crate::sync::{AtomicU32, AtomicU64};

/// The index of a place: its chunk, then its offset there in this many bits.
pub(super) const OFFSET_BITS: u32 = 19;
pub(super) const OFFSET_MASK: u32 = (1 << OFFSET_BITS) - 1;
pub(super) const CHUNKS: usize = 1 << (SLOT_BITS - OFFSET_BITS);
/// Places in the first chunk. Each further one has twice as many until the offset is used up, so that a small ledger
/// is small and a place never moves.
pub(super) const FIRST_CHUNK: u32 = if cfg!(any(miri, loom)) { 4 } else { 64 };
/// How many chunks are smaller than the largest.
pub(super) const SMALL_CHUNKS: u32 = OFFSET_BITS - FIRST_CHUNK.ilog2();
/// Places in all of those.
pub(super) const SMALL_PLACES: u32 = (1 << OFFSET_BITS) - FIRST_CHUNK;
/// The most places of a slab.
pub(super) const MAX_PLACES: u32 = SMALL_PLACES + ((CHUNKS as u32 - SMALL_CHUNKS) << OFFSET_BITS);

/// The index of the `n`th place.
pub(crate) const fn nth(n: u32) -> u32 {
    if n < SMALL_PLACES {
        let chunk = (n + FIRST_CHUNK).ilog2() - FIRST_CHUNK.ilog2();
        return chunk << OFFSET_BITS | (n + FIRST_CHUNK - (FIRST_CHUNK << chunk));
    }
    n - SMALL_PLACES + (SMALL_CHUNKS << OFFSET_BITS)
}

/// The `n` of which an index is [`nth`].
pub(crate) const fn number(index: u32) -> u32 {
    let (chunk, offset) = (index >> OFFSET_BITS, index & OFFSET_MASK);
    if chunk < SMALL_CHUNKS {
        return (FIRST_CHUNK << chunk) - FIRST_CHUNK + offset;
    }
    index - (SMALL_CHUNKS << OFFSET_BITS) + SMALL_PLACES
}

pub(super) const fn places_in(chunk: usize) -> usize {
    if (chunk as u32) < SMALL_CHUNKS { (FIRST_CHUNK as usize) << chunk } else { 1 << OFFSET_BITS }
}

/// Whether an offset is below [`places_in`], in a shift: each chunk has twice the places of the one before, and no offset is beyond
/// the largest.
#[inline]
pub(super) const fn is_in(chunk: usize, offset: u32) -> bool {
    (offset as u64) >> (FIRST_CHUNK.ilog2() + chunk as u32) == 0
}

#[cfg(not(loom))]
fn chunk_layout(slots: usize) -> Option<Layout> {
    Layout::array::<Slot>(slots).ok()
}

#[cfg(not(loom))]
pub(super) fn new_chunk(slots: usize) -> Option<*mut Slot> {
    // Zeroed pages cost nothing until they are used, so a chunk of many megabytes appears without a pause.
    // SAFETY: the layout is not of size 0.
    let base = unsafe { std::alloc::alloc_zeroed(chunk_layout(slots)?) }.cast::<Slot>();
    // All zero is a valid `Slot`: integers inside atomics; generation 0, not live, on no list.
    (!base.is_null()).then_some(base)
}

#[cfg(not(loom))]
pub(super) fn free_chunk(base: *mut Slot, slots: usize) {
    if let Some(layout) = chunk_layout(slots) {
        // SAFETY: `base` came from `new_chunk` with the same number of places; a `Slot` has nothing to drop.
        unsafe { std::alloc::dealloc(base.cast(), layout) };
    }
}

#[cfg(loom)]
pub(super) fn new_chunk(slots: usize) -> Option<*mut Slot> {
    let slot = || Slot {
        state: AtomicU64::new(0),
        remote: AtomicU32::new(0),
        remote_next: AtomicU32::new(0),
        words: std::array::from_fn(|_| AtomicU64::new(0)),
    };
    let chunk: Box<[Slot]> = (0..slots).map(|_| slot()).collect();
    Some(Box::into_raw(chunk).cast())
}

#[cfg(loom)]
pub(super) fn free_chunk(base: *mut Slot, slots: usize) {
    // SAFETY: `base` came from `new_chunk` with the same number of places.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(base, slots)) });
}
