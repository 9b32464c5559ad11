//! Small copies as their few axes, found in one look at both layouts, and moved as they are: by whole vectors where there are any
//! for the axes.

use super::Operand;
use super::level::Level;
use super::line::line;
use super::plan::{Axes, Axis};
use super::strided::{Grid, short_rows};
use super::turn::{self, Block};
use crate::StrideUnit;

/// The most dimensions that are looked at.
const NDIM: usize = 8;

/// Steps beyond this many elements, or bytes, are not looked at.
const FAR: i64 = 1 << 40;

/// Elements that a loop has moved before a plan would be made.
const LOOP: usize = 512;

/// Bytes of a row that repay a call which copies them.
const ROW: usize = 512;

/// Axes of both layouts with their steps in bytes: of columns, the fastest, and of rows.
pub(super) type Plane = [Axis; 2];

/// An axis of one position.
const ONE: Axis = Axis { n: 1, dst: 0, src: 0 };

/// A pair of layouts whose shape is the same.
pub(super) struct Flat<'a> {
    dst: &'a Operand<'a>,
    src: &'a Operand<'a>,
    /// What strides are multiplied by.
    scale: [i64; 2],
    /// The dimensions that have more than one position, a byte each, the last one lowest; and how many.
    dims: u64,
    used: usize,
    /// Elements in all.
    pub n: usize,
}

impl<'a> Flat<'a> {
    /// Both layouts, if their shape is the same, with at least one element and no more than `most` bytes on either side.
    #[inline(always)]
    pub(super) fn new(
        dst: &'a Operand<'a>,
        src: &'a Operand<'a>,
        (to, from): (usize, usize),
        most: usize,
    ) -> Option<Flat<'a>> {
        let (d, s) = (&dst.layout, &src.layout);
        let ndim = d.shape.len();
        if ndim > NDIM || s.shape.len() != ndim || d.strides.len() != ndim || s.strides.len() != ndim {
            return None;
        }
        let (mut n, mut dims, mut used) = (1, 0, 0);
        for i in (0..ndim).rev() {
            let size = d.shape[i];
            if size != s.shape[i] || size < 1 || size > most as i64 {
                return None;
            }
            if size != 1 {
                dims |= (i as u64) << (8 * used);
                used += 1;
                n *= size as usize;
                if n > most {
                    return None;
                }
            }
        }
        let scale = |unit: StrideUnit, size: usize| if unit == StrideUnit::Bytes { 1 } else { size as i64 };
        let flat = Flat { dst, src, scale: [scale(dst.unit, to), scale(src.unit, from)], dims, used, n };
        if n * to.max(from) <= most { Some(flat) } else { None }
    }

    /// One of the axes, the fastest first; `None` where its steps are to be refused by name.
    #[inline(always)]
    fn axis(&self, k: usize) -> Option<Axis> {
        debug_assert!(k < self.used);
        let i = (self.dims >> (8 * k)) as usize & 0xff;
        let (d, s) = (&self.dst.layout, &self.src.layout);
        let at = |values: &[i64]| {
            // SAFETY: `new` counted `used` dimensions, each of both shapes and strides, of which this is one.
            unsafe { *values.get_unchecked(i) }
        };
        let (n, d, s) = (at(d.shape), at(d.strides), at(s.strides));
        // Beyond a power of two if either is.
        let far = (d.wrapping_add(FAR) | s.wrapping_add(FAR)) as u64 >= 2 * FAR as u64;
        if d == 0 || far {
            return None;
        }
        // No product overflows, nor one with the positions of all axes: all elements together have some thousand bytes.
        Some(Axis { n: n as usize, dst: (d * self.scale[0]) as isize, src: (s * self.scale[1]) as isize })
    }

    /// The axes, where they are two at most.
    #[inline(always)]
    pub(super) fn plane(&self) -> Option<Plane> {
        if self.used > 2 {
            return None;
        }
        let mut col = if self.used > 0 { self.axis(0)? } else { ONE };
        let mut row = if self.used > 1 { self.axis(1)? } else { ONE };
        if self.used > 1 {
            if row.dst.unsigned_abs() < col.dst.unsigned_abs() {
                std::mem::swap(&mut row, &mut col);
            }
            if joins(&col, &row) {
                col.n *= row.n;
                row = ONE;
            }
        }
        Some([col, row])
    }

    /// All axes with more than one position, the fastest first, joined where both sides go on.
    pub(super) fn axes(&self) -> Option<Axes> {
        let mut axes = Axes::new();
        for k in 0..self.used {
            let axis = self.axis(k)?;
            match axes.last_mut() {
                Some(inner) if joins(inner, &axis) => inner.n *= axis.n,
                _ => axes.push(axis),
            }
        }
        Some(axes)
    }
}

/// Whether both sides go on by the steps of an outer axis where an inner one ends.
#[inline]
fn joins(inner: &Axis, outer: &Axis) -> bool {
    let n = inner.n as isize;
    outer.dst == inner.dst * n && outer.src == inner.src * n
}

/// Whether steps are those of a run of elements of this size.
#[inline(always)]
pub(super) fn is_run(axes: &[Axis], size: usize, side: impl Fn(&Axis) -> isize) -> bool {
    let mut step = size as isize;
    axes.iter().all(|axis| {
        let is_next = axis.n == 1 || side(axis) == step;
        step *= axis.n as isize;
        is_next
    })
}

/// Makes one side a run of elements of this size.
#[inline(always)]
pub(super) fn make_run(axes: &mut [Axis], size: usize, side: impl Fn(&mut Axis) -> &mut isize) {
    let mut step = size as isize;
    for axis in axes {
        *side(axis) = step;
        step *= axis.n as isize;
    }
}

/// Moves elements of `size` bytes as they are, unless they are too many for a loop; `false` then, or for a size that has none.
///
/// # Safety
///
/// As for [`place`], with all of these axes.
pub(super) unsafe fn nest(level: Level, size: usize, dst: *mut u8, src: *const u8, axes: &[Axis]) -> bool {
    // SAFETY: positions of the caller's axes.
    unsafe {
        match *axes {
            [] => place(level, size, dst, src, &[ONE; 2]),
            [col] => place(level, size, dst, src, &[col, ONE]),
            [col, row] => place(level, size, dst, src, &[col, row]),
            [ref inner @ .., axis] => (0..axis.n as isize)
                .all(|i| nest(level, size, dst.offset(i * axis.dst), src.offset(i * axis.src), inner)),
        }
    }
}

/// Moves elements of `size` bytes as they are, unless they are too many for a loop; `false` then, or for a size that has none.
///
/// # Safety
///
/// * Every element is readable from `src` and writable from `dst`, at any alignment, without overlap; so is what lies between
///   those of `src` that are at most four elements apart.
/// * The machine has the level.
pub(super) unsafe fn place(level: Level, size: usize, dst: *mut u8, src: *const u8, plane: &Plane) -> bool {
    let ([col, row], step) = (plane, size as isize);
    // SAFETY: the caller's guarantees.
    unsafe {
        if col.dst == step && col.src == step {
            rows(level, dst, src, row, col.n * size);
            return true;
        }
        if col.dst == step && row.src == step && turned(level, size, dst, src, plane) {
            return true;
        }
        if col.n * row.n > LOOP || !matches!(size, 1 | 2 | 4 | 8 | 16) {
            return false;
        }
        for i in 0..row.n as isize {
            line(level, size, dst.offset(i * row.dst), col.dst, src.offset(i * row.src), col.src, col.n);
        }
    }
    true
}

/// Copies rows of so many bytes, by pieces of which the last two may overlap.
///
/// # Safety
///
/// Every row is readable from `src` and writable from `dst`, without overlap; the machine has the level.
#[inline]
unsafe fn rows(level: Level, dst: *mut u8, src: *const u8, row: &Axis, bytes: usize) {
    let _ = level; // where no level has wider vectors than the target
    let grid = Grid { rows: row.n, cols: bytes, dst_row: row.dst, dst_col: 1, src_row: row.src, src_col: 1 };
    // SAFETY: the caller's guarantees.
    unsafe {
        match bytes {
            #[cfg(target_arch = "x86_64")]
            32..=ROW if level >= Level::Avx2 => wide_rows(dst, src, grid, bytes),
            16..=ROW => short_rows::<16>(dst, src, grid, bytes),
            8..16 => short_rows::<8>(dst, src, grid, bytes),
            4..8 => short_rows::<4>(dst, src, grid, bytes),
            2..4 => short_rows::<2>(dst, src, grid, bytes),
            1 => short_rows::<1>(dst, src, grid, bytes),
            _ => {
                for i in 0..row.n as isize {
                    std::ptr::copy_nonoverlapping(src.offset(i * row.src), dst.offset(i * row.dst), bytes);
                }
            }
        }
    }
}

/// [`short_rows`] by vectors of 32 bytes.
///
/// # Safety
///
/// As for [`short_rows`], on a machine that has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn wide_rows(dst: *mut u8, src: *const u8, grid: Grid, bytes: usize) {
    // SAFETY: the caller's guarantees.
    unsafe { short_rows::<32>(dst, src, grid, bytes) }
}

/// Turns lines of the source, which are runs along the rows, into rows by blocks of whole vectors, of which the last may overlap those
/// before. `false` where there are not enough lines or rows for one block, or there is no kernel.
///
/// # Safety
///
/// As for [`place`], with columns that are a run in the destination and rows that are one in the source.
unsafe fn turned(level: Level, size: usize, dst: *mut u8, src: *const u8, [col, row]: &Plane) -> bool {
    if !matches!(size, 1 | 2 | 4 | 8) {
        return false;
    }
    let per = 16 / size;
    if row.n < per || col.n < per {
        return false;
    }
    // For so many rows there is no kernel of few.
    let kernel = |lines| turn::kernel(level, size, lines, usize::MAX);
    let wide = if col.n >= 2 * per { kernel(usize::MAX) } else { None };
    let Some(narrow) = kernel(per) else { return false };
    let mut line = 0;
    while line < col.n {
        let left = col.n - line;
        let (turn, lines) = match wide {
            Some(wide) if left >= wide.width / size => (wide.turn, left - left % (wide.width / size)),
            _ => (narrow.turn, if left >= per { left - left % per } else { per }),
        };
        let at = line.min(col.n - lines);
        let mut top = 0;
        while top < row.n {
            let left = row.n - top;
            let rows = if left >= per { left - left % per } else { per };
            let first = top.min(row.n - rows);
            let block = Block { lines, rows, line_step: col.src, row_step: row.dst };
            // SAFETY: whole vectors of the caller's lines and rows, and no others.
            unsafe {
                let to = dst.offset(first as isize * row.dst).add(at * size);
                turn(to, src.add(first * size).offset(at as isize * col.src), block);
            }
            top = first + rows;
        }
        line = at + lines;
    }
    true
}
