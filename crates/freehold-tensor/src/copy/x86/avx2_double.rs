//! To and from `f64` with AVX2, where an `f32` between would be too narrow.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2::{Floats, Get, any_nan};
use super::avx2_half::ToF16;
use super::avx2_loss::{Any, Losses, Step};
use crate::copy::format;
use crate::copy::vector::Body;

/// Sixteen values, some of which are NaN. A function of its own: in every kernel it took more room than the rest.
///
/// # Safety
///
/// `src` is readable and `dst` writable for sixteen values, at any alignment.
#[cold]
#[inline(never)]
unsafe fn one_by_one<S, D>(dst: *mut D, src: *const S, convert: fn(S) -> D) {
    for i in 0..16 {
        // SAFETY: one of the caller's values.
        unsafe { dst.add(i).write_unaligned(convert(src.add(i).read_unaligned())) };
    }
}

/// `f64` to `f16`, rounded once: what an `f32` has no room for becomes one last bit that says "and more", which the
/// rounding to `f16` then sees. A NaN keeps the top of its payload.
pub(super) struct F64ToF16<const SATURATE: bool>;

impl<const SATURATE: bool> Body for F64ToF16<SATURATE> {
    const N: usize = 16;
    const SRC: usize = 8;
    const DST: usize = 2;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        const MORE: i64 = (1 << 29) - 1;
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let mut y = [_mm_setzero_ps(); 4];
            for (k, y) in y.iter_mut().enumerate() {
                let bits = _mm256_loadu_si256(src.add(k * 32).cast());
                // The sum reaches the bit above if any of these is set.
                let more = _mm256_and_si256(bits, _mm256_set1_epi64x(MORE));
                let more = _mm256_add_epi64(more, _mm256_set1_epi64x(MORE));
                let kept = _mm256_andnot_si256(_mm256_set1_epi64x(MORE), _mm256_or_si256(bits, more));
                // In the range of f16 the f32 is exact now; below it, anything rounds to zero.
                *y = _mm256_cvtpd_ps(_mm256_castsi256_pd(kept));
            }
            let x = [_mm256_set_m128(y[1], y[0]), _mm256_set_m128(y[3], y[2])];
            ToF16::<SATURATE, true>::write(dst, x);
            if any_nan(x) {
                one_by_one(dst.cast(), src.cast(), |x| format::f64_to_f16(x, SATURATE));
            }
            0
        }
    }
}

/// What is read as `f32`, which `f64` has equals of. A NaN keeps its payload; `exact` says whether it signals, one by one, where
/// that differs.
pub(super) struct Widen<G>(PhantomData<G>);

/// A type whose NaN the processor's conversion would change.
pub(super) trait Exact: Get {
    /// One value, whose type has two bytes.
    const OF: fn(u16) -> f64;
}

impl<G: Exact> Body for Widen<G> {
    const N: usize = 16;
    const SRC: usize = 2;
    const DST: usize = 8;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let x: Floats = G::get::<Any, false>(src, 0, &mut Any::none());
            for (k, x) in x.into_iter().enumerate() {
                let (low, high) = (_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                _mm256_storeu_pd(dst.add(k * 64).cast(), _mm256_cvtps_pd(low));
                _mm256_storeu_pd(dst.add(k * 64 + 32).cast(), _mm256_cvtps_pd(high));
            }
            if any_nan(x) {
                one_by_one(dst.cast(), src.cast(), G::OF);
            }
            0
        }
    }
}

/// Integers of 64 bits, rounded once: each half is the mantissa of an `f64` of known exponent, and one addition rounds their sum.
pub(super) struct FromLong<const SIGNED: bool, const CHECKED: bool>;

impl<const SIGNED: bool, const CHECKED: bool> Step for FromLong<SIGNED, CHECKED> {
    const N: usize = 16;
    const SRC: usize = 8;
    const DST: usize = 8;
    const CHECKED: bool = CHECKED;
    #[inline(always)]
    unsafe fn step<L: Losses>(dst: *mut u8, src: *const u8, lost: &mut L) {
        const LOW: f64 = 4_503_599_627_370_496.0; // 2^52
        const HIGH: f64 = 19_342_813_113_834_066_795_298_816.0; // 2^84
        // Of a signed integer the upper 16 bits, with their sign, stand above the middle ones: 3 x 2^67.
        const HIGH_SIGNED: f64 = 442_721_857_769_029_238_784.0;
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let mut x = [_mm256_setzero_si256(); 4];
            for (k, x) in x.iter_mut().enumerate() {
                *x = _mm256_loadu_si256(src.add(k * 32).cast());
            }
            let low_bits = _mm256_set1_epi64x(LOW.to_bits() as i64);
            for (k, x) in x.into_iter().enumerate() {
                let (low, high, both);
                if SIGNED {
                    low = _mm256_blend_epi16::<0b1000_1000>(x, low_bits);
                    let top = _mm256_blend_epi16::<0b0011_0011>(_mm256_srai_epi32::<16>(x), _mm256_setzero_si256());
                    high = _mm256_add_epi64(top, _mm256_set1_epi64x(HIGH_SIGNED.to_bits() as i64));
                    both = HIGH_SIGNED + LOW;
                } else {
                    low = _mm256_blend_epi32::<0b1010_1010>(x, low_bits);
                    high = _mm256_or_si256(_mm256_srli_epi64::<32>(x), _mm256_set1_epi64x(HIGH.to_bits() as i64));
                    both = HIGH + LOW;
                }
                let low = _mm256_castsi256_pd(low);
                let high = _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(both));
                let y = _mm256_add_pd(high, low);
                _mm256_storeu_pd(dst.add(k * 32).cast(), y);
                if CHECKED {
                    // The difference is exact: what was added, unless the sum was rounded.
                    lost.doubles(k, _mm256_sub_pd(y, high), low);
                }
            }
        }
    }
}
