//! A pool in the driver, ordered on streams.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use freehold_tensor::{Device, DeviceKind};

use super::plain::stream_of;
use super::{DRIVER_ALIGNMENT, device, refused};
use crate::cuda::error::check;
use crate::cuda::{Context, CudaError, Pools, StreamRef, is_exiting, sys};
use crate::resource::{dangling, layout_for};
use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// Memory of a device by `cuMemAllocFromPoolAsync`, from a pool of its own: what is freed stays in the pool, and is used
/// again in the order of the streams. As RMM's `cuda_async_memory_resource`.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use freehold_device::cuda::{Context, memory::AsyncMemory};
/// use freehold_device::{Buffer, MemoryResource};
///
/// let context = Context::of(0)?;
/// let pool = Arc::new(AsyncMemory::new(context)?);
/// let memory: Arc<dyn MemoryResource> = pool.clone();
/// let stream = context.new_stream()?;
/// drop(Buffer::new(&memory, 1 << 20, 256, stream.number())?);
/// context.synchronize(stream)?;
/// let (reserved, in_use) = pool.usage()?;
/// assert!(reserved >= 1 << 20 && in_use == 0);
/// pool.trim(0)?;
/// assert_eq!(pool.usage()?, (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AsyncMemory {
    context: &'static Context,
    pools: Pools,
    pool: sys::CuMemoryPool,
    /// Given back while their streams were captured, and how many: addresses and streams.
    captured: Mutex<Vec<(u64, StreamRef)>>,
    waiting: AtomicUsize,
}

// SAFETY: the driver lets any thread use a pool.
unsafe impl Send for AsyncMemory {}
// SAFETY: as above.
unsafe impl Sync for AsyncMemory {}

impl AsyncMemory {
    /// A pool on a context's device, which keeps all that it ever had.
    ///
    /// # Errors
    ///
    /// [`CudaError::TooOld`] where driver or device has no pools; what the driver says.
    pub fn new(context: &'static Context) -> Result<AsyncMemory, CudaError> {
        AsyncMemory::with_handles(context, sys::MEM_HANDLE_TYPE_NONE)
    }

    /// A pool that another process can be given, by a POSIX file descriptor ([`AsyncMemory::export`]).
    ///
    /// # Errors
    ///
    /// As [`AsyncMemory::new`].
    pub fn shareable(context: &'static Context) -> Result<AsyncMemory, CudaError> {
        AsyncMemory::with_handles(context, sys::MEM_HANDLE_TYPE_POSIX_FD)
    }

    /// The driver's functions, where driver and device have pools.
    pub(super) fn pools(context: &'static Context) -> Result<Pools, CudaError> {
        const TOO_OLD: CudaError = CudaError::TooOld { what: "a stream-ordered pool", since: "11.2" };
        let pools = context.api().pools.ok_or(TOO_OLD)?;
        // A driver that does not know the attribute has no pools.
        let has = context.attribute(sys::DEVICE_MEMORY_POOLS_SUPPORTED).unwrap_or(0) != 0;
        if has { Ok(pools) } else { Err(TOO_OLD) }
    }

    /// A pool that is there: it is destroyed with this.
    pub(super) fn of(context: &'static Context, pools: Pools, pool: sys::CuMemoryPool) -> AsyncMemory {
        AsyncMemory { context, pools, pool, captured: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// What calls of the driver need.
    #[cfg(unix)]
    pub(super) fn parts(&self) -> (&'static Context, Pools, sys::CuMemoryPool) {
        (self.context, self.pools, self.pool)
    }

    fn with_handles(context: &'static Context, handle_types: u32) -> Result<AsyncMemory, CudaError> {
        let pools = AsyncMemory::pools(context)?;
        let _entered = context.enter()?;
        let props = sys::CuMemPoolProps {
            alloc_type: sys::MEM_ALLOCATION_TYPE_PINNED,
            handle_types,
            location: sys::CuMemLocation { kind: sys::MEM_LOCATION_TYPE_DEVICE, id: context.device() },
            win32_security_attributes: ptr::null_mut(),
            max_size: 0,
            usage: 0,
            reserved: [0; 54],
        };
        let mut pool: sys::CuMemoryPool = ptr::null_mut();
        // SAFETY: both pointers are to values of ours; reserved bytes are zero.
        check("cuMemPoolCreate", unsafe { (pools.create)(&raw mut pool, &raw const props) })?;
        let memory = AsyncMemory::of(context, pools, pool);
        memory.set_release_threshold(u64::MAX)?;
        Ok(memory)
    }

    /// How many bytes the pool keeps when a stream is waited for. All by default: giving back and asking again is slow.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub fn set_release_threshold(&self, bytes: u64) -> Result<(), CudaError> {
        let mut bytes = bytes;
        let _entered = self.context.enter()?;
        let value: *mut c_void = (&raw mut bytes).cast();
        // SAFETY: the attribute is a `u64`, and the value is one of ours.
        let status = unsafe { (self.pools.set_attribute)(self.pool, sys::MEMPOOL_RELEASE_THRESHOLD, value) };
        check("cuMemPoolSetAttribute", status)
    }

    /// Bytes that the pool has from the device, and of those the bytes in use.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub fn usage(&self) -> Result<(u64, u64), CudaError> {
        let _entered = self.context.enter()?;
        let ask = |attribute| {
            let mut value = 0_u64;
            // SAFETY: both attributes are `u64`s, and the value is one of ours.
            let status = unsafe { (self.pools.get_attribute)(self.pool, attribute, (&raw mut value).cast()) };
            check("cuMemPoolGetAttribute", status).map(|()| value)
        };
        Ok((ask(sys::MEMPOOL_RESERVED_CURRENT)?, ask(sys::MEMPOOL_USED_CURRENT)?))
    }

    /// Gives unused memory back to the device, save so many bytes.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub fn trim(&self, keep: usize) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        // SAFETY: the pool lives as long as this value.
        check("cuMemPoolTrimTo", unsafe { (self.pools.trim_to)(self.pool, keep) })
    }

    /// A file descriptor by which another process imports the pool (`ImportedPool` there). The caller closes it.
    ///
    /// # Errors
    ///
    /// What the driver says: an invalid value for a pool that is not [shareable](AsyncMemory::shareable).
    #[cfg(unix)]
    pub fn export(&self) -> Result<std::os::fd::OwnedFd, CudaError> {
        let mut fd: c_int = -1;
        let _entered = self.context.enter()?;
        let handle: *mut c_void = (&raw mut fd).cast();
        // SAFETY: for this type the handle is an `int`, and the place is one of ours.
        let status = unsafe { (self.pools.export_handle)(handle, self.pool, sys::MEM_HANDLE_TYPE_POSIX_FD, 0) };
        check("cuMemPoolExportToShareableHandle", status)?;
        // SAFETY: the driver opened it for the caller.
        Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
    }

    /// What another process needs, beside the pool, to find an allocation: any channel may carry it. The pool is
    /// [exported](AsyncMemory::export) before.
    ///
    /// # Errors
    ///
    /// What the driver says: an invalid value for an address that is not of this pool, or while the pool was not exported.
    pub fn export_pointer(&self, address: u64) -> Result<sys::CuMemPoolPtrExportData, CudaError> {
        let mut data = sys::CuMemPoolPtrExportData { reserved: [0; 64] };
        let _entered = self.context.enter()?;
        // SAFETY: the place is one of ours; the driver looks the address up.
        check("cuMemPoolExportPointer", unsafe { (self.pools.export_pointer)(&raw mut data, address) })?;
        Ok(data)
    }
}

impl AsyncMemory {
    /// Frees in the order of a stream; what is captured is kept until the capture has ended.
    fn free(&self, address: u64, stream: StreamRef) -> Result<(), CudaError> {
        // Freed on a captured stream, it would be freed when the graph runs, and each time. Whoever runs the graph keeps what
        // it uses, so this is of earlier work, and can be freed in its order when the capture has ended.
        if self.context.is_capturing(stream)? {
            self.captured.lock().unwrap_or_else(PoisonError::into_inner).push((address, stream));
            self.waiting.fetch_add(1, Ordering::Release);
            return Ok(());
        }
        let _entered = self.context.enter()?;
        // SAFETY: allocated by `allocate`, and given back once by its owner's word; uses that are queued on the stream come
        // before.
        check("cuMemFreeAsync", unsafe { (self.pools.free_async)(address, stream.raw()) })
    }

    /// As [`free`](Self::free), which has nobody to tell: what fails is tried once more. That frees nothing twice: a call that
    /// did its work fails only to report earlier work's failure, which loses the context (`cuda.h`), and then the driver refuses
    /// the second call as it does all others.
    fn give(&self, address: u64, stream: StreamRef) {
        if self.free(address, stream).is_err() {
            let _ = self.free(address, stream);
        }
    }

    /// Frees an allocation of the pool in the order of a stream, unless the process exits.
    pub(super) fn give_back(&self, address: u64, stream: Stream) {
        if is_exiting() {
            return;
        }
        // Once more, as in `give`: the stream of our own is made when first asked for.
        let found = stream_of(self.context, stream).or_else(|_| stream_of(self.context, stream));
        let Ok(stream) = found else { return };
        self.give_captured();
        self.give(address, stream);
    }

    /// Frees what was given back on streams whose capture has ended.
    fn give_captured(&self) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let captured = std::mem::take(&mut *self.captured.lock().unwrap_or_else(PoisonError::into_inner));
        self.waiting.fetch_sub(captured.len(), Ordering::Release);
        captured.into_iter().for_each(|(address, stream)| self.give(address, stream));
    }
}

impl std::fmt::Debug for AsyncMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncMemory").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Drop for AsyncMemory {
    fn drop(&mut self) {
        if is_exiting() {
            return;
        }
        self.give_captured();
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: ours, and buffers hold their resource: none is left. The driver keeps what is still freed in order.
            unsafe { (self.pools.destroy)(self.pool) };
        }
    }
}

// SAFETY: the driver's allocations are exclusive and 256-byte aligned (checked against what is asked); work queued on the
// stream may use them; any thread may free them; zero bytes give a dangling pointer.
unsafe impl MemoryResource for AsyncMemory {
    fn device(&self) -> Device {
        device(DeviceKind::CUDA, self.context)
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let device = self.device();
        let layout = layout_for(bytes, align, device)?;
        if bytes == 0 {
            return Ok(dangling(layout));
        }
        if align > DRIVER_ALIGNMENT {
            let reason = AllocReason::Unusable("the driver aligns to 256 bytes");
            return Err(AllocError::new(bytes, align, device, reason));
        }
        let failed = |error: CudaError| refused(&error, bytes, align, device);
        let stream = stream_of(self.context, stream).map_err(failed)?;
        self.give_captured();
        // An allocation on a captured stream becomes a node of the graph, and belongs to the graph.
        if self.context.is_capturing(stream).map_err(failed)? {
            return Err(failed(CudaError::Capturing { what: "allocating" }));
        }
        let _entered = self.context.enter().map_err(failed)?;
        let mut address: sys::CuDevicePtr = 0;
        // SAFETY: the place is one of ours; pool and stream live; the context is current.
        let status = unsafe { (self.pools.alloc_from_pool_async)(&raw mut address, bytes, self.pool, stream.raw()) };
        check("cuMemAllocFromPoolAsync", status).map_err(failed)?;
        let pointer = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(address as usize));
        pointer.ok_or_else(|| AllocError::new(bytes, align, device, AllocReason::Refused))
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, _align: usize, stream: Stream) {
        if bytes > 0 {
            self.give_back(ptr.addr().get() as u64, stream);
        }
    }

    fn name(&self) -> &str {
        "cuda-async"
    }
}
