//! Blocks from the system: the program's allocator, and mappings with large pages for the largest.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{HOST_ALIGNMENT, HOST_LARGE, HOST_LARGE_ALIGNMENT};

/// From this size on a block is a mapping of its own that asks for transparent huge pages. Below it the page faults of
/// a fresh block cost less than finding 2 MiB pages for it would.
pub(super) const HUGE: usize = 32 << 20;

/// The size of a large page on x86-64 and (with 4 KiB pages) aarch64.
#[cfg(all(target_os = "linux", not(miri)))]
const HUGE_PAGE: usize = 2 << 20;

/// Bytes that the pool has from the system now, in use or kept, and the most it ever had.
static HELD: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

pub(super) fn held() -> (u64, u64) {
    (HELD.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed))
}

/// A block of a class's size.
pub(super) fn acquire(size: usize) -> Option<NonNull<u8>> {
    let block = if size >= HUGE { map(size) } else { allocate(size) }?;
    let held = HELD.fetch_add(size as u64, Ordering::Relaxed) + size as u64;
    PEAK.fetch_max(held, Ordering::Relaxed);
    Some(block)
}

/// # Safety
///
/// `block` came from [`acquire`] for the same size, and nothing uses it any more.
pub(super) unsafe fn release(block: NonNull<u8>, size: usize) {
    HELD.fetch_sub(size as u64, Ordering::Relaxed);
    // SAFETY: the caller's guarantee; the size says which of the two it was.
    unsafe { if size >= HUGE { unmap(block, size) } else { free(block, size) } }
}

/// The layout of a block below [`HUGE`].
fn layout(size: usize) -> Layout {
    let align = if size >= HOST_LARGE { HOST_LARGE_ALIGNMENT } else { HOST_ALIGNMENT };
    // Sizes of classes are at most isize::MAX and not smaller than their alignment.
    Layout::from_size_align(size, align).unwrap_or(Layout::new::<u8>())
}

fn allocate(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: the size is that of a class, so it is not zero.
    NonNull::new(unsafe { std::alloc::alloc(layout(size)) })
}

/// # Safety
///
/// As for [`release`], for a block of [`allocate`].
unsafe fn free(block: NonNull<u8>, size: usize) {
    // SAFETY: the block came from `std::alloc::alloc` with this layout, which the size determines.
    unsafe { std::alloc::dealloc(block.as_ptr(), layout(size)) };
}

#[cfg(all(target_os = "linux", not(miri)))]
fn map(size: usize) -> Option<NonNull<u8>> {
    // More than is needed, so that it can begin at a large page; what is outside is given back at once.
    let whole = size.checked_add(HUGE_PAGE)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new private mapping, where the kernel finds room.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = start.cast::<u8>();
    let before = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    // SAFETY: `before + size <= whole`: all within the mapping just made, whose parts outside the block nobody has
    // seen. Advice that is refused (no large pages here) changes nothing.
    unsafe {
        let block = start.add(before);
        if before > 0 {
            libc::munmap(start.cast(), before);
        }
        if before < HUGE_PAGE {
            libc::munmap(block.add(size).cast(), HUGE_PAGE - before);
        }
        libc::madvise(block.cast(), size, libc::MADV_HUGEPAGE);
        NonNull::new(block)
    }
}

/// # Safety
///
/// As for [`release`], for a block of [`map`].
#[cfg(all(target_os = "linux", not(miri)))]
unsafe fn unmap(block: NonNull<u8>, size: usize) {
    // SAFETY: the whole of a mapping that was made for this block alone.
    unsafe { libc::munmap(block.as_ptr().cast(), size) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
use {allocate as map, free as unmap};

/// Lets the kernel take the pages of a block that is kept, if it needs them: until then they stay warm.
///
/// # Safety
///
/// `block` came from [`acquire`] for the same size; its contents are not needed any more.
pub(super) unsafe fn offer(block: NonNull<u8>, size: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if size >= HUGE {
        // SAFETY: whole pages of a private mapping of our own, whose contents nobody needs. A kernel without the
        // advice refuses it, and the pages are ours as before.
        unsafe { libc::madvise(block.as_ptr().cast(), size, libc::MADV_FREE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (block, size);
}

/// The physical memory of the machine, where the system says.
pub(super) fn physical_bytes() -> Option<u64> {
    #[cfg(all(unix, not(miri)))]
    {
        // SAFETY: both only read a setting.
        let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        u64::try_from(pages).ok()?.checked_mul(u64::try_from(size).ok()?)
    }
    #[cfg(not(all(unix, not(miri))))]
    None
}
