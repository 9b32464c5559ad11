//! The driver, its contexts, streams, events and answers about pointers.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::Duration;

use freehold_device::Stream;
use freehold_device::cuda::transfer::{self, Side, TransferError};
use freehold_device::cuda::{self, Context, CudaError, Event, MemoryKind, Status, StreamRef, sys};
use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
use freehold_tensor::{DType, Device, DeviceKind, Layout};

use crate::common::{
    address, block, context, device_memory, download, is_real, kind_of, ok, pinned_memory, queue_delay, queue_fill,
    symbol, upload,
};

#[test]
fn the_driver_says_what_it_drives() {
    let driver = context().driver();
    assert!(driver.version.major() >= 11, "{}", driver.version);
    for device in &driver.devices {
        assert!(!device.name.is_empty() && device.total_memory > 1 << 28, "{device:?}");
    }
    let newest = driver.version >= cuda::Version(12080);
    assert_eq!(driver.api().batch.is_some(), newest);
    assert!(driver.api().pools.is_some() && driver.api().stream_ids.is_some());
    let (free, total) = context().memory_info().expect("a context");
    assert!(free > 0 && free <= total);
    assert!(context().attribute(sys::DEVICE_COMPUTE_CAPABILITY_MAJOR).expect("an attribute") >= 7);
    let unknown = context().attribute(987_654).expect_err("no such attribute");
    assert_eq!(unknown.status(), Some(Status::INVALID_VALUE));
    if is_real() {
        println!("{driver:?}");
    }
}

#[test]
fn the_context_is_the_primary_one_and_is_there_once() {
    let context = context();
    assert!(Context::is_active(context.driver(), 0).expect("device 0"));
    assert!(ptr::eq(context, Context::of(0).expect("device 0")));
    let count = context.driver().devices.len();
    let error = Context::of(count as i32).expect_err("no such device");
    assert_eq!(error, CudaError::NoDevice { ordinal: count as i32, count });
    assert_eq!(Context::of(-1).expect_err("no such device"), CudaError::NoDevice { ordinal: -1, count });
}

fn current() -> *mut c_void {
    let mut found = ptr::null_mut();
    // SAFETY: the place is one of ours.
    ok(unsafe { (context().api().core.ctx_get_current)(&raw mut found) });
    found
}

#[test]
fn what_was_current_on_a_thread_is_put_back() {
    let context = context();
    std::thread::spawn(move || {
        assert!(current().is_null(), "a new thread has none");
        {
            let _outer = context.enter().expect("the context");
            assert_eq!(current(), context.raw());
            let inner = context.enter().expect("again");
            drop(inner);
            assert_eq!(current(), context.raw(), "the inner one changed nothing");
        }
        assert!(current().is_null());
        // Whatever is done, nothing is left behind.
        let memory = device_memory(1 << 12, context.work_stream().expect("a stream"));
        upload(address(&memory), &[7; 1 << 12]);
        assert!(download(address(&memory), 1 << 12).iter().all(|byte| *byte == 7));
        drop(memory);
        assert!(current().is_null());
    })
    .join()
    .expect("the thread");
}

/// Another context than the primary one: of another program's library in the same process.
#[test]
fn a_foreign_context_stays_current() {
    if !is_real() {
        // The driver of the tests has primary contexts only; crates/freehold-device/tests/cuda_fake.rs has two devices.
        return;
    }
    type Create = unsafe extern "C" fn(*mut *mut c_void, u32, c_int) -> Status;
    // cuCtxCreate has had several signatures; this version stays for old programs.
    let create: Create = symbol("cuCtxCreate_v2");
    let destroy: unsafe extern "C" fn(*mut c_void) -> Status = symbol("cuCtxDestroy_v2");
    let mut theirs = ptr::null_mut();
    // SAFETY: the place is one of ours, and the device is the first one.
    ok(unsafe { create(&raw mut theirs, 0, context().device()) });
    assert_ne!(theirs, context().raw());
    let memory = device_memory(64, context().work_stream().expect("a stream"));
    upload(address(&memory), &[9; 64]);
    assert_eq!(current(), theirs);
    assert_eq!(download(address(&memory), 64), [9; 64]);
    drop(memory);
    assert_eq!(current(), theirs);
    // SAFETY: made above, and nothing was made in it.
    ok(unsafe { destroy(theirs) });
}

#[test]
fn streams_go_by_dlpacks_numbers() {
    let context = context();
    // SAFETY: no handle is used.
    let stream = |number| unsafe { context.stream(Stream(number)) };
    assert_eq!(stream(1), Ok(StreamRef::LEGACY));
    assert_eq!(stream(2), Ok(StreamRef::PER_THREAD));
    assert_eq!(stream(-1), Ok(context.work_stream().expect("a stream")));
    for bad in [0, -2, i64::MIN] {
        assert_eq!(stream(bad), Err(CudaError::BadStream(bad)));
    }
    let made = context.new_stream().expect("a stream");
    assert_eq!(stream(made.number().0), Ok(made));
    for stream in [StreamRef::LEGACY, StreamRef::PER_THREAD, made] {
        assert_eq!(context.is_capturing(stream), Ok(false));
        context.synchronize(stream).expect("nothing is queued");
    }
}

#[test]
fn events_tell_what_is_done() {
    let context = context();
    let stream = context.new_stream().expect("a stream");
    let fresh = Event::new(context).expect("an event");
    assert_eq!(fresh.is_done(), Ok(true), "nothing was recorded");
    queue_delay(stream, Duration::from_millis(30));
    let event = Event::recorded(context, stream).expect("an event");
    assert_eq!(event.is_done(), Ok(false));
    event.synchronize().expect("the delay ends");
    assert_eq!(event.is_done(), Ok(true));
    // Kept events are used again.
    let handles: Vec<_> = (0..8).map(|_| Event::new(context).expect("an event").raw()).collect();
    assert!(handles.iter().all(|handle| !handle.is_null()));
}

#[test]
fn pointers_are_of_the_kind_that_they_were_allocated_as() {
    let context = context();
    let host = [0_u8; 64];
    let (kind, found) = kind_of(host.as_ptr().addr() as u64);
    assert_eq!((kind, found.ordinal, found.context), (MemoryKind::Unregistered, -1, 0));
    assert_eq!(kind_of(0x10).0, MemoryKind::Unregistered, "an address that nothing has");

    let pinned = pinned_memory(8192);
    let (kind, found) = kind_of(address(&pinned) + 100);
    assert_eq!(kind, MemoryKind::Pinned);
    assert!(found.base <= address(&pinned) && found.len >= 8192, "{found:?}");

    let pool = device_memory(10_000, context.work_stream().expect("a stream"));
    let (kind, found) = kind_of(address(&pool) + 9_999);
    assert_eq!((kind, found.ordinal), (MemoryKind::Device, 0));
    assert!(found.base <= address(&pool) && found.base + found.len >= address(&pool) + 10_000, "{found:?}");

    let plain = cuda::memory::DeviceMemory::new(context);
    let memory = block(&plain, 4096, 256);
    let (kind, found) = kind_of(memory.addr().get() as u64);
    assert_eq!((kind, found.ordinal, found.context), (MemoryKind::Device, 0, context.raw().addr()));
    assert!(found.buffer_id != 0);
    // SAFETY: allocated above, and not used.
    unsafe { freehold_device::MemoryResource::deallocate(&plain, memory, 4096, 256, Stream::NONE) };

    let managed = cuda::memory::managed(0).expect("managed memory");
    let memory = freehold_device::Buffer::new(managed, 4096, 64, Stream::NONE).expect("managed memory");
    let (kind, found) = kind_of(address(&memory));
    assert_eq!((kind, found.ordinal), (MemoryKind::Managed, 0));
}

#[test]
fn a_capture_is_seen_and_left_whole() {
    let context = context();
    type Begin = unsafe extern "C" fn(*mut c_void, u32) -> Status;
    let begin: Begin = symbol("cuStreamBeginCapture_v2");
    let end: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> Status = symbol("cuStreamEndCapture");
    let destroy: unsafe extern "C" fn(*mut c_void) -> Status = symbol("cuGraphDestroy");
    let stream = context.new_stream().expect("a stream");
    let memory = device_memory(1 << 20, stream);
    context.synchronize(stream).expect("allocated");
    let host = vec![1_u8; 1 << 20];
    let _entered = context.enter().expect("the context");
    // SAFETY: a stream of ours, that nothing is queued on. The mode says what this thread may not do meanwhile.
    ok(unsafe { begin(stream.raw(), sys::STREAM_CAPTURE_MODE_RELAXED) });
    assert_eq!(context.is_capturing(stream), Ok(true));
    queue_fill(address(&memory), 3, 1 << 20, stream);
    let (shape, strides) = ([1 << 20], [1]);
    let operand = |data| Operand {
        data,
        dtype: DType::U8,
        layout: Layout::new(&shape, &strides),
        unit: Default::default(),
        traits: Lazy::empty(),
    };
    let to = Side { operand: operand(memory.as_ptr()), device: Device::new(DeviceKind::CUDA, 0) };
    let from = Side { operand: operand(host.as_ptr().cast_mut()), device: Device::CPU };
    // SAFETY: both sides are buffers of a MiB.
    let refused = unsafe { transfer::copy(&to, &from, &CopyOptions::default(), stream) };
    assert!(matches!(refused.err(), Some(TransferError::Cuda(CudaError::Capturing { .. }))));
    assert!(matches!(context.synchronize(stream), Err(CudaError::Capturing { .. })));
    // Memory is had meanwhile, from every resource but the one that is ordered on this stream.
    drop(pinned_memory(3 << 20));
    drop(device_memory(1 << 16, context.work_stream().expect("a stream")));
    let mut graph = ptr::null_mut();
    // SAFETY: the capture began above, and the place is one of ours.
    ok(unsafe { end(stream.raw(), &raw mut graph) });
    assert!(!graph.is_null(), "nothing that was refused broke the capture");
    // SAFETY: made above, and not used.
    ok(unsafe { destroy(graph) });
}
