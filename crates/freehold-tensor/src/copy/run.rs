//! Runs a plan: walks it in tiles, and takes each through gather, resolve, convert, resolve, scatter, leaving out
//! every step that a tile does not need.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use super::convert::Convert;
use super::lazy::Resolve;
use super::packed;
use super::plan::{Axis, Plan, walk};
use super::strided::{Grid, move_grid};

/// How elements of one side lie in memory, and so the unit of its offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// Elements of this many whole bytes; offsets in bytes.
    Bytes(usize),
    /// Packed elements of this many bits, 1 to 7; offsets in bits. In a block each has a byte.
    Bits(u32),
}

impl Unit {
    /// Bytes of an element in a block.
    pub(super) fn block_size(self) -> usize {
        match self {
            Unit::Bytes(size) => size,
            Unit::Bits(_) => 1,
        }
    }

    /// The step of a compact run.
    fn compact(self) -> isize {
        match self {
            Unit::Bytes(size) => size as isize,
            Unit::Bits(bits) => bits as isize,
        }
    }
}

/// What to do with elements on the way, decided from dtypes and traits.
pub(super) struct Steps {
    pub src_unit: Unit,
    pub dst_unit: Unit,
    /// From source bytes to values.
    pub decode: Resolve,
    /// `None` where source and destination values have the same bytes.
    pub convert: Option<Convert>,
    /// From values to destination bytes.
    pub encode: Resolve,
}

/// Bytes of a block. A tile that is only moved uses one, a tile that is converted two: either fits an L1 cache.
const BLOCK: usize = 16 << 10;

/// Columns of a tile that turns a matrix: each column touches another cache line of the source.
const TURN: usize = 64;

/// A run this long repays a call of its own; shorter ones are gathered into a block first.
const LONG: usize = 128;

type Block = [MaybeUninit<u64>; BLOCK / 8];

/// A tile: its grid in the units of both sides, and where it starts.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    cols: usize,
    dst: isize,
    src: isize,
    turned: bool,
    row: Axis,
    col: Axis,
}

impl Steps {
    fn is_plain(&self) -> bool {
        self.convert.is_none() && self.decode.is_nothing() && self.encode.is_nothing()
    }

    /// Copies everything and returns how many values lost something.
    ///
    /// # Safety
    ///
    /// * Every element that `plan` reaches from `src` is readable and initialised, every one it reaches from `dst`
    ///   is writable, and none of the first overlaps one of the second.
    /// * A packed destination is initialised.
    pub(super) unsafe fn run(&self, dst: *mut u8, src: *const u8, plan: &Plan) -> u64 {
        let (outer, row, col) = plan.split();
        let (max_rows, max_cols) = self.tile_size(plan);
        let mut lost = 0u64;
        walk(outer, plan.dst_start, plan.src_start, |dst_at, src_at| -> ControlFlow<()> {
            for c in (0..col.n).step_by(max_cols) {
                for r in (0..row.n).step_by(max_rows) {
                    let (ci, ri) = (c as isize, r as isize);
                    let tile = Tile {
                        rows: max_rows.min(row.n - r),
                        cols: max_cols.min(col.n - c),
                        dst: dst_at + ri * row.dst + ci * col.dst,
                        src: src_at + ri * row.src + ci * col.src,
                        turned: plan.turned,
                        row,
                        col,
                    };
                    // SAFETY: the tile is part of the plan, for which the caller answers; a tile that is not direct
                    // has at most BLOCK / size elements.
                    lost += unsafe { self.tile(dst, src, tile) } as u64;
                }
            }
            ControlFlow::Continue(())
        });
        lost
    }

    /// Rows and columns of a tile.
    fn tile_size(&self, plan: &Plan) -> (usize, usize) {
        let (_, row, col) = plan.split();
        if let (Unit::Bytes(src_size), Unit::Bytes(dst_size)) = (self.src_unit, self.dst_unit) {
            if self.is_plain() && (!plan.turned || src_size > BLOCK) {
                return (row.n, col.n); // one grid, nothing passes through a block
            }
            let runs = col.src == src_size as isize && col.dst == dst_size as isize;
            let as_is = self.convert.is_some() && self.decode.is_nothing() && self.encode.is_nothing();
            if runs && as_is && (col.n >= LONG || plan.axes.len() == 1) {
                return (1, col.n); // from run to run
            }
        }
        if self.packed_run(plan.dst_start, plan.src_start, col) && plan.axes.len() == 1 {
            return (1, col.n);
        }
        let capacity = BLOCK / self.src_unit.block_size().max(self.dst_unit.block_size());
        let cols = col.n.min(if plan.turned { TURN.min(capacity) } else { capacity });
        ((capacity / cols).min(row.n), cols)
    }

    /// Whether packed runs that start at these bits hold the same bytes on both sides.
    fn packed_run(&self, dst: isize, src: isize, col: Axis) -> bool {
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
                self.tile_by_blocks(dst, src, last, (None, None), rest);
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Steps::run`], for the elements of one tile.
    unsafe fn tile(&self, dst: *mut u8, src: *const u8, tile: Tile) -> usize {
        let n = tile.rows * tile.cols;
        if self.is_plain()
            && (!tile.turned || self.src_unit.block_size() > BLOCK)
            && let (Unit::Bytes(size), Unit::Bytes(_)) = (self.src_unit, self.dst_unit)
        {
            // SAFETY: offsets of a plan are within the caller's extents.
            unsafe { move_grid(size, dst.offset(tile.dst), src.offset(tile.src), tile.grid()) };
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
                (tile.is_run(tile.col.dst, tile.row.dst, self.dst_unit)).then(|| dst.offset(tile.dst)),
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
        unsafe { self.tile_by_blocks(dst, src, tile, (src_run, dst_run), n) }
    }

    /// # Safety
    ///
    /// As for [`Steps::run`], for the elements of one tile of at most `BLOCK / size` elements.
    #[inline(never)] // keeps the blocks out of the stack frame of copies that need none
    unsafe fn tile_by_blocks(
        &self,
        dst: *mut u8,
        src: *const u8,
        tile: Tile,
        (src_run, dst_run): (Option<*const u8>, Option<*mut u8>),
        n: usize,
    ) -> usize {
        debug_assert!(n * self.src_unit.block_size() <= BLOCK && n * self.dst_unit.block_size() <= BLOCK);
        let mut in_block: Block = [MaybeUninit::uninit(); BLOCK / 8];
        let mut out_block: Block = [MaybeUninit::uninit(); BLOCK / 8];
        let out = dst_run.unwrap_or(out_block.as_mut_ptr().cast());
        // SAFETY: gathers write `n` elements to a block or to the destination's run before anything reads them;
        // `n` elements fit in either.
        let lost = unsafe {
            match &self.convert {
                None => {
                    self.gather(out, src, tile);
                    self.decode.decode(out, n);
                    self.encode.encode(out, n);
                    0
                }
                Some(convert) => {
                    let values = match src_run {
                        Some(run) if self.decode.is_nothing() => run,
                        _ => {
                            let block = in_block.as_mut_ptr().cast::<u8>();
                            self.gather(block, src, tile);
                            self.decode.decode(block, n);
                            block.cast_const()
                        }
                    };
                    let lost = convert.run(out, values, n);
                    self.encode.encode(out, n);
                    lost
                }
            }
        };
        if dst_run.is_none() {
            // SAFETY: `out` is a block that holds the tile, compact.
            unsafe { self.scatter(dst, out, tile) };
        }
        lost
    }

    /// Reads a tile into a compact run.
    ///
    /// # Safety
    ///
    /// `out` is writable for the tile's elements; the rest as for [`Steps::run`].
    unsafe fn gather(&self, out: *mut u8, src: *const u8, tile: Tile) {
        match self.src_unit {
            Unit::Bytes(size) => {
                let grid = Grid { dst_row: (tile.cols * size) as isize, dst_col: size as isize, ..tile.grid() };
                // SAFETY: the caller's guarantees; the compact side is `out`.
                unsafe { move_grid(size, out, src.offset(tile.src), grid) };
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

    /// Writes a compact run to a tile.
    ///
    /// # Safety
    ///
    /// `run` is readable for the tile's elements, as they are in a block; the rest as for [`Steps::run`].
    unsafe fn scatter(&self, dst: *mut u8, run: *const u8, tile: Tile) {
        match self.dst_unit {
            Unit::Bytes(size) => {
                let grid = Grid { src_row: (tile.cols * size) as isize, src_col: size as isize, ..tile.grid() };
                // SAFETY: the caller's guarantees; the compact side is `run`.
                unsafe { move_grid(size, dst.offset(tile.dst), run, grid) };
            }
            Unit::Bits(bits) => {
                for r in 0..tile.rows {
                    let at = tile.dst + r as isize * tile.row.dst;
                    // SAFETY: one row of the tile, and its place in `run`.
                    unsafe { packed::pack(dst, at, tile.col.dst, run.add(r * tile.cols), bits, tile.cols) };
                }
            }
        }
    }
}

impl Tile {
    fn grid(&self) -> Grid {
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
    fn is_run(&self, col: isize, row: isize, unit: Unit) -> bool {
        let step = unit.compact();
        matches!(unit, Unit::Bytes(_))
            && (col == step || self.cols == 1)
            && (self.rows == 1 || row == step * self.cols as isize)
    }
}
