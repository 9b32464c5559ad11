//! Turns blocks in the L1 cache: the lines of a source become the rows of a destination.
//!
//! A block of `lines` lines of `rows` elements becomes `rows` rows of `lines` elements. Kernels read and write whole
//! vectors, past the block's edges: both blocks have room, and what lies there is rubbish that nobody reads.

use super::lanes::Lanes;
use super::level::Level;

/// The widest vector of any kernel.
pub(super) const VECTOR: usize = 64;

/// A block to turn.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub lines: usize,
    pub rows: usize,
    /// Bytes from one line to the next, and from one row to the next.
    pub line_step: isize,
    pub row_step: isize,
}

/// Turns a block.
///
/// # Safety
///
/// * The machine has the level for which [`kernel`] gave it.
/// * `src` is readable and initialised for the block with its lines counted up to whole vectors of [`Kernel::width`]
///   bytes, each 16 bytes (a whole group, for [`split`]) longer than it is.
/// * `dst` is writable for the block with its rows counted up to whole 16 bytes of a line, each up to whole vectors,
///   and does not overlap it.
type Turn = unsafe fn(dst: *mut u8, src: *const u8, block: Block);

/// A way to turn blocks of one element size.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub turn: Turn,
    /// Lines are read, and rows written, in whole vectors of this many bytes.
    pub width: usize,
    /// The kernel of a few rows or lines, written next to each other, and how many.
    pub few: Few,
}

/// Whether a kernel is made for few rows or lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Few {
    No,
    /// This many rows: pixels to planes. Lines lie next to each other.
    Rows(usize),
    /// This many lines: planes to pixels. Rows are written next to each other.
    Lines(usize),
}

/// The kernel for blocks of `size`-byte elements (1, 2, 4, 8 or 16), given how many rows and lines there are at most;
/// `None` for other sizes.
pub(super) fn kernel(level: Level, size: usize, lines: usize, rows: usize) -> Option<Kernel> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vbmi => avx512::kernel(size, lines, rows),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::kernel(size, lines, rows),
        #[cfg(target_arch = "x86_64")]
        Level::Baseline => sse2::kernel(size, lines, rows),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::kernel(size, lines, rows),
        #[cfg(not(target_arch = "x86_64"))]
        Level::Baseline => plain::kernel(size, lines, rows),
    }
}

/// Whether there is a kernel for so few rows or lines of `size`-byte elements, which reads and writes no others.
pub(super) fn has_few(level: Level, size: usize, few: usize) -> bool {
    (2..=4).contains(&few) && kernel(level, size, usize::MAX, few).is_some_and(|kernel| kernel.few != Few::No)
}

/// Instantiates every kernel with two vectors of one instruction set: the widest, and one of one lane for blocks
/// that are narrower than the widest.
macro_rules! kernels {
    ($name:ident, $wide:ty, $narrow:ty $(, #[$feature:meta])?) => {
        mod $name {
            use super::*;

            $(#[$feature])?
            unsafe fn turn<const WIDE: bool, const SIZE: usize, const PER: usize>(
                dst: *mut u8,
                src: *const u8,
                block: Block,
            ) {
                // SAFETY: the caller's guarantees; the machine has the instruction set.
                unsafe {
                    if WIDE {
                        super::turn::<$wide, SIZE, PER>(dst, src, block)
                    } else {
                        super::turn::<$narrow, SIZE, PER>(dst, src, block)
                    }
                }
            }

            $(#[$feature])?
            unsafe fn split<const SIZE: usize, const FEW: usize>(dst: *mut u8, src: *const u8, block: Block) {
                // SAFETY: as above.
                unsafe { super::split::<$wide, SIZE, FEW>(dst, src, block) }
            }

            $(#[$feature])?
            unsafe fn join<const SIZE: usize, const FEW: usize>(dst: *mut u8, src: *const u8, block: Block) {
                // SAFETY: as above.
                unsafe { super::join::<$wide, SIZE, FEW>(dst, src, block) }
            }

            pub(super) fn kernel(size: usize, lines: usize, rows: usize) -> Option<Kernel> {
                let width = <$wide>::COUNT * 16;
                if <$wide>::PICKS {
                    let few = |turn: Turn, few| Some(Kernel { turn, width, few });
                    match (size, rows) {
                        (1, 2) => return few(split::<1, 2>, Few::Rows(2)),
                        (1, 3) => return few(split::<1, 3>, Few::Rows(3)),
                        (1, 4) => return few(split::<1, 4>, Few::Rows(4)),
                        (2, 2) => return few(split::<2, 2>, Few::Rows(2)),
                        (2, 3) => return few(split::<2, 3>, Few::Rows(3)),
                        (2, 4) => return few(split::<2, 4>, Few::Rows(4)),
                        (4, 2) => return few(split::<4, 2>, Few::Rows(2)),
                        (4, 3) => return few(split::<4, 3>, Few::Rows(3)),
                        _ => {}
                    }
                    match (size, lines) {
                        (1, 2) => return few(join::<1, 2>, Few::Lines(2)),
                        (1, 3) => return few(join::<1, 3>, Few::Lines(3)),
                        (1, 4) => return few(join::<1, 4>, Few::Lines(4)),
                        (2, 2) => return few(join::<2, 2>, Few::Lines(2)),
                        (2, 3) => return few(join::<2, 3>, Few::Lines(3)),
                        (2, 4) => return few(join::<2, 4>, Few::Lines(4)),
                        (4, 2) => return few(join::<4, 2>, Few::Lines(2)),
                        (4, 3) => return few(join::<4, 3>, Few::Lines(3)),
                        _ => {}
                    }
                }
                let wide = lines > 16 / size;
                let (turn, width): (Turn, usize) = match (size, wide) {
                    (1, true) => (turn::<true, 1, 16>, width),
                    (1, false) => (turn::<false, 1, 16>, 16),
                    (2, true) => (turn::<true, 2, 8>, width),
                    (2, false) => (turn::<false, 2, 8>, 16),
                    (4, true) => (turn::<true, 4, 4>, width),
                    (4, false) => (turn::<false, 4, 4>, 16),
                    (8, true) => (turn::<true, 8, 2>, width),
                    (8, false) => (turn::<false, 8, 2>, 16),
                    (16, true) => (turn::<true, 16, 1>, width),
                    (16, false) => (turn::<false, 16, 1>, 16),
                    _ => return None,
                };
                Some(Kernel { turn, width, few: Few::No })
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
kernels!(
    avx512,
    crate::copy::lanes::x86::Avx512,
    crate::copy::lanes::x86::Ssse3,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
);
#[cfg(target_arch = "x86_64")]
kernels!(
    avx2,
    crate::copy::lanes::x86::Avx2,
    crate::copy::lanes::x86::Ssse3,
    #[target_feature(enable = "avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
);
#[cfg(target_arch = "x86_64")]
kernels!(sse2, crate::copy::lanes::x86::Sse2, crate::copy::lanes::x86::Sse2);
#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::copy::lanes::arm::Neon, crate::copy::lanes::arm::Neon);
#[cfg(not(target_arch = "x86_64"))]
kernels!(plain, crate::copy::lanes::Plain, crate::copy::lanes::Plain);

/// One step of a turn: groups of `WIDTH / SIZE` lines become groups of twice as many. A register of a group holds
/// neighbouring columns of all its lines.
#[inline(always)]
unsafe fn zip_groups<V: Lanes, const SIZE: usize, const WIDTH: usize, const PER: usize>(t: [V; PER]) -> [V; PER] {
    let group = WIDTH / SIZE;
    let mut out = t;
    for pair in 0..PER / (2 * group) {
        for q in 0..group {
            let at = pair * 2 * group;
            // SAFETY: the caller answers for the instruction set.
            let (low, high) = unsafe { V::zip::<WIDTH>(t[at + q], t[at + group + q]) };
            out[at + 2 * q] = low;
            out[at + 2 * q + 1] = high;
        }
    }
    out
}

/// Turns tiles of `PER = 16 / SIZE` rows and one vector of lines: lane `l` holds lines `l * PER` and on.
///
/// # Safety
///
/// As for [`Turn`].
#[inline(always)]
unsafe fn turn<V: Lanes, const SIZE: usize, const PER: usize>(dst: *mut u8, src: *const u8, block: Block) {
    let Block { lines, rows, line_step, row_step } = block;
    let per_vector = V::COUNT * 16 / SIZE;
    for row in (0..rows).step_by(PER) {
        for line in (0..lines).step_by(per_vector) {
            // SAFETY: whole vectors of lines, 16 bytes of each, and whole vectors of rows, as the caller allows.
            unsafe {
                let src = src.offset(line as isize * line_step).add(row * SIZE);
                let dst = dst.offset(row as isize * row_step).add(line * SIZE);
                let mut t: [V; PER] =
                    std::array::from_fn(|i| V::gather(src.offset(i as isize * line_step), PER as isize * line_step));
                if SIZE <= 1 {
                    t = zip_groups::<V, SIZE, 1, PER>(t);
                }
                if SIZE <= 2 {
                    t = zip_groups::<V, SIZE, 2, PER>(t);
                }
                if SIZE <= 4 {
                    t = zip_groups::<V, SIZE, 4, PER>(t);
                }
                if SIZE <= 8 {
                    t = zip_groups::<V, SIZE, 8, PER>(t);
                }
                for (q, v) in t.into_iter().enumerate() {
                    v.store(dst.offset(q as isize * row_step));
                }
            }
        }
    }
}

/// For output `j` of a split by `FEW`, the bytes that it takes from each of `FEW` vectors of one lane.
const fn split_tables<const SIZE: usize, const FEW: usize>() -> [[[u8; 16]; FEW]; FEW] {
    let mut tables = [[[0x80; 16]; FEW]; FEW];
    let mut j = 0;
    while j < FEW {
        let mut b = 0;
        while b < 16 {
            let from = (b / SIZE * FEW + j) * SIZE + b % SIZE;
            tables[j][from / 16][b] = (from % 16) as u8;
            b += 1;
        }
        j += 1;
    }
    tables
}

/// For output `i` of a join of `FEW`, the bytes that it takes from each of `FEW` vectors of one lane.
const fn join_tables<const SIZE: usize, const FEW: usize>() -> [[[u8; 16]; FEW]; FEW] {
    let mut tables = [[[0x80; 16]; FEW]; FEW];
    let mut i = 0;
    while i < FEW {
        let mut b = 0;
        while b < 16 {
            let (element, byte) = ((i * 16 + b) / SIZE, (i * 16 + b) % SIZE);
            tables[i][element % FEW][b] = (element / FEW * SIZE + byte) as u8;
            b += 1;
        }
        i += 1;
    }
    tables
}

struct Tables<const SIZE: usize, const FEW: usize>;

impl<const SIZE: usize, const FEW: usize> Tables<SIZE, FEW> {
    const SPLIT: [[[u8; 16]; FEW]; FEW] = split_tables::<SIZE, FEW>();
    const JOIN: [[[u8; 16]; FEW]; FEW] = join_tables::<SIZE, FEW>();
}

/// Turns lines of `FEW` elements that lie next to each other.
///
/// # Safety
///
/// As for [`Turn`]; `rows` is `FEW` and `line_step` `FEW * SIZE`.
#[inline(always)]
unsafe fn split<V: Lanes, const SIZE: usize, const FEW: usize>(dst: *mut u8, src: *const u8, block: Block) {
    let per_vector = V::COUNT * 16 / SIZE;
    for line in (0..block.lines).step_by(per_vector) {
        // SAFETY: whole vectors of lines and rows, as the caller allows.
        unsafe {
            let src = src.add(line * FEW * SIZE);
            let dst = dst.add(line * SIZE);
            let parts: [V; FEW] = std::array::from_fn(|i| V::gather(src.add(16 * i), 16 * FEW as isize));
            for (j, tables) in Tables::<SIZE, FEW>::SPLIT.iter().enumerate() {
                pick_all(&parts, tables).store(dst.offset(j as isize * block.row_step));
            }
        }
    }
}

/// Turns `FEW` lines into rows that are written next to each other.
///
/// # Safety
///
/// As for [`Turn`]; `lines` is `FEW` and `row_step` `FEW * SIZE`.
#[inline(always)]
unsafe fn join<V: Lanes, const SIZE: usize, const FEW: usize>(dst: *mut u8, src: *const u8, block: Block) {
    let per_vector = V::COUNT * 16 / SIZE;
    for row in (0..block.rows).step_by(per_vector) {
        // SAFETY: whole vectors of every line and of rows, as the caller allows.
        unsafe {
            let src = src.add(row * SIZE);
            let dst = dst.add(row * FEW * SIZE);
            let lines: [V; FEW] = std::array::from_fn(|j| V::gather(src.offset(j as isize * block.line_step), 16));
            for (i, tables) in Tables::<SIZE, FEW>::JOIN.iter().enumerate() {
                pick_all(&lines, tables).scatter(dst.add(16 * i), 16 * FEW as isize);
            }
        }
    }
}

/// # Safety
///
/// The machine has the instruction set.
#[inline(always)]
unsafe fn pick_all<V: Lanes, const FEW: usize>(parts: &[V; FEW], tables: &[[u8; 16]; FEW]) -> V {
    // SAFETY: the caller's guarantee.
    unsafe {
        let mut all = parts[0].pick(&tables[0]);
        for (part, table) in parts.iter().zip(tables).skip(1) {
            all = all.or(part.pick(table));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a kernel on a block of one shape and compares with a loop over elements.
    fn check(level: Level, size: usize, lines: usize, rows: usize) {
        let found = kernel(level, size, lines, rows).expect("every such size has a kernel");
        let vector = VECTOR * 4;
        let line_step = rows * size + if found.few == Few::Rows(rows) { 0 } else { 5 };
        let row_step = match found.few {
            Few::Lines(_) => lines * size,
            _ => lines.next_multiple_of(found.width) * size + 3,
        };
        let whole_lines = lines.next_multiple_of(found.width);
        let src: Vec<u8> = (0..whole_lines * line_step + vector).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut dst = vec![0u8; rows.next_multiple_of(16) * row_step + vector];
        let block = Block { lines, rows, line_step: line_step as isize, row_step: row_step as isize };
        // SAFETY: both buffers hold the block with lines and rows counted up to whole vectors, and a vector more; the
        // level is available.
        unsafe { (found.turn)(dst.as_mut_ptr(), src.as_ptr(), block) };
        for line in 0..lines {
            for row in 0..rows {
                let (d, s) = (row * row_step + line * size, line * line_step + row * size);
                assert_eq!(dst[d..d + size], src[s..s + size], "{level:?} {size} {lines}x{rows} at {line}, {row}");
            }
        }
    }

    #[test]
    fn every_level_turns_every_shape() {
        for level in Level::available() {
            for size in [1, 2, 4, 8, 16] {
                let shapes: &[usize] =
                    if cfg!(miri) { &[1, 3, 17] } else { &[1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 70, 129] };
                for &lines in shapes {
                    for &rows in shapes {
                        check(level, size, lines, rows);
                    }
                }
            }
            assert!(kernel(level, 3, 8, 8).is_none());
        }
    }

    #[test]
    fn loops_pick_and_zip_like_instructions() {
        use super::super::lanes::Plain;
        let src: Vec<u8> = (0..64).collect();
        // SAFETY: 16 readable bytes, 16 writable ones; loops run on every machine.
        unsafe {
            let mut out = [0; 16];
            let table = [15, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
            Plain::gather(src.as_ptr(), 0).pick(&table).or(Plain::gather([0; 16].as_ptr(), 0)).store(out.as_mut_ptr());
            assert_eq!(out, [15, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
            let (a, b) = (Plain::gather(src.as_ptr(), 0), Plain::gather(src.as_ptr().add(16), 0));
            Plain::zip::<4>(a, b).1.scatter(out.as_mut_ptr(), 16);
            assert_eq!(out, [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31]);
        }
    }
}
