//! Races between streams are found without any being lost or won.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ffi::{CString, c_void};

use common::{Control, Cuda, LEGACY, start};
use freehold_fake_cuda::abi::{Copy2D, DevicePtr, Handle, memory_type};

/// Everything is done and in the order that it was asked for, so that the bytes are right: and yet.
fn races(control: &Control) -> usize {
    control.drain();
    let races = control.races();
    assert_eq!(control.live().races, races.lines().count() as u64);
    races.lines().count()
}

#[test]
fn an_event_orders_two_streams_and_without_it_there_is_a_race() {
    let (control, cuda, _) = start();
    let (writer, reader, event) = (cuda.stream(), cuda.stream(), cuda.event());
    let device = cuda.alloc(64);
    let pinned = cuda.pinned(64).as_mut_ptr();
    ok!(cuda, cuMemsetD8Async(device, 1, 64, writer));
    ok!(cuda, cuEventRecord(event, writer));
    ok!(cuda, cuStreamWaitEvent(reader, event, 0));
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned.cast(), device, 64, reader));
    assert_eq!(races(control), 0);
    // The next write does not wait for that read.
    ok!(cuda, cuMemsetD8Async(device + 32, 1, 32, writer));
    assert_eq!(races(control), 1);
    let text = control.races();
    let place = format!("touch {:#x}..{:#x} in no order", device + 32, device + 64);
    assert!(text.contains("writes) and") && text.contains("reads)") && text.contains(&place), "{text}");
    control.reset();
    assert_eq!(races(control), 0);
}

#[test]
fn two_reads_and_other_bytes_are_no_race() {
    let (control, cuda, _) = start();
    let (a, b) = (cuda.stream(), cuda.stream());
    let device = cuda.alloc(64);
    let pinned = cuda.pinned(64).as_mut_ptr();
    ok!(cuda, cuMemcpyDtoDAsync_v2(device, device + 48, 16, a));
    ok!(cuda, cuMemcpyDtoDAsync_v2(device + 16, device + 48, 16, b));
    assert_eq!(races(control), 0);
    // Columns of one matrix.
    // SAFETY: numbers and pointers, of which zeroes are ones.
    let none: Copy2D = unsafe { std::mem::zeroed() };
    let (src_type, dst_type) = (memory_type::HOST, memory_type::DEVICE);
    let rows = Copy2D { src_type, src_host: pinned.cast(), src_pitch: 4, dst_type, ..none };
    let rows = Copy2D { dst_device: device, dst_pitch: 8, width: 4, height: 8, ..rows };
    cuda.event();
    ok!(cuda, cuCtxSynchronize());
    ok!(cuda, cuMemcpy2DAsync_v2(&raw const rows, a));
    ok!(cuda, cuMemcpy2DAsync_v2(&Copy2D { dst_x: 4, ..rows }, b));
    assert_eq!(races(control), 0);
    ok!(cuda, cuMemcpy2DAsync_v2(&Copy2D { dst_x: 3, ..rows }, b));
    assert_eq!(races(control), 1);
}

#[test]
fn what_the_host_waited_for_is_before_what_it_asks_for_next() {
    let (control, cuda, _) = start();
    let streams = [cuda.stream(), cuda.stream(), cuda.stream(), cuda.stream(), cuda.stream()];
    let (device, event) = (cuda.alloc(64), cuda.event());
    let set = |stream: Handle| ok!(cuda, cuMemsetD8Async(device, 1, 64, stream));
    set(streams[0]);
    ok!(cuda, cuStreamSynchronize(streams[0]));
    set(streams[1]);
    ok!(cuda, cuEventRecord(event, streams[1]));
    ok!(cuda, cuEventSynchronize(event));
    set(streams[2]);
    ok!(cuda, cuCtxSynchronize());
    set(streams[3]);
    while status!(cuda, cuStreamQuery(streams[3])) == 600 {}
    set(streams[4]);
    ok!(cuda, cuEventRecord(event, streams[4]));
    while status!(cuda, cuEventQuery(event)) == 600 {}
    set(streams[0]);
    assert_eq!(races(control), 0);
    set(streams[1]);
    assert_eq!(races(control), 1, "a test that drained has not waited for the program");
}

#[test]
fn the_legacy_stream_orders_blocking_streams_only() {
    let (control, cuda, _) = start();
    let blocking = || get!(cuda, cuStreamCreate(Handle, 0));
    let (a, b, free) = (blocking(), blocking(), cuda.stream());
    let device = cuda.alloc(64);
    for stream in [a, LEGACY, b] {
        ok!(cuda, cuMemsetD8Async(device, 1, 64, stream));
    }
    assert_eq!(control.races(), "");
    ok!(cuda, cuMemsetD8Async(device, 1, 64, free));
    assert_eq!(races(control), 1);
}

#[test]
fn a_free_that_does_not_wait_for_a_use_is_a_race() {
    let (control, cuda, _) = start();
    let (owner, user, event) = (cuda.stream(), cuda.stream(), cuda.event());
    for ordered in [true, false] {
        let device = get!(cuda, cuMemAllocAsync(DevicePtr, 64, owner));
        ok!(cuda, cuEventRecord(event, owner));
        ok!(cuda, cuStreamWaitEvent(user, event, 0));
        ok!(cuda, cuMemsetD8Async(device, 1, 64, user));
        if ordered {
            ok!(cuda, cuEventRecord(event, user));
            ok!(cuda, cuStreamWaitEvent(owner, event, 0));
        }
        ok!(cuda, cuMemFreeAsync(device, owner));
        assert_eq!(races(control), usize::from(!ordered), "{}", control.races());
    }
}

#[test]
fn memory_that_a_pool_gives_again_is_ordered() {
    let (control, cuda, _) = start();
    let (a, b) = (cuda.stream(), cuda.stream());
    let mut stream = a;
    for round in 0..20 {
        let device = get!(cuda, cuMemAllocAsync(DevicePtr, 64, stream));
        ok!(cuda, cuMemsetD8Async(device, 1, 64, stream));
        ok!(cuda, cuMemFreeAsync(device, stream));
        if round % 3 == 0 {
            ok!(cuda, cuStreamSynchronize(stream));
        }
        stream = if round % 2 == 0 { b } else { a };
    }
    let plain = cuda.alloc(64);
    ok!(cuda, cuMemsetD8Async(plain, 1, 64, a));
    ok!(cuda, cuMemFree_v2(plain));
    assert_eq!(cuda.alloc(64), plain);
    ok!(cuda, cuMemsetD8Async(plain, 1, 64, b));
    assert_eq!(races(control), 0, "{}", control.races());
}

#[test]
fn what_a_kernel_touches_is_found_when_it_ran() {
    let (control, cuda, _) = start();
    let (a, b, event) = (cuda.stream(), cuda.stream(), cuda.event());
    let text = ".version 8.0\n.target sm_75\n.address_size 64\n\
        .entry fake_copy(.param .u64 a, .param .u64 b, .param .u64 c) { ret; }";
    let text = CString::new(text).expect("no NUL");
    let module = get!(cuda, cuModuleLoadData(Handle, text.as_ptr().cast()));
    let function = get!(cuda, cuModuleGetFunction(Handle, module, c"fake_copy".as_ptr()));
    let device = cuda.alloc(256);
    let copy = |cuda: &Cuda, to: u64, from: u64, stream: Handle| {
        let (mut to, mut from, mut bytes) = (device + to, device + from, 64_u64);
        let mut params: [*mut c_void; 3] = [(&raw mut to).cast(), (&raw mut from).cast(), (&raw mut bytes).cast()];
        let none = std::ptr::null_mut();
        ok!(cuda, cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params.as_mut_ptr(), none));
    };
    copy(&cuda, 0, 64, a);
    copy(&cuda, 128, 64, b);
    assert_eq!(races(control), 0);
    ok!(cuda, cuEventRecord(event, a));
    ok!(cuda, cuStreamWaitEvent(b, event, 0));
    copy(&cuda, 192, 0, b);
    assert_eq!(races(control), 0);
    // Asked for before the kernel ran, and found after.
    control.hold(true);
    copy(&cuda, 0, 64, a);
    ok!(cuda, cuMemsetD8Async(device + 64, 1, 1, b));
    assert_eq!(control.races(), "");
    control.hold(false);
    assert_eq!(races(control), 2, "the bytes that it wrote and that it read: {}", control.races());
}
