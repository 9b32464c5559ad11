//! `f32` to the two 16-bit floats with AVX-512.

use std::arch::x86_64::*;

use super::avx512::Put;
use super::avx512_loss::Losses;

/// `x` within the finite range of a type; NaN lanes as they are.
#[inline(always)]
pub(super) unsafe fn clamp(x: __m512, max: f32) -> __m512 {
    // SAFETY: the features of `run`, which every caller has. Both take the second operand where either is NaN.
    unsafe { _mm512_max_ps(_mm512_set1_ps(-max), _mm512_min_ps(_mm512_set1_ps(max), x)) }
}

/// What becomes of a NaN on its way to a 16-bit float.
pub(super) mod nan {
    /// None comes: values are integers of at most 16 bits.
    pub const NEVER: u8 = 0;
    /// None comes: values are integers.
    pub const NEVER_LARGE: u8 = 3;
    /// It becomes the canonical one of its sign.
    pub const CANONICAL: u8 = 1;
    /// It keeps the top of its payload.
    pub const PAYLOAD: u8 = 2;
}

pub(super) struct ToF16<const SATURATE: bool, const NAN: u8>;

impl<const SATURATE: bool, const NAN: u8> ToF16<SATURATE, NAN> {
    /// Of a NaN comes some NaN.
    #[inline(always)]
    pub(super) unsafe fn convert(x: __m512) -> __m256i {
        // SAFETY: the features of `run`, which every caller has.
        unsafe { _mm512_cvtps_ph::<_MM_FROUND_NO_EXC>(if SATURATE { clamp(x, 65504.0) } else { x }) }
    }

    /// Two vectors, of which some lane is NaN.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
    unsafe fn mend(dst: *mut u8, x: [__m512; 2]) {
        for (k, &x) in x.iter().enumerate() {
            // SAFETY: the caller's guarantee, as for `put`.
            unsafe {
                let bits = _mm512_castps_si512(x);
                let sign = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(0x8000));
                let payload = if NAN == nan::CANONICAL {
                    _mm512_set1_epi32(0x0200)
                } else {
                    let top = _mm512_and_si512(_mm512_srli_epi32::<13>(bits), _mm512_set1_epi32(0x03ff));
                    _mm512_max_epu32(top, _mm512_set1_epi32(1))
                };
                let code = _mm512_or_si512(_mm512_or_si512(sign, payload), _mm512_set1_epi32(0x7c00));
                let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                let code = _mm256_mask_mov_epi16(Self::convert(x), is_nan, _mm512_cvtepi32_epi16(code));
                _mm256_storeu_si256(dst.add(k * 32).cast(), code);
            }
        }
    }
}

impl<const SATURATE: bool, const NAN: u8> Put for ToF16<SATURATE, NAN> {
    const SIZE: usize = 2;
    const LIMIT: f32 = 65_536.0;
    const QUICK: bool = NAN == nan::NEVER_LARGE;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: [__m512; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe {
            _mm256_storeu_si256(dst.cast(), Self::convert(x[0]));
            _mm256_storeu_si256(dst.add(32).cast(), Self::convert(x[1]));
            let finite = NAN == nan::NEVER || NAN == nan::NEVER_LARGE;
            // Either is a NaN.
            if !finite && _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x[0], x[1]) != 0 {
                Self::mend(dst, [x[0], x[1]]);
            }
        }
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(dst: *mut u8, x: [__m512; 4], lost: &mut [L; 4]) {
        for (k, &x) in x[..2].iter().enumerate() {
            // SAFETY: the caller's guarantee.
            unsafe {
                let h = Self::convert(x);
                _mm256_storeu_si256(dst.add(k * 32).cast(), h);
                // Only integers are checked. One is a value of f16 if it is below 2^16 and no bit is set that f16 has no
                // room for.
                let bits = _mm512_castps_si512(x);
                lost[k].bits(bits, 0x1fff);
                if NAN == nan::NEVER_LARGE && !L::QUICK {
                    let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(i32::MAX));
                    let limit = _mm512_set1_epi32(Self::LIMIT.to_bits() as i32);
                    lost[k].lanes(_mm512_cmpge_epu32_mask(magnitude, limit));
                }
            }
        }
    }
}

/// What becomes of values on their way to `bf16`.
pub(super) mod round {
    /// All are values of it.
    pub const EXACT: u8 = 0;
    /// To nearest even; there is no NaN.
    pub const FINITE: u8 = 1;
    /// To nearest even; a NaN becomes the canonical one of its sign.
    pub const ALL: u8 = 2;
    /// As `ALL`, and overflow and infinities become the largest finite value.
    pub const SATURATE: u8 = 3;
}

pub(super) struct ToBf16<const ROUND: u8>;

impl<const ROUND: u8> ToBf16<ROUND> {
    /// In the high half of each lane; what is in the low one does not matter.
    #[inline(always)]
    unsafe fn convert(x: __m512) -> __m512i {
        // SAFETY: the features of `run`, which every caller has.
        unsafe {
            let bits =
                _mm512_castps_si512(if ROUND == round::SATURATE { clamp(x, f32::from_bits(0x7f7f_0000)) } else { x });
            if ROUND == round::EXACT {
                return bits;
            }
            // Half of the last bit that stays, or just below it where that bit is even.
            let odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(1 << 16));
            let half = _mm512_mask_mov_epi32(_mm512_set1_epi32(0x7fff), odd, _mm512_set1_epi32(0x8000));
            _mm512_add_epi32(bits, half)
        }
    }

    #[inline(always)]
    unsafe fn both(x: [__m512; 4]) -> [__m512i; 2] {
        // SAFETY: the features of `run`, which every caller has.
        unsafe {
            let mut codes = [Self::convert(x[0]), Self::convert(x[1])];
            if ROUND == round::EXACT || ROUND == round::FINITE {
                return codes;
            }
            let is_nan =
                [_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x[0], x[0]), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x[1], x[1])];
            if is_nan[0] | is_nan[1] != 0 {
                for k in 0..2 {
                    let sign = _mm512_and_si512(_mm512_castps_si512(x[k]), _mm512_set1_epi32(i32::MIN));
                    codes[k] = _mm512_mask_or_epi32(codes[k], is_nan[k], sign, _mm512_set1_epi32(0x7fc0_0000));
                }
            }
            codes
        }
    }
}

impl<const ROUND: u8> Put for ToBf16<ROUND> {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: [__m512; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe { high_halves(dst, Self::both(x)) };
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(dst: *mut u8, x: [__m512; 4], lost: &mut [L; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe {
            let codes = Self::both(x);
            high_halves(dst, codes);
            for k in 0..2 {
                // Only integers are checked, and none is beyond the range.
                lost[k].bits(_mm512_castps_si512(x[k]), 0xffff);
            }
        }
    }
}

/// Stores the upper half of each lane.
///
/// # Safety
///
/// `dst` is writable for 64 bytes, on a machine with the features of [`run`].
#[inline(always)]
unsafe fn high_halves(dst: *mut u8, x: [__m512i; 2]) {
    const ODD: [u16; 32] = {
        let mut odd = [0; 32];
        let mut i = 0;
        while i < 32 {
            odd[i] = 2 * i as u16 + 1;
            i += 1;
        }
        odd
    };
    // SAFETY: the caller's guarantee; the table is one vector long.
    unsafe {
        let order = _mm512_loadu_si512(ODD.as_ptr().cast());
        _mm512_storeu_si512(dst.cast(), _mm512_permutex2var_epi16(x[0], order, x[1]));
    }
}
