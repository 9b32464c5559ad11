//! Floats to integers with AVX-512: truncated toward zero, saturated, NaN to 0.
//!
//! The processor's own conversion has one answer for NaN and all that is out of range. So a mask leaves out NaN (for
//! unsigned targets all that is not positive), which makes those lanes 0, and what is too large is brought down. What
//! is too small becomes the least 32 or 64-bit integer, which a narrower store saturates.
//!
//! Where losses are checked, a lost lane may hold anything: the integer is converted back and compared instead.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512::{Put, vectors};
use super::avx512_loss::{Any, Each, Losses};
use crate::copy::vector::Body;

/// An integer type that floats are written as: 64 bytes at once, so 64, 32 or 16 values; 128 bytes of the widest types.
///
/// # Safety of its functions
///
/// `dst` is writable for as many values, at any alignment, on a machine with the features of `avx512::run`.
pub(super) trait Integer {
    const SIZE: usize;
    /// As [`Put::QUICK`].
    const QUICK: bool = false;
    /// Sixteen integers of 32 bits that [`Integer::store`] narrows; the type itself if it is not narrower.
    unsafe fn convert(x: __m512) -> [__m512i; 2];
    /// As [`Integer::convert`], of `f64`.
    unsafe fn convert_wide(x: [__m512d; 2]) -> [__m512i; 2];
    /// The lanes that are not lost are right.
    unsafe fn checked<L: Losses>(x: __m512, lost: &mut L) -> [__m512i; 2];
    /// As [`Integer::checked`], of `f64`.
    unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2];
    unsafe fn store(dst: *mut u8, x: [[__m512i; 2]; 4]);
    /// As [`Integer::store`] of what [`Integer::checked`] made, of which lanes that do not fit may be left to see here, unless they
    /// are to be told apart.
    #[inline(always)]
    unsafe fn store_checked<L: Losses>(dst: *mut u8, x: [[__m512i; 2]; 4], _: &mut [L; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe { Self::store(dst, x) };
    }
}

/// An integer as the target of `f32`.
pub(super) struct To<I>(PhantomData<I>);

impl<I: Integer> Put for To<I> {
    const SIZE: usize = I::SIZE;
    const QUICK: bool = I::QUICK;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: [__m512; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe {
            let mut codes = [[_mm512_setzero_si512(); 2]; 4];
            for k in 0..vectors(I::SIZE) {
                codes[k] = I::convert(x[k]);
            }
            I::store(dst, codes);
        }
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(dst: *mut u8, x: [__m512; 4], lost: &mut [L; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe {
            let mut codes = [[_mm512_setzero_si512(); 2]; 4];
            for k in 0..vectors(I::SIZE) {
                codes[k] = I::checked(x[k], &mut lost[k]);
            }
            I::store_checked(dst, codes, lost);
        }
    }
}

/// From `f64` to an integer.
pub(super) struct FromF64<I, const CHECKED: bool>(PhantomData<I>);

impl<I: Integer, const CHECKED: bool> Body for FromF64<I, CHECKED> {
    const N: usize = 16 * vectors(I::SIZE);
    const SRC: usize = 8;
    const DST: usize = I::SIZE;
    const CHECKED: bool = CHECKED;
    const FOURS: bool = CHECKED;
    const MASKS: bool = true;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { if COUNT { wide::<I, Each, CHECKED, 1>(dst, src) } else { wide::<I, Any, CHECKED, 1>(dst, src) } }
    }
    #[inline(always)]
    unsafe fn four(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { wide::<I, Any, CHECKED, 4>(dst, src) }
    }
}

/// So many steps, and what they lost together.
///
/// # Safety
///
/// As for as many calls of [`Body::step`] of [`FromF64`].
#[inline(always)]
unsafe fn wide<I: Integer, L: Losses, const CHECKED: bool, const STEPS: usize>(dst: *mut u8, src: *const u8) -> u64 {
    // SAFETY: the caller's guarantees; loads take any alignment.
    unsafe {
        let (mut codes, mut lost) = ([[_mm512_setzero_si512(); 2]; 4], [L::none(); 4]);
        let per_step = vectors(I::SIZE);
        for step in 0..STEPS {
            for k in 0..per_step {
                let at = src.add((step * per_step + k) * 128);
                let x = [_mm512_loadu_pd(at.cast()), _mm512_loadu_pd(at.add(64).cast())];
                codes[k] = if CHECKED { I::checked_wide(x, &mut lost[k]) } else { I::convert_wide(x) };
            }
            I::store(dst.add(step * per_step * 16 * I::SIZE), codes);
        }
        if CHECKED { L::all(lost, f32::INFINITY) } else { 0 }
    }
}

/// 32-bit integers of which those above the range of a narrower type are brought down to it, and those below are left
/// to a saturating store, as is NaN for an unsigned type: both become MIN.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn narrow(x: __m512, signed: bool, max: f32) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let max = _mm512_set1_ps(max);
        if !signed {
            return _mm512_cvttps_epi32(_mm512_min_ps(max, x)); // x if it is NaN
        }
        _mm512_cvttps_epi32(_mm512_maskz_min_ps(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x), x, max))
    }
}

/// As [`narrow`], of `f64`.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
pub(super) unsafe fn narrow_wide(x: [__m512d; 2], signed: bool, max: f64) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let (max, mut i) = (_mm512_set1_pd(max), [_mm256_setzero_si256(); 2]);
        for k in 0..2 {
            let x = x[k];
            let inside = if signed {
                _mm512_maskz_min_pd(_mm512_cmp_pd_mask::<_CMP_ORD_Q>(x, x), x, max)
            } else {
                _mm512_min_pd(max, x) // x if it is NaN
            };
            i[k] = _mm512_cvttpd_epi32(inside);
        }
        join_i32(i)
    }
}

/// 32-bit integers, `range + 1` of them from `min` on; other values are lost. NaN and all that is out of range become MIN.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn checked<L: Losses>(x: __m512, min: i32, range: u32, lost: &mut L) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let i = _mm512_cvttps_epi32(x);
        lost.unequal_but_sign(_mm512_cvtepi32_ps(i), x);
        outside(i, min, range, lost);
        i
    }
}

/// As [`checked`], but for the range, which is looked at when two vectors have become one of 16-bit integers, see [`outside_byte`].
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn checked_byte<L: Losses>(x: __m512, min: i32, range: u32, lost: &mut L) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        if L::EACH {
            return checked(x, min, range, lost);
        }
        let i = _mm512_cvttps_epi32(x);
        lost.unequal_but_sign(_mm512_cvtepi32_ps(i), x);
        i
    }
}

/// Lanes of 16 bits, saturated, of which some byte above the lowest has a bit.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn outside_byte<L: Losses>(x: [__m512i; 2], lost: &mut [L; 4]) {
    if !L::EACH {
        for (x, lost) in x.into_iter().zip(lost) {
            // SAFETY: the caller's guarantee.
            unsafe { lost.bits(x, 0xff00_ff00) };
        }
    }
}

/// As [`checked`], for at most 16 bits, which are the low ones of each lane; the others are those of a float.
///
/// To add 1.5 x 2^23 rounds to an integer and leaves it in the low bits; what is out of range, infinite or NaN leaves other bits
/// above. An operation less than to convert there and back, since what is packed need not be put in order.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn checked_by_sum<L: Losses>(x: __m512, min: i32, range: u32, lost: &mut L) -> __m512i {
    const MAGIC: f32 = 12_582_912.0;
    // SAFETY: the caller's guarantee.
    unsafe {
        let sum = _mm512_add_ps(x, _mm512_set1_ps(MAGIC));
        lost.unequal_but_sign(_mm512_sub_ps(sum, _mm512_set1_ps(MAGIC)), x);
        let sum = _mm512_castps_si512(sum);
        outside(sum, MAGIC.to_bits() as i32 + min, range, lost);
        sum
    }
}

/// Integers of at most 32 bits, `range + 1` of them from `min` on; other values are lost.
///
/// To add 1.5 x 2^52 rounds to an integer and leaves it in the low bits, which takes less than to convert there and
/// back. What is out of range, infinite or NaN leaves other bits above.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
pub(super) unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], min: i64, range: u32, lost: &mut L) -> __m512i {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    // SAFETY: the caller's guarantee.
    unsafe {
        let magic = _mm512_set1_pd(MAGIC);
        let sum = [_mm512_add_pd(x[0], magic), _mm512_add_pd(x[1], magic)];
        lost.unequal_but_sign_pd([_mm512_sub_pd(sum[0], magic), _mm512_sub_pd(sum[1], magic)], x);
        let least = _mm512_set1_epi64(MAGIC.to_bits() as i64 + min);
        let sum = sum.map(|sum| _mm512_castpd_si512(sum));
        lost.bits_64([_mm512_sub_epi64(sum[0], least), _mm512_sub_epi64(sum[1], least)], !u64::from(range));
        let low = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        _mm512_permutex2var_epi32(sum[0], low, sum[1])
    }
}

/// Lanes outside the `range + 1` integers from `min` on are lost; `range` is all ones below some bit.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn outside<L: Losses>(i: __m512i, min: i32, range: u32, lost: &mut L) {
    // SAFETY: the caller's guarantee.
    unsafe {
        let from_min = if min == 0 { i } else { _mm512_sub_epi32(i, _mm512_set1_epi32(min)) };
        lost.bits(from_min, !range);
    }
}

/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
pub(super) unsafe fn join_i32(i: [__m256i; 2]) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe { _mm512_inserti64x4::<1>(_mm512_castsi256_si512(i[0]), i[1]) }
}

macro_rules! narrow {
    ($($t:ident $signed:literal $dst:ident $x:ident $store:expr, $checked:ident, $lost:ident $store_checked:expr;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline(always)]
            unsafe fn convert(x: __m512) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                [unsafe { narrow(x, $signed, $t::MAX.into()) }; 2]
            }
            #[inline(always)]
            unsafe fn convert_wide(x: [__m512d; 2]) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                [unsafe { narrow_wide(x, $signed, $t::MAX.into()) }; 2]
            }
            #[inline(always)]
            unsafe fn checked<L: Losses>(x: __m512, lost: &mut L) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                [unsafe { $checked(x, $t::MIN.into(), u32::MAX >> (32 - $t::BITS), lost) }; 2]
            }
            #[inline(always)]
            unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                [unsafe { checked_wide(x, $t::MIN.into(), u32::MAX >> (32 - $t::BITS), lost) }; 2]
            }
            #[inline(always)]
            unsafe fn store($dst: *mut u8, $x: [[__m512i; 2]; 4]) {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe { $store }
            }
            #[inline(always)]
            unsafe fn store_checked<L: Losses>($dst: *mut u8, $x: [[__m512i; 2]; 4], $lost: &mut [L; 4]) {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe { $store_checked }
            }
        }
    )* };
}

/// The even lanes of 16 bits of two vectors.
const EVEN: [u16; 32] = {
    let mut even = [0; 32];
    let mut i = 0;
    while i < 32 {
        even[i] = 2 * i as u16;
        i += 1;
    }
    even
};

/// Puts the groups of four bytes that packing within quarters of a vector left in the order of a turned 4 x 4 matrix
/// into their own.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn turn(x: __m512i) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe { _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x) }
}

/// The same for groups of eight bytes, of two vectors.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn unzip(x: __m512i) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe { _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), x) }
}

narrow! {
    i8 true dst x {
        let (low, high) = (_mm512_packs_epi32(x[0][0], x[1][0]), _mm512_packs_epi32(x[2][0], x[3][0]));
        _mm512_storeu_si512(dst.cast(), turn(_mm512_packs_epi16(low, high)));
    }, checked_byte, lost {
        let halves = [_mm512_packs_epi32(x[0][0], x[1][0]), _mm512_packs_epi32(x[2][0], x[3][0])];
        let from_min = halves.map(|half| _mm512_sub_epi16(half, _mm512_set1_epi16(i8::MIN.into())));
        outside_byte(from_min, lost);
        _mm512_storeu_si512(dst.cast(), turn(_mm512_packs_epi16(halves[0], halves[1])));
    };
    u8 false dst x {
        let (low, high) = (_mm512_packs_epi32(x[0][0], x[1][0]), _mm512_packs_epi32(x[2][0], x[3][0]));
        _mm512_storeu_si512(dst.cast(), turn(_mm512_packus_epi16(low, high)));
    }, checked_byte, lost {
        let halves = [_mm512_packs_epi32(x[0][0], x[1][0]), _mm512_packs_epi32(x[2][0], x[3][0])];
        outside_byte(halves, lost);
        _mm512_storeu_si512(dst.cast(), turn(_mm512_packus_epi16(halves[0], halves[1])));
    };
    i16 true dst x _mm512_storeu_si512(dst.cast(), unzip(_mm512_packs_epi32(x[0][0], x[1][0]))), checked_by_sum, lost {
        let _ = lost;
        let even = _mm512_loadu_si512(EVEN.as_ptr().cast());
        _mm512_storeu_si512(dst.cast(), _mm512_permutex2var_epi16(x[0][0], even, x[1][0]));
    };
    u16 false dst x _mm512_storeu_si512(dst.cast(), unzip(_mm512_packus_epi32(x[0][0], x[1][0]))), checked, lost {
        let _ = lost;
        Self::store(dst, x);
    };
}
