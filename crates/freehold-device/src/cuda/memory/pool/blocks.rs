//! Which bytes are free, on which shelf: two levels of size classes with bitmaps, so that finding, splitting and joining take
//! a constant time however many blocks there are ("two-level segregated fit", Masmano et al. 2004). Nothing is written into
//! the memory itself, which the host may not be able to touch.
//!
//! A shelf holds what may be used by the same stream without waiting. Neighbours are joined if they are on one shelf, save for
//! the few blocks that were given back last: a request for as many bytes as one of them has gets it as it is. To join it, only to
//! cut it again, is most of what a request and its free cost otherwise.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Sizes and addresses are multiples of it, in bytes: what the driver aligns its own allocations to.
pub(super) const GRANULE: u64 = 256;

/// No block.
const NIL: u32 = u32::MAX;
/// Classes in each power of two; the largest block that a class may hold in vain is a sixteenth larger than the smallest.
const COLUMNS: usize = 16;
/// Powers of two: up to 2^32 granules, a tebibyte.
const ROWS: usize = 30;
/// How many blocks are looked at in the class where some may be large enough and some not.
const LOOKED_AT: usize = 8;
/// How many blocks of a shelf are kept as they were given back.
const RECENT: usize = 8;

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

/// The blocks that a shelf got last, kept as they were given back.
struct Recent {
    /// Their lengths, 0 where there is none; and which they are.
    lens: [u32; RECENT],
    blocks: [u32; RECENT],
    /// The place of the next one: that of the oldest, if all are taken.
    next: usize,
    count: usize,
}

impl Recent {
    const fn new() -> Recent {
        Recent { lens: [0; RECENT], blocks: [NIL; RECENT], next: 0, count: 0 }
    }

    /// Keeps a block; gives the one that was kept in its place.
    fn push(&mut self, index: u32, len: u32) -> Option<u32> {
        let at = self.next;
        let before = (self.lens[at] != 0).then_some(self.blocks[at]);
        (self.lens[at], self.blocks[at]) = (len, index);
        self.next = (at + 1) % RECENT;
        self.count += usize::from(before.is_none());
        before
    }

    /// The places of blocks of a length, that of the newest first.
    fn places(&self, len: u32) -> impl Iterator<Item = usize> + use<> {
        let equal = self.lens.iter().enumerate().fold(0_u8, |bits, (i, &each)| bits | u8::from(each == len) << i);
        let next = self.next;
        let mut left = equal.rotate_right(next as u32);
        std::iter::from_fn(move || {
            let newest = left.checked_ilog2()?;
            left &= !(1 << newest);
            Some((newest as usize + next) % RECENT)
        })
    }

    /// Takes out the block at a place.
    fn remove(&mut self, at: usize) -> u32 {
        self.lens[at] = 0;
        self.count -= 1;
        if (at + 1) % RECENT == self.next {
            self.next = at;
        }
        self.blocks[at]
    }

    /// Takes out some block.
    fn pop(&mut self) -> Option<u32> {
        let at = self.lens.iter().position(|&len| len != 0)?;
        Some(self.remove(at))
    }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Blocks {
        /// Every list and every neighbour is as it should be, and the blocks cover the regions without a gap.
        fn check(&self, total: u64) {
            let (mut bytes, mut live, mut whole) = (0, 0, 0);
            let mut free = vec![0; self.shelves.len()];
            for (i, block) in self.blocks.iter().enumerate() {
                if block.state == EMPTY {
                    continue;
                }
                bytes += u64::from(block.len) * GRANULE;
                assert!(block.len > 0);
                if block.after != NIL {
                    let after = &self.blocks[block.after as usize];
                    assert_eq!((after.before, after.start), (i as u32, block.start + u64::from(block.len) * GRANULE));
                    assert!(after.state >= WHOLE || after.state != block.state, "neighbours on one shelf are joined");
                }
                if (block.state as usize) < self.shelves.len() {
                    free[block.state as usize] += 1;
                    let (row, column) = class(block.len);
                    assert!(self.shelves[block.state as usize].columns[row] & (1 << column) != 0);
                }
                let known = self.known.get(&block.start) == Some(&(i as u32));
                assert_eq!(known, [LIVE, ASIDE, WHOLE].contains(&block.state));
                live += usize::from(block.state == LIVE);
                whole += usize::from(block.state == WHOLE);
            }
            assert_eq!(bytes, total, "nothing is lost");
            assert_eq!(live, self.live);
            assert_eq!(whole, self.shelves.iter().map(|shelf| shelf.recent.count).sum());
            for (shelf, free) in self.shelves.iter().zip(free) {
                assert_eq!(shelf.count, free);
                let recent = &shelf.recent;
                let kept = || recent.lens.iter().zip(&recent.blocks).filter(|(len, _)| **len != 0);
                assert_eq!(kept().count(), recent.count);
                for (len, index) in kept() {
                    let block = &self.blocks[*index as usize];
                    assert_eq!((block.len, block.state), (*len, WHOLE));
                }
                for row in 0..ROWS {
                    assert_eq!(shelf.rows & (1 << row) != 0, shelf.columns[row] != 0);
                    for column in 0..COLUMNS {
                        assert_eq!(shelf.columns[row] & (1 << column) != 0, shelf.heads[row][column] != NIL);
                    }
                }
            }
        }
    }

    #[test]
    fn classes_are_in_order_and_a_sixteenth_apart() {
        let mut last = (0, 0);
        for len in (1..1 << 12).chain((12..32).flat_map(|power| [(1_u32 << power) - 1, 1 << power, (1 << power) + 1])) {
            let now = class(len);
            assert!(now >= last && now.0 < ROWS && now.1 < COLUMNS, "{len}");
            last = now;
        }
        assert!(class(u32::MAX) >= last && class(u32::MAX).0 < ROWS);
        assert_eq!((class(1), class(15), class(16), class(31), class(32)), ((0, 1), (0, 15), (1, 0), (1, 15), (2, 0)));
    }

    #[test]
    fn what_is_given_back_becomes_one_block_again() {
        let mut blocks = Blocks::default();
        let shelf = blocks.add_shelf();
        blocks.add_region(1 << 20, 1 << 20, shelf);
        let taken: Vec<u64> = (0..4096).map(|_| blocks.take(shelf, 256, 256, shelf).expect("a granule")).collect();
        assert_eq!((blocks.take(shelf, 256, 256, shelf), blocks.live()), (None, 4096));
        for start in taken.iter().step_by(2).chain(taken.iter().skip(1).step_by(2)) {
            let (block, bytes) = blocks.give(*start).expect("in use");
            assert_eq!(bytes, 256);
            blocks.free(block, shelf);
        }
        blocks.check(1 << 20);
        assert!(blocks.count(shelf) <= 1 + 2 * RECENT, "all but the last few are joined");
        let whole = blocks.take(shelf, 1 << 20, 256, shelf);
        assert_eq!(whole, Some(1 << 20), "those are joined when nothing else is large enough");
        let (block, _) = blocks.give(1 << 20).expect("in use");
        assert!(blocks.give(1 << 20).is_none());
        blocks.free(block, shelf);
        assert!(blocks.give(1 << 20).is_none(), "nor while it is kept as it is");
        blocks.check(1 << 20);
    }

    #[test]
    fn the_block_given_back_last_is_had_as_it_is() {
        let mut blocks = Blocks::default();
        let (shelf, other) = (blocks.add_shelf(), blocks.add_shelf());
        blocks.add_region(1 << 20, 1 << 20, shelf);
        let mut take = |bytes| blocks.take(shelf, bytes, 256, other).expect("room");
        let (first, second, third) = (take(4096), take(4096), take(512));
        for start in [first, second, third] {
            let (block, _) = blocks.give(start).expect("in use");
            assert_eq!(blocks.taker(block), other);
            blocks.free(block, shelf);
        }
        assert_eq!(blocks.take(other, 4096, 256, other), None, "it is on one shelf");
        assert_eq!(blocks.take(shelf, 4096, 256, shelf), Some(second));
        assert_eq!(blocks.take(shelf, 4096, 8192, shelf), Some(first), "at an address that is aligned as asked");
        blocks.check(1 << 20);
        blocks.move_all(shelf, other);
        assert_eq!((blocks.count(shelf), blocks.take(other, 512, 256, other)), (0, Some(third)));
        blocks.check(1 << 20);
    }

    const STEPS: usize = if cfg!(miri) { 60 } else { 300 };

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, ..ProptestConfig::default() })]

        #[test]
        fn no_two_blocks_overlap(steps in prop::collection::vec((0_u8..10, 1_u64..5000, 0_u32..8, 0_u32..3), 1..STEPS)) {
            let mut blocks = Blocks::default();
            for _ in 0..3 {
                blocks.add_shelf();
            }
            let mut total = 0;
            let mut shadow: Vec<(u64, u64)> = Vec::new();
            for (what, size, align, shelf) in steps {
                let (bytes, align) = (size * GRANULE, GRANULE << align);
                match what {
                    0 => {
                        blocks.add_region((1 << 32) + total, bytes, shelf);
                        total += bytes;
                    }
                    1 => blocks.move_all(shelf, (shelf + 1) % 3),
                    2..=5 => {
                        if !shadow.is_empty() {
                            let (start, len) = shadow.swap_remove(size as usize % shadow.len());
                            let (taken, bytes) = blocks.give(start).expect("in use");
                            prop_assert_eq!(bytes, len);
                            blocks.free(taken, shelf);
                        }
                    }
                    _ => {
                        if let Some(start) = blocks.take(shelf, bytes, align, 0) {
                            prop_assert_eq!(start % align, 0);
                            prop_assert!(start >= 1 << 32 && start + bytes <= (1 << 32) + total);
                            prop_assert!(shadow.iter().all(|(other, len)| start + bytes <= *other || other + len <= start));
                            shadow.push((start, bytes));
                        }
                    }
                }
                blocks.check(total);
            }
            for (start, _) in shadow {
                let (taken, _) = blocks.give(start).expect("in use");
                blocks.free(taken, 0);
            }
            blocks.move_all(1, 0);
            blocks.move_all(2, 0);
            blocks.check(total);
            let regions = blocks.remove_regions(0);
            prop_assert_eq!(regions.iter().map(|region| region.1).sum::<u64>(), total);
            prop_assert_eq!(blocks.count(0), 0);
        }
    }
}
