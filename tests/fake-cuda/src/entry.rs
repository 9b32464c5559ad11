//! What every function of the driver does first and last: may it be called at all, shall it fail, what is written down.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::status::{Outcome, Status};

/// The lines of the log that are kept.
const LINES: usize = 200_000;

/// The process that called `cuInit`; 0 before.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Set when the process exits.
static GONE: AtomicBool = AtomicBool::new(false);
/// Calls that came after that.
static CALLS_AT_EXIT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The contexts of this thread, by ordinal of their device; the last is current.
    pub static CONTEXTS: RefCell<Vec<Option<usize>>> = const { RefCell::new(Vec::new()) };
    /// Set while a host function of a stream runs on this thread.
    pub static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
    /// `CUstreamCaptureMode` of this thread.
    pub static CAPTURE_MODE: Cell<u32> = const { Cell::new(0) };
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// A number of this thread that no other thread of the process gets.
pub fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    THREAD.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// A call that shall fail.
struct Rule {
    /// The function; any without.
    function: Option<String>,
    /// How many calls from now; 1 is the next.
    left: u64,
    status: Status,
    /// Whether the call is carried out all the same: the driver reports failures of earlier work from any call.
    carried_out: bool,
}

#[derive(Default)]
struct Calls {
    count: u64,
    by_function: BTreeMap<&'static str, u64>,
    rules: Vec<Rule>,
    lines: VecDeque<String>,
    quiet: bool,
}

static CALLS: Mutex<Calls> = Mutex::new(Calls {
    count: 0,
    by_function: BTreeMap::new(),
    rules: Vec::new(),
    lines: VecDeque::new(),
    quiet: false,
});

fn calls() -> MutexGuard<'static, Calls> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the body of a driver function. `arguments` writes them for the log.
pub fn enter(function: &'static str, arguments: impl FnOnce(&mut String), body: impl FnOnce() -> Outcome) -> i32 {
    if let Err(status) = may_call(function) {
        return status.0;
    }
    let (number, failure, quiet) = {
        let mut calls = calls();
        calls.count += 1;
        *calls.by_function.entry(function).or_default() += 1;
        (calls.count, calls.next_failure(function), calls.quiet)
    };
    let result = match failure {
        Some((status, false)) => Err(status),
        // A panic here is an error of this driver, and must not pass through C.
        _ => catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Status::UNKNOWN)),
    };
    let result = match failure {
        Some((status, true)) => Err(status),
        _ => result,
    };
    let status = result.err().map_or(0, |status| status.0);
    if !quiet {
        let mut line = format!("{number} thread={} context=", thread());
        let current = CONTEXTS.with_borrow(|stack| stack.last().copied().flatten());
        // Writing to a string does not fail.
        let _ = match current {
            Some(ordinal) => write!(line, "{ordinal}"),
            None => write!(line, "none"),
        };
        let _ = write!(line, " {function}");
        arguments(&mut line);
        let _ = write!(line, " -> {status}{}", if failure.is_some() { " (injected)" } else { "" });
        note(line);
    }
    status
}

/// Adds a line to the log.
pub fn note(line: String) {
    let mut calls = calls();
    if calls.quiet {
        return;
    }
    if calls.lines.len() == LINES {
        calls.lines.pop_front();
    }
    calls.lines.push_back(line);
}

impl Calls {
    /// The failure that is due at this call, if one is.
    fn next_failure(&mut self, function: &str) -> Option<(Status, bool)> {
        let mut due = None;
        self.rules.retain_mut(|rule| {
            if rule.function.as_deref().is_some_and(|name| name != function) {
                return true;
            }
            rule.left -= 1;
            if rule.left == 0 && due.is_none() {
                due = Some((rule.status, rule.carried_out));
            }
            rule.left > 0
        });
        due
    }
}

/// Whether the driver answers at all.
fn may_call(function: &str) -> Outcome {
    if GONE.load(Ordering::Acquire) {
        CALLS_AT_EXIT.fetch_add(1, Ordering::Relaxed);
        // A real driver may crash here. A test that runs a program to its end sees this.
        if std::env::var_os("FREEHOLD_FAKE_CUDA_ABORT_AT_EXIT").is_some() {
            eprintln!("freehold-fake-cuda: {function} was called while the process exits");
            std::process::abort();
        }
        return Err(Status::DEINITIALIZED);
    }
    let process = PROCESS.load(Ordering::Acquire);
    if process == 0 {
        return if matches!(function, "cuInit" | "cuDriverGetVersion") { Ok(()) } else { Err(Status::NOT_INITIALIZED) };
    }
    // In a forked child nothing else may be touched: another thread may have held the locks.
    if process != std::process::id() {
        return Err(Status::NOT_INITIALIZED);
    }
    if IN_HOST_FUNCTION.get() { Err(Status::NOT_PERMITTED) } else { Ok(()) }
}

/// What `cuInit` leaves behind.
pub fn initialised() {
    extern "C" fn exiting() {
        GONE.store(true, Ordering::Release);
    }
    if PROCESS.swap(std::process::id(), Ordering::AcqRel) == 0 {
        // SAFETY: the function is `extern "C"` and does not unwind; this library is never closed by those who use it (and
        // one that is closed runs its handlers then).
        unsafe { libc::atexit(exiting) };
    }
}

/// Makes one call fail: the `nth` from now (1 is the next), of a function or of any. With `carried_out` the call does its
/// work and then reports the failure.
pub fn fail(function: Option<&str>, nth: u64, status: i32, carried_out: bool) {
    let function = function.map(str::to_owned);
    calls().rules.push(Rule { function, left: nth.max(1), status: Status(status), carried_out });
}

/// Failures that were asked for and have not come.
pub fn failures_left() -> u64 {
    calls().rules.len() as u64
}

/// Forgets the failures that were asked for.
pub fn forget_failures() {
    calls().rules.clear();
}

/// Calls so far, of a function or of all.
pub fn count(function: Option<&str>) -> u64 {
    let calls = calls();
    match function {
        Some(name) => calls.by_function.get(name).copied().unwrap_or(0),
        None => calls.count,
    }
}

/// The log, one line a call.
pub fn log() -> String {
    let calls = calls();
    let mut text = String::with_capacity(calls.lines.iter().map(|line| line.len() + 1).sum());
    for line in &calls.lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Empties the log and sets the counts to zero.
pub fn clear() {
    let mut calls = calls();
    (calls.count, calls.quiet) = (0, false);
    calls.by_function.clear();
    calls.lines.clear();
}

/// Whether calls are written down; without, the driver is faster.
pub fn set_quiet(quiet: bool) {
    calls().quiet = quiet;
}

/// An argument, as the log writes it.
pub trait Argument {
    /// Adds the value to a line.
    fn write(&self, line: &mut String);
}

macro_rules! arguments {
    ($($type:ty => $format:literal),*) => {
        $(impl Argument for $type {
            fn write(&self, line: &mut String) {
                let _ = write!(line, $format, self);
            }
        })*
    };
}
arguments!(i32 => "{}", u32 => "{}", usize => "{}", u8 => "{}", u64 => "{:#x}");

impl<T> Argument for *mut T {
    fn write(&self, line: &mut String) {
        let _ = write!(line, "{:p}", *self);
    }
}
impl<T> Argument for *const T {
    fn write(&self, line: &mut String) {
        let _ = write!(line, "{:p}", *self);
    }
}
impl Argument for Option<crate::abi::HostFn> {
    fn write(&self, line: &mut String) {
        let _ = write!(line, "{}", if self.is_some() { "set" } else { "null" });
    }
}

/// Defines functions of the driver: each enters through [`enter`], and its body gives an [`Outcome`].
macro_rules! driver {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            ///
            /// As `cuda.h` says of this function.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, reason = "the driver's name")]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> i32 {
                $crate::entry::enter(
                    stringify!($name),
                    |_line| {
                        $(
                            _line.push_str(concat!(" ", stringify!($arg), "="));
                            $crate::entry::Argument::write(&$arg, _line);
                        )*
                    },
                    || $body,
                )
            }
        )*
    };
}
pub(crate) use driver;

/// Writes a result where the caller asked for it.
///
/// # Safety
///
/// * `place` is null or a place for a `T`, aligned or not.
pub unsafe fn give<T>(place: *mut T, value: T) -> Outcome {
    if place.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller gives a place for it.
    unsafe { place.write_unaligned(value) };
    Ok(())
}
