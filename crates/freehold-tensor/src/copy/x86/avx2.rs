//! Sixteen values at a time with AVX2 and F16C: read as `f32`, written as another type.
//!
//! As `avx512`, for the conversions that the compiler does not vectorise. What AVX2 lacks, 64-bit integers to floats
//! and back, is done by adding a power of two where all values are small, and one by one where they are not.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2_double::{Exact, F64ToF16, FromLong, Widen};
use super::avx2_half::{ToBf16, ToF16, UpperHalf};
use super::avx2_int::{FromF64, Integer, To};
use super::avx2_loss::{Gather, Losses, Step};
use super::avx2_narrow;
use crate::copy::find::{Mode, pick};
use crate::copy::format;
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::kernels;

kernels!("avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt");

/// Two vectors of eight.
pub(super) type Floats = [__m256; 2];

/// A type that is read as sixteen `f32`.
///
/// # Safety of its functions
///
/// `src` is readable for sixteen values, at any alignment, on a machine with the features of [`run`].
pub(super) trait Get {
    const SIZE: usize;
    /// Rounded to nearest even where an integer has no equal; which is a loss if `CHECKED`, of the sixteen lanes of a step that `at`
    /// counts.
    unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, at: usize, lost: &mut L) -> Floats;
}

/// Groups of sixteen values of a step that writes values of so many bytes: as many as fill a vector, so that those of a byte are packed
/// at once. Both are read before either is written: a processor takes a load for one that needs an earlier store if their addresses
/// have the same low twelve bits, as they do in two large blocks of one allocator.
pub(super) const fn groups(size: usize) -> usize {
    if size <= 2 { 2 } else { 1 }
}

/// A type that `f32` are written as, one or two [`groups`] of sixteen.
///
/// # Safety of its functions
///
/// `dst` is writable for as many values, at any alignment, on a machine with the features of [`run`].
pub(super) trait Put {
    const SIZE: usize;
    /// Whether every integer that is rounded to an `f32` is a loss here anyway, as it is beyond all values of the type.
    const SMALL: bool = false;
    /// What has no equal is a loss if `CHECKED`, and anything may be written for it then.
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, x: [Floats; 2], lost: &mut L);
}

/// From one type to another by way of `f32`.
pub(super) struct Via<G, P, const CHECKED: bool>(PhantomData<(G, P)>);

impl<G: Get, P: Put, const CHECKED: bool> Step for Via<G, P, CHECKED> {
    const N: usize = 16 * groups(P::SIZE);
    const SRC: usize = G::SIZE;
    const DST: usize = P::SIZE;
    const CHECKED: bool = CHECKED;
    #[inline(always)]
    unsafe fn step<L: Losses>(dst: *mut u8, src: *const u8, lost: &mut L) {
        // SAFETY: the caller's guarantees.
        unsafe {
            let mut x = [[_mm256_setzero_ps(); 2]; 2];
            for (at, x) in x[..groups(P::SIZE)].iter_mut().enumerate() {
                let src = src.add(16 * at * G::SIZE);
                *x = if P::SMALL { G::get::<L, false>(src, at, lost) } else { G::get::<L, CHECKED>(src, at, lost) };
            }
            P::put::<L, CHECKED>(dst, x, lost);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn any_nan(x: Floats) -> bool {
    // SAFETY: the features of `run`, which every caller has.
    unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(x[0], x[1])) != 0 }
}

/// The lanes of both vectors in memory.
#[inline(always)]
pub(super) unsafe fn spill(x: Floats) -> [f32; 16] {
    let mut lanes = [0.0; 16];
    // SAFETY: sixteen floats hold two vectors; the features of `run`, which every caller has.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), x[0]);
        _mm256_storeu_ps(lanes.as_mut_ptr().add(8), x[1]);
    }
    lanes
}

/// # Safety
///
/// `src` is readable for sixteen values, at any alignment, on a machine with the features of [`run`].
#[inline(always)]
unsafe fn load(src: *const u8) -> Floats {
    // SAFETY: the caller's guarantee.
    unsafe { [_mm256_loadu_ps(src.cast()), _mm256_loadu_ps(src.add(32).cast())] }
}

macro_rules! small_int {
    ($($name:ident $size:literal $widen:ident;)*) => { $(
        struct $name;
        impl Get for $name {
            const SIZE: usize = $size;
            #[inline(always)]
            unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, _: usize, _: &mut L) -> Floats {
                // SAFETY: the caller's guarantee: sixteen values of one or two bytes; every load takes any alignment.
                unsafe {
                    let [low, high] = if $size == 1 {
                        let all = _mm_loadu_si128(src.cast());
                        [all, _mm_unpackhi_epi64(all, all)]
                    } else {
                        [_mm_loadu_si128(src.cast()), _mm_loadu_si128(src.add(16 * ($size - 1)).cast())]
                    };
                    [_mm256_cvtepi32_ps($widen(low)), _mm256_cvtepi32_ps($widen(high))]
                }
            }
        }
    )* };
}
small_int! {
    I8 1 _mm256_cvtepi8_epi32;
    U8 1 _mm256_cvtepu8_epi32;
    I16 2 _mm256_cvtepi16_epi32;
    U16 2 _mm256_cvtepu16_epi32;
}

struct I32;

impl Get for I32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, at: usize, lost: &mut L) -> Floats {
        // SAFETY: the caller's guarantee; loads take any alignment.
        unsafe {
            let x = [_mm256_loadu_si256(src.cast()), _mm256_loadu_si256(src.add(32).cast())];
            let y = [_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])];
            if CHECKED {
                // 2^31, which MAX rounds to, converts back to MIN.
                lost.integers(2 * at, _mm256_cvttps_epi32(y[0]), x[0]);
                lost.integers(2 * at + 1, _mm256_cvttps_epi32(y[1]), x[1]);
            }
            y
        }
    }
}

struct U32;

impl Get for U32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, at: usize, lost: &mut L) -> Floats {
        // SAFETY: the caller's guarantee; loads take any alignment.
        unsafe {
            let mut y = [_mm256_setzero_ps(); 2];
            for (k, y) in y.iter_mut().enumerate() {
                let x = _mm256_loadu_si256(src.add(k * 32).cast());
                // Each half is the mantissa of a float of known exponent; one addition rounds their sum.
                let low = _mm256_blend_epi16::<0b1010_1010>(x, _mm256_set1_epi32(0x4b00_0000));
                let high = _mm256_or_si256(_mm256_srli_epi32::<16>(x), _mm256_set1_epi32(0x5300_0000));
                const BOTH: f32 = 549_755_813_888.0 + 8_388_608.0; // 2^39 + 2^23
                let high = _mm256_sub_ps(_mm256_castsi256_ps(high), _mm256_set1_ps(BOTH));
                *y = _mm256_add_ps(high, _mm256_castsi256_ps(low));
                if CHECKED {
                    // The difference is exact: what was added, unless the sum was rounded.
                    lost.floats(2 * at + k, _mm256_sub_ps(*y, high), _mm256_castsi256_ps(low));
                }
            }
            y
        }
    }
}

/// Below this, an integer is the mantissa of an `f64`.
const SMALL: i64 = 1 << 51;

/// 1.5 x 2^52: added to an integer below [`SMALL`], it makes that the low bits of its mantissa.
pub(super) const MAGIC: f64 = 6_755_399_441_055_744.0;

macro_rules! long {
    ($($name:ident $t:ident;)*) => { $(
        struct $name;
        impl Get for $name {
            const SIZE: usize = 8;
            #[inline(always)]
            unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, at: usize, lost: &mut L) -> Floats {
                // SAFETY: the caller's guarantee; loads take any alignment.
                unsafe {
                    let (mut x, mut beyond) = ([_mm256_setzero_si256(); 4], _mm256_setzero_si256());
                    let from = _mm256_set1_epi64x(if $t::MIN == 0 { 0 } else { SMALL });
                    for k in 0..4 {
                        x[k] = _mm256_loadu_si256(src.add(k * 32).cast());
                        beyond = _mm256_or_si256(beyond, _mm256_add_epi64(x[k], from));
                    }
                    let room = if $t::MIN == 0 { SMALL } else { 2 * SMALL };
                    if _mm256_testz_si256(beyond, _mm256_set1_epi64x(!(room - 1))) == 0 {
                        let (y, found) = $name::one_by_one(src);
                        if CHECKED {
                            lost.lanes(found << (16 * at));
                        }
                        return y;
                    }
                    let mut y = [_mm_setzero_ps(); 4];
                    for k in 0..4 {
                        let sum = _mm256_add_epi64(x[k], _mm256_set1_epi64x(MAGIC.to_bits() as i64));
                        let exact = _mm256_sub_pd(_mm256_castsi256_pd(sum), _mm256_set1_pd(MAGIC));
                        y[k] = _mm256_cvtpd_ps(exact);
                        if CHECKED {
                            // What an f32 has no room for.
                            lost.bits_64(4 * at + k, _mm256_castpd_si256(exact), (1 << 29) - 1);
                        }
                    }
                    [_mm256_set_m128(y[1], y[0]), _mm256_set_m128(y[3], y[2])]
                }
            }
        }

        impl $name {
            /// # Safety
            ///
            /// As for [`Get::get`].
            #[inline(never)]
            unsafe fn one_by_one(src: *const u8) -> (Floats, u64) {
                let (mut y, mut lost) = ([0f32; 16], 0);
                for (i, y) in y.iter_mut().enumerate() {
                    // SAFETY: value `i` of sixteen, at any alignment.
                    let x = unsafe { src.cast::<$t>().add(i).read_unaligned() };
                    *y = x as f32;
                    // Wide enough for 2^64, which MAX rounds to.
                    lost |= u64::from(*y as i128 != i128::from(x)) << i;
                }
                // SAFETY: sixteen floats.
                (unsafe { load(y.as_ptr().cast()) }, lost)
            }
        }
    )* };
}
long! { I64 i64; U64 u64; }

/// `f16`, of which a NaN comes out quiet unless `EXACT`.
pub(super) struct F16<const EXACT: bool>;

impl<const EXACT: bool> Get for F16<EXACT> {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, _: usize, _: &mut L) -> Floats {
        // SAFETY: the caller's guarantee; loads take any alignment.
        unsafe {
            let low = _mm256_cvtph_ps(_mm_loadu_si128(src.cast()));
            let x = [low, _mm256_cvtph_ps(_mm_loadu_si128(src.add(16).cast()))];
            if EXACT && any_nan(x) {
                let mut exact = [0.0; 16];
                exact_f16(&mut exact, src);
                return load(exact.as_ptr().cast());
            }
            x
        }
    }
}

/// Sixteen values, some of which are NaN.
///
/// # Safety
///
/// `src` is readable for sixteen values, at any alignment.
#[cold]
#[inline(never)]
unsafe fn exact_f16(values: &mut [f32; 16], src: *const u8) {
    for (i, value) in values.iter_mut().enumerate() {
        // SAFETY: one of the caller's values.
        *value = format::f16_to_f32(unsafe { src.cast::<u16>().add(i).read_unaligned() });
    }
}

pub(super) struct Bf16;

impl Get for Bf16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, _: usize, _: &mut L) -> Floats {
        // SAFETY: the caller's guarantee; loads take any alignment.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(src.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(src.add(16).cast()));
            let (low, high) = (_mm256_slli_epi32::<16>(low), _mm256_slli_epi32::<16>(high));
            [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
        }
    }
}

impl Exact for F16<false> {
    const OF: fn(u16) -> f64 = format::f16_to_f64;
}

impl Exact for Bf16 {
    const OF: fn(u16) -> f64 = |x| f64::from(format::bf16_to_f32(x));
}

pub(super) struct F32;

impl Get for F32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, _: usize, _: &mut L) -> Floats {
        // SAFETY: the caller's guarantee.
        unsafe { load(src) }
    }
}

struct F64;

impl Get for F64 {
    const SIZE: usize = 8;
    #[inline(always)]
    unsafe fn get<L: Losses, const CHECKED: bool>(src: *const u8, _: usize, _: &mut L) -> Floats {
        // SAFETY: the caller's guarantee; loads take any alignment.
        unsafe {
            let mut y = [_mm_setzero_ps(); 4];
            for (k, y) in y.iter_mut().enumerate() {
                *y = _mm256_cvtpd_ps(_mm256_loadu_pd(src.add(k * 32).cast()));
            }
            [_mm256_set_m128(y[1], y[0]), _mm256_set_m128(y[3], y[2])]
        }
    }
}

struct ToF32;

impl Put for ToF32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, [x, _]: [Floats; 2], _: &mut L) {
        // SAFETY: the caller's guarantee; stores take any alignment.
        unsafe {
            _mm256_storeu_ps(dst.cast(), x[0]);
            _mm256_storeu_ps(dst.add(32).cast(), x[1]);
        }
    }
}

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    use Scalar::{BF16 as Bfloat, F16 as Half, F32 as Single, F64 as Double, Int};
    let Mode { checked, saturate } = mode;
    Some(match (from, to) {
        (Double, Half) => pick(saturate, run::<F64ToF16<false>>(), run::<F64ToF16<true>>()),
        (Bfloat, Half) => pick(
            saturate,
            run::<Gather<Via<Bf16, ToF16<false, false>, false>>>(),
            run::<Gather<Via<Bf16, ToF16<true, false>, false>>>(),
        ),
        (Half, Single) => run::<Gather<Via<F16<true>, ToF32, false>>>(),
        (Half, Double) => run::<Widen<F16<false>>>(),
        (Bfloat, Double) => run::<Widen<Bf16>>(),
        (Int(signed, 64), Double) => match (signed, checked) {
            (true, false) => run::<Gather<FromLong<true, false>>>(),
            (true, true) => run::<Gather<FromLong<true, true>>>(),
            (false, false) => run::<Gather<FromLong<false, false>>>(),
            (false, true) => run::<Gather<FromLong<false, true>>>(),
        },
        (Int(signed, bits), Int(to_signed, to_bits)) if checked => {
            return avx2_narrow::direct((signed, bits), (to_signed, to_bits));
        }
        (Int(signed, 64), Int(to_signed, to_bits)) => {
            return avx2_narrow::saturating(signed, (to_signed, to_bits));
        }
        (Single, Half | Bfloat) => to_half::<F32>(to, mode),
        (Half, Bfloat) => to_half::<F16<false>>(to, mode),
        (Double, Bfloat) => to_half::<F64>(to, mode),
        (Int(true, 8), Bfloat) => run::<Gather<Via<I8, UpperHalf, false>>>(),
        (Int(false, 8), Bfloat) => run::<Gather<Via<U8, UpperHalf, false>>>(),
        (Int(signed, bits), Half | Bfloat) => {
            by_integer!(signed, bits, to_half: I8 I16 I32 I64 U8 U16 U32 U64, (to, mode))
        }
        (Int(true, 32), Single) => {
            pick(checked, run::<Gather<Via<I32, ToF32, false>>>(), run::<Gather<Via<I32, ToF32, true>>>())
        }
        (Int(false, 32), Single) => {
            pick(checked, run::<Gather<Via<U32, ToF32, false>>>(), run::<Gather<Via<U32, ToF32, true>>>())
        }
        (Int(true, 64), Single) => {
            pick(checked, run::<Gather<Via<I64, ToF32, false>>>(), run::<Gather<Via<I64, ToF32, true>>>())
        }
        (Int(false, 64), Single) => {
            pick(checked, run::<Gather<Via<U64, ToF32, false>>>(), run::<Gather<Via<U64, ToF32, true>>>())
        }
        (Single | Half | Bfloat | Double, Int(signed, bits)) => {
            by_integer!(signed, bits, to_int: i8 i16 i32 i64 u8 u16 u32 u64, (from, checked))
        }
        _ => return None,
    })
}

fn to_half<G: Get>(to: Scalar, mode: Mode) -> Kernel {
    match (to == Scalar::F16, mode) {
        (true, Mode { checked: true, .. }) => run::<Gather<Via<G, ToF16<false, true>, true>>>(),
        (true, Mode { saturate: true, .. }) => run::<Gather<Via<G, ToF16<true, true>, false>>>(),
        (true, _) => run::<Gather<Via<G, ToF16<false, true>, false>>>(),
        (false, Mode { checked: true, .. }) => run::<Gather<Via<G, ToBf16<false>, true>>>(),
        (false, Mode { saturate: true, .. }) => run::<Gather<Via<G, ToBf16<true>, false>>>(),
        (false, _) => run::<Gather<Via<G, ToBf16<false>, false>>>(),
    }
}

fn to_int<I: Integer>(from: Scalar, checked: bool) -> Kernel {
    match from {
        Scalar::F64 => pick(checked, run::<Gather<FromF64<I, false>>>(), run::<Gather<FromF64<I, true>>>()),
        Scalar::F16 => {
            pick(checked, run::<Gather<Via<F16<false>, To<I>, false>>>(), run::<Gather<Via<F16<false>, To<I>, true>>>())
        }
        Scalar::BF16 => {
            pick(checked, run::<Gather<Via<Bf16, To<I>, false>>>(), run::<Gather<Via<Bf16, To<I>, true>>>())
        }
        _ => pick(checked, run::<Gather<Via<F32, To<I>, false>>>(), run::<Gather<Via<F32, To<I>, true>>>()),
    }
}
