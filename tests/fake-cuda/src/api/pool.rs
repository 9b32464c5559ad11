//! Stream-ordered pools.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};

use crate::abi::{AccessDesc, DevicePtr, Handle, PointerExport, PoolProps, pool_attribute};
use crate::arena::Arena;
use crate::entry::{driver, give};
use crate::state::{Block, Kind, Locked, lock};
use crate::status::{Outcome, Status};

/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
const POSIX_FD: u32 = 1;
/// What an export of a pointer begins with.
const EXPORT: u64 = 0x6672_6565_686f_6c64;

/// The state, if a device has pools.
fn with_pools(device: usize) -> Outcome<Locked> {
    let state = lock();
    match state.attribute(device, 115) {
        Ok(value) if value != 0 => Ok(state),
        _ => Err(Status::NOT_SUPPORTED),
    }
}

/// Allocates from a pool, or from the default pool of the stream's device.
fn allocate(place: *mut DevicePtr, bytes: usize, pool: Option<usize>, stream: usize) -> Outcome<u64> {
    let mut state = lock();
    if place.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let key = state.stream_key(stream)?;
    let device = state.streams[&key].device;
    drop(state);
    let mut state = with_pools(device)?;
    if !state.streams.contains_key(&key) {
        return Err(Status::INVALID_HANDLE);
    }
    state.usable(device)?;
    state.legacy_is_free(key)?;
    let pool = match pool {
        Some(pool) => pool,
        None => state.default_pool(device)?,
    };
    state.allocate_async(pool, key, bytes as u64)
}

driver! {
    /// The pool of a device that is there without being made.
    fn cuDeviceGetDefaultMemPool(place: *mut Handle, device: i32) {
        let device = lock().device(device)?;
        let pool = with_pools(device)?.default_pool(device)?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(pool)) }
    }

    /// Makes a pool.
    fn cuMemPoolCreate(place: *mut Handle, properties: *const PoolProps) {
        if place.is_null() || properties.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as the caller vouches.
        let properties = unsafe { properties.read_unaligned() };
        let clean = properties.reserved.iter().all(|&byte| byte == 0) && properties.usage == 0;
        let fits = properties.alloc_type == 1 && properties.location.kind == 1 && properties.handle_types & !POSIX_FD == 0;
        if !clean || !fits {
            return Err(Status::INVALID_VALUE);
        }
        let device = lock().device(properties.location.id)?;
        let mut state = with_pools(device)?;
        state.potentially_unsafe()?;
        let pool = state.add_pool(device, properties.handle_types, properties.max_size as u64, None)?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(pool)) }
    }

    /// Destroys a pool: at once, or with its last allocation.
    fn cuMemPoolDestroy(pool: Handle) {
        let mut state = lock();
        state.potentially_unsafe()?;
        state.destroy_pool(pool.addr())
    }

    /// Sets an attribute of a pool.
    fn cuMemPoolSetAttribute(pool: Handle, which: u32, value: *mut c_void) {
        let mut state = lock();
        state.potentially_unsafe()?;
        let pool = state.pool(pool.addr())?;
        if value.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let value = if which < pool_attribute::RELEASE_THRESHOLD {
            // SAFETY: as the caller vouches: these are ints.
            u64::from(unsafe { value.cast::<u32>().read_unaligned() })
        } else {
            // SAFETY: and the others are of 64 bits.
            unsafe { value.cast::<u64>().read_unaligned() }
        };
        pool.set_attribute(which, value)
    }

    /// An attribute of a pool.
    fn cuMemPoolGetAttribute(pool: Handle, which: u32, value: *mut c_void) {
        let mut state = lock();
        state.potentially_unsafe()?;
        let (found, wide) = state.pool(pool.addr())?.attribute(which)?;
        // SAFETY: as the caller vouches, for the attribute's type.
        unsafe { if wide { give(value.cast(), found) } else { give(value.cast(), found as u32) } }
    }

    /// Gives back to the device what a pool keeps, down to so many bytes.
    fn cuMemPoolTrimTo(pool: Handle, keep: usize) {
        let mut state = lock();
        state.potentially_unsafe()?;
        state.pool(pool.addr())?;
        state.trim(pool.addr(), keep as u64);
        Ok(())
    }

    /// Lets other devices use the memory of a pool.
    fn cuMemPoolSetAccess(pool: Handle, access: *const AccessDesc, count: usize) {
        let mut state = lock();
        let owner = state.pool(pool.addr())?.device;
        if access.is_null() || count == 0 {
            return Err(Status::INVALID_VALUE);
        }
        for i in 0..count {
            // SAFETY: the caller gives as many.
            let access = unsafe { access.add(i).read_unaligned() };
            let device = state.device(access.location.id)?;
            // Its own device cannot be shut out; access is for reading and writing, or none.
            let bad = access.location.kind != 1 || !matches!(access.flags, 0 | 3) || (device == owner && access.flags == 0);
            if bad {
                return Err(Status::INVALID_VALUE);
            }
            let pool = state.pool(pool.addr())?;
            if access.flags == 0 { pool.access.remove(&device) } else { pool.access.insert(device) };
        }
        Ok(())
    }

    /// Allocates from the default pool in the order of a stream.
    fn cuMemAllocAsync(place: *mut DevicePtr, bytes: usize, stream: Handle) {
        let address = allocate(place, bytes, None, stream.addr())?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, address) }
    }

    /// Allocates from a pool in the order of a stream.
    fn cuMemAllocFromPoolAsync(place: *mut DevicePtr, bytes: usize, pool: Handle, stream: Handle) {
        let address = allocate(place, bytes, Some(pool.addr()), stream.addr())?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, address) }
    }

    /// Frees in the order of a stream.
    fn cuMemFreeAsync(address: DevicePtr, stream: Handle) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        state.free_async(address, key)
    }

    /// A descriptor through which another process gets the pool.
    fn cuMemPoolExportToShareableHandle(place: *mut c_void, pool: Handle, kind: u32, flags: u64) {
        let mut state = lock();
        let pool = state.pool(pool.addr())?;
        if place.is_null() || kind != POSIX_FD || flags != 0 || pool.handle_types & POSIX_FD == 0 || pool.imported {
            return Err(Status::INVALID_VALUE);
        }
        let arena = pool.arena.as_ref().ok_or(Status::INVALID_VALUE)?;
        let file = arena.file().try_clone().map_err(|_| Status::OPERATING_SYSTEM)?;
        // SAFETY: as the caller vouches: an int.
        unsafe { give(place.cast(), file.into_raw_fd()) }
    }

    /// A pool of another process, by its descriptor, which stays the caller's.
    fn cuMemPoolImportFromShareableHandle(place: *mut Handle, file: Handle, kind: u32, flags: u64) {
        if place.is_null() || kind != POSIX_FD || flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        let mut state = lock();
        let device = state.current()?;
        let number = i32::try_from(file.addr()).map_err(|_| Status::INVALID_VALUE)?;
        // SAFETY: only to ask whether it is open.
        if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: open, as was asked; the caller keeps it open during the call.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        debug_assert!(file.as_raw_fd() == number);
        let file = file.try_clone_to_owned().map_err(|_| Status::OPERATING_SYSTEM)?;
        let arena = Arena::of(file).ok_or(Status::INVALID_VALUE)?;
        let pool = state.add_pool(device, POSIX_FD, 0, Some(arena))?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(pool)) }
    }

    /// What another process imports one allocation of a pool from.
    fn cuMemPoolExportPointer(place: *mut PointerExport, address: DevicePtr) {
        let mut state = lock();
        let block = state.block(address).filter(|block| !block.imported).cloned().ok_or(Status::INVALID_VALUE)?;
        let pool = state.pool(block.pool.ok_or(Status::INVALID_VALUE)?)?;
        let arena = pool.arena.as_ref().ok_or(Status::INVALID_VALUE)?;
        let mut export = PointerExport { reserved: [0; 64] };
        for (i, word) in [EXPORT, block.start - arena.start(), block.len].into_iter().enumerate() {
            export.reserved[8 * i..8 * i + 8].copy_from_slice(&word.to_ne_bytes());
        }
        // SAFETY: as the caller vouches.
        unsafe { give(place, export) }
    }

    /// An allocation of another process's pool.
    fn cuMemPoolImportPointer(place: *mut DevicePtr, pool: Handle, export: *mut PointerExport) {
        if place.is_null() || export.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as the caller vouches.
        let export = unsafe { export.read_unaligned() };
        let word = |i: usize| u64::from_ne_bytes(export.reserved[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        let (magic, offset, len) = (word(0), word(1), word(2));
        let mut state = lock();
        let found = state.pool(pool.addr())?;
        let (device, arena) = (found.device, found.arena.as_ref().filter(|_| found.imported).ok_or(Status::INVALID_VALUE)?);
        let fits = offset.checked_add(len).is_some_and(|end| end <= arena.size());
        if magic != EXPORT || len == 0 || !fits {
            return Err(Status::INVALID_VALUE);
        }
        let start = arena.start() + offset;
        let id = state.number();
        let block = Block {
            start,
            len,
            room: len,
            kind: Kind::Device,
            device,
            id,
            pool: Some(pool.addr()),
            flags: 0,
            graph: None,
            imported: true,
        };
        state.blocks.insert(start, block);
        // SAFETY: as the caller vouches.
        unsafe { give(place, start) }
    }
}
