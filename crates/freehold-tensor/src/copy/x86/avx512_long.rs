//! Floats to integers of 32 and 64 bits with AVX-512; see `avx512_int`.

use std::arch::x86_64::*;

use super::avx512::{halves, join, masks};
use super::avx512_int::{Integer, checked_wide, join_i32, narrow_wide};
use super::avx512_loss::Losses;

macro_rules! wide {
    ($($t:ident $ps:ident $mask_ps:ident $pd:ident $mask_pd:ident $back_ps:ident $back_pd:ident;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = 8;
            const QUICK: bool = true;
            #[inline(always)]
            unsafe fn convert(x: __m512) -> [__m512i; 2] {
                // SAFETY: the caller's guarantee.
                unsafe {
                    if let Some(i) = fits_32(x, $t::MIN == 0) {
                        return i;
                    }
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
                    if L::QUICK {
                        return small(x, $t::MIN == 0, lost);
                    }
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

/// 64-bit integers by way of 32 bits; larger ones count as lost.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn small<L: Losses>(x: __m512, unsigned: bool, lost: &mut L) -> [__m512i; 2] {
    // SAFETY: the caller's guarantee.
    unsafe {
        let i = _mm512_cvttps_epi32(x);
        // NaN and all that is out of range become MIN, which 2^31 differs from by its sign alone.
        lost.unequal_but_sign(_mm512_cvtepi32_ps(i), x);
        if unsigned {
            lost.bits(i, 1 << 31);
        } else {
            lost.overflow(i, x);
        }
        extend(i)
    }
}

/// All lanes by way of 32 bits, which takes half as long, if all are within.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn fits_32(x: __m512, unsigned: bool) -> Option<[__m512i; 2]> {
    // SAFETY: the caller's guarantee.
    unsafe {
        // The second operand where the first is NaN.
        let x = if unsigned { _mm512_max_ps(x, _mm512_setzero_ps()) } else { x };
        let beyond = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(x), _mm512_set1_ps(2_147_483_648.0));
        if beyond == 0 { Some(extend(_mm512_cvttps_epi32(x))) } else { None }
    }
}

/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn extend(i: __m512i) -> [__m512i; 2] {
    // SAFETY: the caller's guarantee.
    unsafe {
        let (low, high) = (_mm512_castsi512_si256(i), _mm512_extracti64x4_epi64::<1>(i));
        [_mm512_cvtepi32_epi64(low), _mm512_cvtepi32_epi64(high)]
    }
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
        unsafe {
            let i = _mm512_cvttps_epi32(x);
            // NaN and all that is out of range become MIN, which 2^31 differs from by its sign alone. (Two operations on bits take
            // less than a subtraction, which conversions leave no port.)
            lost.unequal_but_sign(_mm512_cvtepi32_ps(i), x);
            lost.overflow(i, x);
            [i; 2]
        }
    }
    #[inline(always)]
    unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        [unsafe { checked_wide(x, i32::MIN.into(), u32::MAX, lost) }; 2]
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
            // NaN and all that is out of range become MAX, which is no f32: toward zero, it does not convert back to 2^32.
            const TOWARD_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
            lost.unequal_but_sign(_mm512_cvt_roundepu32_ps::<TOWARD_ZERO>(i), x);
            [i; 2]
        }
    }
    #[inline(always)]
    unsafe fn checked_wide<L: Losses>(x: [__m512d; 2], lost: &mut L) -> [__m512i; 2] {
        // SAFETY: the caller's guarantee.
        [unsafe { checked_wide(x, 0, u32::MAX, lost) }; 2]
    }
    #[inline(always)]
    unsafe fn store(dst: *mut u8, x: [[__m512i; 2]; 4]) {
        // SAFETY: the caller's guarantee; the store takes any alignment.
        unsafe { _mm512_storeu_si512(dst.cast(), x[0][0]) };
    }
}
