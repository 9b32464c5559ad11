//! To `bf16` with the instruction of AVX-512 BF16. It rounds as `format` does, but for NaN and for subnormal `f32`, which
//! it takes as zero: vectors that have one go the way of `avx512_half`.

use std::arch::x86_64::*;

use super::avx512::{F16Quiet, F32, F64, Get, I16, I32, I64, Put, U16, U32, U64, Via};
use super::avx512_half::{ToBf16, clamp, round};
use super::avx512_loss::Losses;
use crate::copy::find::{Mode, pick};
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::kernels;

kernels!("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt");

struct Native<const ROUND: u8>;

impl<const ROUND: u8> Native<ROUND> {
    /// # Safety
    ///
    /// As for [`Put::put`].
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
    unsafe fn mend(dst: *mut u8, x: [__m512; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe { ToBf16::<ROUND>::put(dst, x) };
    }
}

impl<const ROUND: u8> Put for Native<ROUND> {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: [__m512; 4]) {
        // SAFETY: the caller's guarantee, on a machine with the features of `run`; the store takes any alignment, and
        // both types are 64 bytes for which all bits are values.
        unsafe {
            let inside = |x: __m512| if ROUND == round::SATURATE { clamp(x, f32::from_bits(0x7f7f_0000)) } else { x };
            let codes = _mm512_cvtne2ps_pbh(inside(x[1]), inside(x[0]));
            _mm512_storeu_si512(dst.cast(), std::mem::transmute::<__m512bh, __m512i>(codes));
            const NAN_OR_SUBNORMAL: i32 = 0x01 | 0x80 | 0x20;
            if ROUND != round::FINITE
                && _mm512_fpclass_ps_mask::<NAN_OR_SUBNORMAL>(x[0]) | _mm512_fpclass_ps_mask::<NAN_OR_SUBNORMAL>(x[1])
                    != 0
            {
                // An array of its own, written only here: a call takes it in memory, and `x` would go there for every step.
                let both = [x[0], x[1], _mm512_setzero_ps(), _mm512_setzero_ps()];
                Self::mend(dst, both);
            }
        }
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(dst: *mut u8, x: [__m512; 4], lost: &mut [L; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe {
            Self::put(dst, x);
            for k in 0..2 {
                // Only integers are checked, and none is beyond the range.
                lost[k].bits(_mm512_castps_si512(x[k]), 0xffff);
            }
        }
    }
}

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    if to != Scalar::BF16 || !is_x86_feature_detected!("avx512bf16") {
        return None;
    }
    Some(match from {
        Scalar::F32 => from_float::<F32>(mode),
        Scalar::F16 => from_float::<F16Quiet>(mode),
        Scalar::F64 => from_float::<F64>(mode),
        Scalar::Int(true, 16) => from_int::<I16>(mode),
        Scalar::Int(true, 32) => from_int::<I32>(mode),
        Scalar::Int(true, 64) => from_int::<I64>(mode),
        Scalar::Int(false, 16) => from_int::<U16>(mode),
        Scalar::Int(false, 32) => from_int::<U32>(mode),
        Scalar::Int(false, 64) => from_int::<U64>(mode),
        _ => return None,
    })
}

fn from_float<G: Get>(mode: Mode) -> Kernel {
    let Mode { saturate, .. } = mode;
    pick(saturate, run::<Via<G, Native<{ round::ALL }>, false>>(), run::<Via<G, Native<{ round::SATURATE }>, false>>())
}

fn from_int<G: Get>(mode: Mode) -> Kernel {
    // No integer overflows.
    pick(
        mode.checked,
        run::<Via<G, Native<{ round::FINITE }>, false>>(),
        run::<Via<G, Native<{ round::FINITE }>, true>>(),
    )
}
