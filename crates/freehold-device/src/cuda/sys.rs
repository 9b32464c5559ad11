//! The types and constants of `cuda.h` that are used here, as plain integers.
//!
//! Enumerations of the driver are integers: a driver newer than this code may use values that it does not know. The
//! structs are those of CUDA 12.8, which older drivers take too (reserved bytes must be zero); `tests/cuda_layout.rs`
//! holds sizes and offsets to those of `cudarc`, which are generated from the header. They are not taken from it, because
//! its build allows one CUDA version in a whole dependency graph.
//!
//! ```
//! use freehold_device::cuda::{StreamRef, sys};
//!
//! assert_eq!(StreamRef::LEGACY.raw(), sys::STREAM_LEGACY);
//! assert_eq!(size_of::<sys::CuMemPoolProps>(), 88);
//! ```

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

/// `CUdevice`.
pub type CuDevice = c_int;
/// `CUdeviceptr`.
pub type CuDevicePtr = c_ulonglong;
/// `CUcontext`.
pub type CuContext = *mut c_void;
/// `CUstream`.
pub type CuStream = *mut c_void;
/// `CUevent`.
pub type CuEvent = *mut c_void;
/// `CUmodule`.
pub type CuModule = *mut c_void;
/// `CUfunction`.
pub type CuFunction = *mut c_void;
/// `CUmemoryPool`.
pub type CuMemoryPool = *mut c_void;
/// `CUgraph`.
pub type CuGraph = *mut c_void;
/// `CUhostFn`.
pub type CuHostFn = unsafe extern "C" fn(*mut c_void);

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:literal;)*) => { $($(#[$doc])* pub const $name: $type = $value;)* };
}

constants! {
    /// `CU_MEMORYTYPE_HOST`.
    MEMORYTYPE_HOST: c_uint = 1;
    /// `CU_MEMORYTYPE_DEVICE`.
    MEMORYTYPE_DEVICE: c_uint = 2;
    /// `CU_MEMORYTYPE_UNIFIED`.
    MEMORYTYPE_UNIFIED: c_uint = 4;
    /// `CU_STREAM_NON_BLOCKING`.
    STREAM_NON_BLOCKING: c_uint = 1;
    /// `CU_EVENT_DISABLE_TIMING`.
    EVENT_DISABLE_TIMING: c_uint = 2;
    /// `CU_MEMHOSTALLOC_PORTABLE`.
    MEMHOSTALLOC_PORTABLE: c_uint = 1;
    /// `CU_MEMHOSTALLOC_DEVICEMAP`.
    MEMHOSTALLOC_DEVICEMAP: c_uint = 2;
    /// `CU_MEMHOSTALLOC_WRITECOMBINED`.
    MEMHOSTALLOC_WRITECOMBINED: c_uint = 4;
    /// `CU_MEM_ATTACH_GLOBAL`.
    MEM_ATTACH_GLOBAL: c_uint = 1;
    /// `CU_MEM_ALLOCATION_TYPE_PINNED`.
    MEM_ALLOCATION_TYPE_PINNED: c_uint = 1;
    /// `CU_MEM_HANDLE_TYPE_NONE`.
    MEM_HANDLE_TYPE_NONE: c_uint = 0;
    /// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
    MEM_HANDLE_TYPE_POSIX_FD: c_uint = 1;
    /// `CU_MEM_LOCATION_TYPE_DEVICE`.
    MEM_LOCATION_TYPE_DEVICE: c_uint = 1;
    /// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
    MEM_ACCESS_READWRITE: c_uint = 3;
    /// `CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES`.
    MEMPOOL_REUSE_FOLLOW_EVENT_DEPENDENCIES: c_uint = 1;
    /// `CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC`.
    MEMPOOL_REUSE_ALLOW_OPPORTUNISTIC: c_uint = 2;
    /// `CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES`.
    MEMPOOL_REUSE_ALLOW_INTERNAL_DEPENDENCIES: c_uint = 3;
    /// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`, a `u64`.
    MEMPOOL_RELEASE_THRESHOLD: c_uint = 4;
    /// `CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT`, a `u64`.
    MEMPOOL_RESERVED_CURRENT: c_uint = 5;
    /// `CU_MEMPOOL_ATTR_USED_MEM_CURRENT`, a `u64`.
    MEMPOOL_USED_CURRENT: c_uint = 7;
    /// `CU_POINTER_ATTRIBUTE_CONTEXT`.
    POINTER_CONTEXT: c_uint = 1;
    /// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, an `unsigned`.
    POINTER_MEMORY_TYPE: c_uint = 2;
    /// `CU_POINTER_ATTRIBUTE_DEVICE_POINTER`.
    POINTER_DEVICE_POINTER: c_uint = 3;
    /// `CU_POINTER_ATTRIBUTE_HOST_POINTER`.
    POINTER_HOST_POINTER: c_uint = 4;
    /// `CU_POINTER_ATTRIBUTE_BUFFER_ID`, a `u64`.
    POINTER_BUFFER_ID: c_uint = 7;
    /// `CU_POINTER_ATTRIBUTE_IS_MANAGED`, an `int`.
    POINTER_IS_MANAGED: c_uint = 8;
    /// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`, an `int`.
    POINTER_DEVICE_ORDINAL: c_uint = 9;
    /// `CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE`, an `int`.
    POINTER_IS_LEGACY_IPC_CAPABLE: c_uint = 10;
    /// `CU_POINTER_ATTRIBUTE_RANGE_START_ADDR`.
    POINTER_RANGE_START: c_uint = 11;
    /// `CU_POINTER_ATTRIBUTE_RANGE_SIZE`, a `size_t`.
    POINTER_RANGE_SIZE: c_uint = 12;
    /// `CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE`.
    POINTER_MEMPOOL_HANDLE: c_uint = 17;
    /// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
    DEVICE_MULTIPROCESSOR_COUNT: c_int = 16;
    /// `CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING`.
    DEVICE_UNIFIED_ADDRESSING: c_int = 41;
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`.
    DEVICE_COMPUTE_CAPABILITY_MAJOR: c_int = 75;
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR`.
    DEVICE_COMPUTE_CAPABILITY_MINOR: c_int = 76;
    /// `CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY`.
    DEVICE_MANAGED_MEMORY: c_int = 83;
    /// `CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS`: the host may touch managed memory while the device works.
    DEVICE_CONCURRENT_MANAGED_ACCESS: c_int = 89;
    /// `CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS`: kernels may read ordinary host memory.
    DEVICE_PAGEABLE_MEMORY_ACCESS: c_int = 88;
    /// `CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED`.
    DEVICE_MEMORY_POOLS_SUPPORTED: c_int = 115;
    /// `CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES`, a mask.
    DEVICE_MEMPOOL_HANDLE_TYPES: c_int = 119;
    /// `CU_STREAM_CAPTURE_STATUS_NONE`.
    STREAM_CAPTURE_NONE: c_uint = 0;
    /// `CU_STREAM_CAPTURE_STATUS_ACTIVE`.
    STREAM_CAPTURE_ACTIVE: c_uint = 1;
    /// `CU_STREAM_CAPTURE_MODE_GLOBAL`.
    STREAM_CAPTURE_MODE_GLOBAL: c_uint = 0;
    /// `CU_STREAM_CAPTURE_MODE_RELAXED`.
    STREAM_CAPTURE_MODE_RELAXED: c_uint = 2;
    /// `CU_MEMCPY_SRC_ACCESS_ORDER_STREAM`.
    MEMCPY_SRC_ACCESS_ORDER_STREAM: c_uint = 1;
}

/// `CU_STREAM_LEGACY`: the legacy default stream, by name.
pub const STREAM_LEGACY: CuStream = std::ptr::without_provenance_mut(1);
/// `CU_STREAM_PER_THREAD`: the calling thread's default stream.
pub const STREAM_PER_THREAD: CuStream = std::ptr::without_provenance_mut(2);

/// `CUmemLocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CuMemLocation {
    /// `CUmemLocationType`.
    pub kind: c_uint,
    /// The ordinal, for a device.
    pub id: c_int,
}

/// `CUmemPoolProps`.
///
/// ```no_run
/// use freehold_device::cuda::{Context, sys};
///
/// let context = Context::of(0)?;
/// let location = sys::CuMemLocation { kind: sys::MEM_LOCATION_TYPE_DEVICE, id: context.device() };
/// let props = sys::CuMemPoolProps {
///     alloc_type: sys::MEM_ALLOCATION_TYPE_PINNED,
///     handle_types: sys::MEM_HANDLE_TYPE_NONE,
///     location,
///     win32_security_attributes: std::ptr::null_mut(),
///     max_size: 0,
///     usage: 0,
///     reserved: [0; 54],
/// };
/// let (pools, _entered) = (context.api().pools.expect("CUDA 11.2"), context.enter()?);
/// let mut pool = std::ptr::null_mut();
/// // SAFETY: both pointers are to values of ours; reserved bytes are zero.
/// assert_eq!(unsafe { (pools.create)(&raw mut pool, &raw const props) }.0, 0);
/// // SAFETY: made above; nothing was allocated from it.
/// assert_eq!(unsafe { (pools.destroy)(pool) }.0, 0);
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CuMemPoolProps {
    /// `CUmemAllocationType`.
    pub alloc_type: c_uint,
    /// `CUmemAllocationHandleType`, a mask.
    pub handle_types: c_uint,
    /// Where the memory is.
    pub location: CuMemLocation,
    /// For Windows.
    pub win32_security_attributes: *mut c_void,
    /// The most bytes; 0 for as many as there are. CUDA 12.2.
    pub max_size: usize,
    /// CUDA 12.6.
    pub usage: u16,
    /// Zero.
    pub reserved: [u8; 54],
}

/// `CUmemAccessDesc`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CuMemAccessDesc {
    /// Who accesses.
    pub location: CuMemLocation,
    /// `CUmemAccess_flags`.
    pub flags: c_uint,
}

/// `CUmemPoolPtrExportData`: opaque bytes that another process imports.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CuMemPoolPtrExportData {
    /// Opaque.
    pub reserved: [u8; 64],
}

/// `CUDA_MEMCPY2D`.
///
/// ```no_run
/// use freehold_device::cuda::{Context, memory, sys};
/// use freehold_device::{Buffer, Stream};
///
/// let context = Context::of(0)?;
/// let buffer = Buffer::new(memory::resource(0)?, 512, 256, Stream::NONE)?;
/// // SAFETY: numbers and pointers, for which zero is a value.
/// let mut tile: sys::CuMemcpy2D = unsafe { std::mem::zeroed() };
/// // Four rows of 16 bytes, out of rows of 64.
/// (tile.width_in_bytes, tile.height, tile.src_pitch, tile.dst_pitch) = (16, 4, 64, 16);
/// (tile.src_memory_type, tile.dst_memory_type) = (sys::MEMORYTYPE_DEVICE, sys::MEMORYTYPE_DEVICE);
/// tile.src_device = buffer.as_ptr().addr() as u64;
/// tile.dst_device = tile.src_device + 256;
/// let (stream, entered) = (context.work_stream()?, context.enter()?);
/// // SAFETY: all within the buffer, which nothing else uses.
/// assert_eq!(unsafe { (context.api().memory.memcpy_2d_async)(&raw const tile, stream.raw()) }.0, 0);
/// drop(entered);
/// context.synchronize(stream)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct CuMemcpy2D {
    pub src_x_in_bytes: usize,
    pub src_y: usize,
    pub src_memory_type: c_uint,
    pub src_host: *const c_void,
    pub src_device: CuDevicePtr,
    pub src_array: *mut c_void,
    pub src_pitch: usize,
    pub dst_x_in_bytes: usize,
    pub dst_y: usize,
    pub dst_memory_type: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: CuDevicePtr,
    pub dst_array: *mut c_void,
    pub dst_pitch: usize,
    pub width_in_bytes: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct CuMemcpy3D {
    pub src_x_in_bytes: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_memory_type: c_uint,
    pub src_host: *const c_void,
    pub src_device: CuDevicePtr,
    pub src_array: *mut c_void,
    pub reserved0: *mut c_void,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x_in_bytes: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_memory_type: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: CuDevicePtr,
    pub dst_array: *mut c_void,
    pub reserved1: *mut c_void,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width_in_bytes: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUmemcpyAttributes`, CUDA 12.8.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CuMemcpyAttributes {
    /// `CUmemcpySrcAccessOrder`.
    pub src_access_order: c_uint,
    /// A hint.
    pub src_loc_hint: CuMemLocation,
    /// A hint.
    pub dst_loc_hint: CuMemLocation,
    /// `CUmemcpyFlags`.
    pub flags: c_uint,
}
