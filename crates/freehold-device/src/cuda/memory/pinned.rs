//! Page-locked host memory, kept in lists by size: the driver needs a third of a millisecond for each MiB of it.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use freehold_tensor::{Device, DeviceKind};

use super::plain::{Relaxed, stream_of};
use super::{device, refused};
use crate::cuda::error::check;
use crate::cuda::{Context, CudaError, Event, is_exiting, sys};
use crate::resource::{dangling, layout_for};
use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// The smallest block: a page, which is what can be locked.
const SMALLEST: u32 = 12;
/// Sizes are powers of two from 4 KiB to 1 TiB.
const CLASSES: usize = 29;

/// A block that is free once its event is done.
struct Free {
    address: usize,
    event: Option<Event>,
}

/// What a [`PinnedMemory`] holds.
///
/// ```no_run
/// use freehold_device::cuda::Context;
/// use freehold_device::cuda::memory::{PinnedMemory, PinnedStatistics};
///
/// // Nothing is locked before it is asked for.
/// assert_eq!(PinnedMemory::new(Context::of(0)?).statistics(), PinnedStatistics::default());
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PinnedStatistics {
    /// Bytes that are locked, in use or kept.
    pub reserved: u64,
    /// Bytes in use, rounded up to the sizes of blocks.
    pub in_use: u64,
    /// How often the driver was asked for memory.
    pub misses: u64,
}

/// Page-locked host memory that every device can read and write. Not write-combined, because the host reads results from it.
///
/// Blocks are powers of two. One that is given back with a stream is used again when what was queued there is done.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use freehold_device::cuda::{Context, memory::PinnedMemory};
/// use freehold_device::{Buffer, MemoryResource, Stream};
///
/// let pinned = Arc::new(PinnedMemory::new(Context::of(0)?));
/// let memory: Arc<dyn MemoryResource> = pinned.clone();
/// for _ in 0..2 {
///     drop(Buffer::new(&memory, 5000, 64, Stream::NONE)?);
/// }
/// let now = pinned.statistics();
/// assert_eq!((now.reserved, now.in_use, now.misses), (8192, 0, 1)); // one block, used again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PinnedMemory {
    context: &'static Context,
    free: [Mutex<VecDeque<Free>>; CLASSES],
    reserved: AtomicU64,
    in_use: AtomicU64,
    misses: AtomicU64,
    /// The most bytes that stay locked without being used.
    kept_at_most: AtomicU64,
}

impl PinnedMemory {
    /// Memory that a context's device, and every other, can use. Keeps at most 1 GiB that nobody uses.
    pub fn new(context: &'static Context) -> PinnedMemory {
        PinnedMemory {
            context,
            free: [const { Mutex::new(VecDeque::new()) }; CLASSES],
            reserved: AtomicU64::new(0),
            in_use: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            kept_at_most: AtomicU64::new(1 << 30),
        }
    }

    /// Sets how many bytes may stay locked without being used.
    pub fn set_kept_at_most(&self, bytes: u64) {
        self.kept_at_most.store(bytes, Ordering::Relaxed);
    }

    /// The counters.
    pub fn statistics(&self) -> PinnedStatistics {
        PinnedStatistics {
            reserved: self.reserved.load(Ordering::Relaxed),
            in_use: self.in_use.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// Unlocks what is kept and not waited for.
    pub fn trim(&self) {
        for (class, list) in self.free.iter().enumerate() {
            let mut due = Vec::new();
            let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
            let mut kept = VecDeque::new();
            for block in list.drain(..) {
                let done = block.event.as_ref().is_none_or(|event| matches!(event.is_done(), Ok(true)));
                if done { due.push(block) } else { kept.push_back(block) }
            }
            *list = kept;
            drop(list);
            due.into_iter().for_each(|block| self.unlock(block.address, class));
        }
    }

    fn class_of(bytes: usize) -> usize {
        (bytes.next_power_of_two().trailing_zeros().max(SMALLEST) - SMALLEST) as usize
    }

    fn size_of(class: usize) -> usize {
        1 << (class as u32 + SMALLEST)
    }

    /// A kept block whose uses are done: the oldest was given back first, so it is the one to ask.
    fn take(&self, class: usize) -> Option<usize> {
        let mut list = self.free[class].lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = list.front()?;
        let done = oldest.event.as_ref().is_none_or(|event| matches!(event.is_done(), Ok(true)));
        if done { list.pop_front().map(|block| block.address) } else { None }
    }

    fn lock(&self, class: usize) -> Result<usize, CudaError> {
        let _entered = self.context.enter()?;
        let _relaxed = Relaxed::begin(self.context);
        let mut place: *mut c_void = ptr::null_mut();
        let flags = sys::MEMHOSTALLOC_PORTABLE | sys::MEMHOSTALLOC_DEVICEMAP;
        let size = PinnedMemory::size_of(class);
        // SAFETY: the place is one of ours; the context is current.
        let status = unsafe { (self.context.api().memory.mem_host_alloc)(&raw mut place, size, flags) };
        check("cuMemHostAlloc", status)?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.reserved.fetch_add(size as u64, Ordering::Relaxed);
        Ok(place.expose_provenance())
    }

    fn unlock(&self, address: usize, class: usize) {
        if is_exiting() {
            return;
        }
        let Ok(_entered) = self.context.enter() else { return };
        let _relaxed = Relaxed::begin(self.context);
        // SAFETY: locked by `lock`, and nobody uses it.
        unsafe { (self.context.api().memory.mem_free_host)(ptr::with_exposed_provenance_mut(address)) };
        self.reserved.fetch_sub(PinnedMemory::size_of(class) as u64, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for PinnedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinnedMemory").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        for class in 0..CLASSES {
            let list = std::mem::take(&mut *self.free[class].lock().unwrap_or_else(PoisonError::into_inner));
            for block in list {
                let done = block.event.is_none_or(|event| event.synchronize().is_ok());
                if done {
                    self.unlock(block.address, class);
                }
            }
        }
    }
}

// SAFETY: a block is locked memory of at least the size asked for, aligned to a page (more is refused), and it is in no list
// while it is in use; any thread may give it back; zero bytes give a dangling pointer.
unsafe impl MemoryResource for PinnedMemory {
    fn device(&self) -> Device {
        device(DeviceKind::CUDA_HOST, self.context)
    }

    fn allocate(&self, bytes: usize, align: usize, _stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let device = self.device();
        let layout = layout_for(bytes, align, device)?;
        if bytes == 0 {
            return Ok(dangling(layout));
        }
        let class = PinnedMemory::class_of(bytes);
        if align > 1 << SMALLEST || class >= CLASSES {
            let reason = AllocReason::Unusable("page-locked memory is aligned to 4096 bytes, and at most 1 TiB");
            return Err(AllocError::new(bytes, align, device, reason));
        }
        let address = match self.take(class) {
            Some(address) => address,
            None => self.lock(class).map_err(|error| refused(&error, bytes, align, device))?,
        };
        self.in_use.fetch_add(PinnedMemory::size_of(class) as u64, Ordering::Relaxed);
        NonNull::new(ptr::with_exposed_provenance_mut(address))
            .ok_or_else(|| AllocError::new(bytes, align, device, AllocReason::Refused))
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, _align: usize, stream: Stream) {
        if bytes == 0 || is_exiting() || self.context.check_alive().is_err() {
            return;
        }
        let class = PinnedMemory::class_of(bytes);
        let size = PinnedMemory::size_of(class) as u64;
        self.in_use.fetch_sub(size, Ordering::Relaxed);
        let event = if stream.is_none() {
            None
        } else {
            // A use that nobody can wait for may still come: then the block is never used again.
            let recorded = stream_of(self.context, stream).and_then(|stream| Event::recorded(self.context, stream));
            let Ok(event) = recorded else { return };
            Some(event)
        };
        let unused = self.reserved.load(Ordering::Relaxed).saturating_sub(self.in_use.load(Ordering::Relaxed));
        let address = ptr.addr().get();
        if unused > self.kept_at_most.load(Ordering::Relaxed) && event.as_ref().is_none_or(|e| e.is_done() == Ok(true))
        {
            return self.unlock(address, class);
        }
        let mut list = self.free[class].lock().unwrap_or_else(PoisonError::into_inner);
        // What can be taken at once comes first.
        if event.is_none() { list.push_front(Free { address, event }) } else { list.push_back(Free { address, event }) }
    }

    fn name(&self) -> &str {
        "cuda-pinned"
    }
}
