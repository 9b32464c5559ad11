//! Page-locked slots through which pageable memory passes: while the processor fills one, others are on the link.
//!
//! The driver has one such buffer for each device and fills it with one thread, which reaches a sixth of the link. Memory is
//! never locked for one copy: locking takes longer than copying.
//!
//! A lane is what one thread works with: two slots, used in turn. A copy takes as many lanes as it has threads, and at least
//! one; copies that run at once share the lanes of a context, and wait where none is left.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::TransferError;
use crate::cuda::{Context, CudaError, Event, StreamRef, memory, mutation};
use crate::{Buffer, Stream};

/// The most lanes of a context.
pub(super) const LANES: usize = 16;

/// Page-locked memory, and when the device is done with it.
struct Slot {
    memory: Buffer,
    event: Event,
    busy: bool,
}

impl Slot {
    fn new(context: &'static Context, bytes: usize) -> Result<Slot, TransferError> {
        let memory = Buffer::new(memory::pinned()?, bytes, 4096, Stream::NONE)?;
        Ok(Slot { memory, event: Event::new(context)?, busy: false })
    }

    /// Waits until the device is done with it.
    fn wait(&mut self) -> Result<(), CudaError> {
        if self.busy {
            if !mutation::drops("slot") {
                self.event.synchronize()?;
            }
            self.busy = false;
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.wait().is_err() {
            // The device may still touch it: it stays locked, and nobody gets it. The place of the buffer takes one of no
            // bytes, which is nothing to give back.
            if let Ok(none) = Buffer::host(0) {
                std::mem::forget(std::mem::replace(&mut self.memory, none));
            }
        }
    }
}

/// The lanes of a context.
#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<[Slot; 2]>,
    /// Lanes that copies have now.
    out: usize,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two slots that nobody else has until the lane is dropped.
pub(super) struct Lane {
    context: &'static Context,
    slots: Option<[Slot; 2]>,
}

impl Lane {
    /// Up to `most` lanes with slots of so many bytes, and at least one: waits where other copies have them all.
    ///
    /// # Errors
    ///
    /// No memory can be locked, and no lane is left.
    pub(super) fn take(context: &'static Context, most: usize, bytes: usize) -> Result<Vec<Lane>, TransferError> {
        let pool = context.room(Pool::default);
        let mut lanes: Vec<Lane> = Vec::new();
        let mut state = pool.lock();
        while lanes.len() < most.clamp(1, LANES) {
            if let Some(slots) = state.idle.pop() {
                // Smaller ones are of an earlier setting; they go, outside the lock.
                state.out += 1;
                let mut lane = Lane { context, slots: Some(slots) };
                if lane.size() < bytes {
                    drop(state);
                    lane.slots = None;
                    drop(lane);
                    state = pool.lock();
                    continue;
                }
                lanes.push(lane);
            } else if state.out < LANES {
                state.out += 1;
                drop(state);
                let mut lane = Lane { context, slots: None };
                match (Slot::new(context, bytes), Slot::new(context, bytes)) {
                    (Ok(first), Ok(second)) => lane.slots = Some([first, second]),
                    (Err(error), _) | (_, Err(error)) => {
                        drop(lane);
                        return if lanes.is_empty() { Err(error) } else { Ok(lanes) };
                    }
                }
                lanes.push(lane);
                state = pool.lock();
            } else if lanes.is_empty() {
                state = pool.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                break;
            }
        }
        Ok(lanes)
    }

    fn size(&self) -> usize {
        self.slots.as_ref().map_or(0, |slots| slots[0].memory.len())
    }

    fn slot(&mut self, turn: usize) -> &mut Slot {
        let slots = self.slots.as_mut().expect("a lane has its slots until it is dropped");
        &mut slots[turn % 2]
    }

    /// The address of a slot, once the device is done with it.
    pub(super) fn free(&mut self, turn: usize) -> Result<*mut u8, CudaError> {
        let slot = self.slot(turn);
        slot.wait()?;
        Ok(slot.memory.as_ptr())
    }

    /// Notes that work which was queued on a stream just now uses a slot.
    pub(super) fn used(&mut self, turn: usize, stream: StreamRef) -> Result<(), CudaError> {
        let context = self.context;
        let slot = self.slot(turn);
        let Err(error) = slot.event.record(stream) else {
            slot.busy = true;
            return Ok(());
        };
        if context.synchronize(stream).is_err() {
            // Nobody can tell any more when the slots are free.
            std::mem::forget(self.slots.take());
        }
        Err(error)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let pool = self.context.room(Pool::default);
        let mut state = pool.lock();
        state.out -= 1;
        state.idle.extend(self.slots.take());
        drop(state);
        pool.freed.notify_one();
    }
}

/// Unlocks the slots of a context that no copy uses now. They are locked again by the next copy that needs them.
///
/// ```no_run
/// use freehold_device::cuda::Context;
/// use freehold_device::cuda::transfer::{staging_bytes, trim_staging};
///
/// let context = Context::of(0)?;
/// trim_staging(context);
/// assert_eq!(staging_bytes(context), 0);
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
pub fn trim_staging(context: &'static Context) {
    let idle = std::mem::take(&mut context.room(Pool::default).lock().idle);
    drop(idle);
}

/// Bytes that are locked for the slots of a context, where no copy uses them now.
///
/// ```no_run
/// use freehold_device::cuda::Context;
/// use freehold_device::cuda::transfer::staging_bytes;
///
/// assert_eq!(staging_bytes(Context::of(0)?), 0); // no copy was staged yet
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
pub fn staging_bytes(context: &'static Context) -> u64 {
    let state = context.room(Pool::default).lock();
    state.idle.iter().flatten().map(|slot| slot.memory.len() as u64).sum()
}
