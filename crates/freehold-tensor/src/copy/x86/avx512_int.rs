//! Floats to integers with AVX-512: truncated toward zero, saturated, NaN to 0.
//!
//! The processor's own conversion has one answer for NaN and all that is out of range. So a mask leaves out NaN (for
//! unsigned targets all that is not positive), which makes those lanes 0, and what is too large is brought down. What
//! is too small becomes the least 32 or 64-bit integer, which a narrower store saturates.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512::{Put, halves, masks};
use crate::copy::vector::Body;

/// An integer type that sixteen `f32` or `f64` are written as.
///
/// # Safety of its functions
///
/// `dst` is writable for sixteen values, at any alignment, on a machine with the features of `avx512::run`.
pub(super) trait Integer {
    const SIZE: usize;
    /// Returns which lanes have no equal if `CHECKED`, else 0.
    unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: __m512) -> __mmask16;
    /// As [`Integer::put`], of `f64`.
    unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: [__m512d; 2]) -> __mmask16;
}

/// An integer as the target of `f32`.
pub(super) struct To<I>(PhantomData<I>);

impl<I: Integer> Put for To<I> {
    const SIZE: usize = I::SIZE;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: __m512) {
        // SAFETY: the caller's guarantee.
        unsafe { I::put::<false>(dst, x) };
    }
    #[inline(always)]
    unsafe fn checked(dst: *mut u8, x: __m512) -> __mmask16 {
        // SAFETY: the caller's guarantee.
        unsafe { I::put::<true>(dst, x) }
    }
}

/// From `f64` to an integer.
pub(super) struct FromF64<I, const CHECKED: bool>(PhantomData<I>);

impl<I: Integer, const CHECKED: bool> Body for FromF64<I, CHECKED> {
    const N: usize = 16;
    const SRC: usize = 8;
    const DST: usize = I::SIZE;
    #[inline(always)]
    unsafe fn step(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads take any alignment.
        unsafe {
            let x = [_mm512_loadu_pd(src.cast()), _mm512_loadu_pd(src.add(64).cast())];
            I::put_wide::<CHECKED>(dst, x).into()
        }
    }
}

/// 32-bit integers of which the low bits are a narrower type's: those above its range are brought down to it, and
/// those below only if `CHECKED`.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn narrow<const CHECKED: bool>(x: __m512, signed: bool, lo: f32, hi: f32) -> (__m512i, __mmask16) {
    // SAFETY: the caller's guarantee.
    unsafe {
        let zero = _mm512_setzero_ps();
        let keep =
            if signed { _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x) } else { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, zero) };
        let mut inside = _mm512_maskz_min_ps(keep, x, _mm512_set1_ps(hi));
        if CHECKED && signed {
            inside = _mm512_max_ps(inside, _mm512_set1_ps(lo));
        }
        let i = _mm512_cvttps_epi32(inside);
        (i, if CHECKED { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_cvtepi32_ps(i), x) } else { 0 })
    }
}

/// As [`narrow`], of eight `f64`.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn narrow_half<const CHECKED: bool>(x: __m512d, signed: bool, lo: f64, hi: f64) -> (__m256i, __mmask8) {
    // SAFETY: the caller's guarantee.
    unsafe {
        let zero = _mm512_setzero_pd();
        let keep =
            if signed { _mm512_cmp_pd_mask::<_CMP_ORD_Q>(x, x) } else { _mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, zero) };
        let mut inside = _mm512_maskz_min_pd(keep, x, _mm512_set1_pd(hi));
        if CHECKED && signed {
            inside = _mm512_max_pd(inside, _mm512_set1_pd(lo));
        }
        let i = _mm512_cvttpd_epi32(inside);
        (i, if CHECKED { _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(_mm512_cvtepi32_pd(i), x) } else { 0 })
    }
}

/// As [`narrow`], of sixteen `f64`.
///
/// # Safety
///
/// The machine has the features of `avx512::run`.
#[inline(always)]
unsafe fn narrow_wide<const CHECKED: bool>(x: [__m512d; 2], signed: bool, lo: f64, hi: f64) -> (__m512i, __mmask16) {
    // SAFETY: the caller's guarantee.
    unsafe {
        let (a, low) = narrow_half::<CHECKED>(x[0], signed, lo, hi);
        let (b, high) = narrow_half::<CHECKED>(x[1], signed, lo, hi);
        (_mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b), masks(low, high))
    }
}

macro_rules! narrow {
    ($($t:ident $signed:literal $dst:ident $i:ident $store:expr;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline(always)]
            unsafe fn put<const CHECKED: bool>($dst: *mut u8, x: __m512) -> __mmask16 {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let ($i, lost) = narrow::<CHECKED>(x, $signed, $t::MIN as f32, $t::MAX as f32);
                    $store;
                    lost
                }
            }
            #[inline(always)]
            unsafe fn put_wide<const CHECKED: bool>($dst: *mut u8, x: [__m512d; 2]) -> __mmask16 {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let ($i, lost) = narrow_wide::<CHECKED>(x, $signed, $t::MIN as f64, $t::MAX as f64);
                    $store;
                    lost
                }
            }
        }
    )* };
}

narrow! {
    i8 true dst i _mm_storeu_si128(dst.cast(), _mm512_cvtsepi32_epi8(i));
    u8 false dst i _mm_storeu_si128(dst.cast(), _mm512_cvtepi32_epi8(i));
    i16 true dst i _mm256_storeu_si256(dst.cast(), _mm512_cvtsepi32_epi16(i));
    u16 false dst i _mm256_storeu_si256(dst.cast(), _mm512_cvtepi32_epi16(i));
}

impl Integer for i32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: __m512) -> __mmask16 {
        // SAFETY: the caller's guarantee; stores take any alignment.
        unsafe {
            let i = _mm512_maskz_cvttps_epi32(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x), x);
            let over = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(2_147_483_648.0));
            let i = _mm512_mask_mov_epi32(i, over, _mm512_set1_epi32(i32::MAX));
            _mm512_storeu_si512(dst.cast(), i);
            if CHECKED { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_cvtepi32_ps(i), x) | over } else { 0 }
        }
    }
    #[inline(always)]
    unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: [__m512d; 2]) -> __mmask16 {
        // SAFETY: the caller's guarantee; stores take any alignment.
        unsafe {
            let (i, lost) = narrow_wide::<CHECKED>(x, true, i32::MIN.into(), i32::MAX.into());
            _mm512_storeu_si512(dst.cast(), i);
            lost
        }
    }
}

impl Integer for u32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: __m512) -> __mmask16 {
        // SAFETY: the caller's guarantee; stores take any alignment.
        unsafe {
            // What is too large becomes all ones, which is MAX.
            let i = _mm512_maskz_cvttps_epu32(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps()), x);
            _mm512_storeu_si512(dst.cast(), i);
            if !CHECKED {
                return 0;
            }
            let over = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(4_294_967_296.0));
            _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_cvtepu32_ps(i), x) | over
        }
    }
    #[inline(always)]
    unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: [__m512d; 2]) -> __mmask16 {
        // SAFETY: the caller's guarantee; stores take any alignment.
        unsafe {
            let mut lost = [0; 2];
            for k in 0..2 {
                let x = x[k];
                let i = _mm512_maskz_cvttpd_epu32(_mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, _mm512_setzero_pd()), x);
                _mm256_storeu_si256(dst.add(k * 32).cast(), i);
                if CHECKED {
                    lost[k] = _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(_mm512_cvtepu32_pd(i), x);
                }
            }
            masks(lost[0], lost[1])
        }
    }
}

macro_rules! wide {
    ($($t:ident $ps:ident $pd:ident $back_ps:ident $back_pd:ident;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = 8;
            #[inline(always)]
            unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: __m512) -> __mmask16 {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let (mut lost, (low, high)) = ([0; 2], halves(x));
                    for (k, x) in [low, high].into_iter().enumerate() {
                        let keep = if $t::MIN == 0 {
                            _mm256_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm256_setzero_ps())
                        } else {
                            _mm256_cmp_ps_mask::<_CMP_ORD_Q>(x, x)
                        };
                        let over = _mm256_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm256_set1_ps($t::MAX as f32));
                        let i = _mm512_mask_mov_epi64($ps(keep, x), over, _mm512_set1_epi64($t::MAX as i64));
                        _mm512_storeu_si512(dst.add(k * 64).cast(), i);
                        if CHECKED {
                            lost[k] = _mm256_cmp_ps_mask::<_CMP_NEQ_UQ>($back_ps(i), x) | over;
                        }
                    }
                    masks(lost[0], lost[1])
                }
            }
            #[inline(always)]
            unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: [__m512d; 2]) -> __mmask16 {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let mut lost = [0; 2];
                    for (k, x) in x.into_iter().enumerate() {
                        let keep = if $t::MIN == 0 {
                            _mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, _mm512_setzero_pd())
                        } else {
                            _mm512_cmp_pd_mask::<_CMP_ORD_Q>(x, x)
                        };
                        let over = _mm512_cmp_pd_mask::<_CMP_GE_OQ>(x, _mm512_set1_pd($t::MAX as f64));
                        let i = _mm512_mask_mov_epi64($pd(keep, x), over, _mm512_set1_epi64($t::MAX as i64));
                        _mm512_storeu_si512(dst.add(k * 64).cast(), i);
                        if CHECKED {
                            lost[k] = _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>($back_pd(i), x) | over;
                        }
                    }
                    masks(lost[0], lost[1])
                }
            }
        }
    )* };
}

// MAX rounds up to the first float that is too large.
wide! {
    i64 _mm512_maskz_cvttps_epi64 _mm512_maskz_cvttpd_epi64 _mm512_cvtepi64_ps _mm512_cvtepi64_pd;
    u64 _mm512_maskz_cvttps_epu64 _mm512_maskz_cvttpd_epu64 _mm512_cvtepu64_ps _mm512_cvtepu64_pd;
}
