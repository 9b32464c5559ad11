//! Host memory that stays warm: freed blocks are kept for the next request of their size.
//!
//! Fresh memory costs a page fault for every 4 KiB that is touched (measured: 24 ms for 64 MiB), which is more than
//! what is then copied into it. A kept block costs none. The pool is a cache over the system's allocator and nothing
//! else: blocks up to 64 KiB are kept by the thread that freed them, larger ones by all threads together, oldest given
//! up first. From 32 MiB on a block is a mapping with transparent huge pages, and while it is kept the kernel may take
//! its pages back whenever it is short of memory.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_tensor::Device;

use super::class::Class;
use super::{HOST_ALIGNMENT, HOST_LARGE, HOST_LARGE_ALIGNMENT, HostMemory, local, shared, system};
use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// The most that is kept by default, on any machine.
const LIMIT_MAX: u64 = 2 << 30;
/// The part of the machine's memory that is kept at most.
const LIMIT_PART: u64 = 8;

/// The most bytes of large blocks that are kept; `u64::MAX` until somebody asks.
static LIMIT: AtomicU64 = AtomicU64::new(UNKNOWN);
const UNKNOWN: u64 = u64::MAX;

/// The process's pool of host memory, see [`host`](crate::host()).
///
/// ```
/// use freehold_device::{Buffer, host_pool};
///
/// let pool = host_pool();
/// pool.set_limit(64 << 20);
/// drop(Buffer::host(1 << 20)?);
/// assert!(pool.statistics().kept_bytes >= 1 << 20);
/// pool.trim(0);
/// assert_eq!((pool.statistics().kept_bytes, pool.limit()), (0, 64 << 20));
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
///
/// # Environment
///
/// `FREEHOLD_HOST_CACHE`: the most bytes of freed memory to keep, with an optional `K`, `M` or `G`. `0` keeps nothing,
/// for tools that look for uses of freed memory. By default an eighth of the machine's memory, at most 2 GiB.
#[derive(Copy, Clone, Debug, Default)]
pub struct HostPool(());

/// What the process allocated through [`HostPool`], see [`HostPool::statistics`].
///
/// The numbers are read one after another. While other threads allocate they may belong to slightly different moments;
/// once the threads are quiet they are exact.
///
/// ```
/// use freehold_device::{Buffer, host_pool};
///
/// let before = host_pool().statistics();
/// let buffer = Buffer::host(1000)?;
/// let now = host_pool().statistics();
/// assert_eq!(now.current_bytes - before.current_bytes, 1000);
/// assert!(now.system_bytes >= now.current_bytes);
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct HostStatistics {
    /// The bytes in use now, as they were asked for.
    pub current_bytes: u64,
    /// The allocations in use now.
    pub current_count: u64,
    /// All the bytes ever allocated.
    pub total_bytes: u64,
    /// All the allocations ever made.
    pub total_count: u64,
    /// The allocations that a kept block served.
    pub reused_count: u64,
    /// The requests that failed.
    pub failed_count: u64,
    /// Freed bytes that are kept now.
    pub kept_bytes: u64,
    /// Bytes that come from the system now, in use or kept, rounded up to the sizes of blocks.
    pub system_bytes: u64,
    /// The most bytes that came from the system at once.
    pub system_peak_bytes: u64,
}

impl HostPool {
    pub(super) const NEW: HostPool = HostPool(());

    /// The most bytes of freed memory that are kept. Threads keep up to about 1 MiB each beside it.
    pub fn limit(&self) -> u64 {
        match LIMIT.load(Ordering::Relaxed) {
            UNKNOWN => initial_limit(),
            limit => limit,
        }
    }

    /// Sets the most bytes of freed memory to keep, and gives back what is more. `0` keeps nothing from now on.
    pub fn set_limit(&self, bytes: u64) {
        LIMIT.store(bytes.min(UNKNOWN - 1), Ordering::Relaxed);
        self.trim(bytes);
    }

    /// Gives freed memory back to the system until at most this many bytes of large blocks are kept, and all small
    /// blocks of the calling thread. Other threads keep theirs, up to about 1 MiB each, until they end.
    pub fn trim(&self, keep_bytes: u64) {
        local::clear();
        shared::shrink(keep_bytes, usize::MAX);
    }

    /// The counters now.
    pub fn statistics(&self) -> HostStatistics {
        let mut s = HostStatistics::default();
        let (mut freed, mut freed_bytes) = (0u64, 0u64);
        s.kept_bytes = shared::kept_bytes();
        local::each_counters(|c| {
            // Frees first: what is freed was allocated before, so the difference is never below zero.
            freed = freed.wrapping_add(c.freed.load(Ordering::Relaxed));
            freed_bytes = freed_bytes.wrapping_add(c.freed_bytes.load(Ordering::Relaxed));
            s.total_count = s.total_count.wrapping_add(c.allocated.load(Ordering::Relaxed));
            s.total_bytes = s.total_bytes.wrapping_add(c.allocated_bytes.load(Ordering::Relaxed));
            s.reused_count += c.reused.load(Ordering::Relaxed);
            s.failed_count += c.failed.load(Ordering::Relaxed);
            s.kept_bytes = s.kept_bytes.wrapping_add(c.kept_bytes.load(Ordering::Relaxed));
        });
        s.current_count = s.total_count.saturating_sub(freed);
        s.current_bytes = s.total_bytes.saturating_sub(freed_bytes);
        (s.system_bytes, s.system_peak_bytes) = system::held();
        s
    }
}

#[cold]
fn initial_limit() -> u64 {
    let asked = std::env::var("FREEHOLD_HOST_CACHE").ok().and_then(|text| parse_bytes(&text));
    let limit = asked.unwrap_or_else(|| match system::physical_bytes() {
        Some(bytes) => (bytes / LIMIT_PART).min(LIMIT_MAX),
        None => LIMIT_MAX / LIMIT_PART,
    });
    let limit = limit.min(UNKNOWN - 1);
    // Whoever set a limit meanwhile has it.
    match LIMIT.compare_exchange(UNKNOWN, limit, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => limit,
        Err(set) => set,
    }
}

/// `1500`, `64K`, `2G`.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The class that a request is served from, if it is one that the pool keeps: the answer depends on the request only,
/// so a free finds the same again.
#[inline]
fn class_of(bytes: usize, align: usize) -> Option<Class> {
    let natural = if bytes >= HOST_LARGE { HOST_LARGE_ALIGNMENT } else { HOST_ALIGNMENT };
    if bytes == 0 || !align.is_power_of_two() || align > natural { None } else { Class::of(bytes) }
}

// SAFETY: a block of a class comes from the system, is as large as the class and aligned to 256 bytes (4096 from 2 MiB
// on), is on one list or in one caller's hands, and can be freed from any thread. The rest is `HostMemory`'s.
unsafe impl MemoryResource for HostPool {
    fn device(&self) -> Device {
        Device::CPU
    }

    #[inline]
    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        if let Some(Class::Small(index, size)) = class_of(bytes, align)
            && let Some(block) = local::take(index, size, bytes)
        {
            return Ok(block);
        }
        allocate_slowly(bytes, align, stream)
    }

    #[inline]
    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller promises that `allocate` returned `ptr` for this size and alignment, so it is a block of
        // this class, which nothing uses any more.
        unsafe {
            if let Some(Class::Small(index, size)) = class_of(bytes, align)
                && LIMIT.load(Ordering::Relaxed) != 0
                && local::put(index, size, ptr, bytes)
            {
                return;
            }
            deallocate_slowly(ptr, bytes, align, stream);
        }
    }

    fn name(&self) -> &str {
        "host"
    }
}

#[cold]
fn allocate_slowly(bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
    let mut reused = None;
    let made = match class_of(bytes, align) {
        None => HostMemory.allocate(bytes, align, stream),
        Some(Class::Small(_, size)) => fresh(size, bytes, align),
        Some(Class::Large(size)) => {
            reused = shared::take(size);
            reused.map_or_else(|| fresh(size, bytes, align), Ok)
        }
    };
    if made.is_err() {
        local::count(|c| &c.failed, 1);
    } else {
        local::count(|c| &c.allocated, 1);
        local::count(|c| &c.allocated_bytes, bytes as u64);
        local::count(|c| &c.reused, u64::from(reused.is_some()));
    }
    made
}

/// A block from the system; where it has none, once more without what is kept.
fn fresh(size: usize, bytes: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    // The first request reads the environment, before the first free needs to know.
    let _ = HostPool::NEW.limit();
    system::acquire(size)
        .or_else(|| {
            HostPool::NEW.trim(0);
            system::acquire(size)
        })
        .ok_or(AllocError::new(bytes, align, Device::CPU, AllocReason::Refused))
}

/// # Safety
///
/// As for [`MemoryResource::deallocate`].
#[cold]
unsafe fn deallocate_slowly(ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
    local::count(|c| &c.freed, 1);
    local::count(|c| &c.freed_bytes, bytes as u64);
    // SAFETY: the caller's promise; the request says where the block came from.
    unsafe {
        match class_of(bytes, align) {
            None => HostMemory.deallocate(ptr, bytes, align, stream),
            Some(Class::Small(_, size)) => system::release(ptr, size),
            Some(Class::Large(size)) => shared::put(ptr, size, HostPool::NEW.limit()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", Some(0)), (" 12 ", Some(12)), ("3k", Some(3072)), ("2 M", Some(2 << 20))] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
        assert_eq!(parse_bytes("1G"), Some(1 << 30));
        for text in ["", "G", "-1", "1.5G", "many", "99999999999G"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
