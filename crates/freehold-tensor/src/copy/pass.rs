//! One tile of a plan: gather, resolve, convert, resolve, scatter, leaving out every step that it does not need.

use std::mem::MaybeUninit;

use super::line::line;
use super::packed;
use super::plan::Axis;
use super::run::{Steps, Unit};
use super::stream;
use super::strided::{Grid, move_grid};
use super::way::{BLOCK, Class, Way};

/// Memory for the elements of a tile, with room for what kernels read and write beyond it.
#[repr(align(64))]
pub(super) struct Block([MaybeUninit<u8>; BLOCK + 512]);

impl Block {
    pub(super) const fn new() -> Block {
        Block([MaybeUninit::uninit(); BLOCK + 512])
    }

    pub(super) fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// A tile: its grid in the units of both sides, and where it starts.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub rows: usize,
    pub cols: usize,
    pub dst: isize,
    pub src: isize,
    pub row: Axis,
    pub col: Axis,
    /// Columns at the start that the tile before has, too.
    pub lead: usize,
    /// No other tile has its last columns, too.
    pub last: bool,
}

impl Steps {
    /// Whether packed runs that start at these bits hold the same bytes on both sides.
    pub(super) fn packed_run(&self, dst: isize, src: isize, col: Axis) -> bool {
        match (self.src_unit, self.dst_unit) {
            (Unit::Bits(bits), Unit::Bits(_)) => {
                self.is_plain() && dst & 7 == 0 && src & 7 == 0 && col.dst == bits as isize && col.src == bits as isize
            }
            _ => false,
        }
    }

    /// # Safety
    ///
    /// As for [`Steps::run`], for a tile of one row for which [`Steps::packed_run`] holds.
    unsafe fn copy_packed(&self, dst: *mut u8, src: *const u8, tile: Tile) {
        // Eight values fill whole bytes, at every width; up to seven are left.
        let (groups, rest) = (tile.cols / 8, tile.cols % 8);
        let bytes = groups * self.src_unit.compact() as usize;
        let done = bytes as isize * 8;
        // SAFETY: the caller's guarantees.
        unsafe {
            std::ptr::copy_nonoverlapping(src.offset(tile.src >> 3), dst.offset(tile.dst >> 3), bytes);
            if rest != 0 {
                let last = Tile { cols: rest, dst: tile.dst + done, src: tile.src + done, ..tile };
                self.by_blocks(dst, src, last, (None, None), false);
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Steps::run`], for the elements of one tile.
    #[inline]
    pub(super) unsafe fn tile(&self, way: &Way, dst: *mut u8, src: *const u8, tile: Tile) -> usize {
        match &way.class {
            // SAFETY: the caller's guarantees.
            Class::Tiles(tiles) => return unsafe { tiles.copy(self, dst, src, tile, way.stream) },
            // SAFETY: the caller's guarantees.
            Class::Repeat => return unsafe { self.repeat(dst, src, tile, way.stream) },
            // SAFETY: the caller's guarantees.
            Class::Fill => return unsafe { self.fill(dst, src, tile, way.stream) },
            Class::Run | Class::Rows | Class::Strided | Class::Tiny | Class::Batch(_) => {}
        }
        let n = tile.rows * tile.cols * self.group;
        if self.is_plain()
            && let (Unit::Bytes(size), Unit::Bytes(_)) = (self.src_unit, self.dst_unit)
            && (!way.stream || !matches!(way.class, Class::Strided))
        {
            // SAFETY: offsets of a plan are within the caller's extents.
            unsafe {
                let (dst, src) = (dst.offset(tile.dst), src.offset(tile.src));
                if !way.stream {
                    move_grid(self.level, size, dst, src, tile.grid());
                } else {
                    for r in 0..tile.rows as isize {
                        stream::put(
                            self.level,
                            dst.offset(r * tile.row.dst),
                            src.offset(r * tile.row.src),
                            tile.cols * size,
                        );
                    }
                }
            };
            return 0;
        }
        if tile.rows == 1 && self.packed_run(tile.dst, tile.src, tile.col) {
            // SAFETY: packed values of both sides lie at the same bits of whole bytes.
            unsafe { self.copy_packed(dst, src, tile) };
            return 0;
        }
        // SAFETY: as above; only offsets in bytes are taken.
        let (src_run, dst_run) = unsafe {
            (
                (tile.is_run(tile.col.src, tile.row.src, self.src_unit)).then(|| src.offset(tile.src)),
                (tile.is_run(tile.col.dst, tile.row.dst, self.dst_unit) && !way.stream).then(|| dst.offset(tile.dst)),
            )
        };
        if let (Some(src), Some(dst), Some(convert)) = (src_run, dst_run, &self.convert)
            && self.decode.is_nothing()
        {
            // SAFETY: both runs are `n` compact elements of the caller's.
            return unsafe {
                let lost = convert.run(dst, src, n);
                self.encode.encode(dst, n);
                lost
            };
        }
        // SAFETY: the caller's guarantees; blocks are large enough for a tile that is not direct.
        unsafe { self.by_blocks(dst, src, tile, (src_run, dst_run), way.stream) }
    }

    /// # Safety
    ///
    /// As for [`Steps::run`], for the elements of one tile of at most `BLOCK / size` elements.
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    unsafe fn by_blocks(
        &self,
        dst: *mut u8,
        src: *const u8,
        tile: Tile,
        (src_run, dst_run): (Option<*const u8>, Option<*mut u8>),
        stream: bool,
    ) -> usize {
        let mut blocks = [const { Block::new() }; 2];
        let [read, out] = &mut blocks;
        let out = dst_run.unwrap_or(out.start());
        // SAFETY: what is read goes to a block or to the destination's run before anything takes it from there; the
        // tile's elements fit in either.
        unsafe {
            let lost = self.values(out, read.start(), src, tile, src_run);
            if dst_run.is_none() {
                self.write_rows(dst, out, tile.cols * self.dst_unit.block_size(), tile, stream);
            }
            lost
        }
    }

    /// Reads a tile and makes of it what the destination is to hold, compact at `out`; `block` is for what is between.
    ///
    /// # Safety
    ///
    /// As for [`Steps::run`]; the tile's elements fit at `out` and in `block`, which do not overlap.
    pub(super) unsafe fn values(
        &self,
        out: *mut u8,
        block: *mut u8,
        src: *const u8,
        tile: Tile,
        src_run: Option<*const u8>,
    ) -> usize {
        let elements = tile.rows * tile.cols;
        debug_assert!(elements * self.src_unit.block_size().max(self.dst_unit.block_size()) <= BLOCK);
        // Of a wider element that was made of several, what is done to values is done to each.
        let n = elements * self.group;
        // SAFETY: the caller's guarantees.
        unsafe {
            let read = |to: *mut u8| match src_run {
                Some(run) => self.decode.decode_from(to, run, n),
                None => {
                    self.gather(to, src, tile);
                    self.decode.decode(to, n);
                }
            };
            let lost = match &self.convert {
                None => {
                    read(out);
                    0
                }
                Some(convert) => {
                    let values = match src_run {
                        Some(run) if self.decode.is_nothing() => run,
                        _ => {
                            read(block);
                            block.cast_const()
                        }
                    };
                    convert.run(out, values, n)
                }
            };
            self.encode.encode(out, n);
            lost
        }
    }

    /// Reads a tile into a compact run.
    ///
    /// # Safety
    ///
    /// `out` is writable for the tile's elements; the rest as for [`Steps::run`].
    pub(super) unsafe fn gather(&self, out: *mut u8, src: *const u8, tile: Tile) {
        match self.src_unit {
            Unit::Bytes(size) => {
                let grid = Grid { dst_row: (tile.cols * size) as isize, dst_col: size as isize, ..tile.grid() };
                // SAFETY: the caller's guarantees; the compact side is `out`.
                unsafe { move_grid(self.level, size, out, src.offset(tile.src), grid) };
            }
            Unit::Bits(bits) => {
                for r in 0..tile.rows {
                    let at = tile.src + r as isize * tile.row.src;
                    // SAFETY: one row of the tile, and its place in `out`.
                    unsafe { packed::unpack(out.add(r * tile.cols), src, at, tile.col.src, bits, tile.cols) };
                }
            }
        }
    }

    /// Writes rows of compact elements, `pitch` bytes apart, to a tile.
    ///
    /// # Safety
    ///
    /// `rows` is readable for the tile's rows, as they are in a block; the rest as for [`Steps::run`].
    pub(super) unsafe fn write_rows(&self, dst: *mut u8, rows: *const u8, pitch: usize, tile: Tile, stream: bool) {
        let uneven = tile.lead != 0 || !tile.last;
        match self.dst_unit {
            Unit::Bytes(size) if stream => {
                let compact = tile.cols * size;
                // SAFETY: the caller's guarantees; streams are for destinations whose columns are runs.
                unsafe {
                    if pitch == compact && tile.lead == 0 && tile.is_run(tile.col.dst, tile.row.dst, self.dst_unit) {
                        return stream::put(self.level, dst.offset(tile.dst), rows, tile.rows * compact);
                    }
                    for r in 0..tile.rows {
                        let to = dst.offset(tile.dst + r as isize * tile.row.dst);
                        if uneven {
                            // Lines that end after the first column of its own, and before the next tile's.
                            let own = tile.lead * size;
                            let from =
                                if tile.lead == 0 { 0 } else { own.saturating_sub((to.addr() + own) % stream::LINE) };
                            let until =
                                if tile.last { compact } else { compact - (to.addr() + compact) % stream::LINE };
                            stream::put(self.level, to.add(from), rows.add(r * pitch + from), until - from);
                        } else if tile.col.dst == size as isize {
                            stream::put(self.level, to, rows.add(r * pitch), compact);
                        } else {
                            line(self.level, size, to, tile.col.dst, rows.add(r * pitch), size as isize, tile.cols);
                        }
                    }
                }
            }
            Unit::Bytes(size) => {
                let grid = Grid { src_row: pitch as isize, src_col: size as isize, ..tile.grid() };
                // SAFETY: the caller's guarantees; the compact side is `rows`.
                unsafe { move_grid(self.level, size, dst.offset(tile.dst), rows, grid) };
            }
            Unit::Bits(bits) => {
                for r in 0..tile.rows {
                    let at = tile.dst + r as isize * tile.row.dst;
                    // SAFETY: one row of the tile, and its place in `rows`.
                    unsafe { packed::pack(dst, at, tile.col.dst, rows.add(r * pitch), bits, tile.cols) };
                }
            }
        }
    }
}

impl Tile {
    pub(super) fn grid(&self) -> Grid {
        Grid {
            rows: self.rows,
            cols: self.cols,
            dst_row: self.row.dst,
            dst_col: self.col.dst,
            src_row: self.row.src,
            src_col: self.col.src,
        }
    }

    /// Whether one side's tile is a compact run of whole-byte elements.
    pub(super) fn is_run(&self, col: isize, row: isize, unit: Unit) -> bool {
        let step = unit.compact();
        matches!(unit, Unit::Bytes(_))
            && (col == step || self.cols == 1)
            && (self.rows == 1 || row == step * self.cols as isize)
    }
}
