//! Integers to narrower ones with AVX2.
//!
//! Where losses are checked, what has no equal is lost, so that packing needs no care for it: integers are cut or saturated, whichever
//! is an instruction. Where they are to be saturated, the compiler does as well (`ops`), but for those of 64 bits, for which there is
//! no such instruction: they are looked at as where losses are checked, and saturated where one does not fit.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2_loss::{Any, Gather, Losses, Step};
use crate::copy::kernel::Kernel;
use crate::copy::vector::kernels;

kernels!("avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt");

/// An integer type.
trait Int {
    const SIZE: usize;
    const MIN: i128;
    const MAX: i128;
}

macro_rules! int {
    ($($t:ident)*) => { $(impl Int for $t {
        const SIZE: usize = size_of::<$t>();
        const MIN: i128 = $t::MIN as i128;
        const MAX: i128 = $t::MAX as i128;
    })* };
}
int!(i8 u8 i16 u16 i32 u32 i64 u64);

/// From one type to a narrower one: as many values as fill a vector of the target.
struct Narrow<S, D>(PhantomData<(S, D)>);

impl<S: Int, D: Int> Narrow<S, D> {
    /// The least value that both types have, and the largest,
    const LO: i128 = if S::MIN > D::MIN { S::MIN } else { D::MIN };
    const HI: i128 = if S::MAX < D::MAX { S::MAX } else { D::MAX };
    /// and the bits that are 0 in every one above the least that both have: there are 2^k of them.
    const BEYOND: u64 = !((Self::HI - Self::LO) as u64) & (u64::MAX >> (64 - 8 * S::SIZE));

    /// Values of vector `k` that are not above the least, or too far.
    #[inline(always)]
    unsafe fn look<L: Losses>(k: usize, x: __m256i, lost: &mut L) {
        // SAFETY: the caller's machine has AVX2.
        unsafe {
            match S::SIZE {
                2 => {
                    let least = _mm256_set1_epi16(Self::LO as i16);
                    lost.bits_16(k, if Self::LO == 0 { x } else { _mm256_sub_epi16(x, least) }, Self::BEYOND as u16);
                }
                4 => {
                    let least = _mm256_set1_epi32(Self::LO as i32);
                    lost.bits(k, if Self::LO == 0 { x } else { _mm256_sub_epi32(x, least) }, Self::BEYOND as u32);
                }
                _ => {
                    let least = _mm256_set1_epi64x(Self::LO as i64);
                    lost.bits_64(k, if Self::LO == 0 { x } else { _mm256_sub_epi64(x, least) }, Self::BEYOND);
                }
            }
        }
    }
}

/// The low halves of values of 64 bits.
///
/// # Safety
///
/// The machine has AVX2.
#[inline(always)]
unsafe fn low(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let both = _mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
        _mm256_castps_si256(both)
    }
}

/// Integers of 16 bits, on their way to `D`: signed ones hold every byte.
///
/// # Safety
///
/// The machine has AVX2.
#[inline(always)]
unsafe fn words<D: Int>(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the caller's guarantee.
    unsafe { if D::MIN < 0 || D::SIZE == 1 { _mm256_packs_epi32(a, b) } else { _mm256_packus_epi32(a, b) } }
}

/// # Safety
///
/// The machine has AVX2.
#[inline(always)]
unsafe fn bytes<D: Int>(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the caller's guarantee.
    unsafe { if D::MIN < 0 { _mm256_packs_epi16(a, b) } else { _mm256_packus_epi16(a, b) } }
}

/// One vector of integers that fit their type out of two, four or eight of wider ones.
///
/// Packing works within the halves of a vector: pieces come out in the order of a turned matrix of two columns.
///
/// # Safety
///
/// `dst` is writable for 32 bytes, at any alignment, on a machine with AVX2.
#[inline(always)]
unsafe fn pack<S: Int, D: Int>(dst: *mut u8, x: [__m256i; 8]) {
    // SAFETY: the caller's guarantees.
    unsafe {
        let turn = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let packed = match (S::SIZE, D::SIZE) {
            (2, 1) => _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes::<D>(x[0], x[1])),
            (4, 2) => _mm256_permute4x64_epi64::<0b11_01_10_00>(words::<D>(x[0], x[1])),
            (8, 4) => _mm256_permute4x64_epi64::<0b11_01_10_00>(low(x[0], x[1])),
            (4, 1) => {
                let halves = (words::<D>(x[0], x[1]), words::<D>(x[2], x[3]));
                _mm256_permutevar8x32_epi32(bytes::<D>(halves.0, halves.1), turn)
            }
            (8, 2) => _mm256_permutevar8x32_epi32(words::<D>(low(x[0], x[1]), low(x[2], x[3])), turn),
            _ => {
                let first = words::<D>(low(x[0], x[1]), low(x[2], x[3]));
                let second = words::<D>(low(x[4], x[5]), low(x[6], x[7]));
                let pairs = bytes::<D>(first, second);
                let (low, high) = (_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
                _mm256_set_m128i(_mm_unpackhi_epi16(low, high), _mm_unpacklo_epi16(low, high))
            }
        };
        _mm256_storeu_si256(dst.cast(), packed);
    }
}

impl<S: Int, D: Int> Step for Narrow<S, D> {
    const N: usize = 32 / D::SIZE;
    const SRC: usize = S::SIZE;
    const DST: usize = D::SIZE;
    const CHECKED: bool = true;
    #[inline(always)]
    unsafe fn step<L: Losses>(dst: *mut u8, src: *const u8, lost: &mut L) {
        // SAFETY: the caller's guarantees; loads take any alignment.
        unsafe {
            let mut x = [_mm256_setzero_si256(); 8];
            for (k, x) in x[..S::SIZE / D::SIZE].iter_mut().enumerate() {
                *x = _mm256_loadu_si256(src.add(k * 32).cast());
                Self::look(k, *x, lost);
            }
            pack::<S, D>(dst, x);
        }
    }
}

/// From a type of 64 bits to a narrower one, saturated.
struct Saturate<S, D>(PhantomData<(S, D)>);

impl<S: Int, D: Int> Step for Saturate<S, D> {
    const N: usize = 32 / D::SIZE;
    const SRC: usize = 8;
    const DST: usize = D::SIZE;
    const CHECKED: bool = false;
    #[inline(always)]
    unsafe fn step<L: Losses>(dst: *mut u8, src: *const u8, _: &mut L) {
        const { assert!(S::SIZE == 8) };
        // SAFETY: the caller's guarantees; loads take any alignment.
        unsafe {
            let (mut x, mut beyond) = ([_mm256_setzero_si256(); 8], Any::none());
            for (k, x) in x[..8 / D::SIZE].iter_mut().enumerate() {
                *x = _mm256_loadu_si256(src.add(k * 32).cast());
                Narrow::<S, D>::look(k, *x, &mut beyond);
            }
            if beyond.all() != 0 {
                x = saturated::<S, D>(&{ x });
            }
            pack::<S, D>(dst, x);
        }
    }
}

/// A function of its own: most loops never need it.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
fn saturated<S: Int, D: Int>(x: &[__m256i; 8]) -> [__m256i; 8] {
    // Integers without a sign are compared as those with one that are as far from the least.
    let shift = _mm256_set1_epi64x(if S::MIN == 0 { i64::MIN } else { 0 });
    let (lo, hi) = (_mm256_set1_epi64x(Narrow::<S, D>::LO as i64), _mm256_set1_epi64x(Narrow::<S, D>::HI as i64));
    let mut inside = *x;
    for inside in &mut inside[..8 / D::SIZE] {
        let over = _mm256_cmpgt_epi64(_mm256_xor_si256(*inside, shift), _mm256_xor_si256(hi, shift));
        let under = _mm256_cmpgt_epi64(_mm256_xor_si256(lo, shift), _mm256_xor_si256(*inside, shift));
        *inside = _mm256_blendv_epi8(_mm256_blendv_epi8(*inside, hi, over), lo, under);
    }
    inside
}

/// The kernel from an integer type of 64 bits to a narrower one, saturated.
pub(super) fn saturating(signed: bool, to: (bool, u8)) -> Option<Kernel> {
    fn from<S: Int>(to: (bool, u8)) -> Option<Kernel> {
        Some(match to {
            (true, 8) => run::<Gather<Saturate<S, i8>>>(),
            (false, 8) => run::<Gather<Saturate<S, u8>>>(),
            (true, 16) => run::<Gather<Saturate<S, i16>>>(),
            (false, 16) => run::<Gather<Saturate<S, u16>>>(),
            (true, 32) => run::<Gather<Saturate<S, i32>>>(),
            (false, 32) => run::<Gather<Saturate<S, u32>>>(),
            _ => return None,
        })
    }
    if signed { from::<i64>(to) } else { from::<u64>(to) }
}

/// The kernel from one integer type to a narrower one, where losses are checked.
pub(super) fn direct(from: (bool, u8), to: (bool, u8)) -> Option<Kernel> {
    Some(match from {
        (true, 16) => from_2::<i16>(to)?,
        (false, 16) => from_2::<u16>(to)?,
        (true, 32) => from_4::<i32>(to)?,
        (false, 32) => from_4::<u32>(to)?,
        (true, 64) => from_8::<i64>(to)?,
        (false, 64) => from_8::<u64>(to)?,
        _ => return None,
    })
}

fn from_2<S: Int>(to: (bool, u8)) -> Option<Kernel> {
    Some(match to {
        (true, 8) => run::<Gather<Narrow<S, i8>>>(),
        (false, 8) => run::<Gather<Narrow<S, u8>>>(),
        _ => return None,
    })
}

fn from_4<S: Int>(to: (bool, u8)) -> Option<Kernel> {
    Some(match to {
        (true, 16) => run::<Gather<Narrow<S, i16>>>(),
        (false, 16) => run::<Gather<Narrow<S, u16>>>(),
        _ => return from_2::<S>(to),
    })
}

fn from_8<S: Int>(to: (bool, u8)) -> Option<Kernel> {
    Some(match to {
        (true, 32) => run::<Gather<Narrow<S, i32>>>(),
        (false, 32) => run::<Gather<Narrow<S, u32>>>(),
        _ => return from_4::<S>(to),
    })
}
