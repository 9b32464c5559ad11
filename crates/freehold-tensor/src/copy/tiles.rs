//! Tiles of a copy whose sides are fastest along different axes: read line by line into a block, turned there, and
//! written row by row.

use super::level::Level;
use super::pass::{Block, Tile};
use super::plan::Axis;
use super::run::{Steps, Unit};
use super::stream::LINE;
use super::strided::{Grid, move_grid};
use super::turn::{self, Few, Kernel, VECTOR};
use super::way::{BLOCK, LONG};
use super::whole;

/// Lines of a tile. The processor follows about so many of them with its prefetcher.
const LINES: usize = 32;

/// Bytes of a row of a tile, at least: two lines of the cache, so that rows that start within one still write some
/// whole.
const ROW: usize = 128;

/// Bytes of a line of a tile that is streamed, at most, but for narrow ones. Longer ones gain nothing from memory, which
/// the processor reads ahead of a line's end by itself, and take what was read for the next tiles out of the cache.
const PIECE: usize = 128;

/// Elements of the few rows or lines of a narrow tile.
const FEW: usize = 16;

/// How tiles are made.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub rows: usize,
    pub lines: usize,
    kernel: Option<Kernel>,
    /// Bytes of an element while it is turned: those of the narrower side.
    pub(super) size: usize,
    /// Converted before turning.
    early: bool,
    /// Whole tiles are turned where they lie.
    pub in_place: bool,
    /// The most rows and lines of what is left of such a tile, which passes through blocks.
    pub(super) strip: (usize, usize),
}

impl Tiles {
    /// For a plan whose source is fastest along `row` and whose destination along `col`.
    pub(super) fn new(steps: &Steps, row: Axis, col: Axis, stream: bool) -> Tiles {
        let (ws, wd) = (steps.src_unit.block_size(), steps.dst_unit.block_size());
        let tiles = Tiles::of_sizes(steps.level, ws, wd, row, col, stream);
        if let Some((rows, lines)) = whole::shape(steps, tiles.size, row, col, stream) {
            return Tiles { rows, lines, strip: (tiles.rows, tiles.lines), in_place: true, ..tiles };
        }
        tiles
    }

    /// For elements of these sizes in blocks of the source and the destination.
    fn of_sizes(level: Level, ws: usize, wd: usize, row: Axis, col: Axis, stream: bool) -> Tiles {
        let early = wd < ws;
        let size = if early { wd } else { ws };
        // What a block holds: of the wider side's elements, and of turned ones counted up to whole vectors.
        let down = |n: usize, to: usize| if n > to { n / to * to } else { n };
        let fits = |other: usize, other_up: usize, own_up: usize| {
            let (other_up, own_up) = ((other_up / size).max(1), (own_up / size).max(1));
            let turned = BLOCK / size / other.next_multiple_of(other_up) / own_up * own_up;
            down((BLOCK / other / ws.max(wd)).min(turned), VECTOR).max(1)
        };
        // Where rows start anywhere within a line of the cache, a tile makes some columns twice: fewer, if it is wider.
        let uneven = stream && row.dst % LINE as isize != 0;
        let even = LINES.max(ROW / wd);
        let full = if uneven { 2 * even } else { even };
        let most = if stream { LINES.max(PIECE / ws) } else { usize::MAX };
        let (rows, lines) = if row.n.max(col.n) <= BLOCK
            && row.n * col.n * ws.max(wd) <= BLOCK
            && (row.n * size + 16) * (col.n * size + VECTOR) <= BLOCK * size
        {
            (row.n, col.n) // one tile, without a division
        } else if row.n <= FEW {
            (row.n, col.n.min(fits(row.n, if turn::has_few(level, size, row.n) { 1 } else { 16 }, VECTOR)))
        } else {
            let lines = if col.n <= 2 * even { col.n } else { full };
            if turn::has_few(level, size, lines) {
                (row.n.min(most.max(ROW)).min(fits(lines, 1, VECTOR)), lines)
            } else {
                let rows = row.n.min(most).min(fits(lines, if lines * size <= 16 { 16 } else { VECTOR }, 16));
                (rows, if rows == row.n { col.n.min(fits(rows, 16, VECTOR)) } else { lines })
            }
        };
        let kernel = turn::kernel(level, size, lines.min(col.n), rows);
        Tiles { rows, lines, kernel, size, early, in_place: false, strip: (rows, lines) }
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
    pub(super) unsafe fn copy(&self, steps: &Steps, dst: *mut u8, src: *const u8, tile: Tile, stream: bool) -> usize {
        if self.in_place {
            // SAFETY: the caller's guarantees.
            return unsafe { self.whole(steps, dst, src, tile, stream) };
        }
        // SAFETY: the caller's guarantees.
        unsafe { self.through_blocks(steps, dst, src, tile, stream) }
    }

    /// # Safety
    ///
    /// As for [`Tiles::copy`].
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    pub(super) unsafe fn through_blocks(
        &self,
        steps: &Steps,
        dst: *mut u8,
        src: *const u8,
        tile: Tile,
        stream: bool,
    ) -> usize {
        debug_assert!(tile.rows * tile.cols * steps.src_unit.block_size().max(steps.dst_unit.block_size()) <= BLOCK);
        let mut blocks = [const { Block::new() }; 3];
        // Taken once: to borrow a block again would end what pointers into it may do.
        let [read, turned, out] = blocks.each_mut().map(Block::start);
        let (lines, rows) = (tile.cols, tile.rows);
        // Values, for what looks at them; kernels and moves count elements.
        let (n, line) = (rows * lines * steps.group, lines * steps.group);
        let mut lost = 0;
        // SAFETY: blocks hold a tile's elements with rows and lines counted up, by the choice of `rows` and `lines`;
        // every stage reads what the one before wrote.
        unsafe {
            // Whole vectors both ways: a kernel reads and writes nothing beyond the tile.
            let exact = self.is_exact(lines, rows);
            // Lines in the block that is turned, or where they lie.
            let (values, line_step) = if self.early {
                let (early, values) = (read, turned);
                let from = self.read(steps, early, src, tile);
                if from == early.cast_const() {
                    steps.decode.decode(early, n);
                }
                if let Some(convert) = &steps.convert {
                    lost = convert.run(values, from, n);
                }
                steps.encode.encode(values, n);
                (values.cast_const(), rows * self.size)
            } else if exact && self.reads_in_place(steps, tile) {
                (src.offset(tile.src), tile.col.src as usize)
            } else {
                let values = turned;
                let from = self.read(steps, values, src, tile);
                if from != values.cast_const() {
                    std::ptr::copy_nonoverlapping(from, values, rows * lines * self.size);
                }
                steps.decode.decode(values, n);
                if steps.convert.is_none() {
                    steps.encode.encode(values, n);
                }
                if !exact {
                    self.pad(values, lines, rows);
                }
                (values.cast_const(), rows * self.size)
            };
            if self.early && !exact {
                self.pad(turned, lines, rows);
            }
            let late = if self.early { None } else { steps.convert.as_ref() };
            // Straight to the destination.
            if exact
                && late.is_none()
                && !stream
                && tile.col.dst == self.size as isize
                && steps.dst_unit == Unit::Bytes(self.size)
                && (!self.joins() || tile.is_run(tile.col.dst, tile.row.dst, steps.dst_unit))
            {
                self.turn(dst.offset(tile.dst), tile.row.dst, values, line_step, tile);
                return lost;
            }
            let pitch = self.pitch(lines);
            let rows_up = if self.few() { rows } else { rows.next_multiple_of((16 / self.size).max(1)) };
            debug_assert!(rows_up * pitch + 4 * VECTOR <= size_of::<Block>());
            let rows_at = if self.early { read } else { out };
            self.turn(rows_at, pitch as isize, values, line_step, tile);
            let Some(convert) = late else {
                steps.write_rows(dst, rows_at, pitch, tile, stream);
                return lost;
            };
            // The destination's own memory, where its rows are one run.
            let run = tile.is_run(tile.col.dst, tile.row.dst, steps.dst_unit) && !stream;
            let compact = lines * steps.dst_unit.block_size();
            if !run
                && !stream
                && line >= LONG
                && steps.encode.is_nothing()
                && steps.dst_unit == Unit::Bytes(tile.col.dst as usize)
            {
                for r in 0..rows {
                    let to = dst.offset(tile.dst + r as isize * tile.row.dst);
                    lost += convert.run(to, rows_at.add(r * pitch), line);
                }
                return lost;
            }
            let converted = if run { dst.offset(tile.dst) } else { turned };
            if pitch == lines * self.size {
                lost = convert.run(converted, rows_at, n);
            } else {
                for r in 0..rows {
                    lost += convert.run(converted.add(r * compact), rows_at.add(r * pitch), line);
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

    /// Columns that a tile makes once more to write whole lines of the cache; 0 where it has not enough of them.
    pub(super) fn lead(&self, wd: usize) -> usize {
        let lead = LINE.div_ceil(wd);
        if lead * 2 <= self.lines && matches!(self.kernel, None | Some(Kernel { few: Few::No, .. })) { lead } else { 0 }
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kernel.map(|k| k.few) {
            Some(Few::Rows(_)) => "split",
            Some(Few::Lines(_)) => "join",
            _ => "tiles",
        }
    }

    fn few(&self) -> bool {
        self.kernel.is_some_and(|kernel| kernel.few != Few::No)
    }

    fn joins(&self) -> bool {
        matches!(self.kernel, Some(Kernel { few: Few::Lines(_), .. }))
    }

    /// Whether the kernel reads and writes no more than a tile of this size.
    fn is_exact(&self, lines: usize, rows: usize) -> bool {
        let whole = |n: usize, bytes: usize| (n * self.size).is_multiple_of(bytes);
        self.kernel.is_some_and(|kernel| match kernel.few {
            Few::No => whole(lines, kernel.width) && whole(rows, 16.max(self.size)),
            Few::Rows(_) => whole(lines, kernel.width),
            Few::Lines(_) => whole(rows, kernel.width),
        })
    }

    /// Whether a tile's lines may be turned where they lie: few long ones, or one run, with nothing to do first.
    fn reads_in_place(&self, steps: &Steps, tile: Tile) -> bool {
        let size = self.size as isize;
        steps.decode.is_nothing()
            && (steps.convert.is_some() || steps.encode.is_nothing())
            && steps.src_unit == Unit::Bytes(self.size)
            && tile.row.src == size
            && tile.col.src > 0
            && (self.joins() || tile.col.src == tile.rows as isize * size)
    }

    /// Bytes that the kernel reads of a block of lines.
    fn reads(&self, kernel: Kernel, lines: usize, rows: usize) -> usize {
        let line_step = rows * self.size;
        match kernel.few {
            Few::No => lines.next_multiple_of(kernel.width / self.size) * line_step + 16,
            Few::Rows(few) => lines * line_step + few * kernel.width,
            Few::Lines(_) => lines * line_step + kernel.width,
        }
    }

    /// Gives a value to what the kernel reads beyond the tile's lines in a block: it becomes rubbish that nobody
    /// reads, but memory that was never written must not be read at all.
    ///
    /// # Safety
    ///
    /// `values` is a block.
    unsafe fn pad(&self, values: *mut u8, lines: usize, rows: usize) {
        let Some(kernel) = self.kernel else { return };
        let used = lines * rows * self.size;
        let read = self.reads(kernel, lines, rows);
        debug_assert!(read <= size_of::<Block>(), "{lines} lines of {rows} elements of {} bytes", self.size);
        // SAFETY: the block has room for that, by the choice of `rows` and `lines`.
        unsafe { values.add(used).write_bytes(0, read - used) };
    }

    /// Turns the lines at `values` into rows.
    ///
    /// # Safety
    ///
    /// `values` holds the tile's lines, `line_step` bytes apart; `dst` has room for its rows, `pitch` bytes apart;
    /// both counted up as [`turn::Kernel`] says.
    unsafe fn turn(&self, dst: *mut u8, pitch: isize, values: *const u8, line_step: usize, tile: Tile) {
        let (lines, rows, size) = (tile.cols, tile.rows, self.size);
        let Some(kernel) = self.kernel else {
            let grid = Grid {
                rows: lines,
                cols: rows,
                dst_row: size as isize,
                dst_col: pitch,
                src_row: line_step as isize,
                src_col: size as isize,
            };
            // SAFETY: the caller's guarantees; this reads and writes no more than the tile. Any machine has this level.
            unsafe { move_grid(Level::Baseline, size, dst, values, grid) };
            return;
        };
        let block = turn::Block { lines, rows, line_step: line_step as isize, row_step: pitch };
        // SAFETY: the caller's guarantees.
        unsafe { (kernel.turn)(dst, values, block) };
    }
}

const _: () = assert!(size_of::<Block>() >= BLOCK + 8 * VECTOR);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "arithmetic on a million shapes")]
    fn blocks_hold_every_tile_with_what_kernels_touch_beyond_it() {
        let axis = |n| Axis { n, dst: n as isize, src: 0 };
        let counts: Vec<usize> = (1..70).chain([96, 127, 128, 129, 200, 255, 256, 257, 1000, 5461, 100_000]).collect();
        for level in Level::available() {
            for (ws, wd) in [1, 2, 3, 4, 8, 12, 16, 32, 64].iter().flat_map(|&a| [1, 2, 4, 8, 16, 64].map(|b| (a, b))) {
                for &n in &counts {
                    for &m in &counts {
                        let tiles = Tiles::of_sizes(level, ws, wd, axis(n), axis(m), n % 2 == 0);
                        let (rows, lines, size) = (tiles.rows, tiles.lines, tiles.size);
                        let tile = format!("{level:?} {ws} to {wd}, {n} rows of {m}: {rows}x{lines}");
                        assert!((1..=n).contains(&rows) && (1..=m).contains(&lines), "{tile}");
                        assert!(rows * lines * ws.max(wd) <= BLOCK, "{tile}");
                        // Tiles at an edge have fewer rows, or fewer lines.
                        for (rows, lines) in
                            [(rows, lines), (rows, lines.div_ceil(2)), (rows.div_ceil(2), lines), (rows, 1)]
                        {
                            let Some(kernel) = tiles.kernel else { continue };
                            let (few_rows, few_lines) =
                                (kernel.few == Few::Rows(rows), kernel.few == Few::Lines(lines));
                            if kernel.few != Few::No && !few_rows && !few_lines {
                                continue; // their rows, or lines, are never cut
                            }
                            assert!(tiles.reads(kernel, lines, rows) <= size_of::<Block>(), "{tile}");
                            let written = match kernel.few {
                                Few::No => rows.next_multiple_of((16 / size).max(1)) * tiles.pitch(lines) + VECTOR,
                                Few::Rows(_) => rows * tiles.pitch(lines),
                                Few::Lines(few) => rows.next_multiple_of(kernel.width / size) * few * size,
                            };
                            assert!(written <= size_of::<Block>(), "{tile}");
                        }
                    }
                }
            }
        }
    }
}
