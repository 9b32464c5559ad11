//! Stream-ordered pools: what is reused when, what is poison when, and what is given back.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use common::{Cuda, PER_THREAD, start};
use freehold_fake_cuda::abi::{
    AccessDesc, DevicePtr, Handle, Location, PointerExport, PoolProps, pool_attribute as attribute,
};

fn properties(handle_types: u32) -> PoolProps {
    PoolProps {
        alloc_type: 1,
        handle_types,
        location: Location { kind: 1, id: 0 },
        win32_security_attributes: ptr::null_mut(),
        max_size: 0,
        usage: 0,
        reserved: [0; 54],
    }
}

fn pool(cuda: &Cuda, handle_types: u32) -> Handle {
    let properties = properties(handle_types);
    get!(cuda, cuMemPoolCreate(Handle, &raw const properties))
}

fn value(cuda: &Cuda, pool: Handle, which: u32) -> u64 {
    let mut value = 0_u64;
    ok!(cuda, cuMemPoolGetAttribute(pool, which, (&raw mut value).cast()));
    value
}

fn set(cuda: &Cuda, pool: Handle, which: u32, value: u64) {
    let mut value = value;
    ok!(cuda, cuMemPoolSetAttribute(pool, which, (&raw mut value).cast()));
}

fn from(cuda: &Cuda, pool: Handle, bytes: usize, stream: Handle) -> DevicePtr {
    get!(cuda, cuMemAllocFromPoolAsync(DevicePtr, bytes, pool, stream))
}

#[test]
fn a_use_after_the_free_finds_poison() {
    let (control, cuda, _) = start();
    let (owner, user) = (cuda.stream(), cuda.stream());
    let device = get!(cuda, cuMemAllocAsync(DevicePtr, 64, owner));
    ok!(cuda, cuMemsetD8Async(device, 1, 64, owner));
    ok!(cuda, cuStreamSynchronize(owner));
    let pinned = cuda.pinned(64);
    // The user's copy is late, and nothing makes the free wait for it.
    control.hold_stream(user, true);
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), device, 64, user));
    ok!(cuda, cuMemFreeAsync(device, owner));
    ok!(cuda, cuStreamSynchronize(owner));
    control.hold_stream(user, false);
    ok!(cuda, cuStreamSynchronize(user));
    assert_eq!(pinned, [0xDB; 64]);
    assert_eq!(status!(cuda, cuMemFreeAsync(device, owner)), 1);
    assert_eq!(status!(cuda, cuMemsetD8Async(device, 1, 64, owner)), 1);
}

#[test]
fn a_free_takes_effect_in_stream_order() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let pool = pool(&cuda, 0);
    set(&cuda, pool, attribute::RELEASE_THRESHOLD, u64::MAX);
    let device = from(&cuda, pool, 64, stream);
    let pinned = cuda.pinned(128);
    control.hold(true);
    ok!(cuda, cuMemsetD8Async(device, 1, 64, stream));
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), device, 64, stream));
    ok!(cuda, cuMemFreeAsync(device, stream));
    // The same stream gets it back at once, and sees what the one before left: poison.
    assert_eq!(from(&cuda, pool, 64, stream), device);
    ok!(cuda, cuMemcpyDtoHAsync_v2(pinned[64..].as_mut_ptr().cast(), device, 64, stream));
    control.hold(false);
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!((&pinned[..64], &pinned[64..]), (&[1; 64][..], &[0xDB; 64][..]));
}

#[test]
fn another_stream_gets_it_after_a_wait_or_gets_other_memory() {
    let (control, cuda, _) = start();
    let (first, second) = (cuda.stream(), cuda.stream());
    let pool = pool(&cuda, 0);
    set(&cuda, pool, attribute::RELEASE_THRESHOLD, u64::MAX);
    let device = from(&cuda, pool, 64, first);
    control.hold_stream(first, true);
    ok!(cuda, cuMemFreeAsync(device, first));
    set(&cuda, pool, attribute::REUSE_ALLOW_INTERNAL_DEPENDENCIES, 0);
    let other = from(&cuda, pool, 64, second);
    assert_ne!(other, device);
    set(&cuda, pool, attribute::REUSE_ALLOW_INTERNAL_DEPENDENCIES, 1);
    assert_eq!(from(&cuda, pool, 64, second), device);
    assert_eq!(status!(cuda, cuStreamQuery(second)), 600, "it waits for the free");
    control.hold_stream(first, false);
    ok!(cuda, cuStreamSynchronize(second));
    // Done, it is free for everybody.
    ok!(cuda, cuMemFreeAsync(device, second));
    ok!(cuda, cuStreamSynchronize(second));
    set(&cuda, pool, attribute::REUSE_ALLOW_INTERNAL_DEPENDENCIES, 0);
    assert_eq!(from(&cuda, pool, 64, first), device);
}

#[test]
fn what_is_above_the_threshold_goes_back_at_a_synchronisation() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let pool = pool(&cuda, 0);
    let count = |which| value(&cuda, pool, which);
    let (a, b) = (from(&cuda, pool, 1000, stream), from(&cuda, pool, 3000, stream));
    assert_eq!((count(attribute::USED_MEM_CURRENT), count(attribute::RESERVED_MEM_CURRENT)), (4096, 4096));
    ok!(cuda, cuMemFreeAsync(a, stream));
    assert_eq!((count(attribute::USED_MEM_CURRENT), count(attribute::RESERVED_MEM_CURRENT)), (3072, 4096));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!(count(attribute::RESERVED_MEM_CURRENT), 3072);
    set(&cuda, pool, attribute::RELEASE_THRESHOLD, u64::MAX);
    ok!(cuda, cuMemFreeAsync(b, stream));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!((count(attribute::USED_MEM_CURRENT), count(attribute::RESERVED_MEM_CURRENT)), (0, 3072));
    assert_eq!((count(attribute::USED_MEM_HIGH), control.live().device_bytes), (4096, 3072));
    set(&cuda, pool, attribute::USED_MEM_HIGH, 0);
    assert_eq!(count(attribute::USED_MEM_HIGH), 0);
    ok!(cuda, cuMemPoolTrimTo(pool, 0));
    assert_eq!((count(attribute::RESERVED_MEM_CURRENT), control.live().device_bytes), (0, 0));
    let mut one = 1_u64;
    for which in [attribute::USED_MEM_HIGH, attribute::USED_MEM_CURRENT, 99] {
        assert_eq!(status!(cuda, cuMemPoolSetAttribute(pool, which, (&raw mut one).cast())), 1, "{which}");
    }
}

#[test]
fn a_pool_that_is_destroyed_goes_with_its_last_allocation() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let pool = pool(&cuda, 0);
    let device = from(&cuda, pool, 64, stream);
    ok!(cuda, cuMemPoolDestroy(pool));
    let mut place = 0;
    assert_eq!(status!(cuda, cuMemAllocFromPoolAsync(&raw mut place, 64, pool, stream)), 1);
    assert_eq!(status!(cuda, cuMemPoolDestroy(pool)), 1);
    assert_eq!(control.live().pools, 1);
    ok!(cuda, cuMemFreeAsync(device, stream));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!((control.live().pools, control.live().device_bytes), (0, 0));
    let default = get!(cuda, cuDeviceGetDefaultMemPool(Handle, 0));
    assert_eq!(status!(cuda, cuMemPoolDestroy(default)), 1);
}

#[test]
fn memory_that_pools_keep_is_given_up_before_memory_ends() {
    let (control, cuda, _) = start();
    control.set_memory(0, 1 << 20);
    let stream = cuda.stream();
    let (greedy, other) = (pool(&cuda, 0), pool(&cuda, 0));
    set(&cuda, greedy, attribute::RELEASE_THRESHOLD, u64::MAX);
    let device = from(&cuda, greedy, 900 << 10, stream);
    let mut place = 0;
    assert_eq!(status!(cuda, cuMemAllocFromPoolAsync(&raw mut place, 200 << 10, other, stream)), 2);
    ok!(cuda, cuMemFreeAsync(device, stream));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!(status!(cuda, cuMemAlloc_v2(&raw mut place, 200 << 10)), 2, "cuMemAlloc does not ask the pools");
    ok!(cuda, cuMemAllocFromPoolAsync(&raw mut place, 200 << 10, other, stream));
    let mut limited = properties(0);
    limited.max_size = 4096;
    let limited = get!(cuda, cuMemPoolCreate(Handle, &raw const limited));
    assert_eq!(status!(cuda, cuMemAllocFromPoolAsync(&raw mut place, 4097, limited, stream)), 2);
    ok!(cuda, cuMemAllocFromPoolAsync(&raw mut place, 4096, limited, PER_THREAD));
}

#[test]
fn either_way_of_freeing_takes_either_kind_of_memory() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let (plain, pooled) = (cuda.alloc(64), get!(cuda, cuMemAllocAsync(DevicePtr, 64, stream)));
    ok!(cuda, cuMemFreeAsync(plain, stream));
    ok!(cuda, cuMemFree_v2(pooled));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!((control.live().blocks, control.live().device_bytes), (0, 0));
}

#[test]
fn what_cannot_be_a_pool_is_refused() {
    let (control, cuda, _) = start();
    let mut place = ptr::null_mut();
    let bad = [
        PoolProps { alloc_type: 0, ..properties(0) },
        PoolProps { handle_types: 2, ..properties(0) },
        PoolProps { location: Location { kind: 2, id: 0 }, ..properties(0) },
        PoolProps { reserved: [1; 54], ..properties(0) },
    ];
    for properties in &bad {
        assert_eq!(status!(cuda, cuMemPoolCreate(&raw mut place, properties)), 1, "{properties:?}");
    }
    let nowhere = PoolProps { location: Location { kind: 1, id: 5 }, ..properties(0) };
    assert_eq!(status!(cuda, cuMemPoolCreate(&raw mut place, &raw const nowhere)), 101);
    control.set_attribute(0, 115, 0);
    assert_eq!(status!(cuda, cuMemPoolCreate(&raw mut place, &raw const *bad.first().expect("four"))), 1);
    assert_eq!(status!(cuda, cuDeviceGetDefaultMemPool(&raw mut place, 0)), 801);
    let mut address = 0;
    assert_eq!(status!(cuda, cuMemAllocAsync(&raw mut address, 64, PER_THREAD)), 801);
}

#[test]
fn a_pool_is_shared_by_its_descriptor() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let (shared, closed) = (pool(&cuda, 1), pool(&cuda, 0));
    let mut file = -1_i32;
    let export = |pool, file: *mut i32| status!(cuda, cuMemPoolExportToShareableHandle(file.cast(), pool, 1, 0));
    assert_eq!(export(closed, &raw mut file), 1);
    assert_eq!(export(shared, &raw mut file), 0);
    let handle = ptr::without_provenance_mut(file as usize);
    let imported = get!(cuda, cuMemPoolImportFromShareableHandle(Handle, handle, 1, 0));
    // SAFETY: the driver opened it for us.
    drop(unsafe { OwnedFd::from_raw_fd(file) });
    from(&cuda, shared, 64, stream);
    let device = from(&cuda, shared, 64, stream);
    let mut ticket = PointerExport { reserved: [0; 64] };
    ok!(cuda, cuMemPoolExportPointer(&raw mut ticket, device));
    let there = get!(cuda, cuMemPoolImportPointer(DevicePtr, imported, &raw mut ticket));
    assert_ne!(there, device);
    cuda.upload(device, &[8; 64], stream);
    assert_eq!(cuda.download(there, 64, stream), [8; 64], "one memory at two addresses");
    let mut place = 0;
    assert_eq!(status!(cuda, cuMemAllocFromPoolAsync(&raw mut place, 64, imported, stream)), 1);
    assert_eq!(status!(cuda, cuMemPoolImportPointer(&raw mut place, shared, &raw mut ticket)), 1);
    ticket.reserved[0] ^= 1;
    assert_eq!(status!(cuda, cuMemPoolImportPointer(&raw mut place, imported, &raw mut ticket)), 1);
    ok!(cuda, cuMemFreeAsync(there, stream));
    ok!(cuda, cuStreamSynchronize(stream));
    assert_eq!(control.peek(device, 64), [8; 64], "freed by who imported it, it is still there");
    assert_eq!(status!(cuda, cuMemPoolImportFromShareableHandle(&mut ptr::null_mut(), handle, 1, 0)), 1, "closed");
}

#[test]
fn access_is_for_devices_that_there_are() {
    let (_, cuda, _) = start();
    let pool = pool(&cuda, 0);
    let access = |id, flags| AccessDesc { location: Location { kind: 1, id }, flags };
    ok!(cuda, cuMemPoolSetAccess(pool, &access(1, 3), 1));
    ok!(cuda, cuMemPoolSetAccess(pool, &access(1, 0), 1));
    assert_eq!(status!(cuda, cuMemPoolSetAccess(pool, &access(0, 0), 1)), 1);
    assert_eq!(status!(cuda, cuMemPoolSetAccess(pool, &access(2, 3), 1)), 101);
    assert_eq!(status!(cuda, cuMemPoolSetAccess(pool, &access(1, 1), 1)), 1);
}
