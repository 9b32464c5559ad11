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

/// Turns a block where it lies, and streams it if told to.
///
/// # Safety
///
/// * The machine has the level for which [`in_place`] gave it.
/// * `src` is readable and initialised for the block, `dst` is writable for it and does not overlap it.
/// * Its lines are as many as fill [`VECTOR`] bytes; its rows, multiples of what fills 16.
/// * Where it is streamed, every row of `dst` starts at a multiple of [`VECTOR`] bytes, and a fence follows.
pub(super) type InPlace = unsafe fn(dst: *mut u8, src: *const u8, block: Block, stream: bool);

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

/// The kernel for blocks of `size`-byte elements (1, 2, 4 or 8) that are turned where they lie, where there is one.
pub(super) fn in_place(level: Level, size: usize) -> Option<InPlace> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vbmi => avx512::in_place(size),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::in_place(size),
        _ => {
            let _ = size;
            None
        }
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

            $(#[$feature])?
            unsafe fn lie<const SIZE: usize, const PER: usize>(dst: *mut u8, src: *const u8, block: Block, stream: bool) {
                // SAFETY: as above.
                unsafe { super::lie::<$wide, SIZE, PER>(dst, src, block, stream) }
            }

            #[allow(dead_code, reason = "only the wider sets of x86-64 were found to win")]
            pub(super) fn in_place(size: usize) -> Option<InPlace> {
                match size {
                    1 => Some(lie::<1, 16>),
                    2 => Some(lie::<2, 8>),
                    4 => Some(lie::<4, 4>),
                    8 => Some(lie::<8, 2>),
                    _ => None,
                }
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
                for (q, v) in zipped::<V, SIZE, PER>(src, line_step).into_iter().enumerate() {
                    v.store(dst.offset(q as isize * row_step));
                }
            }
        }
    }
}

/// `N` vectors, each `step` bytes after the one before. By a loop: what `array::from_fn` calls is not inlined, and its intrinsics
/// not into it.
///
/// # Safety
///
/// As for [`Lanes::gather`] at each of them.
#[inline(always)]
unsafe fn gathered<V: Lanes, const N: usize>(src: *const u8, step: isize, pitch: isize) -> [V; N] {
    // SAFETY: the caller's guarantees.
    unsafe {
        let mut all = [V::gather(src, pitch); N];
        let mut i = 1;
        while i < N {
            all[i] = V::gather(src.offset(i as isize * step), pitch);
            i += 1;
        }
        all
    }
}

/// The columns of `PER` elements of one vector of lines.
///
/// # Safety
///
/// 16 bytes of each line are readable; the caller answers for the instruction set.
#[inline(always)]
unsafe fn zipped<V: Lanes, const SIZE: usize, const PER: usize>(src: *const u8, line_step: isize) -> [V; PER] {
    // SAFETY: the caller's guarantees.
    unsafe {
        let mut t: [V; PER] = gathered(src, line_step, PER as isize * line_step);
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
        t
    }
}

/// Turns as many lines as fill a line of the cache, all along.
///
/// # Safety
///
/// As for [`InPlace`].
#[inline(always)]
unsafe fn lie<V: Lanes, const SIZE: usize, const PER: usize>(dst: *mut u8, src: *const u8, block: Block, stream: bool) {
    let Block { rows, line_step, row_step, .. } = block;
    let (vector, parts) = (V::COUNT * 16, VECTOR / (V::COUNT * 16));
    for row in (0..rows).step_by(PER) {
        // SAFETY: whole vectors of the caller's lines, 16 bytes of each, and of its rows.
        unsafe {
            let (src, dst) = (src.add(row * SIZE), dst.offset(row as isize * row_step));
            let columns = |part: usize| {
                zipped::<V, SIZE, PER>(src.offset((part * vector / SIZE) as isize * line_step), line_step)
            };
            let put = |q: usize, part: usize, v: V| {
                let to = dst.offset(q as isize * row_step).add(part * vector);
                if stream { v.stream(to) } else { v.store(to) }
            };
            if parts == 1 {
                for (q, v) in columns(0).into_iter().enumerate() {
                    put(q, 0, v);
                }
            }
            // Parts of a line one after the other, so that it leaves as one write: one that is begun and left for other lines, an
            // Intel Xeon writes in pieces, at a sixth of the speed.
            for part in (0..parts / 2 * 2).step_by(2) {
                let (first, second) = (columns(part), columns(part + 1));
                for (q, (first, second)) in first.into_iter().zip(second).enumerate() {
                    put(q, part, first);
                    put(q, part + 1, second);
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
            let parts: [V; FEW] = gathered(src, 16, 16 * FEW as isize);
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
            let lines: [V; FEW] = gathered(src, block.line_step, 16);
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
