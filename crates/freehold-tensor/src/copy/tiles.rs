//! Tiles of a copy whose sides are fastest along different axes: read line by line into a block, turned there, and
//! written row by row.

use super::plan::Axis;
use super::run::{Block, Steps, Tile, Unit};
use super::strided::{Grid, move_grid};
use super::turn::{self, Few, Kernel, VECTOR};
use super::way::BLOCK;

/// Lines of a tile. The processor follows about so many of them with its prefetcher.
const LINES: usize = 32;

/// Bytes of a row of a tile, at least: two lines of the cache, so that rows that start within one still write some
/// whole.
const ROW: usize = 128;

/// Elements of the few rows or lines of a narrow tile.
const FEW: usize = 16;

/// How tiles are made.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub rows: usize,
    pub lines: usize,
    kernel: Option<Kernel>,
    /// Bytes of an element while it is turned: those of the narrower side.
    size: usize,
    /// Converted before turning.
    early: bool,
}

impl Tiles {
    /// For a plan whose source is fastest along `row` and whose destination along `col`.
    pub(super) fn new(steps: &Steps, row: Axis, col: Axis) -> Tiles {
        let (ws, wd) = (steps.src_unit.block_size(), steps.dst_unit.block_size());
        let early = steps.convert.is_some() && wd < ws;
        let size = if early { wd } else { ws };
        // What a block holds: of the wider side's elements, and of turned ones counted up to whole vectors.
        let down = |n: usize, to: usize| if n > to { n / to * to } else { n };
        let fits = |other: usize, other_up: usize, own_up: usize| {
            let (other_up, own_up) = ((other_up / size).max(1), (own_up / size).max(1));
            let turned = BLOCK / size / other.next_multiple_of(other_up) / own_up * own_up;
            down((BLOCK / other / ws.max(wd)).min(turned), VECTOR).max(1)
        };
        let full = LINES.max(ROW / wd);
        let (rows, lines) = if row.n <= FEW {
            (row.n, col.n.min(fits(row.n, 16, VECTOR)))
        } else {
            let lines = if col.n <= 2 * full { col.n } else { full };
            let rows = row.n.min(fits(lines, if lines <= FEW { 16 } else { VECTOR }, 16));
            (rows, if rows == row.n { col.n.min(fits(rows, 16, VECTOR)) } else { lines })
        };
        Tiles { rows, lines, kernel: turn::kernel(steps.level, size, lines.min(col.n), rows), size, early }
    }

    /// Bytes from one row to the next in the block of turned rows. Rows that fit one vector lie next to each other:
    /// each overwrites what the one before wrote too much.
    fn pitch(&self, lines: usize) -> usize {
        let bytes = lines * self.size;
        match self.kernel {
            None => bytes,
            Some(Kernel { few: Few::Lines(_), .. }) => bytes,
            Some(Kernel { few: Few::No, width, .. }) if bytes <= width => bytes,
            Some(Kernel { width, .. }) => bytes.next_multiple_of(width),
        }
    }

    /// Copies one tile; returns how many values lost something.
    ///
    /// # Safety
    ///
    /// As for [`Steps::run`], for the elements of one tile of at most `rows` and `lines`.
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    pub(super) unsafe fn copy(&self, steps: &Steps, dst: *mut u8, src: *const u8, tile: Tile, stream: bool) -> usize {
        let mut blocks = [const { Block::new() }; 3];
        let [read, turned, out] = &mut blocks;
        let (lines, rows, n) = (tile.cols, tile.rows, tile.rows * tile.cols);
        let mut lost = 0;
        // SAFETY: blocks hold a tile's elements with rows and lines counted up, by the choice of `rows` and `lines`;
        // every stage reads what the one before wrote.
        unsafe {
            // Lines, compact, in the block that is turned.
            let values = if self.early {
                let (early, values) = (read.start(), turned.start());
                let from = self.read(steps, early, src, tile);
                if from == early.cast_const() {
                    steps.decode.decode(early, n);
                }
                if let Some(convert) = &steps.convert {
                    lost = convert.run(values, from, n);
                }
                steps.encode.encode(values, n);
                values
            } else {
                let values = turned.start();
                let from = self.read(steps, values, src, tile);
                if from != values.cast_const() {
                    std::ptr::copy_nonoverlapping(from, values, n * self.size);
                }
                steps.decode.decode(values, n);
                if steps.convert.is_none() {
                    steps.encode.encode(values, n);
                }
                values
            };
            let late = if self.early { None } else { steps.convert.as_ref() };
            let per_row = (16 / self.size).max(1);
            // Straight to the destination, where whole vectors are whole rows.
            if let Some(kernel) = self.kernel
                && late.is_none()
                && !stream
                && tile.col.dst == self.size as isize
                && steps.dst_unit == Unit::Bytes(self.size)
                && (lines * self.size).is_multiple_of(kernel.width)
                && matches!(kernel.few, Few::No | Few::Rows(_))
                && (rows.is_multiple_of(per_row) || kernel.few != Few::No)
            {
                self.turn(dst.offset(tile.dst), tile.row.dst, values, tile);
                return lost;
            }
            let pitch = self.pitch(lines);
            let rows_at = if self.early { read.start() } else { out.start() };
            self.turn(rows_at, pitch as isize, values, tile);
            let Some(convert) = late else {
                steps.write_rows(dst, rows_at, pitch, tile, stream);
                return lost;
            };
            // The destination's own memory, where its rows are one run.
            let run = tile.is_run(tile.col.dst, tile.row.dst, steps.dst_unit) && !stream;
            let compact = lines * steps.dst_unit.block_size();
            let converted = if run { dst.offset(tile.dst) } else { turned.start() };
            if pitch == lines * self.size {
                lost = convert.run(converted, rows_at, n);
            } else {
                for r in 0..rows {
                    lost += convert.run(converted.add(r * compact), rows_at.add(r * pitch), lines);
                }
            }
            steps.encode.encode(converted, n);
            if !run {
                steps.write_rows(dst, converted, compact, tile, stream);
            }
        }
        lost
    }

    /// Reads the lines of a tile, compact: into `block`, or from where they lie if they are one run that needs no
    /// change.
    ///
    /// # Safety
    ///
    /// As for [`Tiles::copy`]; `block` has room for the tile.
    unsafe fn read(&self, steps: &Steps, block: *mut u8, src: *const u8, tile: Tile) -> *const u8 {
        let size = steps.src_unit.block_size();
        // A line of the tile is a row of what is read.
        let lines = Tile { rows: tile.cols, cols: tile.rows, row: tile.col, col: tile.row, ..tile };
        // SAFETY: the caller's guarantees.
        unsafe {
            if lines.is_run(lines.col.src, lines.row.src, steps.src_unit) && steps.decode.is_nothing() {
                return src.offset(tile.src);
            }
            match steps.src_unit {
                Unit::Bytes(_) => {
                    let grid = Grid { dst_row: (lines.cols * size) as isize, dst_col: size as isize, ..lines.grid() };
                    move_grid(steps.level, size, block, src.offset(tile.src), grid);
                }
                Unit::Bits(_) => steps.gather(block, src, lines),
            }
        }
        block
    }

    /// Turns the lines at `values` into rows.
    ///
    /// # Safety
    ///
    /// `values` is a block that holds the tile's lines, compact; `dst` has room for its rows, `pitch` bytes apart,
    /// counted up as [`turn::Kernel`] says.
    unsafe fn turn(&self, dst: *mut u8, pitch: isize, values: *mut u8, tile: Tile) {
        let (lines, rows, size) = (tile.cols, tile.rows, self.size);
        let line_step = rows * size;
        let Some(kernel) = self.kernel else {
            let grid = Grid {
                rows: lines,
                cols: rows,
                dst_row: size as isize,
                dst_col: pitch,
                src_row: line_step as isize,
                src_col: size as isize,
            };
            // SAFETY: the caller's guarantees; this reads and writes no more than the tile. Any level has it.
            unsafe { move_grid(super::level::Level::Baseline, size, dst, values, grid) };
            return;
        };
        let used = lines * line_step;
        let read = match kernel.few {
            Few::No => lines.next_multiple_of(kernel.width / size) * line_step + 16,
            Few::Rows(few) => used + few * kernel.width,
            Few::Lines(_) => used + kernel.width,
        };
        // SAFETY: the block has room for what the kernel reads beyond the tile; it becomes rubbish that nobody reads,
        // but memory that was never written must not be read at all.
        unsafe {
            values.add(used).write_bytes(0, read - used);
            (kernel.turn)(dst, values, turn::Block { lines, rows, line_step: line_step as isize, row_step: pitch });
        }
    }
}

const _: () = assert!(size_of::<Block>() >= BLOCK + 8 * VECTOR);
