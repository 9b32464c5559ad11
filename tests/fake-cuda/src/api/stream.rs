//! Streams and host functions.

use std::ffi::c_void;

use crate::abi::{Handle, HostFn};
use crate::entry::{driver, give};
use crate::state::{CHANGED, State, lock};
use crate::status::{Outcome, Status};
use crate::stream::{HostData, Op, wait};

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;
/// `CU_STREAM_CAPTURE_STATUS_ACTIVE`.
const ACTIVE: u32 = 1;
/// `CU_STREAM_CAPTURE_STATUS_INVALIDATED`.
const INVALIDATED: u32 = 2;

driver! {
    /// Makes a stream in the current context.
    fn cuStreamCreate(place: *mut Handle, flags: u32) {
        let mut state = lock();
        let device = state.current()?;
        if place.is_null() || flags > NON_BLOCKING {
            return Err(Status::INVALID_VALUE);
        }
        let handle = state.handles.streams.take();
        let key = state.add_stream(device, flags != NON_BLOCKING, false);
        state.stream_keys.insert(handle, key);
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(handle)) }
    }

    /// Destroys a stream. What is queued is still done.
    fn cuStreamDestroy_v2(stream: Handle) {
        let mut state = lock();
        let key = state.stream_keys.remove(&stream.addr()).ok_or(Status::INVALID_HANDLE)?;
        state.handles.streams.give(stream.addr());
        if let Some(id) = state.streams[&key].capture {
            state.break_capture(id);
        }
        state.streams.get_mut(&key).expect("found above").destroyed = true;
        CHANGED.notify_all();
        Ok(())
    }

    /// Whether everything that was queued is done.
    fn cuStreamQuery(stream: Handle) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        state.not_captured(key)?;
        state.potentially_unsafe()?;
        let points = state.points(key);
        state.usable(state.streams[&key].device)?;
        if !points.iter().all(|&point| state.reached(point)) {
            return Err(Status::NOT_READY);
        }
        state.order.host_saw(&points);
        Ok(())
    }

    /// Waits until everything that was queued is done.
    fn cuStreamSynchronize(stream: Handle) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        state.not_captured(key)?;
        state.potentially_unsafe()?;
        let device = state.streams[&key].device;
        let points = state.points(key);
        let mut state = wait(state, &points)?;
        state.trim_all();
        state.usable(device)
    }

    /// Makes a stream wait for an event, of whatever device.
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) {
        let mut state = lock();
        // 1 is CU_EVENT_WAIT_EXTERNAL, for nodes of graphs that are not modelled.
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        let key = state.stream_key(stream.addr())?;
        let recorded = state.event(event.addr())?.recorded.clone();
        state.wait_for(key, recorded)
    }

    /// Whether a stream is being captured.
    fn cuStreamIsCapturing(stream: Handle, place: *mut u32) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        // This breaks no capture.
        if !state.in_the_way_of_legacy(key).is_empty() {
            return Err(Status::STREAM_CAPTURE_IMPLICIT);
        }
        let capture = state.streams[&key].capture;
        let status = capture.map_or(0, |id| if state.is_broken(id) { INVALIDATED } else { ACTIVE });
        // SAFETY: as the caller vouches.
        unsafe { give(place, status) }
    }

    /// A number of a stream that no other gets.
    fn cuStreamGetId(stream: Handle, place: *mut u64) {
        let key = lock().stream_key(stream.addr())?;
        // SAFETY: as the caller vouches.
        unsafe { give(place, key) }
    }

    /// The context of a stream.
    fn cuStreamGetCtx(stream: Handle, place: *mut Handle) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        let context = State::context_handle(state.streams[&key].device);
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(context)) }
    }

    /// Calls a function of the program in the order of a stream.
    fn cuLaunchHostFunc(stream: Handle, function: Option<HostFn>, data: *mut c_void) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        let function = function.ok_or(Status::INVALID_VALUE)?;
        state.enqueue(key, Op::Host(function, HostData(data)), Vec::new()).map(drop)
    }
}

impl State {
    /// A stream of the context that is current: kernels and events do not go to another's.
    pub fn own_stream(&mut self, handle: usize) -> Outcome<u64> {
        let current = self.current()?;
        let key = self.stream_key(handle)?;
        if self.streams[&key].device == current { Ok(key) } else { Err(Status::INVALID_HANDLE) }
    }
}
