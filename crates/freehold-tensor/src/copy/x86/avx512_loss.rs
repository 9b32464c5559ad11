//! How a step with AVX-512 gathers losses: exactly, or, cheaper, whether there is any.

use std::arch::x86_64::*;

/// Losses among sixteen lanes.
///
/// # Safety of its functions
///
/// The machine has the features of `avx512::run`.
pub(super) trait Losses: Copy {
    unsafe fn none() -> Self;
    /// Lanes where two floats differ; a NaN differs from everything.
    unsafe fn unequal(&mut self, result: __m512, value: __m512);
    /// Lanes where two 32-bit integers differ.
    unsafe fn unequal_32(&mut self, a: __m512i, b: __m512i);
    /// Lanes where two 64-bit integers differ.
    unsafe fn unequal_64(&mut self, a: [__m512i; 2], b: [__m512i; 2]);
    /// Lanes where two doubles differ; a NaN differs from everything.
    unsafe fn unequal_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]);
    /// Lanes that have any of these bits.
    unsafe fn bits(&mut self, x: __m512i, mask: u32);
    unsafe fn lanes(&mut self, lanes: __mmask16);
    /// The losses of four vectors, the first in the lowest bit.
    unsafe fn all(lost: [Self; 4]) -> u64;
}

/// A bit a lane.
#[derive(Clone, Copy)]
pub(super) struct Each(__mmask16);

impl Losses for Each {
    #[inline(always)]
    unsafe fn none() -> Each {
        Each(0)
    }
    #[inline(always)]
    unsafe fn unequal(&mut self, result: __m512, value: __m512) {
        // SAFETY: the caller's guarantee.
        self.0 |= unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(result, value) };
    }
    #[inline(always)]
    unsafe fn unequal_32(&mut self, a: __m512i, b: __m512i) {
        // SAFETY: the caller's guarantee.
        self.0 |= unsafe { _mm512_cmpneq_epi32_mask(a, b) };
    }
    #[inline(always)]
    unsafe fn unequal_64(&mut self, a: [__m512i; 2], b: [__m512i; 2]) {
        // SAFETY: the caller's guarantee.
        let (low, high) = unsafe { (_mm512_cmpneq_epi64_mask(a[0], b[0]), _mm512_cmpneq_epi64_mask(a[1], b[1])) };
        self.0 |= super::avx512::masks(low, high);
    }
    #[inline(always)]
    unsafe fn unequal_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]) {
        // SAFETY: the caller's guarantee.
        let (low, high) = unsafe {
            (
                _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(result[0], value[0]),
                _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(result[1], value[1]),
            )
        };
        self.0 |= super::avx512::masks(low, high);
    }
    #[inline(always)]
    unsafe fn bits(&mut self, x: __m512i, mask: u32) {
        // SAFETY: the caller's guarantee.
        self.0 |= unsafe { _mm512_test_epi32_mask(x, _mm512_set1_epi32(mask as i32)) };
    }
    #[inline(always)]
    unsafe fn lanes(&mut self, lanes: __mmask16) {
        self.0 |= lanes;
    }
    #[inline(always)]
    unsafe fn all(lost: [Each; 4]) -> u64 {
        lost.iter().rev().fold(0, |all, lost| all << 16 | u64::from(lost.0))
    }
}

/// Bits that are not 0 if a lane of any vector lost.
///
/// Cheaper than comparing, which one port alone can do: two equal floats subtract to +0, whose bits are 0, and the
/// difference of any other two, or with a NaN, is not.
#[derive(Clone, Copy)]
pub(super) struct Any(__m512i);

impl Losses for Any {
    #[inline(always)]
    unsafe fn none() -> Any {
        // SAFETY: the caller's guarantee.
        Any(unsafe { _mm512_setzero_si512() })
    }
    #[inline(always)]
    unsafe fn unequal(&mut self, result: __m512, value: __m512) {
        // The result first: 0 - -0 is +0, but -0 - 0 is -0.
        // SAFETY: the caller's guarantee.
        self.0 = unsafe { _mm512_or_si512(self.0, _mm512_castps_si512(_mm512_sub_ps(result, value))) };
    }
    #[inline(always)]
    unsafe fn unequal_32(&mut self, a: __m512i, b: __m512i) {
        // SAFETY: the caller's guarantee.
        self.0 = unsafe { _mm512_or_si512(self.0, _mm512_xor_si512(a, b)) };
    }
    #[inline(always)]
    unsafe fn unequal_64(&mut self, a: [__m512i; 2], b: [__m512i; 2]) {
        for k in 0..2 {
            // SAFETY: the caller's guarantee.
            self.0 = unsafe { _mm512_or_si512(self.0, _mm512_xor_si512(a[k], b[k])) };
        }
    }
    #[inline(always)]
    unsafe fn unequal_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]) {
        for k in 0..2 {
            // SAFETY: the caller's guarantee.
            self.0 = unsafe { _mm512_or_si512(self.0, _mm512_castpd_si512(_mm512_sub_pd(result[k], value[k]))) };
        }
    }
    #[inline(always)]
    unsafe fn bits(&mut self, x: __m512i, mask: u32) {
        // SAFETY: the caller's guarantee.
        self.0 = unsafe { _mm512_or_si512(self.0, _mm512_and_si512(x, _mm512_set1_epi32(mask as i32))) };
    }
    #[inline(always)]
    unsafe fn lanes(&mut self, lanes: __mmask16) {
        // SAFETY: the caller's guarantee.
        self.0 = unsafe { _mm512_mask_mov_epi32(self.0, lanes, _mm512_set1_epi32(-1)) };
    }
    #[inline(always)]
    unsafe fn all(lost: [Any; 4]) -> u64 {
        // SAFETY: the caller's guarantee.
        unsafe {
            let any = lost.iter().fold(_mm512_setzero_si512(), |any, lost| _mm512_or_si512(any, lost.0));
            _mm512_test_epi32_mask(any, any).into()
        }
    }
}
