//! The types and constants of `cuda.h` that this driver reads and writes, written down anew: an error in those of the
//! code under test must not be repeated here. `tests/layout.rs` holds them to what cudarc generates from the header.

use std::ffi::{c_int, c_uint, c_void};

/// `CUdeviceptr`.
pub type DevicePtr = u64;
/// `CUstream`, `CUevent`, `CUcontext`, `CUmodule`, `CUfunction`, `CUmemoryPool`, `CUgraph`.
pub type Handle = *mut c_void;
/// `CUhostFn`.
pub type HostFn = unsafe extern "C" fn(*mut c_void);

/// `CUmemorytype`.
pub mod memory_type {
    /// Host.
    pub const HOST: u32 = 1;
    /// Device.
    pub const DEVICE: u32 = 2;
    /// Told from the address.
    pub const UNIFIED: u32 = 4;
}

/// `CUpointer_attribute`.
#[allow(missing_docs, reason = "named after cuda.h")]
pub mod pointer_attribute {
    pub const CONTEXT: u32 = 1;
    pub const MEMORY_TYPE: u32 = 2;
    pub const DEVICE_POINTER: u32 = 3;
    pub const HOST_POINTER: u32 = 4;
    pub const SYNC_MEMOPS: u32 = 6;
    pub const BUFFER_ID: u32 = 7;
    pub const IS_MANAGED: u32 = 8;
    pub const DEVICE_ORDINAL: u32 = 9;
    pub const IS_LEGACY_CUDA_IPC_CAPABLE: u32 = 10;
    pub const RANGE_START_ADDR: u32 = 11;
    pub const RANGE_SIZE: u32 = 12;
    pub const MAPPED: u32 = 13;
    pub const ALLOWED_HANDLE_TYPES: u32 = 14;
    pub const MEMPOOL_HANDLE: u32 = 17;
}

/// `CUmemPool_attribute`.
#[allow(missing_docs, reason = "named after cuda.h")]
pub mod pool_attribute {
    pub const REUSE_FOLLOW_EVENT_DEPENDENCIES: u32 = 1;
    pub const REUSE_ALLOW_OPPORTUNISTIC: u32 = 2;
    pub const REUSE_ALLOW_INTERNAL_DEPENDENCIES: u32 = 3;
    pub const RELEASE_THRESHOLD: u32 = 4;
    pub const RESERVED_MEM_CURRENT: u32 = 5;
    pub const RESERVED_MEM_HIGH: u32 = 6;
    pub const USED_MEM_CURRENT: u32 = 7;
    pub const USED_MEM_HIGH: u32 = 8;
}

/// `CUmemLocation`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Location {
    /// `CUmemLocationType`: 1 is a device.
    pub kind: c_uint,
    /// The ordinal.
    pub id: c_int,
}

/// `CUmemPoolProps`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct PoolProps {
    pub alloc_type: c_uint,
    pub handle_types: c_uint,
    pub location: Location,
    pub win32_security_attributes: *mut c_void,
    pub max_size: usize,
    pub usage: u16,
    pub reserved: [u8; 54],
}

/// `CUmemAccessDesc`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct AccessDesc {
    pub location: Location,
    pub flags: c_uint,
}

/// `CUmemPoolPtrExportData`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct PointerExport {
    pub reserved: [u8; 64],
}

/// `CUDA_MEMCPY2D`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct Copy2D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: c_uint,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct Copy3D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: c_uint,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub reserved0: Handle,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: c_uint,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub reserved1: Handle,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUmemcpyAttributes`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields of cuda.h")]
pub struct CopyAttributes {
    pub src_access_order: c_uint,
    pub src_hint: Location,
    pub dst_hint: Location,
    pub flags: c_uint,
}
