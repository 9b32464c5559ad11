//! The loop of kernels that are written in vector intrinsics: a step converts a fixed number of values. As in `kernel`, only
//! the loop over steps is there once a body.

use std::mem::MaybeUninit;

use super::ahead;
use super::kernel::{Cut, Kernel, Values};

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

    /// Converts `N` values and returns which of them lost something, the first in the lowest bit, or 0 where nothing
    /// is checked. Unless it is to `COUNT`, any bits will do for some loss.
    ///
    /// # Safety
    ///
    /// * `src` is readable for `N` values, initialised, and `dst` writable for `N`, at any alignment.
    /// * The machine has the instructions that the body is written in.
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64;

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
}

/// Declares `run`, which makes the kernel of a body that needs these instructions.
macro_rules! kernels {
    ($($features:tt),*) => {
        /// The kernel of a body of this module, which needs no other features.
        fn run<B: $crate::copy::vector::Body>() -> $crate::copy::kernel::Kernel {
            $crate::copy::vector::kernel::<B>(many::<B>, count::<B>)
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
pub(super) fn kernel<B: Body>(many: Values, count: Values) -> Kernel {
    const { assert!(B::N <= 64 && B::SRC <= 8 && B::DST <= 8) };
    let count = if B::CHECKED { Some(count) } else { None };
    Kernel { convert: many, count, sizes: (B::SRC as u8, B::DST as u8), cut: Cut::Steps(B::N as u8) }
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
        while B::FOURS && i + 4 * B::N <= n {
            lost |= B::four(dst.add(i * B::DST), src.add(i * B::SRC));
            i += 4 * B::N;
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

/// [`Kernel::run`] for [`Cut::Steps`] of so many values.
///
/// # Safety
///
/// As for [`Values`].
pub(super) unsafe fn steps(kernel: &Kernel, step: usize, dst: *mut u8, src: *const u8, n: usize) -> usize {
    let (read, written) = (usize::from(kernel.sizes.0), usize::from(kernel.sizes.1));
    // SAFETY: every call below is given places in 0..n.
    let at = |i: usize, n: usize| unsafe { (kernel.convert)(dst.add(i * written), src.add(i * read), n) };
    if n >= step {
        // The first step may reach into the second, which starts where the target's next line does, and the last into
        // the one before it: what they share is converted twice.
        let short = dst.addr().wrapping_neg() % LINE.min(step * written);
        let aligns = short != 0 && short.is_multiple_of(written) && n >= 4 * step;
        let (mut i, mut lost) = if aligns { (short / written, at(0, step)) } else { (0, 0) };
        let end = i + (n - i) / step * step;
        let ahead = ahead::distance(n * read, n * written);
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
    let (whole, rest) = (n / step * step, n % step);
    // SAFETY: the caller's guarantees; the last `rest` values are fewer than a step has.
    unsafe {
        let lost = kernel.count.map_or(0, |count| count(dst, src, whole));
        let last =
            if rest == 0 { 0 } else { part(kernel, step, dst.add(whole * written), src.add(whole * read), rest) };
        lost + last
    }
}

/// Fewer values than a step has, by way of buffers that have room for a whole one.
///
/// # Safety
///
/// As for [`steps`]; `n` is less than `step`.
unsafe fn part(kernel: &Kernel, step: usize, dst: *mut u8, src: *const u8, n: usize) -> usize {
    let mut values = [MaybeUninit::<[u8; 64]>::uninit(); 8];
    let mut results = [MaybeUninit::<[u8; 64]>::uninit(); 8];
    let (values, results) = (values.as_mut_ptr().cast::<u8>(), results.as_mut_ptr().cast::<u8>());
    let (read, written) = (usize::from(kernel.sizes.0), usize::from(kernel.sizes.1));
    // SAFETY: both buffers hold 64 values of 8 bytes, so a step fits; all that it reads is initialised, by zeros where
    // there is no value, and it writes all that is read.
    unsafe {
        values.write_bytes(0, step * read);
        std::ptr::copy_nonoverlapping(src, values, n * read);
        let mut lost = (kernel.convert)(results, values, step);
        if lost != 0 {
            lost = kernel.count.map_or(0, |count| count(results, values, step));
        }
        std::ptr::copy_nonoverlapping(results, dst, n * written);
        lost
    }
}
