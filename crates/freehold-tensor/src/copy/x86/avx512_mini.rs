//! Wide floats to the byte-sized float formats with AVX-512 VBMI, by way of `f32`: 64 values at a time, bit for bit as
//! `Format::encode` does.
//!
//! A value is rounded by adding the power of two whose last bit is that of the result: its own exponent's for what
//! becomes normal, the least one's for what becomes subnormal. What the sum has above that power is the mantissa.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512::{F32, F64, Get};
use super::mini::Numbers;
use crate::copy::find::{Mode, pick};
use crate::copy::format::{MINI, Specials};
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::{Body, kernels};

kernels!("avx2,bmi1,bmi2,popcnt,lzcnt");

/// Byte `FROM` of every lane of two vectors, in the low half.
const fn bytes(from: u8) -> [u8; 64] {
    let mut order = [0; 64];
    let mut i = 0;
    while i < 64 {
        order[i] = (i % 32 * 4) as u8 + from;
        i += 1;
    }
    order
}

/// # Safety
///
/// The machine has the features of [`convert`].
#[inline(always)]
unsafe fn narrow(x: [__m512i; 4], order: &[u8; 64]) -> __m512i {
    // SAFETY: the caller's guarantee; the order is one vector long.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        let (low, high) = (_mm512_permutex2var_epi8(x[0], order, x[1]), _mm512_permutex2var_epi8(x[2], order, x[3]));
        _mm512_inserti64x4::<1>(low, _mm512_castsi512_si256(high))
    }
}

/// Codes of one vector, without signs, in the low byte of each lane.
///
/// # Safety
///
/// The machine has the features of [`convert`].
#[inline(always)]
unsafe fn encode<const F: usize, const SATURATE: bool>(x: __m512) -> __m512i {
    type N<const F: usize, const SATURATE: bool> = Numbers<F, SATURATE>;
    let (drop, least) = (const { N::<F, SATURATE>::DROP }, const { N::<F, SATURATE>::LEAST });
    // SAFETY: the caller's guarantee.
    unsafe {
        let constant = |bits: u32| _mm512_set1_epi32(bits as i32);
        let magnitude = _mm512_and_si512(_mm512_castps_si512(x), constant(i32::MAX as u32));
        let magnitude = _mm512_min_epu32(magnitude, constant(N::<F, SATURATE>::MOST));
        let exponent = _mm512_and_si512(_mm512_max_epu32(magnitude, constant(least << 23)), constant(0xff << 23));
        let power = _mm512_add_epi32(exponent, constant(drop << 23));
        let sum = _mm512_add_ps(_mm512_castsi512_ps(magnitude), _mm512_castsi512_ps(power));
        let mantissa = _mm512_sub_epi32(_mm512_castps_si512(sum), power);
        // The mantissa has the bit that a normal value does not store, so exponents count from 0. What this is too large
        // by is taken off where it has room in no byte.
        let above = _mm512_srl_epi32(exponent, _mm_cvtsi32_si128(drop as i32));
        _mm512_add_epi32(mantissa, above)
    }
}

/// 64 values.
///
/// A function of its own, or its code would be in every kernel several times.
///
/// # Safety
///
/// As for [`Body::step`] of [`ToMini`], on a machine that has these features.
#[inline(never)]
#[target_feature(
    enable = "avx512vbmi,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn convert<G: Get, const F: usize, const SATURATE: bool>(dst: *mut u8, src: *const u8) {
    let format = const { MINI[F] };
    // SAFETY: the caller's guarantees; loads and stores take any alignment.
    unsafe {
        let get = |k: usize| G::get(src.add(k * 16 * G::SIZE));
        let x = [get(0), get(1), get(2), get(3)];
        let code = |x: __m512| encode::<F, SATURATE>(x);
        let codes = narrow([code(x[0]), code(x[1]), code(x[2]), code(x[3])], const { &bytes(0) });
        let surplus = (const { Numbers::<F, SATURATE>::LEAST }) << format.man_bits;
        let codes = _mm512_sub_epi8(codes, _mm512_set1_epi8(surplus as i8));
        let signs = _mm512_movepi8_mask(narrow(x.map(|x| _mm512_castps_si512(x)), const { &bytes(3) }));
        // No negative zero where its code is NaN.
        let fnuz = matches!(format.specials, Specials::Fnuz);
        let signs = if fnuz { signs & _mm512_test_epi8_mask(codes, codes) } else { signs };
        let signed = _mm512_or_si512(codes, _mm512_maskz_mov_epi8(signs, _mm512_set1_epi8(format.sign_bit() as i8)));
        _mm512_storeu_si512(dst.cast(), signed);
        if !(const { Numbers::<F, SATURATE>::NAN_IS_BEYOND })
            && _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x[0], x[1]) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x[2], x[3]) != 0
        {
            mend::<G, F, SATURATE>(dst, src);
        }
    }
}

/// The codes of all NaN among 64 values: read again, since a call takes vectors in memory, where they would go for every step.
///
/// # Safety
///
/// As for [`convert`].
#[cold]
#[inline(never)]
#[target_feature(
    enable = "avx512vbmi,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn mend<G: Get, const F: usize, const SATURATE: bool>(dst: *mut u8, src: *const u8) {
    for k in 0..4 {
        // SAFETY: sixteen of the caller's values; all bits of vectors are values of floats.
        let x: [f32; 16] = unsafe { std::mem::transmute(G::get(src.add(k * 16 * G::SIZE))) };
        for (i, x) in x.into_iter().enumerate().filter(|(_, x)| x.is_nan()) {
            // SAFETY: a byte of the caller's 64.
            unsafe { dst.add(k * 16 + i).write(MINI[F].encode(x, SATURATE) as u8) };
        }
    }
}

struct ToMini<G, const F: usize, const SATURATE: bool>(PhantomData<G>);

impl<G: Get, const F: usize, const SATURATE: bool> Body for ToMini<G, F, SATURATE> {
    const N: usize = 64;
    const SRC: usize = G::SIZE;
    const DST: usize = 1;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { convert::<G, F, SATURATE>(dst, src) };
        0
    }
}

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    let Scalar::Mini(format) = to else { return None };
    if mode.checked {
        return None;
    }
    // All but e8m0, which rounds otherwise.
    by_format!(format, from_float: 0 1 2 3 4 5 6 8 9 10, (from, mode))
}

fn from_float<const F: usize>(from: Scalar, mode: Mode) -> Option<Kernel> {
    let Mode { saturate, .. } = mode;
    Some(match from {
        Scalar::F32 => pick(saturate, run::<ToMini<F32, F, false>>(), run::<ToMini<F32, F, true>>()),
        Scalar::F64 => pick(saturate, run::<ToMini<F64, F, false>>(), run::<ToMini<F64, F, true>>()),
        _ => return None,
    })
}
