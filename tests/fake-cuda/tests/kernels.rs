//! Modules, launches, and what a kernel may touch.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ffi::{CString, c_void};
use std::ptr;
use std::time::Duration;

use common::{Cuda, LEGACY, start};
use freehold_fake_cuda::abi::{DevicePtr, Handle};

const PTX: &str = "// two kernels\n.version 8.0\n.target sm_75\n.address_size 64\n\
    .visible .entry fake_add(.param .u64 a, .param .u32 b, .param .u64 c) { ret; }\n\
    .visible .entry fake_copy(.param .u64 a, .param .u64 b, .param .u64 c) { ret; }\n\
    .visible .entry fake_unknown() { ret; }\n";

fn load(cuda: &Cuda, text: &str) -> Result<Handle, i32> {
    let text = CString::new(text).expect("no NUL");
    let mut module = ptr::null_mut();
    match status!(cuda, cuModuleLoadData(&raw mut module, text.as_ptr().cast())) {
        0 => Ok(module),
        status => Err(status),
    }
}

fn function(cuda: &Cuda, module: Handle, name: &str) -> Handle {
    let name = CString::new(name).expect("no NUL");
    get!(cuda, cuModuleGetFunction(Handle, module, name.as_ptr()))
}

/// Launches in one block of threads.
fn launch(cuda: &Cuda, function: Handle, threads: u32, stream: Handle, params: &mut [*mut c_void]) -> i32 {
    let none = ptr::null_mut();
    status!(cuda, cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, 0, stream, params.as_mut_ptr(), none))
}

fn add(cuda: &Cuda, function: Handle, at: DevicePtr, number: u32, count: u64, stream: Handle) -> i32 {
    let (mut at, mut number, mut count) = (at, number, count);
    launch(
        cuda,
        function,
        count.clamp(1, 1024) as u32,
        stream,
        &mut [(&raw mut at).cast(), (&raw mut number).cast(), (&raw mut count).cast()],
    )
}

#[test]
fn a_kernel_runs_late_with_the_arguments_of_its_launch() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(16));
    let module = load(&cuda, PTX).expect("PTX");
    let function = function(&cuda, module, "fake_add");
    ok!(cuda, cuMemsetD8Async(device, 0, 16, stream));
    control.hold(true);
    let (mut at, mut number, mut count) = (device, 5_u32, 4_u64);
    let mut params = [(&raw mut at).cast(), (&raw mut number).cast(), (&raw mut count).cast()];
    assert_eq!(launch(&cuda, function, 4, stream, &mut params), 0);
    // Changed after the launch: the driver has its own.
    number += 1;
    assert_eq!(number, 6);
    control.hold(false);
    let found = cuda.download(device, 16, stream);
    assert_eq!(found, [5_u32; 4].map(u32::to_ne_bytes).concat());
    ok!(cuda, cuModuleUnload(module));
    assert_eq!(add(&cuda, function, device, 1, 4, stream), 400);
    assert_eq!(control.live().modules, 0);
}

#[test]
fn images_that_the_driver_cannot_use_are_refused() {
    let (control, cuda, _) = start();
    let with = |from: &str, to: &str| load(&cuda, &PTX.replace(from, to)).map(drop);
    assert_eq!(with("8.0", "8.7"), Ok(()));
    assert_eq!(with("8.0", "8.8"), Err(222), "newer than 12.8");
    assert_eq!(with("sm_75", "sm_90"), Ok(()));
    assert_eq!(with("sm_75", "sm_100"), Err(209));
    assert_eq!(with(".address_size 64", ".address_size 32"), Err(218));
    assert_eq!(load(&cuda, "no image"), Err(200));
    control.set_version(11020);
    assert_eq!(with("8.0", "7.2"), Ok(()));
    assert_eq!(with("8.0", "7.3"), Err(222));
    let module = load(&cuda, &PTX.replace("8.0", "7.0")).expect("PTX");
    let mut place = ptr::null_mut();
    assert_eq!(status!(cuda, cuModuleGetFunction(&raw mut place, module, c"no_kernel".as_ptr())), 500);
    let unknown = function(&cuda, module, "fake_unknown");
    assert_eq!(launch(&cuda, unknown, 1, cuda.stream(), &mut []), 801, "an entry that this driver cannot run");
    assert!(control.log().contains("this driver has no kernel fake_unknown"));
    assert_eq!(get!(cuda, cuFuncGetAttribute(i32, 0, unknown)), 1024);
}

#[test]
fn launches_that_no_device_can_do_are_refused() {
    let (_, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(16));
    let function = function(&cuda, load(&cuda, PTX).expect("PTX"), "fake_add");
    let (mut at, mut number, mut count) = (device, 5_u32, 4_u64);
    let mut params = [(&raw mut at).cast(), (&raw mut number).cast(), (&raw mut count).cast()];
    let params = params.as_mut_ptr();
    let none = ptr::null_mut();
    for (grid, block, shared) in [
        ([0, 1, 1], [1, 1, 1], 0),
        ([1, 65_536, 1], [1, 1, 1], 0),
        ([1, 1, 1], [1025, 1, 1], 0),
        ([1, 1, 1], [512, 3, 1], 0),
        ([1, 1, 1], [1, 1, 65], 0),
        ([1, 1, 1], [4, 1, 1], 49_153),
    ] {
        let [gx, gy, gz]: [u32; 3] = grid;
        let [bx, by, bz]: [u32; 3] = block;
        let status = status!(cuda, cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, params, none));
        assert_eq!(status, 1, "{grid:?} {block:?} {shared}");
    }
    let status = status!(cuda, cuLaunchKernel(function, 1, 1, 1, 4, 1, 1, 0, stream, ptr::null_mut(), none));
    assert_eq!(status, 1);
}

#[test]
fn a_kernel_that_touches_what_it_may_not_loses_the_context() {
    for (offset, count, number, why) in
        [(0, 5, 700, "behind the end"), (2, 1, 716, "not aligned"), (1 << 40, 1, 700, "nowhere")]
    {
        let (control, cuda, _) = start();
        let (stream, device) = (cuda.stream(), cuda.alloc(16));
        let function = function(&cuda, load(&cuda, PTX).expect("PTX"), "fake_add");
        assert_eq!(add(&cuda, function, device + offset, 1, count, stream), 0);
        assert_eq!(status!(cuda, cuStreamSynchronize(stream)), number, "{why}");
        let mut place = 0;
        assert_eq!(status!(cuda, cuMemAlloc_v2(&raw mut place, 16)), number);
        control.reset();
    }
}

#[test]
fn kernels_reach_other_devices_when_they_were_let_in() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let function = function(&cuda, load(&cuda, PTX).expect("PTX"), "fake_add");
    let second = get!(cuda, cuDevicePrimaryCtxRetain(Handle, 1));
    ok!(cuda, cuCtxPushCurrent_v2(second));
    let (there, far) = (cuda.alloc(16), cuda.stream());
    assert_eq!(add(&cuda, function, there, 1, 4, far), 400, "a kernel of the other context");
    ok!(cuda, cuMemsetD8Async(there, 0, 16, far));
    ok!(cuda, cuCtxSynchronize());
    ok!(cuda, cuCtxPopCurrent_v2(&mut ptr::null_mut()));
    assert_eq!(add(&cuda, function, there, 1, 4, far), 400, "a stream of the other context");
    assert_eq!(add(&cuda, function, there, 1, 4, stream), 0);
    assert_eq!(status!(cuda, cuStreamSynchronize(stream)), 700);
    control.reset();
    ok!(cuda, cuCtxEnablePeerAccess(second, 0));
    assert_eq!(add(&cuda, function, there, 1, 4, stream), 0);
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!(control.peek(there, 4), 1_u32.to_ne_bytes());
}

#[test]
fn kernels_read_and_write_pinned_and_managed_memory() {
    let (control, cuda, _) = start();
    let pinned = cuda.pinned(16);
    let managed = get!(cuda, cuMemAllocManaged(DevicePtr, 16, 1));
    pinned.fill(4);
    let function = function(&cuda, load(&cuda, PTX).expect("PTX"), "fake_copy");
    let (mut to, mut from, mut bytes) = (managed, pinned.as_ptr().addr() as u64, 16_u64);
    let mut params = [(&raw mut to).cast(), (&raw mut from).cast(), (&raw mut bytes).cast()];
    control.set_delay(Duration::from_millis(1));
    assert_eq!(launch(&cuda, function, 1, LEGACY, &mut params), 0);
    ok!(cuda, cuStreamSynchronize(LEGACY));
    assert_eq!(control.peek(managed, 16), [4; 16]);
}
