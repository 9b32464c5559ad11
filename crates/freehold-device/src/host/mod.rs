//! Host memory: from the allocator of the program, and the pool that keeps it warm.

mod class;
mod local;
mod pool;
mod shared;
mod system;

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, TryLockError};

use freehold_tensor::Device;

pub use self::pool::{HostPool, HostStatistics};
use crate::resource::{dangling, layout_for};
use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// The least alignment of host memory: DLPack says that `data` is aligned to 256 bytes.
pub const HOST_ALIGNMENT: usize = 256;

/// Allocations of at least this many bytes begin at a page, see [`HOST_LARGE_ALIGNMENT`].
pub const HOST_LARGE: usize = 2 << 20;

/// The least alignment of host allocations of at least [`HOST_LARGE`] bytes: whole pages can be advised, protected
/// or registered with a device without touching a neighbour's.
///
/// ```
/// use freehold_device::{Buffer, HOST_LARGE, HOST_LARGE_ALIGNMENT};
///
/// let large = Buffer::host(HOST_LARGE)?;
/// assert_eq!(large.as_ptr().addr() % HOST_LARGE_ALIGNMENT, 0);
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
pub const HOST_LARGE_ALIGNMENT: usize = 4096;

/// Host memory from [`std::alloc`], aligned to [`HOST_ALIGNMENT`] or more.
///
/// ```
/// use freehold_device::{HOST_ALIGNMENT, HostMemory, MemoryResource, Stream};
///
/// let block = HostMemory.allocate(1000, 8, Stream::NONE)?;
/// assert_eq!(block.addr().get() % HOST_ALIGNMENT, 0);
/// // SAFETY: allocated above with this size and alignment; nothing uses it.
/// unsafe { HostMemory.deallocate(block, 1000, 8, Stream::NONE) };
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
#[derive(Copy, Clone, Debug, Default)]
pub struct HostMemory;

impl HostMemory {
    /// What is really asked of the allocator. It depends on the request only, so a free finds the same again.
    fn layout(bytes: usize, align: usize) -> Result<Layout, AllocError> {
        let least = if bytes >= HOST_LARGE { HOST_LARGE_ALIGNMENT } else { HOST_ALIGNMENT };
        // The request is checked as it was made: raising a bad alignment could hide it.
        layout_for(bytes, align, Device::CPU)?;
        layout_for(bytes, align.max(least), Device::CPU).map_err(|error| AllocError { align, ..error })
    }
}

// SAFETY: a block of `std::alloc` is exclusive, has at least the size and the alignment asked for, does not depend on
// `self` and can be freed from any thread. Zero bytes give a dangling pointer, which nothing may access.
unsafe impl MemoryResource for HostMemory {
    fn device(&self) -> Device {
        Device::CPU
    }

    fn allocate(&self, bytes: usize, align: usize, _stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let layout = Self::layout(bytes, align)?;
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        // SAFETY: the size is not zero.
        let ptr = unsafe { std::alloc::alloc(layout) };
        NonNull::new(ptr).ok_or(AllocError::new(bytes, align, Device::CPU, AllocReason::Refused))
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, align: usize, _stream: Stream) {
        match Self::layout(bytes, align) {
            // SAFETY: the caller promises that `allocate` returned `ptr` for this size and alignment, so it came from
            // `std::alloc::alloc` with this same, non-zero layout.
            Ok(layout) if layout.size() != 0 => unsafe { std::alloc::dealloc(ptr.as_ptr(), layout) },
            // Zero bytes were never taken. A request that is not valid cannot have been allocated: the caller broke
            // its promise, and keeping the memory is the harmless answer.
            Ok(_) | Err(_) => {}
        }
    }

    fn name(&self) -> &str {
        "host"
    }
}

static HOST: LazyLock<Arc<dyn MemoryResource>> = LazyLock::new(|| Arc::new(HostPool::NEW));

/// The host memory of the process: the [`HostPool`].
///
/// ```
/// use freehold_device::{MemoryResource, host};
/// use freehold_tensor::Device;
///
/// assert_eq!(host().device(), Device::CPU);
/// ```
pub fn host() -> &'static Arc<dyn MemoryResource> {
    &HOST
}

/// The pool behind [`host`]: its limit, its counters, and giving memory back.
///
/// ```
/// use freehold_device::{Buffer, host_pool};
///
/// host_pool().set_limit(1 << 20);
/// drop(Buffer::host(4 << 20)?);
/// assert!(host_pool().statistics().kept_bytes <= 1 << 20);
/// # Ok::<(), freehold_device::AllocError>(())
/// ```
pub const fn host_pool() -> HostPool {
    HostPool::NEW
}

/// Locks, unless another thread keeps the lock too long: a child process may have inherited one that a thread it does
/// not have holds. The pool can always do without.
fn patiently<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..200 {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_raised_and_never_lowered() {
        let align = |bytes, align| HostMemory::layout(bytes, align).expect("valid request").align();
        assert_eq!(align(1, 1), 256);
        assert_eq!(align(HOST_LARGE - 1, 1), 256);
        assert_eq!(align(HOST_LARGE, 1), 4096);
        assert_eq!(align(1, 65536), 65536);
        assert_eq!(align(HOST_LARGE, 65536), 65536);
    }

    #[test]
    fn errors_name_the_alignment_that_was_asked_for() {
        // Valid at an alignment of 1, too large once rounded up to ours.
        let error = HostMemory::layout(isize::MAX as usize - 1, 1).expect_err("cannot be rounded up");
        assert_eq!((error.reason, error.align), (AllocReason::TooLarge, 1));
        // 3 is not a power of two, although the maximum of 3 and 256 is.
        for bad in [0, 3] {
            let error = HostMemory::layout(16, bad).expect_err("not a power of two");
            assert_eq!((error.reason, error.align), (AllocReason::Alignment, bad));
        }
    }
}
