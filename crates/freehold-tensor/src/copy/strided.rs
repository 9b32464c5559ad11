//! Moves a grid of whole-byte elements between two strided places, unchanged.

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

/// Copies `size`-byte elements from one strided grid to another.
///
/// # Safety
///
/// * Every element of the grid is readable from `src` and writable from `dst`, at any alignment.
/// * No element of `dst` overlaps an element of `src`.
pub(super) unsafe fn move_grid(size: usize, dst: *mut u8, src: *const u8, grid: Grid) {
    let step = size as isize;
    if grid.dst_col == step && grid.src_col == step {
        for row in 0..grid.rows as isize {
            // SAFETY: a row is one run of `cols` elements on both sides, inside the caller's grids.
            unsafe {
                let (d, s) = (dst.offset(row * grid.dst_row), src.offset(row * grid.src_row));
                std::ptr::copy_nonoverlapping(s, d, grid.cols * size);
            }
        }
        return;
    }
    // SAFETY: the caller's guarantees, with elements as plain words of the same size.
    unsafe {
        match size {
            1 => words::<u8>(dst, src, grid),
            2 => words::<u16>(dst, src, grid),
            4 => words::<u32>(dst, src, grid),
            8 => words::<u64>(dst, src, grid),
            16 => words::<[u64; 2]>(dst, src, grid),
            _ => any_size(size, dst, src, grid),
        }
    }
}

impl Grid {
    /// The same grid with rows and columns exchanged.
    fn turned(self) -> Grid {
        Grid {
            rows: self.cols,
            cols: self.rows,
            dst_row: self.dst_col,
            dst_col: self.dst_row,
            src_row: self.src_col,
            src_col: self.src_row,
        }
    }
}

/// # Safety
///
/// As for [`move_grid`], with elements of the size of `T`, a type for which all bits are values.
unsafe fn words<T: Copy>(dst: *mut u8, src: *const u8, grid: Grid) {
    let step = size_of::<T>() as isize;
    // Along the source where it is contiguous: one cache line serves a whole inner loop, and the destination is
    // a small buffer or few rows.
    let grid = if grid.src_row == step { grid.turned() } else { grid };
    for row in 0..grid.rows as isize {
        // SAFETY: offsets of elements inside the caller's grids.
        let (d, s) = unsafe { (dst.offset(row * grid.dst_row), src.offset(row * grid.src_row)) };
        // One loop a case, so that the compiler sees the constant step.
        // SAFETY: as above; reads and writes make no claim of alignment.
        unsafe {
            if grid.dst_col == step {
                line::<T>(d, step, s, grid.src_col, grid.cols);
            } else if grid.src_col == step {
                line::<T>(d, grid.dst_col, s, step, grid.cols);
            } else {
                line::<T>(d, grid.dst_col, s, grid.src_col, grid.cols);
            }
        }
    }
}

/// # Safety
///
/// `n` values are readable from `src` and writable to `dst` at these steps.
#[inline(always)]
unsafe fn line<T: Copy>(dst: *mut u8, dst_step: isize, src: *const u8, src_step: isize, n: usize) {
    for i in 0..n as isize {
        // SAFETY: the caller's guarantee; unaligned on both sides.
        unsafe {
            dst.offset(i * dst_step).cast::<T>().write_unaligned(src.offset(i * src_step).cast::<T>().read_unaligned())
        };
    }
}

/// # Safety
///
/// As for [`move_grid`].
unsafe fn any_size(size: usize, dst: *mut u8, src: *const u8, grid: Grid) {
    for row in 0..grid.rows as isize {
        for col in 0..grid.cols as isize {
            // SAFETY: offsets of elements inside the caller's grids.
            unsafe {
                let d = dst.offset(row * grid.dst_row + col * grid.dst_col);
                let s = src.offset(row * grid.src_row + col * grid.src_col);
                std::ptr::copy_nonoverlapping(s, d, size);
            }
        }
    }
}
