//! Moves a grid of whole-byte elements between two strided places, unchanged.

use std::ops::ControlFlow;

use super::level::Level;
use super::line::line;
use super::plan::{Plan, walk};

/// Rows and columns with their steps in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub rows: usize,
    pub cols: usize,
    pub dst_row: isize,
    pub dst_col: isize,
    pub src_row: isize,
    pub src_col: isize,
}

/// Rows that are walked along together where columns are few: their lines of the cache stay in it meanwhile.
const STRIP: usize = 64;

/// Copies `size`-byte elements from one strided grid to another.
///
/// # Safety
///
/// * Every element of the grid is readable from `src` and writable from `dst`, at any alignment.
/// * No element of `dst` overlaps an element of `src`.
/// * The machine has the level.
pub(super) unsafe fn move_grid(level: Level, size: usize, dst: *mut u8, src: *const u8, grid: Grid) {
    let step = size as isize;
    let runs = grid.dst_col == step && grid.src_col == step;
    let bytes = grid.cols * size;
    // SAFETY: rows and columns of the caller's grids; where both sides' rows are runs, a row is one word.
    unsafe {
        match bytes {
            _ if grid.rows == 1 => line(level, size, dst, grid.dst_col, src, grid.src_col, grid.cols),
            1 | 2 | 4 | 8 | 16 if runs => line(level, bytes, dst, grid.dst_row, src, grid.src_row, grid.rows),
            17..64 if runs => short_rows::<16>(dst, src, grid, bytes),
            9..16 if runs => short_rows::<8>(dst, src, grid, bytes),
            5..8 if runs => short_rows::<4>(dst, src, grid, bytes),
            3 if runs => short_rows::<2>(dst, src, grid, bytes),
            _ if grid.cols < 16 && grid.cols < grid.rows && !runs => {
                for first in (0..grid.rows).step_by(STRIP) {
                    let (rows, at) = (STRIP.min(grid.rows - first), first as isize);
                    for col in 0..grid.cols as isize {
                        let to = dst.offset(at * grid.dst_row + col * grid.dst_col);
                        let from = src.offset(at * grid.src_row + col * grid.src_col);
                        line(level, size, to, grid.dst_row, from, grid.src_row, rows);
                    }
                }
            }
            _ => {
                for row in 0..grid.rows as isize {
                    let (to, from) = (dst.offset(row * grid.dst_row), src.offset(row * grid.src_row));
                    line(level, size, to, grid.dst_col, from, grid.src_col, grid.cols);
                }
            }
        }
    }
}

/// Copies many tiny tiles: each element of a tile along all tiles of a strip, whose lines of the cache stay in it.
///
/// # Safety
///
/// As for [`move_grid`], for all positions of the plan's axes, of which there are three at least.
pub(super) unsafe fn move_tiny(level: Level, size: usize, dst: *mut u8, src: *const u8, plan: &Plan) {
    let (outer, row, col) = plan.split();
    let Some((along, outer)) = outer.split_last() else { return };
    walk(outer, plan.dst_start, plan.src_start, |dst_at, src_at| -> ControlFlow<()> {
        for first in (0..along.n).step_by(STRIP) {
            let (n, at) = (STRIP.min(along.n - first), first as isize);
            for r in 0..row.n as isize {
                for c in 0..col.n as isize {
                    // SAFETY: offsets of the caller's plan.
                    unsafe {
                        let to = dst.offset(dst_at + at * along.dst + r * row.dst + c * col.dst);
                        let from = src.offset(src_at + at * along.src + r * row.src + c * col.src);
                        line(level, size, to, along.dst, from, along.src, n);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    });
}

/// Copies rows of `N` to `4 * N` bytes, each in pieces of `N` bytes of which the last two may overlap.
///
/// # Safety
///
/// As for [`move_grid`], with rows of `bytes` bytes.
#[inline(always)]
pub(super) unsafe fn short_rows<const N: usize>(dst: *mut u8, src: *const u8, grid: Grid, bytes: usize) {
    for row in 0..grid.rows as isize {
        // SAFETY: pieces inside a row of the caller's.
        unsafe {
            let (to, from) = (dst.offset(row * grid.dst_row), src.offset(row * grid.src_row));
            let piece = |at: usize| to.add(at).cast::<[u8; N]>().write(from.add(at).cast::<[u8; N]>().read());
            let mut at = 0;
            while at + N < bytes {
                piece(at);
                at += N;
            }
            piece(bytes - N);
        }
    }
}
