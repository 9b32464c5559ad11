//! How a step with AVX-512 gathers losses: exactly, or, cheaper, whether there is any.

use std::arch::x86_64::*;

use super::avx512::{Get, Put, vectors};

/// Losses among sixteen lanes.
///
/// # Safety of its functions
///
/// The machine has the features of `avx512::run`.
pub(super) trait Losses: Copy {
    /// Whether what is lost may also be something that is not: it is looked at again then.
    const QUICK: bool = false;
    /// Whether it is to be known which lanes lost, so that no bits may be looked at but those of their own.
    const EACH: bool = false;
    unsafe fn none() -> Self;
    /// Only where [`Losses::QUICK`]: lanes that reach the limit which [`Losses::all`] is told.
    #[inline(always)]
    unsafe fn magnitude(&mut self, _: __m512) {}
    /// Lanes where two floats differ; a NaN differs from everything.
    unsafe fn unequal(&mut self, result: __m512, value: __m512);
    /// The same for a result that never differs by its sign alone, unless both are zero.
    unsafe fn unequal_but_sign(&mut self, result: __m512, value: __m512);
    /// Lanes where two 32-bit integers differ.
    unsafe fn unequal_32(&mut self, a: __m512i, b: __m512i);
    /// Lanes where two 64-bit integers differ.
    unsafe fn unequal_64(&mut self, a: [__m512i; 2], b: [__m512i; 2]);
    /// Lanes where two doubles differ; a NaN differs from everything.
    unsafe fn unequal_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]);
    /// The same for results that never differ by their sign alone, unless both are zero, nor are NaN or infinite.
    unsafe fn unequal_but_sign_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]);
    /// Lanes that have any of these bits: the same ones in every call of a conversion.
    unsafe fn bits(&mut self, x: __m512i, mask: u32);
    /// The same for lanes of 64 bits.
    unsafe fn bits_64(&mut self, x: [__m512i; 2], mask: u64);
    /// Lanes where a 32-bit integer is negative and what it was made of is not.
    unsafe fn overflow(&mut self, result: __m512i, value: __m512);
    unsafe fn lanes(&mut self, lanes: __mmask16);
    /// The losses of four vectors, the first in the lowest bit.
    unsafe fn all(lost: [Self; 4], limit: f32) -> u64;
}

/// A bit a lane.
#[derive(Clone, Copy)]
pub(super) struct Each(__mmask16);

impl Losses for Each {
    const EACH: bool = true;
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
    unsafe fn unequal_but_sign(&mut self, result: __m512, value: __m512) {
        // SAFETY: the caller's guarantee.
        unsafe { self.unequal(result, value) };
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
    unsafe fn unequal_but_sign_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]) {
        // SAFETY: the caller's guarantee.
        unsafe { self.unequal_pd(result, value) };
    }
    #[inline(always)]
    unsafe fn bits(&mut self, x: __m512i, mask: u32) {
        // SAFETY: the caller's guarantee.
        self.0 |= unsafe { _mm512_test_epi32_mask(x, _mm512_set1_epi32(mask as i32)) };
    }
    #[inline(always)]
    unsafe fn overflow(&mut self, result: __m512i, value: __m512) {
        // SAFETY: the caller's guarantee.
        self.0 |= unsafe { _mm512_movepi32_mask(_mm512_andnot_si512(_mm512_castps_si512(value), result)) };
    }
    #[inline(always)]
    unsafe fn bits_64(&mut self, x: [__m512i; 2], mask: u64) {
        // SAFETY: the caller's guarantee.
        unsafe {
            let mask = _mm512_set1_epi64(mask as i64);
            let lanes = super::avx512::masks(_mm512_test_epi64_mask(x[0], mask), _mm512_test_epi64_mask(x[1], mask));
            self.lanes(lanes);
        }
    }
    #[inline(always)]
    unsafe fn lanes(&mut self, lanes: __mmask16) {
        self.0 |= lanes;
    }
    #[inline(always)]
    unsafe fn all(lost: [Each; 4], _: f32) -> u64 {
        lost.iter().rev().fold(0, |all, lost| all << 16 | u64::from(lost.0))
    }
}

/// Bits that are not 0 if a lane of any vector lost.
///
/// Cheaper than comparing, which one port alone can do: two equal floats subtract to +0, whose bits are 0, and the
/// difference of any other two, or with a NaN, is not.
#[derive(Clone, Copy)]
pub(super) struct Gathered<const QUICK: bool> {
    any: __m512i,
    /// Of these only some bits count,
    masked: __m512i,
    mask: u32,
    /// of these only the sign.
    sign: __m512i,
    /// Of these the sign of a lane of 32 bits does not count,
    but_sign: __m512i,
    /// of these that of a lane of 64.
    but_sign_64: __m512i,
    /// The largest bits of an `f32`, without signs.
    largest: __m512i,
}

/// What is lost, exactly.
pub(super) type Any = Gathered<false>;

/// What may be lost.
pub(super) type Quick = Gathered<true>;

impl<const QUICK: bool> Gathered<QUICK> {
    #[inline(always)]
    unsafe fn or(&mut self, x: __m512i) {
        // SAFETY: the caller's guarantee.
        self.any = unsafe { _mm512_or_si512(self.any, x) };
    }
}

// SAFETY (of every block): the caller's guarantee.
impl<const QUICK: bool> Losses for Gathered<QUICK> {
    const QUICK: bool = QUICK;
    #[inline(always)]
    unsafe fn none() -> Self {
        // SAFETY: as above.
        let zero = unsafe { _mm512_setzero_si512() };
        Gathered { any: zero, masked: zero, mask: 0, sign: zero, but_sign: zero, but_sign_64: zero, largest: zero }
    }
    #[inline(always)]
    unsafe fn magnitude(&mut self, x: __m512) {
        // SAFETY: as above.
        unsafe {
            let magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX));
            self.largest = _mm512_max_epu32(self.largest, magnitude);
        }
    }
    #[inline(always)]
    unsafe fn unequal(&mut self, result: __m512, value: __m512) {
        // The result first: 0 - -0 is +0, but -0 - 0 is -0.
        // SAFETY: as above.
        unsafe { self.or(_mm512_castps_si512(_mm512_sub_ps(result, value))) };
    }
    #[inline(always)]
    unsafe fn unequal_but_sign(&mut self, result: __m512, value: __m512) {
        // SAFETY: as above.
        unsafe {
            let differ = _mm512_xor_si512(_mm512_castps_si512(result), _mm512_castps_si512(value));
            self.but_sign = _mm512_or_si512(self.but_sign, differ);
        }
    }
    #[inline(always)]
    unsafe fn unequal_32(&mut self, a: __m512i, b: __m512i) {
        // SAFETY: as above.
        unsafe { self.or(_mm512_xor_si512(a, b)) };
    }
    #[inline(always)]
    unsafe fn unequal_64(&mut self, a: [__m512i; 2], b: [__m512i; 2]) {
        for k in 0..2 {
            // SAFETY: as above.
            unsafe { self.or(_mm512_xor_si512(a[k], b[k])) };
        }
    }
    #[inline(always)]
    unsafe fn unequal_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]) {
        for k in 0..2 {
            // SAFETY: as above.
            unsafe { self.or(_mm512_castpd_si512(_mm512_sub_pd(result[k], value[k]))) };
        }
    }
    #[inline(always)]
    unsafe fn unequal_but_sign_pd(&mut self, result: [__m512d; 2], value: [__m512d; 2]) {
        for k in 0..2 {
            // SAFETY: as above.
            unsafe {
                let differ = _mm512_xor_si512(_mm512_castpd_si512(result[k]), _mm512_castpd_si512(value[k]));
                self.but_sign_64 = _mm512_or_si512(self.but_sign_64, differ);
            }
        }
    }
    #[inline(always)]
    unsafe fn bits(&mut self, x: __m512i, mask: u32) {
        debug_assert!(self.mask == 0 || self.mask == mask);
        self.mask = mask;
        // Masked at last: two vectors are one operation.
        // SAFETY: as above.
        self.masked = unsafe { _mm512_or_si512(self.masked, x) };
    }
    #[inline(always)]
    unsafe fn overflow(&mut self, result: __m512i, value: __m512) {
        // SAFETY: as above.
        self.sign = unsafe { _mm512_or_si512(self.sign, _mm512_andnot_si512(_mm512_castps_si512(value), result)) };
    }
    #[inline(always)]
    unsafe fn bits_64(&mut self, x: [__m512i; 2], mask: u64) {
        for x in x {
            // SAFETY: as above.
            unsafe { self.or(_mm512_and_si512(x, _mm512_set1_epi64(mask as i64))) };
        }
    }
    #[inline(always)]
    unsafe fn lanes(&mut self, lanes: __mmask16) {
        // SAFETY: as above.
        self.any = unsafe { _mm512_mask_mov_epi32(self.any, lanes, _mm512_set1_epi32(-1)) };
    }
    #[inline(always)]
    unsafe fn all(lost: [Self; 4], limit: f32) -> u64 {
        // SAFETY: as above.
        unsafe {
            let join = |part: fn(&Self) -> __m512i| {
                lost[1..].iter().fold(part(&lost[0]), |any, lost| _mm512_or_si512(any, part(lost)))
            };
            let magnitudes = _mm512_set1_epi64(i64::MAX);
            let any =
                _mm512_or_si512(join(|lost| lost.any), _mm512_and_si512(join(|lost| lost.but_sign_64), magnitudes));
            let magnitudes = _mm512_set1_epi32(i32::MAX);
            let any = _mm512_or_si512(any, _mm512_and_si512(join(|lost| lost.but_sign), magnitudes));
            let bits = |part: __m512i, mask: u32| _mm512_and_si512(part, _mm512_set1_epi32(mask as i32));
            let any = _mm512_or_si512(any, bits(join(|lost| lost.masked), lost[0].mask));
            let any = _mm512_or_si512(any, bits(join(|lost| lost.sign), 1 << 31));
            let any = _mm512_test_epi32_mask(any, any);
            if !QUICK {
                return any.into();
            }
            let largest = lost[1..].iter().fold(lost[0].largest, |all, lost| _mm512_max_epu32(all, lost.largest));
            (any | _mm512_cmpge_epu32_mask(largest, _mm512_set1_epi32(limit.to_bits() as i32))).into()
        }
    }
}

/// So many steps, and what they lost together.
///
/// # Safety
///
/// As for as many calls of `Body::step` of `Via`.
#[inline(always)]
pub(super) unsafe fn checked<G: Get, P: Put, L: Losses, const STEPS: usize>(dst: *mut u8, src: *const u8) -> u64 {
    // SAFETY: the caller's guarantees.
    unsafe {
        let mut lost = [L::none(); 4];
        add_checked::<G, P, L, STEPS>(dst, src, &mut lost);
        L::all(lost, P::LIMIT)
    }
}

/// So many steps, which add what they lose.
///
/// Four vectors are read before any is written: of one step where that takes as many, or of up to four. A Zen 4 takes a load for
/// one that needs an earlier store if their addresses have the same low twelve bits, as they do in two large blocks of one
/// allocator, which start one header apart: f32 to i32 in its own cache runs at 69 GB/s, one vector after the other, and at 99 so.
/// More vectors do not fit the registers beside what is gathered: f32 to u8 from memory ran at 11 GB/s with sixteen, and at 30 so.
///
/// # Safety
///
/// As for [`checked`].
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "what iterators over arrays call is not inlined, and intrinsics not into it"
)]
pub(super) unsafe fn add_checked<G: Get, P: Put, L: Losses, const STEPS: usize>(
    dst: *mut u8,
    src: *const u8,
    lost: &mut [L; 4],
) {
    let per_step = vectors(P::SIZE);
    let at_once = (4 / per_step).min(STEPS);
    let mut first = 0;
    while first < STEPS {
        // SAFETY: the caller's guarantees; `STEPS` is 1 or 4, so a multiple of those at once.
        unsafe {
            let mut x = [[_mm512_setzero_ps(); 4]; 4];
            for step in 0..at_once {
                for k in 0..per_step {
                    let at = src.add(((first + step) * per_step + k) * 16 * G::SIZE);
                    x[step][k] = G::checked(at, &mut lost[k]);
                }
            }
            for step in 0..at_once {
                P::checked(dst.add((first + step) * per_step * 16 * P::SIZE), x[step], lost);
            }
        }
        first += at_once;
    }
}
