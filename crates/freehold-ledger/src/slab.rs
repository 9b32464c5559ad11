//! The places that records live in.
//!
//! A slab has one *writer*: the thread that owns its shard, or whoever holds the lock of the shared shard. Only the
//! writer opens records and recycles places, so both are plain loads and stores. Any thread may close a record or
//! read it:
//!
//! * **Reading** is a sequence lock per place. `state` holds the generation and a live bit; a reader copies the
//!   words between two looks at it and throws the copy away if they differ.
//! * **Closing from another thread** writes the generation into the place's `remote` word, which settles who closed
//!   it, and pushes the place on the slab's remote stack. The writer takes the whole stack when it runs out of
//!   places. A place is on the stack exactly while its `remote` word is not 0, so it is never pushed twice.
//! * **Closing by the writer** looks at `remote` and then clears the live bit, without a read-modify-write. If a
//!   second close of the same record races with it from another thread (a defect of the program: a deleter ran
//!   twice), the writer finds a request for a generation that is over when it drains the stack, and reports it then.

use std::ptr;

use crate::lock::Lock;
use crate::record::{self, Ext, WORDS};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

mod changed;
mod chunk;
mod reserved;

use changed::Notes;
use chunk::{CHUNKS, MAX_PLACES, OFFSET_BITS, OFFSET_MASK, free_chunk, is_in, new_chunk, places_in};
pub(crate) use chunk::{nth, number};
use reserved::Reserved;

/// The state word: generation 32, thread 16, flags 15, live 1.
pub(crate) mod state {
    pub(crate) const LIVE: u64 = 1;
    pub(crate) const FLAGS_SHIFT: u32 = 1;
    pub(crate) const FLAGS_MASK: u64 = 0x7FFF << FLAGS_SHIFT;
    pub(crate) const THREAD_SHIFT: u32 = 16;
    pub(crate) const GENERATION_SHIFT: u32 = 32;

    #[inline]
    pub(crate) const fn generation(state: u64) -> u32 {
        (state >> GENERATION_SHIFT) as u32
    }

    #[inline]
    pub(crate) const fn is_live(state: u64, generation: u32) -> bool {
        state & LIVE != 0 && self::generation(state) == generation
    }
}

/// One place: two cache lines.
#[repr(C, align(64))]
pub(crate) struct Slot {
    state: AtomicU64,
    /// The generation that another thread closed and the writer has not yet recycled, or 0.
    remote: AtomicU32,
    /// The next place of the remote stack, plus 1.
    remote_next: AtomicU32,
    /// The record; while the place is free, word 0 is the next free place, plus 1.
    pub(crate) words: [AtomicU64; WORDS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 128);

/// What a look at one place found.
pub(crate) struct Copied {
    pub(crate) state: u64,
    pub(crate) words: [u64; WORDS],
    /// What did not fit into the words.
    pub(crate) ext: Option<Ext>,
}

pub(crate) struct Slab {
    /// The first free place, plus 1. Written by the writer only.
    free: AtomicU32,
    /// How many places have ever been used, from the first. Written by the writer only.
    fresh: AtomicU32,
    chunks: [AtomicPtr<Slot>; CHUNKS],
    notes: Notes,
    /// The parts of records that do not fit into a place.
    exts: Lock<ExtTable>,
    remote: RemoteStack,
}

/// On a cache line of its own: other threads write here.
#[repr(align(128))]
struct RemoteStack {
    /// The place on top, plus 1.
    top: AtomicU32,
}

struct ExtTable {
    entries: Vec<Option<Ext>>,
    free: Vec<u32>,
}

impl Slab {
    pub(crate) fn new() -> Slab {
        Slab {
            free: AtomicU32::new(0),
            fresh: AtomicU32::new(0),
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            notes: Notes::new(),
            exts: Lock::new(ExtTable { entries: Vec::new(), free: Vec::new() }),
            remote: RemoteStack { top: AtomicU32::new(0) },
        }
    }

    /// How many places have ever been used: the first, by [`nth`]. The others hold no record.
    pub(crate) fn used(&self) -> u32 {
        self.fresh.load(Ordering::Acquire)
    }

    /// The place with an index, if its chunk is there.
    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot> {
        let (chunk, offset) = ((index >> OFFSET_BITS) as usize % CHUNKS, index & OFFSET_MASK);
        let base = self.chunks[chunk].load(Ordering::Acquire);
        if base.is_null() || !is_in(chunk, offset) {
            return None;
        }
        // SAFETY: a chunk, once there, has `places_in(chunk)` initialised places and lives as long as the slab.
        Some(unsafe { &*base.add(offset as usize) })
    }

    /// Whether there is a place with this index. Those of a chunk that is there may be new.
    #[inline]
    pub(crate) fn has(&self, index: u32) -> bool {
        self.slot(index).is_some()
    }

    /// The place with an index, for who knows that it is there.
    ///
    /// # Safety
    ///
    /// * Its chunk is there, as the calling thread has seen or was told, and its offset is inside.
    #[inline(always)]
    unsafe fn known_slot(&self, index: u32) -> &Slot {
        let base = self.chunks[(index >> OFFSET_BITS) as usize % CHUNKS].load(Ordering::Relaxed);
        // SAFETY: by the caller's word; a chunk lives as long as the slab.
        unsafe { &*base.add((index & OFFSET_MASK) as usize) }
    }

    /// The place that the next record goes to, if one is free. For the writer only.
    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<Reserved<'_>> {
        let free = self.free.load(Ordering::Relaxed);
        (free != 0).then(|| self.free_place(free))
    }

    /// The place at the head of the free list.
    #[inline(always)]
    fn free_place(&self, free: u32) -> Reserved<'_> {
        let index = free - 1;
        // SAFETY: only `refill` and `recycle`, which this thread or the shard's last called, put places on the free list: their chunks are
        // there and their offsets are inside.
        let slot = unsafe { self.known_slot(index) };
        Reserved::new(self, slot, index)
    }

    /// Takes a place for a new record; `None` if there is no memory for one. For the writer only.
    ///
    /// `late` is called for every request to close a record that had been closed already.
    #[inline]
    pub(crate) fn reserve(&self, late: &mut dyn FnMut()) -> Option<Reserved<'_>> {
        let mut free = self.free.load(Ordering::Relaxed);
        if free == 0 {
            free = self.refill(late)?;
        }
        let place = self.free_place(free);
        place.take();
        Some(place)
    }

    /// Puts at least one place on the free list and returns the head of it.
    #[cold]
    fn refill(&self, late: &mut dyn FnMut()) -> Option<u32> {
        self.drain(late);
        let free = self.free.load(Ordering::Relaxed);
        if free != 0 {
            return Some(free);
        }
        let fresh = self.fresh.load(Ordering::Relaxed);
        if fresh >= MAX_PLACES {
            return None;
        }
        let index = nth(fresh);
        let chunk = (index >> OFFSET_BITS) as usize;
        if self.chunks[chunk].load(Ordering::Relaxed).is_null() {
            if !self.notes.add(chunk) {
                return None;
            }
            let base = new_chunk(places_in(chunk))?;
            self.chunks[chunk].store(base, Ordering::Release);
        }
        self.fresh.store(fresh + 1, Ordering::Release);
        self.free.store(index + 1, Ordering::Relaxed);
        Some(index + 1)
    }

    /// Recycles the places that other threads closed. For the writer only.
    fn drain(&self, late: &mut dyn FnMut()) {
        let mut top = self.remote.top.swap(0, Ordering::Acquire);
        while top != 0 {
            let index = top - 1;
            let Some(slot) = self.slot(index) else { return };
            // Read before the place leaves the stack: after that another thread may push it again.
            top = slot.remote_next.load(Ordering::Relaxed);
            loop {
                let asked = slot.remote.load(Ordering::Acquire);
                let closes = state::is_live(slot.state.load(Ordering::Relaxed), asked);
                if closes {
                    self.end(slot, asked);
                }
                if slot.remote.compare_exchange(asked, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    if closes {
                        self.recycle(slot, index, asked);
                    } else {
                        late();
                    }
                    break;
                }
                // Only a request that was for an older generation can have been replaced meanwhile, and whoever
                // replaced it has reported it.
            }
        }
    }

    /// Closes a record. For the writer only; `false` if it was closed before.
    #[inline]
    pub(crate) fn close_own(&self, index: u32, generation: u32) -> bool {
        self.slot(index).is_some_and(|slot| {
            self.close_by(slot, index, generation, |slot| {
                self.end(slot, generation);
                true
            })
        })
    }

    /// As [`Slab::close_own`], of a record that fits its place; `false` also if it does not.
    ///
    /// # Safety
    ///
    /// * There is such a place, as the calling thread knows.
    #[inline(always)]
    pub(crate) unsafe fn close_small(&self, index: u32, generation: u32) -> bool {
        // SAFETY: forwarded from the caller.
        self.close_by(unsafe { self.known_slot(index) }, index, generation, |slot| {
            let is_small = record::ext_index(&slot.words).is_none();
            if is_small {
                Self::end_small(slot, generation);
            }
            is_small
        })
    }

    #[inline(always)]
    fn close_by(&self, slot: &Slot, index: u32, generation: u32, end: impl FnOnce(&Slot) -> bool) -> bool {
        let live = state::is_live(slot.state.load(Ordering::Relaxed), generation);
        if !live || slot.remote.load(Ordering::Acquire) == generation || !end(slot) {
            return false;
        }
        // SAFETY: the place is there, so its chunk is.
        changed::step(unsafe { self.notes.own(index) });
        self.recycle(slot, index, generation);
        true
    }

    /// Closes a record from any thread; `false` if it was closed before. `late` as in [`Slab::reserve`].
    pub(crate) fn close_remote(&self, index: u32, generation: u32, late: &mut dyn FnMut()) -> bool {
        let Some(slot) = self.slot(index) else { return false };
        loop {
            if !state::is_live(slot.state.load(Ordering::Acquire), generation) {
                return false;
            }
            // Not only the same generation: between the look at the state and this one the record may have been closed,
            // and the next one in its place too. That one's request must stay.
            let asked = slot.remote.load(Ordering::Acquire);
            if asked >= generation {
                return false;
            }
            if slot.remote.compare_exchange(asked, generation, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            if asked == 0 {
                self.push_remote(slot, index);
            } else {
                // The place is on the stack already, for a request that came too late; this one took it over.
                late();
            }
            // SAFETY: the place is there, so its chunk is.
            unsafe { self.notes.note_other(index) };
            return true;
        }
    }

    fn push_remote(&self, slot: &Slot, index: u32) {
        let mut top = self.remote.top.load(Ordering::Relaxed);
        loop {
            slot.remote_next.store(top, Ordering::Relaxed);
            match self.remote.top.compare_exchange_weak(top, index + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Ends the life of a record: no reader takes its words for live after this.
    #[inline]
    fn end(&self, slot: &Slot, generation: u32) {
        let ext = record::ext_index(&slot.words);
        Self::end_small(slot, generation);
        if let Some(ext) = ext {
            self.drop_ext(ext);
        }
    }

    /// As [`Slab::end`], of a record that fits its place.
    #[inline(always)]
    fn end_small(slot: &Slot, generation: u32) {
        slot.state.store(u64::from(generation) << state::GENERATION_SHIFT, Ordering::Relaxed);
        // Pairs with the fence in `read`: who sees a word written after this also sees the state written before.
        fence(Ordering::Release);
    }

    /// Puts a place on the free list.
    #[inline]
    fn recycle(&self, slot: &Slot, index: u32, generation: u32) {
        // A place whose generations are used up is left alone: an id is never given out twice.
        if generation != u32::MAX {
            slot.words[0].store(u64::from(self.free.load(Ordering::Relaxed)), Ordering::Relaxed);
            self.free.store(index + 1, Ordering::Relaxed);
        }
    }

    /// Changes the flags of a live record, from any thread; `false` if it is not live.
    pub(crate) fn update_flags(&self, index: u32, generation: u32, set: u32, clear: u32) -> bool {
        let Some(slot) = self.slot(index) else { return false };
        let bits = |flags: u32| u64::from(flags) << state::FLAGS_SHIFT & state::FLAGS_MASK;
        let mut seen = slot.state.load(Ordering::Acquire);
        loop {
            if !state::is_live(seen, generation) || slot.remote.load(Ordering::Acquire) == generation {
                return false;
            }
            let next = seen & !bits(clear) | bits(set);
            match slot.state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Copies the live record in a place, from any thread; `None` if there is none or it ends meanwhile.
    pub(crate) fn read(&self, index: u32) -> Option<Copied> {
        let slot = self.slot(index)?;
        let before = slot.state.load(Ordering::Acquire);
        if before & state::LIVE == 0 {
            return None;
        }
        let words = std::array::from_fn(|i| slot.words[i].load(Ordering::Relaxed));
        if slot.remote.load(Ordering::Acquire) == state::generation(before) {
            return None;
        }
        fence(Ordering::Acquire);
        let same = |after: u64| (before ^ after) & !state::FLAGS_MASK == 0;
        if !same(slot.state.load(Ordering::Relaxed)) {
            return None;
        }
        let ext = match record::ext_index_of(&words) {
            None => None,
            Some(i) => {
                let table = self.exts.lock();
                // The extra part is dropped under the lock, after the state changed: still live means still there.
                if !same(slot.state.load(Ordering::Acquire)) {
                    return None;
                }
                Some(table.entries.get(i as usize)?.clone()?)
            }
        };
        Some(Copied { state: before, words, ext })
    }

    /// Keeps the part of a record that does not fit into its place.
    pub(crate) fn keep_ext(&self, ext: Ext) -> u32 {
        let mut table = self.exts.lock();
        if let Some(i) = table.free.pop() {
            table.entries[i as usize] = Some(ext);
            return i;
        }
        table.entries.push(Some(ext));
        // There are at most as many as places, fewer than 2^24.
        table.entries.len() as u32 - 1
    }

    #[cold]
    fn drop_ext(&self, index: u32) {
        let mut table = self.exts.lock();
        let ext = table.entries.get_mut(index as usize).and_then(Option::take);
        if ext.is_some() {
            table.free.push(index);
        }
        drop(table);
        // Its memory is given back after the lock.
        drop(ext);
    }

    pub(crate) fn acquire_lock(&self) {
        self.exts.acquire();
    }

    /// # Safety
    /// * As for [`Lock::release`], after [`Slab::acquire_lock`].
    pub(crate) unsafe fn release_lock(&self) {
        // SAFETY: the caller's obligation.
        unsafe { self.exts.release() };
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        for (i, chunk) in self.chunks.iter_mut().enumerate() {
            let base = chunk.load(Ordering::Relaxed);
            if !base.is_null() {
                free_chunk(base, places_in(i));
            }
        }
    }
}

#[cfg(test)]
mod tests;
