//! Whose memory a pointer is, asked of the driver in one call.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

use super::driver::Driver;
use super::error::{CudaError, check};
use super::sys;

/// What kind of memory it is, as the driver knows it.
///
/// See [`pointer()`].
///
/// ```no_run
/// use freehold_device::cuda::memory::managed;
/// use freehold_device::cuda::{Context, MemoryKind, pointer};
/// use freehold_device::{Buffer, Stream};
///
/// let buffer = Buffer::new(managed(0)?, 1000, 256, Stream::NONE)?;
/// let found = pointer(Context::of(0)?.driver(), buffer.as_ptr().addr() as u64)?;
/// assert_eq!(found.kind, MemoryKind::Managed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MemoryKind {
    /// Ordinary host memory, which the driver knows nothing of.
    Unregistered,
    /// Page-locked host memory.
    Pinned,
    /// Memory of a device.
    Device,
    /// Managed memory: it moves between host and device.
    Managed,
}

/// What the driver knows of an address.
///
/// ```no_run
/// use freehold_device::cuda::memory::resource;
/// use freehold_device::cuda::{Context, pointer};
/// use freehold_device::{Buffer, Stream};
///
/// let buffer = Buffer::new(resource(0)?, 1000, 256, Stream::NONE)?;
/// let address = buffer.as_ptr().addr() as u64;
/// let found = pointer(Context::of(0)?.driver(), address + 10)?;
/// assert_eq!((found.base, found.ordinal), (address, 0));
/// assert!(found.len >= 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pointer {
    /// The kind of memory.
    pub kind: MemoryKind,
    /// The device that it belongs to, or that it was allocated through; -1 for unregistered host memory.
    pub ordinal: i32,
    /// Where the allocation begins; 0 where it is not known.
    pub base: u64,
    /// Its length in bytes; 0 where it is not known.
    pub len: u64,
    /// A number of the allocation that the process never uses again; 0 where it is not known.
    pub buffer_id: u64,
    /// The context that it was allocated in, as an address; 0 for memory of a pool or of no context.
    pub context: usize,
}

/// Asks the driver whose memory an address is. Needs no current context, makes none, and works while streams are captured.
///
/// ```no_run
/// use freehold_device::cuda::{CudaError, MemoryKind, pointer, probe};
///
/// let driver = probe().map_err(CudaError::from)?;
/// let values = [0_u8; 4];
/// let found = pointer(driver, values.as_ptr().addr() as u64)?;
/// assert_eq!((found.kind, found.ordinal), (MemoryKind::Unregistered, -1));
/// # Ok::<(), CudaError>(())
/// ```
///
/// # Errors
///
/// What the driver says. An address that it does not know is [`MemoryKind::Unregistered`], not an error.
pub fn pointer(driver: &Driver, address: u64) -> Result<Pointer, CudaError> {
    let mut context: *mut c_void = ptr::null_mut();
    let (mut kind, mut managed, mut ordinal): (c_uint, c_int, c_int) = (0, 0, -1);
    let (mut base, mut len, mut buffer_id): (u64, usize, u64) = (0, 0, 0);
    let attributes = [
        sys::POINTER_CONTEXT,
        sys::POINTER_MEMORY_TYPE,
        sys::POINTER_IS_MANAGED,
        sys::POINTER_DEVICE_ORDINAL,
        sys::POINTER_RANGE_START,
        sys::POINTER_RANGE_SIZE,
        sys::POINTER_BUFFER_ID,
    ];
    let places: [*mut c_void; 7] = [
        (&raw mut context).cast(),
        (&raw mut kind).cast(),
        (&raw mut managed).cast(),
        (&raw mut ordinal).cast(),
        (&raw mut base).cast(),
        (&raw mut len).cast(),
        (&raw mut buffer_id).cast(),
    ];
    // SAFETY: one place of the type that `cuda.h` gives for each attribute.
    let status = unsafe {
        (driver.api.core.pointer_attributes)(attributes.len() as c_uint, attributes.as_ptr(), places.as_ptr(), address)
    };
    check("cuPointerGetAttributes", status)?;
    let kind = match kind {
        _ if managed != 0 => MemoryKind::Managed,
        sys::MEMORYTYPE_HOST => MemoryKind::Pinned,
        sys::MEMORYTYPE_DEVICE => MemoryKind::Device,
        _ => MemoryKind::Unregistered,
    };
    // The driver leaves -2 for an address that it does not know.
    let ordinal = if kind == MemoryKind::Unregistered { -1 } else { ordinal };
    Ok(Pointer { kind, ordinal, base, len: len as u64, buffer_id, context: context.addr() })
}
