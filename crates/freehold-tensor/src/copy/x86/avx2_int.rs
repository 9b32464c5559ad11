//! Floats to integers with AVX2: truncated toward zero, saturated, NaN to 0.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2::{Floats, MAGIC, Put, unequal};
use crate::copy::vector::Body;

/// Four vectors of four.
pub(super) type Doubles = [__m256d; 4];

/// An integer type that sixteen floats are written as.
///
/// # Safety of its functions
///
/// `dst` is writable for sixteen values, at any alignment, on a machine with the features of `avx2::run`.
pub(super) trait Integer {
    const SIZE: usize;
    /// Returns which lanes have no equal if `CHECKED`, else 0.
    unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: Floats) -> u64;
    /// As [`Integer::put`], of `f64`.
    unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: Doubles) -> u64;
}

/// An integer as the target of `f32`.
pub(super) struct To<I>(PhantomData<I>);

impl<I: Integer> Put for To<I> {
    const SIZE: usize = I::SIZE;
    #[inline(always)]
    unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: Floats) -> u64 {
        // SAFETY: the caller's guarantee.
        unsafe { I::put::<CHECKED>(dst, x) }
    }
}

/// From `f64` to an integer.
pub(super) struct FromF64<I, const CHECKED: bool>(PhantomData<I>);

impl<I: Integer, const CHECKED: bool> Body for FromF64<I, CHECKED> {
    const N: usize = 16;
    const SRC: usize = 8;
    const DST: usize = I::SIZE;
    const CHECKED: bool = CHECKED;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads take any alignment.
        unsafe {
            let mut x = [_mm256_setzero_pd(); 4];
            for (k, x) in x.iter_mut().enumerate() {
                *x = _mm256_loadu_pd(src.add(k * 32).cast());
            }
            I::put_wide::<CHECKED>(dst, x)
        }
    }
}

#[inline(always)]
unsafe fn widen(x: Floats) -> Doubles {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        [
            _mm256_cvtps_pd(_mm256_castps256_ps128(x[0])),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x[0])),
            _mm256_cvtps_pd(_mm256_castps256_ps128(x[1])),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x[1])),
        ]
    }
}

/// Lanes where two groups of vectors differ; a NaN differs from everything.
#[inline(always)]
unsafe fn unequal_wide(a: Doubles, b: Doubles) -> u64 {
    let mut lanes = 0;
    for k in 0..4 {
        // SAFETY: the features of `avx2::run`, which every caller has.
        let differs = unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_NEQ_UQ>(a[k], b[k])) };
        lanes |= (differs as u64 & 0xf) << (k * 4);
    }
    lanes
}

/// Integers of 32 bits within `lo` and `hi`, NaN as 0.
#[inline(always)]
unsafe fn narrow<const CHECKED: bool>(x: Floats, lo: f32, hi: f32) -> ([__m256i; 2], u64) {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let mut i = [_mm256_setzero_si256(); 2];
        for k in 0..2 {
            let number = _mm256_and_ps(x[k], _mm256_cmp_ps::<_CMP_ORD_Q>(x[k], x[k]));
            let inside = _mm256_min_ps(_mm256_max_ps(number, _mm256_set1_ps(lo)), _mm256_set1_ps(hi));
            i[k] = _mm256_cvttps_epi32(inside);
        }
        let lost = if CHECKED { unequal([_mm256_cvtepi32_ps(i[0]), _mm256_cvtepi32_ps(i[1])], x) } else { 0 };
        (i, lost)
    }
}

/// As [`narrow`], of `f64`.
#[inline(always)]
unsafe fn narrow_wide<const CHECKED: bool>(x: Doubles, lo: f64, hi: f64) -> ([__m256i; 2], u64) {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let (mut i, mut back) = ([_mm_setzero_si128(); 4], x);
        for k in 0..4 {
            let number = _mm256_and_pd(x[k], _mm256_cmp_pd::<_CMP_ORD_Q>(x[k], x[k]));
            let inside = _mm256_min_pd(_mm256_max_pd(number, _mm256_set1_pd(lo)), _mm256_set1_pd(hi));
            i[k] = _mm256_cvttpd_epi32(inside);
            back[k] = _mm256_cvtepi32_pd(i[k]);
        }
        let lost = if CHECKED { unequal_wide(back, x) } else { 0 };
        ([_mm256_set_m128i(i[1], i[0]), _mm256_set_m128i(i[3], i[2])], lost)
    }
}

macro_rules! narrow {
    ($($t:ident $dst:ident $i:ident $store:expr;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline(always)]
            unsafe fn put<const CHECKED: bool>($dst: *mut u8, x: Floats) -> u64 {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let ($i, lost) = narrow::<CHECKED>(x, $t::MIN.into(), $t::MAX.into());
                    $store;
                    lost
                }
            }
            #[inline(always)]
            unsafe fn put_wide<const CHECKED: bool>($dst: *mut u8, x: Doubles) -> u64 {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let ($i, lost) = narrow_wide::<CHECKED>(x, $t::MIN.into(), $t::MAX.into());
                    $store;
                    lost
                }
            }
        }
    )* };
}

/// Sixteen signed words, which hold any byte.
#[inline(always)]
unsafe fn words(i: [__m256i; 2]) -> __m256i {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(i[0], i[1])) }
}

narrow! {
    i8 dst i {
        let w = words(i);
        _mm_storeu_si128(dst.cast(), _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256::<1>(w)));
    };
    u8 dst i {
        let w = words(i);
        _mm_storeu_si128(dst.cast(), _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256::<1>(w)));
    };
    i16 dst i _mm256_storeu_si256(dst.cast(), words(i));
    u16 dst i {
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(i[0], i[1]));
        _mm256_storeu_si256(dst.cast(), packed);
    };
}

#[inline(always)]
unsafe fn store(dst: *mut u8, i: [__m256i; 2]) {
    // SAFETY: 64 bytes of the caller's, at any alignment, on a machine with the features of `avx2::run`.
    unsafe {
        _mm256_storeu_si256(dst.cast(), i[0]);
        _mm256_storeu_si256(dst.add(32).cast(), i[1]);
    }
}

impl Integer for i32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: Floats) -> u64 {
        // SAFETY: the caller's guarantee.
        unsafe {
            let (mut i, limit) = ([_mm256_setzero_si256(); 2], _mm256_set1_ps(2_147_483_648.0));
            let mut over = x;
            for k in 0..2 {
                let number = _mm256_and_ps(x[k], _mm256_cmp_ps::<_CMP_ORD_Q>(x[k], x[k]));
                // MIN is what the processor gives for all that is out of range; its complement is MAX.
                over[k] = _mm256_cmp_ps::<_CMP_GE_OQ>(x[k], limit);
                i[k] = _mm256_xor_si256(_mm256_cvttps_epi32(number), _mm256_castps_si256(over[k]));
            }
            store(dst, i);
            if !CHECKED {
                return 0;
            }
            unequal([_mm256_cvtepi32_ps(i[0]), _mm256_cvtepi32_ps(i[1])], x) | super::avx2::lanes(over)
        }
    }
    #[inline(always)]
    unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: Doubles) -> u64 {
        // SAFETY: the caller's guarantee.
        unsafe {
            let (i, lost) = narrow_wide::<CHECKED>(x, i32::MIN.into(), i32::MAX.into());
            store(dst, i);
            lost
        }
    }
}

impl Integer for u32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: Floats) -> u64 {
        // SAFETY: the caller's guarantee.
        unsafe { Self::put_wide::<CHECKED>(dst, widen(x)) }
    }
    #[inline(always)]
    unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: Doubles) -> u64 {
        // SAFETY: the caller's guarantee.
        unsafe {
            let (mut whole, mut bits) = (x, [_mm256_setzero_ps(); 4]);
            for k in 0..4 {
                // The second operand where x is NaN: 0.
                let inside = _mm256_min_pd(_mm256_max_pd(x[k], _mm256_setzero_pd()), _mm256_set1_pd(u32::MAX.into()));
                whole[k] = _mm256_round_pd::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(inside);
                bits[k] = _mm256_castpd_ps(_mm256_add_pd(whole[k], _mm256_set1_pd(MAGIC)));
            }
            let mut i = [_mm256_setzero_si256(); 2];
            for k in 0..2 {
                let low = _mm256_shuffle_ps::<0b10_00_10_00>(bits[2 * k], bits[2 * k + 1]);
                i[k] = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(low));
            }
            store(dst, i);
            if CHECKED { unequal_wide(whole, x) } else { 0 }
        }
    }
}

macro_rules! long {
    ($($t:ident;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = 8;
            #[inline(always)]
            unsafe fn put<const CHECKED: bool>(dst: *mut u8, x: Floats) -> u64 {
                // SAFETY: the caller's guarantee.
                unsafe { Self::put_wide::<CHECKED>(dst, widen(x)) }
            }
            #[inline(always)]
            unsafe fn put_wide<const CHECKED: bool>(dst: *mut u8, x: Doubles) -> u64 {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    // All within 2^51 (and not negative, for the unsigned type): one flag for sixteen lanes.
                    let limit = _mm256_set1_pd((1u64 << 51) as f64);
                    let sign = _mm256_set1_pd(if $t::MIN == 0 { 0.0 } else { -0.0 });
                    let mut all = _mm256_castsi256_pd(_mm256_set1_epi64x(-1));
                    for x in x {
                        let below = _mm256_cmp_pd::<_CMP_LT_OQ>(_mm256_andnot_pd(sign, x), limit);
                        let below = if $t::MIN == 0 {
                            _mm256_and_pd(below, _mm256_cmp_pd::<_CMP_GE_OQ>(x, _mm256_setzero_pd()))
                        } else {
                            below
                        };
                        all = _mm256_and_pd(all, below);
                    }
                    if _mm256_movemask_pd(all) != 0xf {
                        let mut lanes = [0f64; 16];
                        for k in 0..4 {
                            _mm256_storeu_pd(lanes.as_mut_ptr().add(k * 4), x[k]);
                        }
                        let mut lost = 0;
                        for (i, x) in lanes.into_iter().enumerate() {
                            dst.cast::<$t>().add(i).write_unaligned(x as $t);
                            // MAX as a float is the first that is too large.
                            let kept = (x as $t) as f64 == x && x != $t::MAX as f64;
                            lost |= u64::from(CHECKED && !kept) << i;
                        }
                        return lost;
                    }
                    let mut whole = x;
                    for k in 0..4 {
                        whole[k] = _mm256_round_pd::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x[k]);
                        let sum = _mm256_castpd_si256(_mm256_add_pd(whole[k], _mm256_set1_pd(MAGIC)));
                        let i = _mm256_sub_epi64(sum, _mm256_set1_epi64x(MAGIC.to_bits() as i64));
                        _mm256_storeu_si256(dst.add(k * 32).cast(), i);
                    }
                    if CHECKED { unequal_wide(whole, x) } else { 0 }
                }
            }
        }
    )* };
}
long! { i64; u64; }
