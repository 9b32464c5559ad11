//! The loop of kernels that are written in vector intrinsics: a step converts a fixed number of values.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::ahead;

/// A conversion of `N` values at once.
pub(super) trait Body {
    /// Values of a step, at most 64.
    const N: usize;
    /// Bytes of a source value, at most 8.
    const SRC: usize;
    /// Bytes of a target value, at most 8.
    const DST: usize;
    /// Whether it is only inlined where AVX-512 BW is.
    const MASKS: bool = false;

    /// Converts `N` values and returns which of them lost something, the first in the lowest bit, or 0 where nothing
    /// is checked. Unless it is to `COUNT`, any bits will do for some loss.
    ///
    /// # Safety
    ///
    /// * `src` is readable for `N` values, initialised, and `dst` writable for `N`, at any alignment.
    /// * The machine has the instructions that the body is written in.
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64;

    /// Four steps, one after the other: any bits for some loss. What they find is looked at once.
    ///
    /// # Safety
    ///
    /// As for four calls of [`Body::step`].
    #[inline(always)]
    unsafe fn four(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantee.
        let step = |k: usize| unsafe {
            Self::step::<false>(dst.add(k * Self::N * Self::DST), src.add(k * Self::N * Self::SRC))
        };
        step(0) | step(1) | step(2) | step(3)
    }

    /// [`Body::four`] so many times, one after the other, with what is read asked for so far ahead: any bits for some loss.
    ///
    /// # Safety
    ///
    /// As for as many calls of [`Body::four`].
    #[inline(always)]
    unsafe fn fours(dst: *mut u8, src: *const u8, times: usize, ahead: usize) -> u64 {
        let mut lost = 0;
        // By loops, here and where this is replaced: closures are not always inlined, nor their intrinsics into them.
        for k in 0..times {
            let src = src.wrapping_add(k * 4 * Self::N * Self::SRC);
            if ahead != 0 {
                ahead::near(src, 4 * Self::N * Self::SRC, ahead);
            }
            // SAFETY: the caller's guarantee.
            lost |= unsafe { Self::four(dst.add(k * 4 * Self::N * Self::DST), src) };
        }
        lost
    }
}

/// Bytes that no aligned store crosses.
const LINE: usize = 64;

/// As [`super::kernel::Kernel`]: `n` values, and how many lost something.
///
/// Inlined into a function with the body's target features, or its steps would be calls.
///
/// # Safety
///
/// * `src` is readable for `n` values, initialised, and `dst` writable for `n`, at any alignment, without overlap.
/// * The machine has the instructions that the body is written in.
#[inline(always)]
pub(super) unsafe fn drive<B: Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    const { assert!(B::N <= 64 && B::SRC <= 8 && B::DST <= 8) };
    // SAFETY: every step below is given a place `i` with `i + N <= n`.
    let at = |i: usize| unsafe { B::step::<false>(dst.add(i * B::DST), src.add(i * B::SRC)) };
    let mut lost = 0;
    if n >= B::N {
        // The first step may reach into the second, which starts where the target's next line does, and the last
        // into the one before it: what they share is converted twice. All single steps are one call, since the code of
        // each of the hundreds of bodies is in it.
        let short = dst.addr().wrapping_neg() % LINE.min(B::N * B::DST);
        let mut next = if short != 0 && short.is_multiple_of(B::DST) { short / B::DST } else { B::N };
        let ahead = ahead::distance(n * B::SRC, n * B::DST);
        let mut i = 0;
        loop {
            lost |= at(i);
            i = next;
            let fours = n.saturating_sub(i) / (4 * B::N);
            if fours != 0 {
                // SAFETY: so many times four steps from `i` on, up to `n`.
                lost |= unsafe { B::fours(dst.add(i * B::DST), src.add(i * B::SRC), fours, ahead) };
                i += fours * 4 * B::N;
            }
            if i >= n {
                break;
            }
            next = n.min(i + B::N);
            i = i.min(n - B::N);
        }
        if lost == 0 {
            return 0;
        }
    }
    // Short runs, and again from the start where something was lost, so that each value counts once.
    let (whole, rest) = (n / B::N * B::N, n % B::N);
    let mut count = 0;
    for i in (0..whole).step_by(B::N) {
        // SAFETY: as for every step.
        count += unsafe { B::step::<true>(dst.add(i * B::DST), src.add(i * B::SRC)) }.count_ones() as usize;
    }
    if rest != 0 {
        // SAFETY: the last `rest` values, fewer than `N`.
        count += unsafe { part::<B>(dst.add(whole * B::DST), src.add(whole * B::SRC), rest) };
    }
    count
}

/// 64 values of 8 bytes.
#[repr(align(64))]
struct Buffer([MaybeUninit<u8>; 512]);

/// Fewer values than a step has, by way of buffers that have room for a whole one.
///
/// # Safety
///
/// As for [`drive`]; `n` is less than `N`.
#[inline(always)]
unsafe fn part<B: Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let (mut values, mut results) = (Buffer([MaybeUninit::uninit(); 512]), Buffer([MaybeUninit::uninit(); 512]));
    let (values, results) = (values.0.as_mut_ptr().cast::<u8>(), results.0.as_mut_ptr().cast::<u8>());
    // SAFETY: both buffers hold 64 values of 8 bytes, so a step fits; all that it reads is initialised, by zeros where
    // there is no value, and it writes all that is read.
    unsafe {
        if B::MASKS {
            read_part(values, src, n * B::SRC, B::N * B::SRC);
        } else {
            values.write_bytes(0, B::N * B::SRC);
            std::ptr::copy_nonoverlapping(src, values, n * B::SRC);
        }
        let lost = B::step::<true>(results, values);
        if B::MASKS {
            write_part(dst, results, n * B::DST);
        } else {
            std::ptr::copy_nonoverlapping(results, dst, n * B::DST);
        }
        (lost & ((1 << n) - 1)).count_ones() as usize
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
#[inline(always)]
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
#[inline(always)]
unsafe fn write_part(dst: *mut u8, src: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(VECTOR) {
        // SAFETY: the bytes of the mask are among the caller's.
        unsafe {
            let part = _mm512_load_si512(src.add(at).cast());
            _mm512_mask_storeu_epi8(dst.add(at).cast(), lowest(bytes - at), part);
        }
    }
}
