//! A resource over C function pointers: what reaches the callbacks, and when.

mod common;

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::callback_memory;
use freehold_device::{AllocReason, Buffer, CallbackMemory, Callbacks, MemoryResource, Stream};
use freehold_tensor::{Device, DeviceKind};

#[test]
fn device_name_stream_and_lifetime_pass_through() {
    let device = Device::new(DeviceKind::EXT_DEV, 3);
    let (memory, log) = callback_memory(device);
    let memory: Arc<dyn MemoryResource> = Arc::new(memory);
    let mut buffer = Buffer::new(&memory, 100, 512, Stream(0x1234)).expect("100 bytes");
    assert_eq!((buffer.device(), buffer.resource().name()), (device, "test callbacks"));
    assert_eq!(log.last_stream.load(Ordering::SeqCst), 0x1234);

    buffer.set_stream(Stream(0x5678));
    drop(memory);
    assert_eq!(log.dropped.load(Ordering::SeqCst), 0, "the buffer still needs the callbacks");
    drop(buffer);
    assert_eq!(log.last_stream.load(Ordering::SeqCst), 0x5678, "freed on the stream that was set");
    assert_eq!((log.allocated.load(Ordering::SeqCst), log.freed.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(log.dropped.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&log), 1, "drop_user gave its reference up");
}

#[test]
fn a_misaligned_address_is_given_back_and_reported() {
    let (memory, log) = callback_memory(Device::CPU);
    log.skew.store(8, Ordering::SeqCst);
    let memory: Arc<dyn MemoryResource> = Arc::new(memory);
    let error = Buffer::new(&memory, 100, 64, Stream::NONE).expect_err("8 bytes off");
    let AllocReason::Misaligned { address } = error.reason else { panic!("{error:?}") };
    assert_eq!(address % 64, 8);
    assert!(!error.is_out_of_memory());
    assert_eq!((log.allocated.load(Ordering::SeqCst), log.freed.load(Ordering::SeqCst)), (1, 1));
    // What is aligned as asked is taken, whatever else it is aligned to.
    assert!(Buffer::new(&memory, 100, 8, Stream::NONE).is_ok());
}

unsafe extern "C" fn refuse(_: *mut c_void, _: usize, _: usize, _: i64) -> *mut c_void {
    std::ptr::null_mut()
}

unsafe extern "C" fn unreachable(_: *mut c_void, _: *mut c_void, _: usize, _: usize, _: i64) {
    unreachable!("nothing was allocated");
}

#[test]
fn null_is_a_refusal_and_user_and_drop_user_may_be_absent() {
    let callbacks =
        Callbacks { allocate: refuse, deallocate: unreachable, user: std::ptr::null_mut(), drop_user: None };
    // SAFETY: the functions use nothing.
    let memory = unsafe { CallbackMemory::new(Device::new(DeviceKind::CUDA, 1), "refuses", callbacks) };
    let memory: Arc<dyn MemoryResource> = Arc::new(memory);
    let error = Buffer::new(&memory, 1 << 20, 256, Stream::LEGACY_DEFAULT).expect_err("refused");
    assert_eq!(error.reason, AllocReason::Refused);
    assert_eq!(error.to_string(), "1 MiB (1048576 bytes) could not be allocated on cuda:1: the system refused");
    assert!(Buffer::new(&memory, 0, 256, Stream::LEGACY_DEFAULT).is_ok(), "zero bytes need no callback");
}
