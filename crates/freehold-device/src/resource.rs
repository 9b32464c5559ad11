//! The one trait for memory.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;

use freehold_tensor::Device;

use crate::{AllocError, AllocReason, Stream};

/// Where memory on one device comes from.
///
/// The size, the alignment and a stream are given again at free, so that a resource needs no record of its own. An
/// allocation of zero bytes succeeds, takes nothing, and is a non-null pointer that must not be read or written.
///
/// Adaptors are resources over another resource; [`Arc`] of a resource is one too, so they compose over
/// `Arc<dyn MemoryResource>`.
///
/// ```
/// use std::ptr::NonNull;
/// use std::sync::Arc;
///
/// use freehold_device::{AllocError, Buffer, HostMemory, MemoryResource, Stream};
/// use freehold_tensor::Device;
///
/// struct Named<R>(R, &'static str);
///
/// // SAFETY: memory and requests are those of the resource inside, which gives the guarantees.
/// unsafe impl<R: MemoryResource> MemoryResource for Named<R> {
///     fn device(&self) -> Device {
///         self.0.device()
///     }
///     fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
///         self.0.allocate(bytes, align, stream)
///     }
///     unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
///         // SAFETY: the caller's promises, passed on.
///         unsafe { self.0.deallocate(ptr, bytes, align, stream) };
///     }
///     fn name(&self) -> &str {
///         self.1
///     }
/// }
///
/// let memory: Arc<dyn MemoryResource> = Arc::new(Named(HostMemory, "scratch"));
/// assert_eq!(Buffer::new(&memory, 64, 1, Stream::NONE)?.resource().name(), "scratch");
/// # Ok::<(), AllocError>(())
/// ```
///
/// # Safety
///
/// Callers write through what [`allocate`](Self::allocate) returns, so an implementation must guarantee that:
///
/// * the pointer is a multiple of `align` and begins `bytes` bytes on [`device`](Self::device) that nothing else uses
///   until they are passed to [`deallocate`](Self::deallocate);
/// * the memory stays valid when the resource is moved, and may be freed from any thread;
/// * work queued on `stream` after the call may use the memory (host memory: at once).
pub unsafe trait MemoryResource: Send + Sync {
    /// The device whose memory this is.
    fn device(&self) -> Device;

    /// Allocates `bytes` bytes, not initialised, whose address is a multiple of `align`.
    ///
    /// # Errors
    ///
    /// When `align` is not a power of two, or the memory is not to be had.
    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError>;

    /// Gives memory back.
    ///
    /// # Safety
    ///
    /// * `ptr` was returned by [`allocate`](Self::allocate) of this resource for the same `bytes` and `align`, and has
    ///   not been given back since.
    /// * No use of the memory comes after this call, save work that was queued on `stream` before it.
    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream);

    /// A short name for messages and the ledger.
    fn name(&self) -> &str;
}

// SAFETY: every call is passed on unchanged, so the guarantees are those of the resource inside.
unsafe impl<R: MemoryResource + ?Sized> MemoryResource for Arc<R> {
    fn device(&self) -> Device {
        (**self).device()
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        (**self).allocate(bytes, align, stream)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, stream: Stream) {
        // SAFETY: the caller's promises, passed on to the resource that allocated.
        unsafe { (**self).deallocate(ptr, bytes, align, stream) }
    }

    fn name(&self) -> &str {
        (**self).name()
    }
}

/// The request as a [`Layout`], or why it is not a valid one.
pub(crate) fn layout_for(bytes: usize, align: usize, device: Device) -> Result<Layout, AllocError> {
    Layout::from_size_align(bytes, align).map_err(|_| {
        let reason = if align.is_power_of_two() { AllocReason::TooLarge } else { AllocReason::Alignment };
        AllocError::new(bytes, align, device, reason)
    })
}

/// What an allocation of zero bytes returns: an address that is a multiple of the alignment and that nothing has.
pub(crate) fn dangling(layout: Layout) -> NonNull<u8> {
    // What `NonNull::without_provenance` does, which is newer than our minimum Rust.
    let address = std::ptr::without_provenance_mut::<u8>(layout.align());
    // A layout's alignment is a power of two, so the address is not null; `NonNull::dangling` is never reached.
    NonNull::new(address).unwrap_or(NonNull::dangling())
}
