//! Counters over a resource.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_tensor::Device;

use crate::{AllocError, MemoryResource, Stream};

/// What was allocated through a [`Statistics`], in bytes asked for and in allocations.
///
/// The numbers are read one after another. While other threads allocate they may belong to slightly different
/// moments; once the threads are quiet they are exact.
///
/// ```
/// use freehold_device::{AllocStatistics, HostMemory, Statistics};
///
/// assert_eq!(Statistics::new(HostMemory).statistics(), AllocStatistics::default());
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocStatistics {
    /// The bytes in use now.
    pub current_bytes: u64,
    /// The most bytes that were in use at once.
    pub peak_bytes: u64,
    /// All the bytes ever allocated.
    pub total_bytes: u64,
    /// The allocations in use now.
    pub current_count: u64,
    /// The most allocations that were in use at once.
    pub peak_count: u64,
    /// All the allocations ever made.
    pub total_count: u64,
    /// The requests that failed.
    pub failed_count: u64,
}

/// A resource that counts: current, peak and total.
///
/// ```
/// use std::sync::Arc;
///
/// use freehold_device::{Buffer, HostMemory, MemoryResource, Statistics, Stream};
///
/// let counted = Arc::new(Statistics::new(HostMemory));
/// let memory: Arc<dyn MemoryResource> = counted.clone();
/// let kept = Buffer::new(&memory, 100, 1, Stream::NONE)?;
/// drop(Buffer::new(&memory, 50, 1, Stream::NONE)?);
/// let now = counted.statistics();
/// assert_eq!((now.current_bytes, now.peak_bytes, now.total_bytes), (100, 150, 150));
/// assert_eq!((now.current_count, now.failed_count), (1, 0));
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
#[derive(Debug, Default)]
pub struct Statistics<R> {
    inner: R,
    counters: Counters,
}

// Seven counters in one cache line, away from other data: every allocation writes most of them.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counters {
    current_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    total_bytes: AtomicU64,
    current_count: AtomicU64,
    peak_count: AtomicU64,
    total_count: AtomicU64,
    failed_count: AtomicU64,
}

impl<R: MemoryResource> Statistics<R> {
    /// Counts what is allocated from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, counters: Counters::default() }
    }

    /// The counters now.
    pub fn statistics(&self) -> AllocStatistics {
        let c = &self.counters;
        AllocStatistics {
            current_bytes: c.current_bytes.load(Ordering::Relaxed),
            peak_bytes: c.peak_bytes.load(Ordering::Relaxed),
            total_bytes: c.total_bytes.load(Ordering::Relaxed),
            current_count: c.current_count.load(Ordering::Relaxed),
            peak_count: c.peak_count.load(Ordering::Relaxed),
            total_count: c.total_count.load(Ordering::Relaxed),
            failed_count: c.failed_count.load(Ordering::Relaxed),
        }
    }

    /// The resource inside.
    pub const fn inner(&self) -> &R {
        &self.inner
    }
}

/// Adds to a level and lifts its peak.
fn raise(current: &AtomicU64, peak: &AtomicU64, by: u64) {
    // Relaxed throughout: the counters guard no other memory, and each level is exact because it only ever changes by
    // atomic additions.
    let now = current.fetch_add(by, Ordering::Relaxed) + by;
    // Most allocations are below the peak, and a load is cheaper than a contended maximum.
    if now > peak.load(Ordering::Relaxed) {
        peak.fetch_max(now, Ordering::Relaxed);
    }
}

// SAFETY: memory and requests are those of the resource inside, which gives the guarantees.
unsafe impl<R: MemoryResource> MemoryResource for Statistics<R> {
    fn device(&self) -> Device {
        self.inner.device()
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let c = &self.counters;
        let ptr = self.inner.allocate(bytes, align, stream).inspect_err(|_| {
            c.failed_count.fetch_add(1, Ordering::Relaxed);
        })?;
        raise(&c.current_bytes, &c.peak_bytes, bytes as u64);
        raise(&c.current_count, &c.peak_count, 1);
        c.total_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        c.total_count.fetch_add(1, Ordering::Relaxed);
        Ok(ptr)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller's promises, passed on to the resource that allocated.
        unsafe { self.inner.deallocate(ptr, bytes, align, stream) };
        self.counters.current_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.counters.current_count.fetch_sub(1, Ordering::Relaxed);
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}
