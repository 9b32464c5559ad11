//! `f32` to the two 16-bit floats with AVX2 and F16C.

use std::arch::x86_64::*;

use super::avx2::{Floats, Put};
use super::avx2_loss::Losses;
use crate::copy::format::{BF16, F16};

/// `x` within the finite range of a type; NaN lanes as they are.
#[inline(always)]
unsafe fn clamp(x: Floats, max: f32) -> Floats {
    // SAFETY: the features of `run`, which every caller has. Both take the second operand where either is NaN.
    unsafe {
        let (min, max) = (_mm256_set1_ps(-max), _mm256_set1_ps(max));
        [_mm256_max_ps(min, _mm256_min_ps(max, x[0])), _mm256_max_ps(min, _mm256_min_ps(max, x[1]))]
    }
}

/// `f16`; a NaN keeps the top of its payload if `PAYLOAD`, else it becomes the canonical one.
pub(super) struct ToF16<const SATURATE: bool, const PAYLOAD: bool>;

impl<const SATURATE: bool, const PAYLOAD: bool> ToF16<SATURATE, PAYLOAD> {
    /// Of a NaN comes some NaN, or where it saturates anything.
    ///
    /// # Safety
    ///
    /// As for [`Put::put`].
    #[inline(always)]
    pub(super) unsafe fn write(dst: *mut u8, x: Floats) {
        // SAFETY: the caller's guarantee; stores take any alignment.
        unsafe {
            let inside = if SATURATE { clamp(x, 65504.0) } else { x };
            _mm_storeu_si128(dst.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(inside[0]));
            _mm_storeu_si128(dst.add(16).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(inside[1]));
        }
    }
}

impl<const SATURATE: bool, const PAYLOAD: bool> Put for ToF16<SATURATE, PAYLOAD> {
    const SIZE: usize = 2;
    const SMALL: bool = true;
    #[inline(always)]
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, x: [Floats; 2], lost: &mut L) {
        // SAFETY: the caller's guarantee.
        unsafe {
            Self::write(dst, x[0]);
            Self::write(dst.add(32), x[1]);
            if CHECKED {
                // Only integers are checked. One is a value of f16 if it is below 2^16 and no bit is set that f16 has no
                // room for.
                for k in 0..4 {
                    let x = x[k / 2][k % 2];
                    lost.bits(k, _mm256_castps_si256(x), 0x1fff);
                    lost.large(k, x, 65_536.0);
                }
            } else if any_nan_in(x) {
                mend(dst, &{ x }, if PAYLOAD { None } else { Some(F16.nan_code() as i32) });
            }
        }
    }
}

/// Whether there is a NaN among both groups.
#[inline(always)]
unsafe fn any_nan_in(x: [Floats; 2]) -> bool {
    // SAFETY: the features of `run`, which every caller has.
    unsafe {
        let first = _mm256_cmp_ps::<_CMP_UNORD_Q>(x[0][0], x[0][1]);
        let second = _mm256_cmp_ps::<_CMP_UNORD_Q>(x[1][0], x[1][1]);
        _mm256_movemask_ps(_mm256_or_ps(first, second)) != 0
    }
}

/// Writes what NaN become: a code with their sign, or in `f16` the top of their payload. A function of its own: in every kernel it
/// took more room than the rest, and registers of the loop. In vectors, because some arrays are full of NaN.
///
/// # Safety
///
/// `dst` holds 32 values that were just written, at any alignment, and is writable for them, on a machine with AVX2.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
unsafe fn mend(dst: *mut u8, x: &[Floats; 2], code: Option<i32>) {
    for (group, x) in x.iter().enumerate() {
        let (mut codes, mut which) = ([_mm256_setzero_si256(); 2], [_mm256_setzero_si256(); 2]);
        for k in 0..2 {
            let bits = _mm256_castps_si256(x[k]);
            let payload = _mm256_and_si256(_mm256_srli_epi32::<13>(bits), _mm256_set1_epi32(0x3ff));
            // What was only in the lower bits must not become infinity.
            let none = _mm256_cmpeq_epi32(payload, _mm256_setzero_si256());
            let payload = _mm256_sub_epi32(_mm256_or_si256(payload, _mm256_set1_epi32(0x7c00)), none);
            let code = code.map_or(payload, |code| _mm256_set1_epi32(code));
            let sign = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(0x8000));
            codes[k] = _mm256_or_si256(code, sign);
            which[k] = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x[k], x[k]));
        }
        let which = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(which[0], which[1]));
        // SAFETY: sixteen of the caller's values; loads and stores take any alignment.
        unsafe {
            let at = dst.add(32 * group);
            _mm256_storeu_si256(at.cast(), _mm256_blendv_epi8(_mm256_loadu_si256(at.cast()), packed(codes), which));
        }
    }
}

/// Sixteen values of 16 bits, of which there is one in each lane of 32.
#[inline(always)]
unsafe fn packed(codes: [__m256i; 2]) -> __m256i {
    // SAFETY: the features of `run`, which every caller has.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(codes[0], codes[1])) }
}

/// Writes sixteen values of 16 bits, one in each lane of 32.
///
/// # Safety
///
/// As for [`Put::put`].
#[inline(always)]
unsafe fn store(dst: *mut u8, codes: [__m256i; 2]) {
    // SAFETY: the caller's guarantee; stores take any alignment.
    unsafe { _mm256_storeu_si256(dst.cast(), packed(codes)) }
}

/// `bf16` of values that all have their equal there, as bytes do: the upper half of the `f32`.
pub(super) struct UpperHalf;

impl Put for UpperHalf {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, x: [Floats; 2], _: &mut L) {
        for (group, x) in x.into_iter().enumerate() {
            // SAFETY: the caller's guarantee.
            unsafe {
                let (low, high) = (_mm256_castps_si256(x[0]), _mm256_castps_si256(x[1]));
                store(dst.add(32 * group), [_mm256_srli_epi32::<16>(low), _mm256_srli_epi32::<16>(high)]);
            }
        }
    }
}

pub(super) struct ToBf16<const SATURATE: bool>;

impl<const SATURATE: bool> Put for ToBf16<SATURATE> {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, x: [Floats; 2], lost: &mut L) {
        for (group, x) in x.into_iter().enumerate() {
            // SAFETY: the caller's guarantee.
            unsafe {
                let inside = if SATURATE { clamp(x, f32::from_bits(0x7f7f_0000)) } else { x };
                let mut codes = [_mm256_setzero_si256(); 2];
                for k in 0..2 {
                    let bits = _mm256_castps_si256(inside[k]);
                    if CHECKED {
                        // What would be rounded is lost.
                        lost.bits(2 * group + k, bits, 0xffff);
                        codes[k] = _mm256_srli_epi32::<16>(bits);
                    } else {
                        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                        let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
                        codes[k] = _mm256_srli_epi32::<16>(rounded);
                    }
                }
                store(dst.add(32 * group), codes);
            }
        }
        // SAFETY: the caller's guarantee.
        unsafe {
            if !CHECKED && any_nan_in(x) {
                mend(dst, &{ x }, Some(BF16.nan_code() as i32));
            }
        }
    }
}
