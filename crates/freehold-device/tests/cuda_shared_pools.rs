//! A pool of one process in another, on the driver of the tests.

#![cfg(all(target_os = "linux", not(miri)))]

#[path = "common/cuda.rs"]
mod cuda;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

use freehold_device::cuda::memory::{AsyncMemory, ImportedPool};
use freehold_device::cuda::sys::CuMemPoolPtrExportData;
use freehold_device::cuda::{Context, StreamRef};
use freehold_device::{Buffer, MemoryResource, Stream};

const BYTES: usize = 10_000;

fn copy(context: &'static Context, to: u64, from: u64, stream: StreamRef) {
    let _entered = context.enter().expect("a context");
    // SAFETY: both sides have so many bytes until the stream was waited for.
    assert_eq!(unsafe { (context.api().memory.memcpy_async)(to, from, BYTES, stream.raw()) }.0, 0);
}

fn write(context: &'static Context, to: u64, value: u8, stream: StreamRef) {
    let values = vec![value; BYTES];
    copy(context, to, values.as_ptr().expose_provenance() as u64, stream);
    context.synchronize(stream).expect("written");
}

fn read(context: &'static Context, from: u64, stream: StreamRef) -> Vec<u8> {
    let mut values = vec![0; BYTES];
    copy(context, values.as_mut_ptr().expose_provenance() as u64, from, stream);
    context.synchronize(stream).expect("read");
    values
}

fn address(buffer: &Buffer) -> u64 {
    buffer.as_ptr().addr() as u64
}

#[test]
fn an_allocation_is_found_in_the_imported_pool() {
    let (control, context) = cuda::driver();
    let pool = AsyncMemory::shareable(context).expect("pools");
    let stream = context.new_stream().expect("a stream");
    let block = pool.allocate(BYTES, 256, stream.number()).expect("memory");
    write(context, block.addr().get() as u64, 5, stream);
    let settled = control.live();
    let descriptor = pool.export().expect("a descriptor");
    let export = pool.export_pointer(block.addr().get() as u64).expect("of this pool");
    let imported = ImportedPool::open(context, descriptor.as_fd()).expect("a pool");
    drop(descriptor);
    // SAFETY: the allocation has so many bytes, is freed below last, and its writes were waited for.
    let import = |export: &CuMemPoolPtrExportData, bytes| unsafe { imported.import(export, bytes, stream) };
    let buffer = import(&export, BYTES).expect("found");
    assert_eq!((buffer.len(), buffer.resource().name(), buffer.device().id), (BYTES, "cuda-imported", 0));
    assert_ne!(address(&buffer), block.addr().get() as u64);
    assert!(read(context, address(&buffer), stream) == vec![5; BYTES]);
    write(context, address(&buffer), 7, stream);
    assert!(read(context, block.addr().get() as u64, stream) == vec![7; BYTES]);
    let again = buffer.resource().allocate(BYTES, 1, Stream::NONE).expect_err("it is one block");
    assert!(again.to_string().contains("handed out once"), "{again}");
    drop(buffer);

    // What is not of the pool, or is said to be longer than it is.
    let wrong = import(&CuMemPoolPtrExportData { reserved: [3; 64] }, BYTES).expect_err("of no pool");
    assert!(wrong.to_string().contains("cuMemPoolImportPointer"), "{wrong}");
    let wrong = import(&export, 1 << 30).expect_err("it is shorter");
    assert!(wrong.to_string().contains("CUDA_ERROR_INVALID_VALUE"), "{wrong}");
    let other = std::fs::File::open("/dev/null").expect("a file");
    let wrong = ImportedPool::open(context, other.as_fd()).expect_err("of no pool");
    assert!(wrong.to_string().contains("cuMemPoolImportFromShareableHandle"), "{wrong}");

    // Any call that fails leaves nothing behind.
    for n in 1..30 {
        control.fail_at(n, 999);
        let result = import(&export, BYTES);
        let reached = control.live().failures_left == 0;
        control.forget_failures();
        if let Err(error) = &result {
            assert!(error.to_string().contains("999"), "{error}");
        }
        drop(result);
        context.synchronize(stream).expect("freed");
        drop(import(&export, BYTES).expect("the next one works"));
        if !reached {
            assert!(n > 2, "calls fail one after the other");
            break;
        }
    }
    drop(imported);
    context.synchronize(stream).expect("freed");
    let left = control.live();
    assert_eq!((left.blocks, left.pools, left.races), (settled.blocks, settled.pools, 0));
    // SAFETY: allocated above, and used no more.
    unsafe { pool.deallocate(block, BYTES, 256, stream.number()) };
}

const CHILD: &str = "FREEHOLD_TEST_IMPORTS";

#[test]
fn another_process_reads_and_writes_it() {
    let (_control, context) = cuda::driver();
    let stream = context.new_stream().expect("a stream");
    if let Ok(given) = std::env::var(CHILD) {
        let (number, export) = given.split_once(' ').expect("a descriptor, and an allocation");
        let bytes: Vec<u8> = export.split(',').map(|byte| byte.parse().expect("a byte")).collect();
        let export = CuMemPoolPtrExportData { reserved: bytes.try_into().expect("64 bytes") };
        // SAFETY: inherited open from the process that started this one.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number.parse().expect("a number")) };
        let pool = ImportedPool::open(context, descriptor).expect("a pool");
        // SAFETY: the allocation has so many bytes, and the other process waits for this one.
        let buffer = unsafe { pool.import(&export, BYTES, stream) }.expect("found");
        assert!(read(context, address(&buffer), stream) == vec![5; BYTES]);
        write(context, address(&buffer), 9, stream);
        return;
    }
    let pool = AsyncMemory::shareable(context).expect("pools");
    let block = pool.allocate(BYTES, 256, stream.number()).expect("memory");
    write(context, block.addr().get() as u64, 5, stream);
    let descriptor = pool.export().expect("a descriptor");
    let export = pool.export_pointer(block.addr().get() as u64).expect("of this pool");
    // SAFETY: a descriptor of ours, which the child is to inherit.
    assert_eq!(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    let bytes: Vec<String> = export.reserved.iter().map(ToString::to_string).collect();
    let done = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "another_process_reads_and_writes_it", "--nocapture"])
        .env(CHILD, format!("{} {}", descriptor.as_raw_fd(), bytes.join(",")))
        .output()
        .expect("this program runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(read(context, block.addr().get() as u64, stream) == vec![9; BYTES]);
    // SAFETY: allocated above, and used no more.
    unsafe { pool.deallocate(block, BYTES, 256, stream.number()) };
}
