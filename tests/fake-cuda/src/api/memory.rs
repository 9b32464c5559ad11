//! Memory that is allocated and freed at once.

use std::ffi::c_void;

use crate::abi::DevicePtr;
use crate::entry::{driver, give};
use crate::state::{Kind, lock};
use crate::status::{Outcome, Status};
use crate::stream::wait;

/// `CU_MEMHOSTALLOC_*` that there are.
const HOST_FLAGS: u32 = 7;

/// Allocates in the current context and gives the address.
fn allocate(place_is_null: bool, kind: Kind, bytes: usize, flags: u32) -> Outcome<u64> {
    let mut state = lock();
    let device = state.current()?;
    if place_is_null {
        return Err(Status::INVALID_VALUE);
    }
    state.potentially_unsafe()?;
    state.allocate(kind, device, bytes as u64, flags)
}

/// Frees, once everything that was queued on the device is done, as the driver does.
fn free(address: u64, kinds: &[Kind]) -> Outcome {
    let mut state = lock();
    let block = state.blocks.get(&address).filter(|block| kinds.contains(&block.kind)).cloned();
    let block = block.ok_or(Status::INVALID_VALUE)?;
    state.potentially_unsafe()?;
    // Pinned memory may be in use by any device.
    let points = match block.kind {
        Kind::Device => state.device_points(block.device),
        _ => (0..state.devices.len()).flat_map(|device| state.device_points(device)).collect(),
    };
    let mut state = wait(state, &points)?;
    // Another thread may have freed it meanwhile.
    if state.blocks.get(&address).is_none_or(|now| now.id != block.id) {
        return Err(Status::INVALID_VALUE);
    }
    match block.pool {
        _ if block.imported => {
            state.blocks.remove(&address);
        }
        Some(_) => {
            state.free_to_pool(address, (0, 0));
            state.trim_all();
        }
        None => state.release(&block),
    }
    Ok(())
}

driver! {
    /// Allocates memory of the current device.
    fn cuMemAlloc_v2(place: *mut DevicePtr, bytes: usize) {
        let address = allocate(place.is_null(), Kind::Device, bytes, 0)?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, address) }
    }

    /// Frees memory of a device, or managed memory. Needs no current context.
    fn cuMemFree_v2(address: DevicePtr) {
        if address == 0 { Ok(()) } else { free(address, &[Kind::Device, Kind::Managed]) }
    }

    /// Allocates managed memory.
    fn cuMemAllocManaged(place: *mut DevicePtr, bytes: usize, flags: u32) {
        if !(1..=2).contains(&flags) {
            return Err(Status::INVALID_VALUE);
        }
        let address = allocate(place.is_null(), Kind::Managed, bytes, flags)?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, address) }
    }

    /// Allocates page-locked host memory.
    fn cuMemHostAlloc(place: *mut *mut c_void, bytes: usize, flags: u32) {
        if flags & !HOST_FLAGS != 0 {
            return Err(Status::INVALID_VALUE);
        }
        let address = allocate(place.is_null(), Kind::Pinned, bytes, flags)?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::with_exposed_provenance_mut(address as usize)) }
    }

    /// Frees page-locked host memory.
    fn cuMemFreeHost(address: *mut c_void) {
        if address.is_null() { Err(Status::INVALID_VALUE) } else { free(address.addr() as u64, &[Kind::Pinned]) }
    }

    /// Where a device sees page-locked memory: at the same address.
    fn cuMemHostGetDevicePointer_v2(place: *mut DevicePtr, address: *mut c_void, flags: u32) {
        let state = lock();
        state.current()?;
        let is_pinned = state.block(address.addr() as u64).is_some_and(|block| block.kind == Kind::Pinned);
        if flags != 0 || !is_pinned {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as the caller vouches.
        unsafe { give(place, address.addr() as u64) }
    }

    /// Free and total memory of the current device.
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let state = lock();
        let device = &state.devices[state.current()?];
        // SAFETY: as the caller vouches.
        unsafe {
            give(free, device.memory.saturating_sub(device.used) as usize)?;
            give(total, device.memory as usize)
        }
    }
}
