//! What every CUDA memory resource must do, run over each of them on the driver of the tests.

#![cfg(all(target_os = "linux", not(miri)))]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use freehold_device::cuda::memory::{AsyncMemory, DeviceMemory, ManagedMemory, PinnedMemory, PoolMemory, PoolOptions};
use freehold_device::cuda::{Context, Driver, StreamRef};
use freehold_device::{AllocReason, Buffer, FailAfter, Limit, Log, MemoryResource, Retry, Statistics, Stream};
use freehold_fake_cuda::control::{self, Control};

fn context() -> &'static Context {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    let driver = DRIVER.get_or_init(|| {
        // SAFETY: this workspace's own driver, which behaves as `cuda.h` says.
        unsafe { Driver::load(control::path()) }.expect("the driver loads")
    });
    Context::on(driver, 0).expect("device 0")
}

fn stream() -> Stream {
    context().new_stream().expect("a stream").number()
}

fn raw(stream: Stream) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(stream.0 as usize)
}

/// The resource under test, and counters around it that must return to zero.
struct Subject {
    memory: Arc<dyn MemoryResource>,
    counted: Arc<Statistics<Arc<dyn MemoryResource>>>,
}

impl Subject {
    fn new(resource: impl MemoryResource + 'static) -> Self {
        let inner: Arc<dyn MemoryResource> = Arc::new(resource);
        let counted = Arc::new(Statistics::new(inner));
        Self { memory: counted.clone(), counted }
    }

    fn buffer(&self, bytes: usize, align: usize, stream: Stream) -> Buffer {
        Buffer::new(&self.memory, bytes, align, stream).expect("the device has this little memory")
    }

    fn assert_all_returned(&self) {
        let now = self.counted.statistics();
        assert_eq!((now.current_bytes, now.current_count), (0, 0), "{now:?}");
        assert!(now.total_count > 0, "the test allocated nothing");
    }
}

fn address(buffer: &Buffer) -> u64 {
    buffer.as_ptr().addr() as u64
}

/// Fills a buffer in the order of a stream.
fn fill(buffer: &Buffer, value: u8, stream: Stream) {
    // SAFETY: the buffer is memory of the device; the stream lives to the end of the test, which orders its uses.
    let done = unsafe {
        let stream = context().stream(stream).expect("a stream");
        freehold_device::cuda::zero(context(), address(buffer), buffer.len(), stream).expect("a fill");
        let _entered = context().enter().expect("a context");
        (context().api().memory.memset_d8_async)(address(buffer), value, buffer.len(), stream.raw())
    };
    assert_eq!(done.0, 0);
}

fn holds(buffer: &Buffer, value: u8) -> bool {
    Control::built().peek(address(buffer), buffer.len()).iter().all(|byte| *byte == value)
}

fn wait(stream: Stream) {
    // SAFETY: the stream lives to the end of the test.
    let stream = unsafe { context().stream(stream) }.expect("a stream");
    context().synchronize(stream).expect("it ends");
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

/// Random requests on several streams that run late, each block filled and read back on its own stream: what is used again too
/// early holds another's bytes.
fn late_streams_never_see_another_s_bytes(subject: &Subject) {
    streams_late_by(Duration::from_micros(200), subject);
}

fn streams_late_by(delay: Duration, subject: &Subject) {
    let control = Control::built();
    let streams = [stream(), stream(), stream(), Stream::LEGACY_DEFAULT];
    let mut seed = 0x9E37_79B9_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for stream in &streams[..3] {
        control.set_stream_delay(raw(*stream), delay);
    }
    let pinned: Arc<dyn MemoryResource> = Arc::new(PinnedMemory::new(context()));
    let mut live: Vec<(u8, Buffer)> = Vec::new();
    let mut seen: Vec<(u8, Buffer)> = Vec::new();
    for step in 0..400 {
        if live.len() < 12 && (live.is_empty() || random(3) > 0) {
            let on = streams[random(streams.len())];
            let buffer = subject.buffer(1 + random(40_000), 1 << random(9), on);
            let range = (address(&buffer), address(&buffer) + buffer.len() as u64);
            for (_, other) in &live {
                assert!(range.1 <= address(other) || range.0 >= address(other) + other.len() as u64, "no overlap");
            }
            let value = (step % 251) as u8;
            fill(&buffer, value, on);
            live.push((value, buffer));
        } else {
            let (value, buffer) = live.swap_remove(random(live.len()));
            let read = Buffer::new(&pinned, buffer.len(), 64, Stream::NONE).expect("page-locked memory");
            let _entered = context().enter().expect("a context");
            // SAFETY: both buffers live until the stream was waited for or, for the first, is freed in its order.
            let status = unsafe {
                let on: StreamRef = context().stream(buffer.stream()).expect("a stream");
                (context().api().memory.memcpy_dtoh_async)(
                    read.as_ptr().cast(),
                    address(&buffer),
                    buffer.len(),
                    on.raw(),
                )
            };
            assert_eq!(status.0, 0);
            seen.push((value, read));
        }
    }
    control.drain();
    for (value, read) in &seen {
        // SAFETY: the driver wrote every byte, and is done.
        let bytes = unsafe { std::slice::from_raw_parts(read.as_ptr(), read.len()) };
        assert!(bytes.iter().all(|byte| byte == value), "{value}: {:?}", &bytes[..bytes.len().min(8)]);
    }
    drop((live, seen));
    subject.assert_all_returned();
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

fn pool(upstream: impl MemoryResource + 'static) -> PoolMemory {
    PoolMemory::on(context(), Arc::new(upstream), PoolOptions::default())
}

/// A pool of so many bytes in regions of one size.
fn pool_of(region: u64, maximum: u64) -> PoolMemory {
    let mut options = PoolOptions::default();
    (options.smallest_region, options.largest_region, options.maximum) = (region, region, maximum);
    PoolMemory::on(context(), Arc::new(DeviceMemory::new(context())), options)
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

/// Twelve blocks of up to 40 000 bytes always fit, but hardly one more: nearly every request takes what another stream gave back.
#[test]
fn a_full_pool_never_shows_another_s_bytes() {
    let pool = Arc::new(pool_of(1 << 20, 1 << 20));
    // So late that they are behind also where everything is watched, and slow.
    streams_late_by(Duration::from_millis(2), &Subject::new(Arc::clone(&pool)));
    assert!(pool.statistics().waits > 10, "{pool:?}");
    assert_eq!(pool.statistics().regions, 1);
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

#[test]
fn memory_of_a_stream_that_was_destroyed_unannounced_is_never_used_again() {
    let control = Control::built();
    let pool = pool_of(1 << 20, 1 << 20);
    let first = stream();
    let old = block(&pool, 1 << 20, first);
    control.hold(true);
    fill_raw(old, first);
    give(&pool, old, 1 << 20, first);
    destroy(first);
    let again = stream();
    assert_eq!(again, first, "the driver uses a handle again");
    assert!(pool.allocate(1 << 20, 256, again).is_err(), "what was queued on the old stream still runs");
    assert_eq!(pool.statistics().lost, 1 << 20);
    control.hold(false);
    control.drain();
}

#[test]
fn memory_in_use_when_its_stream_was_destroyed_unannounced_is_nobody_s_afterwards() {
    let control = Control::built();
    let pool = pool_of(1 << 20, 1 << 20);
    let first = stream();
    let old = block(&pool, 1 << 20, first);
    control.hold(true);
    fill_raw(old, first);
    destroy(first);
    let again = stream();
    assert_eq!(again, first, "the driver uses a handle again");
    // Whether this is before or after the work of the first stream, nobody can tell.
    give(&pool, old, 1 << 20, again);
    assert!(pool.allocate(1 << 20, 256, again).is_err(), "what was queued on the old stream still runs");
    assert_eq!((pool.statistics().lost, pool.statistics().in_use, pool.statistics().live), (1 << 20, 0, 0));
    control.hold(false);
    control.drain();
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

/// Begins to capture a stream, in the mode that forbids most.
fn begin_capture(on: Stream) {
    let control = Control::built();
    type Begin = unsafe extern "C" fn(*mut c_void, u32) -> i32;
    // SAFETY: the function has this signature in cuda.h.
    let begin = unsafe { control.library().get::<Begin>(b"cuStreamBeginCapture_v2\0") }.expect("there");
    // SAFETY: a stream of the test.
    assert_eq!(unsafe { begin(raw(on), 0) }, 0);
}

/// Ends it; gives how many nodes were captured.
fn end_capture(on: Stream) -> usize {
    let control = Control::built();
    type End = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> i32;
    // SAFETY: the function has this signature in cuda.h.
    let end = unsafe { control.library().get::<End>(b"cuStreamEndCapture\0") }.expect("there");
    let mut graph = std::ptr::null_mut();
    // SAFETY: a stream of the test, and a place of it.
    assert_eq!(unsafe { end(raw(on), &raw mut graph) }, 0, "nothing broke the capture");
    control.graph_nodes(graph).expect("a graph")
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

#[test]
fn a_pool_in_the_driver_is_too_new_for_old_drivers_and_devices() {
    Control::built().set_attribute(0, 115, 0);
    let why = AsyncMemory::new(context()).expect_err("the device has no pools");
    assert_eq!(why.to_string(), "a stream-ordered pool needs a driver for CUDA 11.2 or newer");
}
