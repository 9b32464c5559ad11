//! Page-locked slots through which pageable memory passes: while one is filled by the processor, others are on the link.
//!
//! The driver has one such buffer for each device and fills it with one thread, which reaches a sixth of the link. Memory is
//! never locked for one copy: locking takes longer than copying.

use std::sync::{Mutex, PoisonError};

use super::TransferError;
use crate::cuda::{Context, CudaError, Event, StreamRef, memory};
use crate::{Buffer, Stream};

/// Bytes of a slot: long enough to hide what a copy costs to queue, short enough to stay in the last cache.
pub(super) const SLOT: usize = 4 << 20;
/// Slots of a ring.
pub(super) const SLOTS: usize = 4;
/// Rings of a context that wait for the next copy. More are made when more copies run at once, and freed after.
const KEPT: usize = 4;

/// One slot, and when the device is done with it.
struct Slot {
    memory: Buffer,
    event: Event,
    busy: bool,
}

/// The slots of one copy.
pub(super) struct Ring {
    context: &'static Context,
    slots: Vec<Slot>,
}

#[derive(Default)]
struct Idle(Mutex<Vec<Ring>>);

impl Ring {
    /// A ring that nobody else has until it is dropped.
    pub(super) fn take(context: &'static Context) -> Result<Ring, TransferError> {
        let idle = context.room(Idle::default);
        if let Some(ring) = idle.0.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(ring);
        }
        let pinned = memory::pinned()?;
        let slot = || -> Result<Slot, TransferError> {
            let memory = Buffer::new(pinned, SLOT, 4096, Stream::NONE)?;
            Ok(Slot { memory, event: Event::new(context)?, busy: false })
        };
        Ok(Ring { context, slots: (0..SLOTS).map(|_| slot()).collect::<Result<_, _>>()? })
    }

    /// The address of a slot that the device is done with: waits for that.
    pub(super) fn free(&mut self, i: usize) -> Result<*mut u8, CudaError> {
        let slot = &mut self.slots[i % SLOTS];
        if slot.busy {
            slot.event.synchronize()?;
            slot.busy = false;
        }
        Ok(slot.memory.as_ptr())
    }

    /// Notes that work on a stream which was queued just now uses a slot.
    pub(super) fn used(&mut self, i: usize, stream: StreamRef) -> Result<(), CudaError> {
        let slot = &mut self.slots[i % SLOTS];
        slot.busy = true;
        let recorded = slot.event.record(stream);
        if recorded.is_err() {
            // Nobody can tell any more when the slot is free.
            slot.busy = self.context.synchronize(stream).is_err();
            if slot.busy {
                std::mem::forget(std::mem::take(&mut self.slots));
            }
        }
        recorded
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        if slots.len() < SLOTS {
            return;
        }
        let mut idle = self.context.room(Idle::default).0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(Ring { context: self.context, slots });
            return;
        }
        drop(idle);
        for slot in slots {
            if slot.busy && slot.event.synchronize().is_err() {
                std::mem::forget(slot);
            }
        }
    }
}
