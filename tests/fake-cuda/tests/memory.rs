//! Memory: who may touch it, what is in it, how much there is, and whose a pointer is.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ffi::c_void;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use common::{Control, Cuda, start};
use freehold_fake_cuda::abi::{DevicePtr, Handle, pointer_attribute as attribute};

/// Set in the processes that `dies_of` starts.
const CHILD: &str = "FREEHOLD_TEST_CHILD";

/// Runs `body` in a process of its own, which must die of a signal.
fn dies_of(test: &str, signal: i32, body: fn()) {
    if std::env::var_os(CHILD).is_some() {
        body();
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("the path of this program"));
    let output = child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().expect("this program runs");
    assert_eq!(output.status.signal(), Some(signal), "{}", String::from_utf8_lossy(&output.stderr));
}

fn read_byte(address: u64) -> u8 {
    // SAFETY: none: in these tests the process dies of it, or the memory is the host's.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() }
}

#[test]
fn the_host_cannot_read_device_memory() {
    dies_of("the_host_cannot_read_device_memory", libc::SIGSEGV, || {
        let (_, cuda, _) = start();
        read_byte(cuda.alloc(64));
    });
}

#[test]
fn the_host_cannot_read_memory_of_a_pool() {
    dies_of("the_host_cannot_read_memory_of_a_pool", libc::SIGSEGV, || {
        let (_, cuda, _) = start();
        read_byte(get!(cuda, cuMemAllocAsync(DevicePtr, 64, cuda.stream())));
    });
}

#[test]
fn the_host_cannot_read_pinned_memory_that_was_freed() {
    dies_of("the_host_cannot_read_pinned_memory_that_was_freed", libc::SIGSEGV, || {
        let (_, cuda, _) = start();
        let pinned = cuda.pinned(64);
        assert_eq!(pinned[0], 0xCD, "before, it can");
        ok!(cuda, cuMemFreeHost(pinned.as_mut_ptr().cast()));
        read_byte(pinned.as_ptr().addr() as u64);
    });
}

#[test]
fn a_driver_that_is_called_while_the_process_exits_can_abort_it() {
    extern "C" fn late() {
        let cuda = Cuda::of(Control::built());
        let mut count = 0;
        assert_eq!(status!(cuda, cuDeviceGetCount(&raw mut count)), 4);
        std::process::abort();
    }
    dies_of("a_driver_that_is_called_while_the_process_exits_can_abort_it", libc::SIGABRT, || {
        // Registered first, so that it runs after the driver's own.
        // SAFETY: the function is `extern "C"` and does not return.
        unsafe { libc::atexit(late) };
        start();
        std::process::exit(0);
    });
}

#[test]
fn managed_memory_is_the_hosts_and_the_devices() {
    let (_, cuda, _) = start();
    let managed = get!(cuda, cuMemAllocManaged(DevicePtr, 16, 1));
    let stream = cuda.stream();
    ok!(cuda, cuMemsetD8Async(managed, 6, 16, stream));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!(read_byte(managed + 15), 6);
    let mut place = 0;
    assert_eq!(status!(cuda, cuMemAllocManaged(&raw mut place, 16, 0)), 1, "global or host");
    ok!(cuda, cuMemFree_v2(managed));
    assert_eq!(status!(cuda, cuMemFree_v2(managed)), 1);
}

#[test]
fn memory_ends_and_comes_back() {
    let (control, cuda, _) = start();
    control.set_memory(0, 1 << 20);
    let mut second = 0;
    let first = cuda.alloc(700 << 10);
    assert_eq!(status!(cuda, cuMemAlloc_v2(&raw mut second, 400 << 10)), 2);
    assert_eq!((second, status!(cuda, cuMemAlloc_v2(&raw mut second, usize::MAX))), (0, 2));
    let (mut free, mut total) = (0, 0);
    ok!(cuda, cuMemGetInfo_v2(&raw mut free, &raw mut total));
    assert_eq!((free, total), (324 << 10, 1 << 20));
    ok!(cuda, cuMemFree_v2(first));
    assert_eq!(cuda.alloc(400 << 10), first, "the address is used again at once");
    assert_eq!(status!(cuda, cuMemAlloc_v2(&raw mut second, 0)), 1);
    control.set_pinned_limit(8192);
    let mut host: *mut c_void = std::ptr::null_mut();
    ok!(cuda, cuMemHostAlloc(&raw mut host, 8192, 1));
    assert_eq!(status!(cuda, cuMemHostAlloc(&raw mut host, 1, 0)), 2);
    assert_eq!(status!(cuda, cuMemHostAlloc(&raw mut host, 1, 8)), 1, "no such flag");
    assert_eq!(control.live().pinned_bytes, 8192);
}

#[test]
fn memory_that_was_freed_is_poison() {
    let (control, cuda, _) = start();
    let (device, stream) = (cuda.alloc(600), cuda.stream());
    assert_eq!(device % 512, 0);
    ok!(cuda, cuMemsetD8Async(device, 1, 600, stream));
    ok!(cuda, cuMemFree_v2(device));
    assert_eq!(control.peek(device, 600), [0xDB; 600]);
    assert_eq!(status!(cuda, cuMemsetD8Async(device, 1, 1, stream)), 1, "nobody has it");
    ok!(cuda, cuMemFree_v2(0));
    assert_eq!(status!(cuda, cuMemFree_v2(device + 1)), 1);
    assert_eq!(status!(cuda, cuMemFreeHost(std::ptr::null_mut())), 1);
}

#[test]
fn freeing_waits_for_the_device() {
    let (control, cuda, _) = start();
    let (device, stream, other) = (cuda.alloc(16), cuda.stream(), cuda.alloc(16));
    control.set_stream_delay(stream, Duration::from_millis(20));
    ok!(cuda, cuMemsetD8Async(other, 1, 16, stream));
    ok!(cuda, cuMemFree_v2(device));
    assert_eq!((control.live().pending, control.peek(other, 1)), (0, vec![1]));
}

#[test]
fn ranges_that_leave_an_allocation_are_refused() {
    let (_, cuda, _) = start();
    let (device, stream, next) = (cuda.alloc(100), cuda.stream(), cuda.alloc(100));
    let mut host = [0_u8; 128];
    let at = host.as_mut_ptr();
    assert_eq!(next, device + 512);
    assert_eq!(status!(cuda, cuMemcpyHtoDAsync_v2(device + 90, at.cast(), 11, stream)), 1);
    assert_eq!(status!(cuda, cuMemcpyDtoHAsync_v2(at.cast(), device, 101, stream)), 1);
    assert_eq!(status!(cuda, cuMemcpyDtoDAsync_v2(device, next, 101, stream)), 1);
    assert_eq!(status!(cuda, cuMemcpyDtoDAsync_v2(device, at.addr() as u64, 1, stream)), 1, "host memory");
    assert_eq!(status!(cuda, cuMemcpyHtoDAsync_v2(device, std::ptr::without_provenance(next as usize), 1, stream)), 1);
    assert_eq!(status!(cuda, cuMemsetD8Async(device, 0, 101, stream)), 1);
    ok!(cuda, cuMemcpyHtoDAsync_v2(device + 90, at.cast(), 10, stream));
    ok!(cuda, cuMemcpyHtoDAsync_v2(0, std::ptr::null(), 0, stream));
}

/// The attributes that the runtime asks for, of one address.
fn attributes(cuda: &Cuda, address: u64) -> (usize, u32, u64, u64, i32, i32, u64, usize) {
    let which = [
        attribute::CONTEXT,
        attribute::MEMORY_TYPE,
        attribute::DEVICE_POINTER,
        attribute::HOST_POINTER,
        attribute::IS_MANAGED,
        attribute::DEVICE_ORDINAL,
        attribute::RANGE_START_ADDR,
        attribute::RANGE_SIZE,
    ];
    let (mut context, mut kind, mut device, mut host) = (9_usize, 9_u32, 9_u64, 9_u64);
    let (mut managed, mut ordinal, mut start, mut size) = (9_i32, 9_i32, 9_u64, 9_usize);
    let places: [*mut c_void; 8] = [
        (&raw mut context).cast(),
        (&raw mut kind).cast(),
        (&raw mut device).cast(),
        (&raw mut host).cast(),
        (&raw mut managed).cast(),
        (&raw mut ordinal).cast(),
        (&raw mut start).cast(),
        (&raw mut size).cast(),
    ];
    ok!(cuda, cuPointerGetAttributes(8, which.as_ptr(), places.as_ptr(), address));
    (context, kind, device, host, managed, ordinal, start, size)
}

#[test]
fn a_pointer_says_whose_it_is() {
    let (_, cuda, context) = start();
    let context = context.addr();
    let stream = cuda.stream();
    let device = cuda.alloc(100);
    assert_eq!(attributes(&cuda, device + 7), (context, 2, device + 7, 0, 0, 0, device, 100));
    let pinned = cuda.pinned(100).as_ptr().addr() as u64;
    assert_eq!(attributes(&cuda, pinned + 7), (context, 1, pinned + 7, pinned + 7, 0, 0, pinned, 100));
    let managed = get!(cuda, cuMemAllocManaged(DevicePtr, 100, 1));
    assert_eq!(attributes(&cuda, managed + 7), (context, 2, managed + 7, managed + 7, 1, 0, managed, 100));
    let pooled = get!(cuda, cuMemAllocAsync(DevicePtr, 100, stream));
    assert_eq!(attributes(&cuda, pooled + 7), (0, 2, pooled + 7, 0, 0, 0, pooled, 100));
    let host = 0_u8;
    let unknown = (0, 0, 0, 0, 0, -2, 0, 0);
    assert_eq!(attributes(&cuda, (&raw const host).addr() as u64), unknown);
    ok!(cuda, cuMemFree_v2(device));
    assert_eq!(attributes(&cuda, device), unknown);
    // One attribute alone is an error for what is not known.
    let one = |which: u32, address: u64| {
        let mut value = 0_u64;
        (status!(cuda, cuPointerGetAttribute((&raw mut value).cast(), which, address)), value)
    };
    assert_eq!(one(attribute::MEMORY_TYPE, device).0, 1);
    assert_eq!(one(99, pooled).0, 1);
    let pool = get!(cuda, cuDeviceGetDefaultMemPool(Handle, 0));
    assert_eq!(one(attribute::MEMPOOL_HANDLE, pooled), (0, pool.addr() as u64));
    assert_eq!(one(attribute::IS_LEGACY_CUDA_IPC_CAPABLE, pooled), (0, 0));
    assert_eq!(one(attribute::IS_LEGACY_CUDA_IPC_CAPABLE, cuda.alloc(1)), (0, 1));
    // The address is used again, the number is not.
    let again = cuda.alloc(100);
    let first = one(attribute::BUFFER_ID, again).1;
    ok!(cuda, cuMemFree_v2(again));
    assert_eq!(cuda.alloc(100), again);
    assert!(one(attribute::BUFFER_ID, again).1 > first && first > 0);
}
