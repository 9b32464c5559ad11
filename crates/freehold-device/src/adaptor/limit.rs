//! A ceiling on the bytes in use.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_tensor::Device;

use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// A resource that refuses what would bring the bytes in use above a limit.
///
/// The bytes asked for are what counts; what the resource inside adds for alignment or bookkeeping does not.
///
/// ```
/// use std::sync::Arc;
///
/// use freehold_device::{Buffer, HostMemory, Limit, MemoryResource, Stream};
///
/// let limit = Arc::new(Limit::new(HostMemory, 1000));
/// let memory: Arc<dyn MemoryResource> = limit.clone();
/// let first = Buffer::new(&memory, 600, 1, Stream::NONE)?;
/// let error = Buffer::new(&memory, 500, 1, Stream::NONE).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "500 bytes could not be allocated on cpu: 600 bytes of the limit of 1000 bytes are in use"
/// );
/// drop(first);
/// assert_eq!(limit.in_use(), 0);
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Limit<R> {
    inner: R,
    limit: u64,
    in_use: AtomicU64,
}

impl<R: MemoryResource> Limit<R> {
    /// At most `limit` bytes of `inner` at a time.
    pub const fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit, in_use: AtomicU64::new(0) }
    }

    /// The limit in bytes.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// The bytes in use now.
    pub fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// The resource inside.
    pub const fn inner(&self) -> &R {
        &self.inner
    }
}

// SAFETY: memory and requests are those of the resource inside, which gives the guarantees.
unsafe impl<R: MemoryResource> MemoryResource for Limit<R> {
    fn device(&self) -> Device {
        self.inner.device()
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let wanted = bytes as u64;
        // Compare and swap, not add and take back: a large request that fails must not make a small one on another
        // thread fail with it. Relaxed is enough, the count guards no other memory.
        self.in_use
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |in_use| {
                in_use.checked_add(wanted).filter(|sum| *sum <= self.limit)
            })
            .map_err(|in_use| AllocError {
                limit: Some(self.limit),
                ..AllocError::new(bytes, align, self.device(), AllocReason::Limit { in_use })
            })?;
        // Given back on failure, and on a panic of the resource inside.
        let reserved = Reservation { in_use: &self.in_use, bytes: wanted };
        let ptr = self.inner.allocate(bytes, align, stream)?;
        std::mem::forget(reserved);
        Ok(ptr)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller's promises, passed on to the resource that allocated.
        unsafe { self.inner.deallocate(ptr, bytes, align, stream) };
        // After the free: memory counts as in use until it really is free.
        self.in_use.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}

/// Bytes counted as in use that no allocation has yet.
struct Reservation<'a> {
    in_use: &'a AtomicU64,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
