//! Tiles of whole vectors both ways: what is turned leaves the registers as whole lines of the cache, for the destination itself.
//!
//! Where lines of the source are a power of two apart, all of them fall on the same few places of the L1 cache. So as many lines
//! as fill a line of the cache in the destination are walked along together, a piece of each is moved into a block, or converted
//! into it where that makes elements narrower, and turned from there: every line of the cache is read once, and asked for before,
//! since a processor follows none of so many lines by itself. On a Zen 4 whose memory others used, too, 4096 x 4096, with and
//! without asking: f32 8.8 and 6.6 GB/s, f32 to bf16 6.9 and 3.9, f64 6.7 and 4.0.

use super::ahead;
#[cfg(target_arch = "x86_64")]
use super::level::Level;
use super::pass::{Block, Tile};
use super::plan::Axis;
use super::run::{Steps, Unit};
use super::stream::{FAR, LINE};
use super::tiles::Tiles;
use super::turn;
use super::way::BLOCK;
#[cfg(target_arch = "x86_64")]
use super::x86::matrix;

/// Bytes of a line of a whole tile, on the side that is turned: several lines of the cache on one page.
const PIECE: usize = 256;

/// Bytes of a row of a tile that is not streamed.
const LONG: usize = 1024;

/// Bytes of a row, at most, of a tile that takes one line of the cache of each line and is not streamed. On a Zen 3, with and without
/// such tiles: f32 1024 x 1024 24 and 14 GB/s, streamed 4096 x 4096 15 and 12; f64 17 and 10, i16 9.4 and 7.6. Of i16 that is not
/// streamed, and of u8, they are slower.
const WHOLE: usize = 8192;

/// Lines, and bytes from one to the next, at most, for such tiles where the destination is streamed: each is another page, and of more
/// the processor forgets where they are. (8192 x 8192 f32 in pages of 4 KiB, with and without such tiles: 8 GB/s and 11.)
const MANY: usize = 4096;
const WIDE: usize = 32 << 10;

/// Rows of a tile that is streamed, where more of them are worth it: 8192 x 8192 f32 on a Zen 4, 5.1 GB/s while others used the
/// memory, too, and 4.8 with half as many.
const TALL: usize = 128;

/// Bytes of a row, at most, where rows start anywhere within a line of the cache and so pass through blocks, which may be the
/// core's own cache's: to read a line of the source in longer pieces is worth more. 5000 x 3000 f32 to bf16 on a Zen 4 whose
/// memory others used, too: 9.1 GB/s, and 4.7 with 32 rows in one block; f32 12.0 and 11.0.
const UNEVEN_ROW: usize = 512;
const UNEVEN_BLOCKS: usize = 4;

/// Rows and lines of tiles that are turned where they lie, for elements of so many bytes while they are turned; `None` where they
/// had better not, or cannot be.
pub(super) fn shape(steps: &Steps, size: usize, row: Axis, col: Axis, stream: bool) -> Option<(usize, usize)> {
    let (Unit::Bytes(ws), Unit::Bytes(wd)) = (steps.src_unit, steps.dst_unit) else { return None };
    let runs = (row.src, col.dst) == (ws as isize, wd as isize);
    let early = steps.only_converts() && wd < ws;
    if !runs || size > 8 || !(steps.is_plain() || early) || turn::in_place(steps.level, size).is_none() {
        return None;
    }
    let side = LINE / size;
    if row.n < side || col.n < side || row.n * col.n * ws.max(wd) <= BLOCK {
        return None;
    }
    // What goes straight from line to row, without a block, may take longer pieces of a line.
    let straight = size == 4 && steps.is_plain();
    // Without AVX-512, one line of the cache of each line where those are far apart: others would push it out.
    let few = col.n <= MANY && col.src.unsigned_abs() <= WIDE;
    let one = steps.is_plain()
        && (size >= 4 || size == 2 && stream)
        && steps.level.is_avx2()
        && col.src % FAR == 0
        && (few || !stream);
    let (rows, bytes) = match (stream, row.dst % LINE as isize == 0) {
        (true, true) if one => (side, LONG),
        (true, true) => (if straight { TALL } else { PIECE / size }, PIECE),
        (true, false) => {
            let rows = TALL.min(2 * PIECE / size).max(PIECE / size);
            (rows, UNEVEN_ROW.min(UNEVEN_BLOCKS * BLOCK / rows))
        }
        (false, _) if one => (side, WHOLE),
        (false, _) => (PIECE / size, LONG),
    };
    Some((rows.min(row.n), (bytes / size).min(col.n)))
}

impl Tiles {
    /// Turns what is whole of a tile where it lies, and the rest, a strip below and one beside it, through blocks.
    ///
    /// # Safety
    ///
    /// As for [`Tiles::copy`], for elements and a tile as [`shape`] has them.
    pub(super) unsafe fn whole(&self, steps: &Steps, dst: *mut u8, src: *const u8, tile: Tile, stream: bool) -> usize {
        let down = |n: usize, bytes: usize| n - n % (bytes / self.size);
        let rows = down(tile.rows, 16);
        let cols = if rows == 0 { 0 } else { down(tile.cols, LINE) };
        let at = |row: usize, col: usize, rows: usize, cols: usize| Tile {
            rows,
            cols,
            dst: tile.dst + row as isize * tile.row.dst + col as isize * tile.col.dst,
            src: tile.src + row as isize * tile.row.src + col as isize * tile.col.src,
            ..tile
        };
        let cut = cols > 0 && cols < tile.cols;
        let mut lost = 0;
        if cols > 0 {
            let whole = Tile { last: tile.last || cut, ..at(0, 0, rows, cols) };
            // SAFETY: elements of the caller's tile, whole sides of it.
            lost += unsafe { self.sides(steps, dst, src, whole, stream) };
        }
        let (most_rows, most_cols) = self.strip;
        for (row, col, bottom) in [(0, cols, rows), (rows, 0, tile.rows)] {
            for row in (row..bottom).step_by(most_rows) {
                for col in (col..tile.cols).step_by(most_cols) {
                    let rest = at(row, col, most_rows.min(bottom - row), most_cols.min(tile.cols - col));
                    // Written whole, also what the tiles before and after have, too.
                    let rest = Tile { lead: 0, last: true, ..rest };
                    // SAFETY: elements of the caller's tile, as many as fit a block.
                    lost += unsafe { self.through_blocks(steps, dst, src, rest, stream) };
                }
            }
        }
        lost
    }

    /// # Safety
    ///
    /// As for [`Tiles::whole`], for a tile of whole sides.
    unsafe fn sides(&self, steps: &Steps, dst: *mut u8, src: *const u8, tile: Tile, stream: bool) -> usize {
        let start = dst.wrapping_offset(tile.dst);
        // Whole lines of the cache, from the registers.
        let even = start.addr().is_multiple_of(LINE) && tile.row.dst % LINE as isize == 0;
        if stream && !(even && tile.lead == 0 && tile.last) {
            // SAFETY: the caller's guarantees.
            return unsafe { self.uneven(steps, dst, src, tile) };
        }
        #[cfg(target_arch = "x86_64")]
        if self.size == 4 && steps.is_plain() && tile.rows.is_multiple_of(8) {
            let block =
                turn::Block { lines: tile.cols, rows: tile.rows, line_step: tile.col.src, row_step: tile.row.dst };
            // SAFETY: the caller's tile of whole sides, with a level that has AVX2, since it turns elements in place, or AVX-512
            // where it is `wide`. Rows that are streamed are whole lines of the cache.
            unsafe {
                let from = src.offset(tile.src);
                let wide = matches!(steps.level, Level::Avx512 | Level::Avx512Vbmi) && tile.rows.is_multiple_of(16);
                match (wide, stream) {
                    (true, true) => matrix::turn_wide::<true>(start, from, block),
                    (true, false) => matrix::turn_wide::<false>(start, from, block),
                    (false, true) => matrix::turn::<true>(start, from, block),
                    (false, false) => matrix::turn::<false>(start, from, block),
                }
            }
            return 0;
        }
        // SAFETY: the caller's tile; rows that are streamed are whole lines of the cache apart.
        unsafe { self.turned(steps, start, tile.row.dst, src, tile, stream) }
    }

    /// [`Tiles::sides`] by way of blocks, for rows that are streamed but are no whole lines of the cache.
    ///
    /// # Safety
    ///
    /// As for [`Tiles::sides`].
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    unsafe fn uneven(&self, steps: &Steps, dst: *mut u8, src: *const u8, tile: Tile) -> usize {
        let mut blocks = [const { Block::new() }; UNEVEN_BLOCKS];
        let rows: *mut u8 = blocks.as_mut_ptr().cast();
        let pitch = tile.cols * self.size;
        debug_assert!(tile.rows * pitch <= size_of_val(&blocks), "{} rows of {} elements", tile.rows, tile.cols);
        // SAFETY: the blocks have room for the tile's rows, which are then there.
        unsafe {
            let lost = self.turned(steps, rows, pitch as isize, src, tile, false);
            steps.write_rows(dst, rows, pitch, tile, true);
            lost
        }
    }

    /// Turns the lines of a tile into rows at `to`, `row_step` bytes apart.
    ///
    /// # Safety
    ///
    /// As for [`Tiles::sides`]; `to` is writable for the rows, which are whole lines of the cache if they are streamed.
    #[inline(never)] // keeps the block out of the stack frame of copies that need none
    unsafe fn turned(
        &self,
        steps: &Steps,
        to: *mut u8,
        row_step: isize,
        src: *const u8,
        tile: Tile,
        stream: bool,
    ) -> usize {
        let Some(turn) = turn::in_place(steps.level, self.size) else { return 0 };
        let mut block = Block::new();
        let values = block.start();
        let (size, side) = (self.size, LINE / self.size);
        let line_step = (tile.rows * size) as isize;
        debug_assert!(side as isize * line_step <= BLOCK as isize);
        let mut lost = 0;
        for line in (0..tile.cols).step_by(side) {
            // SAFETY: lines of the caller's tile; pieces of as many as are turned together fit the block.
            unsafe {
                let from = src.offset(tile.src + line as isize * tile.col.src);
                if steps.convert.is_none() && tile.rows == side && size > 1 {
                    // From where it lies: there is but one line of the cache of each to read.
                    let block = turn::Block { lines: side, rows: tile.rows, line_step: tile.col.src, row_step };
                    turn(to.add(line * size), from, block, stream);
                    continue;
                }
                let bytes = tile.rows * steps.src_unit.block_size();
                for i in 0..side as isize {
                    let (to, from) = (values.offset(i * line_step), from.offset(i * tile.col.src));
                    // The line that takes this one's place, and what the next tile has of this one.
                    ahead::near(from.wrapping_offset(side as isize * tile.col.src), bytes, 0);
                    ahead::near(from, bytes, bytes);
                    match &steps.convert {
                        Some(convert) => lost += convert.run(to, from, tile.rows * steps.group),
                        None => pieces(to, from, tile.rows * size),
                    }
                }
                let block = turn::Block { lines: side, rows: tile.rows, line_step, row_step };
                turn(to.add(line * size), values, block, stream);
            }
        }
        lost
    }
}

/// Copies so many bytes, a multiple of 16: too few at a time for a call.
///
/// # Safety
///
/// `src` is readable and `dst` writable for them, without overlap.
#[inline(always)]
unsafe fn pieces(dst: *mut u8, src: *const u8, bytes: usize) {
    let mut at = 0;
    // SAFETY: pieces of the caller's bytes.
    unsafe {
        while at + LINE <= bytes {
            dst.add(at).cast::<[u8; LINE]>().write(src.add(at).cast::<[u8; LINE]>().read());
            at += LINE;
        }
        while at < bytes {
            dst.add(at).cast::<[u8; 16]>().write(src.add(at).cast::<[u8; 16]>().read());
            at += 16;
        }
    }
}
