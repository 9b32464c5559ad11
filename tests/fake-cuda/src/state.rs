//! Everything the driver knows, under one lock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::arena::{self, Arena, GRANULE, PAGE};
use crate::capture::{Capture, Executable, Graph};
use crate::entry::CONTEXTS;
use crate::event::Event;
use crate::module::{Function, Module};
use crate::order::Order;
use crate::pool::Pool;
use crate::status::{Outcome, Status};
use crate::stream::Stream;

/// The most devices.
pub const DEVICES: usize = 8;
/// The address space of a device, in bytes: the most memory that it can be given.
pub const SPACE: u64 = 64 << 30;
/// The memory of a device that nobody set, in bytes.
pub const MEMORY: u64 = 4 << 30;
/// What is in memory that nobody wrote to.
pub const FRESH: u8 = 0xCD;
/// What is in memory that was freed.
pub const POISON: u8 = 0xDB;
/// How much of a new allocation is filled with [`FRESH`], in bytes.
const FRESH_FILLED: u64 = 4 << 20;

/// What memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Of a device: the program must not touch it.
    Device,
    /// Page-locked memory of the host.
    Pinned,
    /// Managed.
    Managed,
}

/// Memory that is allocated.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where it begins.
    pub start: u64,
    /// As was asked for.
    pub len: u64,
    /// As was taken.
    pub room: u64,
    /// What it is.
    pub kind: Kind,
    /// The device, or the one that was current.
    pub device: usize,
    /// A number that is never used again.
    pub id: u64,
    /// The pool that it is from.
    pub pool: Option<usize>,
    /// The flags of a pinned allocation.
    pub flags: u32,
    /// Allocated by a capture: it lives as long as the graph.
    pub graph: Option<u64>,
    /// Of another process: freeing it here leaves it.
    pub imported: bool,
}

/// One device and its primary context.
pub struct Device {
    /// The bytes that it has.
    pub memory: u64,
    /// The bytes that are taken.
    pub used: u64,
    /// Attributes that a test changed.
    pub attributes: HashMap<i32, i32>,
    pub(crate) arena: Option<Arena>,
    /// How often the context is retained.
    pub retained: u32,
    /// How often the context was made.
    pub made: u64,
    /// The flags of the context.
    pub flags: u32,
    /// Why the context is lost.
    pub lost: Option<Status>,
    /// The legacy default stream.
    pub legacy: u64,
    /// The default streams of threads.
    pub per_thread: HashMap<u64, u64>,
    /// Devices that this one's context may reach into.
    pub peers: HashSet<usize>,
    /// The pool that `cuMemAllocAsync` takes from.
    pub default_pool: usize,
}

/// Handles of one kind. One that was destroyed is used again by the next that is made, as with a real driver: a handle is
/// no name for ever.
pub struct Handles {
    base: usize,
    next: usize,
    free: Vec<usize>,
}

impl Handles {
    const fn new(base: usize) -> Handles {
        Handles { base, next: 1, free: Vec::new() }
    }

    /// A handle.
    pub fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            let handle = self.base + self.next * 64;
            self.next += 1;
            handle
        })
    }

    /// The handle is nobody's now.
    pub fn give(&mut self, handle: usize) {
        self.free.push(handle);
    }
}

/// Handles of each kind lie apart, so that one that is taken for another is not found.
pub struct AllHandles {
    pub(crate) streams: Handles,
    pub(crate) events: Handles,
    pub(crate) modules: Handles,
    pub(crate) functions: Handles,
    pub(crate) pools: Handles,
    pub(crate) graphs: Handles,
    pub(crate) execs: Handles,
}

/// Where the handles of contexts begin.
const CONTEXT_BASE: usize = 0x10_0000_0000;

/// Everything.
pub struct State {
    pub(crate) devices: Vec<Device>,
    pub(crate) version: i32,
    pub(crate) delay: Duration,
    /// Nothing that is queued runs.
    pub(crate) held: bool,
    pub(crate) host: Option<Arena>,
    pub(crate) pinned: u64,
    pub(crate) pinned_limit: u64,
    pub(crate) managed: u64,
    pub(crate) blocks: BTreeMap<u64, Block>,
    /// By key; keys are never used again.
    pub(crate) streams: HashMap<u64, Stream>,
    pub(crate) stream_keys: HashMap<usize, u64>,
    pub(crate) events: HashMap<usize, Event>,
    pub(crate) modules: HashMap<usize, Module>,
    pub(crate) functions: HashMap<usize, Function>,
    pub(crate) pools: HashMap<usize, Pool>,
    pub(crate) captures: HashMap<u64, Capture>,
    pub(crate) graphs: HashMap<usize, Graph>,
    pub(crate) execs: HashMap<usize, Executable>,
    pub(crate) handles: AllHandles,
    pub(crate) number: u64,
    pub(crate) order: Order,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
/// Signalled when work is queued, done, or released.
pub static CHANGED: Condvar = Condvar::new();

/// The state, locked. Made when first asked for.
pub struct Locked(MutexGuard<'static, Option<State>>);

impl std::ops::Deref for Locked {
    type Target = State;
    fn deref(&self) -> &State {
        self.0.as_ref().expect("made by `lock`")
    }
}

impl std::ops::DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_mut().expect("made by `lock`")
    }
}

impl Locked {
    /// Lets others have the state until something changes, or the time is over.
    pub fn wait(self, most: Duration) -> Locked {
        Locked(CHANGED.wait_timeout(self.0, most).unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// Locks the state.
pub fn lock() -> Locked {
    let mut guard = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_with(State::new);
    Locked(guard)
}

impl State {
    fn new() -> State {
        let mut state = State {
            devices: Vec::new(),
            version: 12080,
            delay: Duration::ZERO,
            held: false,
            host: None,
            pinned: 0,
            pinned_limit: SPACE,
            managed: 0,
            blocks: BTreeMap::new(),
            streams: HashMap::new(),
            stream_keys: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            pools: HashMap::new(),
            captures: HashMap::new(),
            graphs: HashMap::new(),
            execs: HashMap::new(),
            handles: AllHandles {
                streams: Handles::new(0x20_0000_0000),
                events: Handles::new(0x30_0000_0000),
                modules: Handles::new(0x40_0000_0000),
                functions: Handles::new(0x50_0000_0000),
                pools: Handles::new(0x60_0000_0000),
                graphs: Handles::new(0x70_0000_0000),
                execs: Handles::new(0x80_0000_0000),
            },
            number: 0,
            order: Order::default(),
        };
        state.set_devices(2);
        state
    }

    /// A number that was not given before.
    pub fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Sets how many devices there are. Devices that are taken away keep what is theirs.
    pub fn set_devices(&mut self, count: usize) {
        self.devices.truncate(count);
        while self.devices.len() < count {
            self.devices.push(Device {
                memory: MEMORY,
                used: 0,
                attributes: HashMap::new(),
                arena: None,
                retained: 0,
                made: 0,
                flags: 0,
                lost: None,
                legacy: 0,
                per_thread: HashMap::new(),
                peers: HashSet::new(),
                default_pool: 0,
            });
        }
    }

    /// The device of a `CUdevice`.
    pub fn device(&self, device: i32) -> Outcome<usize> {
        usize::try_from(device).ok().filter(|&i| i < self.devices.len()).ok_or(Status::INVALID_DEVICE)
    }

    /// The handle of a device's primary context.
    pub fn context_handle(ordinal: usize) -> usize {
        CONTEXT_BASE + (ordinal + 1) * 64
    }

    /// The device whose context a handle is; the context need not be alive.
    pub fn context_of(&self, handle: usize) -> Outcome<usize> {
        (0..self.devices.len()).find(|&i| State::context_handle(i) == handle).ok_or(Status::INVALID_CONTEXT)
    }

    /// The device whose context is current on this thread, alive and not lost.
    pub fn current(&self) -> Outcome<usize> {
        let current = CONTEXTS.with_borrow(|stack| stack.last().copied().flatten());
        let ordinal = current.filter(|&ordinal| ordinal < self.devices.len()).ok_or(Status::INVALID_CONTEXT)?;
        self.usable(ordinal)?;
        Ok(ordinal)
    }

    /// Whether the context of a device can be used.
    pub fn usable(&self, ordinal: usize) -> Outcome {
        let device = self.devices.get(ordinal).ok_or(Status::INVALID_CONTEXT)?;
        if device.retained == 0 {
            return Err(Status::CONTEXT_IS_DESTROYED);
        }
        device.lost.map_or(Ok(()), Err)
    }

    /// The allocation that an address is in.
    pub fn block(&self, address: u64) -> Option<&Block> {
        let (_, block) = self.blocks.range(..=address).next_back()?;
        (address - block.start < block.len).then_some(block)
    }

    /// Takes memory of a device, or of the host, and enters it. Pinned and managed memory may be touched by the program.
    pub fn allocate(&mut self, kind: Kind, device: usize, len: u64, flags: u32) -> Outcome<u64> {
        if len == 0 {
            return Err(Status::INVALID_VALUE);
        }
        // A length that cannot be rounded up is more than there is.
        let granule = if kind == Kind::Device { GRANULE } else { PAGE };
        let room = len.checked_next_multiple_of(granule).ok_or(Status::OUT_OF_MEMORY)?;
        let start = match kind {
            Kind::Device => self.take_device(device, room)?,
            _ => {
                if kind == Kind::Pinned && self.pinned.saturating_add(room) > self.pinned_limit {
                    return Err(Status::OUT_OF_MEMORY);
                }
                if self.host.is_none() {
                    self.host = Some(Arena::new(SPACE).ok_or(Status::OUT_OF_MEMORY)?);
                }
                let start = self.host.as_mut().and_then(|arena| arena.take(room)).ok_or(Status::OUT_OF_MEMORY)?;
                if !arena::let_program_touch(start, room, true) {
                    self.host.as_mut().expect("just used").give(start, room);
                    return Err(Status::OUT_OF_MEMORY);
                }
                *(if kind == Kind::Pinned { &mut self.pinned } else { &mut self.managed }) += room;
                start
            }
        };
        // Pages that were never touched cost nothing until they are: only the beginning is filled.
        arena::fill(start, room.min(FRESH_FILLED), FRESH);
        let id = self.number();
        let block = Block { start, len, room, kind, device, id, pool: None, flags, graph: None, imported: false };
        self.blocks.insert(start, block);
        Ok(start)
    }

    /// Takes a range of a device's memory, whole granules.
    pub fn take_device(&mut self, device: usize, room: u64) -> Outcome<u64> {
        let device = &mut self.devices[device];
        if device.used.checked_add(room).is_none_or(|used| used > device.memory) {
            return Err(Status::OUT_OF_MEMORY);
        }
        if device.arena.is_none() {
            device.arena = Some(Arena::new(SPACE).ok_or(Status::OUT_OF_MEMORY)?);
        }
        let start = device.arena.as_mut().and_then(|arena| arena.take(room)).ok_or(Status::OUT_OF_MEMORY)?;
        device.used += room;
        Ok(start)
    }

    /// Gives a range of a device's memory back.
    pub fn give_device(&mut self, device: usize, start: u64, room: u64) {
        let device = &mut self.devices[device];
        if let Some(arena) = device.arena.as_mut() {
            arena.give(start, room);
            device.used -= room;
        }
    }

    /// Frees memory that `allocate` took, now.
    pub fn release(&mut self, block: &Block) {
        self.blocks.remove(&block.start);
        arena::fill(block.start, block.room, POISON);
        match block.kind {
            Kind::Device => self.give_device(block.device, block.start, block.room),
            kind => {
                *(if kind == Kind::Pinned { &mut self.pinned } else { &mut self.managed }) -= block.room;
                // Only if the system has no memory for its own tables does this fail: then a stray access is not caught.
                arena::let_program_touch(block.start, block.room, false);
                if let Some(arena) = self.host.as_mut() {
                    arena.give(block.start, block.room);
                }
            }
        }
    }
}
