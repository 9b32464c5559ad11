//! Another try when memory ran out.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_tensor::Device;

use crate::{AllocError, MemoryResource, Stream};

/// A resource that asks a function to make room when memory ran out, and tries again: what RMM calls a failure callback.
///
/// The function may free memory of this very resource. It is called without a lock, from whatever thread asked for memory,
/// and from several at once. Other failures than a lack of memory are passed on.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use freehold_device::{Buffer, HostMemory, Limit, MemoryResource, Retry, Stream};
///
/// // What is cached goes when memory is short.
/// let cache = Arc::new(Mutex::new(Vec::new()));
/// let kept = Arc::clone(&cache);
/// let retry = Arc::new(Retry::new(Limit::new(HostMemory, 100), 1, move |_| kept.lock().unwrap().pop().is_some()));
/// let memory: Arc<dyn MemoryResource> = retry.clone();
/// cache.lock().unwrap().push(Buffer::new(&memory, 80, 1, Stream::NONE)?);
/// let other = Buffer::new(&memory, 80, 1, Stream::NONE)?;
/// assert_eq!((retry.retries(), cache.lock().unwrap().len()), (1, 0));
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
pub struct Retry<R, F> {
    inner: R,
    tries: u32,
    make_room: F,
    retries: AtomicU64,
}

impl<R: MemoryResource, F: Fn(&AllocError) -> bool + Send + Sync> Retry<R, F> {
    /// Tries again at most `tries` times, each time after `make_room` returned true.
    pub const fn new(inner: R, tries: u32, make_room: F) -> Self {
        Self { inner, tries, make_room, retries: AtomicU64::new(0) }
    }

    /// How often it was tried again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// The resource inside.
    pub const fn inner(&self) -> &R {
        &self.inner
    }
}

impl<R: fmt::Debug, F> fmt::Debug for Retry<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("inner", &self.inner).field("tries", &self.tries).finish_non_exhaustive()
    }
}

// SAFETY: memory and requests are those of the resource inside, which gives the guarantees.
unsafe impl<R: MemoryResource, F: Fn(&AllocError) -> bool + Send + Sync> MemoryResource for Retry<R, F> {
    fn device(&self) -> Device {
        self.inner.device()
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let mut made = self.inner.allocate(bytes, align, stream);
        for _ in 0..self.tries {
            match &made {
                Err(error) if error.is_out_of_memory() && (self.make_room)(error) => {}
                _ => break,
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            made = self.inner.allocate(bytes, align, stream);
        }
        made
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller's promises, passed on to the resource that allocated.
        unsafe { self.inner.deallocate(ptr, bytes, align, stream) };
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}
