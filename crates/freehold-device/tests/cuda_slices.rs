//! Slices of cudarc taken, lent and given, on the driver of the tests. cudarc finds its driver by name, so each test runs in a
//! process of its own that finds the tests' driver by that name.

#![cfg(all(target_os = "linux", not(miri)))]

use std::ffi::c_void;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::{CudaContext, CudaSlice, DevicePtr};
use freehold_device::cuda::memory::{self, DeviceMemory};
use freehold_device::cuda::slices::{SliceError, give, lend, take};
use freehold_device::cuda::{self, Context, CudaError, StreamRef};
use freehold_device::{Buffer, MemoryResource, Stream, host};
use freehold_fake_cuda::control::{self, Control};

const CHILD: &str = "FREEHOLD_TEST_CUDARC";

/// Everything that a test needs, in the process that has the driver. In the first one, the test is run in another, which must
/// succeed; `None` then.
struct Setup {
    control: Control,
    context: &'static Context,
    theirs: Arc<CudaContext>,
}

fn setup(test: &str) -> Option<Setup> {
    if std::env::var_os(CHILD).is_none() {
        let done = child(test, &[]);
        let said = || [&done.stdout[..], &done.stderr].map(String::from_utf8_lossy).concat();
        assert!(done.status.success(), "in its own process: {}", said());
        return None;
    }
    let context = Context::of(0).expect("the driver of the tests");
    let theirs = CudaContext::new(0).expect("the same driver");
    Some(Setup { control: Control::open(control::path()), context, theirs })
}

/// Runs a test where cudarc finds the tests' driver.
fn child(test: &str, more: &[(&str, &str)]) -> Output {
    let folder = std::env::temp_dir().join(format!("freehold-cudarc-{}-{test}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of ours");
    let link = folder.join("libcuda.so");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(control::path(), &link).expect("a link of ours");
    let mut paths = vec![folder.clone()];
    paths.extend(std::env::split_paths(&std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default()));
    let done = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env(cuda::LIBRARY_VARIABLE, control::path())
        .env("LD_LIBRARY_PATH", std::env::join_paths(paths).expect("paths"))
        .envs(more.iter().copied())
        .output()
        .expect("this program runs");
    std::fs::remove_dir_all(&folder).expect("ours");
    done
}

impl Setup {
    fn current() -> usize {
        let mut current = std::ptr::null_mut();
        let core = &cuda::probe().expect("a driver").api().core;
        // SAFETY: the place is one of ours.
        assert_eq!(unsafe { (core.ctx_get_current)(&raw mut current) }.0, 0);
        current.addr()
    }

    fn copy(&self, to: u64, from: u64, bytes: usize, stream: StreamRef) {
        let _entered = self.context.enter().expect("a context");
        // SAFETY: both sides have so many bytes until the stream was waited for.
        let status = unsafe { (self.context.api().memory.memcpy_async)(to, from, bytes, stream.raw()) };
        assert_eq!(status.0, 0);
    }

    fn read(&self, from: u64, count: usize, stream: StreamRef) -> Vec<f32> {
        let mut values = vec![0_f32; count];
        self.copy(values.as_mut_ptr().expose_provenance() as u64, from, count * 4, stream);
        self.context.synchronize(stream).expect("done");
        values
    }

    fn stream(&self) -> StreamRef {
        self.context.new_stream().expect("a stream")
    }

    fn buffer(&self, bytes: usize, stream: StreamRef) -> Buffer {
        Buffer::new(memory::resource(0).expect("the default"), bytes, 256, stream.number()).expect("memory")
    }
}

fn address(buffer: &Buffer) -> u64 {
    buffer.as_ptr().addr() as u64
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

/// The buffer is the slice's memory; the slice is dropped with it, on a thread where no context is current, on a stream with a
/// handle and on one without.
#[test]
fn a_slice_is_taken_and_dropped_on_any_thread() {
    let Some(setup) = setup("a_slice_is_taken_and_dropped_on_any_thread") else { return };
    let Setup { control, theirs, .. } = &setup;
    for own in [theirs.default_stream(), theirs.new_stream().expect("a stream")] {
        let before = control.live();
        let slice = own.clone_htod(&values(1000)).expect("a slice");
        let at = slice.device_ptr(&own).0;
        let stream = setup.stream();
        let buffer = take(slice, stream).expect("taken");
        assert_eq!((address(&buffer), buffer.len(), buffer.resource().name()), (at, 4000, "cudarc"));
        assert_eq!((buffer.align(), buffer.device().id, buffer.stream()), (256, 0, stream.number()));
        assert!(setup.read(at, 1000, stream) == values(1000));
        // The block is the one that there is.
        let again = buffer.resource().allocate(4000, 4, Stream::NONE).expect_err("handed over once");
        assert!(again.to_string().contains("there is one block, handed out once"), "{again}");
        std::thread::spawn(move || {
            assert_eq!(Setup::current(), 0);
            drop(buffer);
            assert_eq!(Setup::current(), 0, "the thread is left as it was");
        })
        .join()
        .expect("dropped");
        own.synchronize().expect("done, and nothing failed before");
        assert_eq!(control.live().pool_used, before.pool_used);
        assert_eq!(control.live().races, 0);
    }
}

/// The stream of the buffer comes after what cudarc queued, on whatever stream of its own, and the slice is freed after what the
/// stream of the buffer does last.
#[test]
fn streams_are_ordered_both_ways() {
    const NAME: &str = "streams_are_ordered_both_ways";
    let Some(setup) = setup(NAME) else {
        // The same without the waits must be seen.
        if cfg!(debug_assertions) {
            let done = child(NAME, &[("FREEHOLD_TEST_DROP_EVENTS", "order")]);
            assert!(!done.status.success(), "a wait is left out, and nobody sees it");
        }
        return;
    };
    let Setup { control, theirs, context } = &setup;
    let (own, side) = (theirs.new_stream().expect("a stream"), theirs.new_stream().expect("a stream"));
    let mut slice = own.alloc_zeros::<f32>(10_000).expect("a slice");
    own.synchronize().expect("done");
    control.set_delay(Duration::from_millis(5));
    // Late, and on another stream than the slice's.
    side.memcpy_htod(&values(10_000), &mut slice).expect("queued");
    let stream = setup.stream();
    let buffer = take(slice, stream).expect("taken");
    let kept = setup.buffer(40_000, stream);
    setup.copy(address(&kept), address(&buffer), 40_000, stream);
    drop(buffer);
    // The same memory, if it is free, in the order of the slice's stream.
    let next = own.clone_htod(&vec![7_f32; 10_000]).expect("a slice");
    assert!(setup.read(address(&kept), 10_000, stream) == values(10_000));
    drop(next);
    control.set_delay(Duration::ZERO);
    context.synchronize(stream).expect("done");
    own.synchronize().expect("done");
    assert_eq!(control.live().races, 0);
}

/// cudarc reads and writes a lent buffer, and frees nothing.
#[test]
fn a_buffer_is_lent() {
    let Some(setup) = setup("a_buffer_is_lent") else { return };
    let Setup { control, context, theirs } = &setup;
    let before = control.live();
    let stream = setup.stream();
    let plain: Arc<dyn MemoryResource> = Arc::new(DeviceMemory::new(context));
    for resource in [memory::resource(0).expect("the default"), &plain] {
        for own in [theirs.default_stream(), theirs.new_stream().expect("a stream")] {
            let mut buffer = Buffer::new(resource, 4000, 256, stream.number()).expect("memory");
            control.set_delay(Duration::from_millis(1));
            // SAFETY: written before it is read; nobody else uses it.
            let mut lent = unsafe { lend::<f32>(&mut buffer, &own) }.expect("lent");
            own.memcpy_htod(&values(1000), &mut lent.as_view_mut()).expect("queued");
            assert_eq!((lent.len(), lent.as_view().len()), (1000, 1000));
            let copied: CudaSlice<f32> = own.clone_dtod(&*lent).expect("queued");
            drop(lent);
            assert!(setup.read(address(&buffer), 1000, stream) == values(1000));
            assert!(own.clone_dtoh(&copied).expect("read") == values(1000));
            control.set_delay(Duration::ZERO);
            drop((buffer, copied));
            own.synchronize().expect("done, and nothing failed before");
            context.synchronize(stream).expect("done");
        }
    }
    assert_eq!((control.live().pool_used, control.live().races), (before.pool_used, 0));
    // An error gives nothing away.
    let mut buffer = setup.buffer(10, stream);
    // SAFETY: as above.
    let refused = unsafe { lend::<f32>(&mut buffer, &theirs.default_stream()) }.expect_err("ten bytes");
    assert_eq!(refused, SliceError::Elements { bytes: 10, size: 4 });
    let mut buffer = Buffer::new(host(), 40, 64, Stream::NONE).expect("memory");
    // SAFETY: as above.
    let refused = unsafe { lend::<f32>(&mut buffer, &theirs.default_stream()) }.expect_err("memory of the host");
    assert!(refused.to_string().contains("the buffer is on cpu"), "{refused}");
}

/// Memory of the driver's pool becomes a slice's; other memory stays the buffer's.
#[test]
fn a_buffer_is_given() {
    let Some(setup) = setup("a_buffer_is_given") else { return };
    let Setup { control, context, theirs } = &setup;
    let (stream, own) = (setup.stream(), theirs.new_stream().expect("a stream"));
    let before = control.live();
    let buffer = setup.buffer(4000, stream);
    let at = address(&buffer);
    let data = values(1000);
    control.set_delay(Duration::from_millis(5));
    setup.copy(at, data.as_ptr().expose_provenance() as u64, 4000, stream);
    // SAFETY: written above, and used by nobody else.
    let slice = unsafe { give::<f32>(buffer, &own) }.expect("given");
    assert_eq!((slice.len(), slice.device_ptr(&own).0), (1000, at));
    assert!(own.clone_dtoh(&slice).expect("read") == data);
    control.set_delay(Duration::ZERO);
    // And back again.
    let buffer = take(slice, stream).expect("taken");
    drop(buffer);
    own.synchronize().expect("freed, and nothing failed before");
    context.synchronize(stream).expect("done");
    assert_eq!((control.live().pool_used, control.live().races), (before.pool_used, 0));

    let plain: Arc<dyn MemoryResource> = Arc::new(DeviceMemory::new(context));
    let buffer = Buffer::new(&plain, 4000, 256, stream.number()).expect("memory");
    // SAFETY: read by nobody.
    let refused = unsafe { give::<f32>(buffer, &own) }.expect_err("memory of cuMemAlloc");
    assert!(
        refused.error.to_string().starts_with("memory from cuda is not freed by cuMemFreeAsync"),
        "{}",
        refused.error
    );
    assert_eq!(refused.buffer.len(), 4000);
    // What the driver refuses within cudarc, which panics.
    let numbered = StreamRef::LEGACY;
    let buffer = setup.buffer(4000, numbered);
    control.fail_function("cuEventCreate", 1, 999);
    // SAFETY: as above.
    let refused = unsafe { give::<f32>(buffer, &theirs.default_stream()) }.expect_err("no event");
    assert!(refused.error.to_string().contains("cuEventCreate"), "{}", refused.error);
    control.forget_failures();
    // SAFETY: as above.
    drop(unsafe { give::<f32>(refused.buffer, &theirs.default_stream()) }.expect("given"));
    context.synchronize(numbered).expect("done");
    assert_eq!(control.live().pool_used, before.pool_used);
}

/// What cannot be taken comes back, whole: after any call of the driver that fails, and from a context that is not ours.
#[test]
fn a_slice_that_is_not_taken_comes_back() {
    let Some(setup) = setup("a_slice_that_is_not_taken_comes_back") else { return };
    let Setup { control, theirs, .. } = &setup;
    let own = theirs.new_stream().expect("a stream");
    let stream = setup.stream();
    let mut slice = own.clone_htod(&values(100)).expect("a slice");
    let mut failures = 0;
    for n in 1..60 {
        control.fail_at(n, 999);
        let result = take(slice, stream);
        let reached = control.live().failures_left == 0;
        control.forget_failures();
        slice = match result {
            Err(back) => {
                failures += 1;
                assert!(back.error.to_string().contains("999"), "{}", back.error);
                back.slice
            }
            Ok(buffer) => {
                drop(buffer);
                own.clone_htod(&values(100)).expect("a slice")
            }
        };
        assert!(own.clone_dtoh(&slice).expect("the next call works") == values(100));
        if !reached {
            break;
        }
    }
    assert!(failures > 3, "{failures}");

    let second = Context::of(1).expect("a second device");
    // SAFETY: a context of the driver. It says that it is of another device, and is never dropped, which would destroy it.
    let wrong = unsafe { CudaContext::from_raw_context(0, 1, second.raw().cast()) }.expect("a context");
    let foreign = wrong.default_stream().clone_htod(&values(3)).expect("a slice");
    let back = take(foreign, stream).expect_err("of another context");
    assert_eq!(back.error, SliceError::OtherContext { ordinal: 0 });
    drop(back.slice);
    std::mem::forget(wrong);
}

/// A stream that is captured hands nothing over, and the capture goes on.
#[test]
fn nothing_is_handed_over_while_a_stream_is_captured() {
    let Some(setup) = setup("nothing_is_handed_over_while_a_stream_is_captured") else { return };
    let Setup { control, theirs, context } = &setup;
    let own = theirs.new_stream().expect("a stream");
    let slice = own.clone_htod(&values(100)).expect("a slice");
    own.synchronize().expect("done");
    let stream = setup.stream();
    let (before, library) = (control.live(), control.library());
    // SAFETY: functions of cuda.h with their types; the stream lives.
    let (begin, end) = unsafe {
        (
            library.get::<unsafe extern "C" fn(*mut c_void, u32) -> i32>(b"cuStreamBeginCapture_v2").expect("there"),
            library
                .get::<unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> i32>(b"cuStreamEndCapture")
                .expect("there"),
        )
    };
    let mut graph = std::ptr::null_mut();
    {
        let _entered = context.enter().expect("a context");
        // SAFETY: as above.
        assert_eq!(unsafe { begin(stream.raw(), 0) }, 0);
    }
    let back = take(slice, stream).expect_err("the stream is captured");
    assert!(matches!(back.error, SliceError::Cuda(CudaError::Capturing { .. })), "{}", back.error);
    {
        let _entered = context.enter().expect("a context");
        // SAFETY: as above; the place is one of ours.
        assert_eq!(unsafe { end(stream.raw(), &raw mut graph) }, 0, "nothing broke it");
    }
    let buffer = take(back.slice, stream).expect("taken");
    assert!(setup.read(address(&buffer), 100, stream) == values(100));
    drop(buffer);
    own.synchronize().expect("freed");
    assert!(control.live().pool_used < before.pool_used);
}
