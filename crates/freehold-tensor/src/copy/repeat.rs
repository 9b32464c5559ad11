//! Sources that repeat: a row, or an element, is read and converted once and written many times.

use super::level::Level;
use super::line::line;
use super::pass::{Block, Tile};
use super::run::Steps;
use super::stream;
use super::way::BLOCK;

/// Bytes that are filled with one element and then written again and again: more would take longer to make than they save.
const PATTERN: usize = 1024;

impl Steps {
    /// Copies a tile whose rows all come from one row of the source.
    ///
    /// # Safety
    ///
    /// As for [`Steps::run`], for a tile whose row fits a block, with whole-byte units.
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    pub(super) unsafe fn repeat(&self, dst: *mut u8, src: *const u8, tile: Tile, stream: bool) -> usize {
        let mut blocks = [const { Block::new() }; 2];
        let [read, row] = &mut blocks;
        let row = row.start();
        let size = self.dst_unit.block_size();
        let bytes = tile.cols * size;
        let one = Tile { rows: 1, ..tile };
        // SAFETY: one row of the source, which fits a block; then copies of it to every row of the destination, or
        // of as many of them as a block holds where they are one run.
        unsafe {
            let lost = self.values(row, read.start(), src, one, None);
            if tile.is_run(tile.col.dst, tile.row.dst, self.dst_unit) {
                let total = tile.rows * bytes;
                let mut filled = bytes;
                let held = (BLOCK / bytes * bytes).min(total);
                while filled < held {
                    let more = filled.min(held - filled);
                    std::ptr::copy_nonoverlapping(row, row.add(filled), more);
                    filled += more;
                }
                let dst = dst.offset(tile.dst);
                for at in (0..total).step_by(held) {
                    write(self.level, dst.add(at), row, held.min(total - at), stream);
                }
            } else {
                for r in 0..tile.rows as isize {
                    let to = dst.offset(tile.dst + r * tile.row.dst);
                    if tile.col.dst == size as isize {
                        write(self.level, to, row, bytes, stream);
                    } else {
                        line(self.level, size, to, tile.col.dst, row, size as isize, tile.cols);
                    }
                }
            }
            lost * tile.rows
        }
    }

    /// Copies a tile each of whose rows comes from one element of the source.
    ///
    /// # Safety
    ///
    /// As for [`Steps::run`], for a tile whose rows' elements fit a block, with whole-byte units.
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    pub(super) unsafe fn fill(&self, dst: *mut u8, src: *const u8, tile: Tile, stream: bool) -> usize {
        let mut blocks = [const { Block::new() }; 3];
        let [read, values, pattern] = &mut blocks;
        let (values, pattern) = (values.start(), pattern.start());
        let size = self.dst_unit.block_size();
        let once = Tile { rows: 1, cols: tile.rows, col: tile.row, ..tile };
        // SAFETY: one element a row, which fit a block; each is then written to all of its row.
        unsafe {
            let lost = self.values(values, read.start(), src, once, None);
            for r in 0..tile.rows {
                let (value, to) = (values.add(r * size), dst.offset(tile.dst + r as isize * tile.row.dst));
                let bytes = tile.cols * size;
                if tile.col.dst != size as isize || !stream {
                    line(self.level, size, to, tile.col.dst, value, 0, tile.cols);
                    continue;
                }
                // Whole lines of the cache, whatever the size, from the first that the destination starts on.
                let whole = stream::LINE * size;
                let held = (PATTERN / whole).max(1) * whole;
                let head = to.align_offset(stream::LINE);
                let mut end = if head != 0 && head.is_multiple_of(size) { head.min(bytes) } else { held.min(bytes) };
                line(self.level, size, pattern, size as isize, value, 0, held.min(bytes) / size);
                let mut at = 0;
                while at < bytes {
                    write(self.level, to.add(at), pattern, end - at, true);
                    (at, end) = (end, bytes.min(end + held));
                }
            }
            lost * tile.cols
        }
    }
}

/// # Safety
///
/// `src` is readable and `dst` writable for `n` bytes, without overlap.
unsafe fn write(level: Level, dst: *mut u8, src: *const u8, n: usize, stream: bool) {
    // SAFETY: the caller's guarantee.
    unsafe { if stream { stream::put(level, dst, src, n) } else { std::ptr::copy_nonoverlapping(src, dst, n) } }
}
