//! A callback for C programs that want to hear what happens: what `docs/tracing.md` lists, as text.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::args::invalid;
use crate::error::{fh_error, fh_status};
use crate::guard::{Failure, calm, guard};

/// Nothing.
pub const FH_LOG_OFF: i32 = 0;
/// What went wrong inside.
pub const FH_LOG_ERROR: i32 = 1;
/// Hazards too.
pub const FH_LOG_WARN: i32 = 2;
/// What happens once in a while too.
pub const FH_LOG_INFO: i32 = 3;
/// Every import, decision, copy, export and release too.
pub const FH_LOG_DEBUG: i32 = 4;
/// Everything.
pub const FH_LOG_TRACE: i32 = 5;

/// A function of the caller that takes a line of the log.
pub type fh_log_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, level: i32, event: *const c_char, text: *const c_char)>;

struct Sink {
    log: unsafe extern "C" fn(user: *mut c_void, level: i32, event: *const c_char, text: *const c_char),
    user: *mut c_void,
}

// SAFETY: the header asks for a callback that any thread may call with its `user`.
unsafe impl Send for Sink {}
// SAFETY: as above, and at the same time.
unsafe impl Sync for Sink {}

static SINK: Mutex<Option<Arc<Sink>>> = Mutex::new(None);
static LEVEL: AtomicI32 = AtomicI32::new(FH_LOG_OFF);

thread_local! {
    /// What the callback itself causes is not logged: it would never end.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Sets the callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_log_set(
    log: fh_log_fn,
    user: *mut c_void,
    level: i32,
    error: *mut *mut fh_error,
) -> fh_status {
    let body = || {
        if !(FH_LOG_OFF..=FH_LOG_TRACE).contains(&level) {
            return Err(invalid("the log's level", level, "be one of FH_LOG_*"));
        }
        let sink = log.filter(|_| level != FH_LOG_OFF).map(|log| Arc::new(Sink { log, user }));
        if sink.is_some() && !ours() {
            let message = "this process has a subscriber of tracing already, which hears everything";
            return Err(Failure::from(freehold::Error::argument("the log", message, "be set once")));
        }
        LEVEL.store(if sink.is_some() { level } else { FH_LOG_OFF }, Ordering::Relaxed);
        let before = std::mem::replace(&mut *SINK.lock().unwrap_or_else(PoisonError::into_inner), sink);
        drop(before);
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    };
    // SAFETY: the header asks for NULL or a writable place.
    unsafe { guard(error, body) }
}

/// Whether events come to us: a Rust program that this library is linked into may have its own subscriber.
fn ours() -> bool {
    static OURS: OnceLock<bool> = OnceLock::new();
    *OURS.get_or_init(|| tracing::subscriber::set_global_default(Log).is_ok())
}

struct Log;

const fn number(level: &Level) -> i32 {
    match *level {
        Level::ERROR => FH_LOG_ERROR,
        Level::WARN => FH_LOG_WARN,
        Level::INFO => FH_LOG_INFO,
        Level::DEBUG => FH_LOG_DEBUG,
        Level::TRACE => FH_LOG_TRACE,
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            FH_LOG_ERROR => LevelFilter::ERROR,
            FH_LOG_WARN => LevelFilter::WARN,
            FH_LOG_INFO => LevelFilter::INFO,
            FH_LOG_DEBUG => LevelFilter::DEBUG,
            FH_LOG_TRACE => LevelFilter::TRACE,
            _ => LevelFilter::OFF,
        })
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // A line a step: the event in a step's span says all that the span does. A copy has only the span.
        (metadata.is_event() || metadata.name() == "freehold.copy")
            && number(metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut line = Line { event: span.metadata().name().to_owned(), text: String::new() };
        span.record(&mut line);
        say(span.metadata().level(), line);
        Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { event: String::new(), text: String::new() };
        event.record(&mut line);
        say(event.metadata().level(), line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// `event` and the fields as `name=value`.
struct Line {
    event: String,
    text: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.event = format!("{value:?}");
            return;
        }
        let gap = if self.text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{gap}{}={value:?}", field.name());
    }
}

fn say(level: &Level, line: Line) {
    if BUSY.replace(true) {
        return;
    }
    let sink = SINK.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(sink) = sink {
        let c = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
        let (event, text) = (c(line.event), c(line.text));
        calm((), || {
            // SAFETY: the header asks for a callback that may be called with its `user` from any thread; no lock is held.
            unsafe { (sink.log)(sink.user, number(level), event.as_ptr(), text.as_ptr()) }
        });
    }
    BUSY.set(false);
}
