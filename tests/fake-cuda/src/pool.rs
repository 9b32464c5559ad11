//! Stream-ordered pools.

use std::collections::HashSet;

use crate::abi::pool_attribute as attribute;
use crate::arena::{self, Arena, GRANULE};
use crate::state::{Block, FRESH, Kind, SPACE, State};
use crate::status::{Outcome, Status};
use crate::stream::{Op, Point};

/// One pool.
pub struct Pool {
    /// Where its memory is.
    pub device: usize,
    /// `CUmemAllocationHandleType` of the exports that it allows.
    pub handle_types: u32,
    /// Its own memory, if it is shared with other processes.
    pub(crate) arena: Option<Arena>,
    /// From another process: nothing is allocated from it.
    pub imported: bool,
    /// Freed memory that the pool keeps.
    free: Vec<Free>,
    /// How much it keeps beyond the next synchronisation, in bytes.
    pub threshold: u64,
    /// The three rules of reuse.
    pub reuse: [u32; 3],
    /// In use, in bytes, and the most that ever was.
    pub used: [u64; 2],
    /// Taken from the device, in bytes, and the most that ever was.
    pub reserved: [u64; 2],
    /// The most bytes; 0 for as many as there are.
    pub max_size: u64,
    /// Other devices that may use its memory.
    pub access: HashSet<usize>,
    /// Destroyed: it goes with its last allocation.
    pub destroyed: bool,
    /// The default pool of its device.
    pub is_default: bool,
}

/// Memory that was freed, and where in stream order that takes effect.
#[derive(Clone, Copy)]
struct Free {
    start: u64,
    len: u64,
    after: Point,
}

impl Pool {
    fn note_high(&mut self) {
        self.used[1] = self.used[1].max(self.used[0]);
        self.reserved[1] = self.reserved[1].max(self.reserved[0]);
    }

    /// An attribute; whether it is a `u64` and not an `int`.
    pub fn attribute(&self, which: u32) -> Outcome<(u64, bool)> {
        Ok(match which {
            attribute::REUSE_FOLLOW_EVENT_DEPENDENCIES..=attribute::REUSE_ALLOW_INTERNAL_DEPENDENCIES => {
                (u64::from(self.reuse[which as usize - 1]), false)
            }
            attribute::RELEASE_THRESHOLD => (self.threshold, true),
            attribute::RESERVED_MEM_CURRENT => (self.reserved[0], true),
            attribute::RESERVED_MEM_HIGH => (self.reserved[1], true),
            attribute::USED_MEM_CURRENT => (self.used[0], true),
            attribute::USED_MEM_HIGH => (self.used[1], true),
            _ => return Err(Status::INVALID_VALUE),
        })
    }

    /// Sets one. The marks of the most can be set to zero only.
    pub fn set_attribute(&mut self, which: u32, value: u64) -> Outcome {
        match which {
            attribute::REUSE_FOLLOW_EVENT_DEPENDENCIES..=attribute::REUSE_ALLOW_INTERNAL_DEPENDENCIES => {
                self.reuse[which as usize - 1] = u32::from(value != 0);
            }
            attribute::RELEASE_THRESHOLD => self.threshold = value,
            attribute::RESERVED_MEM_HIGH if value == 0 => self.reserved[1] = self.reserved[0],
            attribute::USED_MEM_HIGH if value == 0 => self.used[1] = self.used[0],
            _ => return Err(Status::INVALID_VALUE),
        }
        Ok(())
    }

    /// Whether a device's kernels may use its memory.
    pub fn is_open_to(&self, device: usize) -> bool {
        self.device == device || self.access.contains(&device)
    }
}

impl State {
    /// A new pool. One whose memory can be shared has a file of its own.
    pub fn add_pool(&mut self, device: usize, handle_types: u32, max_size: u64, file: Option<Arena>) -> Outcome<usize> {
        let imported = file.is_some();
        let arena = match file {
            Some(arena) => Some(arena),
            None if handle_types != 0 => Some(Arena::new(SPACE / 4).ok_or(Status::OUT_OF_MEMORY)?),
            None => None,
        };
        let handle = self.handles.pools.take();
        let pool = Pool {
            device,
            handle_types,
            arena,
            imported,
            free: Vec::new(),
            threshold: 0,
            reuse: [1; 3],
            used: [0; 2],
            reserved: [0; 2],
            max_size,
            access: HashSet::new(),
            destroyed: false,
            is_default: false,
        };
        self.pools.insert(handle, pool);
        Ok(handle)
    }

    /// The pool of a device that nobody made.
    pub fn default_pool(&mut self, device: usize) -> Outcome<usize> {
        if self.devices[device].default_pool == 0 {
            let handle = self.add_pool(device, 0, 0, None)?;
            self.pools.get_mut(&handle).expect("just made").is_default = true;
            self.devices[device].default_pool = handle;
        }
        Ok(self.devices[device].default_pool)
    }

    /// A pool by its handle.
    pub fn pool(&mut self, handle: usize) -> Outcome<&mut Pool> {
        self.pools.get_mut(&handle).filter(|pool| !pool.destroyed).ok_or(Status::INVALID_VALUE)
    }

    /// Allocates in the order of a stream.
    pub fn allocate_async(&mut self, handle: usize, key: u64, len: u64) -> Outcome<u64> {
        let pool = self.pool(handle)?;
        if len == 0 || pool.imported {
            return Err(Status::INVALID_VALUE);
        }
        let device = pool.device;
        let room = len.checked_next_multiple_of(GRANULE).ok_or(Status::OUT_OF_MEMORY)?;
        let capture = self.streams[&key].capture;
        if let Some(id) = capture {
            self.add_node(id, key, Op::Nothing)?;
        }
        let start = match self.reuse(handle, key, room) {
            Some((start, Ok(after))) => {
                // The same stream, or one whose free the driver saw done.
                let next = (key, self.streams[&key].submitted + 1);
                self.order.follow(next, after);
                start
            }
            Some((start, Err(after))) => {
                self.enqueue(key, Op::Nothing, vec![after])?;
                start
            }
            None => self.grow(handle, room)?,
        };
        let id = self.number();
        let pool = self.pools.get_mut(&handle).expect("looked up above");
        pool.used[0] += room;
        pool.note_high();
        let kind = Kind::Device;
        let pool = Some(handle);
        self.blocks.insert(
            start,
            Block { start, len, room, kind, device, id, pool, flags: 0, graph: capture, imported: false },
        );
        Ok(start)
    }

    /// Freed memory that a stream may have at once, with the point of its free, or as an error what it must wait for first.
    fn reuse(&mut self, handle: usize, key: u64, room: u64) -> Option<(u64, Result<Point, Point>)> {
        let captured = self.streams[&key].capture.is_some();
        let pool = &self.pools[&handle];
        let [_, opportunistic, internal] = pool.reuse.map(|rule| rule != 0);
        let fit = |may: &dyn Fn(&Free) -> bool| {
            let fitting = pool.free.iter().enumerate().filter(|(_, free)| free.len >= room && may(free));
            fitting.min_by_key(|(_, free)| free.len).map(|(i, _)| i)
        };
        let at_once = |free: &Free| {
            let done = self.reached(free.after);
            // What a capture allocates must be free whenever the graph runs.
            if captured { done } else { free.after.0 == key || (opportunistic && done) }
        };
        let (index, waits) = match fit(&at_once) {
            Some(index) => (index, false),
            None if internal && !captured => (fit(&|_| true)?, true),
            None => return None,
        };
        let pool = self.pools.get_mut(&handle).expect("looked up above");
        let free = &mut pool.free[index];
        let (start, after) = (free.start, free.after);
        (free.start, free.len) = (free.start + room, free.len - room);
        if free.len == 0 {
            pool.free.swap_remove(index);
        }
        Some((start, if waits { Err(after) } else { Ok(after) }))
    }

    /// Takes more of the device for a pool. Where there is no more, what all pools keep is given back first.
    fn grow(&mut self, handle: usize, room: u64) -> Outcome<u64> {
        let pool = &self.pools[&handle];
        let (device, own) = (pool.device, pool.arena.is_some());
        if pool.max_size != 0 && pool.reserved[0] + room > pool.max_size {
            return Err(Status::OUT_OF_MEMORY);
        }
        let take = |state: &mut State| {
            if !own {
                return state.take_device(device, room);
            }
            let of_device = &state.devices[device];
            if of_device.used.checked_add(room).is_none_or(|used| used > of_device.memory) {
                return Err(Status::OUT_OF_MEMORY);
            }
            let arena = state.pools.get_mut(&handle).and_then(|pool| pool.arena.as_mut());
            let start = arena.and_then(|arena| arena.take(room)).ok_or(Status::OUT_OF_MEMORY)?;
            state.devices[device].used += room;
            Ok(start)
        };
        let start = take(self).or_else(|_| {
            let of_device = self.pools.iter().filter(|(_, pool)| pool.device == device).map(|(&handle, _)| handle);
            for handle in of_device.collect::<Vec<_>>() {
                self.trim(handle, 0);
            }
            take(self)
        })?;
        let pool = self.pools.get_mut(&handle).expect("looked up above");
        pool.reserved[0] += room;
        pool.note_high();
        arena::fill(start, room.min(4 << 20), FRESH);
        Ok(start)
    }

    /// Frees in the order of a stream. Memory that is from no pool goes to the default pool of its device.
    pub fn free_async(&mut self, start: u64, key: u64) -> Outcome {
        let block = self.blocks.get(&start).ok_or(Status::INVALID_VALUE)?;
        if block.kind != Kind::Device {
            return Err(Status::INVALID_VALUE);
        }
        let (room, imported) = (block.room, block.imported);
        if imported {
            self.blocks.remove(&start);
            return Ok(());
        }
        let captured = self.streams[&key].capture;
        let op = Op::Free { start, len: room };
        if let Some(id) = captured {
            // The memory stays with the graph, which allocates and frees it each time that it runs.
            if block.graph != Some(id) {
                self.break_capture(id);
                return Err(Status::INVALID_VALUE);
            }
            return self.add_node(id, key, op);
        }
        let point = self.enqueue(key, op, Vec::new())?;
        self.free_to_pool(start, point);
        Ok(())
    }

    /// The memory of a block is its pool's again from a point on.
    pub fn free_to_pool(&mut self, start: u64, after: Point) {
        let Some(block) = self.blocks.remove(&start) else { return };
        if self.reached(after) {
            arena::fill(start, block.room, crate::state::POISON);
        }
        let handle = match block.pool {
            Some(handle) => handle,
            None => {
                let Ok(handle) = self.default_pool(block.device) else { return };
                let pool = self.pools.get_mut(&handle).expect("just asked for");
                pool.reserved[0] += block.room;
                pool.used[0] += block.room;
                pool.note_high();
                handle
            }
        };
        let Some(mut pool) = self.pools.remove(&handle) else { return };
        pool.used[0] -= block.room;
        let mut freed = Free { start, len: block.room, after };
        // Neighbours become one where both are free at the same time.
        pool.free.retain(|other| {
            let alike = other.after == freed.after || (self.reached(other.after) && self.reached(freed.after));
            if alike && other.start + other.len == freed.start {
                (freed.start, freed.len) = (other.start, freed.len + other.len);
                return false;
            }
            if alike && freed.start + freed.len == other.start {
                freed.len += other.len;
                return false;
            }
            true
        });
        pool.free.push(freed);
        self.pools.insert(handle, pool);
        self.bury(handle);
    }

    /// Gives back what a pool keeps and nobody waits for, until it has no more than `keep` bytes.
    pub fn trim(&mut self, handle: usize, keep: u64) {
        let Some(mut pool) = self.pools.remove(&handle) else { return };
        let mut kept = Vec::new();
        for free in std::mem::take(&mut pool.free) {
            if pool.reserved[0] <= keep || !self.reached(free.after) {
                kept.push(free);
                continue;
            }
            pool.reserved[0] -= free.len;
            // Whoever gets it next comes after the free: the driver saw it done.
            self.order.host_saw(&[free.after]);
            match pool.arena.as_mut() {
                Some(arena) => {
                    arena.give(free.start, free.len);
                    self.devices[pool.device].used -= free.len;
                }
                None => self.give_device(pool.device, free.start, free.len),
            }
        }
        pool.free = kept;
        self.pools.insert(handle, pool);
    }

    /// What every synchronisation does: pools give back what is above their threshold.
    pub fn trim_all(&mut self) {
        for handle in self.pools.keys().copied().collect::<Vec<_>>() {
            let keep = self.pools[&handle].threshold;
            self.trim(handle, keep);
            self.bury(handle);
        }
    }

    /// Destroys a pool, at once or with its last allocation.
    pub fn destroy_pool(&mut self, handle: usize) -> Outcome {
        let pool = self.pool(handle)?;
        if pool.is_default {
            return Err(Status::INVALID_VALUE);
        }
        pool.destroyed = true;
        self.bury(handle);
        Ok(())
    }

    fn bury(&mut self, handle: usize) {
        if !self.pools.get(&handle).is_some_and(|pool| pool.destroyed) {
            return;
        }
        self.trim(handle, 0);
        let pool = &self.pools[&handle];
        let imports = self.blocks.values().any(|block| block.pool == Some(handle));
        if pool.used[0] == 0 && pool.reserved[0] == 0 && !imports {
            self.pools.remove(&handle);
            self.handles.pools.give(handle);
        }
    }

    /// Whether an address is in memory that a pool keeps: it is mapped, though nobody has it.
    pub fn is_kept(&self, address: u64) -> Option<(u64, u64, usize)> {
        self.pools.iter().find_map(|(&handle, pool)| {
            let inside = |free: &&Free| address >= free.start && address - free.start < free.len;
            pool.free.iter().find(inside).map(|free| (free.start, free.len, handle))
        })
    }
}
