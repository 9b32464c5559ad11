//! What a pool keeps under its lock: blocks on shelves, one for each stream.

use super::PoolStatistics;
use super::blocks::{Blocks, ByNumber, Taken};
use super::streams::{Key, Owner, Place};
use crate::Stream;

/// The shelf of memory that nobody has to wait for.
pub(super) const CLEAN: u32 = 0;
/// From so many streams on, one whose memory is all in use again is forgotten for a new one.
const OWNERS: usize = 64;

#[derive(Default)]
pub(super) struct State {
    pub(super) blocks: Blocks,
    /// The stream of each shelf. That of the first one is none.
    pub(super) owners: Vec<Shelf>,
    /// Streams by their keys.
    pub(super) by_key: ByNumber<u32>,
    /// Given back while captured.
    pub(super) captured: Vec<(Taken, u64)>,
    pub(super) statistics: PoolStatistics,
    pub(super) stamps: u64,
}

pub(super) struct Shelf {
    pub(super) owner: Owner,
    /// Changes whenever memory is given back: what was queued before an event is older than that.
    pub(super) stamp: u64,
    /// Somebody asks the driver about the stream, without the lock.
    pub(super) pinned: u32,
}

impl State {
    pub(super) fn new() -> State {
        let mut state = State::default();
        state.add(Owner { key: Key::CLEAN, stream: Stream::NONE, retired: None });
        state
    }

    pub(super) fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// The shelf of a stream, if it ever had one.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        if key == Key::CLEAN { Some(CLEAN) } else { self.by_key.get(&key.0).copied() }
    }

    pub(super) fn add(&mut self, owner: Owner) -> u32 {
        let stamp = self.stamp();
        let key = owner.key;
        let shelf = Shelf { owner, stamp, pinned: 0 };
        let unused = |i: &usize| *i != 0 && self.owners[*i].pinned == 0 && self.blocks.count(*i as u32) == 0;
        let index = match (self.owners.len() >= OWNERS).then(|| (0..self.owners.len()).find(unused)).flatten() {
            Some(index) => {
                let before = std::mem::replace(&mut self.owners[index], shelf).owner;
                if before.retired.is_none() {
                    self.by_key.remove(&before.key.0);
                }
                index as u32
            }
            None => {
                self.owners.push(shelf);
                self.blocks.add_shelf()
            }
        };
        if key != Key::CLEAN {
            self.by_key.insert(key.0, index);
        }
        index
    }

    pub(super) fn find_or_add(&mut self, key: Key, stream: Stream) -> u32 {
        self.find(key).unwrap_or_else(|| self.add(Owner { key, stream, retired: None }))
    }

    /// Takes a block off a shelf for the stream of another, or of the same one.
    pub(super) fn take(&mut self, shelf: u32, bytes: u64, align: u64, taker: u32) -> Option<u64> {
        let start = self.blocks.take(shelf, bytes, align, taker)?;
        self.statistics.in_use += bytes;
        Some(start)
    }

    /// What a stream may have without a question.
    pub(super) fn hit(&mut self, place: Place, bytes: u64, align: u64) -> Option<u64> {
        // Work that was queued on a captured stream before the capture is not in the graph, which may run beside it.
        let own = if place.capturing { None } else { self.find(place.key) };
        let found = own.and_then(|shelf| self.take(shelf, bytes, align, shelf));
        let clean = || match place.key {
            Key::CLEAN => None,
            _ => self.take(CLEAN, bytes, align, own.unwrap_or(CLEAN)),
        };
        let start = found.or_else(clean)?;
        self.statistics.hits += 1;
        Some(start)
    }

    /// The shelf of the stream that took a block, if a free on `stream` is one on that stream: no question to the driver, which
    /// would only say once more what its number is. Had it been destroyed while the block was in use, and another one got its
    /// handle, the block would be the first one's, and nobody would get it who is not ordered after that.
    pub(super) fn shelf_of_taker(&self, block: Taken, stream: Stream) -> Option<u32> {
        let shelf = self.blocks.taker(block);
        let owner = &self.owners[shelf as usize].owner;
        (shelf != CLEAN && stream.is_handle() && owner.stream == stream && owner.retired.is_none()).then_some(shelf)
    }

    /// Makes a block free again on a shelf.
    pub(super) fn free(&mut self, block: Taken, shelf: u32) {
        self.blocks.free(block, shelf);
        self.owners[shelf as usize].stamp = self.stamp();
    }

    /// Moves what one shelf has to another, whose stream waits for it.
    pub(super) fn move_all(&mut self, from: u32, to: u32) {
        self.blocks.move_all(from, to);
        // It may have been in use when it was last asked whether that stream is idle.
        self.owners[to as usize].stamp = self.stamp();
    }

    /// Undoes `take`.
    pub(super) fn put_back(&mut self, start: u64, shelf: u32) {
        if let Some((block, bytes)) = self.blocks.give(start) {
            self.statistics.in_use -= bytes;
            self.blocks.free(block, shelf);
        }
    }

    /// The stream is gone: nothing of it is used again.
    pub(super) fn lose(&mut self, shelf: u32) {
        self.statistics.lost += self.blocks.put_aside(shelf);
        let key = self.owners[shelf as usize].owner.key;
        if self.by_key.get(&key.0) == Some(&shelf) {
            self.by_key.remove(&key.0);
        }
        // What it took and is still in use has no shelf to go back to.
        self.owners[shelf as usize].owner.stream = Stream::NONE;
    }

    /// The streams other than one that have memory on their shelves. They stay until [`PoolMemory::unpin`].
    pub(super) fn pin_others(&mut self, own: Option<u32>) -> Vec<(u32, Owner, u64)> {
        let blocks = &self.blocks;
        let others = self.owners.iter_mut().enumerate().skip(1);
        let others = others.filter(|(i, _)| Some(*i as u32) != own && blocks.count(*i as u32) > 0);
        others
            .map(|(i, shelf)| {
                shelf.pinned += 1;
                (i as u32, shelf.owner.clone(), shelf.stamp)
            })
            .collect()
    }
}
