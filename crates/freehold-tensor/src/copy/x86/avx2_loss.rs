//! How a step with AVX2 gathers losses: which lanes, or, cheaper, whether there is any. As `avx512_loss`.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::copy::vector::Body;

/// A conversion of `N` values, at most 32, that says what is lost.
pub(super) trait Step {
    const N: usize;
    const SRC: usize;
    const DST: usize;
    const CHECKED: bool;

    /// What has no equal is a loss if `CHECKED`, and anything may be written for it then.
    ///
    /// # Safety
    ///
    /// As for [`Body::step`], on a machine with the features of `avx2::run`.
    unsafe fn step<L: Losses>(dst: *mut u8, src: *const u8, lost: &mut L);
}

/// A step as a kernel: the losses of a run are gathered in registers and looked at once.
pub(super) struct Gather<S>(PhantomData<S>);

impl<S: Step> Body for Gather<S> {
    const N: usize = S::N;
    const SRC: usize = S::SRC;
    const DST: usize = S::DST;
    const CHECKED: bool = S::CHECKED;
    const RUNS: bool = true;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe {
            let mut lost = Each::none();
            S::step(dst, src, &mut lost);
            lost.all()
        }
    }
    #[inline(always)]
    unsafe fn run(dst: *mut u8, src: *const u8, n: usize) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe {
            let mut lost = Any::none();
            for i in (0..n).step_by(S::N) {
                S::step(dst.add(i * S::DST), src.add(i * S::SRC), &mut lost);
            }
            lost.all()
        }
    }
}

/// Losses among the values of a step: `k` counts vectors of as many lanes as the one it is told with.
///
/// # Safety of its functions
///
/// The machine has the features of `avx2::run`.
pub(super) trait Losses: Copy {
    unsafe fn none() -> Self;
    /// Lanes where two floats differ; a NaN differs from everything.
    unsafe fn floats(&mut self, k: usize, result: __m256, value: __m256);
    /// Lanes where two doubles differ; a NaN differs from everything.
    unsafe fn doubles(&mut self, k: usize, result: __m256d, value: __m256d);
    /// Lanes where two 32-bit integers differ.
    unsafe fn integers(&mut self, k: usize, a: __m256i, b: __m256i);
    /// Lanes that have any of these bits: the same ones in every call of a conversion.
    unsafe fn bits(&mut self, k: usize, x: __m256i, mask: u32);
    /// The same for lanes of 16 bits.
    unsafe fn bits_16(&mut self, k: usize, x: __m256i, mask: u16);
    /// The same for lanes in the order that packing within the halves of a vector leaves.
    #[inline(always)]
    unsafe fn packed_16(&mut self, k: usize, x: __m256i, mask: u16) {
        // SAFETY: the caller's guarantee.
        unsafe { self.bits_16(k, _mm256_permute4x64_epi64::<0b11_01_10_00>(x), mask) };
    }
    /// The same for lanes of 64 bits.
    unsafe fn bits_64(&mut self, k: usize, x: __m256i, mask: u64);
    /// Lanes of this magnitude or a larger one: the same limit in every call of a conversion.
    unsafe fn large(&mut self, k: usize, x: __m256, limit: f32);
    /// Lanes that were found one by one.
    unsafe fn lanes(&mut self, lanes: u64);
    /// The losses, the first in the lowest bit; or any bits.
    unsafe fn all(self) -> u64;
}

/// A bit a lane.
#[derive(Clone, Copy)]
pub(super) struct Each(u64);

impl Each {
    #[inline(always)]
    unsafe fn eight(&mut self, k: usize, lanes: __m256) {
        // SAFETY: the caller's guarantee.
        self.0 |= (unsafe { _mm256_movemask_ps(lanes) } as u64 & 0xff) << (k * 8);
    }
}

// SAFETY (of every block): the caller's guarantee.
impl Losses for Each {
    #[inline(always)]
    unsafe fn none() -> Each {
        Each(0)
    }
    #[inline(always)]
    unsafe fn floats(&mut self, k: usize, result: __m256, value: __m256) {
        // SAFETY: as above.
        unsafe { self.eight(k, _mm256_cmp_ps::<_CMP_NEQ_UQ>(result, value)) };
    }
    #[inline(always)]
    unsafe fn doubles(&mut self, k: usize, result: __m256d, value: __m256d) {
        // SAFETY: as above.
        let differs = unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_NEQ_UQ>(result, value)) };
        self.0 |= (differs as u64 & 0xf) << (k * 4);
    }
    #[inline(always)]
    unsafe fn integers(&mut self, k: usize, a: __m256i, b: __m256i) {
        // SAFETY: as above.
        unsafe {
            let differs = _mm256_xor_si256(_mm256_cmpeq_epi32(a, b), _mm256_set1_epi32(-1));
            self.eight(k, _mm256_castsi256_ps(differs));
        }
    }
    #[inline(always)]
    unsafe fn bits(&mut self, k: usize, x: __m256i, mask: u32) {
        // SAFETY: as above.
        unsafe {
            let found = _mm256_and_si256(x, _mm256_set1_epi32(mask as i32));
            self.integers(k, found, _mm256_setzero_si256());
        }
    }
    #[inline(always)]
    unsafe fn bits_16(&mut self, k: usize, x: __m256i, mask: u16) {
        // SAFETY: as above.
        unsafe {
            let found = _mm256_and_si256(x, _mm256_set1_epi16(mask as i16));
            let none = _mm256_cmpeq_epi16(found, _mm256_setzero_si256());
            let none = _mm_packs_epi16(_mm256_castsi256_si128(none), _mm256_extracti128_si256::<1>(none));
            self.0 |= ((_mm_movemask_epi8(none) as u64 & 0xffff) ^ 0xffff) << (k * 16);
        }
    }
    #[inline(always)]
    unsafe fn bits_64(&mut self, k: usize, x: __m256i, mask: u64) {
        // SAFETY: as above.
        unsafe {
            let found = _mm256_and_si256(x, _mm256_set1_epi64x(mask as i64));
            let none = _mm256_castsi256_pd(_mm256_cmpeq_epi64(found, _mm256_setzero_si256()));
            self.0 |= ((_mm256_movemask_pd(none) as u64 & 0xf) ^ 0xf) << (k * 4);
        }
    }
    #[inline(always)]
    unsafe fn large(&mut self, k: usize, x: __m256, limit: f32) {
        // SAFETY: as above.
        unsafe {
            let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
            self.eight(k, _mm256_cmp_ps::<_CMP_GE_OQ>(magnitude, _mm256_set1_ps(limit)));
        }
    }
    #[inline(always)]
    unsafe fn lanes(&mut self, lanes: u64) {
        self.0 |= lanes;
    }
    #[inline(always)]
    unsafe fn all(self) -> u64 {
        self.0
    }
}

/// Bits that are not 0 if a lane of any vector lost: two equal floats subtract to +0, whose bits are 0, and the difference of any
/// other two, or with a NaN, is not.
#[derive(Clone, Copy)]
pub(super) struct Any {
    any: __m256i,
    /// Of these only some bits count.
    masked: __m256i,
    mask: u32,
    masked_64: __m256i,
    mask_64: u64,
    largest: __m256,
    limit: f32,
    lanes: u64,
}

impl Any {
    #[inline(always)]
    unsafe fn or(&mut self, x: __m256i) {
        // SAFETY: the caller's guarantee.
        self.any = unsafe { _mm256_or_si256(self.any, x) };
    }
}

// SAFETY (of every block): the caller's guarantee.
impl Losses for Any {
    #[inline(always)]
    unsafe fn none() -> Any {
        // SAFETY: as above.
        let (zero, none) = unsafe { (_mm256_setzero_si256(), _mm256_setzero_ps()) };
        Any {
            any: zero,
            masked: zero,
            mask: 0,
            masked_64: zero,
            mask_64: 0,
            largest: none,
            limit: f32::INFINITY,
            lanes: 0,
        }
    }
    #[inline(always)]
    unsafe fn floats(&mut self, _: usize, result: __m256, value: __m256) {
        // The result first: 0 - -0 is +0, but -0 - 0 is -0.
        // SAFETY: as above.
        unsafe { self.or(_mm256_castps_si256(_mm256_sub_ps(result, value))) };
    }
    #[inline(always)]
    unsafe fn doubles(&mut self, _: usize, result: __m256d, value: __m256d) {
        // SAFETY: as above.
        unsafe { self.or(_mm256_castpd_si256(_mm256_sub_pd(result, value))) };
    }
    #[inline(always)]
    unsafe fn integers(&mut self, _: usize, a: __m256i, b: __m256i) {
        // SAFETY: as above.
        unsafe { self.or(_mm256_xor_si256(a, b)) };
    }
    #[inline(always)]
    unsafe fn bits(&mut self, _: usize, x: __m256i, mask: u32) {
        debug_assert!(self.mask == 0 || self.mask == mask);
        self.mask = mask;
        // Masked at last.
        // SAFETY: as above.
        self.masked = unsafe { _mm256_or_si256(self.masked, x) };
    }
    #[inline(always)]
    unsafe fn bits_16(&mut self, k: usize, x: __m256i, mask: u16) {
        // SAFETY: as above.
        unsafe { self.bits(k, x, u32::from(mask) << 16 | u32::from(mask)) };
    }
    #[inline(always)]
    unsafe fn packed_16(&mut self, k: usize, x: __m256i, mask: u16) {
        // In whatever order.
        // SAFETY: as above.
        unsafe { self.bits_16(k, x, mask) };
    }
    #[inline(always)]
    unsafe fn bits_64(&mut self, _: usize, x: __m256i, mask: u64) {
        debug_assert!(self.mask_64 == 0 || self.mask_64 == mask);
        self.mask_64 = mask;
        // SAFETY: as above.
        self.masked_64 = unsafe { _mm256_or_si256(self.masked_64, x) };
    }
    #[inline(always)]
    unsafe fn large(&mut self, _: usize, x: __m256, limit: f32) {
        debug_assert!(self.limit == f32::INFINITY || self.limit == limit);
        self.limit = limit;
        // SAFETY: as above.
        self.largest = unsafe { _mm256_max_ps(self.largest, _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)) };
    }
    #[inline(always)]
    unsafe fn lanes(&mut self, lanes: u64) {
        self.lanes |= lanes;
    }
    #[inline(always)]
    unsafe fn all(self) -> u64 {
        // SAFETY: as above.
        unsafe {
            let masked = _mm256_and_si256(self.masked, _mm256_set1_epi32(self.mask as i32));
            let any = _mm256_or_si256(self.any, masked);
            let masked = _mm256_and_si256(self.masked_64, _mm256_set1_epi64x(self.mask_64 as i64));
            let any = _mm256_or_si256(any, masked);
            let large = _mm256_cmp_ps::<_CMP_GE_OQ>(self.largest, _mm256_set1_ps(self.limit));
            // Infinity is the limit of what has none, and 0 does not reach it.
            let any = _mm256_or_si256(any, _mm256_castps_si256(large));
            u64::from(_mm256_testz_si256(any, any) == 0) | self.lanes
        }
    }
}
