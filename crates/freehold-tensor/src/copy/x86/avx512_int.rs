//! Floats to integers with AVX-512: truncated toward zero, saturated, NaN to 0.
//!
//! The processor's own conversion has one answer for NaN and all that is out of range. So a mask leaves out NaN (for
//! unsigned targets all that is not positive), which makes those lanes 0, and what is too large is brought down. What
//! is too small becomes the least 32 or 64-bit integer, which a narrower store saturates.
//!
//! Where losses are checked, a lost lane may hold anything: the integer is converted back and compared instead.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512::{Put, halves, join, masks, vectors};
use super::avx512_loss::{Any, Each, Losses};
use crate::copy::vector::Body;

/// An integer type that floats are written as: 64 bytes at once, so 64, 32 or 16 values; 128 bytes of the widest types.
///
/// # Safety of its functions
///
/// `dst` is writable for as many values, at any alignment, on a machine with the features of `avx512::run`.
pub(super) trait Integer {
    const SIZE: usize;
    /// Sixteen integers of 32 bits that [`Integer::store`] narrows; the type itself if it is not narrower.
    unsafe fn convert(x: __m512) -> [__m512i; 2];
    /// As [`Integer::convert`], of `f64`.
    unsafe fn convert_wide(x: [__m512d; 2]) -> [__m512i; 2];
    /// The lanes that are not lost are right.
    unsafe fn checked<L: Losses>(x: __m512, lost: &mut L) -> [__m512i; 2];
    /// As [`Integer::checked`], of `f64`.
    unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2];
    unsafe fn store(dst: *mut u8, x: [[__m512i; 2]; 4]);
}

/// An integer as the target of `f32`.
pub(super) struct To<I>(PhantomData<I>);

impl<I: Integer> Put for To<I> {
    const SIZE: usize = I::SIZE;
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
            I::store(dst, codes);
        }
    }
}

/// From `f64` to an integer.
pub(super) struct FromF64<I, const CHECKED: bool>(PhantomData<I>);

impl<I: Integer, const CHECKED: bool> Body for FromF64<I, CHECKED> {
    const N: usize = 16 * vectors(I::SIZE);
    const SRC: usize = 8;
    const DST: usize = I::SIZE;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { if COUNT { wide::<I, Each, CHECKED>(dst, src) } else { wide::<I, Any, CHECKED>(dst, src) } }
    }
}

/// # Safety
///
/// As for [`Body::step`] of [`FromF64`].
#[inline(always)]
unsafe fn wide<I: Integer, L: Losses, const CHECKED: bool>(dst: *mut u8, src: *const u8) -> u64 {
    // SAFETY: the caller's guarantees; loads take any alignment.
    unsafe {
        let (mut codes, mut lost) = ([[_mm512_setzero_si512(); 2]; 4], [L::none(); 4]);
        for k in 0..vectors(I::SIZE) {
            let at = src.add(k * 128);
            let x = [_mm512_loadu_pd(at.cast()), _mm512_loadu_pd(at.add(64).cast())];
            codes[k] = if CHECKED { I::checked_wide(x, &mut lost[k]) } else { I::convert_wide(x) };
        }
        I::store(dst, codes);
        if CHECKED { L::all(lost) } else { 0 }
    }
}

/// 32-bit integers of which those above the range of a narrower type are brought down to it, and those below are left
/// to a saturating store.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn narrow(x: __m512, signed: bool, max: f32) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let zero = _mm512_setzero_ps();
        let keep =
            if signed { _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x) } else { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, zero) };
        _mm512_cvttps_epi32(_mm512_maskz_min_ps(keep, x, _mm512_set1_ps(max)))
    }
}

/// As [`narrow`], of `f64`.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn narrow_wide(x: [__m512d; 2], signed: bool, max: f64) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let (zero, mut i) = (_mm512_setzero_pd(), [_mm256_setzero_si256(); 2]);
        for k in 0..2 {
            let x = x[k];
            let keep =
                if signed { _mm512_cmp_pd_mask::<_CMP_ORD_Q>(x, x) } else { _mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, zero) };
            i[k] = _mm512_cvttpd_epi32(_mm512_maskz_min_pd(keep, x, _mm512_set1_pd(max)));
        }
        join_i32(i)
    }
}

/// 32-bit integers, and what is not their equal is lost.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn checked<L: Losses>(x: __m512, lost: &mut L) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let i = _mm512_cvttps_epi32(x);
        // NaN and all that is out of range become MIN.
        lost.unequal(_mm512_cvtepi32_ps(i), x);
        i
    }
}

/// As [`checked`], of `f64`.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let i = [_mm512_cvttpd_epi32(x[0]), _mm512_cvttpd_epi32(x[1])];
        lost.unequal_pd([_mm512_cvtepi32_pd(i[0]), _mm512_cvtepi32_pd(i[1])], x);
        join_i32(i)
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
unsafe fn join_i32(i: [__m256i; 2]) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe { _mm512_inserti64x4::<1>(_mm512_castsi256_si512(i[0]), i[1]) }
}

macro_rules! narrow {
    ($($t:ident $signed:literal $dst:ident $x:ident $store:expr;)*) => { $(
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
                unsafe {
                    let i = checked(x, lost);
                    outside(i, $t::MIN.into(), u32::MAX >> (32 - $t::BITS), lost);
                    [i; 2]
                }
            }
            #[inline(always)]
            unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                unsafe {
                    let i = checked_wide(x, lost);
                    outside(i, $t::MIN.into(), u32::MAX >> (32 - $t::BITS), lost);
                    [i; 2]
                }
            }
            #[inline(always)]
            unsafe fn store($dst: *mut u8, $x: [[__m512i; 2]; 4]) {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe { $store }
            }
        }
    )* };
}

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
    };
    u8 false dst x {
        let (low, high) = (_mm512_packs_epi32(x[0][0], x[1][0]), _mm512_packs_epi32(x[2][0], x[3][0]));
        _mm512_storeu_si512(dst.cast(), turn(_mm512_packus_epi16(low, high)));
    };
    i16 true dst x _mm512_storeu_si512(dst.cast(), unzip(_mm512_packs_epi32(x[0][0], x[1][0])));
    u16 false dst x _mm512_storeu_si512(dst.cast(), unzip(_mm512_packus_epi32(x[0][0], x[1][0])));
}

impl Integer for i32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn convert(x: __m512) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        unsafe {
            let i = _mm512_maskz_cvttps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x), x);
            let over = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(2_147_483_648.0));
            [_mm512_mask_mov_epi32(i, over, _mm512_set1_epi32(i32::MAX)); 2]
        }
    }
    #[inline(always)]
    unsafe fn convert_wide(x: [__m512d; 2]) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        [unsafe { narrow_wide(x, true, i32::MAX.into()) }; 2]
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(x: __m512, lost: &mut L) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        [unsafe { checked(x, lost) }; 2]
    }
    #[inline(always)]
    unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        [unsafe { checked_wide(x, lost) }; 2]
    }
    #[inline(always)]
    unsafe fn store(dst: *mut u8, x: [[__m512i; 2]; 4]) {
        // SAFETY: the caller's guarantee; the store takes any alignment.
        unsafe { _mm512_storeu_si512(dst.cast(), x[0][0]) };
    }
}

impl Integer for u32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn convert(x: __m512) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        unsafe {
            // What is too large becomes all ones, which is MAX.
            let keep = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps());
            [_mm512_maskz_cvttps_epu32(keep, x); 2]
        }
    }
    #[inline(always)]
    unsafe fn convert_wide(x: [__m512d; 2]) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        unsafe {
            let mut i = [_mm256_setzero_si256(); 2];
            for k in 0..2 {
                let keep = _mm512_cmp_pd_mask::<_CMP_GT_OQ>(x[k], _mm512_setzero_pd());
                i[k] = _mm512_maskz_cvttpd_epu32(keep, x[k]);
            }
            [join_i32(i); 2]
        }
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(x: __m512, lost: &mut L) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        unsafe {
            let i = _mm512_cvttps_epu32(x);
            // NaN and all that is out of range become MAX, which is no f32 but converts back to 2^32.
            lost.unequal(_mm512_cvtepu32_ps(i), x);
            lost.lanes(_mm512_cmpeq_epi32_mask(i, _mm512_set1_epi32(-1)));
            [i; 2]
        }
    }
    #[inline(always)]
    unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        unsafe {
            let i = [_mm512_cvttpd_epu32(x[0]), _mm512_cvttpd_epu32(x[1])];
            lost.unequal_pd([_mm512_cvtepu32_pd(i[0]), _mm512_cvtepu32_pd(i[1])], x);
            [join_i32(i); 2]
        }
    }
    #[inline(always)]
    unsafe fn store(dst: *mut u8, x: [[__m512i; 2]; 4]) {
        // SAFETY: the caller's guarantee; the store takes any alignment.
        unsafe { _mm512_storeu_si512(dst.cast(), x[0][0]) };
    }
}

macro_rules! wide {
    ($($t:ident $ps:ident $mask_ps:ident $pd:ident $mask_pd:ident $back_ps:ident $back_pd:ident;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = 8;
            #[inline(always)]
            unsafe fn convert(x: __m512) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                unsafe {
                    let keep = if $t::MIN == 0 {
                        _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps())
                    } else {
                        _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x)
                    };
                    let (low, high) = halves(x);
                    let i = [$mask_ps(keep as u8, low), $mask_ps((keep >> 8) as u8, high)];
                    if $t::MIN == 0 {
                        return i; // what is too large is all ones already
                    }
                    // MAX rounds up to the first float that is too large.
                    let over = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps($t::MAX as f32));
                    let max = _mm512_set1_epi64($t::MAX as i64);
                    [
                        _mm512_mask_mov_epi64(i[0], over as u8, max),
                        _mm512_mask_mov_epi64(i[1], (over >> 8) as u8, max),
                    ]
                }
            }
            #[inline(always)]
            unsafe fn convert_wide(x: [__m512d; 2]) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                unsafe {
                    let mut i = [_mm512_setzero_si512(); 2];
                    for k in 0..2 {
                        let x = x[k];
                        if $t::MIN == 0 {
                            i[k] = $mask_pd(_mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, _mm512_setzero_pd()), x);
                        } else {
                            let over = _mm512_cmp_pd_mask::<_CMP_GE_OQ>(x, _mm512_set1_pd($t::MAX as f64));
                            let kept = $mask_pd(_mm512_cmp_pd_mask::<_CMP_ORD_Q>(x, x), x);
                            i[k] = _mm512_mask_mov_epi64(kept, over, _mm512_set1_epi64($t::MAX as i64));
                        }
                    }
                    i
                }
            }
            #[inline(always)]
            unsafe fn checked<L: Losses>(x: __m512, lost: &mut L) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                unsafe {
                    let (low, high) = halves(x);
                    let i = [$ps(low), $ps(high)];
                    lost.unequal(join($back_ps(i[0]), $back_ps(i[1])), x);
                    largest::<L>(i, $t::MIN == 0, lost);
                    i
                }
            }
            #[inline(always)]
            unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                unsafe {
                    let i = [$pd(x[0]), $pd(x[1])];
                    lost.unequal_pd([$back_pd(i[0]), $back_pd(i[1])], x);
                    largest::<L>(i, $t::MIN == 0, lost);
                    i
                }
            }
            #[inline(always)]
            unsafe fn store(dst: *mut u8, x: [[__m512i; 2]; 4]) {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    _mm512_storeu_si512(dst.cast(), x[0][0]);
                    _mm512_storeu_si512(dst.add(64).cast(), x[0][1]);
                }
            }
        }
    )* };
}

/// All ones, which an unsigned conversion gives for what it cannot hold, is no float but converts back to 2^64.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn largest<L: Losses>(i: [__m512i; 2], unsigned: bool, lost: &mut L) {
    if unsigned {
        // SAFETY: the caller's guarantee.
        unsafe {
            let max = _mm512_set1_epi64(-1);
            lost.lanes(masks(_mm512_cmpeq_epi64_mask(i[0], max), _mm512_cmpeq_epi64_mask(i[1], max)));
        }
    }
}

wide! {
    i64 _mm512_cvttps_epi64 _mm512_maskz_cvttps_epi64 _mm512_cvttpd_epi64 _mm512_maskz_cvttpd_epi64
        _mm512_cvtepi64_ps _mm512_cvtepi64_pd;
    u64 _mm512_cvttps_epu64 _mm512_maskz_cvttps_epu64 _mm512_cvttpd_epu64 _mm512_maskz_cvttpd_epu64
        _mm512_cvtepu64_ps _mm512_cvtepu64_pd;
}
