//! Which bytes are free, on which shelf: two levels of size classes with bitmaps, so that finding, splitting and joining take
//! a constant time however many blocks there are ("two-level segregated fit", Masmano et al. 2004). Nothing is written into
//! the memory itself, which the host may not be able to touch.
//!
//! A shelf holds what may be used by the same stream without waiting. Neighbours are joined if they are on one shelf, save for
//! the few blocks that were given back last, which are kept as they are ([`Recent`]).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::recent::Recent;

/// Sizes and addresses are multiples of it, in bytes: what the driver aligns its own allocations to.
pub(super) const GRANULE: u64 = 256;

/// No block.
pub(super) const NIL: u32 = u32::MAX;
/// Classes in each power of two; the largest block that a class may hold in vain is a sixteenth larger than the smallest.
const COLUMNS: usize = 16;
/// Powers of two: up to 2^32 granules, a tebibyte.
const ROWS: usize = 30;
/// How many blocks are looked at in the class where some may be large enough and some not.
const LOOKED_AT: usize = 8;

/// What a block is, besides free in a list of a shelf (a number below).
const LIVE: u32 = u32::MAX;
/// Kept out of use.
const ASIDE: u32 = u32::MAX - 1;
/// Not a block: the slot is free.
const EMPTY: u32 = u32::MAX - 2;
/// Free, and one of those that its shelf got last.
const WHOLE: u32 = u32::MAX - 3;

/// A range of a region.
#[derive(Clone, Copy)]
struct Block {
    start: u64,
    /// In granules.
    len: u32,
    /// The shelf it is free on, or one of the states above.
    state: u32,
    /// The shelf of the stream that took it last.
    taker: u32,
    /// The neighbours in the region.
    before: u32,
    after: u32,
    /// The neighbours in its list.
    previous: u32,
    next: u32,
}

/// The free blocks that one stream may use.
struct Shelf {
    rows: u32,
    columns: [u16; ROWS],
    heads: [[u32; COLUMNS]; ROWS],
    /// Free blocks in the lists.
    count: usize,
    recent: Recent,
}

impl Shelf {
    const fn new() -> Shelf {
        Shelf { rows: 0, columns: [0; ROWS], heads: [[NIL; COLUMNS]; ROWS], count: 0, recent: Recent::new() }
    }

    /// The first list at or above a class that is not empty.
    fn first(&self, row: usize, column: usize) -> Option<(usize, usize)> {
        if row >= ROWS {
            return None;
        }
        let here = if column < COLUMNS { self.columns[row] & (u16::MAX << column) } else { 0 };
        if here != 0 {
            return Some((row, here.trailing_zeros() as usize));
        }
        let above = self.rows & u32::MAX.checked_shl(row as u32 + 1).unwrap_or(0);
        let row = above.trailing_zeros() as usize;
        (above != 0).then(|| (row, self.columns[row].trailing_zeros() as usize))
    }
}

/// The class of a block of so many granules, not zero.
fn class(len: u32) -> (usize, usize) {
    let power = len.ilog2() as usize;
    if power < 4 { (0, len as usize) } else { (power - 3, (len >> (power - 4)) as usize - COLUMNS) }
}

/// Addresses are multiples of the granule and differ in their middle bits: a multiplication spreads them.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The table takes its index from the low bits and its tag from the high ones, which are the well mixed.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

pub(super) type ByNumber<V> = HashMap<u64, V, BuildHasherDefault<Spread>>;

/// A block that was taken, to be made free again or put aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Taken(u32);

/// The blocks of all regions.
#[derive(Default)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    slots: Vec<u32>,
    shelves: Vec<Shelf>,
    /// Blocks that are in no list, by address: in use, put aside, or given back last.
    known: ByNumber<u32>,
    /// Blocks in use.
    live: usize,
}

impl Blocks {
    /// A new shelf, which is empty.
    pub(super) fn add_shelf(&mut self) -> u32 {
        self.shelves.push(Shelf::new());
        self.shelves.len() as u32 - 1
    }

    /// How many free blocks are on a shelf.
    pub(super) fn count(&self, shelf: u32) -> usize {
        let shelf = &self.shelves[shelf as usize];
        shelf.count + shelf.recent.count
    }

    /// How many blocks are in use.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Enters memory that is free. Start and length are multiples of the granule; the length is not zero and below a tebibyte.
    pub(super) fn add_region(&mut self, start: u64, bytes: u64, shelf: u32) {
        let block = Block {
            start,
            len: (bytes / GRANULE) as u32,
            state: EMPTY,
            taker: shelf,
            before: NIL,
            after: NIL,
            previous: NIL,
            next: NIL,
        };
        let index = self.insert(block);
        self.link(index, shelf);
    }

    /// Takes `bytes` bytes, a multiple of the granule, aligned to `align`, a power of two, from a shelf, for the stream of a
    /// shelf.
    pub(super) fn take(&mut self, shelf: u32, bytes: u64, align: u64, taker: u32) -> Option<u64> {
        let wanted = u32::try_from(bytes / GRANULE).ok()?;
        let index = self.take_recent(shelf, wanted, align);
        let index = index.or_else(|| self.take_listed(shelf, wanted, align));
        let index = index.or_else(|| {
            // Joined with their neighbours they may be large enough.
            self.settle(shelf).then(|| self.take_listed(shelf, wanted, align)).flatten()
        })?;
        let block = &mut self.blocks[index as usize];
        (block.state, block.taker) = (LIVE, taker);
        self.live += 1;
        Some(block.start)
    }

    /// The block of that size that was given back last, if it is one of the few that are kept.
    fn take_recent(&mut self, shelf: u32, wanted: u32, align: u64) -> Option<u32> {
        let recent = &mut self.shelves[shelf as usize].recent;
        let fits = |at: &usize| self.blocks[recent.blocks[*at] as usize].start.is_multiple_of(align);
        let at = recent.places(wanted).find(fits)?;
        Some(recent.remove(at))
    }

    fn take_listed(&mut self, shelf: u32, wanted: u32, align: u64) -> Option<u32> {
        let slack = u32::try_from(align.saturating_sub(GRANULE) / GRANULE).ok()?;
        let index = self.find(shelf, wanted.checked_add(slack)?)?;
        self.unlink(index);
        let start = self.blocks[index as usize].start;
        let skip = (start.next_multiple_of(align) - start) / GRANULE;
        let index = if skip == 0 {
            index
        } else {
            let rest = self.split(index, skip as u32);
            self.link(index, shelf);
            rest
        };
        if self.blocks[index as usize].len > wanted {
            let rest = self.split(index, wanted);
            self.link(rest, shelf);
        }
        self.known.insert(self.blocks[index as usize].start, index);
        Some(index)
    }

    /// A block in use by its address, which it is not any more; and its size in bytes.
    pub(super) fn give(&mut self, start: u64) -> Option<(Taken, u64)> {
        let index = *self.known.get(&start)?;
        let block = &mut self.blocks[index as usize];
        if block.state != LIVE {
            return None;
        }
        block.state = ASIDE;
        self.live -= 1;
        Some((Taken(index), u64::from(block.len) * GRANULE))
    }

    /// The shelf of the stream that took a block.
    pub(super) fn taker(&self, Taken(index): Taken) -> u32 {
        self.blocks[index as usize].taker
    }

    /// Makes a block free on a shelf, as it is.
    pub(super) fn free(&mut self, Taken(index): Taken, shelf: u32) {
        let block = &mut self.blocks[index as usize];
        block.state = WHOLE;
        if let Some(oldest) = self.shelves[shelf as usize].recent.push(index, block.len) {
            self.free_joined(oldest, shelf);
        }
    }

    /// Puts what a shelf got last into its lists; says whether that was anything.
    fn settle(&mut self, shelf: u32) -> bool {
        let mut any = false;
        while let Some(index) = self.shelves[shelf as usize].recent.pop() {
            self.free_joined(index, shelf);
            any = true;
        }
        any
    }

    /// Makes a block that is in no list free on a shelf, joined with its neighbours there.
    fn free_joined(&mut self, index: u32, shelf: u32) {
        let Block { start, before, after, .. } = self.blocks[index as usize];
        self.known.remove(&start);
        if after != NIL && self.blocks[after as usize].state == shelf {
            self.unlink(after);
            self.join(index, after);
        }
        let mut index = index;
        if before != NIL && self.blocks[before as usize].state == shelf {
            self.unlink(before);
            self.join(before, index);
            index = before;
        }
        self.link(index, shelf);
    }

    /// Moves every block of a shelf to another, joined with its neighbours there.
    pub(super) fn move_all(&mut self, from: u32, to: u32) {
        self.drain(from, |blocks, index| blocks.free_joined(index, to));
    }

    /// Takes every block off a shelf, and keeps it out of use; gives the bytes.
    pub(super) fn put_aside(&mut self, shelf: u32) -> u64 {
        let mut bytes = 0;
        self.drain(shelf, |blocks, index| bytes += u64::from(blocks.blocks[index as usize].len) * GRANULE);
        bytes
    }

    /// Takes the regions that are free as a whole off a shelf: their starts and lengths in bytes.
    pub(super) fn remove_regions(&mut self, shelf: u32) -> Vec<(u64, u64)> {
        self.settle(shelf);
        let whole = |(_, block): &(usize, &Block)| block.state == shelf && block.before == NIL && block.after == NIL;
        let found: Vec<u32> = self.blocks.iter().enumerate().filter(whole).map(|(i, _)| i as u32).collect();
        found
            .into_iter()
            .map(|index| {
                self.unlink(index);
                let Block { start, len, .. } = self.blocks[index as usize];
                self.remove(index);
                (start, u64::from(len) * GRANULE)
            })
            .collect()
    }

    fn drain(&mut self, shelf: u32, mut each: impl FnMut(&mut Blocks, u32)) {
        self.settle(shelf);
        while let Some((row, column)) = self.shelves[shelf as usize].first(0, 0) {
            let index = self.shelves[shelf as usize].heads[row][column];
            self.unlink(index);
            each(self, index);
        }
    }

    /// A block of a shelf with at least so many granules.
    fn find(&self, shelf: u32, wanted: u32) -> Option<u32> {
        let shelf = &self.shelves[shelf as usize];
        let (row, column) = class(wanted);
        // A block that was given back is asked for again most of all, and it lies first in its own class.
        let mut index = shelf.heads[row][column];
        for _ in 0..LOOKED_AT {
            if index == NIL {
                break;
            }
            let block = &self.blocks[index as usize];
            if block.len >= wanted {
                return Some(index);
            }
            index = block.next;
        }
        // Every block of the classes above is large enough.
        let (row, column) = shelf.first(row, column + 1)?;
        Some(shelf.heads[row][column])
    }

    fn link(&mut self, index: u32, shelf: u32) {
        let (row, column) = class(self.blocks[index as usize].len);
        let lists = &mut self.shelves[shelf as usize];
        let next = std::mem::replace(&mut lists.heads[row][column], index);
        lists.rows |= 1 << row;
        lists.columns[row] |= 1 << column;
        lists.count += 1;
        if next != NIL {
            self.blocks[next as usize].previous = index;
        }
        let block = &mut self.blocks[index as usize];
        (block.state, block.previous, block.next) = (shelf, NIL, next);
    }

    fn unlink(&mut self, index: u32) {
        let Block { len, state, previous, next, .. } = self.blocks[index as usize];
        if next != NIL {
            self.blocks[next as usize].previous = previous;
        }
        let lists = &mut self.shelves[state as usize];
        lists.count -= 1;
        if previous != NIL {
            self.blocks[previous as usize].next = next;
        } else {
            let (row, column) = class(len);
            lists.heads[row][column] = next;
            if next == NIL {
                lists.columns[row] &= !(1 << column);
                if lists.columns[row] == 0 {
                    lists.rows &= !(1 << row);
                }
            }
        }
        self.blocks[index as usize].state = ASIDE;
    }

    /// Cuts a block after so many granules; gives the second part. Both are in no list.
    fn split(&mut self, index: u32, len: u32) -> u32 {
        let first = self.blocks[index as usize];
        let rest = self.insert(Block {
            start: first.start + u64::from(len) * GRANULE,
            len: first.len - len,
            before: index,
            ..first
        });
        if first.after != NIL {
            self.blocks[first.after as usize].before = rest;
        }
        let block = &mut self.blocks[index as usize];
        (block.len, block.after) = (len, rest);
        rest
    }

    /// Adds a block to the one before it. Both are in no list.
    fn join(&mut self, index: u32, second: u32) {
        let Block { len, after, .. } = self.blocks[second as usize];
        let block = &mut self.blocks[index as usize];
        block.len += len;
        block.after = after;
        if after != NIL {
            self.blocks[after as usize].before = index;
        }
        self.remove(second);
    }

    fn insert(&mut self, block: Block) -> u32 {
        match self.slots.pop() {
            Some(index) => {
                self.blocks[index as usize] = block;
                index
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, index: u32) {
        self.blocks[index as usize].state = EMPTY;
        self.slots.push(index);
    }
}

#[cfg(test)]
mod tests;
