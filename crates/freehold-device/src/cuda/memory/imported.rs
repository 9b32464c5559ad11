//! A pool of another process.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;

use freehold_tensor::DeviceKind;

use super::async_pool::AsyncMemory;
use super::device;
use super::one::OneBlock;
use crate::Buffer;
use crate::cuda::error::check;
use crate::cuda::{Context, CudaError, Status, StreamRef, pointer, sys};

/// A pool that another process [exported](AsyncMemory::export): its allocations are found here, and none are made.
///
/// ```no_run
/// use std::os::fd::AsFd;
///
/// use freehold_device::cuda::memory::{AsyncMemory, ImportedPool};
/// use freehold_device::cuda::{Context, StreamRef};
/// use freehold_device::{MemoryResource, Stream};
///
/// // Here: one process for both, which would send the descriptor over a socket and the export by any channel.
/// let context = Context::of(0)?;
/// let pool = AsyncMemory::shareable(context)?;
/// let block = pool.allocate(4096, 256, Stream::NONE)?;
/// let (descriptor, export) = (pool.export()?, pool.export_pointer(block.addr().get() as u64)?);
/// // There:
/// let imported = ImportedPool::open(context, descriptor.as_fd())?;
/// // SAFETY: so many bytes, freed below after this; nothing was queued on them.
/// let buffer = unsafe { imported.import(&export, 4096, StreamRef::LEGACY) }?;
/// assert_eq!(buffer.resource().name(), "cuda-imported");
/// drop(buffer);
/// // SAFETY: allocated above; nothing uses it.
/// unsafe { pool.deallocate(block, 4096, 256, Stream::NONE) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ImportedPool(AsyncMemory);

impl ImportedPool {
    /// The pool of a file descriptor, which may be closed after. It is on the context's device.
    ///
    /// # Errors
    ///
    /// [`CudaError::TooOld`] where driver or device has no pools; what the driver says: an invalid value for a descriptor that is
    /// of no pool.
    pub fn open(context: &'static Context, descriptor: BorrowedFd<'_>) -> Result<Arc<ImportedPool>, CudaError> {
        let pools = AsyncMemory::pools(context)?;
        let _entered = context.enter()?;
        let mut pool: sys::CuMemoryPool = ptr::null_mut();
        // For this type the handle is the number itself.
        let handle: *mut c_void = ptr::without_provenance_mut(descriptor.as_raw_fd() as usize);
        // SAFETY: the place is one of ours; the descriptor is open during the call.
        let status = unsafe { (pools.import_handle)(&raw mut pool, handle, sys::MEM_HANDLE_TYPE_POSIX_FD, 0) };
        check("cuMemPoolImportFromShareableHandle", status)?;
        Ok(Arc::new(ImportedPool(AsyncMemory::of(context, pools, pool))))
    }

    /// An allocation of the pool, by what [`AsyncMemory::export_pointer`] gave for it. The buffer holds the pool, and is given
    /// back here when it is dropped, in the order of `stream`; the memory is free when the other process has freed it too.
    ///
    /// # Errors
    ///
    /// What the driver says: an invalid value for what is of no allocation of this pool or of a shorter one, an invalid device
    /// where the pool is on another one than the context.
    ///
    /// # Safety
    ///
    /// * The allocation has `bytes` bytes, and the other process frees it after this one has.
    /// * What the other process does with it is done, or ordered with `stream` (by an event that both have, for one); who reads
    ///   and who writes is agreed between the two.
    pub unsafe fn import(
        self: &Arc<Self>,
        export: &sys::CuMemPoolPtrExportData,
        bytes: usize,
        stream: StreamRef,
    ) -> Result<Buffer, CudaError> {
        let (context, pools, pool) = self.0.parts();
        let mut export = *export;
        let mut address: sys::CuDevicePtr = 0;
        {
            let _entered = context.enter()?;
            // SAFETY: both places are ours; the driver checks what the other process gave.
            let status = unsafe { (pools.import_pointer)(&raw mut address, pool, &raw mut export) };
            check("cuMemPoolImportPointer", status)?;
        }
        let made = self.found(address, bytes).and_then(|()| {
            let on = device(DeviceKind::CUDA, context);
            // SAFETY: the caller vouches for size and use; it stays until it is freed here.
            let made = unsafe { OneBlock::buffer("cuda-imported", on, address, bytes, stream.number()) };
            made.map_err(|_| refused(Status::INVALID_VALUE))
        });
        match made {
            Ok((block, buffer)) => {
                let this = Arc::clone(self);
                block.owned(move |stream| this.0.give_back(address, stream));
                Ok(buffer)
            }
            Err(error) => {
                self.0.give_back(address, stream.number());
                Err(error)
            }
        }
    }

    /// Whether an allocation is on the device, and as long as is said, as far as the driver knows.
    fn found(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        let (context, ..) = self.0.parts();
        let found = pointer(context.driver(), address)?;
        if found.ordinal != context.ordinal() {
            return Err(refused(Status::INVALID_DEVICE));
        }
        let room = found.base + found.len - address.min(found.base + found.len);
        if found.len > 0 && bytes as u64 > room { Err(refused(Status::INVALID_VALUE)) } else { Ok(()) }
    }
}

fn refused(status: Status) -> CudaError {
    CudaError::Failed { function: "cuMemPoolImportPointer", status }
}
