//! The pool of memory ordered on streams: whose memory is used again, and when, on the driver of the tests.

#![cfg(all(target_os = "linux", not(miri)))]

mod common {
    pub mod streams;
}

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use common::streams::{Subject, begin_capture, context, end_capture, fill, pool, raw, stream, streams_late_by, wait};
use freehold_device::cuda::memory::{AsyncMemory, DeviceMemory, PoolMemory, PoolOptions};
use freehold_device::cuda::{Context, Driver};
use freehold_device::{AllocReason, Buffer, MemoryResource, Stream};
use freehold_fake_cuda::control::{self, Control};

/// A pool of so many bytes in regions of one size.
fn pool_of(region: u64, maximum: u64) -> PoolMemory {
    let mut options = PoolOptions::default();
    (options.smallest_region, options.largest_region, options.maximum) = (region, region, maximum);
    PoolMemory::on(context(), Arc::new(DeviceMemory::new(context())), options)
}

/// Twelve blocks of up to 40 000 bytes always fit, but hardly one more: nearly every request takes what another stream gave back.
#[test]
fn a_full_pool_never_shows_another_s_bytes() {
    // Later and later, until they are behind also where everything is watched or others use the machine, and the host is slow.
    for late in [2, 20, 100] {
        let pool = Arc::new(pool_of(1 << 20, 1 << 20));
        streams_late_by(Duration::from_millis(late), &Subject::new(Arc::clone(&pool)));
        assert_eq!(pool.statistics().regions, 1);
        if pool.statistics().waits > 10 {
            return;
        }
    }
    panic!("no stream was ever behind");
}

/// A block of a pool, to be given back on whatever stream.
fn block(pool: &PoolMemory, bytes: usize, stream: Stream) -> NonNull<u8> {
    pool.allocate(bytes, 256, stream).expect("memory")
}

fn give(pool: &PoolMemory, block: NonNull<u8>, bytes: usize, stream: Stream) {
    // SAFETY: each test gives a block back once, with its size.
    unsafe { pool.deallocate(block, bytes, 256, stream) };
}

#[test]
fn the_same_stream_uses_memory_again_at_once_and_without_an_event() {
    let (pool, on, control) = (pool(DeviceMemory::new(context())), stream(), Control::built());
    let first = block(&pool, 1000, on);
    give(&pool, first, 1000, on);
    control.hold(true);
    control.clear_log();
    let again = block(&pool, 1000, on);
    assert_eq!(again, first);
    give(&pool, again, 1000, on);
    let log = control.log();
    assert!(log.lines().all(|line| line.contains("cuStreamGetId") || line.contains("cuStreamIsCapturing")), "{log}");
    let questions = ["cuStreamGetId", "cuStreamIsCapturing"].map(|call| log.matches(call).count());
    assert_eq!(questions, [1, 2], "which stream it is, is asked once: {log}");
    control.hold(false);
}

#[test]
fn another_stream_gets_memory_when_the_first_is_idle_and_else_the_pool_grows() {
    let (pool, control) = (pool_of(1 << 20, 24 << 20), Control::built());
    let (first, second) = (stream(), stream());
    let all = 1 << 20;
    let old = block(&pool, all, first);
    control.hold_stream(raw(first), true);
    let (small, busy) = (block(&pool, 256, Stream::LEGACY_DEFAULT), AsyncMemory::new(context()).expect("pools"));
    let scratch = Buffer::new(&(Arc::new(busy) as Arc<dyn MemoryResource>), 256, 256, first).expect("memory");
    fill(&scratch, 1, first);
    give(&pool, old, all, first);
    let regions = pool.statistics().regions;
    let new = block(&pool, all, second);
    assert!(new != old && pool.statistics().regions == regions + 1, "the first stream is not done");
    control.hold_stream(raw(first), false);
    wait(first);
    let third = block(&pool, all, second);
    assert_eq!((third, pool.statistics().regions), (old, regions + 1));
    assert_eq!(pool.statistics().waits, 0);
    for (address, bytes) in [(new, all), (third, all), (small, 256)] {
        give(&pool, address, bytes, second);
    }
}

#[test]
fn where_the_pool_cannot_grow_the_second_stream_waits_for_the_first() {
    let control = Control::built();
    let pool = pool_of(1 << 20, 1 << 20);
    let (first, second) = (stream(), stream());
    let old = block(&pool, 1 << 20, first);
    control.hold_stream(raw(first), true);
    let bytes: &[u8] = &[7; 1 << 10];
    let address = old.addr().get() as u64;
    let _entered = context().enter().expect("a context");
    let set = |value: u8, on: Stream| {
        // SAFETY: memory of the device that this test has.
        let status = unsafe { (context().api().memory.memset_d8_async)(address, value, bytes.len(), raw(on)) };
        assert_eq!(status.0, 0);
    };
    set(3, first);
    give(&pool, old, 1 << 20, first);
    let new = block(&pool, 1 << 20, second);
    assert_eq!((new, pool.statistics().waits), (old, 1));
    set(7, second);
    // The event alone orders the two.
    control.hold_stream(raw(first), false);
    wait(second);
    assert_eq!(control.peek(address, bytes.len()), bytes);
    // Without a stream, the caller's thread waits.
    give(&pool, new, 1 << 20, second);
    set(9, second);
    let third = block(&pool, 1 << 20, Stream::NONE);
    assert_eq!((third, control.peek(address, 1)[0]), (old, 9));
    let error = pool.allocate(256, 256, second).expect_err("all is in use");
    assert_eq!((error.reason, error.limit), (AllocReason::Limit { in_use: 1 << 20 }, Some(1 << 20)));
    give(&pool, third, 1 << 20, Stream::NONE);
}

#[test]
fn pieces_of_several_streams_are_joined_before_a_request_fails() {
    let pool = pool_of(1 << 20, 1 << 20);
    let streams = [stream(), stream(), stream(), Stream::LEGACY_DEFAULT];
    let quarters: Vec<_> = streams.iter().map(|on| (block(&pool, 256 << 10, *on), *on)).collect();
    Control::built().hold(true);
    for (address, on) in quarters {
        fill_raw(address, on);
        give(&pool, address, 256 << 10, on);
    }
    let whole = block(&pool, 1 << 20, streams[0]);
    assert!(pool.statistics().waits >= 3, "{pool:?}");
    Control::built().hold(false);
    give(&pool, whole, 1 << 20, streams[0]);
}

fn fill_raw(address: NonNull<u8>, on: Stream) {
    let _entered = context().enter().expect("a context");
    // SAFETY: memory of the device that the test has, at least a byte.
    let status = unsafe {
        let on = context().stream(on).expect("a stream");
        (context().api().memory.memset_d8_async)(address.addr().get() as u64, 1, 1, on.raw())
    };
    assert_eq!(status.0, 0);
}

fn destroy(stream: Stream) {
    // SAFETY: a stream of the test, which it does not use any more.
    assert_eq!(unsafe { (context().api().work.stream_destroy)(raw(stream)) }.0, 0);
}

#[test]
fn memory_of_a_retired_stream_is_used_when_its_work_is_done() {
    let (pool, control) = (pool_of(1 << 20, 24 << 20), Control::built());
    let (first, second) = (stream(), stream());
    let old = block(&pool, 1 << 20, first);
    control.hold_stream(raw(first), true);
    fill_raw(old, first);
    give(&pool, old, 1 << 20, first);
    pool.retire(first).expect("an event");
    control.hold_stream(raw(first), false);
    destroy(first);
    control.drain();
    // The handle is another stream's now, which has nothing to do with the memory.
    let again = stream();
    assert_eq!(again, first, "the driver uses a handle again");
    assert_eq!(block(&pool, 1 << 20, second), old);
    assert_eq!((pool.statistics().lost, pool.statistics().regions), (0, 1));
    give(&pool, old, 1 << 20, second);
}

/// All memory of a pool is given back before or after its stream, whose work has not run, is destroyed unannounced.
fn nobody_has_memory_of_a_stream_that_was_destroyed(given_back_before: bool) {
    let control = Control::built();
    let pool = pool_of(1 << 20, 1 << 20);
    let first = stream();
    let old = block(&pool, 1 << 20, first);
    control.hold(true);
    fill_raw(old, first);
    if given_back_before {
        give(&pool, old, 1 << 20, first);
    }
    destroy(first);
    let again = stream();
    assert_eq!(again, first, "the driver uses a handle again");
    if !given_back_before {
        // Whether this is before or after the work of the first stream, nobody can tell.
        give(&pool, old, 1 << 20, again);
    }
    assert!(pool.allocate(1 << 20, 256, again).is_err(), "what was queued on the old stream still runs");
    assert_eq!((pool.statistics().lost, pool.statistics().in_use, pool.statistics().live), (1 << 20, 0, 0));
    control.hold(false);
    control.drain();
}

#[test]
fn memory_of_a_stream_that_was_destroyed_unannounced_is_never_used_again() {
    nobody_has_memory_of_a_stream_that_was_destroyed(true);
}

#[test]
fn memory_in_use_when_its_stream_was_destroyed_unannounced_is_nobody_s_afterwards() {
    nobody_has_memory_of_a_stream_that_was_destroyed(false);
}

#[test]
fn memory_in_use_when_its_stream_was_retired_goes_to_the_stream_that_gives_it_back() {
    let pool = pool_of(1 << 20, 1 << 20);
    let first = stream();
    let old = block(&pool, 1 << 20, first);
    pool.retire(first).expect("an event");
    Control::built().drain();
    destroy(first);
    let again = stream();
    assert_eq!(again, first, "the driver uses a handle again");
    give(&pool, old, 1 << 20, again);
    assert_eq!(block(&pool, 1 << 20, again), old);
    assert_eq!((pool.statistics().lost, pool.statistics().regions), (0, 1));
    give(&pool, old, 1 << 20, again);
}

#[test]
fn an_older_driver_works_by_handles() {
    let old = control::without(&std::env::temp_dir(), &["cuStreamGetId"]);
    // SAFETY: a copy of this workspace's own driver.
    let driver: &'static Driver = Box::leak(Box::new(unsafe { Driver::load(&old) }.expect("the driver loads")));
    let context = Context::on(driver, 0).expect("device 0");
    let pool = PoolMemory::on(context, Arc::new(DeviceMemory::new(context)), PoolOptions::default());
    let on = context.new_stream().expect("a stream").number();
    let first = block(&pool, 5000, on);
    give(&pool, first, 5000, on);
    assert_eq!(block(&pool, 5000, on), first);
    give(&pool, first, 5000, on);
    std::fs::remove_file(old).expect("a file of ours");
}

#[test]
fn a_capture_is_not_broken_and_memory_that_its_graph_uses_is_kept() {
    let pool = pool(DeviceMemory::new(context()));
    let (on, other) = (stream(), stream());
    let before = block(&pool, 4096, on);
    give(&pool, before, 4096, on);
    begin_capture(on);
    let inside = block(&pool, 4096, on);
    assert_ne!(inside, before, "work that was queued before is not in the graph");
    // More than there is: the region comes from the driver in the middle of the capture.
    let large = block(&pool, 64 << 20, on);
    give(&pool, inside, 4096, on);
    give(&pool, large, 64 << 20, on);
    assert_eq!(end_capture(on), 0);
    assert_eq!(pool.statistics().captured, (64 << 20) + 4096);
    let next = block(&pool, 4096, on);
    assert_ne!(next, inside, "the graph uses it each time that it runs");
    pool.release_captured(other).expect("no capture");
    assert_eq!(pool.statistics().captured, 0);
    assert_eq!(block(&pool, 64 << 20, other), large);
    give(&pool, large, 64 << 20, other);
    give(&pool, next, 4096, on);
}

#[test]
fn a_pool_gives_back_upstream_what_nobody_uses() {
    let (pool, on) = (pool(DeviceMemory::new(context())), stream());
    let (small, large) = (block(&pool, 1000, on), block(&pool, 100 << 20, on));
    let full = Control::built().live().device_bytes;
    give(&pool, large, 100 << 20, on);
    pool.trim();
    assert_eq!(Control::built().live().device_bytes, full - (100 << 20));
    assert_eq!(pool.statistics().reserved, 8 << 20);
    give(&pool, small, 1000, on);
    pool.trim();
    assert_eq!((pool.statistics().reserved, Control::built().live().device_bytes), (0, full - (108 << 20)));
}
