//! What every memory resource of a device must do.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use freehold_device::cuda::memory::{AsyncMemory, DeviceMemory, ManagedMemory, PinnedMemory};
use freehold_device::{AllocReason, Buffer, MemoryResource, Statistics, Stream};

use crate::common::{address, context, download, upload};

const SIZES: &[usize] = &[1, 3, 255, 256, 257, 4097, 1 << 16, (2 << 20) - 1, 2 << 20, 5 << 20];

type Counted = Arc<Statistics<Arc<dyn MemoryResource>>>;

/// A resource, and counters around it that must return to zero.
fn counted(resource: impl MemoryResource + 'static) -> (Arc<dyn MemoryResource>, Counted) {
    let inner: Arc<dyn MemoryResource> = Arc::new(resource);
    let counted = Arc::new(Statistics::new(inner));
    (Arc::clone(&counted) as Arc<dyn MemoryResource>, counted)
}

fn conforms(resource: impl MemoryResource + 'static) {
    let (memory, counters) = counted(resource);
    let buffer = |bytes, align| Buffer::new(&memory, bytes, align, Stream::NONE);
    // Aligned, whole and apart.
    for power in 0..=8 {
        let buffer = buffer(1000, 1 << power).expect("a little memory");
        assert!(address(&buffer).is_multiple_of(1 << power));
    }
    let buffers: Vec<Buffer> = SIZES.iter().map(|bytes| buffer(*bytes, 64).expect("memory")).collect();
    for (value, buffer) in (1_u8..).zip(&buffers) {
        upload(address(buffer), &vec![value; buffer.len()]);
    }
    for (value, buffer) in (1_u8..).zip(&buffers) {
        assert!(download(address(buffer), buffer.len()).iter().all(|byte| *byte == value), "{buffer:?}");
    }
    drop(buffers);
    // Nothing of nothing.
    let nothing = buffer(0, 256).expect("nothing");
    assert!(!nothing.as_ptr().is_null() && address(&nothing).is_multiple_of(256));
    drop(nothing);
    // What cannot be had is refused, and the next request works.
    let before = counters.statistics();
    for bytes in [1 << 50, isize::MAX as usize - 65536] {
        let error = buffer(bytes, 256).expect_err("no machine has as much");
        assert_eq!((error.bytes, error.align, error.device), (bytes, 256, memory.device()), "{error}");
        let said = matches!(error.reason, AllocReason::Driver { .. } | AllocReason::Unusable(_));
        assert!(error.is_out_of_memory() || said, "{error}");
    }
    for align in [0, 3, usize::MAX] {
        assert_eq!(buffer(64, align).expect_err("not an alignment").reason, AllocReason::Alignment);
    }
    assert_eq!(counters.statistics().failed_count, before.failed_count + 5);
    // Any thread may free.
    let (sender, receiver) = mpsc::channel::<(u8, Buffer)>();
    thread::scope(|scope| {
        for value in 1..=3 {
            let (sender, buffer) = (sender.clone(), &buffer);
            scope.spawn(move || {
                for bytes in [100, 70_000, 1 << 20] {
                    let buffer = buffer(bytes, 256).expect("memory");
                    upload(address(&buffer), &vec![value; bytes]);
                    sender.send((value, buffer)).expect("the receiver lives");
                }
            });
        }
        drop(sender);
        for (value, buffer) in receiver {
            assert!(download(address(&buffer), buffer.len()).iter().all(|byte| *byte == value));
        }
    });
    let now = counters.statistics();
    assert_eq!((now.current_bytes, now.current_count), (0, 0), "{now:?}");
}

#[test]
fn the_pool_conforms() {
    conforms(AsyncMemory::new(context()).expect("pools"));
}

#[test]
fn plain_device_memory_conforms() {
    conforms(DeviceMemory::new(context()));
}

#[test]
fn managed_memory_conforms() {
    conforms(ManagedMemory::new(context()));
}

#[test]
fn page_locked_memory_conforms() {
    conforms(PinnedMemory::new(context()));
}

#[test]
fn the_pool_gives_memory_back_and_can_be_exported() {
    let context = context();
    let pool = AsyncMemory::shareable(context).expect("pools");
    let stream = context.new_stream().expect("a stream");
    let block = pool.allocate(8 << 20, 256, stream.number()).expect("8 MiB");
    assert!(pool.usage().expect("usage").1 >= 8 << 20);
    // A real driver wants the pool exported first.
    let descriptor = pool.export().expect("a descriptor");
    pool.export_pointer(block.addr().get() as u64).expect("an address of the pool");
    drop(descriptor);
    // SAFETY: allocated above, and not used.
    unsafe { pool.deallocate(block, 8 << 20, 256, stream.number()) };
    context.synchronize(stream).expect("freed");
    let (reserved, used) = pool.usage().expect("usage");
    assert!(reserved >= 8 << 20 && used == 0, "{reserved} {used}: kept, because the threshold says so");
    pool.trim(0).expect("trimmed");
    assert_eq!(pool.usage().expect("usage"), (0, 0));
}

#[test]
fn page_locked_memory_is_used_again() {
    let memory = PinnedMemory::new(context());
    let first = memory.allocate(100_000, 64, Stream::NONE).expect("a block");
    // SAFETY: allocated above, and not used.
    unsafe { memory.deallocate(first, 100_000, 64, Stream::NONE) };
    let second = memory.allocate(90_000, 64, Stream::NONE).expect("a block");
    assert_eq!((first, memory.statistics().misses), (second, 1));
    // SAFETY: as above.
    unsafe { memory.deallocate(second, 90_000, 64, Stream::NONE) };
    memory.trim();
    assert_eq!(memory.statistics().reserved, 0);
}
