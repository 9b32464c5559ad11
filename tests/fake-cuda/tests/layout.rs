//! The structs of `cuda.h` that are written down here, against those that cudarc generates from the header.

#![cfg(all(target_os = "linux", not(miri)))]

use std::mem::{offset_of, size_of};

use cudarc::driver::sys as theirs;
use freehold_fake_cuda::abi as ours;

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
    same!(Location == CUmemLocation_st { kind = type_, id = id });
    same!(PoolProps == CUmemPoolProps_st {
        alloc_type = allocType, handle_types = handleTypes, location = location, max_size = maxSize, usage = usage,
        reserved = reserved,
    });
    same!(AccessDesc == CUmemAccessDesc_st { location = location, flags = flags });
    same!(PointerExport == CUmemPoolPtrExportData_st { reserved = reserved });
    same!(Copy2D == CUDA_MEMCPY2D_st {
        src_x = srcXInBytes, src_y = srcY, src_type = srcMemoryType, src_host = srcHost, src_device = srcDevice,
        src_array = srcArray, src_pitch = srcPitch, dst_x = dstXInBytes, dst_y = dstY, dst_type = dstMemoryType,
        dst_host = dstHost, dst_device = dstDevice, dst_array = dstArray, dst_pitch = dstPitch, width = WidthInBytes,
        height = Height,
    });
    same!(Copy3D == CUDA_MEMCPY3D_st {
        src_x = srcXInBytes, src_y = srcY, src_z = srcZ, src_lod = srcLOD, src_type = srcMemoryType, src_host = srcHost,
        src_device = srcDevice, src_array = srcArray, reserved0 = reserved0, src_pitch = srcPitch,
        src_height = srcHeight, dst_x = dstXInBytes, dst_y = dstY, dst_z = dstZ, dst_lod = dstLOD,
        dst_type = dstMemoryType, dst_host = dstHost, dst_device = dstDevice, dst_array = dstArray,
        reserved1 = reserved1, dst_pitch = dstPitch, dst_height = dstHeight, width = WidthInBytes, height = Height,
        depth = Depth,
    });
    same!(CopyAttributes == CUmemcpyAttributes_st {
        src_access_order = srcAccessOrder, src_hint = srcLocHint, dst_hint = dstLocHint, flags = flags,
    });
}

#[test]
fn results_have_the_numbers_of_the_header() {
    use freehold_fake_cuda::status::Status;
    use theirs::cudaError_enum as result;
    let mut known = 0;
    for code in 0..1000 {
        let Some((name, _)) = Status(code).text() else { continue };
        known += 1;
        let name = name.trim_end_matches('\0');
        let pairs = [
            result::CUDA_SUCCESS,
            result::CUDA_ERROR_INVALID_VALUE,
            result::CUDA_ERROR_OUT_OF_MEMORY,
            result::CUDA_ERROR_NOT_INITIALIZED,
            result::CUDA_ERROR_DEINITIALIZED,
            result::CUDA_ERROR_STUB_LIBRARY,
            result::CUDA_ERROR_NO_DEVICE,
            result::CUDA_ERROR_INVALID_DEVICE,
            result::CUDA_ERROR_INVALID_IMAGE,
            result::CUDA_ERROR_INVALID_CONTEXT,
            result::CUDA_ERROR_NO_BINARY_FOR_GPU,
            result::CUDA_ERROR_INVALID_PTX,
            result::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
            result::CUDA_ERROR_OPERATING_SYSTEM,
            result::CUDA_ERROR_INVALID_HANDLE,
            result::CUDA_ERROR_ILLEGAL_STATE,
            result::CUDA_ERROR_NOT_FOUND,
            result::CUDA_ERROR_NOT_READY,
            result::CUDA_ERROR_ILLEGAL_ADDRESS,
            result::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
            result::CUDA_ERROR_LAUNCH_TIMEOUT,
            result::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED,
            result::CUDA_ERROR_PEER_ACCESS_NOT_ENABLED,
            result::CUDA_ERROR_CONTEXT_IS_DESTROYED,
            result::CUDA_ERROR_MISALIGNED_ADDRESS,
            result::CUDA_ERROR_LAUNCH_FAILED,
            result::CUDA_ERROR_NOT_PERMITTED,
            result::CUDA_ERROR_NOT_SUPPORTED,
            result::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
            result::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
            result::CUDA_ERROR_STREAM_CAPTURE_MERGE,
            result::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
            result::CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
            result::CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
            result::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
            result::CUDA_ERROR_CAPTURED_EVENT,
            result::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
            result::CUDA_ERROR_UNKNOWN,
        ];
        let found = pairs.iter().find(|result| **result as i32 == code);
        assert_eq!(found.map(|result| format!("{result:?}")).as_deref(), Some(name), "{code}");
    }
    assert_eq!(known, 38);
}
