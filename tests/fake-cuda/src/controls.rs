//! How a test steers the driver: functions in C, so that tests in any language call them in the library that they opened.
//! They are no calls of the driver: they are not counted and do not fail by request.
//!
//! Handles and addresses are integers of 64 bits: they are looked up, never followed.
//!
//! Functions that give text take a buffer and its length, and return how many bytes the text has: a caller whose buffer
//! was too short calls again.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use crate::entry;
use crate::event::Recorded;
use crate::hide;
use crate::state::{CHANGED, DEVICES, SPACE, lock};
use crate::status::Status;
use crate::stream::wait_apart;

/// What [`fake_cuda_live`] counts, in this order.
pub const LIVE: [&str; 17] = [
    "device_bytes",  // of cuMemAlloc, and what pools took
    "pool_used",     // in use, of all pools
    "pool_reserved", // what pools took from devices
    "pinned_bytes",
    "managed_bytes",
    "blocks",  // allocations of every kind
    "streams", // made and not destroyed; not the default ones
    "events",
    "modules",
    "pools", // made and not destroyed; not the default ones
    "graphs",
    "captures",
    "retained", // how often primary contexts are retained, together
    "contexts_made",
    "pending",       // operations that are queued and not done
    "failures_left", // failures that were asked for and have not come
    "races",         // pairs of operations that touch the same bytes in no order
];

/// Text that a test gave.
///
/// # Safety
///
/// * `text` is null or a C string.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    // SAFETY: the caller gives a C string, and uses what it gets at once.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }).and_then(|text| text.to_str().ok())
}

/// Copies text into a buffer, as much as there is room for, with a NUL.
///
/// # Safety
///
/// * `buffer` is null or has `room` bytes.
unsafe fn give_text(text: &str, buffer: *mut c_char, room: usize) -> usize {
    if !buffer.is_null() && room > 0 {
        let count = text.len().min(room - 1);
        // SAFETY: the caller gives as many bytes.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), count);
            buffer.add(count).write(0);
        }
    }
    text.len()
}

/// Waits for all that is queued, then puts every setting back and empties the log. What is alive stays alive.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_reset() {
    entry::forget_failures();
    {
        let mut state = lock();
        (state.held, state.delay, state.version) = (false, Duration::ZERO, 12080);
        state.pinned_limit = SPACE;
        for stream in state.streams.values_mut() {
            (stream.held, stream.delay) = (false, None);
        }
        for device in &mut state.devices {
            device.attributes.clear();
            device.memory = crate::state::MEMORY;
            device.lost = None;
        }
        CHANGED.notify_all();
    }
    fake_cuda_drain();
    lock().order.forget();
    entry::clear();
}

/// Waits until everything that is queued anywhere is done. It orders nothing: a race stays one. Gives 0, or a `CUresult` where a test holds work back.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_drain() -> c_int {
    let state = lock();
    let points: Vec<_> = state.streams.iter().map(|(&key, stream)| (key, stream.submitted)).collect();
    wait_apart(state, &points).err().map_or(0, |status| status.0)
}

/// Sets how long every stream waits before each operation.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_set_delay_ns(nanoseconds: u64) {
    lock().delay = Duration::from_nanos(nanoseconds);
}

/// Sets that of one stream (a handle, or 1 or 2 with a current context).
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_set_stream_delay_ns(stream: usize, nanoseconds: u64) -> c_int {
    let mut state = lock();
    match state.stream_key(stream) {
        Ok(key) => {
            let delay = Some(Duration::from_nanos(nanoseconds));
            state.streams.get_mut(&key).expect("just found").delay = delay;
            0
        }
        Err(status) => status.0,
    }
}

/// Holds back everything that is queued, or lets it go: work is then as late as it can be.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_hold(hold: c_int) {
    lock().held = hold != 0;
    CHANGED.notify_all();
}

/// Holds back one stream, or lets it go.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_hold_stream(stream: usize, hold: c_int) -> c_int {
    let mut state = lock();
    let found = state.stream_key(stream);
    let Ok(key) = found else { return found.map_or_else(|status| status.0, |_| 0) };
    state.streams.get_mut(&key).expect("just found").held = hold != 0;
    CHANGED.notify_all();
    0
}

/// Sets how many devices there are, at most 8.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_set_devices(count: c_int) -> c_int {
    match usize::try_from(count) {
        Ok(count) if count <= DEVICES => {
            lock().set_devices(count);
            0
        }
        _ => Status::INVALID_VALUE.0,
    }
}

/// Sets the memory of a device in bytes, at most 64 GiB; of device -1, the most page-locked memory.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_set_memory(device: c_int, bytes: u64) -> c_int {
    let mut state = lock();
    if bytes > SPACE {
        return Status::INVALID_VALUE.0;
    }
    if device == -1 {
        state.pinned_limit = bytes;
        return 0;
    }
    match state.device(device) {
        Ok(device) => {
            state.devices[device].memory = bytes;
            0
        }
        Err(status) => status.0,
    }
}

/// Sets an attribute of a device.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_set_attribute(device: c_int, attribute: c_int, value: c_int) -> c_int {
    let mut state = lock();
    match state.device(device) {
        Ok(device) => {
            state.devices[device].attributes.insert(attribute, value);
            0
        }
        Err(status) => status.0,
    }
}

/// Sets the version of the driver, 12080 for 12.8.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_set_version(version: c_int) {
    lock().version = version;
}

/// Makes the context of a device unusable, as an illegal access of some kernel does: every call on it gives this status. 0
/// mends it.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_lose_context(device: c_int, status: c_int) -> c_int {
    let mut state = lock();
    match state.device(device) {
        Ok(device) => {
            state.devices[device].lost = (status != 0).then_some(Status(status));
            0
        }
        Err(status) => status.0,
    }
}

/// Makes the `nth` call of the driver from now (1 is the next) fail once, without doing anything.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_fail_at(nth: u64, status: c_int) {
    entry::fail(None, nth, status, false);
}

/// Makes the `nth` call of one function from now fail once.
///
/// # Safety
///
/// * `function` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_fail_function(function: *const c_char, nth: u64, status: c_int) {
    // SAFETY: the caller gives a C string.
    entry::fail(unsafe { text(function) }, nth, status, false);
}

/// As [`fake_cuda_fail_function`] (null is any function), but the call does its work first: so does a driver that reports a
/// failure of earlier work.
///
/// # Safety
///
/// * `function` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_fail_after(function: *const c_char, nth: u64, status: c_int) {
    // SAFETY: the caller gives a C string or null.
    entry::fail(unsafe { text(function) }, nth, status, true);
}

/// Forgets the failures that were asked for; gives how many had not come.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_forget_failures() -> u64 {
    let left = entry::failures_left();
    entry::forget_failures();
    left
}

/// Calls since the last reset: of one function, or with null of all.
///
/// # Safety
///
/// * `function` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_calls(function: *const c_char) -> u64 {
    // SAFETY: the caller gives a C string or null.
    entry::count(unsafe { text(function) })
}

/// The log: a line a call.
///
/// # Safety
///
/// * `buffer` is null or has `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_log(buffer: *mut c_char, room: usize) -> usize {
    // SAFETY: the caller gives as many bytes.
    unsafe { give_text(&entry::log(), buffer, room) }
}

/// Work of two streams on the same bytes that nothing orders: a line each.
///
/// # Safety
///
/// * `buffer` is null or has `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_races(buffer: *mut c_char, room: usize) -> usize {
    let text: String = lock().order.races.iter().map(|race| format!("{race}\n")).collect();
    // SAFETY: the caller gives as many bytes.
    unsafe { give_text(&text, buffer, room) }
}

/// Empties the log and sets the counts to zero.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_clear_log() {
    entry::clear();
}

/// Whether calls are written down. Without, the driver is faster.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_set_quiet(quiet: c_int) {
    entry::set_quiet(quiet != 0);
}

/// Counts of what is alive, as [`LIVE`] names them. Gives how many there are.
///
/// # Safety
///
/// * `counts` is null or has room for `room` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_live(counts: *mut u64, room: usize) -> usize {
    let state = lock();
    let pools = || state.pools.values();
    let found: [u64; LIVE.len()] = [
        state.devices.iter().map(|device| device.used).sum(),
        pools().map(|pool| pool.used[0]).sum(),
        pools().map(|pool| pool.reserved[0]).sum(),
        state.pinned,
        state.managed,
        state.blocks.len() as u64,
        state.stream_keys.len() as u64,
        state.events.len() as u64,
        state.modules.len() as u64,
        pools().filter(|pool| !pool.is_default).count() as u64,
        state.graphs.len() as u64,
        state.captures.len() as u64,
        state.devices.iter().map(|device| u64::from(device.retained)).sum(),
        state.devices.iter().map(|device| device.made).sum(),
        state.streams.values().map(|stream| stream.submitted - stream.completed).sum(),
        entry::failures_left(),
        state.order.races.len() as u64,
    ];
    if !counts.is_null() {
        // SAFETY: the caller gives room for as many.
        unsafe { ptr::copy_nonoverlapping(found.as_ptr(), counts, room.min(found.len())) };
    }
    found.len()
}

/// Reads memory by the program's address, at once and in no order: for a test to look without a stream. Also what was
/// freed.
///
/// # Safety
///
/// * `buffer` has `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_peek(address: u64, buffer: *mut c_void, bytes: usize) -> c_int {
    let Some(at) = crate::arena::alias(address, bytes as u64) else { return Status::INVALID_VALUE.0 };
    // SAFETY: in the driver's mapping; the caller gives the buffer.
    unsafe { ptr::copy_nonoverlapping(at, buffer.cast(), bytes) };
    0
}

/// Writes memory by the program's address, at once and in no order.
///
/// # Safety
///
/// * `buffer` has `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_poke(address: u64, buffer: *const c_void, bytes: usize) -> c_int {
    let Some(at) = crate::arena::alias(address, bytes as u64) else { return Status::INVALID_VALUE.0 };
    // SAFETY: in the driver's mapping; the caller gives the buffer.
    unsafe { ptr::copy_nonoverlapping(buffer.cast(), at, bytes) };
    0
}

/// How many nodes a graph has, or -1.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_graph_nodes(graph: usize) -> i64 {
    lock().graphs.get(&graph).map_or(-1, |graph| graph.nodes.len() as i64)
}

/// What the nodes of a graph do: a line each, with the nodes before it.
///
/// # Safety
///
/// * `buffer` is null or has `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_graph_text(graph: usize, buffer: *mut c_char, room: usize) -> usize {
    let state = lock();
    let nodes = state.graphs.get(&graph).map_or(&[][..], |graph| &graph.nodes);
    let lines = nodes.iter().enumerate().map(|(i, node)| format!("{i} after {:?}: {}\n", node.after, node.op.name()));
    // SAFETY: the caller gives as many bytes.
    unsafe { give_text(&lines.collect::<String>(), buffer, room) }
}

/// Whether an event's last record is done: 1, 0, or -1 for no such event. No call of the driver.
#[unsafe(no_mangle)]
pub extern "C" fn fake_cuda_event_done(event: usize) -> c_int {
    let state = lock();
    match state.events.get(&event).map(|event| &event.recorded) {
        None => -1,
        Some(Recorded::Point(point, _)) => c_int::from(state.reached(*point)),
        Some(Recorded::Nothing) => 1,
        Some(Recorded::Captured(..)) => 0,
    }
}

/// Writes a copy of this library that lacks functions (names with commas between): an older driver. Gives 0, or 1 where
/// a name is not there or the file cannot be written.
///
/// # Safety
///
/// * Both are C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_cuda_write_without(path: *const c_char, functions: *const c_char) -> c_int {
    // SAFETY: the caller gives C strings.
    let (Some(path), Some(functions)) = (unsafe { (text(path), text(functions)) }) else { return 1 };
    let names: Vec<&str> = functions.split(',').filter(|name| !name.is_empty()).collect();
    match hide::own_file().and_then(|file| hide::write_without(&file, path.as_ref(), &names)) {
        Ok(()) => 0,
        Err(why) => {
            entry::note(format!("no copy without {functions}: {why}"));
            1
        }
    }
}
