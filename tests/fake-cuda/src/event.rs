//! Events.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::state::State;
use crate::status::{Outcome, Status};
use crate::stream::Point;

/// What `CU_EVENT_DISABLE_TIMING` is.
pub const DISABLE_TIMING: u32 = 2;

/// One event.
pub struct Event {
    /// The device of its context.
    pub device: usize,
    /// The flags that it was made with.
    pub flags: u32,
    /// What was last recorded in it.
    pub recorded: Recorded,
}

/// What an event has recorded.
#[derive(Clone)]
pub enum Recorded {
    /// Nothing: it counts as done.
    Nothing,
    /// A point of a stream, and when that was reached.
    Point(Point, Arc<OnceLock<Instant>>),
    /// Nodes of a capture.
    Captured(u64, Vec<usize>),
}

impl State {
    /// An event by its handle.
    pub fn event(&self, handle: usize) -> Outcome<&Event> {
        self.events.get(&handle).ok_or(Status::INVALID_HANDLE)
    }

    /// The milliseconds between two events.
    pub fn elapsed(&self, start: usize, end: usize) -> Outcome<f32> {
        let (start, end) = (self.event(start)?, self.event(end)?);
        if (start.flags | end.flags) & DISABLE_TIMING != 0 || start.device != end.device {
            return Err(Status::INVALID_HANDLE);
        }
        let time = |event: &Event| match &event.recorded {
            Recorded::Nothing => Err(Status::INVALID_HANDLE),
            Recorded::Captured(..) => Err(Status::CAPTURED_EVENT),
            Recorded::Point(_, time) => time.get().copied().ok_or(Status::NOT_READY),
        };
        let (start, end) = (time(start)?, time(end)?);
        let forward = end.saturating_duration_since(start).as_secs_f32();
        Ok((forward - start.saturating_duration_since(end).as_secs_f32()) * 1e3)
    }
}
