//! One long run on both sides, into a destination that is written past the caches.
//!
//! The source is asked for ahead of time, several pages at once, where the processor does not do so by itself (see `ahead`); what is
//! only moved is moved so where that is better than in order (see `stream`).

use super::ahead::{self, Ahead};
use super::pass::{Block, Tile};
use super::plan::Axis;
use super::run::{Steps, Unit};
use super::stream::{self, LINE, follows_pages};

/// Bytes of the wider side that are converted at once: a piece of the source is in the L1 cache when its turn comes, and
/// stays there beside what it becomes. Longer pieces let reading and writing wait for each other.
const PIECE: usize = 2048;

/// The same of the side that is read where it is the narrower one and no pages are asked for, if the wider has no more than
/// [`WIDER`]: such a piece is short, and the processor does not see far enough beyond it. The lines so many bytes on are asked
/// for instead. (A Zen 4, median of 13: f32 to f64 26 GB/s, and 20 without; u8 to f64 26 and 23, f16 to f64 28 and 21.)
const WIDENED: usize = 1024;
const WIDER: usize = 4096;
const BEYOND: usize = 2048;

impl Steps {
    /// Copies `n` compact elements of whole bytes, and returns how many lost something. [`stream::fence`] must follow.
    ///
    /// # Safety
    ///
    /// As for [`Steps::run`], for these elements.
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    pub(super) unsafe fn long_run(&self, dst: *mut u8, src: *const u8, n: usize) -> u64 {
        let (ws, wd) = (self.src_unit.block_size(), self.dst_unit.block_size());
        if self.is_plain() {
            // SAFETY: the caller's guarantees.
            unsafe { stream::put(self.level, dst, src, n * wd) };
            return 0;
        }
        debug_assert!(matches!((self.src_unit, self.dst_unit), (Unit::Bytes(_), Unit::Bytes(_))));
        let mut blocks = [const { Block::new() }; 2];
        let [read, out] = blocks.each_mut().map(Block::start);
        let ahead = (!follows_pages()).then(|| Ahead::new(src, n * ws));
        let widens = ahead.is_none() && wd > ws;
        let piece = if widens { (WIDENED / ws).min(WIDER / wd) } else { PIECE / ws.max(wd) }.max(1);
        // The first piece ends where a line of the destination does, where an element does, too.
        let head = dst.align_offset(LINE);
        let first = if head.is_multiple_of(wd) && head / wd < piece { head / wd } else { 0 };
        let none = Axis { n: 1, dst: 0, src: 0 };
        let col = Axis { n, dst: wd as isize, src: ws as isize };
        let (mut at, mut lost) = (0, 0u64);
        while at < n {
            let cols = if at == 0 && first != 0 { first } else { piece }.min(n - at);
            if let Some(ahead) = &ahead {
                ahead.ask(at * ws, cols * ws);
            } else if widens {
                ahead::near(src.wrapping_add(at * ws), cols * ws, BEYOND);
            }
            let offset = (at * ws) as isize;
            let tile = Tile { rows: 1, cols, dst: 0, src: offset, row: none, col, lead: 0, last: true };
            // SAFETY: elements of the caller's runs; a piece fits a block.
            unsafe {
                lost += self.values(out, read, src, tile, Some(src.offset(offset))) as u64;
                stream::put(self.level, dst.add(at * wd), out, cols * wd);
            }
            at += cols;
        }
        lost
    }
}
