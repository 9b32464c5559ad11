//! Device memory in the shape that PyTorch's `CUDAPluggableAllocator` takes.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};

use freehold_device::cuda::memory;
use freehold_device::{MemoryResource, Stream};

use crate::guard::calm;

/// What the driver aligns to; PyTorch expects no less of an allocator.
const ALIGNMENT: usize = 256;

/// CUDA's runtime calls the legacy default stream NULL; in DLPack that number is not allowed.
fn stream_from(stream: *mut c_void) -> Stream {
    if stream.is_null() { Stream::LEGACY_DEFAULT } else { Stream(stream.expose_provenance() as i64) }
}

/// Allocates in the order of a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_torch_alloc(bytes: usize, device: c_int, stream: *mut c_void) -> *mut c_void {
    calm(ptr::null_mut(), || {
        if bytes == 0 {
            return ptr::null_mut();
        }
        let made = memory::resource(device).map_err(|error| error.to_string()).and_then(|memory| {
            memory.allocate(bytes, ALIGNMENT, stream_from(stream)).map_err(|error| error.to_string())
        });
        match made {
            Ok(memory) => memory.as_ptr().cast(),
            Err(error) => {
                tracing::warn!(bytes, device, %error, "no memory for PyTorch");
                ptr::null_mut()
            }
        }
    })
}

/// Frees in the order of a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_torch_free(memory: *mut c_void, bytes: usize, device: c_int, stream: *mut c_void) {
    calm((), || {
        // Without the resource nothing was allocated.
        let (Some(block), Ok(resource)) = (NonNull::new(memory.cast::<u8>()), memory::resource(device)) else { return };
        // SAFETY: the header asks for what `fh_torch_alloc` returned for this size and device, and a stream that lives.
        unsafe { resource.deallocate(block, bytes, ALIGNMENT, stream_from(stream)) };
    });
}
