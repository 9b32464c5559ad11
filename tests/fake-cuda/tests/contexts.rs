//! Contexts: made once, current per thread, needed by most calls; and a driver that does not answer.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ffi::CStr;
use std::ptr;

use common::{Control, Cuda, LEGACY, start};
use freehold_fake_cuda::abi::Handle;

#[test]
fn nothing_works_before_cu_init() {
    let cuda = Cuda::of(Control::built());
    let mut number = 0;
    assert_eq!(status!(cuda, cuDeviceGetCount(&raw mut number)), 3);
    ok!(cuda, cuDriverGetVersion(&raw mut number));
    assert_eq!((number, status!(cuda, cuInit(1))), (12080, 1));
    ok!(cuda, cuInit(0));
    ok!(cuda, cuDeviceGetCount(&raw mut number));
    assert_eq!(number, 2);
    Control::built().set_devices(0);
    assert_eq!(status!(cuda, cuInit(0)), 100);
}

#[test]
fn devices_have_names_memory_attributes_and_identities() {
    let (control, cuda, _) = start();
    control.set_memory(1, 3 << 30);
    let mut name = [9; 9];
    ok!(cuda, cuDeviceGetName(name.as_mut_ptr(), 9, 1));
    assert_eq!(name.map(|byte| byte as u8), *b"Fake GPU\0", "cut to the room there is");
    assert_eq!(get!(cuda, cuDeviceTotalMem_v2(usize, 1)), 3 << 30);
    assert_eq!(get!(cuda, cuDeviceGetAttribute(i32, 75, 0)), 9);
    assert_eq!(get!(cuda, cuDeviceGetAttribute(i32, 88, 0)), 0);
    control.set_attribute(0, 75, 7);
    assert_eq!(get!(cuda, cuDeviceGetAttribute(i32, 75, 0)), 7);
    let mut value = 0;
    assert_eq!(status!(cuda, cuDeviceGetAttribute(&raw mut value, 100_000, 0)), 1);
    assert_eq!(status!(cuda, cuDeviceGet(&raw mut value, 2)), 101);
    assert_eq!(status!(cuda, cuDeviceGet(&raw mut value, -1)), 101);
    assert_ne!(get!(cuda, cuDeviceGetUuid_v2([u8; 16], 0)), get!(cuda, cuDeviceGetUuid_v2([u8; 16], 1)));
    control.set_version(11010);
    assert_eq!(status!(cuda, cuDeviceGetAttribute(&raw mut value, 115, 1)), 1, "11.1 knows no pools");
}

#[test]
fn what_needs_a_current_context_says_so() {
    let (control, cuda, context) = start();
    let (stream, event, device) = (cuda.stream(), cuda.event(), cuda.alloc(16));
    let pinned = cuda.pinned(16).as_mut_ptr();
    ok!(cuda, cuCtxSetCurrent(ptr::null_mut()));
    assert!(get!(cuda, cuCtxGetCurrent(Handle)).is_null());
    let (mut address, mut handle, mut number, mut host) = (0, ptr::null_mut(), 0, ptr::null_mut());
    let (mut free, mut total) = (0, 0);
    let none = ptr::null_mut();
    let refused = [
        status!(cuda, cuMemAlloc_v2(&raw mut address, 16)),
        status!(cuda, cuMemAllocManaged(&raw mut address, 16, 1)),
        status!(cuda, cuMemHostAlloc(&raw mut host, 16, 0)),
        status!(cuda, cuMemGetInfo_v2(&raw mut free, &raw mut total)),
        status!(cuda, cuStreamCreate(&raw mut handle, 0)),
        status!(cuda, cuEventCreate(&raw mut handle, 0)),
        status!(cuda, cuCtxGetDevice(&raw mut number)),
        status!(cuda, cuCtxSynchronize()),
        status!(cuda, cuMemsetD8Async(device, 0, 1, stream)),
        status!(cuda, cuMemcpyHtoDAsync_v2(device, pinned.cast(), 1, stream)),
        status!(cuda, cuMemFreeAsync(device, none)),
        status!(cuda, cuStreamSynchronize(LEGACY)),
        status!(cuda, cuEventRecord(event, LEGACY)),
    ];
    assert_eq!(refused, [201; 13]);
    // What names its context by a handle or an address needs none.
    ok!(cuda, cuEventRecord(event, stream));
    ok!(cuda, cuEventSynchronize(event));
    ok!(cuda, cuStreamWaitEvent(stream, event, 0));
    ok!(cuda, cuStreamSynchronize(stream));
    ok!(cuda, cuMemAllocAsync(&raw mut address, 16, stream));
    ok!(cuda, cuMemFreeAsync(address, stream));
    ok!(cuda, cuMemFree_v2(device));
    ok!(cuda, cuMemFreeHost(pinned.cast()));
    ok!(cuda, cuEventDestroy_v2(event));
    ok!(cuda, cuStreamDestroy_v2(stream));
    ok!(cuda, cuCtxSetCurrent(context));
    control.drain();
    let live = control.live();
    assert_eq!((live.blocks, live.streams, live.events, live.pending), (0, 0, 0, 0));
}

#[test]
fn contexts_are_current_per_thread_and_stack() {
    let (control, cuda, first) = start();
    let second = get!(cuda, cuDevicePrimaryCtxRetain(Handle, 1));
    assert_eq!(get!(cuda, cuDevicePrimaryCtxRetain(Handle, 0)), first, "made once");
    assert_eq!((control.live().retained, control.live().contexts_made), (3, 2));
    ok!(cuda, cuCtxPushCurrent_v2(second));
    assert_eq!(get!(cuda, cuCtxGetDevice(i32)), 1);
    ok!(cuda, cuCtxSetCurrent(first));
    assert_eq!(get!(cuda, cuCtxPopCurrent_v2(Handle)), first);
    assert_eq!(get!(cuda, cuCtxGetCurrent(Handle)), first);
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(get!(cuda, cuCtxGetCurrent(Handle)).is_null()));
    });
    assert_eq!(get!(cuda, cuCtxPopCurrent_v2(Handle)), first);
    let mut context = ptr::null_mut();
    assert_eq!(status!(cuda, cuCtxPopCurrent_v2(&raw mut context)), 201);
    assert_eq!(status!(cuda, cuCtxSetCurrent(ptr::without_provenance_mut(0x1234))), 201);
}

#[test]
fn the_last_release_ends_a_context_and_all_that_is_in_it() {
    let (control, cuda, context) = start();
    let stream = cuda.stream();
    cuda.event();
    cuda.alloc(16);
    cuda.pinned(16);
    let (mut flags, mut active) = (0, 0);
    ok!(cuda, cuDevicePrimaryCtxGetState(0, &raw mut flags, &raw mut active));
    assert_eq!(active, 1);
    ok!(cuda, cuDevicePrimaryCtxRelease_v2(0));
    ok!(cuda, cuDevicePrimaryCtxGetState(0, &raw mut flags, &raw mut active));
    assert_eq!((active, status!(cuda, cuDevicePrimaryCtxRelease_v2(0))), (0, 201));
    let live = control.live();
    assert_eq!((live.blocks, live.streams, live.events, live.retained), (0, 0, 0, 0));
    let mut address = 0;
    assert_eq!(status!(cuda, cuMemAlloc_v2(&raw mut address, 16)), 709, "it is still current, and gone");
    assert_eq!(status!(cuda, cuStreamSynchronize(stream)), 400);
    assert_eq!(get!(cuda, cuDevicePrimaryCtxRetain(Handle, 0)), context);
    ok!(cuda, cuMemAlloc_v2(&raw mut address, 16));
}

#[test]
fn a_lost_context_answers_nothing_else() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(16));
    control.lose_context(0, 700);
    let mut address = 0;
    assert_eq!(status!(cuda, cuMemAlloc_v2(&raw mut address, 16)), 700);
    assert_eq!(status!(cuda, cuStreamSynchronize(stream)), 700);
    assert_eq!(status!(cuda, cuMemsetD8Async(device, 0, 1, stream)), 700);
    let second = get!(cuda, cuDevicePrimaryCtxRetain(Handle, 1));
    ok!(cuda, cuCtxSetCurrent(second));
    ok!(cuda, cuMemAlloc_v2(&raw mut address, 16));
    control.reset();
    ok!(cuda, cuStreamSynchronize(stream));
}

#[test]
fn peers_are_let_in_once() {
    let (_, cuda, first) = start();
    assert_eq!(get!(cuda, cuDeviceCanAccessPeer(i32, 0, 1)), 1);
    assert_eq!(get!(cuda, cuDeviceCanAccessPeer(i32, 1, 1)), 0);
    let second = get!(cuda, cuDevicePrimaryCtxRetain(Handle, 1));
    ok!(cuda, cuCtxEnablePeerAccess(second, 0));
    assert_eq!(status!(cuda, cuCtxEnablePeerAccess(second, 0)), 704);
    assert_eq!(status!(cuda, cuCtxEnablePeerAccess(first, 0)), 101);
    assert_eq!(status!(cuda, cuCtxEnablePeerAccess(second, 1)), 1);
}

#[test]
fn a_forked_child_cannot_use_the_driver() {
    let (_, cuda, _) = start();
    // SAFETY: the child only calls the driver, which takes no lock there, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut count = 0;
        let refused = status!(cuda, cuDeviceGetCount(&raw mut count)) == 3 && status!(cuda, cuInit(0)) == 3;
        // SAFETY: ends the child, without handlers of the parent.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: a child of ours, and a place of ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
    ok!(cuda, cuCtxSynchronize());
}

#[test]
fn results_have_names() {
    let cuda = Cuda::of(Control::built());
    let mut text = ptr::null();
    ok!(cuda, cuGetErrorName(906, &raw mut text));
    // SAFETY: the driver gives a C string.
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT");
    ok!(cuda, cuGetErrorString(2, &raw mut text));
    // SAFETY: as above.
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"out of memory");
    assert_eq!(status!(cuda, cuGetErrorName(12345, &raw mut text)), 1);
    assert!(text.is_null());
}
