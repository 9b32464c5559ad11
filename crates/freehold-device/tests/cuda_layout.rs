//! The structs of `cuda.h` that are written down here, against those that cudarc generates from the header.

#![cfg(not(miri))]

use std::mem::{offset_of, size_of};

use cudarc::driver::sys as theirs;
use freehold_device::cuda::sys as ours;

macro_rules! same {
    ($ours:ident == $theirs:ident { $($a:ident = $b:ident),* $(,)? }) => {
        assert_eq!(size_of::<ours::$ours>(), size_of::<theirs::$theirs>(), stringify!($ours));
        $(assert_eq!(
            offset_of!(ours::$ours, $a), offset_of!(theirs::$theirs, $b), "{}.{}", stringify!($ours), stringify!($a)
        );)*
    };
}

#[test]
fn structs_are_laid_out_as_in_the_header() {
    same!(CuMemLocation == CUmemLocation_st { kind = type_, id = id });
    same!(CuMemPoolProps == CUmemPoolProps_st {
        alloc_type = allocType, handle_types = handleTypes, location = location, max_size = maxSize, usage = usage,
        win32_security_attributes = win32SecurityAttributes, reserved = reserved,
    });
    same!(CuMemAccessDesc == CUmemAccessDesc_st { location = location, flags = flags });
    same!(CuMemPoolPtrExportData == CUmemPoolPtrExportData_st { reserved = reserved });
    same!(CuMemcpy2D == CUDA_MEMCPY2D_st {
        src_x_in_bytes = srcXInBytes, src_y = srcY, src_memory_type = srcMemoryType, src_host = srcHost,
        src_device = srcDevice, src_array = srcArray, src_pitch = srcPitch, dst_x_in_bytes = dstXInBytes,
        dst_y = dstY, dst_memory_type = dstMemoryType, dst_host = dstHost, dst_device = dstDevice,
        dst_array = dstArray, dst_pitch = dstPitch, width_in_bytes = WidthInBytes, height = Height,
    });
    same!(CuMemcpy3D == CUDA_MEMCPY3D_st {
        src_x_in_bytes = srcXInBytes, src_y = srcY, src_z = srcZ, src_lod = srcLOD, src_memory_type = srcMemoryType,
        src_host = srcHost, src_device = srcDevice, src_pitch = srcPitch, src_height = srcHeight,
        dst_x_in_bytes = dstXInBytes, dst_y = dstY, dst_z = dstZ, dst_lod = dstLOD, dst_memory_type = dstMemoryType,
        dst_host = dstHost, dst_device = dstDevice, dst_pitch = dstPitch, dst_height = dstHeight,
        width_in_bytes = WidthInBytes, height = Height, depth = Depth,
    });
    same!(CuMemcpyAttributes == CUmemcpyAttributes_st {
        src_access_order = srcAccessOrder, src_loc_hint = srcLocHint, dst_loc_hint = dstLocHint, flags = flags,
    });
}

#[test]
fn constants_are_those_of_the_header() {
    use theirs::CUdevice_attribute_enum as device;
    use theirs::CUpointer_attribute_enum as pointer;
    use theirs::{CUmemPool_attribute_enum as pool, CUmemorytype_enum as memory};
    let pairs: &[(u32, u32)] = &[
        (ours::MEMORYTYPE_HOST, memory::CU_MEMORYTYPE_HOST as u32),
        (ours::MEMORYTYPE_DEVICE, memory::CU_MEMORYTYPE_DEVICE as u32),
        (ours::MEMORYTYPE_UNIFIED, memory::CU_MEMORYTYPE_UNIFIED as u32),
        (ours::STREAM_NON_BLOCKING, theirs::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32),
        (ours::EVENT_DISABLE_TIMING, theirs::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32),
        (ours::MEMHOSTALLOC_PORTABLE, theirs::CU_MEMHOSTALLOC_PORTABLE),
        (ours::MEMHOSTALLOC_DEVICEMAP, theirs::CU_MEMHOSTALLOC_DEVICEMAP),
        (ours::MEMHOSTALLOC_WRITECOMBINED, theirs::CU_MEMHOSTALLOC_WRITECOMBINED),
        (ours::MEM_ATTACH_GLOBAL, theirs::CUmemAttach_flags_enum::CU_MEM_ATTACH_GLOBAL as u32),
        (ours::MEMPOOL_RELEASE_THRESHOLD, pool::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as u32),
        (ours::MEMPOOL_RESERVED_CURRENT, pool::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as u32),
        (ours::MEMPOOL_USED_CURRENT, pool::CU_MEMPOOL_ATTR_USED_MEM_CURRENT as u32),
        (ours::MEMPOOL_REUSE_FOLLOW_EVENT_DEPENDENCIES, pool::CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES as u32),
        (ours::MEMPOOL_REUSE_ALLOW_OPPORTUNISTIC, pool::CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC as u32),
        (
            ours::MEMPOOL_REUSE_ALLOW_INTERNAL_DEPENDENCIES,
            pool::CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES as u32,
        ),
        (ours::POINTER_CONTEXT, pointer::CU_POINTER_ATTRIBUTE_CONTEXT as u32),
        (ours::POINTER_MEMORY_TYPE, pointer::CU_POINTER_ATTRIBUTE_MEMORY_TYPE as u32),
        (ours::POINTER_DEVICE_POINTER, pointer::CU_POINTER_ATTRIBUTE_DEVICE_POINTER as u32),
        (ours::POINTER_HOST_POINTER, pointer::CU_POINTER_ATTRIBUTE_HOST_POINTER as u32),
        (ours::POINTER_BUFFER_ID, pointer::CU_POINTER_ATTRIBUTE_BUFFER_ID as u32),
        (ours::POINTER_IS_MANAGED, pointer::CU_POINTER_ATTRIBUTE_IS_MANAGED as u32),
        (ours::POINTER_DEVICE_ORDINAL, pointer::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL as u32),
        (ours::POINTER_IS_LEGACY_IPC_CAPABLE, pointer::CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE as u32),
        (ours::POINTER_RANGE_START, pointer::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR as u32),
        (ours::POINTER_RANGE_SIZE, pointer::CU_POINTER_ATTRIBUTE_RANGE_SIZE as u32),
        (ours::POINTER_MEMPOOL_HANDLE, pointer::CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE as u32),
        (ours::MEM_ALLOCATION_TYPE_PINNED, theirs::CUmemAllocationType_enum::CU_MEM_ALLOCATION_TYPE_PINNED as u32),
        (
            ours::MEM_HANDLE_TYPE_POSIX_FD,
            theirs::CUmemAllocationHandleType_enum::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR.0,
        ),
        (ours::MEM_LOCATION_TYPE_DEVICE, theirs::CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_DEVICE as u32),
        (ours::MEM_ACCESS_READWRITE, theirs::CUmemAccess_flags_enum::CU_MEM_ACCESS_FLAGS_PROT_READWRITE as u32),
        (ours::STREAM_CAPTURE_ACTIVE, theirs::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_ACTIVE as u32),
        (ours::STREAM_CAPTURE_MODE_RELAXED, theirs::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED as u32),
        (
            ours::MEMCPY_SRC_ACCESS_ORDER_STREAM,
            theirs::CUmemcpySrcAccessOrder_enum::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM as u32,
        ),
        (ours::DEVICE_MULTIPROCESSOR_COUNT as u32, device::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as u32),
        (ours::DEVICE_UNIFIED_ADDRESSING as u32, device::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING as u32),
        (ours::DEVICE_COMPUTE_CAPABILITY_MAJOR as u32, device::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as u32),
        (ours::DEVICE_COMPUTE_CAPABILITY_MINOR as u32, device::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as u32),
        (ours::DEVICE_MANAGED_MEMORY as u32, device::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY as u32),
        (ours::DEVICE_CONCURRENT_MANAGED_ACCESS as u32, device::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS as u32),
        (ours::DEVICE_PAGEABLE_MEMORY_ACCESS as u32, device::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS as u32),
        (ours::DEVICE_MEMORY_POOLS_SUPPORTED as u32, device::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED as u32),
        (ours::DEVICE_MEMPOOL_HANDLE_TYPES as u32, device::CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES as u32),
    ];
    for (i, (ours, theirs)) in pairs.iter().enumerate() {
        assert_eq!(ours, theirs, "pair {i}");
    }
}
