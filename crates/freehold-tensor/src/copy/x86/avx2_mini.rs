//! Floats to those of eight bits with AVX2, by way of `f32`: 32 values at a time, bit for bit as `Format::encode` does. How it rounds is
//! told in `avx512_mini`.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2::{Bf16, F16, F32, Floats, Get, spill};
use super::avx2_loss::{Any, Losses};
use super::mini::Numbers;
use crate::copy::find::{Mode, pick};
use crate::copy::format::{Format, MINI, Specials};
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::{Body, kernels};

kernels!("avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt");

/// Codes of one vector, each in a lane of 32 bits. Of a NaN comes one where that is beyond the largest code, else anything.
///
/// # Safety
///
/// The machine has the features of [`run`].
#[inline(always)]
unsafe fn encode<const F: usize, const SATURATE: bool>(x: __m256) -> __m256i {
    type N<const F: usize, const SATURATE: bool> = Numbers<F, SATURATE>;
    let (drop, least) = (const { N::<F, SATURATE>::DROP }, const { N::<F, SATURATE>::LEAST });
    let format = const { MINI[F] };
    // SAFETY: the caller's guarantee.
    unsafe {
        let bits = _mm256_castps_si256(x);
        let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(i32::MAX));
        let most = const { N::<F, SATURATE>::MOST };
        let magnitude = _mm256_min_epu32(magnitude, _mm256_set1_epi32(most as i32));
        let exponent = _mm256_max_epu32(magnitude, _mm256_set1_epi32((least << 23) as i32));
        let exponent = _mm256_and_si256(exponent, _mm256_set1_epi32(0xff << 23));
        let power = _mm256_add_epi32(exponent, _mm256_set1_epi32((drop << 23) as i32));
        let sum = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_castsi256_ps(power));
        let mantissa = _mm256_sub_epi32(_mm256_castps_si256(sum), power);
        // The mantissa has the bit that a normal value does not store, so exponents count from 0.
        let above = _mm256_srl_epi32(exponent, _mm_cvtsi32_si128(drop as i32));
        let surplus = _mm256_set1_epi32((least << format.man_bits) as i32);
        let code = _mm256_add_epi32(mantissa, _mm256_sub_epi32(above, surplus));
        let sign = _mm256_and_si256(_mm256_srli_epi32::<24>(bits), _mm256_set1_epi32(0x80));
        // No negative zero where its code is NaN.
        let sign = if matches!(format.specials, Specials::Fnuz) {
            _mm256_andnot_si256(_mm256_cmpeq_epi32(code, _mm256_setzero_si256()), sign)
        } else {
            sign
        };
        _mm256_or_si256(code, sign)
    }
}

/// The codes of all NaN among 32 values: one function for all kernels, of which it would be a third.
///
/// # Safety
///
/// `dst` is writable for 32 bytes.
#[cold]
#[inline(never)]
unsafe fn mend(dst: *mut u8, x: [[f32; 16]; 2], format: &Format, saturate: bool) {
    for (i, x) in x.into_iter().flatten().enumerate().filter(|(_, x)| x.is_nan()) {
        // SAFETY: a byte of the caller's 32.
        unsafe { dst.add(i).write(format.encode(x, saturate) as u8) };
    }
}

struct ToMini<G, const F: usize, const SATURATE: bool>(PhantomData<G>);

impl<G: Get, const F: usize, const SATURATE: bool> Body for ToMini<G, F, SATURATE> {
    const N: usize = 32;
    const SRC: usize = G::SIZE;
    const DST: usize = 1;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; stores take any alignment.
        unsafe {
            let a: Floats = G::get::<Any, false>(src, 0, &mut Any::none());
            let b: Floats = G::get::<Any, false>(src.add(16 * G::SIZE), 1, &mut Any::none());
            let first = _mm256_packus_epi32(encode::<F, SATURATE>(a[0]), encode::<F, SATURATE>(a[1]));
            let second = _mm256_packus_epi32(encode::<F, SATURATE>(b[0]), encode::<F, SATURATE>(b[1]));
            // Packing works within halves: groups of four come out in the order of a turned 4 x 2 matrix.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let codes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order);
            _mm256_storeu_si256(dst.cast(), codes);
            if !(const { Numbers::<F, SATURATE>::NAN_IS_BEYOND }) {
                let nan =
                    _mm256_or_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(a[0], a[1]), _mm256_cmp_ps::<_CMP_UNORD_Q>(b[0], b[1]));
                if _mm256_movemask_ps(nan) != 0 {
                    mend(dst, [spill(a), spill(b)], const { &MINI[F] }, SATURATE);
                }
            }
        }
        0
    }
}

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    let Scalar::Mini(format) = to else { return None };
    if mode.checked {
        return None;
    }
    // Those of eight bits but e8m0, which rounds otherwise.
    by_format!(format, from_float: 0 1 2 3 4 5 6, (from, mode))
}

fn from_float<const F: usize>(from: Scalar, mode: Mode) -> Option<Kernel> {
    let Mode { saturate, .. } = mode;
    Some(match from {
        Scalar::F32 => pick(saturate, run::<ToMini<F32, F, false>>(), run::<ToMini<F32, F, true>>()),
        Scalar::F16 => pick(saturate, run::<ToMini<F16<false>, F, false>>(), run::<ToMini<F16<false>, F, true>>()),
        Scalar::BF16 => pick(saturate, run::<ToMini<Bf16, F, false>>(), run::<ToMini<Bf16, F, true>>()),
        _ => return None,
    })
}
