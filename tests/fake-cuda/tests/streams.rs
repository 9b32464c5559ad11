//! Streams run late, in order, and wait for what they are told to wait for.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use common::{Cuda, LEGACY, PER_THREAD, start};
use freehold_fake_cuda::abi::Handle;

#[test]
fn a_copy_from_pinned_memory_reads_late_and_one_from_ordinary_memory_at_once() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(32));
    let pinned = cuda.pinned(16);
    pinned.fill(1);
    let mut pageable = vec![1_u8; 16];
    control.hold(true);
    cuda.upload(device, pinned, stream);
    cuda.upload(device + 16, &pageable, stream);
    pinned.fill(2);
    pageable.fill(2);
    assert_eq!(control.peek(device, 32), [0xCD; 32], "nothing ran yet");
    assert_eq!(status!(cuda, cuStreamQuery(stream)), 600);
    control.hold(false);
    ok!(cuda, cuStreamSynchronize(stream));
    let found = cuda.download(device, 32, stream);
    assert_eq!((&found[..16], &found[16..]), (&[2; 16][..], &[1; 16][..]));
}

#[test]
fn a_copy_into_ordinary_memory_returns_when_it_is_done() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(16));
    ok!(cuda, cuMemsetD8Async(device, 7, 16, stream));
    control.set_stream_delay(stream, Duration::from_millis(20));
    assert_eq!(cuda.download(device, 16, stream), [7; 16]);
    // Into page-locked memory it does not wait.
    let pinned = cuda.pinned(16);
    pinned.fill(0);
    control.hold(true);
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), device, 16, stream));
    assert_eq!(pinned, [0; 16]);
    control.hold(false);
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!(pinned, [7; 16]);
}

/// Writes on one stream and reads on another, with the event between them or without.
fn two_streams(cuda: &Cuda, control: &common::Control, with_event: bool) -> Vec<u8> {
    let (writer, reader, event) = (cuda.stream(), cuda.stream(), cuda.event());
    let device = cuda.alloc(64);
    let pinned = cuda.pinned(64);
    control.hold_stream(writer, true);
    ok!(cuda, cuMemsetD8Async(device, 5, 64, writer));
    ok!(cuda, cuEventRecord(event, writer));
    if with_event {
        ok!(cuda, cuStreamWaitEvent(reader, event, 0));
    }
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), device, 64, reader));
    if !with_event {
        ok!(cuda, cuStreamSynchronize(reader));
    }
    assert_eq!(control.event_done(event), Some(false));
    control.hold_stream(writer, false);
    ok!(cuda, cuStreamSynchronize(reader));
    pinned.to_vec()
}

#[test]
fn a_missing_event_gives_wrong_bytes() {
    let (control, cuda, _) = start();
    assert_eq!(two_streams(&cuda, control, true), [5; 64]);
    assert_eq!(two_streams(&cuda, control, false), [0xCD; 64]);
}

#[test]
fn a_wait_keeps_what_the_event_had_recorded_then() {
    let (control, cuda, _) = start();
    let (first, second, waits) = (cuda.stream(), cuda.stream(), cuda.stream());
    let (event, device) = (cuda.event(), cuda.alloc(1));
    control.hold_stream(second, true);
    ok!(cuda, cuEventRecord(event, first));
    ok!(cuda, cuStreamWaitEvent(waits, event, 0));
    ok!(cuda, cuMemsetD8Async(device, 1, 1, second));
    ok!(cuda, cuEventRecord(event, second));
    ok!(cuda, cuEventQuery(cuda.event()));
    assert_eq!(status!(cuda, cuEventQuery(event)), 600);
    ok!(cuda, cuStreamSynchronize(waits));
    // Destroyed, an event is still waited for by those who were told to.
    ok!(cuda, cuStreamWaitEvent(waits, event, 0));
    ok!(cuda, cuEventDestroy_v2(event));
    assert_eq!(status!(cuda, cuEventDestroy_v2(event)), 400);
    assert_eq!(status!(cuda, cuStreamQuery(waits)), 600);
    control.hold_stream(second, false);
    ok!(cuda, cuStreamSynchronize(waits));
}

#[test]
fn the_legacy_stream_and_blocking_streams_wait_for_each_other() {
    let (control, cuda, _) = start();
    let (blocking, free) = (get!(cuda, cuStreamCreate(Handle, 0)), cuda.stream());
    let device = cuda.alloc(4);
    control.hold_stream(blocking, true);
    ok!(cuda, cuMemsetD8Async(device, 1, 1, blocking));
    for default in [std::ptr::null_mut(), LEGACY] {
        ok!(cuda, cuMemsetD8Async(device + 1, 1, 1, default));
        assert_eq!(status!(cuda, cuStreamQuery(default)), 600);
    }
    let other = get!(cuda, cuStreamCreate(Handle, 0));
    ok!(cuda, cuMemsetD8Async(device + 2, 1, 1, other));
    ok!(cuda, cuMemsetD8Async(device + 2, 2, 1, PER_THREAD));
    ok!(cuda, cuMemsetD8Async(device + 3, 1, 1, free));
    ok!(cuda, cuStreamSynchronize(free));
    assert_eq!(control.peek(device, 4), [0xCD, 0xCD, 0xCD, 1], "only the non-blocking stream ran");
    control.hold_stream(blocking, false);
    ok!(cuda, cuStreamSynchronize(PER_THREAD));
    ok!(cuda, cuStreamSynchronize(other));
    let found = control.peek(device, 4);
    assert!(found[..2] == [1, 1] && found[2] != 0xCD, "{found:?}");
}

#[test]
fn every_thread_has_a_default_stream_of_its_own() {
    let (_, cuda, context) = start();
    let mine = get!(cuda, cuMemAlloc_v2(u64, 1));
    let mut id = 0;
    ok!(cuda, cuStreamGetId(PER_THREAD, &raw mut id));
    let context = context.expose_provenance();
    let other = std::thread::scope(|scope| {
        let cuda = &cuda;
        let there = scope.spawn(move || {
            let mut id = 0;
            assert_eq!(status!(cuda, cuStreamGetId(PER_THREAD, &raw mut id)), 201, "no context is current here");
            ok!(cuda, cuCtxSetCurrent(std::ptr::with_exposed_provenance_mut(context)));
            ok!(cuda, cuStreamGetId(PER_THREAD, &raw mut id));
            id
        });
        there.join().expect("the thread ends")
    });
    assert_ne!(id, other);
    ok!(cuda, cuMemFree_v2(mine));
}

#[test]
fn host_functions_run_in_order_and_may_not_call_the_driver() {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    static STATUS: AtomicI32 = AtomicI32::new(-1);
    extern "C" fn look(data: *mut c_void) {
        // SAFETY: the test gives a pointer to a byte of page-locked memory and to the driver, and keeps both.
        let (byte, cuda) = unsafe { *data.cast::<(*const u8, *const Cuda)>() };
        // SAFETY: as above.
        SEEN.store(u32::from(unsafe { byte.read_volatile() }), Ordering::SeqCst);
        let mut count = 0;
        // SAFETY: as above.
        STATUS.store(unsafe { ((*cuda).cuDeviceGetCount)(&raw mut count) }, Ordering::SeqCst);
    }
    let (_, cuda, _) = start();
    let stream = cuda.stream();
    let (device, pinned) = (cuda.alloc(1), cuda.pinned(1));
    let mut data = (pinned.as_ptr(), &raw const cuda);
    ok!(cuda, cuMemsetD8Async(device, 9, 1, stream));
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), device, 1, stream));
    ok!(cuda, cuLaunchHostFunc(stream, Some(look), (&raw mut data).cast()));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!((SEEN.load(Ordering::SeqCst), STATUS.load(Ordering::SeqCst)), (9, 800));
    assert_eq!(status!(cuda, cuLaunchHostFunc(stream, None, std::ptr::null_mut())), 1);
}

#[test]
fn a_destroyed_stream_finishes_and_its_handle_is_used_again() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(1));
    let mut id = 0;
    ok!(cuda, cuStreamGetId(stream, &raw mut id));
    control.hold(true);
    ok!(cuda, cuMemsetD8Async(device, 3, 1, stream));
    ok!(cuda, cuStreamDestroy_v2(stream));
    assert_eq!(status!(cuda, cuStreamDestroy_v2(stream)), 400);
    assert_eq!(status!(cuda, cuStreamSynchronize(stream)), 400);
    let again = cuda.stream();
    let mut other = 0;
    ok!(cuda, cuStreamGetId(again, &raw mut other));
    assert!(again == stream && id != other, "the handle is the same, the number is not");
    control.hold(false);
    control.drain();
    assert_eq!(control.peek(device, 1), [3]);
}

#[test]
fn times_between_events_are_those_of_the_stream() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(1));
    let (start, end) = (cuda.event(), cuda.event());
    let mut time = 0.0;
    assert_eq!(status!(cuda, cuEventElapsedTime(&raw mut time, start, end)), 400, "nothing was recorded");
    control.set_delay(Duration::from_millis(5));
    ok!(cuda, cuEventRecord(start, stream));
    ok!(cuda, cuMemsetD8Async(device, 1, 1, stream));
    ok!(cuda, cuEventRecord(end, stream));
    assert_eq!(status!(cuda, cuEventElapsedTime(&raw mut time, start, end)), 600);
    ok!(cuda, cuEventSynchronize(end));
    ok!(cuda, cuEventElapsedTime(&raw mut time, start, end));
    assert!(time >= 10.0, "two delays of 5 ms: {time}");
    let untimed = get!(cuda, cuEventCreate(Handle, 2));
    ok!(cuda, cuEventRecord(untimed, stream));
    assert_eq!(status!(cuda, cuEventElapsedTime(&raw mut time, start, untimed)), 400);
}

#[test]
fn streams_of_two_devices_are_apart_and_events_join_them() {
    let (control, cuda, first) = start();
    let near = cuda.stream();
    let second = get!(cuda, cuDevicePrimaryCtxRetain(Handle, 1));
    ok!(cuda, cuCtxPushCurrent_v2(second));
    let (far, event, there) = (cuda.stream(), cuda.event(), cuda.alloc(8));
    let mut context: Handle = std::ptr::null_mut();
    ok!(cuda, cuStreamGetCtx(far, &raw mut context));
    assert_eq!(context, second);
    assert_eq!(status!(cuda, cuEventRecord(event, near)), 400, "an event is recorded on its own device");
    ok!(cuda, cuCtxPopCurrent_v2(&raw mut context));
    assert_eq!(context, second);
    let here = cuda.alloc(8);
    control.hold_stream(far, true);
    ok!(cuda, cuMemsetD8Async(there, 4, 8, far));
    ok!(cuda, cuEventRecord(event, far));
    ok!(cuda, cuStreamWaitEvent(near, event, 0));
    assert_eq!(status!(cuda, cuMemcpyPeerAsync(here, second, there, second, 8, near)), 1, "not that context's");
    ok!(cuda, cuMemcpyPeerAsync(here, first, there, second, 8, near));
    assert_eq!(status!(cuda, cuStreamQuery(near)), 600);
    control.hold_stream(far, false);
    assert_eq!(cuda.download(here, 8, near), [4; 8]);
}

#[test]
fn a_call_that_waits_for_what_is_held_is_woken_from_another_thread() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(1));
    control.hold(true);
    ok!(cuda, cuMemsetD8Async(device, 1, 1, stream));
    let (say, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        let (cuda, address) = (&cuda, stream.expose_provenance());
        scope.spawn(move || {
            say.send(()).expect("somebody listens");
            ok!(cuda, cuStreamSynchronize(std::ptr::with_exposed_provenance_mut(address)));
        });
        hear.recv().expect("the thread begins");
        control.hold(false);
    });
    assert_eq!(control.live().pending, 0);
}
