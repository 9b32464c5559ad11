//! Small blocks of memory for handles and exports, kept by the thread that freed them last.
//!
//! A handover makes one or two allocations of about one size that live for a moment. Kept in a list of the thread, they
//! cost a third of a call of the allocator, and a borrowed view calls it not at all once the thread is warm. Views that C looked
//! through have a list of their own, on which they keep what all have in common (see [`crate::handle::look`]).

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

use freehold_ledger::slot::{ThreadSlot, at_hand, here, leave};

/// The size of a kept block: a handle of six dimensions, an export of nine.
pub(crate) const SIZE: usize = 256;
/// A larger alignment would cost a slower call of the system's allocator.
const ALIGN: usize = 16;
const BLOCK: Layout = match Layout::from_size_align(SIZE, ALIGN) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};
/// The most blocks that a thread keeps: 16 KiB.
const KEPT: u32 = 64;
/// Checked builds and Miri see every allocation and every use of freed memory.
const KEEPS: bool = !cfg!(any(debug_assertions, miri));

/// What a thread keeps, linked through the first words of the blocks themselves.
struct Cache {
    /// Blocks of which nothing else is known.
    any: List,
    /// Blocks that are as [`keep_view`] got them but for the first word.
    views: List,
    /// How many more blocks there is room for.
    room: Cell<u32>,
    asked: Cell<bool>,
}

struct List {
    head: Cell<*mut u8>,
}

impl List {
    const fn new() -> List {
        List { head: Cell::new(ptr::null_mut()) }
    }

    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        let block = NonNull::new(self.head.get())?;
        // SAFETY: a block on the list holds the address of the next, which `Cache::put` wrote there.
        self.head.set(unsafe { block.cast::<*mut u8>().read() });
        Some(block)
    }
}

/// Gives back what the thread keeps when it ends.
struct End;

impl ThreadSlot for Cache {
    const NEW: Cache = Cache::new();

    freehold_ledger::thread_slot_statics!(Cache);

    fn will_leave() -> bool {
        END.try_with(|_| ()).is_ok()
    }

    fn renew(&self) {
        self.asked.set(false);
    }
}

thread_local!(static END: End = const { End });

// SAFETY: only plain memory is linked, of which nobody else knows.
unsafe impl Send for Cache {}

impl Drop for End {
    fn drop(&mut self) {
        // From here on the thread, which may still run destructors that release blocks, keeps none.
        let cache = cache();
        cache.asked.set(true);
        cache.room.set(0);
        cache.empty();
        leave::<Cache>();
    }
}

impl Cache {
    const fn new() -> Cache {
        Cache { any: List::new(), views: List::new(), room: Cell::new(0), asked: Cell::new(false) }
    }

    #[inline(always)]
    fn take(&self) -> Option<NonNull<u8>> {
        self.take_from(&self.any)
    }

    #[inline(always)]
    fn take_from(&self, list: &List) -> Option<NonNull<u8>> {
        let block = list.pop()?;
        self.room.set(self.room.get() + 1);
        Some(block)
    }

    #[inline(always)]
    fn peek(&self) -> Option<Kept<'_>> {
        Some(Kept { cache: self, block: NonNull::new(self.any.head.get())? })
    }

    /// Gives back what is kept.
    fn empty(&self) {
        while let Some(block) = self.any.pop().or_else(|| self.views.pop()) {
            // SAFETY: what is on the list has this layout and nobody else has it.
            unsafe { dealloc(block.as_ptr(), BLOCK) };
        }
    }

    /// Keeps a block on one of the lists; `false` where there is no room.
    ///
    /// # Safety
    ///
    /// * The block has the layout [`BLOCK`], and nothing uses it.
    #[inline(always)]
    unsafe fn put(&self, list: &List, block: NonNull<u8>) -> bool {
        if self.room.get() == 0 {
            return false;
        }
        // SAFETY: the block is large enough and aligned, and the caller says that nothing uses it.
        unsafe { block.cast::<*mut u8>().write(list.head.get()) };
        list.head.set(block.as_ptr());
        self.room.set(self.room.get() - 1);
        true
    }

    /// Makes room the first time, unless nothing is to be kept (`FREEHOLD_HOST_CACHE=0`, for tools that look for uses of
    /// freed memory).
    fn ask(&self) {
        // Nothing is kept where nobody is sure to give it back: the thread is ending.
        if !self.asked.replace(true) && freehold_device::host_pool().limit() != 0 && END.try_with(|_| ()).is_ok() {
            self.room.set(KEPT);
        }
    }
}

/// What this thread keeps.
#[inline(always)]
fn cache<'a>() -> &'a Cache {
    // SAFETY: the calling thread's until it leaves, which is when it ends. No caller keeps the reference: it is used within one call.
    unsafe { &*here::<Cache>() }
}

/// The same, where that takes no call.
#[inline(always)]
fn cache_at_hand() -> Option<&'static Cache> {
    // SAFETY: as in `cache`; a kept block's is used before the function that looked for it returns, on the thread that did.
    at_hand::<Cache>().map(|cache| unsafe { &*cache })
}

/// A block that the thread keeps, while it is still on its list.
pub(crate) struct Kept<'a> {
    cache: &'a Cache,
    block: NonNull<u8>,
}

impl Kept<'_> {
    /// The block that [`acquire`] would return, without a call; `None` says nothing.
    #[inline(always)]
    pub(crate) fn peek(layout: Layout) -> Option<Kept<'static>> {
        if !KEEPS || layout.size() > SIZE {
            return None;
        }
        cache_at_hand().and_then(Cache::peek)
    }

    /// Its memory, of which the first word is the list's.
    #[inline(always)]
    pub(crate) fn block(&self) -> NonNull<u8> {
        self.block
    }

    /// Takes it off the list.
    ///
    /// # Safety
    ///
    /// * Since it was found, the thread has neither acquired nor released a block.
    #[inline(always)]
    pub(crate) unsafe fn take(self) -> NonNull<u8> {
        // SAFETY: by the caller's word it is still at the head, and holds the address of the next.
        self.cache.any.head.set(unsafe { self.block.cast::<*mut u8>().read() });
        self.cache.room.set(self.cache.room.get() + 1);
        self.block
    }
}

/// Memory for a layout of at most 16-byte alignment, not initialised. Ends the process where there is none, as `Box` does.
#[inline(always)]
pub(crate) fn acquire(layout: Layout) -> NonNull<u8> {
    if KEEPS
        && layout.size() <= SIZE
        && let Some(block) = cache_at_hand().and_then(Cache::take)
    {
        return block;
    }
    acquire_otherwise(layout)
}

#[cold]
#[inline(never)]
fn acquire_otherwise(layout: Layout) -> NonNull<u8> {
    if KEEPS
        && layout.size() <= SIZE
        && let cache = cache()
        && let Some(block) = cache.take().or_else(|| cache.take_from(&cache.views))
    {
        return block;
    }
    fresh(layout)
}

/// Gives memory back where that takes no call; `false` if it is still the caller's.
///
/// # Safety
///
/// * As for [`release`].
#[inline(always)]
pub(crate) unsafe fn keep(block: NonNull<u8>, layout: Layout) -> bool {
    // SAFETY: a block of at most `SIZE` bytes was acquired as `BLOCK`; the rest is the caller's word.
    KEEPS && layout.size() <= SIZE && cache_at_hand().is_some_and(|cache| unsafe { cache.put(&cache.any, block) })
}

/// The last block that [`keep_view`] kept.
#[inline(always)]
pub(crate) fn take_view() -> Option<NonNull<u8>> {
    if !KEEPS {
        return None;
    }
    cache_at_hand().and_then(|cache| cache.take_from(&cache.views))
}

/// As [`keep`], for [`take_view`]: of all but the first word, what is in the block stays.
///
/// # Safety
///
/// * As for [`release`], with a layout of at most [`SIZE`] bytes.
/// * A look that ended is in the block ([`crate::handle::look`]).
#[inline(always)]
pub(crate) unsafe fn keep_view(block: NonNull<u8>) -> bool {
    // SAFETY: as in `keep`.
    KEEPS && cache_at_hand().is_some_and(|cache| unsafe { cache.put(&cache.views, block) })
}

/// Gives memory back.
///
/// # Safety
///
/// * `acquire` returned the block for this layout, and nothing uses it any more.
#[inline(always)]
pub(crate) unsafe fn release(block: NonNull<u8>, layout: Layout) {
    // SAFETY: forwarded from the caller.
    if !unsafe { keep(block, layout) } {
        // SAFETY: forwarded from the caller.
        unsafe { release_otherwise(block, layout) }
    }
}

/// # Safety
///
/// * As for [`release`].
#[cold]
#[inline(never)]
unsafe fn release_otherwise(block: NonNull<u8>, layout: Layout) {
    if KEEPS && layout.size() <= SIZE {
        let cache = cache();
        cache.ask();
        // SAFETY: as in `release`.
        if unsafe { cache.put(&cache.any, block) } {
            return;
        }
    }
    // SAFETY: allocated by `fresh` with the same rounding.
    unsafe { dealloc(block.as_ptr(), rounded(layout)) };
}

fn rounded(layout: Layout) -> Layout {
    debug_assert!(layout.align() <= ALIGN && layout.size() > 0);
    if KEEPS && layout.size() <= SIZE { BLOCK } else { layout }
}

fn fresh(layout: Layout) -> NonNull<u8> {
    let layout = rounded(layout);
    // SAFETY: no caller asks for a layout without a size: all begin with a struct.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_is_the_next_one_taken_and_the_rest_is_given_back() {
        let cache = Cache::new();
        assert!(cache.take().is_none());
        cache.ask();
        let blocks: Vec<_> = (0..KEPT + 2).map(|_| fresh_block()).collect();
        let mut kept = Vec::new();
        for &block in &blocks {
            // SAFETY: just allocated, and used by nobody.
            if unsafe { cache.put(&cache.any, block) } {
                kept.push(block);
            } else {
                // SAFETY: as above; the cache did not take it.
                unsafe { dealloc(block.as_ptr(), BLOCK) };
            }
        }
        assert_eq!(kept.len(), KEPT as usize);
        let last = cache.take().expect("full");
        assert_eq!(Some(&last), kept.last());
        // SAFETY: taken from the cache.
        assert!(unsafe { cache.put(&cache.any, last) });
        // A block may be written to behind the list's word while it is still on the list; given up, it is as it was.
        let before = cache.room.get();
        for take in [false, true] {
            let kept = cache.peek().expect("full");
            // SAFETY: the block is the cache's, and longer than this.
            unsafe { kept.block().add(8).cast::<u64>().write(7) };
            assert_eq!(kept.block(), last);
            if take {
                // SAFETY: nothing was taken or put since.
                let block = unsafe { kept.take() };
                assert_eq!((block, cache.room.get()), (last, before + 1));
                assert_ne!(cache.peek().map(|next| next.block()), Some(last));
                // SAFETY: it was just taken, and what was written is there.
                unsafe {
                    assert_eq!(block.add(8).cast::<u64>().read(), 7);
                    assert!(cache.put(&cache.any, block));
                }
            }
        }
        cache.empty();
        assert!(cache.take().is_none() && cache.peek().is_none());
    }

    #[test]
    fn views_have_a_list_of_their_own_and_a_share_of_the_room() {
        let cache = Cache::new();
        cache.ask();
        let blocks: Vec<_> = (0..KEPT + 1).map(|_| fresh_block()).collect();
        for (i, &block) in blocks.iter().enumerate() {
            let list = if i % 2 == 0 { &cache.views } else { &cache.any };
            // SAFETY: just allocated, longer than that, and used by nobody.
            unsafe {
                block.add(8).cast::<usize>().write(i);
                assert_eq!(cache.put(list, block), i < KEPT as usize);
            }
        }
        // SAFETY: the cache had no room for it.
        unsafe { dealloc(blocks[KEPT as usize].as_ptr(), BLOCK) };
        for i in (KEPT as usize - 6..KEPT as usize).rev() {
            let list = if i % 2 == 0 { &cache.views } else { &cache.any };
            assert_eq!(cache.take_from(list), Some(blocks[i]));
            // SAFETY: just taken, and behind the list's word it is as it was.
            unsafe {
                assert_eq!(blocks[i].add(8).cast::<usize>().read(), i);
                dealloc(blocks[i].as_ptr(), BLOCK);
            }
        }
        assert_eq!(cache.room.get(), 6);
        // What is lost here Miri finds.
        cache.empty();
        assert!(cache.any.pop().is_none() && cache.views.pop().is_none());
    }

    fn fresh_block() -> NonNull<u8> {
        // SAFETY: the layout has a size.
        NonNull::new(unsafe { alloc(BLOCK) }).expect("memory")
    }

    struct Sent(NonNull<u8>);
    // SAFETY: plain memory, of which one thread at a time knows.
    unsafe impl Send for Sent {}

    #[test]
    fn threads_give_back_what_they_keep() {
        // Under Miri and the address sanitizer a block that is lost, or freed twice, fails the test.
        for size in [24, SIZE, SIZE + 8, 4096] {
            let layout = Layout::from_size_align(size, 8).expect("valid");
            let block = acquire(layout);
            // SAFETY: `size` bytes were acquired.
            unsafe { ptr::write_bytes(block.as_ptr(), 7, size) };
            let block = Sent(block);
            let ended = std::thread::spawn(move || {
                let Sent(block) = { block };
                // SAFETY: acquired for this layout; the other thread has given it up.
                unsafe { release(block, layout) };
            });
            ended.join().expect("no panic");
        }
    }
}
