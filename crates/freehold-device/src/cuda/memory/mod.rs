//! Memory of CUDA devices, and page-locked host memory, as [`MemoryResource`]s.
//!
//! | resource | name | where it comes from |
//! |---|---|---|
//! | [`AsyncMemory`] | `cuda-async` | a pool of our own in the driver, ordered on streams |
//! | [`DeviceMemory`] | `cuda` | `cuMemAlloc`, which waits for the device now and then |
//! | [`ManagedMemory`] | `cuda-managed` | `cuMemAllocManaged`: it moves between host and device |
//! | [`PoolMemory`] | `cuda-pool` | regions of any other resource, cut into blocks by ourselves |
//! | [`PinnedMemory`] | `cuda-pinned` | `cuMemHostAlloc`, kept in lists by size |
//!
//! [`resource`], [`managed`] and [`pinned`] are those that results come from unless somebody registers others.
//!
//! A pool over host memory needs no device:
//!
//! ```
//! use std::sync::Arc;
//!
//! use freehold_device::cuda::memory::{PoolMemory, PoolOptions};
//! use freehold_device::{Buffer, MemoryResource, Stream, host};
//!
//! let mut options = PoolOptions::default();
//! options.smallest_region = 1 << 20;
//! let pool = Arc::new(PoolMemory::new(host().clone(), options));
//! let memory: Arc<dyn MemoryResource> = pool.clone();
//! let block = Buffer::new(&memory, 1000, 256, Stream::NONE)?;
//! let now = pool.statistics();
//! assert_eq!((now.reserved, now.in_use, now.live, now.regions), (1 << 20, 1024, 1, 1));
//! drop(block);
//! pool.trim();
//! assert_eq!(pool.statistics().reserved, 0);
//! # Ok::<(), freehold_device::AllocError>(())
//! ```

mod async_pool;
#[cfg(unix)]
mod imported;
#[cfg(any(unix, feature = "cudarc"))]
mod one;
mod pinned;
mod plain;
mod pool;

use std::sync::{Arc, OnceLock};

use freehold_tensor::{Device, DeviceKind};

use super::{Context, CudaError};
use crate::{AllocError, AllocReason, MemoryResource};

pub use async_pool::AsyncMemory;
#[cfg(unix)]
pub use imported::ImportedPool;
#[cfg(feature = "cudarc")]
pub(super) use one::OneBlock;
pub use pinned::{PinnedMemory, PinnedStatistics};
pub(super) use plain::Relaxed;
pub use plain::{DeviceMemory, ManagedMemory};
pub use pool::{PoolMemory, PoolOptions, PoolStatistics};

/// What the driver aligns its own allocations to, in bytes.
const DRIVER_ALIGNMENT: usize = 256;

/// The default resource of each context.
#[derive(Default)]
struct Defaults {
    device: OnceLock<Arc<dyn MemoryResource>>,
    managed: OnceLock<Arc<dyn MemoryResource>>,
    pinned: OnceLock<Arc<dyn MemoryResource>>,
}

/// Where results on `cuda:ordinal` come from: a pool in the driver where it has pools, else the driver itself.
///
/// ```no_run
/// use freehold_device::Buffer;
/// use freehold_device::cuda::{StreamRef, memory};
/// use freehold_tensor::{Device, DeviceKind};
///
/// let buffer = Buffer::new(memory::resource(0)?, 1 << 20, 256, StreamRef::LEGACY.number())?;
/// assert_eq!(buffer.device(), Device::new(DeviceKind::CUDA, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// No such device, or what the driver says.
pub fn resource(ordinal: i32) -> Result<&'static Arc<dyn MemoryResource>, CudaError> {
    let context = Context::of(ordinal)?;
    let slot = &context.room(Defaults::default).device;
    if let Some(made) = slot.get() {
        return Ok(made);
    }
    let made: Arc<dyn MemoryResource> = match AsyncMemory::new(context) {
        Ok(pool) => Arc::new(pool),
        Err(CudaError::TooOld { .. }) => Arc::new(DeviceMemory::new(context)),
        Err(error) => return Err(error),
    };
    Ok(slot.get_or_init(|| made))
}

/// Where managed memory of a device comes from.
///
/// ```no_run
/// use freehold_device::cuda::memory;
///
/// assert_eq!(memory::managed(0)?.device().to_string(), "cuda_managed:0");
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
///
/// # Errors
///
/// No such device, or what the driver says.
pub fn managed(ordinal: i32) -> Result<&'static Arc<dyn MemoryResource>, CudaError> {
    let context = Context::of(ordinal)?;
    Ok(context.room(Defaults::default).managed.get_or_init(|| Arc::new(ManagedMemory::new(context))))
}

/// Where page-locked memory comes from, for every device: that of the first one.
///
/// ```no_run
/// use freehold_device::cuda::memory;
/// use freehold_device::{Buffer, Stream};
///
/// let locked = Buffer::new(memory::pinned()?, 4096, 64, Stream::NONE)?;
/// assert!(locked.device().kind.is_host());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// No device, or what the driver says.
pub fn pinned() -> Result<&'static Arc<dyn MemoryResource>, CudaError> {
    let context = Context::of(0)?;
    Ok(context.room(Defaults::default).pinned.get_or_init(|| Arc::new(PinnedMemory::new(context))))
}

/// The device of a kind of memory of a context.
fn device(kind: DeviceKind, context: &Context) -> Device {
    Device::new(kind, if kind == DeviceKind::CUDA_HOST { 0 } else { context.ordinal() })
}

/// A failure of the driver, as that of a request for memory.
fn refused(error: &CudaError, bytes: usize, align: usize, device: Device) -> AllocError {
    let reason = match error {
        CudaError::Failed { function, status } => AllocReason::Driver { function, status: *status },
        CudaError::Forked => AllocReason::Unusable("CUDA was started before this process was forked"),
        CudaError::Exiting => AllocReason::Unusable("the process is exiting, and the CUDA driver with it"),
        CudaError::BadStream(_) => AllocReason::Unusable("the stream is not one of a CUDA device"),
        CudaError::Capturing { .. } => AllocReason::Capturing,
        _ => AllocReason::Unusable("there is no CUDA device to allocate on"),
    };
    AllocError::new(bytes, align, device, reason)
}
