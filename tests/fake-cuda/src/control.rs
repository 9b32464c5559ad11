//! Steering the driver from Rust: the functions of [`controls`](crate::controls), taken from the library that the test
//! opened. A test links this crate too, but not the driver's state in it: each library has its own.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use crate::controls::LIVE;
use crate::hide;

/// The file of the library.
const FILE: &str = "libfreehold_fake_cuda.so";
/// Where it is, if it is not beside the program.
pub const VARIABLE: &str = "FREEHOLD_FAKE_CUDA";

/// Where the driver was built: beside the test that asks, as cargo puts libraries that a test depends on, or where
/// [`VARIABLE`] says.
///
/// # Panics
///
/// It is nowhere: the crate of the test must name this one in its `dev-dependencies`.
pub fn path() -> PathBuf {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return path.into();
    }
    let program = std::env::current_exe().expect("the path of this program");
    let beside =
        program.ancestors().skip(1).take(2).flat_map(|folder| [folder.join(FILE), folder.join("deps").join(FILE)]);
    let found = beside.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{FILE} is not beside {}; {VARIABLE} can name it", program.display()))
}

/// A copy of the driver in a new file, which lacks functions: as an older one. It is another driver, with a state of its
/// own. `folder` is a folder for temporary files.
///
/// # Panics
///
/// A name that the driver does not have, or a file that cannot be written.
pub fn without(folder: &Path, functions: &[&str]) -> PathBuf {
    let copy = folder.join(format!("fake-cuda-{}-{}.so", std::process::id(), number()));
    hide::write_without(&path(), &copy, functions).expect("a copy of the driver");
    copy
}

fn number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// What is alive in a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named and explained in `controls::LIVE`")]
pub struct Live {
    pub device_bytes: u64,
    pub pool_used: u64,
    pub pool_reserved: u64,
    pub pinned_bytes: u64,
    pub managed_bytes: u64,
    pub blocks: u64,
    pub streams: u64,
    pub events: u64,
    pub modules: u64,
    pub pools: u64,
    pub graphs: u64,
    pub captures: u64,
    pub retained: u64,
    pub contexts_made: u64,
    pub pending: u64,
    pub failures_left: u64,
    pub races: u64,
}

macro_rules! functions {
    ($($field:ident = $name:literal: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        /// A driver that was opened, to be steered.
        pub struct Control {
            path: PathBuf,
            /// Never closed: its threads run.
            library: std::mem::ManuallyDrop<Library>,
            $($field: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
        }

        impl Control {
            /// Opens a driver, or takes the one that is open under this path.
            ///
            /// # Panics
            ///
            /// The library cannot be opened, or is not this driver.
            pub fn open(path: impl AsRef<Path>) -> Control {
                let path = path.as_ref().to_owned();
                // SAFETY: this crate's library has no initialisers.
                let library = unsafe { Library::new(&path) }.expect("the driver can be opened");
                // SAFETY: the functions of `controls`, with their signatures.
                $(let $field = unsafe {
                    *library.get::<unsafe extern "C" fn($($arg),*) $(-> $result)?>(concat!($name, "\0")).expect($name)
                };)*
                Control { path, library: std::mem::ManuallyDrop::new(library), $($field,)* }
            }
        }
    };
}

functions! {
    reset = "fake_cuda_reset": fn();
    drain = "fake_cuda_drain": fn() -> c_int;
    set_delay = "fake_cuda_set_delay_ns": fn(u64);
    set_stream_delay = "fake_cuda_set_stream_delay_ns": fn(usize, u64) -> c_int;
    hold = "fake_cuda_hold": fn(c_int);
    hold_stream = "fake_cuda_hold_stream": fn(usize, c_int) -> c_int;
    set_devices = "fake_cuda_set_devices": fn(c_int) -> c_int;
    set_memory = "fake_cuda_set_memory": fn(c_int, u64) -> c_int;
    set_attribute = "fake_cuda_set_attribute": fn(c_int, c_int, c_int) -> c_int;
    set_version = "fake_cuda_set_version": fn(c_int);
    lose_context = "fake_cuda_lose_context": fn(c_int, c_int) -> c_int;
    fail_at = "fake_cuda_fail_at": fn(u64, c_int);
    fail_function = "fake_cuda_fail_function": fn(*const c_char, u64, c_int);
    fail_after = "fake_cuda_fail_after": fn(*const c_char, u64, c_int);
    forget_failures = "fake_cuda_forget_failures": fn() -> u64;
    calls = "fake_cuda_calls": fn(*const c_char) -> u64;
    log = "fake_cuda_log": fn(*mut c_char, usize) -> usize;
    races = "fake_cuda_races": fn(*mut c_char, usize) -> usize;
    clear_log = "fake_cuda_clear_log": fn();
    set_quiet = "fake_cuda_set_quiet": fn(c_int);
    live = "fake_cuda_live": fn(*mut u64, usize) -> usize;
    peek = "fake_cuda_peek": fn(u64, *mut c_void, usize) -> c_int;
    poke = "fake_cuda_poke": fn(u64, *const c_void, usize) -> c_int;
    graph_nodes = "fake_cuda_graph_nodes": fn(usize) -> i64;
    graph_text = "fake_cuda_graph_text": fn(usize, *mut c_char, usize) -> usize;
    event_done = "fake_cuda_event_done": fn(usize) -> c_int;
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("no NUL in a name")
}

fn fine(status: c_int) {
    assert_eq!(status, 0, "the driver refuses the setting");
}

impl Control {
    /// The driver that was built with the tests ([`path`]).
    pub fn built() -> &'static Control {
        static BUILT: OnceLock<Control> = OnceLock::new();
        BUILT.get_or_init(|| Control::open(path()))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The library, for functions of `cuda.h`.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Waits for all that is queued, puts every setting back (but the number of devices) and empties the log. What is
    /// alive stays alive.
    pub fn reset(&self) {
        // SAFETY: takes nothing.
        unsafe { (self.reset)() }
    }

    /// Waits until everything that is queued anywhere is done. It orders nothing: a race of the program stays one.
    ///
    /// # Panics
    ///
    /// Work is held back and stays so.
    pub fn drain(&self) {
        // SAFETY: takes nothing.
        fine(unsafe { (self.drain)() });
    }

    /// Sets how long every stream waits before each operation.
    pub fn set_delay(&self, delay: std::time::Duration) {
        // SAFETY: takes a number.
        unsafe { (self.set_delay)(delay.as_nanos() as u64) }
    }

    /// Sets that of one stream.
    pub fn set_stream_delay(&self, stream: *mut c_void, delay: std::time::Duration) {
        // SAFETY: a handle is looked up, not followed.
        fine(unsafe { (self.set_stream_delay)(stream.addr(), delay.as_nanos() as u64) });
    }

    /// Holds back everything that is queued, or lets it go. A call that waits for such work gives up after 20 seconds.
    pub fn hold(&self, hold: bool) {
        // SAFETY: takes a number.
        unsafe { (self.hold)(c_int::from(hold)) }
    }

    /// Holds back one stream, or lets it go.
    pub fn hold_stream(&self, stream: *mut c_void, hold: bool) {
        // SAFETY: a handle is looked up, not followed.
        fine(unsafe { (self.hold_stream)(stream.addr(), c_int::from(hold)) });
    }

    /// Sets how many devices there are, at most 8.
    pub fn set_devices(&self, count: usize) {
        // SAFETY: takes a number.
        fine(unsafe { (self.set_devices)(count as c_int) });
    }

    /// Sets the memory of a device in bytes, at most 64 GiB.
    pub fn set_memory(&self, device: i32, bytes: u64) {
        // SAFETY: takes numbers.
        fine(unsafe { (self.set_memory)(device, bytes) });
    }

    /// Sets the most page-locked memory, in bytes.
    pub fn set_pinned_limit(&self, bytes: u64) {
        // SAFETY: takes numbers.
        fine(unsafe { (self.set_memory)(-1, bytes) });
    }

    /// Sets an attribute of a device (`CU_DEVICE_ATTRIBUTE_...`).
    pub fn set_attribute(&self, device: i32, attribute: i32, value: i32) {
        // SAFETY: takes numbers.
        fine(unsafe { (self.set_attribute)(device, attribute, value) });
    }

    /// Sets the version of the driver, 12080 for 12.8.
    pub fn set_version(&self, version: i32) {
        // SAFETY: takes a number.
        unsafe { (self.set_version)(version) }
    }

    /// Makes the context of a device unusable with a status; 0 mends it.
    pub fn lose_context(&self, device: i32, status: i32) {
        // SAFETY: takes numbers.
        fine(unsafe { (self.lose_context)(device, status) });
    }

    /// Makes the `nth` call of the driver from now (1 is the next) fail once, without doing anything.
    pub fn fail_at(&self, nth: u64, status: i32) {
        // SAFETY: takes numbers.
        unsafe { (self.fail_at)(nth, status) }
    }

    /// Makes the `nth` call of one function from now fail once.
    pub fn fail_function(&self, function: &str, nth: u64, status: i32) {
        // SAFETY: a C string.
        unsafe { (self.fail_function)(c_string(function).as_ptr(), nth, status) }
    }

    /// As [`Control::fail_function`], but the call does its work and then reports the status, as a driver does with a
    /// failure of earlier work.
    pub fn fail_after(&self, function: &str, nth: u64, status: i32) {
        // SAFETY: a C string.
        unsafe { (self.fail_after)(c_string(function).as_ptr(), nth, status) }
    }

    /// Forgets the failures that were asked for; gives how many had not come.
    pub fn forget_failures(&self) -> u64 {
        // SAFETY: takes nothing.
        unsafe { (self.forget_failures)() }
    }

    /// Calls of the driver since the last reset.
    pub fn calls(&self) -> u64 {
        // SAFETY: null is any function.
        unsafe { (self.calls)(std::ptr::null()) }
    }

    /// Calls of one function since the last reset.
    pub fn calls_of(&self, function: &str) -> u64 {
        // SAFETY: a C string.
        unsafe { (self.calls)(c_string(function).as_ptr()) }
    }

    /// The log: a line a call, such as
    /// `7 thread=1 context=0 cuEventRecord event=0x3000000040 stream=0x1 -> 0`.
    pub fn log(&self) -> String {
        // SAFETY: the function is given a buffer of that size.
        text(|buffer, room| unsafe { (self.log)(buffer, room) })
    }

    /// Work of two streams on the same bytes, one of which writes, that nothing orders: a line each. Whether the bytes came
    /// out right does not matter. What a kernel touches is known when it has run: wait for it first.
    pub fn races(&self) -> String {
        // SAFETY: the function is given a buffer of that size.
        text(|buffer, room| unsafe { (self.races)(buffer, room) })
    }

    /// Empties the log and sets the counts to zero.
    pub fn clear_log(&self) {
        // SAFETY: takes nothing.
        unsafe { (self.clear_log)() }
    }

    /// Whether calls are left out of the log.
    pub fn set_quiet(&self, quiet: bool) {
        // SAFETY: takes a number.
        unsafe { (self.set_quiet)(c_int::from(quiet)) }
    }

    /// Counts of what is alive.
    pub fn live(&self) -> Live {
        let mut counts = [0; LIVE.len()];
        // SAFETY: room for as many.
        assert_eq!(unsafe { (self.live)(counts.as_mut_ptr(), counts.len()) }, counts.len());
        let [
            device_bytes,
            pool_used,
            pool_reserved,
            pinned_bytes,
            managed_bytes,
            blocks,
            streams,
            events,
            modules,
            pools,
            graphs,
            captures,
            retained,
            contexts_made,
            pending,
            failures_left,
            races,
        ] = counts;
        Live {
            device_bytes,
            pool_used,
            pool_reserved,
            pinned_bytes,
            managed_bytes,
            blocks,
            streams,
            events,
            modules,
            pools,
            graphs,
            captures,
            retained,
            contexts_made,
            pending,
            failures_left,
            races,
        }
    }

    /// Reads memory by its address, at once and in no order; also what was freed.
    ///
    /// # Panics
    ///
    /// It is not in the driver's memory.
    pub fn peek(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        // SAFETY: a buffer of that size.
        fine(unsafe { (self.peek)(address, buffer.as_mut_ptr().cast(), bytes) });
        buffer
    }

    /// Writes memory by its address, at once and in no order.
    ///
    /// # Panics
    ///
    /// It is not in the driver's memory.
    pub fn poke(&self, address: u64, bytes: &[u8]) {
        // SAFETY: a buffer of that size.
        fine(unsafe { (self.poke)(address, bytes.as_ptr().cast(), bytes.len()) });
    }

    /// How many nodes a graph has.
    pub fn graph_nodes(&self, graph: *mut c_void) -> Option<usize> {
        // SAFETY: a handle is looked up, not followed.
        usize::try_from(unsafe { (self.graph_nodes)(graph.addr()) }).ok()
    }

    /// What the nodes of a graph do, a line each.
    pub fn graph_text(&self, graph: *mut c_void) -> String {
        // SAFETY: a handle is looked up, and the function is given a buffer of that size.
        text(|buffer, room| unsafe { (self.graph_text)(graph.addr(), buffer, room) })
    }

    /// Whether what an event recorded is done; `None` for no such event.
    pub fn event_done(&self, event: *mut c_void) -> Option<bool> {
        // SAFETY: a handle is looked up, not followed.
        match unsafe { (self.event_done)(event.addr()) } {
            -1 => None,
            done => Some(done == 1),
        }
    }
}

/// Text of whatever length.
fn text(get: impl Fn(*mut c_char, usize) -> usize) -> String {
    let mut room = 1 << 16;
    loop {
        let mut buffer = vec![0_u8; room];
        let len = get(buffer.as_mut_ptr().cast(), room);
        if len < room {
            buffer.truncate(len);
            return String::from_utf8(buffer).expect("text");
        }
        room = len + 4096;
    }
}
