//! Primary contexts, and the current one of a thread.

use crate::abi::Handle;
use crate::entry::{CAPTURE_MODE, CONTEXTS, driver, give};
use crate::state::{State, lock};
use crate::status::{Outcome, Status};
use crate::stream::wait;

/// The handle that a program gets.
fn handle(ordinal: Option<usize>) -> Handle {
    std::ptr::without_provenance_mut(ordinal.map_or(0, State::context_handle))
}

impl State {
    /// Ends everything that belongs to a device's context.
    fn end_context(&mut self, device: usize) {
        let of_device = &mut self.devices[device];
        (of_device.legacy, of_device.lost) = (0, None);
        of_device.per_thread.clear();
        of_device.peers.clear();
        for stream in self.streams.values_mut().filter(|stream| stream.device == device) {
            stream.destroyed = true;
        }
        self.stream_keys.retain(|_, key| self.streams.get(key).is_some_and(|stream| stream.device != device));
        self.events.retain(|_, event| event.device != device);
        self.modules.retain(|_, module| module.device != device);
        self.functions.retain(|_, function| function.device != device);
        let own: Vec<_> = self.blocks.values().filter(|block| block.device == device && block.pool.is_none()).collect();
        for block in own.into_iter().cloned().collect::<Vec<_>>() {
            self.release(&block);
        }
    }
}

driver! {
    /// Retains the primary context of a device, which makes it where there is none.
    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: i32) {
        let mut state = lock();
        let ordinal = state.device(device)?;
        if context.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let device = &mut state.devices[ordinal];
        device.made += u64::from(device.retained == 0);
        device.retained += 1;
        // SAFETY: as the caller vouches.
        unsafe { give(context, handle(Some(ordinal))) }
    }

    /// Releases it, which ends it and all that is in it where nobody else retains it.
    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        let mut state = lock();
        let ordinal = state.device(device)?;
        match state.devices[ordinal].retained {
            0 => Err(Status::INVALID_CONTEXT),
            1 => {
                let points = state.device_points(ordinal);
                let mut state = wait(state, &points)?;
                state.devices[ordinal].retained = 0;
                state.end_context(ordinal);
                crate::state::CHANGED.notify_all();
                Ok(())
            }
            _ => {
                state.devices[ordinal].retained -= 1;
                Ok(())
            }
        }
    }

    /// Whether the primary context of a device is alive.
    fn cuDevicePrimaryCtxGetState(device: i32, flags: *mut u32, active: *mut i32) {
        let state = lock();
        let device = &state.devices[state.device(device)?];
        // SAFETY: as the caller vouches.
        unsafe {
            give(flags, device.flags)?;
            give(active, i32::from(device.retained > 0))
        }
    }

    /// The current context of this thread, or null.
    fn cuCtxGetCurrent(context: *mut Handle) {
        let current = CONTEXTS.with_borrow(|stack| stack.last().copied().flatten());
        // SAFETY: as the caller vouches.
        unsafe { give(context, handle(current)) }
    }

    /// Makes a context the current one, in the place of the one that is. Null takes that away.
    fn cuCtxSetCurrent(context: Handle) {
        let ordinal = live(context)?;
        CONTEXTS.with_borrow_mut(|stack| {
            stack.pop();
            if ordinal.is_some() {
                stack.push(ordinal);
            }
        });
        Ok(())
    }

    /// Makes a context the current one, above the one that is.
    fn cuCtxPushCurrent_v2(context: Handle) {
        let ordinal = live(context)?.ok_or(Status::INVALID_CONTEXT)?;
        CONTEXTS.with_borrow_mut(|stack| stack.push(Some(ordinal)));
        Ok(())
    }

    /// Takes the current context away; the one below is current.
    fn cuCtxPopCurrent_v2(context: *mut Handle) {
        let popped = CONTEXTS.with_borrow_mut(Vec::pop).ok_or(Status::INVALID_CONTEXT)?;
        if context.is_null() {
            return Ok(());
        }
        // SAFETY: as the caller vouches.
        unsafe { give(context, handle(popped)) }
    }

    /// The device of the current context.
    fn cuCtxGetDevice(device: *mut i32) {
        let current = lock().current()?;
        // SAFETY: as the caller vouches.
        unsafe { give(device, current as i32) }
    }

    /// Waits for everything in the current context.
    fn cuCtxSynchronize() {
        let mut state = lock();
        let device = state.current()?;
        state.potentially_unsafe()?;
        let captures: Vec<u64> =
            state.streams.values().filter(|stream| stream.device == device).filter_map(|stream| stream.capture).collect();
        if !captures.is_empty() {
            captures.iter().for_each(|&id| state.break_capture(id));
            return Err(Status::STREAM_CAPTURE_UNSUPPORTED);
        }
        let points = state.device_points(device);
        let mut state = wait(state, &points)?;
        state.trim_all();
        state.usable(device)
    }

    /// Lets kernels of the current context use the memory of another device.
    fn cuCtxEnablePeerAccess(peer: Handle, flags: u32) {
        let mut state = lock();
        let device = state.current()?;
        let peer = state.context_of(peer.addr())?;
        state.usable(peer)?;
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        if peer == device {
            return Err(Status::INVALID_DEVICE);
        }
        if state.devices[device].peers.insert(peer) { Ok(()) } else { Err(Status::PEER_ACCESS_ALREADY_ENABLED) }
    }

    /// Sets how this thread takes captures, and gives how it did.
    fn cuThreadExchangeStreamCaptureMode(mode: *mut u32) {
        if mode.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as the caller vouches.
        let wanted = unsafe { mode.read_unaligned() };
        if wanted > crate::capture::RELAXED {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as above.
        unsafe { give(mode, CAPTURE_MODE.replace(wanted)) }
    }
}

/// The device of a context that lives; nothing for null.
fn live(context: Handle) -> Outcome<Option<usize>> {
    if context.is_null() {
        return Ok(None);
    }
    let state = lock();
    let ordinal = state.context_of(context.addr())?;
    if state.devices[ordinal].retained == 0 { Err(Status::INVALID_CONTEXT) } else { Ok(Some(ordinal)) }
}
