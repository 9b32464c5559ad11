//! The driver, and work on it.

use std::ffi::c_void;
use std::ptr;
use std::sync::Once;
use std::time::Duration;

use freehold_device::cuda::{self, Context, MemoryKind, Pointer, Status, StreamRef};
use freehold_device::{Buffer, MemoryResource, Stream};

/// Whether the driver is the machine's own.
pub fn is_real() -> bool {
    std::env::var_os("FREEHOLD_GPU").is_some_and(|value| value == "1")
}

/// The context of the first device, of the driver that the tests run on.
pub fn context() -> &'static Context {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        if !is_real() && std::env::var_os(cuda::LIBRARY_VARIABLE).is_none() {
            // SAFETY: every test begins here, before there is a driver: no code but Rust's runs, whose reads are locked.
            unsafe { std::env::set_var(cuda::LIBRARY_VARIABLE, freehold_fake_cuda::control::path()) };
        }
    });
    Context::of(0).unwrap_or_else(|error| panic!("no CUDA: {error}"))
}

/// A function of the driver that Freehold does not use, from the library that it opened.
pub fn symbol<T: Copy>(name: &str) -> T {
    context();
    let path = std::env::var_os(cuda::LIBRARY_VARIABLE).unwrap_or_else(|| "libcuda.so.1".into());
    // SAFETY: it is open already, for the life of the process; the caller gives the type of cuda.h.
    unsafe {
        let library = std::mem::ManuallyDrop::new(libloading::Library::new(path).expect("it is open"));
        *library.get::<T>(name.as_bytes()).expect(name)
    }
}

/// A stream of this test's own, made once: this crate keeps those that it makes.
pub fn stream() -> StreamRef {
    thread_local!(static STREAM: StreamRef = context().new_stream().expect("a stream"));
    STREAM.with(|stream| *stream)
}

pub fn ok(status: Status) {
    assert_eq!(status, Status::SUCCESS);
}

/// Memory of the device, freed in the order of a stream.
pub fn device_memory(bytes: usize, stream: StreamRef) -> Buffer {
    context();
    let resource = cuda::memory::resource(0).expect("the default resource");
    Buffer::new(resource, bytes, 256, stream.number()).expect("memory of the device")
}

/// Page-locked memory.
pub fn pinned_memory(bytes: usize) -> Buffer {
    context();
    Buffer::new(cuda::memory::pinned().expect("page-locked memory"), bytes, 64, Stream::NONE).expect("a block")
}

pub fn address(buffer: &Buffer) -> u64 {
    buffer.as_ptr().addr() as u64
}

/// The bytes of host memory that was written.
pub fn bytes_of(buffer: &Buffer) -> &[u8] {
    assert!(buffer.device().kind.is_host() || buffer.resource().name() == "cuda-pinned");
    // SAFETY: the buffer has so many bytes of host memory; tests look only when nothing writes to it any more.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr(), buffer.len()) }
}

pub fn fill_host(buffer: &Buffer, value: u8) {
    // SAFETY: the buffer has so many bytes of host memory, and tests write only when nobody else uses it.
    unsafe { buffer.as_ptr().write_bytes(value, buffer.len()) };
}

/// Queues a copy by the driver.
pub fn queue_copy(to: u64, from: u64, bytes: usize, stream: StreamRef) {
    let context = context();
    let _entered = context.enter().expect("the context");
    // SAFETY: the caller's buffers live until the stream was waited for.
    ok(unsafe { (context.api().memory.memcpy_async)(to, from, bytes, stream.raw()) });
}

/// Queues writing one value to every byte.
pub fn queue_fill(to: u64, value: u8, bytes: usize, stream: StreamRef) {
    let context = context();
    let _entered = context.enter().expect("the context");
    // SAFETY: as above.
    ok(unsafe { (context.api().memory.memset_d8_async)(to, value, bytes, stream.raw()) });
}

/// Queues nothing for so long: what is queued behind it is late.
pub fn queue_delay(stream: StreamRef, delay: Duration) {
    unsafe extern "C" fn sleep(nanoseconds: *mut c_void) {
        std::thread::sleep(Duration::from_nanos(nanoseconds.addr() as u64));
    }
    let context = context();
    let _entered = context.enter().expect("the context");
    let time = ptr::without_provenance_mut(delay.as_nanos() as usize);
    // SAFETY: the function calls no function of the driver, and takes a number.
    ok(unsafe { (context.api().work.launch_host_func)(stream.raw(), sleep, time) });
}

/// A stream of this test's own, on which memory is there that was allocated with no stream.
fn ready_stream() -> StreamRef {
    let (context, stream) = (context(), stream());
    let work = context.work_stream().expect("a stream");
    cuda::order(context, work, context, stream).expect("the order");
    stream
}

/// Writes bytes, and waits for it.
pub fn upload(to: u64, bytes: &[u8]) {
    let stream = ready_stream();
    queue_copy(to, bytes.as_ptr().addr() as u64, bytes.len(), stream);
    context().synchronize(stream).expect("the copy");
}

/// Reads bytes that were written and waited for.
pub fn download(from: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0_u8; count];
    let stream = ready_stream();
    queue_copy(bytes.as_mut_ptr().expose_provenance() as u64, from, count, stream);
    context().synchronize(stream).expect("the copy");
    bytes
}

pub fn kind_of(address: u64) -> (MemoryKind, Pointer) {
    let found = cuda::pointer(context().driver(), address).expect("a question");
    (found.kind, found)
}

/// A block of a resource, with no stream.
pub fn block(resource: &dyn MemoryResource, bytes: usize, align: usize) -> ptr::NonNull<u8> {
    resource.allocate(bytes, align, Stream::NONE).unwrap_or_else(|error| panic!("{}: {error}", resource.name()))
}
