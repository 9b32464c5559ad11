//! Nothing is lost, no two blocks overlap, and what is given back becomes one block again.

use proptest::prelude::*;

use super::super::recent::RECENT;
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
    const BYTES: u64 = if cfg!(miri) { 16 << 10 } else { 1 << 20 };
    const GRANULES: u64 = BYTES / 256;
    let mut blocks = Blocks::default();
    let (shelf, other) = (blocks.add_shelf(), blocks.add_shelf());
    blocks.add_region(1 << 20, BYTES, shelf);
    for moved in [false, true] {
        let taken: Vec<u64> = (0..GRANULES).map(|_| blocks.take(shelf, 256, 256, shelf).expect("a granule")).collect();
        assert_eq!((blocks.take(shelf, 256, 256, shelf), blocks.live()), (None, GRANULES as usize));
        for start in taken.iter().step_by(2).chain(taken.iter().skip(1).step_by(2)) {
            let (block, bytes) = blocks.give(*start).expect("in use");
            assert_eq!(bytes, 256);
            blocks.free(block, shelf);
        }
        blocks.check(BYTES);
        assert_eq!(blocks.count(shelf), 2 * RECENT, "the last odd ones, the even ones between, and all before as one");
        if moved {
            blocks.move_all(shelf, other);
            blocks.check(BYTES);
            assert_eq!((blocks.count(shelf), blocks.count(other)), (0, 1), "all are joined where they are moved to");
            blocks.move_all(other, shelf);
        }
        let whole = blocks.take(shelf, BYTES, 256, shelf);
        assert_eq!(whole, Some(1 << 20), "those are joined when nothing else is large enough");
        let (block, _) = blocks.give(1 << 20).expect("in use");
        assert!(blocks.give(1 << 20).is_none());
        blocks.free(block, shelf);
        assert!(blocks.give(1 << 20).is_none(), "nor while it is kept as it is");
        blocks.check(BYTES);
    }
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
