//! The loop of kernels that are written in vector intrinsics: a step converts a fixed number of values. As in `kernel`, only
//! the loop over steps is there once a body.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::ahead;
use super::kernel::{Cut, Loops, Values, is_multiple};

/// A conversion of `N` values at once.
pub(super) trait Body {
    /// Values of a step, at most 64.
    const N: usize;
    /// Bytes of a source value, at most 8.
    const SRC: usize;
    /// Bytes of a target value, at most 8.
    const DST: usize;
    /// Whether anything can be lost. A zero never is.
    const CHECKED: bool = false;
    /// Whether [`Body::four`] is more than four steps.
    const FOURS: bool = false;
    /// Whether [`Body::run`] is more than steps.
    const RUNS: bool = false;
    /// Whether its machine has AVX-512 BW.
    const MASKS: bool = false;

    /// Converts `N` values and returns which of them lost something, the first in the lowest bit, or 0 where nothing
    /// is checked. Unless it is to `COUNT`, any bits will do for some loss.
    ///
    /// # Safety
    ///
    /// * `src` is readable for `N` values, initialised, and `dst` writable for `N`, at any alignment.
    /// * The machine has the instructions that the body is written in.
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64;

    /// `n` values, a multiple of a step's: any bits for some loss. What they lose is looked at once. Asked for only where it
    /// [`Body::RUNS`], instead of steps that do not count.
    ///
    /// # Safety
    ///
    /// As for as many calls of [`Body::step`].
    #[inline(always)]
    unsafe fn run(dst: *mut u8, src: *const u8, n: usize) -> u64 {
        let _ = (dst, src, n);
        unreachable!("there are steps")
    }

    /// Four steps, one after the other: any bits for some loss. What they find is looked at once. Asked for only where there is
    /// [`Body::FOURS`].
    ///
    /// # Safety
    ///
    /// As for four calls of [`Body::step`].
    #[inline(always)]
    unsafe fn four(dst: *mut u8, src: *const u8) -> u64 {
        let _ = (dst, src);
        unreachable!("there are no fours")
    }

    /// [`Body::four`] so many times, one after the other: any bits for some loss.
    ///
    /// # Safety
    ///
    /// As for as many calls of [`Body::four`].
    #[inline(always)]
    unsafe fn fours(dst: *mut u8, src: *const u8, times: usize) -> u64 {
        let mut lost = 0;
        // By loops, here and where this is replaced: closures are not always inlined, nor their intrinsics into them.
        for k in 0..times {
            let at = k * 4 * Self::N;
            // SAFETY: the caller's guarantee.
            lost |= unsafe { Self::four(dst.add(at * Self::DST), src.add(at * Self::SRC)) };
        }
        lost
    }
}

/// Declares `run`, which makes the kernel of a body that needs these instructions.
macro_rules! kernels {
    ($($features:tt),*) => {
        /// The kernel of a body of this module, which needs no other features.
        fn run<B: $crate::copy::vector::Body>() -> $crate::copy::kernel::Kernel {
            const { &$crate::copy::vector::loops::<B>(many::<B>, count::<B>) }
        }

        /// # Safety
        ///
        /// As for [`crate::copy::vector::many`].
        $(#[target_feature(enable = $features)])*
        unsafe fn many<B: $crate::copy::vector::Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
            // SAFETY: the caller's guarantees.
            unsafe { $crate::copy::vector::many::<B>(dst, src, n) }
        }

        /// # Safety
        ///
        /// As for [`crate::copy::vector::count`].
        $(#[target_feature(enable = $features)])*
        unsafe fn count<B: $crate::copy::vector::Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
            // SAFETY: the caller's guarantees.
            unsafe { $crate::copy::vector::count::<B>(dst, src, n) }
        }
    };
}
pub(super) use kernels;

/// The kernel of a body, by [`many`] and [`count`] as they are compiled for it.
pub(super) const fn loops<B: Body>(many: Values, count: Values) -> Loops {
    assert!(B::N <= 64 && B::SRC <= 8 && B::DST <= 8);
    assert!(B::N.is_power_of_two() && B::SRC.is_power_of_two() && B::DST.is_power_of_two());
    let count = if B::CHECKED { Some(count) } else { None };
    Loops { convert: many, count, sizes: (B::SRC as u8, B::DST as u8), cut: Cut::Steps(B::N as u8), masks: B::MASKS }
}

/// `n` values, a multiple of a step's. Returns 0 if nothing was lost.
///
/// Inlined into a function with the body's target features, or its steps would be calls.
///
/// # Safety
///
/// As for [`Values`].
#[inline(always)]
pub(super) unsafe fn many<B: Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let (mut i, mut lost) = (0, 0);
    // SAFETY: every step starts at a multiple of `N` below `n`, itself one, and so do four where there are as many.
    unsafe {
        if B::RUNS {
            return B::run(dst, src, n) as usize;
        }
        if B::FOURS && n >= 4 * B::N {
            let times = n / (4 * B::N);
            lost = B::fours(dst, src, times);
            i = times * 4 * B::N;
        }
        while i < n {
            lost |= B::step::<false>(dst.add(i * B::DST), src.add(i * B::SRC));
            i += B::N;
        }
    }
    lost as usize
}

/// As [`many`], and returns how many values lost something.
///
/// # Safety
///
/// As for [`Values`].
#[inline(always)]
pub(super) unsafe fn count<B: Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let mut count = 0;
    for i in (0..n).step_by(B::N) {
        // SAFETY: `n` is a multiple of `N`.
        count += unsafe { B::step::<true>(dst.add(i * B::DST), src.add(i * B::SRC)) }.count_ones() as usize;
    }
    count
}

/// Bytes that no aligned store crosses.
const LINE: usize = 64;

/// [`Loops::run`] for [`Cut::Steps`] of so many values.
///
/// # Safety
///
/// As for [`Values`].
pub(super) unsafe fn steps(kernel: &Loops, step: usize, dst: *mut u8, src: *const u8, n: usize) -> usize {
    let (read, written) = (usize::from(kernel.sizes.0), usize::from(kernel.sizes.1));
    // SAFETY: every call below is given places in 0..n.
    let at = |i: usize, n: usize| unsafe { (kernel.convert)(dst.add(i * written), src.add(i * read), n) };
    if n >= step {
        // The first step may reach into the second, which starts where the target's next line does, and the last into
        // the one before it: what they share is converted twice.
        let short = dst.addr().wrapping_neg() & (LINE.min(step * written) - 1);
        let aligns = short != 0 && is_multiple(short, written) && n >= 4 * step;
        let (mut i, mut lost) = if aligns { (short >> written.trailing_zeros(), at(0, step)) } else { (0, 0) };
        let end = i + ((n - i) & !(step - 1));
        let ahead = ahead::distance(n * (read + written));
        let part = if ahead == 0 { end } else { 4 * step };
        while i < end {
            let values = part.min(end - i);
            if ahead != 0 {
                ahead::near(src.wrapping_add(i * read), values * read, ahead);
            }
            lost |= at(i, values);
            i += values;
        }
        if end < n {
            lost |= at(n - step, step);
        }
        if lost == 0 {
            return 0;
        }
    }
    // Short runs, and again from the start where something was lost, so that each value counts once.
    let rest = n & (step - 1);
    let whole = n - rest;
    // SAFETY: the caller's guarantees; the last `rest` values are fewer than a step has.
    unsafe {
        let lost = kernel.count.map_or(0, |count| count(dst, src, whole));
        let last =
            if rest == 0 { 0 } else { part(kernel, step, dst.add(whole * written), src.add(whole * read), rest) };
        lost + last
    }
}

/// 64 values of 8 bytes.
#[repr(align(64))]
struct Buffer([MaybeUninit<u8>; 512]);

/// Fewer values than a step has, by way of buffers that have room for a whole one.
///
/// # Safety
///
/// As for [`steps`]; `n` is less than `step`.
unsafe fn part(kernel: &Loops, step: usize, dst: *mut u8, src: *const u8, n: usize) -> usize {
    let (mut values, mut results) = (Buffer([MaybeUninit::uninit(); 512]), Buffer([MaybeUninit::uninit(); 512]));
    let (values, results) = (values.0.as_mut_ptr().cast::<u8>(), results.0.as_mut_ptr().cast::<u8>());
    let (read, written) = (usize::from(kernel.sizes.0), usize::from(kernel.sizes.1));
    // SAFETY: both buffers hold 64 values of 8 bytes, so a step fits; all that it reads is initialised, by zeros where
    // there is no value, and it writes all that is read. A kernel with masks is for a machine that has them, and any for one with AVX2.
    unsafe {
        if kernel.masks {
            read_part(values, src, n * read, step * read);
        } else {
            read_words(values, src, n * read, step * read);
        }
        let mut lost = (kernel.convert)(results, values, step);
        if lost != 0 {
            lost = kernel.count.map_or(0, |count| count(results, values, step));
        }
        if kernel.masks {
            write_part(dst, results, n * written);
        } else {
            write_words(dst, results, n * written);
        }
        lost
    }
}

/// Bytes of a vector of AVX-512.
const VECTOR: usize = 64;

/// The lowest `bytes` bytes of a vector.
#[inline(always)]
fn lowest(bytes: usize) -> u64 {
    if bytes < VECTOR { (1 << bytes) - 1 } else { u64::MAX }
}

/// Copies `bytes` bytes into room for `room` that begins at a line of the cache and ends at one, and fills the rest with zeros. By
/// vectors: what is written in smaller pieces than it is read waits for the cache.
///
/// # Safety
///
/// `src` is readable for `bytes`, `dst` is writable for `room` bytes counted up to whole vectors, on a machine that has AVX-512 BW.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn read_part(dst: *mut u8, src: *const u8, bytes: usize, room: usize) {
    for at in (0..room).step_by(VECTOR) {
        let left = bytes.saturating_sub(at);
        // SAFETY: the bytes of the mask are among the caller's.
        unsafe {
            // No load for none: one that is all masked may be slow.
            let part = if left == 0 {
                _mm512_setzero_si512()
            } else {
                _mm512_maskz_loadu_epi8(lowest(left), src.add(at).cast())
            };
            _mm512_store_si512(dst.add(at).cast(), part);
        }
    }
}

/// Copies `bytes` bytes from whole vectors.
///
/// # Safety
///
/// `dst` is writable for `bytes`, `src` readable for them, counted up to whole vectors, at a line of the cache, on a machine that
/// has AVX-512 BW.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn write_part(dst: *mut u8, src: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(VECTOR) {
        // SAFETY: the bytes of the mask are among the caller's.
        unsafe {
            let part = _mm512_load_si512(src.add(at).cast());
            _mm512_mask_storeu_epi8(dst.add(at).cast(), lowest(bytes - at), part);
        }
    }
}

/// [`read_part`] without masks of bytes: words of four bytes by mask, and what is left of one by hand.
///
/// # Safety
///
/// As for [`read_part`], counted up to vectors of 32 bytes, on a machine that has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn read_words(dst: *mut u8, src: *const u8, bytes: usize, room: usize) {
    let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for at in (0..room).step_by(32) {
        let left = bytes.saturating_sub(at).min(32);
        let words = _mm256_set1_epi32((left / 4) as i32);
        // SAFETY: the words of the mask, and the bytes after them, are among the caller's.
        unsafe {
            let mut part = _mm256_maskload_epi32(src.wrapping_add(at).cast(), _mm256_cmpgt_epi32(words, places));
            if left % 4 != 0 {
                let mut last = [0; 4];
                for (i, byte) in last[..left % 4].iter_mut().enumerate() {
                    *byte = src.add(at + left / 4 * 4 + i).read();
                }
                let last = _mm256_set1_epi32(i32::from_ne_bytes(last));
                part = _mm256_or_si256(part, _mm256_and_si256(last, _mm256_cmpeq_epi32(words, places)));
            }
            _mm256_store_si256(dst.add(at).cast(), part);
        }
    }
}

/// [`write_part`] without masks of bytes. In pieces that are no larger than what a kernel writes at once, so that they need not wait for
/// the cache; to store words by mask takes some processors longer.
///
/// # Safety
///
/// As for [`write_part`], on any machine.
unsafe fn write_words(dst: *mut u8, src: *const u8, bytes: usize) {
    let mut at = 0;
    // SAFETY: the bytes are among the caller's; arrays of bytes have alignment 1.
    unsafe {
        while bytes - at >= 16 {
            dst.add(at).cast::<[u8; 16]>().write(src.add(at).cast::<[u8; 16]>().read());
            at += 16;
        }
        if bytes & 8 != 0 {
            dst.add(at).cast::<[u8; 8]>().write(src.add(at).cast::<[u8; 8]>().read());
            at += 8;
        }
        if bytes & 4 != 0 {
            dst.add(at).cast::<[u8; 4]>().write(src.add(at).cast::<[u8; 4]>().read());
            at += 4;
        }
        while at < bytes {
            dst.add(at).write(src.add(at).read());
            at += 1;
        }
    }
}
