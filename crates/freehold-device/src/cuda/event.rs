//! Events: where one stream waits for another. Kept and used again, because making one is slow under contention.

use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::context::{Context, StreamRef};
use super::driver::is_exiting;
use super::error::{CudaError, check};
use super::sys::{self, CuEvent};
use super::{Status, mutation};

/// The events that a context keeps.
const KEPT: usize = 256;

/// Events of one context that nobody uses, as addresses.
#[derive(Default)]
pub(super) struct Events(Mutex<Vec<usize>>);

/// An event without timing, of one context. Dropped, it may be recorded again by somebody else: a wait that was queued
/// keeps what it waits for, because the driver takes that when the wait is queued.
///
/// ```no_run
/// use freehold_device::cuda::{Context, Event};
///
/// let context = Context::of(0)?;
/// let event = Event::recorded(context, context.new_stream()?)?;
/// event.synchronize()?;
/// assert!(event.is_done()?);
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
pub struct Event {
    context: &'static Context,
    raw: CuEvent,
}

// SAFETY: the driver lets any thread use an event.
unsafe impl Send for Event {}
// SAFETY: as above; what changes it takes `&self` in the driver too, which locks.
unsafe impl Sync for Event {}

impl Event {
    /// An event that nothing is recorded in.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn new(context: &'static Context) -> Result<Event, CudaError> {
        let kept = context.events.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(address) = kept {
            return Ok(Event { context, raw: ptr::with_exposed_provenance_mut(address) });
        }
        let _entered = context.enter()?;
        let mut raw: CuEvent = ptr::null_mut();
        // SAFETY: the pointer is to a handle of ours; the context is current.
        let status = unsafe { (context.api().work.event_create)(&raw mut raw, sys::EVENT_DISABLE_TIMING) };
        check("cuEventCreate", status)?;
        Ok(Event { context, raw })
    }

    /// An event recorded on a stream: done when everything queued there so far is.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn recorded(context: &'static Context, stream: StreamRef) -> Result<Event, CudaError> {
        let event = Event::new(context)?;
        event.record(stream)?;
        Ok(event)
    }

    /// Records everything that was queued on a stream of the event's context so far.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn record(&self, stream: StreamRef) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        // SAFETY: the event lives, a `StreamRef` is a live stream, and the context is current.
        check("cuEventRecord", unsafe { (self.context.api().work.event_record)(self.raw, stream.raw()) })
    }

    /// Makes a stream, of whatever context, wait for what was recorded. The host does not wait.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn hold_back(&self, context: &Context, stream: StreamRef) -> Result<(), CudaError> {
        if mutation::drops("order") {
            return Ok(());
        }
        let _entered = context.enter()?;
        // SAFETY: as in `record`.
        check("cuStreamWaitEvent", unsafe { (self.context.api().work.stream_wait_event)(stream.raw(), self.raw, 0) })
    }

    /// Whether what was recorded is done.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn is_done(&self) -> Result<bool, CudaError> {
        let _entered = self.context.enter()?;
        // SAFETY: the event lives; the context is current.
        match unsafe { (self.context.api().work.event_query)(self.raw) } {
            Status::NOT_READY => Ok(false),
            status => check("cuEventQuery", status).map(|()| true),
        }
    }

    /// Waits on the host until what was recorded is done.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let _entered = self.context.enter()?;
        // SAFETY: the event lives; the context is current.
        check("cuEventSynchronize", unsafe { (self.context.api().work.event_synchronize)(self.raw) })
    }

    /// The driver's handle.
    pub fn raw(&self) -> CuEvent {
        self.raw
    }

    /// The context that it belongs to.
    pub fn context(&self) -> &'static Context {
        self.context
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let mut kept = self.context.events.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(self.raw.expose_provenance());
            return;
        }
        drop(kept);
        if is_exiting() {
            return;
        }
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: made by `new`, and nobody else has it. The driver frees it when what was recorded is done.
            unsafe { (self.context.api().work.event_destroy)(self.raw) };
        }
    }
}

/// Makes `then` wait for everything queued on `first` so far. Nothing is done where both are one stream.
///
/// ```no_run
/// use freehold_device::cuda::{Context, Event, order};
///
/// let context = Context::of(0)?;
/// let (first, then) = (context.new_stream()?, context.new_stream()?);
/// let done = Event::recorded(context, first)?;
/// order(context, first, context, then)?;
/// context.synchronize(then)?;
/// assert!(done.is_done()?);
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
///
/// # Errors
///
/// As [`Context::enter`].
pub fn order(
    context: &'static Context,
    first: StreamRef,
    then_context: &Context,
    then: StreamRef,
) -> Result<(), CudaError> {
    if first == then && context.raw() == then_context.raw() {
        return Ok(());
    }
    Event::recorded(context, first)?.hold_back(then_context, then)
}
