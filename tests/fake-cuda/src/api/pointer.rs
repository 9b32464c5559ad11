//! Whose memory a pointer is.

use std::ffi::c_void;

use crate::abi::{DevicePtr, memory_type, pointer_attribute as attribute};
use crate::entry::{driver, give};
use crate::state::{Block, Kind, State, lock};
use crate::status::{Outcome, Status};

/// What `DEVICE_ORDINAL` is for memory that the driver does not know.
const NO_DEVICE: i32 = -2;

/// Writes one attribute; of memory that is not known, what stands for nothing.
///
/// # Safety
///
/// * `place` is a place of the attribute's type.
unsafe fn write(state: &State, which: u32, place: *mut c_void, address: u64, block: Option<&Block>) -> Outcome {
    let context = |block: &Block| match (block.kind, block.pool) {
        (Kind::Device, Some(_)) => 0,
        _ => State::context_handle(block.device),
    };
    let kind = |block: &Block| if block.kind == Kind::Pinned { memory_type::HOST } else { memory_type::DEVICE };
    let handle_types = |block: &Block| {
        let pool = block.pool.and_then(|pool| state.pools.get(&pool));
        u64::from(pool.map_or(0, |pool| pool.handle_types))
    };
    // SAFETY: the caller gives a place of the attribute's type, which is the type written.
    unsafe {
        match which {
            attribute::CONTEXT => give(place.cast(), block.map_or(0, context)),
            attribute::MEMORY_TYPE => give(place.cast(), block.map_or(0, kind)),
            attribute::DEVICE_POINTER => give(place.cast(), block.map_or(0, |_| address)),
            attribute::HOST_POINTER => {
                give(place.cast(), block.filter(|block| block.kind != Kind::Device).map_or(0, |_| address))
            }
            attribute::SYNC_MEMOPS => give(place.cast(), 0_i32),
            attribute::BUFFER_ID => give(place.cast(), block.map_or(0, |block| block.id)),
            attribute::IS_MANAGED => give(place.cast(), i32::from(block.is_some_and(|b| b.kind == Kind::Managed))),
            attribute::DEVICE_ORDINAL => give(place.cast(), block.map_or(NO_DEVICE, |block| block.device as i32)),
            attribute::IS_LEGACY_CUDA_IPC_CAPABLE => {
                let capable = block.is_some_and(|block| block.kind == Kind::Device && block.pool.is_none());
                give(place.cast(), i32::from(capable))
            }
            attribute::RANGE_START_ADDR => give(place.cast(), block.map_or(0, |block| block.start)),
            attribute::RANGE_SIZE => give(place.cast(), block.map_or(0, |block| block.len as usize)),
            attribute::MAPPED => give(place.cast(), i32::from(block.is_some())),
            attribute::ALLOWED_HANDLE_TYPES => give(place.cast(), block.map_or(0, handle_types)),
            attribute::MEMPOOL_HANDLE => give(place.cast(), block.and_then(|block| block.pool).unwrap_or(0)),
            _ => Err(Status::INVALID_VALUE),
        }
    }
}

driver! {
    /// One attribute. An address that the driver does not know is an error here.
    fn cuPointerGetAttribute(place: *mut c_void, which: u32, address: DevicePtr) {
        let state = lock();
        let block = state.block(address);
        if place.is_null() || block.is_none() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as the caller vouches.
        unsafe { write(&state, which, place, address, block) }
    }

    /// Several attributes. An address that the driver does not know gives nothing, and is no error.
    fn cuPointerGetAttributes(count: u32, which: *const u32, places: *const *mut c_void, address: DevicePtr) {
        if count == 0 || which.is_null() || places.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let state = lock();
        let block = state.block(address);
        for i in 0..count as usize {
            // SAFETY: the caller gives as many of each as it says.
            let (which, place) = unsafe { (which.add(i).read(), places.add(i).read()) };
            // SAFETY: the caller gives a place of the attribute's type.
            unsafe { write(&state, which, place, address, block) }?;
        }
        Ok(())
    }
}
