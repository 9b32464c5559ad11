//! Initialisation and devices.

use std::ffi::c_char;

use crate::entry::{self, driver, give};
use crate::state::{State, lock};
use crate::status::{Outcome, Status};

/// Attributes of every device here, as an H100 has them where a value matters: number, value.
const ATTRIBUTES: [(i32, i32); 33] = [
    (1, 1024),          // MAX_THREADS_PER_BLOCK
    (2, 1024),          // MAX_BLOCK_DIM_X
    (3, 1024),          // MAX_BLOCK_DIM_Y
    (4, 64),            // MAX_BLOCK_DIM_Z
    (5, 2_147_483_647), // MAX_GRID_DIM_X
    (6, 65_535),        // MAX_GRID_DIM_Y
    (7, 65_535),        // MAX_GRID_DIM_Z
    (8, 49_152),        // MAX_SHARED_MEMORY_PER_BLOCK
    (9, 65_536),        // TOTAL_CONSTANT_MEMORY
    (10, 32),           // WARP_SIZE
    (12, 65_536),       // MAX_REGISTERS_PER_BLOCK
    (15, 1),            // GPU_OVERLAP
    (16, 8),            // MULTIPROCESSOR_COUNT
    (19, 1),            // CAN_MAP_HOST_MEMORY
    (31, 1),            // CONCURRENT_KERNELS
    (38, 1 << 20),      // L2_CACHE_SIZE
    (39, 2048),         // MAX_THREADS_PER_MULTIPROCESSOR
    (40, 3),            // ASYNC_ENGINE_COUNT
    (41, 1),            // UNIFIED_ADDRESSING
    (75, 9),            // COMPUTE_CAPABILITY_MAJOR
    (76, 0),            // COMPUTE_CAPABILITY_MINOR
    (78, 1),            // STREAM_PRIORITIES_SUPPORTED
    (81, 233_472),      // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    (82, 65_536),       // MAX_REGISTERS_PER_MULTIPROCESSOR
    (83, 1),            // MANAGED_MEMORY
    (89, 1),            // CONCURRENT_MANAGED_ACCESS
    (90, 1),            // COMPUTE_PREEMPTION_SUPPORTED
    (91, 1),            // CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
    (97, 232_448),      // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    (102, 0),           // VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: not modelled
    (106, 32),          // MAX_BLOCKS_PER_MULTIPROCESSOR
    (115, 1),           // MEMORY_POOLS_SUPPORTED
    (119, 1),           // MEMPOOL_SUPPORTED_HANDLE_TYPES: POSIX_FILE_DESCRIPTOR
];

/// The attribute that is the last one of CUDA 12.8; those between that are not listed are 0.
const LAST_ATTRIBUTE: i32 = 140;

impl State {
    /// An attribute of a device.
    pub fn attribute(&self, device: usize, attribute: i32) -> Outcome<i32> {
        if let Some(&value) = self.devices[device].attributes.get(&attribute) {
            return Ok(value);
        }
        // Pools came with 11.2: an older driver does not know the question.
        let unknown = attribute >= 115 && self.version < 11020;
        if !(1..=LAST_ATTRIBUTE).contains(&attribute) || unknown {
            return Err(Status::INVALID_VALUE);
        }
        if attribute == 33 {
            return Ok(device as i32 + 1); // PCI_BUS_ID
        }
        Ok(ATTRIBUTES.iter().find(|(number, _)| *number == attribute).map_or(0, |&(_, value)| value))
    }
}

driver! {
    /// Starts the driver.
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        if lock().devices.is_empty() {
            return Err(Status::NO_DEVICE);
        }
        entry::initialised();
        Ok(())
    }

    /// The version of CUDA that the driver is for.
    fn cuDriverGetVersion(version: *mut i32) {
        // SAFETY: as the caller vouches.
        unsafe { give(version, lock().version) }
    }

    /// How many devices there are.
    fn cuDeviceGetCount(count: *mut i32) {
        // SAFETY: as the caller vouches.
        unsafe { give(count, lock().devices.len() as i32) }
    }

    /// The device of an ordinal.
    fn cuDeviceGet(device: *mut i32, ordinal: i32) {
        let found = lock().device(ordinal)?;
        // SAFETY: as the caller vouches.
        unsafe { give(device, found as i32) }
    }

    /// The name of a device, cut to the room there is.
    fn cuDeviceGetName(name: *mut c_char, len: i32, device: i32) {
        let ordinal = lock().device(device)?;
        if name.is_null() || len <= 0 {
            return Err(Status::INVALID_VALUE);
        }
        let text = format!("Fake GPU {ordinal}");
        let count = text.len().min(len as usize - 1);
        // SAFETY: the caller gives `len` bytes, of which these are the first.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), name.cast(), count);
            name.add(count).write(0);
        }
        Ok(())
    }

    /// The memory of a device.
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: i32) {
        let state = lock();
        let memory = state.devices[state.device(device)?].memory;
        // SAFETY: as the caller vouches.
        unsafe { give(bytes, memory as usize) }
    }

    /// An attribute of a device.
    fn cuDeviceGetAttribute(value: *mut i32, attribute: i32, device: i32) {
        let state = lock();
        let found = state.attribute(state.device(device)?, attribute)?;
        // SAFETY: as the caller vouches.
        unsafe { give(value, found) }
    }

    /// The identity of a device, 16 bytes.
    fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: i32) {
        let ordinal = lock().device(device)?;
        let mut bytes = *b"freehold-fake-00";
        bytes[15] += ordinal as u8;
        // SAFETY: as the caller vouches.
        unsafe { give(uuid, bytes) }
    }

    /// Whether kernels of one device may be allowed to use the memory of another.
    fn cuDeviceCanAccessPeer(can: *mut i32, device: i32, peer: i32) {
        let state = lock();
        let (device, peer) = (state.device(device)?, state.device(peer)?);
        // SAFETY: as the caller vouches.
        unsafe { give(can, i32::from(device != peer)) }
    }
}
