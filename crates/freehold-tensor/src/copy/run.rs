//! Runs a plan: walks it in tiles (see `pass`).

use std::ops::ControlFlow;

use super::convert::Convert;
use super::lazy::Resolve;
use super::level::Level;
use super::pass::Tile;
use super::plan::{Plan, walk};
use super::stream;
use super::strided::move_tiny;
use super::way::{Class, WIDEST, Way};

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
    #[inline]
    pub(super) fn block_size(self) -> usize {
        match self {
            Unit::Bytes(size) => size,
            Unit::Bits(_) => 1,
        }
    }

    /// The step of a compact run.
    #[inline]
    pub(super) fn compact(self) -> isize {
        match self {
            Unit::Bytes(size) => size as isize,
            Unit::Bits(bits) => bits as isize,
        }
    }
}

/// What to do with elements on the way, decided from dtypes and traits.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub src_unit: Unit,
    pub dst_unit: Unit,
    /// From source bytes to values.
    pub decode: Resolve,
    /// `None` where source and destination values have the same bytes.
    pub convert: Option<Convert>,
    /// From values to destination bytes.
    pub encode: Resolve,
    /// What elements are moved with.
    pub level: Level,
    /// Values of an element, next to each other; more than 1 only where elements are turned or nothing happens to them.
    pub group: usize,
}

/// Rows of tiles that are walked along before the next columns. In a large matrix each lies on a page of its own, and the
/// processor remembers some 2048 pages, those of the source's lines among them. Of 1024, 256 and 64 rows, 256 were the
/// fastest where this was measured.
const BAND: usize = 256;

impl Steps {
    pub(super) fn is_plain(&self) -> bool {
        self.convert.is_none() && self.decode.is_nothing() && self.encode.is_nothing()
    }

    /// Whether a conversion is all there is to do.
    pub(super) fn only_converts(&self) -> bool {
        self.convert.is_some() && self.decode.is_nothing() && self.encode.is_nothing()
    }

    /// Makes one wider element of a short run that both sides have along their fastest axis, where that lets more be
    /// turned, by fewer moves; `None` where it does not.
    pub(super) fn widen(&self, plan: &mut Plan) -> Option<Steps> {
        let (Unit::Bytes(ws), Unit::Bytes(wd)) = (self.src_unit, self.dst_unit) else { return None };
        let [.., _, last] = plan.axes[..] else { return None };
        let run = last.n <= 16 && last.dst == wd as isize && last.src == ws as isize;
        if !run || !matches!(last.n * ws.min(wd), 2 | 4 | 8 | 16) || last.n * ws.max(wd) > WIDEST {
            return None;
        }
        plan.axes.pop();
        plan.turn();
        if !plan.turned && !self.is_plain() {
            plan.axes.push(last);
            return None;
        }
        let (src_unit, dst_unit) = (Unit::Bytes(ws * last.n), Unit::Bytes(wd * last.n));
        Some(Steps { src_unit, dst_unit, group: last.n, ..*self })
    }

    /// Copies everything on the calling thread and returns how many values lost something.
    ///
    /// # Safety
    ///
    /// * Every element that `plan` reaches from `src` is readable and initialised, every one it reaches from `dst`
    ///   is writable, and none of the first overlaps one of the second.
    /// * A packed destination is initialised.
    /// * The machine has `level`.
    pub(super) unsafe fn run(&self, dst: *mut u8, src: *const u8, plan: &Plan) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { self.walk(&Way::new(self, plan), dst, src, plan) }
    }

    /// [`Steps::run`], in a way that was chosen for this plan or one that it is a piece of.
    ///
    /// # Safety
    ///
    /// As for [`Steps::run`].
    pub(super) unsafe fn walk(&self, way: &Way, dst: *mut u8, src: *const u8, plan: &Plan) -> u64 {
        if let Class::Batch(batch) = &way.class {
            // SAFETY: the caller's guarantees.
            return unsafe { batch.run(self, dst, src, plan) };
        }
        if let (Class::Tiny, Unit::Bytes(size)) = (&way.class, self.dst_unit) {
            // SAFETY: the caller's guarantees; nothing happens to values.
            unsafe { move_tiny(self.level, size, dst, src, plan) };
            return 0;
        }
        if let (Class::Run, true) = (&way.class, way.stream) {
            let (_, _, col) = plan.split();
            // SAFETY: the caller's guarantees: both sides are one run from here.
            let lost = unsafe { self.long_run(dst.offset(plan.dst_start), src.offset(plan.src_start), col.n) };
            stream::fence();
            return lost;
        }
        let (outer, row, col) = plan.split();
        let first = self.first_cols(way, dst, plan);
        let band = (BAND / way.rows).max(1) * way.rows;
        let mut lost = 0u64;
        walk(outer, plan.dst_start, plan.src_start, |dst_at, src_at| -> ControlFlow<()> {
            for top in (0..row.n).step_by(band) {
                let bottom = row.n.min(top.saturating_add(band));
                let mut c = 0;
                while c < col.n {
                    let cols = if c == 0 { first } else { way.cols.min(col.n - c) };
                    let (lead, last) = (way.lead.min(c), way.lead == 0 || c + cols == col.n);
                    for r in (top..bottom).step_by(way.rows) {
                        let (ci, ri) = ((c - lead) as isize, r as isize);
                        let tile = Tile {
                            rows: way.rows.min(bottom - r),
                            cols: cols + lead,
                            lead,
                            last,
                            dst: dst_at + ri * row.dst + ci * col.dst,
                            src: src_at + ri * row.src + ci * col.src,
                            row,
                            col,
                        };
                        // SAFETY: the tile is part of the plan, for which the caller answers; a tile that passes through
                        // a block fits it.
                        lost += unsafe { self.tile(way, dst, src, tile) } as u64;
                    }
                    c += cols;
                }
            }
            ControlFlow::Continue(())
        });
        if way.stream {
            stream::fence();
        }
        if lost != 0 && way.lead != 0 {
            // Some were counted twice.
            let once = Way { lead: 0, ..*way };
            // SAFETY: the caller's guarantees.
            return unsafe { self.walk(&once, dst, src, plan) };
        }
        lost
    }

    /// The columns of the first tile: as many as make the others start at a line of the cache, where rows share one
    /// place within a line.
    fn first_cols(&self, way: &Way, dst: *mut u8, plan: &Plan) -> usize {
        let (_, row, col) = plan.split();
        let most = way.cols.min(col.n);
        let size = self.dst_unit.block_size();
        let aligns = way.stream || matches!(way.class, Class::Tiles(tiles) if tiles.in_place);
        if aligns && most < col.n && (row.n == 1 || row.dst % stream::LINE as isize == 0) {
            let head = dst.wrapping_offset(plan.dst_start).align_offset(stream::LINE);
            if head.is_multiple_of(size) && head / size != 0 && head / size < most {
                return head / size;
            }
        }
        most
    }
}
