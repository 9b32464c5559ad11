//! Memory straight from the driver.

use std::ffi::c_uint;
use std::ptr::NonNull;

use freehold_tensor::{Device, DeviceKind};

use super::{DRIVER_ALIGNMENT, device, refused};
use crate::cuda::error::check;
use crate::cuda::{Context, CudaError, Event, StreamRef, is_exiting, sys};
use crate::resource::{dangling, layout_for};
use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// Memory of a device by `cuMemAlloc`. Slow, and a free waits for the device: for large blocks that live long, and for
/// drivers without pools.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use freehold_device::cuda::{Context, memory::DeviceMemory};
/// use freehold_device::{Buffer, MemoryResource, Stream};
///
/// let memory: Arc<dyn MemoryResource> = Arc::new(DeviceMemory::new(Context::of(0)?));
/// assert_eq!(memory.name(), "cuda");
/// let large = Buffer::new(&memory, 64 << 20, 256, Stream::NONE)?;
/// assert_eq!(large.as_ptr().addr() % 256, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DeviceMemory {
    context: &'static Context,
}

/// Managed memory by `cuMemAllocManaged`.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use freehold_device::cuda::{Context, memory::ManagedMemory};
/// use freehold_device::{Buffer, MemoryResource, Stream};
///
/// let memory: Arc<dyn MemoryResource> = Arc::new(ManagedMemory::new(Context::of(0)?));
/// let shared = Buffer::new(&memory, 4096, 64, Stream::NONE)?;
/// // SAFETY: ours alone, and no device works on it.
/// assert_eq!(unsafe { shared.as_ptr().write(7); *shared.as_ptr() }, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ManagedMemory {
    context: &'static Context,
}

impl DeviceMemory {
    /// Memory of a context's device.
    pub fn new(context: &'static Context) -> DeviceMemory {
        DeviceMemory { context }
    }
}

impl ManagedMemory {
    /// Managed memory of a context's device.
    pub fn new(context: &'static Context) -> ManagedMemory {
        ManagedMemory { context }
    }
}

/// Allocates with one call of the driver.
fn allocate(
    context: &'static Context,
    kind: DeviceKind,
    bytes: usize,
    align: usize,
    call: impl FnOnce(*mut sys::CuDevicePtr) -> Result<(), CudaError>,
) -> Result<NonNull<u8>, AllocError> {
    let device = device(kind, context);
    let layout = layout_for(bytes, align, device)?;
    if bytes == 0 {
        return Ok(dangling(layout));
    }
    if align > DRIVER_ALIGNMENT {
        return Err(AllocError::new(bytes, align, device, AllocReason::Unusable("the driver aligns to 256 bytes")));
    }
    let failed = |error: CudaError| refused(&error, bytes, align, device);
    let _entered = context.enter().map_err(failed)?;
    // What others capture into graphs must not forbid an allocation that has nothing to do with it.
    let _relaxed = Relaxed::begin(context);
    let mut address: sys::CuDevicePtr = 0;
    call(&raw mut address).map_err(failed)?;
    let pointer = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address as usize));
    pointer.ok_or_else(|| AllocError::new(bytes, align, device, AllocReason::Refused))
}

/// Frees when what was queued on the stream is done.
///
/// # Safety
///
/// * `address` is what one of the two resources here returned, and is given back.
unsafe fn free(context: &'static Context, address: u64, stream: Stream) {
    if is_exiting() || context.check_alive().is_err() {
        return;
    }
    if !stream.is_none() {
        // SAFETY: whoever gives memory back names a stream that lives.
        let stream = unsafe { context.stream(stream) };
        // `cuMemFree` waits for the device in most drivers, but does not promise it.
        let done = stream.and_then(|stream| Event::recorded(context, stream)).and_then(|event| event.synchronize());
        if done.is_err() {
            return;
        }
    }
    let Ok(_entered) = context.enter() else { return };
    let _relaxed = Relaxed::begin(context);
    // SAFETY: allocated by this driver, and not in use any more. A failure has nobody to be told to: the context is lost.
    unsafe { (context.api().memory.mem_free)(address) };
}

/// Calls that a capture of another stream in this thread would forbid are allowed until this is dropped.
pub(in crate::cuda) struct Relaxed {
    context: &'static Context,
    before: c_uint,
}

impl Relaxed {
    /// The context must be current.
    pub(in crate::cuda) fn begin(context: &'static Context) -> Relaxed {
        let mut before = sys::STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the pointer is to an int of ours, which the driver exchanges with the thread's.
        unsafe { (context.api().work.capture_mode)(&raw mut before) };
        Relaxed { context, before }
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        // SAFETY: as above; the value is the driver's own.
        unsafe { (self.context.api().work.capture_mode)(&raw mut self.before) };
    }
}

// SAFETY: the driver's allocations are exclusive, 256-byte aligned (checked against what is asked), and any thread may free
// them; zero bytes give a dangling pointer.
unsafe impl MemoryResource for DeviceMemory {
    fn device(&self) -> Device {
        device(DeviceKind::CUDA, self.context)
    }

    fn allocate(&self, bytes: usize, align: usize, _stream: Stream) -> Result<NonNull<u8>, AllocError> {
        allocate(self.context, DeviceKind::CUDA, bytes, align, |place| {
            // SAFETY: the place is a pointer of ours; the context is current.
            check("cuMemAlloc_v2", unsafe { (self.context.api().memory.mem_alloc)(place, bytes) })
        })
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, _align: usize, stream: Stream) {
        if bytes != 0 {
            // SAFETY: forwarded from the caller.
            unsafe { free(self.context, ptr.addr().get() as u64, stream) }
        }
    }

    fn name(&self) -> &str {
        "cuda"
    }
}

// SAFETY: as above.
unsafe impl MemoryResource for ManagedMemory {
    fn device(&self) -> Device {
        device(DeviceKind::CUDA_MANAGED, self.context)
    }

    fn allocate(&self, bytes: usize, align: usize, _stream: Stream) -> Result<NonNull<u8>, AllocError> {
        allocate(self.context, DeviceKind::CUDA_MANAGED, bytes, align, |place| {
            let flags = sys::MEM_ATTACH_GLOBAL;
            // SAFETY: as above.
            check("cuMemAllocManaged", unsafe { (self.context.api().memory.mem_alloc_managed)(place, bytes, flags) })
        })
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, _align: usize, stream: Stream) {
        if bytes != 0 {
            // SAFETY: forwarded from the caller.
            unsafe { free(self.context, ptr.addr().get() as u64, stream) }
        }
    }

    fn name(&self) -> &str {
        "cuda-managed"
    }
}

/// The stream of a request for memory: none is the context's own.
pub(super) fn stream_of(context: &'static Context, stream: Stream) -> Result<StreamRef, CudaError> {
    // SAFETY: whoever asks for memory names a stream that lives until it is given back (`MemoryResource`).
    unsafe { context.stream(stream) }
}
