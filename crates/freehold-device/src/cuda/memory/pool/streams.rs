//! Whose memory it is that was given back: streams told apart, and one made to wait for another.

use std::ffi::c_uint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Stream;
use crate::cuda::memory::Relaxed;
use crate::cuda::memory::plain::stream_of;
use crate::cuda::{Context, CudaError, Event, Status, StreamRef, sys};

/// A stream, for as long as the process runs: unlike a handle, it is never another stream's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(pub u64);

impl Key {
    /// No stream: all work on it is done.
    pub(super) const CLEAN: Key = Key(u64::MAX);
    const LEGACY: Key = Key(u64::MAX - 1);
    /// Of a thread's default stream, with the number of the thread below.
    const PER_THREAD: u64 = 1 << 63;

    /// The default stream of the calling thread: the driver's number of it needs a context, ours does not.
    fn of_thread() -> Key {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        Key(Key::PER_THREAD | NUMBER.with(|number| *number))
    }
}

/// Where a request is in the order of things.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub key: Key,
    /// Captured into a graph: what is queued now runs later, and more than once.
    pub capturing: bool,
}

/// A stream that memory was given back on.
#[derive(Clone)]
pub(super) struct Owner {
    pub key: Key,
    pub stream: Stream,
    /// What was queued on it in all, where it was said to be destroyed.
    pub retired: Option<Arc<Event>>,
}

/// Why one stream cannot be made to wait for another.
pub(super) enum Unordered {
    /// The first one is gone, and what was queued on it cannot be waited for.
    Gone,
    /// Not now: it is captured, or the driver refuses.
    Later,
    /// The second one cannot.
    Failed(CudaError),
}

/// How requests are ordered.
#[derive(Clone, Copy)]
pub(super) enum Order {
    /// Memory of the host: given back, it is free at once.
    Host,
    /// Streams that nobody can be made to wait on: memory stays with the one it was given back on.
    Apart,
    Cuda(&'static Context),
}

impl Order {
    /// Whether anything can be asked or given back at all.
    pub(super) fn check_alive(self) -> Result<(), CudaError> {
        match self {
            Order::Cuda(context) => context.check_alive(),
            _ => Ok(()),
        }
    }

    pub(super) fn place(self, stream: Stream) -> Result<Place, CudaError> {
        Ok(Place { key: self.key(stream)?, capturing: self.is_capturing(stream)? })
    }

    /// Which stream it is. Of a handle the driver is asked.
    pub(super) fn key(self, stream: Stream) -> Result<Key, CudaError> {
        match (self, stream) {
            (_, Stream::NONE) | (Order::Host, _) => Ok(Key::CLEAN),
            (Order::Apart, _) => Ok(Key(stream.0 as u64 & !Key::PER_THREAD)),
            (Order::Cuda(_), Stream::LEGACY_DEFAULT) => Ok(Key::LEGACY),
            (Order::Cuda(_), Stream::PER_THREAD_DEFAULT) => Ok(Key::of_thread()),
            (Order::Cuda(context), _) => key_of(context, stream_of(context, stream)?),
        }
    }

    /// Whether a stream is captured into a graph: the driver is asked.
    pub(super) fn is_capturing(self, stream: Stream) -> Result<bool, CudaError> {
        match (self, stream) {
            // The legacy stream is never captured itself.
            (Order::Host | Order::Apart, _) | (_, Stream::NONE | Stream::LEGACY_DEFAULT) => Ok(false),
            (Order::Cuda(context), Stream::PER_THREAD_DEFAULT) => context.is_capturing(StreamRef::PER_THREAD),
            (Order::Cuda(context), _) => is_capturing(context, stream_of(context, stream)?),
        }
    }

    /// Whether everything that was queued on a stream is done.
    pub(super) fn is_idle(self, owner: &Owner) -> bool {
        let Order::Cuda(context) = self else { return false };
        let Ok(_entered) = context.enter() else { return false };
        let _relaxed = Relaxed::begin(context);
        if let Some(event) = &owner.retired {
            return event.is_done() == Ok(true);
        }
        let Some(stream) = reachable(context, owner) else { return false };
        if context.is_capturing(stream) != Ok(false) {
            return false;
        }
        // SAFETY: the context is current; the stream is the one that was seen to live just now, and that its owner promised to
        // retire before it is destroyed.
        unsafe { (context.api().work.stream_query)(stream.raw()) == Status::SUCCESS }
    }

    /// Makes a stream wait for everything that was queued on another; the caller's thread, where it is none.
    pub(super) fn order(self, owner: &Owner, then: Stream) -> Result<(), Unordered> {
        let Order::Cuda(context) = self else { return Err(Unordered::Later) };
        let _entered = context.enter().map_err(Unordered::Failed)?;
        let _relaxed = Relaxed::begin(context);
        let event = match &owner.retired {
            Some(event) => Arc::clone(event),
            None => {
                // The default stream of another thread has no name here. The legacy stream waits for all of them.
                let legacy = owner.stream == Stream::PER_THREAD_DEFAULT && owner.key != Key::of_thread();
                let stream = if legacy { Some(StreamRef::LEGACY) } else { reachable(context, owner) };
                let stream = stream.ok_or(Unordered::Gone)?;
                if context.is_capturing(stream) != Ok(false) {
                    return Err(Unordered::Later);
                }
                Arc::new(Event::recorded(context, stream).map_err(|_| Unordered::Later)?)
            }
        };
        let waits = if then.is_none() {
            event.synchronize()
        } else {
            stream_of(context, then).and_then(|then| event.hold_back(context, then))
        };
        waits.map_err(Unordered::Failed)
    }

    /// What a region from upstream needs before a caller without a stream may use it.
    pub(super) fn settle(self) -> Result<(), CudaError> {
        let Order::Cuda(context) = self else { return Ok(()) };
        let _entered = context.enter()?;
        let _relaxed = Relaxed::begin(context);
        context.synchronize(context.work_stream()?)
    }
}

/// The stream of an owner, if it can be named from this thread and is the one that it was.
fn reachable(context: &'static Context, owner: &Owner) -> Option<StreamRef> {
    match owner.stream {
        Stream::LEGACY_DEFAULT => Some(StreamRef::LEGACY),
        Stream::PER_THREAD_DEFAULT => (owner.key == Key::of_thread()).then_some(StreamRef::PER_THREAD),
        stream => {
            let handle = stream_of(context, stream).ok()?;
            (key_of(context, handle) == Ok(owner.key)).then_some(handle)
        }
    }
}

/// The driver's number of a stream, which it uses once only. An older driver has none, and the handle must do.
fn key_of(context: &Context, stream: StreamRef) -> Result<Key, CudaError> {
    let Some(ids) = context.api().stream_ids else { return Ok(Key(stream.raw().addr() as u64)) };
    let mut id = 0_u64;
    // SAFETY: the place is one of ours; the handle is that of a stream that lives, as callers of `MemoryResource` promise.
    let status = unsafe { (ids.stream_get_id)(stream.raw(), &raw mut id) };
    // No call for a current context but where the driver wants one: this is on the way of every request.
    let status = if status == Status::INVALID_CONTEXT {
        let _entered = context.enter()?;
        // SAFETY: as above.
        unsafe { (ids.stream_get_id)(stream.raw(), &raw mut id) }
    } else {
        status
    };
    crate::cuda::error::check("cuStreamGetId", status)?;
    Ok(Key(id & !Key::PER_THREAD))
}

/// As [`Context::is_capturing`], with one call where the driver needs no current context for a handle.
fn is_capturing(context: &Context, stream: StreamRef) -> Result<bool, CudaError> {
    let mut state: c_uint = 0;
    // SAFETY: the place is one of ours; the handle is that of a stream that lives, as callers of `MemoryResource` promise.
    match unsafe { (context.api().work.stream_is_capturing)(stream.raw(), &raw mut state) } {
        Status::SUCCESS => Ok(state != sys::STREAM_CAPTURE_NONE),
        _ => context.is_capturing(stream),
    }
}
