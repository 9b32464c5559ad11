//! Streams: queues with a thread each, which really run later than the call that filled them.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::arena;
use crate::copy::CopyJob;
use crate::entry::{self, IN_HOST_FUNCTION};
use crate::module::LaunchJob;
use crate::order::{Region, Stamp, Touch};
use crate::state::{CHANGED, Locked, POISON, State, lock};
use crate::status::{Outcome, Status};

/// How long a call waits for work that a test holds back, before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A point of a stream: when so much of its work is done. A stream that is gone has done everything.
pub type Point = (u64, u64);

/// One stream.
pub struct Stream {
    /// The device of its context.
    pub device: usize,
    /// Whether the legacy default stream waits for it, and it for that one.
    pub blocking: bool,
    /// Whether it is a legacy default stream.
    pub legacy: bool,
    pub(crate) queue: VecDeque<Queued>,
    /// How much was queued so far.
    pub submitted: u64,
    /// How much of it is done.
    pub completed: u64,
    /// Destroyed by the program; it ends when the queue is empty.
    pub destroyed: bool,
    /// Its own delay before each operation.
    pub delay: Option<Duration>,
    /// A test holds it back.
    pub held: bool,
    /// The capture that it takes part in.
    pub capture: Option<u64>,
    /// The nodes of the capture that the next one depends on.
    pub frontier: Vec<usize>,
}

pub(crate) struct Queued {
    after: Vec<Point>,
    op: Op,
    stamp: Stamp,
}

/// What a stream does.
#[derive(Clone)]
pub enum Op {
    /// Copies.
    Copy(Vec<CopyJob>),
    /// Sets bytes.
    Set {
        /// Where.
        start: u64,
        /// How many.
        len: u64,
        /// To what.
        byte: u8,
    },
    /// Frees memory of a pool: from here on it is poison.
    Free {
        /// Where.
        start: u64,
        /// How many bytes.
        len: u64,
    },
    /// Writes down when it was reached.
    Record(Arc<OnceLock<Instant>>),
    /// Does nothing but wait for what it depends on.
    Nothing,
    /// Calls a function of the program.
    Host(crate::abi::HostFn, HostData),
    /// Runs a kernel.
    Launch(Arc<LaunchJob>),
}

/// The argument of a host function.
#[derive(Clone, Copy)]
pub struct HostData(pub *mut c_void);
// SAFETY: whoever launches a host function gives an argument that it may have on the driver's thread.
unsafe impl Send for HostData {}

impl Op {
    /// What the log and a graph call it.
    pub fn name(&self) -> String {
        match self {
            Op::Copy(jobs) => {
                let bytes: usize = jobs.iter().map(CopyJob::bytes).sum();
                format!("copy {} pieces {bytes} bytes", jobs.len())
            }
            Op::Set { start, len, byte } => format!("set {start:#x} {len} bytes to {byte:#x}"),
            Op::Free { start, len } => format!("free {start:#x} {len} bytes"),
            Op::Record(_) => "record".into(),
            Op::Nothing => "nothing".into(),
            Op::Host(..) => "host function".into(),
            Op::Launch(job) => format!("kernel {}", job.name),
        }
    }

    /// The memory that it touches, where that is known before it runs.
    fn touches(&self) -> Vec<Touch> {
        let write = |start: u64, len: u64| vec![Touch { region: Region::line(start, len), writes: true }];
        match self {
            Op::Copy(jobs) => jobs.iter().flat_map(CopyJob::touches).collect(),
            Op::Set { start, len, .. } | Op::Free { start, len } => write(*start, *len),
            _ => Vec::new(),
        }
    }

    /// Does it, without the driver's lock. Gives the memory that it was found to touch.
    fn run(&self) -> Outcome<Vec<Touch>> {
        match self {
            Op::Copy(jobs) => jobs.iter().try_for_each(CopyJob::run)?,
            Op::Set { start, len, byte } => {
                let at = arena::alias(*start, *len).ok_or(Status::ILLEGAL_ADDRESS)?;
                // SAFETY: in the driver's mapping, which is never unmapped; no reference points into it.
                unsafe { std::ptr::write_bytes(at, *byte, *len as usize) };
            }
            Op::Free { start, len } => arena::fill(*start, *len, POISON),
            Op::Record(time) => {
                // A graph that is launched twice records anew; the first time is kept.
                let _ = time.set(Instant::now());
            }
            Op::Nothing => {}
            Op::Host(function, data) => {
                IN_HOST_FUNCTION.set(true);
                // SAFETY: the program launched it, with this argument, to be called here.
                unsafe { function(data.0) };
                IN_HOST_FUNCTION.set(false);
            }
            Op::Launch(job) => return job.run(),
        }
        Ok(Vec::new())
    }
}

impl State {
    /// A new stream; its thread starts with it.
    pub fn add_stream(&mut self, device: usize, blocking: bool, legacy: bool) -> u64 {
        let key = self.number();
        let stream = Stream {
            device,
            blocking,
            legacy,
            queue: VecDeque::new(),
            submitted: 0,
            completed: 0,
            destroyed: false,
            delay: None,
            held: false,
            capture: None,
            frontier: Vec::new(),
        };
        self.streams.insert(key, stream);
        let name = format!("fake-cuda-{key}");
        std::thread::Builder::new().name(name).spawn(move || work(key)).expect("a thread for a stream");
        key
    }

    /// The stream that a handle means on this thread. The default streams need a current context.
    pub fn stream_key(&mut self, handle: usize) -> Outcome<u64> {
        match handle {
            0 | 1 => {
                let device = self.current()?;
                if self.devices[device].legacy == 0 {
                    self.devices[device].legacy = self.add_stream(device, false, true);
                }
                Ok(self.devices[device].legacy)
            }
            2 => {
                let (device, thread) = (self.current()?, entry::thread());
                if let Some(&key) = self.devices[device].per_thread.get(&thread) {
                    return Ok(key);
                }
                let key = self.add_stream(device, true, false);
                self.devices[device].per_thread.insert(thread, key);
                Ok(key)
            }
            handle => {
                let key = *self.stream_keys.get(&handle).ok_or(Status::INVALID_HANDLE)?;
                self.usable(self.streams[&key].device)?;
                Ok(key)
            }
        }
    }

    /// Whether a point was reached.
    pub fn reached(&self, point: Point) -> bool {
        self.streams.get(&point.0).is_none_or(|stream| stream.completed >= point.1)
    }

    /// Where a stream is done with everything queued so far, and with everything that the next of it would wait for.
    pub fn points(&self, key: u64) -> Vec<Point> {
        let stream = &self.streams[&key];
        let mut points = vec![(key, stream.submitted)];
        points.extend(self.implicit(key));
        points
    }

    /// What the legacy default stream adds: it waits for every blocking stream of its context, and they for it.
    fn implicit(&self, key: u64) -> Vec<Point> {
        let stream = &self.streams[&key];
        let mut points: Vec<Point> = Vec::new();
        if stream.legacy {
            let blocking = self.streams.iter().filter(|(_, other)| other.blocking && other.device == stream.device);
            points.extend(blocking.map(|(&other, blocking)| (other, blocking.submitted)));
        } else if stream.blocking {
            let legacy = self.devices.get(stream.device).map_or(0, |device| device.legacy);
            points.extend(self.streams.get(&legacy).map(|other| (legacy, other.submitted)));
        }
        points
    }

    /// Queues work behind everything that is queued, and behind `after`. A stream that is captured keeps it as a node.
    pub fn enqueue(&mut self, key: u64, op: Op, after: Vec<Point>) -> Outcome<Point> {
        self.usable(self.streams[&key].device)?;
        if let Some(capture) = self.streams[&key].capture {
            self.add_node(capture, key, op)?;
            return Ok((key, self.streams[&key].submitted));
        }
        self.legacy_is_free(key)?;
        let mut after = after;
        after.extend(self.implicit(key));
        let point = (key, self.streams[&key].submitted + 1);
        let stamp = self.order.stamp(point, &after);
        let touches = op.touches();
        if !touches.is_empty() {
            self.touches(&stamp, &op.name(), touches);
        }
        let stream = self.streams.get_mut(&key).ok_or(Status::INVALID_HANDLE)?;
        stream.submitted += 1;
        stream.queue.push_back(Queued { after, op, stamp });
        CHANGED.notify_all();
        Ok(point)
    }

    /// Every point that a device has queued so far.
    pub fn device_points(&self, device: usize) -> Vec<Point> {
        let of_device = self.streams.iter().filter(|(_, stream)| stream.device == device);
        of_device.map(|(&key, stream)| (key, stream.submitted)).collect()
    }
}

/// Waits until every point was reached, for the program: what it asks for from now on comes after them. Gives up where a
/// test holds the work back for too long.
pub fn wait(state: Locked, points: &[Point]) -> Outcome<Locked> {
    let mut state = wait_apart(state, points)?;
    state.order.host_saw(points);
    Ok(state)
}

/// As [`wait`], for a test: it makes no order that the program does not.
pub fn wait_apart(mut state: Locked, points: &[Point]) -> Outcome<Locked> {
    let begin = Instant::now();
    loop {
        if points.iter().all(|&point| state.reached(point)) {
            return Ok(state);
        }
        let held = state.held || state.streams.values().any(|stream| stream.held);
        if held && begin.elapsed() > PATIENCE {
            entry::note("a call waited for work that is held back, and gave up".into());
            return Err(Status::LAUNCH_TIMEOUT);
        }
        state = state.wait(Duration::from_millis(500));
    }
}

/// The thread of a stream.
fn work(key: u64) {
    let mut state = lock();
    loop {
        let Some(stream) = state.streams.get(&key) else { return };
        let held = state.held || stream.held;
        match stream.queue.front() {
            None if stream.destroyed => {
                state.streams.remove(&key);
                CHANGED.notify_all();
                return;
            }
            Some(next) if !held && next.after.iter().all(|&point| state.reached(point)) => {
                let delay = stream.delay.unwrap_or(state.delay);
                let device = stream.device;
                // In a context that is lost nothing is done any more.
                let lost = state.devices.get(device).is_none_or(|device| device.lost.is_some());
                let stream = state.streams.get_mut(&key).expect("found above");
                let Queued { op, stamp, .. } = stream.queue.pop_front().expect("seen above");
                drop(state);
                if !delay.is_zero() {
                    std::thread::sleep(delay);
                }
                let done = if lost { Ok(Vec::new()) } else { op.run() };
                state = lock();
                match done {
                    Ok(touches) => state.touches(&stamp, &op.name(), touches),
                    Err(status) => {
                        entry::note(format!(
                            "stream {key}: {} failed with {}: the context is lost",
                            op.name(),
                            status.0
                        ));
                        if let Some(device) = state.devices.get_mut(device) {
                            device.lost.get_or_insert(status);
                        }
                    }
                }
                if let Some(stream) = state.streams.get_mut(&key) {
                    stream.completed += 1;
                }
                CHANGED.notify_all();
            }
            _ => state = state.wait(Duration::from_secs(3600)),
        }
    }
}
