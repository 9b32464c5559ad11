//! Large blocks that nobody uses, kept for whichever thread asks next.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{patiently, system};

/// The most blocks that are kept: a list this long is searched in less time than one page fault takes.
const KEPT_BLOCKS: usize = 256;

struct Block {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: a kept block is nobody's: whichever thread takes it off the list owns it.
unsafe impl Send for Block {}

/// Oldest first.
static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());
static KEPT_BYTES: AtomicU64 = AtomicU64::new(0);

pub(super) fn kept_bytes() -> u64 {
    KEPT_BYTES.load(Ordering::Relaxed)
}

/// The block of this size that was used last, whose pages are likeliest to be in a cache.
pub(super) fn take(size: usize) -> Option<NonNull<u8>> {
    let mut blocks = patiently(&BLOCKS)?;
    let at = blocks.iter().rposition(|block| block.size == size)?;
    let block = blocks.remove(at);
    KEPT_BYTES.fetch_sub(size as u64, Ordering::Relaxed);
    Some(block.start)
}

/// Keeps a block that was freed, and gives back what then is too much.
///
/// # Safety
///
/// The block came from [`system::acquire`] for this size, and nothing uses it any more.
pub(super) unsafe fn put(start: NonNull<u8>, size: usize, limit: u64) {
    if size as u64 > limit {
        // SAFETY: the caller's guarantee.
        return unsafe { system::release(start, size) };
    }
    // SAFETY: the caller's guarantee.
    unsafe { system::offer(start, size) };
    let kept = patiently(&BLOCKS).is_some_and(|mut blocks| {
        let room = blocks.try_reserve(1).is_ok();
        if room {
            blocks.push(Block { start, size });
            KEPT_BYTES.fetch_add(size as u64, Ordering::Relaxed);
        }
        room
    });
    if !kept {
        // SAFETY: the caller's guarantee.
        unsafe { system::release(start, size) };
    }
    shrink(limit, KEPT_BLOCKS);
}

/// Gives the oldest blocks back until at most this much is kept.
pub(super) fn shrink(bytes: u64, count: usize) {
    loop {
        let oldest = {
            let Some(mut blocks) = patiently(&BLOCKS) else { return };
            if blocks.is_empty() || (kept_bytes() <= bytes && blocks.len() <= count) {
                return;
            }
            let block = blocks.remove(0);
            KEPT_BYTES.fetch_sub(block.size as u64, Ordering::Relaxed);
            block
        };
        // SAFETY: kept blocks came from `acquire` for their size, and this one is on no list any more.
        unsafe { system::release(oldest.start, oldest.size) };
    }
}
