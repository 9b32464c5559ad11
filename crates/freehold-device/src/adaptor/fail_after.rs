//! Failure injection.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_tensor::Device;

use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// A resource whose allocations fail from a chosen one on, for tests.
///
/// To reach every failure path of an operation, run it with `FailAfter::once(inner, 0)`, then 1, then 2, until
/// [`requests`](Self::requests) shows that the failing request was never made.
///
/// ```
/// use std::sync::Arc;
///
/// use freehold_device::{AllocReason, Buffer, FailAfter, HostMemory, MemoryResource, Stream};
///
/// let failing = Arc::new(FailAfter::once(HostMemory, 1));
/// let memory: Arc<dyn MemoryResource> = failing.clone();
/// let ask = || Buffer::new(&memory, 64, 1, Stream::NONE);
/// assert!(ask().is_ok());
/// assert_eq!(ask().unwrap_err().reason, AllocReason::Injected);
/// assert!(ask().is_ok());
/// assert_eq!(failing.requests(), 3);
/// ```
#[derive(Debug)]
pub struct FailAfter<R> {
    inner: R,
    successes: u64,
    once: bool,
    requests: AtomicU64,
}

impl<R: MemoryResource> FailAfter<R> {
    /// The first `successes` requests are passed on, every later one fails.
    pub const fn new(inner: R, successes: u64) -> Self {
        Self { inner, successes, once: false, requests: AtomicU64::new(0) }
    }

    /// The request after the first `successes` fails, every other is passed on.
    pub const fn once(inner: R, successes: u64) -> Self {
        Self { inner, successes, once: true, requests: AtomicU64::new(0) }
    }

    /// The requests made so far, failed ones included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The resource inside.
    pub const fn inner(&self) -> &R {
        &self.inner
    }
}

// SAFETY: memory and requests are those of the resource inside, which gives the guarantees.
unsafe impl<R: MemoryResource> MemoryResource for FailAfter<R> {
    fn device(&self) -> Device {
        self.inner.device()
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before == self.successes || (before > self.successes && !self.once) {
            return Err(AllocError::new(bytes, align, self.device(), AllocReason::Injected));
        }
        self.inner.allocate(bytes, align, stream)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller's promises, passed on to the resource that allocated.
        unsafe { self.inner.deallocate(ptr, bytes, align, stream) };
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}
