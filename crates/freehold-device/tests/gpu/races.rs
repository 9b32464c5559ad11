//! Orders that only a late stream shows to be missing. Each test names the function of the driver that keeps its order, and
//! fails where that does nothing: `forgetful.rs` shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_device::cuda::memory::PinnedMemory;
use freehold_device::cuda::transfer::{self, Road, Side};
use freehold_device::cuda::{self, order};
use freehold_device::{MemoryResource, Stream};
use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
use freehold_tensor::{DType, Device, DeviceKind, Layout};

use crate::common::{
    address, bytes_of, context, device_memory, download, pinned_memory, queue_copy, queue_delay, queue_fill, upload,
};

/// How late the streams are: far longer than what is queued behind takes.
const LATE: Duration = Duration::from_millis(60);
const BYTES: usize = 1 << 20;

#[test]
fn cu_stream_wait_event_a_reader_waits_for_the_writer() {
    let context = context();
    let (writer, reader) = (context.new_stream().expect("a stream"), context.new_stream().expect("a stream"));
    let (memory, result) = (device_memory(BYTES, writer), pinned_memory(BYTES));
    upload(address(&memory), &[0xEE; BYTES]);
    queue_delay(writer, LATE);
    queue_fill(address(&memory), 0x11, BYTES, writer);
    order(context, writer, context, reader).expect("the order");
    queue_copy(address(&result), address(&memory), BYTES, reader);
    context.synchronize(reader).expect("the copy");
    let seen = bytes_of(&result).iter().all(|byte| *byte == 0x11);
    context.synchronize(writer).expect("the writer");
    assert!(seen, "the reader did not wait");
}

#[test]
fn cu_stream_wait_event_the_owner_waits_for_the_last_use() {
    let context = context();
    let (user, home) = (context.new_stream().expect("a stream"), context.new_stream().expect("a stream"));
    let (memory, result) = (device_memory(BYTES, home), pinned_memory(BYTES));
    upload(address(&memory), &[0x22; BYTES]);
    queue_delay(user, LATE);
    queue_copy(address(&result), address(&memory), BYTES, user);
    let given_back = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&given_back);
    let give_back = Box::new(move || flag.store(true, Ordering::SeqCst));
    cuda::release_after(&[(context, user)], Some((context, home)), give_back);
    assert!(given_back.load(Ordering::SeqCst), "at once: what the owner does next is queued after the wait");
    queue_fill(address(&memory), 0x99, BYTES, home);
    context.synchronize(home).expect("the owner");
    context.synchronize(user).expect("the use");
    assert!(bytes_of(&result).iter().all(|byte| *byte == 0x22), "the owner did not wait");
}

#[test]
fn cu_event_query_memory_is_given_back_when_its_uses_are_done() {
    let context = context();
    cuda::prepare_release(context).expect("the process lives");
    let user = context.new_stream().expect("a stream");
    queue_delay(user, LATE);
    let given_back = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&given_back);
    cuda::release_after(&[(context, user)], None, Box::new(move || flag.store(true, Ordering::SeqCst)));
    let early = given_back.load(Ordering::SeqCst);
    context.synchronize(user).expect("the use");
    cuda::flush_releases();
    assert!(given_back.load(Ordering::SeqCst));
    assert!(!early, "given back before the use was done");
}

#[test]
fn cu_event_query_a_page_locked_block_is_not_used_again_too_early() {
    let context = context();
    let stream = context.new_stream().expect("a stream");
    let locked = PinnedMemory::new(context);
    let memory = device_memory(BYTES, stream);
    context.synchronize(stream).expect("allocated");
    let first = locked.allocate(BYTES, 64, Stream::NONE).expect("a block");
    // SAFETY: a block of so many bytes of host memory, which nobody else has.
    unsafe { first.as_ptr().write_bytes(0x33, BYTES) };
    queue_delay(stream, LATE);
    queue_copy(address(&memory), first.addr().get() as u64, BYTES, stream);
    // SAFETY: allocated above; its use is queued on the stream.
    unsafe { locked.deallocate(first, BYTES, 64, stream.number()) };
    let second = locked.allocate(BYTES, 64, Stream::NONE).expect("a block");
    // SAFETY: as above.
    unsafe { second.as_ptr().write_bytes(0x99, BYTES) };
    context.synchronize(stream).expect("the copy");
    // SAFETY: as above, and the stream is done.
    unsafe { locked.deallocate(second, BYTES, 64, Stream::NONE) };
    assert!(download(address(&memory), BYTES).iter().all(|byte| *byte == 0x33), "the block was written too early");
}

#[test]
fn cu_event_synchronize_a_slot_is_filled_when_the_link_has_read_it() {
    let context = context();
    let stream = context.new_stream().expect("a stream");
    let count = 48 << 20;
    let memory = device_memory(count, stream);
    let host: Vec<u8> = (0..count).map(|i| (i >> 20) as u8 ^ 0x5A).collect();
    let (shape, strides) = ([count as i64], [1]);
    let layout = Layout::new(&shape, &strides);
    let operand = |data| Operand { data, dtype: DType::U8, layout, unit: Default::default(), traits: Lazy::empty() };
    let to = Side { operand: operand(memory.as_ptr()), device: Device::new(DeviceKind::CUDA, 0) };
    let from = Side { operand: operand(host.as_ptr().cast_mut()), device: Device::CPU };
    queue_delay(stream, LATE);
    // SAFETY: both are as long, and live until the stream was waited for.
    let done = unsafe { transfer::copy(&to, &from, &CopyOptions::default(), stream) }.expect("the copy");
    assert_eq!(done.road, Road::Staged);
    context.synchronize(stream).expect("the copy");
    assert!(download(address(&memory), count) == host, "a slot was filled again before the link had read it");
}
