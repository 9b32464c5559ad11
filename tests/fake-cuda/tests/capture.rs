//! Capture: what is kept, what is refused, and what breaks it.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ptr;

use common::{Cuda, LEGACY, start};
use freehold_fake_cuda::abi::{DevicePtr, Handle};

const GLOBAL: u32 = 0;
const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;

fn begin(cuda: &Cuda, stream: Handle, mode: u32) {
    ok!(cuda, cuStreamBeginCapture_v2(stream, mode));
    assert_eq!(state(cuda, stream), 1);
}

/// 0 for none, 1 for a capture that goes on, 2 for one that is broken.
fn state(cuda: &Cuda, stream: Handle) -> u32 {
    let mut state = 9;
    ok!(cuda, cuStreamIsCapturing(stream, &raw mut state));
    state
}

fn end(cuda: &Cuda, stream: Handle) -> (i32, Handle) {
    let mut graph = ptr::null_mut();
    let status = status!(cuda, cuStreamEndCapture(stream, &raw mut graph));
    assert_eq!(graph.is_null(), status != 0);
    (status, graph)
}

#[test]
fn work_on_a_captured_stream_is_kept_and_not_done() {
    let (control, cuda, _) = start();
    let (stream, device, pinned) = (cuda.stream(), cuda.alloc(16), cuda.pinned(16));
    begin(&cuda, stream, GLOBAL);
    ok!(cuda, cuMemsetD8Async(device, 1, 16, stream));
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), device, 16, stream));
    let (status, graph) = end(&cuda, stream);
    assert_eq!((status, control.graph_nodes(graph), state(&cuda, stream)), (0, Some(2), 0));
    let text = control.graph_text(graph);
    let expected = format!("0 after []: set {device:#x} 16 bytes to 0x1\n1 after [0]: copy 1 pieces 16 bytes\n");
    assert_eq!(text, expected);
    control.drain();
    assert_eq!(control.peek(device, 16), [0xCD; 16]);
    ok!(cuda, cuGraphDestroy(graph));
    assert_eq!((control.live().graphs, control.live().captures), (0, 0));
    assert_eq!(status!(cuda, cuStreamEndCapture(stream, &mut ptr::null_mut())), 401);
}

#[test]
fn what_waits_for_a_captured_stream_is_refused_and_breaks_the_capture() {
    let (_, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(16));
    let mut host = [0_u8; 16];
    let calls: [&mut dyn FnMut() -> i32; 4] = [
        &mut || status!(cuda, cuStreamSynchronize(stream)),
        &mut || status!(cuda, cuStreamQuery(stream)),
        &mut || status!(cuda, cuMemcpyHtoDAsync_v2(device, host.as_ptr().cast(), 16, stream)),
        &mut || status!(cuda, cuCtxSynchronize()),
    ];
    for call in calls {
        begin(&cuda, stream, RELAXED);
        assert_eq!(call(), 900);
        assert_eq!(state(&cuda, stream), 2);
        assert_eq!(status!(cuda, cuMemsetD8Async(device, 1, 16, stream)), 901);
        assert_eq!(end(&cuda, stream).0, 901);
        assert_eq!(state(&cuda, stream), 0);
    }
    begin(&cuda, stream, RELAXED);
    assert_eq!(status!(cuda, cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), device, 16, stream)), 900);
    assert_eq!(end(&cuda, stream).0, 901);
}

#[test]
fn a_captured_event_can_only_be_waited_for_by_streams() {
    let (_, cuda, _) = start();
    let (stream, event) = (cuda.stream(), cuda.event());
    for query in [true, false] {
        begin(&cuda, stream, RELAXED);
        ok!(cuda, cuEventRecord(event, stream));
        let refused = if query { status!(cuda, cuEventQuery(event)) } else { status!(cuda, cuEventSynchronize(event)) };
        assert_eq!((refused, end(&cuda, stream).0), (907, 901));
    }
}

#[test]
fn unsafe_calls_are_refused_as_the_modes_of_capture_and_thread_say() {
    let (_, cuda, context) = start();
    let (stream, event) = (cuda.stream(), cuda.event());
    let context = context.addr();
    // The mode of the capture, that of the calling thread, and whether it is the capturing one.
    let cases = [
        (GLOBAL, GLOBAL, true, 900),
        (GLOBAL, GLOBAL, false, 900),
        (GLOBAL, THREAD_LOCAL, false, 0),
        (GLOBAL, RELAXED, true, 0),
        (THREAD_LOCAL, GLOBAL, true, 900),
        (THREAD_LOCAL, GLOBAL, false, 0),
        (THREAD_LOCAL, THREAD_LOCAL, true, 900),
        (RELAXED, GLOBAL, true, 0),
    ];
    for (capture, mode, same, expected) in cases {
        begin(&cuda, stream, capture);
        let call = || {
            let mut mode = mode;
            ok!(cuda, cuCtxSetCurrent(ptr::without_provenance_mut(context)));
            ok!(cuda, cuThreadExchangeStreamCaptureMode(&raw mut mode));
            let (mut address, mut pinned) = (0, ptr::null_mut());
            let found = [
                status!(cuda, cuMemAlloc_v2(&raw mut address, 16)),
                status!(cuda, cuMemHostAlloc(&raw mut pinned, 16, 0)),
            ];
            ok!(cuda, cuThreadExchangeStreamCaptureMode(&raw mut mode));
            found
        };
        let found = if same { call() } else { std::thread::scope(|scope| scope.spawn(call).join().expect("it ends")) };
        assert_eq!(found, [expected; 2], "{capture} {mode} {same}");
        assert_eq!(end(&cuda, stream).0, if expected == 0 { 0 } else { 901 });
    }
    // An event that is done and was not captured is one of them.
    begin(&cuda, stream, GLOBAL);
    assert_eq!(status!(cuda, cuEventQuery(event)), 900);
    assert_eq!(end(&cuda, stream).0, 901);
    let mut mode = 7;
    assert_eq!(status!(cuda, cuThreadExchangeStreamCaptureMode(&raw mut mode)), 1);
}

#[test]
fn events_bring_other_streams_into_a_capture_and_must_bring_them_back() {
    let (control, cuda, _) = start();
    let (origin, side) = (cuda.stream(), cuda.stream());
    let (fork, join) = (cuda.event(), cuda.event());
    let device = cuda.alloc(16);
    for joins in [true, false] {
        begin(&cuda, origin, GLOBAL);
        ok!(cuda, cuMemsetD8Async(device, 1, 1, origin));
        ok!(cuda, cuEventRecord(fork, origin));
        ok!(cuda, cuStreamWaitEvent(side, fork, 0));
        assert_eq!(state(&cuda, side), 1);
        ok!(cuda, cuMemsetD8Async(device, 2, 1, side));
        ok!(cuda, cuMemsetD8Async(device, 3, 1, origin));
        ok!(cuda, cuEventRecord(join, side));
        if joins {
            ok!(cuda, cuStreamWaitEvent(origin, join, 0));
        }
        let (status, graph) = end(&cuda, origin);
        assert_eq!((status, state(&cuda, side)), (if joins { 0 } else { 904 }, 0));
        if joins {
            assert!(control.graph_text(graph).contains("2 after [0]"), "{}", control.graph_text(graph));
        }
    }
}

#[test]
fn a_captured_stream_cannot_wait_for_work_outside() {
    let (_, cuda, _) = start();
    let (stream, other, event) = (cuda.stream(), cuda.stream(), cuda.event());
    ok!(cuda, cuEventRecord(event, other));
    begin(&cuda, stream, RELAXED);
    assert_eq!(status!(cuda, cuStreamWaitEvent(stream, event, 0)), 905);
    assert_eq!(end(&cuda, stream).0, 901);
    // Nor for another capture.
    begin(&cuda, stream, RELAXED);
    begin(&cuda, other, RELAXED);
    ok!(cuda, cuEventRecord(event, other));
    assert_eq!(status!(cuda, cuStreamWaitEvent(stream, event, 0)), 902);
    assert_eq!(end(&cuda, other).0, 901);
    assert_eq!(end(&cuda, stream).0, 0, "the one that was asked to wait is whole");
}

#[test]
fn the_legacy_stream_is_refused_while_a_blocking_stream_is_captured() {
    let (_, cuda, _) = start();
    let (blocking, free) = (get!(cuda, cuStreamCreate(Handle, 0)), cuda.stream());
    let device = cuda.alloc(16);
    assert_eq!(status!(cuda, cuStreamBeginCapture_v2(LEGACY, RELAXED)), 900);
    begin(&cuda, free, GLOBAL);
    ok!(cuda, cuMemsetD8Async(device, 1, 1, LEGACY));
    assert_eq!(end(&cuda, free).0, 0);
    begin(&cuda, blocking, GLOBAL);
    let mut state = 9;
    assert_eq!(status!(cuda, cuStreamIsCapturing(LEGACY, &raw mut state)), 906, "asking breaks nothing");
    ok!(cuda, cuStreamIsCapturing(blocking, &raw mut state));
    assert_eq!(state, 1);
    assert_eq!(status!(cuda, cuMemsetD8Async(device, 1, 1, ptr::null_mut())), 906);
    assert_eq!(end(&cuda, blocking).0, 901);
}

#[test]
fn a_capture_ends_where_it_began() {
    let (_, cuda, _) = start();
    let (origin, side, event) = (cuda.stream(), cuda.stream(), cuda.event());
    begin(&cuda, origin, THREAD_LOCAL);
    assert_eq!(status!(cuda, cuStreamBeginCapture_v2(origin, GLOBAL)), 401);
    let (driver, address) = (&cuda, origin.addr());
    std::thread::scope(|scope| {
        scope.spawn(move || assert_eq!(end(driver, ptr::without_provenance_mut(address)).0, 908));
    });
    ok!(cuda, cuEventRecord(event, origin));
    ok!(cuda, cuStreamWaitEvent(side, event, 0));
    assert_eq!(end(&cuda, side).0, 903);
    assert_eq!(end(&cuda, origin).0, 901);
}

#[test]
fn memory_that_a_capture_allocates_lives_as_long_as_the_graph() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    begin(&cuda, stream, GLOBAL);
    let device = get!(cuda, cuMemAllocAsync(DevicePtr, 64, stream));
    ok!(cuda, cuMemsetD8Async(device, 1, 64, stream));
    ok!(cuda, cuMemFreeAsync(device, stream));
    let (status, graph) = end(&cuda, stream);
    assert_eq!((status, control.graph_nodes(graph), control.live().pool_used), (0, Some(3), 512));
    ok!(cuda, cuGraphDestroy(graph));
    assert_eq!(control.live().pool_used, 0);
}

#[test]
fn a_graph_does_again_what_was_captured() {
    let (control, cuda, _) = start();
    let (stream, other, event) = (cuda.stream(), cuda.stream(), cuda.event());
    let (device, pinned) = (cuda.alloc(16), cuda.pinned(32));
    begin(&cuda, stream, GLOBAL);
    let scratch = get!(cuda, cuMemAllocAsync(DevicePtr, 16, stream));
    ok!(cuda, cuMemcpyHtoDAsync_v2(scratch, pinned.as_ptr().cast(), 16, stream));
    ok!(cuda, cuEventRecord(event, stream));
    ok!(cuda, cuStreamWaitEvent(other, event, 0));
    ok!(cuda, cuMemcpyDtoDAsync_v2(device, scratch, 16, other));
    ok!(cuda, cuEventRecord(event, other));
    ok!(cuda, cuStreamWaitEvent(stream, event, 0));
    ok!(cuda, cuMemFreeAsync(scratch, stream));
    let graph = end(&cuda, stream).1;
    let exec = get!(cuda, cuGraphInstantiateWithFlags(Handle, graph, 0));
    ok!(cuda, cuGraphDestroy(graph));
    assert_eq!(control.live().pool_used, 512, "the executable still needs it");
    for value in [3, 4] {
        pinned.fill(value);
        ok!(cuda, cuGraphLaunch(exec, other));
        assert_eq!(cuda.download(device, 16, other), [value; 16]);
    }
    ok!(cuda, cuGraphExecDestroy(exec));
    assert_eq!(status!(cuda, cuGraphLaunch(exec, other)), 1);
    assert_eq!((control.live().pool_used, control.races().as_str()), (0, ""));
}
