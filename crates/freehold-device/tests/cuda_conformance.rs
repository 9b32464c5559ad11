//! What every CUDA memory resource must do, run over each of them on the driver of the tests.

#![cfg(all(target_os = "linux", not(miri)))]

mod common {
    pub mod streams;
}

use std::ffi::c_void;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::streams::{
    Subject, address, begin_capture, context, end_capture, fill, pool, stream, streams_late_by, wait,
};
use freehold_device::cuda::memory::{AsyncMemory, DeviceMemory, ManagedMemory, PinnedMemory};
use freehold_device::{AllocReason, Buffer, FailAfter, Limit, Log, MemoryResource, Retry, Statistics, Stream};
use freehold_fake_cuda::control::Control;

fn holds(buffer: &Buffer, value: u8) -> bool {
    Control::built().peek(address(buffer), buffer.len()).iter().all(|byte| *byte == value)
}

const SIZES: [usize; 10] = [1, 3, 255, 256, 257, 4097, 1 << 16, (2 << 20) - 1, 2 << 20, 5 << 20];

fn addresses_are_aligned(subject: &Subject) {
    let on = stream();
    for bytes in SIZES {
        for align in (0..=8).map(|power| 1_usize << power) {
            let buffer = subject.buffer(bytes, align, on);
            assert_eq!(buffer.as_ptr().addr() % align, 0, "{bytes} bytes at {align}");
        }
    }
    // More than the driver aligns to is given or refused, never given wrong.
    for align in [512, 4096, 65536] {
        match Buffer::new(&subject.memory, 100, align, on) {
            Ok(buffer) => assert_eq!(buffer.as_ptr().addr() % align, 0),
            Err(error) => assert!(matches!(error.reason, AllocReason::Unusable(_)), "{error}"),
        }
    }
    subject.assert_all_returned();
}

fn blocks_are_whole_and_apart(subject: &Subject) {
    let on = stream();
    let buffers: Vec<Buffer> = SIZES.iter().map(|bytes| subject.buffer(*bytes, 64, on)).collect();
    for (value, buffer) in (1_u8..).zip(&buffers) {
        fill(buffer, value, on);
    }
    wait(on);
    for (value, buffer) in (1_u8..).zip(&buffers) {
        assert!(holds(buffer, value), "another allocation wrote into {buffer:?}");
    }
    drop(buffers);
    subject.assert_all_returned();
}

fn zero_bytes_take_nothing(subject: &Subject) {
    let on = stream();
    let calls = Control::built().calls();
    for align in [1, 256, 65536] {
        let buffer = subject.buffer(0, align, on);
        assert!(buffer.is_empty() && !buffer.as_ptr().is_null());
        assert_eq!(buffer.as_ptr().addr() % align, 0);
    }
    assert_eq!(Control::built().calls(), calls, "no call of the driver");
    let now = subject.counted.statistics();
    assert_eq!((now.current_count, now.total_count, now.peak_bytes), (0, 3, 0));
}

fn bad_requests_fail_and_leave_no_trace(subject: &Subject) {
    let on = stream();
    for bytes in [1 << 50, isize::MAX as usize - 65536] {
        let error = Buffer::new(&subject.memory, bytes, 256, on).expect_err("no device has as much");
        assert_eq!((error.bytes, error.align, error.device), (bytes, 256, subject.memory.device()));
        assert!(error.is_out_of_memory() || matches!(error.reason, AllocReason::Unusable(_)), "{error}");
    }
    for (bytes, align) in [(64, 0), (64, 3), (0, 255), (64, usize::MAX)] {
        let error = Buffer::new(&subject.memory, bytes, align, on).expect_err("no alignment");
        assert_eq!(error.reason, AllocReason::Alignment);
    }
    let error = Buffer::new(&subject.memory, usize::MAX, 256, on).expect_err("no size");
    assert!(matches!(error.reason, AllocReason::TooLarge | AllocReason::Limit { .. }), "{error}");
    drop(subject.buffer(64, 64, on));
    subject.assert_all_returned();
}

fn any_thread_and_any_stream_may_free(subject: &Subject) {
    let (sender, receiver) = mpsc::channel::<(u8, Buffer)>();
    thread::scope(|scope| {
        for value in 1..=4 {
            let sender = sender.clone();
            scope.spawn(move || {
                let on = stream();
                for bytes in SIZES {
                    let buffer = subject.buffer(bytes, 256, on);
                    fill(&buffer, value, on);
                    wait(on);
                    sender.send((value, buffer)).expect("the receiver lives");
                }
            });
        }
        drop(sender);
        scope.spawn(move || {
            let other = stream();
            for (i, (value, mut buffer)) in receiver.into_iter().enumerate() {
                assert!(holds(&buffer, value));
                buffer.set_stream([other, Stream::LEGACY_DEFAULT, Stream::PER_THREAD_DEFAULT, Stream::NONE][i % 4]);
            }
        });
    });
    subject.assert_all_returned();
    assert_eq!(subject.counted.statistics().total_count, 4 * SIZES.len() as u64);
}

fn late_streams_never_see_another_s_bytes(subject: &Subject) {
    streams_late_by(Duration::from_micros(200), subject);
}

/// Every call of the driver fails once, in turn: an error or memory, nothing lost, and the next request is met.
fn a_driver_that_fails_anywhere_is_survived(subject: &Subject) {
    let control = Control::built();
    let on = stream();
    for nth in 1..200 {
        control.fail_at(nth, 999);
        let made = Buffer::new(&subject.memory, 70_000, 256, on);
        if let Err(error) = &made {
            assert!(error.to_string().contains("CUDA_ERROR_UNKNOWN (999)"), "{error}");
        }
        drop(made);
        let reached = control.forget_failures() == 0;
        drop(subject.buffer(70_000, 256, on));
        if !reached {
            subject.assert_all_returned();
            return;
        }
    }
    panic!("a request that needs 200 calls");
}

fn nothing_stays_current(subject: &Subject) {
    let on = stream();
    drop(subject.buffer(1000, 256, on));
    let mut current: *mut c_void = std::ptr::null_mut();
    // SAFETY: a place of ours.
    let status = unsafe { (context().api().core.ctx_get_current)(&raw mut current) };
    assert!(status.0 == 0 && current.is_null(), "the caller's thread has no context, as before");
}

fn everything_goes_back_to_the_driver(subject: Subject) {
    let before = Control::built().live();
    let on = stream();
    let buffers: Vec<Buffer> = SIZES.iter().map(|bytes| subject.buffer(*bytes, 64, on)).collect();
    drop(subject);
    drop(buffers);
    // A pool that was destroyed goes when its last free is done, which the driver sees when somebody waits.
    Control::built().drain();
    wait(on);
    let after = Control::built().live();
    assert_eq!(
        (after.device_bytes, after.pool_used, after.pinned_bytes, after.managed_bytes, after.blocks),
        (before.device_bytes, before.pool_used, before.pinned_bytes, before.managed_bytes, before.blocks)
    );
}

macro_rules! conformance {
    ($($name:ident => $resource:expr;)*) => {$(
        mod $name {
            use super::*;

            fn subject() -> Subject {
                Subject::new($resource)
            }

            conformance!(@tests addresses_are_aligned blocks_are_whole_and_apart zero_bytes_take_nothing
                bad_requests_fail_and_leave_no_trace any_thread_and_any_stream_may_free
                late_streams_never_see_another_s_bytes a_driver_that_fails_anywhere_is_survived nothing_stays_current);

            #[test]
            fn everything_goes_back_to_the_driver() {
                super::everything_goes_back_to_the_driver(subject());
            }
        }
    )*};
    (@tests $($test:ident)*) => {$(
        #[test]
        fn $test() {
            super::$test(&subject());
        }
    )*};
}

conformance! {
    cuda_async => AsyncMemory::new(context()).expect("pools");
    cuda_async_shareable => AsyncMemory::shareable(context()).expect("pools");
    cuda => DeviceMemory::new(context());
    managed => ManagedMemory::new(context());
    pinned => PinnedMemory::new(context());
    pool_over_cuda => pool(DeviceMemory::new(context()));
    pool_over_async => pool(AsyncMemory::new(context()).expect("pools"));
    pool_over_pinned => pool(PinnedMemory::new(context()));
    pool_limited => Limit::new(pool(DeviceMemory::new(context())), 1 << 40);
    logged_and_retried => Log::new(Retry::new(pool(DeviceMemory::new(context())), 2, |_| false), Vec::new());
    nested => FailAfter::new(Statistics::new(AsyncMemory::new(context()).expect("pools")), u64::MAX);
}

#[test]
fn the_driver_s_pool_refuses_a_captured_stream_and_keeps_what_is_given_back_there() {
    let memory = AsyncMemory::new(context()).expect("pools");
    let on = stream();
    let early = memory.allocate(4096, 256, on).expect("memory");
    begin_capture(on);
    let error = memory.allocate(4096, 256, on).expect_err("it would belong to the graph");
    assert!(error.to_string().contains("captured into a graph"), "{error}");
    // SAFETY: allocated above with this size.
    unsafe { memory.deallocate(early, 4096, 256, on) };
    assert_eq!(end_capture(on), 0);
    let late = memory.allocate(4096, 256, on).expect("memory");
    // SAFETY: as above.
    unsafe { memory.deallocate(late, 4096, 256, on) };
    Control::built().drain();
    assert_eq!(memory.usage().expect("counters").1, 0, "given back when the capture had ended");
}

#[test]
fn a_pool_in_the_driver_is_too_new_for_old_drivers_and_devices() {
    Control::built().set_attribute(0, 115, 0);
    let why = AsyncMemory::new(context()).expect_err("the device has no pools");
    assert_eq!(why.to_string(), "a stream-ordered pool needs a driver for CUDA 11.2 or newer");
}
