//! Streams of the driver of tests/fake-cuda that run late or are captured, and resources whose memory is used in their order.

use std::ffi::c_void;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freehold_device::cuda::memory::{PinnedMemory, PoolMemory, PoolOptions};
use freehold_device::cuda::{Context, Driver, StreamRef};
use freehold_device::{Buffer, MemoryResource, Statistics, Stream};
use freehold_fake_cuda::control::{self, Control};

pub fn context() -> &'static Context {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    let driver = DRIVER.get_or_init(|| {
        // SAFETY: this workspace's own driver, which behaves as `cuda.h` says.
        unsafe { Driver::load(control::path()) }.expect("the driver loads")
    });
    Context::on(driver, 0).expect("device 0")
}

pub fn stream() -> Stream {
    context().new_stream().expect("a stream").number()
}

pub fn raw(stream: Stream) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(stream.0 as usize)
}

/// The resource under test, and counters around it that must return to zero.
pub struct Subject {
    pub memory: Arc<dyn MemoryResource>,
    pub counted: Arc<Statistics<Arc<dyn MemoryResource>>>,
}

impl Subject {
    pub fn new(resource: impl MemoryResource + 'static) -> Self {
        let inner: Arc<dyn MemoryResource> = Arc::new(resource);
        let counted = Arc::new(Statistics::new(inner));
        Self { memory: counted.clone(), counted }
    }

    pub fn buffer(&self, bytes: usize, align: usize, stream: Stream) -> Buffer {
        Buffer::new(&self.memory, bytes, align, stream).expect("the device has this little memory")
    }

    pub fn assert_all_returned(&self) {
        let now = self.counted.statistics();
        assert_eq!((now.current_bytes, now.current_count), (0, 0), "{now:?}");
        assert!(now.total_count > 0, "the test allocated nothing");
    }
}

pub fn address(buffer: &Buffer) -> u64 {
    buffer.as_ptr().addr() as u64
}

/// Fills a buffer in the order of a stream.
pub fn fill(buffer: &Buffer, value: u8, stream: Stream) {
    // SAFETY: the buffer is memory of the device; the stream lives to the end of the test, which orders its uses.
    let done = unsafe {
        let stream = context().stream(stream).expect("a stream");
        freehold_device::cuda::zero(context(), address(buffer), buffer.len(), stream).expect("a fill");
        let _entered = context().enter().expect("a context");
        (context().api().memory.memset_d8_async)(address(buffer), value, buffer.len(), stream.raw())
    };
    assert_eq!(done.0, 0);
}

pub fn wait(stream: Stream) {
    // SAFETY: the stream lives to the end of the test.
    let stream = unsafe { context().stream(stream) }.expect("a stream");
    context().synchronize(stream).expect("it ends");
}

/// Random requests on several streams that run late, each block filled and read back on its own stream: what is used again too
/// early holds another's bytes.
pub fn streams_late_by(delay: Duration, subject: &Subject) {
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

/// A pool over a resource.
pub fn pool(upstream: impl MemoryResource + 'static) -> PoolMemory {
    PoolMemory::on(context(), Arc::new(upstream), PoolOptions::default())
}

/// Begins to capture a stream, in the mode that forbids most.
pub fn begin_capture(on: Stream) {
    let control = Control::built();
    type Begin = unsafe extern "C" fn(*mut c_void, u32) -> i32;
    // SAFETY: the function has this signature in cuda.h.
    let begin = unsafe { control.library().get::<Begin>(b"cuStreamBeginCapture_v2\0") }.expect("there");
    // SAFETY: a stream of the test.
    assert_eq!(unsafe { begin(raw(on), 0) }, 0);
}

/// Ends it; gives how many nodes were captured.
pub fn end_capture(on: Stream) -> usize {
    let control = Control::built();
    type End = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> i32;
    // SAFETY: the function has this signature in cuda.h.
    let end = unsafe { control.library().get::<End>(b"cuStreamEndCapture\0") }.expect("there");
    let mut graph = std::ptr::null_mut();
    // SAFETY: a stream of the test, and a place of it.
    assert_eq!(unsafe { end(raw(on), &raw mut graph) }, 0, "nothing broke the capture");
    control.graph_nodes(graph).expect("a graph")
}
