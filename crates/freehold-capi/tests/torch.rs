//! The functions that PyTorch's `CUDAPluggableAllocator` finds by name, on the driver of the tests.

#![cfg(all(target_os = "linux", not(miri)))]

use std::ffi::{c_int, c_void};
use std::ptr;

use freehold_capi as _;
use freehold_fake_cuda::control::Control;

// As PyTorch declares them.
unsafe extern "C" {
    fn fh_torch_alloc(size: usize, device: c_int, stream: *mut c_void) -> *mut c_void;
    fn fh_torch_free(ptr: *mut c_void, size: usize, device: c_int, stream: *mut c_void);
}

#[test]
fn pytorch_gets_memory_of_the_device_in_the_order_of_its_streams() {
    let control = Control::built();
    // SAFETY: this program's only test, before anything reads the environment.
    unsafe { std::env::set_var("FREEHOLD_CUDA_LIBRARY", control.path()) };
    let legacy = ptr::null_mut();
    // SAFETY: blocks are given back once, with their sizes.
    unsafe {
        let (first, second) = (fh_torch_alloc(2 << 20, 0, legacy), fh_torch_alloc(100, 1, legacy));
        assert!(!first.is_null() && !second.is_null() && first.addr() % 256 == 0);
        assert!(control.live().pool_used >= (2 << 20) + 100);
        control.hold(true);
        fh_torch_free(first, 2 << 20, 0, legacy);
        assert_eq!(fh_torch_alloc(2 << 20, 0, legacy), first, "the same stream has it again, before anything ran");
        control.hold(false);
        fh_torch_free(first, 2 << 20, 0, legacy);
        fh_torch_free(second, 100, 1, legacy);
        assert_eq!(control.live().pool_used, 0);
        // PyTorch takes NULL for a lack of memory.
        assert!(fh_torch_alloc(1 << 60, 0, legacy).is_null());
        assert!(fh_torch_alloc(1, 7, legacy).is_null() && fh_torch_alloc(1, -1, legacy).is_null());
        assert!(fh_torch_alloc(0, 0, legacy).is_null());
        fh_torch_free(ptr::null_mut(), 0, 0, legacy);
    }
}
