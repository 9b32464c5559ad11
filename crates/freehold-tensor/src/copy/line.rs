//! Moves one line of whole-byte elements between two strided places, unchanged.

use super::lanes::Lanes;
use super::level::Level;

/// Copies `n` elements of `size` bytes, `dst_step` and `src_step` bytes apart.
///
/// A source whose step is two to four elements may also be read between its elements, never before the first or
/// after the last.
///
/// # Safety
///
/// * Every element is readable from `src` and writable from `dst`, at any alignment; none of the first overlaps one
///   of the second.
/// * The machine has the level.
#[inline]
pub(super) unsafe fn line(
    level: Level,
    size: usize,
    dst: *mut u8,
    dst_step: isize,
    src: *const u8,
    src_step: isize,
    n: usize,
) {
    let step = size as isize;
    if dst_step == step && src_step == step {
        // SAFETY: one run on both sides.
        unsafe { std::ptr::copy_nonoverlapping(src, dst, n * size) };
        return;
    }
    // SAFETY: the caller's guarantees, for the elements that the vectors left over.
    unsafe {
        let done = if dst_step == step && n * size >= 64 { vectors(level, size, dst, src, src_step, n) } else { 0 };
        // Behind the last element there may be no memory to point into.
        let (dst, src) = (dst.wrapping_offset(done as isize * dst_step), src.wrapping_offset(done as isize * src_step));
        let n = n - done;
        match size {
            1 => words::<u8>(dst, dst_step, src, src_step, n),
            2 => words::<u16>(dst, dst_step, src, src_step, n),
            4 => words::<u32>(dst, dst_step, src, src_step, n),
            8 => words::<u64>(dst, dst_step, src, src_step, n),
            16 => words::<[u64; 2]>(dst, dst_step, src, src_step, n),
            _ => any_size(size, dst, dst_step, src, src_step, n),
        }
    }
}

/// # Safety
///
/// As for [`line`], with elements of the size of `T`, a type for which all bits are values.
#[inline(always)]
unsafe fn words<T: Copy>(dst: *mut u8, dst_step: isize, src: *const u8, src_step: isize, n: usize) {
    let step = size_of::<T>() as isize;
    // One loop a case, so that the compiler sees the constant step.
    // SAFETY: the caller's guarantees.
    unsafe {
        if src_step == 0 && dst_step == step {
            let value = src.cast::<T>().read_unaligned();
            for i in 0..n {
                dst.cast::<T>().add(i).write_unaligned(value);
            }
        } else if dst_step == step {
            each::<T>(dst, step, src, src_step, n);
        } else if src_step == step {
            // Eight are read before any is written: into every other f32 of 128 MiB a Zen 4 writes 18.7 GB/s so, and 15.7 one by one.
            let (eights, rest) = (n / 8, n % 8);
            for i in 0..eights {
                let (dst, values) =
                    (dst.offset((8 * i) as isize * dst_step), src.cast::<[T; 8]>().add(i).read_unaligned());
                for (k, value) in values.into_iter().enumerate() {
                    dst.offset(k as isize * dst_step).cast::<T>().write_unaligned(value);
                }
            }
            let done = (n - rest) as isize;
            // As above, where there is no rest.
            each::<T>(dst.wrapping_offset(done * dst_step), dst_step, src.wrapping_offset(done * step), step, rest);
        } else {
            each::<T>(dst, dst_step, src, src_step, n);
        }
    }
}

/// # Safety
///
/// As for [`words`].
#[inline(always)]
unsafe fn each<T: Copy>(dst: *mut u8, dst_step: isize, src: *const u8, src_step: isize, n: usize) {
    for i in 0..n as isize {
        // SAFETY: the caller's guarantee; unaligned on both sides.
        unsafe {
            dst.offset(i * dst_step).cast::<T>().write_unaligned(src.offset(i * src_step).cast::<T>().read_unaligned())
        };
    }
}

/// # Safety
///
/// As for [`line`].
unsafe fn any_size(size: usize, dst: *mut u8, dst_step: isize, src: *const u8, src_step: isize, n: usize) {
    for i in 0..n as isize {
        // SAFETY: the caller's guarantee.
        unsafe { std::ptr::copy_nonoverlapping(src.offset(i * src_step), dst.offset(i * dst_step), size) };
    }
}

/// Moves the first elements of a line to a compact place with vectors, where there are any for the step; returns
/// how many.
///
/// # Safety
///
/// As for [`line`], with a compact destination.
unsafe fn vectors(level: Level, size: usize, dst: *mut u8, src: *const u8, src_step: isize, n: usize) -> usize {
    let _ = (size, dst, src, src_step, n); // where no level has vectors
    match level {
        Level::Baseline => 0,
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's guarantees.
        Level::Avx2 => unsafe { avx2::line(size, dst, src, src_step, n) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's guarantees.
        Level::Avx512 | Level::Avx512Vbmi => unsafe { avx512::line(size, dst, src, src_step, n) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the caller's guarantees.
        Level::Neon => unsafe { neon::line(size, dst, src, src_step, n) },
    }
}

/// Copies words of 2, 4 or 8 bytes and turns each around, as far as whole vectors reach; returns how many bytes. `n` is that of
/// whole words.
///
/// # Safety
///
/// * `n` bytes are readable from `src` and writable from `dst`, at any alignment, without overlap.
/// * The machine has the level.
pub(super) unsafe fn swapped(level: Level, word: usize, dst: *mut u8, src: *const u8, n: usize) -> usize {
    let table: [u8; 16] = std::array::from_fn(|b| (b / word * word + word - 1 - b % word) as u8);
    let _ = (table, dst, src, n); // where no level has vectors
    match level {
        Level::Baseline => 0,
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's guarantees.
        Level::Avx2 => unsafe { avx2::picked(&table, dst, src, n) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's guarantees.
        Level::Avx512 | Level::Avx512Vbmi => unsafe { avx512::picked(&table, dst, src, n) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the caller's guarantees.
        Level::Neon => unsafe { neon::picked(&table, dst, src, n) },
    }
}

macro_rules! lines {
    ($name:ident, $vector:ty $(, #[$feature:meta])?) => {
        mod $name {
            use crate::copy::lanes::Lanes;

            /// The bytes that the table says of every 16, of whole vectors; returns how many.
            ///
            /// # Safety
            ///
            /// As for [`super::swapped`].
            $(#[$feature])?
            pub(super) unsafe fn picked(table: &[u8; 16], dst: *mut u8, src: *const u8, n: usize) -> usize {
                let vector = <$vector>::COUNT * 16;
                let mut at = 0;
                while at + vector <= n {
                    // SAFETY: a vector of the caller's bytes.
                    unsafe { <$vector>::gather(src.add(at), 16).pick(table).store(dst.add(at)) };
                    at += vector;
                }
                at
            }

            /// # Safety
            ///
            /// As for [`super::vectors`].
            $(#[$feature])?
            pub(super) unsafe fn line(size: usize, dst: *mut u8, src: *const u8, src_step: isize, n: usize) -> usize {
                // SAFETY: the caller's guarantees.
                unsafe {
                    match (size, src_step) {
                        (1, -1) => super::reverse::<$vector, 1>(dst, src, n),
                        (2, -2) => super::reverse::<$vector, 2>(dst, src, n),
                        (4, -4) => super::reverse::<$vector, 4>(dst, src, n),
                        (8, -8) => super::reverse::<$vector, 8>(dst, src, n),
                        (1, 2) => super::every::<$vector, 1, 2>(dst, src, n),
                        (1, 3) => super::every::<$vector, 1, 3>(dst, src, n),
                        (1, 4) => super::every::<$vector, 1, 4>(dst, src, n),
                        (2, 4) => super::every::<$vector, 2, 2>(dst, src, n),
                        (2, 6) => super::every::<$vector, 2, 3>(dst, src, n),
                        (2, 8) => super::every::<$vector, 2, 4>(dst, src, n),
                        (4, 8) => super::every::<$vector, 4, 2>(dst, src, n),
                        (4, 12) => super::every::<$vector, 4, 3>(dst, src, n),
                        _ => 0,
                    }
                }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
lines!(
    avx512,
    crate::copy::lanes::x86::Avx512,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
);
#[cfg(target_arch = "x86_64")]
lines!(
    avx2,
    crate::copy::lanes::x86::Avx2,
    #[target_feature(enable = "avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
);
#[cfg(target_arch = "aarch64")]
lines!(neon, crate::copy::lanes::arm::Neon);

const fn reverse_table(size: usize) -> [u8; 16] {
    let mut table = [0; 16];
    let mut b = 0;
    while b < 16 {
        table[b] = (16 - size - b / size * size + b % size) as u8;
        b += 1;
    }
    table
}

/// A line whose elements lie one before the other.
///
/// # Safety
///
/// As for [`vectors`].
#[inline(always)]
unsafe fn reverse<V: Lanes, const SIZE: usize>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let per_vector = V::COUNT * 16 / SIZE;
    let table = const { reverse_table(SIZE) };
    let end = src.wrapping_add(SIZE);
    let vectors = n / per_vector;
    for i in 0..vectors {
        let done = i * per_vector * SIZE;
        // SAFETY: the 16 bytes before what is done, and lanes before those: elements of the line.
        unsafe { V::gather(end.sub(done + 16), -16).pick(&table).store(dst.add(done)) };
    }
    vectors * per_vector
}

/// For each of `FEW` vectors of one lane, its bytes that belong to every `FEW`-th element.
const fn every_tables<const SIZE: usize, const FEW: usize>() -> [[u8; 16]; FEW] {
    let mut tables = [[0x80; 16]; FEW];
    let mut b = 0;
    while b < 16 {
        let from = b / SIZE * FEW * SIZE + b % SIZE;
        tables[from / 16][b] = (from % 16) as u8;
        b += 1;
    }
    tables
}

/// Every `FEW`-th element of a run.
///
/// # Safety
///
/// As for [`vectors`].
#[inline(always)]
unsafe fn every<V: Lanes, const SIZE: usize, const FEW: usize>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let per_vector = V::COUNT * 16 / SIZE;
    let tables = const { every_tables::<SIZE, FEW>() };
    // The bytes after the last element belong to somebody else: its vector is left to the caller.
    let vectors = (n - 1) / per_vector;
    for i in 0..vectors {
        // SAFETY: whole groups that end before the last element of the line begins.
        unsafe {
            let src = src.add(i * per_vector * FEW * SIZE);
            let part = |k: usize| V::gather(src.add(16 * k), 16 * FEW as isize).pick(&tables[k]);
            let mut all = part(0);
            for k in 1..FEW {
                all = all.or(part(k));
            }
            all.store(dst.add(i * per_vector * SIZE));
        }
    }
    vectors * per_vector
}
