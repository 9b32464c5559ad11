//! The 16-bit floats to `f8_e5m2` with AVX-512 VBMI, in lanes of 16 bits: it is the upper half of an `f16`, so that one
//! becomes it by rounding its bits.
//!
//! A `bf16` goes by way of `f16`, and is not rounded twice: from half the least value of `f8_e5m2` on it has its equal
//! there or is infinite on both ways, and what is nearer to zero becomes zero on both.

use std::arch::x86_64::*;

use super::avx512::{Bf16, Get};
use super::avx512_half::{ToF16, nan};
use crate::copy::find::{Mode, pick};
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::{Body, kernels};

/// The place of `f8_e5m2` in `format::MINI`.
const E5M2: u8 = 5;

kernels!("avx512vbmi,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt");

struct ToE5m2<const FROM_BF16: bool, const SATURATE: bool>;

impl<const FROM_BF16: bool, const SATURATE: bool> ToE5m2<FROM_BF16, SATURATE> {
    /// Of 32 values, as `f16`.
    ///
    /// # Safety
    ///
    /// `src` is readable for 64 bytes, on a machine with the features of [`run`].
    #[inline(always)]
    unsafe fn halves(src: *const u8) -> __m512i {
        // SAFETY: the caller's guarantees; loads take any alignment.
        unsafe {
            if !FROM_BF16 {
                return _mm512_loadu_si512(src.cast());
            }
            let half = |at: usize| ToF16::<false, { nan::CANONICAL }>::convert(Bf16::get(src.add(at)));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(0)), half(32))
        }
    }

    /// Codes in the high byte of each lane.
    ///
    /// # Safety
    ///
    /// The machine has the features of [`run`].
    #[inline(always)]
    unsafe fn encode(half: __m512i) -> __m512i {
        // SAFETY: the caller's guarantee.
        unsafe {
            let constant = |bits: u16| _mm512_set1_epi16(bits as i16);
            let magnitude = _mm512_and_si512(half, constant(0x7fff));
            let sign = _mm512_and_si512(half, constant(0x8000));
            let is_nan = _mm512_cmpgt_epu16_mask(magnitude, constant(0x7c00));
            let inside = if SATURATE { _mm512_min_epu16(magnitude, constant(0x7b00)) } else { magnitude };
            // Half of the last bit that stays, or just below it where that bit is even.
            let odd = _mm512_and_si512(_mm512_srli_epi16::<8>(inside), constant(1));
            let rounded = _mm512_add_epi16(_mm512_add_epi16(inside, constant(0x7f)), odd);
            _mm512_or_si512(_mm512_mask_mov_epi16(rounded, is_nan, constant(0x7e00)), sign)
        }
    }
}

impl<const FROM_BF16: bool, const SATURATE: bool> Body for ToE5m2<FROM_BF16, SATURATE> {
    const N: usize = 64;
    const SRC: usize = 2;
    const DST: usize = 1;
    const MASKS: bool = true;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        const HIGH: [u8; 64] = {
            let mut order = [0; 64];
            let mut i = 0;
            while i < 64 {
                order[i] = 2 * i as u8 + 1;
                i += 1;
            }
            order
        };
        // SAFETY: the caller's guarantees; the order is one vector long, and loads and stores take any alignment.
        unsafe {
            let order = _mm512_loadu_si512(HIGH.as_ptr().cast());
            let (low, high) = (Self::encode(Self::halves(src)), Self::encode(Self::halves(src.add(64))));
            _mm512_storeu_si512(dst.cast(), _mm512_permutex2var_epi8(low, order, high));
        }
        0
    }
}

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    let Mode { checked, saturate } = mode;
    match (from, to) {
        (_, Scalar::Mini(E5M2)) if checked => None,
        (Scalar::F16, Scalar::Mini(E5M2)) => {
            Some(pick(saturate, run::<ToE5m2<false, false>>(), run::<ToE5m2<false, true>>()))
        }
        (Scalar::BF16, Scalar::Mini(E5M2)) => {
            Some(pick(saturate, run::<ToE5m2<true, false>>(), run::<ToE5m2<true, true>>()))
        }
        _ => None,
    }
}
