//! Events.

use std::sync::{Arc, OnceLock};

use crate::abi::Handle;
use crate::entry::{driver, give};
use crate::event::{Event, Recorded};
use crate::state::lock;
use crate::status::Status;
use crate::stream::{Op, wait};

/// Every `CU_EVENT_*` flag but `INTERPROCESS`, which is not modelled.
const FLAGS: u32 = 3;

driver! {
    /// Makes an event in the current context.
    fn cuEventCreate(place: *mut Handle, flags: u32) {
        let mut state = lock();
        let device = state.current()?;
        if place.is_null() || flags & !FLAGS != 0 {
            return Err(Status::INVALID_VALUE);
        }
        let handle = state.handles.events.take();
        state.events.insert(handle, Event { device, flags, recorded: Recorded::Nothing });
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(handle)) }
    }

    /// Destroys an event. Those who wait for what it recorded still do.
    fn cuEventDestroy_v2(event: Handle) {
        let mut state = lock();
        state.events.remove(&event.addr()).ok_or(Status::INVALID_HANDLE)?;
        state.handles.events.give(event.addr());
        Ok(())
    }

    /// Records what was queued on a stream of the event's context.
    fn cuEventRecord(event: Handle, stream: Handle) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        if state.event(event.addr())?.device != state.streams[&key].device {
            return Err(Status::INVALID_HANDLE);
        }
        let recorded = match state.streams[&key].capture {
            Some(id) if state.is_broken(id) => return Err(Status::STREAM_CAPTURE_INVALIDATED),
            Some(id) => Recorded::Captured(id, state.streams[&key].frontier.clone()),
            None => {
                let time = Arc::new(OnceLock::new());
                Recorded::Point(state.enqueue(key, Op::Record(Arc::clone(&time)), Vec::new())?, time)
            }
        };
        state.events.get_mut(&event.addr()).expect("looked up above").recorded = recorded;
        Ok(())
    }

    /// Whether what was recorded is done.
    fn cuEventQuery(event: Handle) {
        let mut state = lock();
        let (device, recorded) = state.event(event.addr()).map(|event| (event.device, event.recorded.clone()))?;
        if let Recorded::Captured(id, _) = recorded {
            state.break_capture(id);
            return Err(Status::CAPTURED_EVENT);
        }
        state.potentially_unsafe()?;
        state.usable(device)?;
        match recorded {
            Recorded::Point(point, _) if !state.reached(point) => Err(Status::NOT_READY),
            Recorded::Point(point, _) => {
                state.order.host_saw(&[point]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Waits until what was recorded is done.
    fn cuEventSynchronize(event: Handle) {
        let mut state = lock();
        let (device, recorded) = state.event(event.addr()).map(|event| (event.device, event.recorded.clone()))?;
        if let Recorded::Captured(id, _) = recorded {
            state.break_capture(id);
            return Err(Status::CAPTURED_EVENT);
        }
        state.potentially_unsafe()?;
        if let Recorded::Point(point, _) = recorded {
            state = wait(state, &[point])?;
            state.trim_all();
        }
        state.usable(device)
    }

    /// The milliseconds from one event to another.
    fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) {
        let elapsed = lock().elapsed(start.addr(), end.addr())?;
        // SAFETY: as the caller vouches.
        unsafe { give(milliseconds, elapsed) }
    }
}
