//! Classifies a plan and picks how to walk it.

use super::batch::Batch;
use super::plan::{Axis, Plan};
use super::run::{Steps, Unit};
use super::stream;
use super::tiles::Tiles;

/// Bytes of a block. A tile passes through up to three of them, the narrower ones not full: all fit an L1 cache.
pub(super) const BLOCK: usize = 16 << 10;

/// Bytes of the wider side of a tile that passes through blocks and is written past the caches. The processor reads on while
/// it writes only as far as it sees, which a whole block is beyond: every other f32 of 128 MiB took 1.5 times as long on a Zen 4,
/// and 4 KiB 1.15 times.
pub(super) const STREAMED: usize = 2048;

/// A run this long repays a call of its own; shorter ones are gathered into a block first.
pub(super) const LONG: usize = 128;

/// The widest element that blocks are made of; wider ones are moved where they lie.
pub(super) const WIDEST: usize = 64;

/// Elements of a tile that a loop has moved before it would be turned.
const TINY: usize = 64;

/// How a plan is walked.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub class: Class,
    /// The most rows and columns of a tile.
    pub rows: usize,
    pub cols: usize,
    /// Whole lines of the destination are written past the caches.
    pub stream: bool,
    /// Columns before its own that a tile makes once more, so that it can write every line of the cache that ends in
    /// it whole: rows that start at different places within a line leave no tiles that do so by themselves.
    pub lead: usize,
}

/// What both layouts are to each other, in normal form.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// One run on both sides.
    Run,
    /// Runs along the fastest axis of both sides.
    Rows,
    /// The sides are fastest along different axes.
    Tiles(Tiles),
    /// Rows of the source are repeated along the rows of the destination.
    Repeat,
    /// Elements of the source are repeated along the columns of the destination.
    Fill,
    /// Both sides are fastest along one axis, but not both a run there.
    Strided,
    /// Tiles too small to turn, many of them.
    Tiny,
    /// Tiles too small to convert one by one.
    Batch(Batch),
}

impl Way {
    #[inline]
    pub(super) fn new(steps: &Steps, plan: &Plan) -> Way {
        let (outer, row, col) = plan.split();
        let (ws, wd) = (steps.src_unit.block_size(), steps.dst_unit.block_size());
        let widest = ws.max(wd);
        let whole = matches!((steps.src_unit, steps.dst_unit), (Unit::Bytes(_), Unit::Bytes(_)));
        let many = outer.last().is_some_and(|axis| axis.n >= TINY);
        if plan.turned && many && whole && steps.is_plain() && row.n.saturating_mul(col.n) <= TINY {
            return Way { class: Class::Tiny, rows: row.n, cols: col.n, stream: false, lead: 0 };
        }
        if widest <= WIDEST
            && let Some(batch) = Batch::new(steps, plan)
        {
            return Way { class: Class::Batch(batch), rows: row.n, cols: col.n, stream: false, lead: 0 };
        }
        if plan.turned && widest <= WIDEST {
            let tiles = Tiles::new(steps, row, col, false);
            // Long pieces of a row, or rows that make up a run, are runs.
            let short = !tiles.in_place || tiles.lines * wd <= 1024;
            let joined = tiles.lines == col.n && row.dst == (col.n * wd) as isize && short;
            let long = !tiles.in_place && tiles.lines * wd >= 1024;
            let runs = steps.dst_unit == Unit::Bytes(wd) && col.dst == wd as isize;
            let lines = if let Unit::Bytes(_) = steps.src_unit { col.src } else { 0 };
            let stream = runs && tiles_stream(plan, ws, wd, lines, joined || long);
            let tiles = if stream { Tiles::new(steps, row, col, true) } else { tiles };
            let cut = stream && tiles.lines < col.n && row.dst % stream::LINE as isize != 0;
            let lead = if cut { tiles.lead(wd) } else { 0 };
            return Way { rows: tiles.rows, cols: tiles.lines - lead, class: Class::Tiles(tiles), stream, lead };
        }
        let runs = col.src == steps.src_unit.compact() && col.dst == steps.dst_unit.compact();
        let stream = whole && col.dst == wd as isize && col.n * wd >= 256 && runs_stream(plan, ws, wd);
        let class = if outer.is_empty() && row.n == 1 && runs {
            Class::Run
        } else if whole && col.src == 0 && col.n * wd >= 64 && widest <= WIDEST {
            Class::Fill
        } else if whole && row.n > 1 && row.src == 0 && widest <= WIDEST && repeats(steps, row, col, wd) {
            Class::Repeat
        } else if runs {
            Class::Rows
        } else {
            Class::Strided
        };
        let through_blocks = if stream { STREAMED } else { BLOCK };
        let capacity = |bytes: usize| (bytes / widest).max(1);
        let (rows, cols) = match class {
            Class::Fill => (capacity(BLOCK), col.n),
            Class::Repeat => (row.n, col.n.min(capacity(BLOCK))),
            // Nothing passes through a block.
            _ if whole && steps.is_plain() && (runs || !stream) => (row.n, col.n),
            _ if whole && runs && !stream && steps.only_converts() && (col.n >= LONG || row.n == 1) => (1, col.n),
            Class::Run if steps.packed_run(plan.dst_start, plan.src_start, col) => (1, col.n),
            _ => {
                let most = capacity(through_blocks);
                let cols = col.n.min(most);
                (if row.n == 1 { 1 } else { (most / cols).min(row.n) }, cols)
            }
        };
        Way { class, rows, cols, stream, lead: 0 }
    }
}

/// Whether a repeated row repays being made once: it costs something to make, or is so short that many of them
/// make up one run.
fn repeats(steps: &Steps, row: Axis, col: Axis, wd: usize) -> bool {
    let joined = col.dst == wd as isize && row.dst == (col.n * wd) as isize;
    col.src != 0 && (!steps.is_plain() && col.n * wd >= 64 || joined && col.n * wd < 256)
}

/// Whether tiles go past the caches, of lines so many bytes apart: those whose rows are `runs` as runs do, others earlier.
fn tiles_stream(plan: &Plan, ws: usize, wd: usize, lines: isize, runs: bool) -> bool {
    #[cfg(test)]
    if tuning::get().stream_all {
        return stream::STREAMS;
    }
    let bytes = |size: usize| plan.elements().saturating_mul(size as u64);
    stream::STREAMS && stream::is_past_in_tiles(bytes(ws), bytes(wd), lines, runs)
}

/// Whether runs of so many bytes go past the caches.
fn runs_stream(plan: &Plan, ws: usize, wd: usize) -> bool {
    #[cfg(test)]
    if tuning::get().stream_all {
        return stream::STREAMS;
    }
    let bytes = |size: usize| plan.elements().saturating_mul(size as u64);
    stream::STREAMS && stream::is_past(bytes(ws), bytes(wd))
}

impl Class {
    /// The class in a word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Class::Run => "run",
            Class::Rows => "rows",
            Class::Tiles(tiles) => tiles.name(),
            Class::Repeat => "repeat",
            Class::Fill => "fill",
            Class::Strided => "strided",
            Class::Tiny => "tiny tiles",
            Class::Batch(_) => "batch",
        }
    }

    /// Rows and columns of the tiles that are turned.
    pub(super) fn tile(&self) -> Option<(usize, usize)> {
        match self {
            Class::Tiles(tiles) => Some((tiles.rows, tiles.lines)),
            _ => None,
        }
    }
}

/// Tests make small copies take the ways of large ones.
#[cfg(test)]
pub(super) mod tuning {
    use std::cell::Cell;

    /// What a test changes on its own thread.
    #[derive(Clone, Copy, Default, Debug)]
    pub(in crate::copy) struct Tuning {
        /// No destination is too small for streaming.
        pub stream_all: bool,
        /// No copy is too small for so many threads.
        pub threads: Option<usize>,
        /// No copy is small enough for the short ways.
        pub no_short: bool,
        /// No run is too short for asking ahead.
        pub ask_ahead: bool,
    }

    thread_local!(static TUNING: Cell<Tuning> = const { Cell::new(Tuning { stream_all: false, threads: None, no_short: false, ask_ahead: false }) });

    pub(in crate::copy) fn get() -> Tuning {
        TUNING.get()
    }

    impl Tuning {
        /// Runs `test` with these changes.
        pub(in crate::copy) fn during<R>(self, test: impl FnOnce() -> R) -> R {
            struct Restore(Tuning);
            impl Drop for Restore {
                fn drop(&mut self) {
                    TUNING.set(self.0);
                }
            }
            let _restore = Restore(TUNING.replace(self));
            test()
        }
    }
}
