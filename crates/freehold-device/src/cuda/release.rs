//! The way back that DLPack does not have: memory is given back when the streams it was used on are done with it.
//!
//! Where the stream on which the memory is freed is known, it is made to wait, and the memory is given back at once: what
//! the owner does with it next is queued after the wait. Otherwise giving back waits until the uses are done. A thread of
//! ours looks when that is, because a deleter may be the last call that ever comes; it is started by the first import that
//! may need it ([`prepare_release`]), never by a deleter.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::context::{Context, StreamRef};
use super::driver::is_exiting;
use super::error::CudaError;
use super::event::{Event, order};

/// What is given back later.
struct Waiting {
    events: Vec<Event>,
    give_back: Box<dyn FnOnce() + Send>,
}

static QUEUE: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());
static WAKE: Condvar = Condvar::new();
/// Whether something is being given back by the thread of ours: the process's exit waits for that, for a moment.
static BUSY: AtomicBool = AtomicBool::new(false);
static DEFERRED: AtomicU64 = AtomicU64::new(0);
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How often the thread looks: first soon, for short kernels, then less and less.
const SOON: Duration = Duration::from_micros(50);
const LATE: Duration = Duration::from_millis(2);

/// What became of memory whose uses were not done when it was let go of.
///
/// ```
/// use freehold_device::cuda::{ReleaseStatistics, release_statistics};
///
/// // No memory of a device was let go of yet.
/// assert_eq!(release_statistics(), ReleaseStatistics { deferred: 0, waiting: 0, leaked: 0 });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReleaseStatistics {
    /// How often giving back had to wait, since the process began.
    pub deferred: u64,
    /// What waits now.
    pub waiting: u64,
    /// What was never given back: in a forked child, at exit, or because its stream was gone.
    pub leaked: u64,
}

/// The counters of [`release_after`].
///
/// ```
/// use freehold_device::cuda::{release_after, release_statistics};
///
/// let before = release_statistics();
/// release_after(&[], None, Box::new(|| ())); // nobody uses it: no wait
/// assert_eq!(release_statistics().deferred, before.deferred);
/// ```
pub fn release_statistics() -> ReleaseStatistics {
    ReleaseStatistics {
        deferred: DEFERRED.load(Ordering::Relaxed),
        waiting: queue().len() as u64,
        leaked: LEAKED.load(Ordering::Relaxed),
    }
}

fn queue() -> MutexGuard<'static, Vec<Waiting>> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that gives memory back late, once a process, and gives back what is due. For imports.
///
/// ```no_run
/// use freehold_device::cuda::{Context, prepare_release};
///
/// let context = Context::of(0)?;
/// assert!(prepare_release(context).is_ok());
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
///
/// # Errors
///
/// In a forked child, and at exit.
pub fn prepare_release(context: &'static Context) -> Result<(), CudaError> {
    context.check_alive()?;
    static STARTED: AtomicBool = AtomicBool::new(false);
    if !STARTED.swap(true, Ordering::AcqRel) {
        let thread = std::thread::Builder::new().name("freehold-release".to_owned()).spawn(serve);
        // Without it, what waits is given back by later calls.
        if thread.is_err() {
            STARTED.store(false, Ordering::Release);
        }
    }
    poll();
    Ok(())
}

/// Calls `give_back` when everything that was queued so far on the streams in `uses` is done. At once, where `home`, the
/// stream on which the memory is freed, can be made to wait instead. Never blocks and never panics for a CUDA failure.
///
/// A stream that is being captured has run nothing: what a graph uses must be kept by whoever replays it. A stream that was
/// destroyed cannot be asked any more, and neither can one in a forked child or at exit: then `give_back` is not called, and
/// the memory stays (see [`release_statistics`]).
///
/// ```no_run
/// use std::sync::mpsc::channel;
///
/// use freehold_device::cuda::{Context, prepare_release, release_after};
///
/// let context = Context::of(0)?;
/// prepare_release(context)?;
/// let (done, given_back) = channel();
/// let stream = context.new_stream()?;
/// release_after(&[(context, stream)], None, Box::new(move || done.send(()).expect("somebody waits")));
/// assert!(given_back.recv().is_ok()); // when the stream is done
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
pub fn release_after(
    uses: &[(&'static Context, StreamRef)],
    home: Option<(&'static Context, StreamRef)>,
    give_back: Box<dyn FnOnce() + Send>,
) {
    poll();
    // Asked once more before memory is lost for ever: a wait that was put in twice is only a wait.
    let asked = pending(uses, home).or_else(|error| match error {
        CudaError::Forked | CudaError::Exiting => Err(error),
        _ => pending(uses, home),
    });
    match asked {
        Ok(events) if events.is_empty() => give_back(),
        Ok(events) => {
            DEFERRED.fetch_add(1, Ordering::Relaxed);
            queue().push(Waiting { events, give_back });
            WAKE.notify_one();
        }
        Err(error) => leak(give_back, &error),
    }
}

fn leak(give_back: Box<dyn FnOnce() + Send>, error: &CudaError) {
    LEAKED.fetch_add(1, Ordering::Relaxed);
    std::mem::forget(give_back);
    #[cfg(feature = "tracing")]
    tracing::error!(%error, "memory of a device is never given back: its streams cannot be asked");
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}

/// The events that are not done yet; none where `home` was made to wait.
fn pending(
    uses: &[(&'static Context, StreamRef)],
    home: Option<(&'static Context, StreamRef)>,
) -> Result<Vec<Event>, CudaError> {
    let mut events = Vec::new();
    for &(context, stream) in uses {
        context.check_alive()?;
        // A stream waits for itself by its order.
        let same = home.is_some_and(|(at, on)| at.raw() == context.raw() && on == stream);
        if same || context.is_capturing(stream)? {
            continue;
        }
        if let Some((at, on)) = home
            && !at.is_capturing(on)?
        {
            order(context, stream, at, on)?;
            continue;
        }
        let event = Event::recorded(context, stream)?;
        if !event.is_done()? {
            events.push(event);
        }
    }
    Ok(events)
}

/// Gives back what is due, if nobody else is at it.
fn poll() {
    let due = match QUEUE.try_lock() {
        Ok(mut queue) => take_due(&mut queue),
        Err(TryLockError::Poisoned(poisoned)) => take_due(&mut poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => return,
    };
    due.into_iter().for_each(|waiting| (waiting.give_back)());
}

fn take_due(queue: &mut Vec<Waiting>) -> Vec<Waiting> {
    if queue.is_empty() || is_exiting() {
        return Vec::new();
    }
    let mut due = Vec::new();
    let mut i = 0;
    while i < queue.len() {
        // An event that fails says that the context is lost: nothing runs any more.
        queue[i].events.retain(|event| matches!(event.is_done(), Ok(false)));
        if queue[i].events.is_empty() { due.push(queue.swap_remove(i)) } else { i += 1 }
    }
    due
}

/// Gives back what is due, and waits for the rest. For tests, and before a process ends.
///
/// ```
/// use freehold_device::cuda::{flush_releases, release_statistics};
///
/// flush_releases();
/// assert_eq!(release_statistics().waiting, 0);
/// ```
pub fn flush_releases() {
    loop {
        poll();
        if queue().is_empty() && !BUSY.load(Ordering::Acquire) {
            return;
        }
        std::thread::sleep(SOON);
    }
}

fn serve() {
    let mut pause = SOON;
    loop {
        let due = {
            let mut queue = queue();
            while queue.is_empty() {
                queue = WAKE.wait(queue).unwrap_or_else(PoisonError::into_inner);
                pause = SOON;
            }
            if is_exiting() {
                return;
            }
            let due = take_due(&mut queue);
            // Under the lock, so that the exit, which takes it, sees one or the other.
            BUSY.store(!due.is_empty(), Ordering::Release);
            due
        };
        if due.is_empty() {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LATE);
            continue;
        }
        pause = SOON;
        for waiting in due {
            // A deleter that panics must not end the thread.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(waiting.give_back));
        }
        BUSY.store(false, Ordering::Release);
    }
}

/// The process exits: no call of the driver is begun any more, and one that was begun is waited for, for a moment.
pub(super) fn stop() {
    for _ in 0..200 {
        if !BUSY.load(Ordering::Acquire) && !matches!(QUEUE.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
