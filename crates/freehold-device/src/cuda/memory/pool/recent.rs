//! The blocks that were given back last, kept whole: a request for as many bytes as one of them has gets it as it is. To join it
//! with its neighbours, only to cut it again, is most of what a request and its free cost otherwise.

use super::blocks::NIL;

/// How many blocks of a shelf are kept as they were given back.
pub(super) const RECENT: usize = 8;

/// The blocks that a shelf got last, kept as they were given back.
pub(super) struct Recent {
    /// Their lengths, 0 where there is none; and which they are.
    pub(super) lens: [u32; RECENT],
    pub(super) blocks: [u32; RECENT],
    /// The place of the next one: that of the oldest, if all are taken.
    next: usize,
    pub(super) count: usize,
}

impl Recent {
    pub(super) const fn new() -> Recent {
        Recent { lens: [0; RECENT], blocks: [NIL; RECENT], next: 0, count: 0 }
    }

    /// Keeps a block; gives the one that was kept in its place.
    pub(super) fn push(&mut self, index: u32, len: u32) -> Option<u32> {
        let at = self.next;
        let before = (self.lens[at] != 0).then_some(self.blocks[at]);
        (self.lens[at], self.blocks[at]) = (len, index);
        self.next = (at + 1) % RECENT;
        self.count += usize::from(before.is_none());
        before
    }

    /// The places of blocks of a length, that of the newest first.
    pub(super) fn places(&self, len: u32) -> impl Iterator<Item = usize> + use<> {
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
    pub(super) fn remove(&mut self, at: usize) -> u32 {
        self.lens[at] = 0;
        self.count -= 1;
        if (at + 1) % RECENT == self.next {
            self.next = at;
        }
        self.blocks[at]
    }

    /// Takes out some block.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let at = self.lens.iter().position(|&len| len != 0)?;
        Some(self.remove(at))
    }
}
