//! One owned allocation.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use freehold_tensor::Device;

use crate::{AllocError, HOST_ALIGNMENT, MemoryResource, Stream, host, host_pool};

/// An owned block of memory, given back to its resource when dropped.
///
/// The bytes are not initialised. A buffer hands out its address and nothing more: reading and writing is up to code
/// that knows what the bytes mean and on which device they are.
///
/// Dropping never panics and works on any thread, because the last drop often happens inside a DLPack deleter.
///
/// ```
/// use freehold_device::Buffer;
/// use freehold_tensor::Device;
///
/// let buffer = Buffer::host_aligned(100, 4096)?;
/// assert_eq!((buffer.len(), buffer.align(), buffer.device()), (100, 4096, Device::CPU));
/// // SAFETY: 100 bytes that are ours alone; they are written before they are read.
/// let bytes = unsafe {
///     buffer.as_ptr().write_bytes(7, buffer.len());
///     std::slice::from_raw_parts(buffer.as_ptr(), buffer.len())
/// };
/// assert!(bytes.iter().all(|byte| *byte == 7));
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
pub struct Buffer {
    ptr: NonNull<u8>,
    bytes: usize,
    align: usize,
    stream: Stream,
    /// `None` is [`host`]: most buffers are, and need not count themselves in on one reference count.
    // Dropped by hand: the last reference may run foreign code, which must not unwind out of our drop.
    resource: ManuallyDrop<Option<Arc<dyn MemoryResource>>>,
}

impl Buffer {
    /// Allocates `bytes` bytes from `resource`, aligned to `align` or more.
    ///
    /// # Errors
    ///
    /// Those of [`MemoryResource::allocate`].
    pub fn new(
        resource: &Arc<dyn MemoryResource>,
        bytes: usize,
        align: usize,
        stream: Stream,
    ) -> Result<Buffer, AllocError> {
        let ptr = resource.allocate(bytes, align, stream)?;
        let resource = (!Arc::ptr_eq(resource, host())).then(|| Arc::clone(resource));
        Ok(Buffer { ptr, bytes, align, stream, resource: ManuallyDrop::new(resource) })
    }

    /// Allocates host memory from [`host`].
    ///
    /// # Errors
    ///
    /// When the system has no such block.
    pub fn host(bytes: usize) -> Result<Buffer, AllocError> {
        Buffer::host_aligned(bytes, HOST_ALIGNMENT)
    }

    /// As [`Buffer::host`], aligned to `align` or more.
    ///
    /// # Errors
    ///
    /// When `align` is not a power of two, or the system has no such block.
    #[inline]
    pub fn host_aligned(bytes: usize, align: usize) -> Result<Buffer, AllocError> {
        let ptr = host_pool().allocate(bytes, align, Stream::NONE)?;
        Ok(Buffer { ptr, bytes, align, stream: Stream::NONE, resource: ManuallyDrop::new(None) })
    }

    /// The address: valid for [`len`](Self::len) bytes on [`device`](Self::device) while the buffer lives, and not
    /// null even where the length is zero.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The size in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the size is zero.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The alignment that was asked for; the address may be aligned to more.
    pub fn align(&self) -> usize {
        self.align
    }

    /// The device whose memory this is.
    pub fn device(&self) -> Device {
        self.resource().device()
    }

    /// The stream on which the memory will be freed.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Sets the stream on which the memory will be freed: the one that uses it last.
    pub fn set_stream(&mut self, stream: Stream) {
        self.stream = stream;
    }

    /// Leaves the memory to somebody else, who frees it as its resource would.
    #[cfg(feature = "cudarc")]
    pub(crate) fn leak(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the field is not used after this: the value is never dropped.
        drop(unsafe { ManuallyDrop::take(&mut this.resource) });
    }

    /// Where the memory came from.
    pub fn resource(&self) -> &Arc<dyn MemoryResource> {
        self.resource.as_ref().unwrap_or_else(|| host())
    }
}

// SAFETY: the block belongs to this value alone, and `MemoryResource` promises that it can be freed from any thread.
unsafe impl Send for Buffer {}
// SAFETY: a shared reference gives the address, the size and the resource (which is Sync), and no access to the bytes.
unsafe impl Sync for Buffer {}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if self.resource.is_none() {
            // SAFETY: `host_aligned` got `ptr` from the pool for this size and alignment, and drop runs once. The pool
            // does not panic.
            unsafe { host_pool().deallocate(self.ptr, self.bytes, self.align, self.stream) };
        } else {
            self.give_back();
        }
    }
}

impl Buffer {
    /// Frees memory of a resource that may be anybody's code. Called by drop, once.
    #[cold]
    fn give_back(&mut self) {
        let free = AssertUnwindSafe(|| {
            // SAFETY: `new` got `ptr` from this resource for this size and alignment, and drop runs once. Whoever used
            // the memory on a stream has told us by `set_stream`.
            unsafe { self.resource().deallocate(self.ptr, self.bytes, self.align, self.stream) };
        });
        let freed = catch_unwind(free);
        // SAFETY: the field is not used after this, and drop, which calls this, runs once.
        let resource = unsafe { ManuallyDrop::take(&mut self.resource) };
        let released = catch_unwind(AssertUnwindSafe(|| drop(resource)));
        for payload in [freed, released].into_iter().filter_map(Result::err) {
            #[cfg(feature = "tracing")]
            tracing::error!(bytes = self.bytes, "a memory resource panicked while it freed; the memory may be lost");
            // What `panic!` makes is a text, which drops quietly; anything else may panic again and is kept for ever.
            if !payload.is::<&'static str>() && !payload.is::<String>() {
                std::mem::forget(payload);
            }
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("ptr", &self.ptr)
            .field("bytes", &self.bytes)
            .field("device", &self.device())
            .field("resource", &self.resource().name())
            .finish()
    }
}
