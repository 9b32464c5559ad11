//! Sixteen values at a time with AVX-512: read as `f32` (or `f64`), written as another type.
//!
//! The values are those of `format` and `ops`, bit for bit. Where the processor differs, by the quiet bit and the
//! payload of a NaN, one comparison a step finds out, and a rare branch mends the lanes.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512_int::{FromF64, Integer, To};
use crate::copy::find::Mode;
use crate::copy::kernel::{Kernel, Op, Prim};
use crate::copy::kind::Scalar;
use crate::copy::ops;
use crate::copy::vector::{Body, drive};

/// # Safety
///
/// As for [`Kernel`], on a machine that has these features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn run<B: Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees; bodies of this module need no other features.
    unsafe { drive::<B>(dst, src, n) }
}

/// A type that is read as sixteen `f32`.
///
/// # Safety of its functions
///
/// `src` is readable for sixteen values, at any alignment, on a machine with the features of [`run`].
trait Get {
    const SIZE: usize;
    /// Rounded to nearest even where an integer has no equal.
    unsafe fn get(src: *const u8) -> __m512;
    /// Also which lanes have no equal.
    #[inline(always)]
    unsafe fn checked(src: *const u8) -> (__m512, __mmask16) {
        // SAFETY: the caller's guarantee.
        (unsafe { Self::get(src) }, 0)
    }
}

/// A type that sixteen `f32` are written as.
///
/// # Safety of its functions
///
/// `dst` is writable for sixteen values, at any alignment, on a machine with the features of [`run`].
pub(super) trait Put {
    const SIZE: usize;
    unsafe fn put(dst: *mut u8, x: __m512);
    /// Also which lanes have no equal.
    unsafe fn checked(dst: *mut u8, x: __m512) -> __mmask16;
}

/// From one type to another by way of `f32`.
struct Via<G, P, const CHECKED: bool>(PhantomData<(G, P)>);

impl<G: Get, P: Put, const CHECKED: bool> Body for Via<G, P, CHECKED> {
    const N: usize = 16;
    const SRC: usize = G::SIZE;
    const DST: usize = P::SIZE;
    #[inline(always)]
    unsafe fn step(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe {
            if CHECKED {
                let (x, lost) = G::checked(src);
                (lost | P::checked(dst, x)).into()
            } else {
                P::put(dst, G::get(src));
                0
            }
        }
    }
}

macro_rules! get {
    ($($(#[$doc:meta])* $name:ident $size:literal $src:ident $get:expr $(, $checked:expr)?;)*) => { $(
        $(#[$doc])*
        struct $name;
        impl Get for $name {
            const SIZE: usize = $size;
            #[inline(always)]
            unsafe fn get($src: *const u8) -> __m512 {
                // SAFETY: the caller's guarantee; every load takes any alignment.
                unsafe { $get }
            }
            $(#[inline(always)]
            unsafe fn checked($src: *const u8) -> (__m512, __mmask16) {
                // SAFETY: the caller's guarantee; every load takes any alignment.
                unsafe { $checked }
            })?
        }
    )* };
}

get! {
    I8 1 src _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(src.cast())));
    U8 1 src _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(src.cast())));
    I16 2 src _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(src.cast())));
    U16 2 src _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(src.cast())));
    I32 4 src _mm512_cvtepi32_ps(_mm512_loadu_si512(src.cast())), {
        let x = _mm512_loadu_si512(src.cast());
        let y = _mm512_cvtepi32_ps(x);
        // 2^31, which MAX rounds to, converts back to MIN.
        (y, _mm512_cmpneq_epi32_mask(_mm512_cvttps_epi32(y), x))
    };
    U32 4 src _mm512_cvtepu32_ps(_mm512_loadu_si512(src.cast())), {
        let x = _mm512_loadu_si512(src.cast());
        let y = _mm512_cvtepu32_ps(x);
        // 2^32, which MAX rounds to, converts back to MAX.
        let max = _mm512_cmpeq_epi32_mask(x, _mm512_set1_epi32(-1));
        (y, _mm512_cmpneq_epi32_mask(_mm512_cvttps_epu32(y), x) | max)
    };
    I64 8 src {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        join(_mm512_cvtepi64_ps(a), _mm512_cvtepi64_ps(b))
    }, {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        let (x, y) = (_mm512_cvtepi64_ps(a), _mm512_cvtepi64_ps(b));
        let low = _mm512_cmpneq_epi64_mask(_mm512_cvttps_epi64(x), a);
        let high = _mm512_cmpneq_epi64_mask(_mm512_cvttps_epi64(y), b);
        (join(x, y), masks(low, high))
    };
    U64 8 src {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        join(_mm512_cvtepu64_ps(a), _mm512_cvtepu64_ps(b))
    }, {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        let (x, y) = (_mm512_cvtepu64_ps(a), _mm512_cvtepu64_ps(b));
        let max = _mm512_set1_epi64(-1);
        let low = _mm512_cmpneq_epi64_mask(_mm512_cvttps_epu64(x), a) | _mm512_cmpeq_epi64_mask(a, max);
        let high = _mm512_cmpneq_epi64_mask(_mm512_cvttps_epu64(y), b) | _mm512_cmpeq_epi64_mask(b, max);
        (join(x, y), masks(low, high))
    };
    /// A NaN comes out quiet.
    F16Quiet 2 src _mm512_cvtph_ps(_mm256_loadu_si256(src.cast()));
    Bf16 2 src _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(src.cast()))));
    F32 4 src _mm512_loadu_ps(src.cast());
    F64 8 src join(_mm512_cvtpd_ps(_mm512_loadu_pd(src.cast())), _mm512_cvtpd_ps(_mm512_loadu_pd(src.add(64).cast())));
}

/// `f16`, of which a signalling NaN stays one.
struct F16;

impl Get for F16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn get(src: *const u8) -> __m512 {
        // SAFETY: the caller's guarantee; the load takes any alignment.
        unsafe {
            let h = _mm256_loadu_si256(src.cast());
            let x = _mm512_cvtph_ps(h);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            if nan == 0 {
                return x;
            }
            let wide = _mm512_cvtepu16_epi32(h);
            let sign = _mm512_slli_epi32::<16>(_mm512_and_si512(wide, _mm512_set1_epi32(0x8000)));
            let payload = _mm512_slli_epi32::<13>(_mm512_and_si512(wide, _mm512_set1_epi32(0x03ff)));
            let bits = _mm512_or_si512(_mm512_or_si512(sign, payload), _mm512_set1_epi32(0x7f80_0000));
            _mm512_mask_mov_ps(x, nan, _mm512_castsi512_ps(bits))
        }
    }
}

#[inline(always)]
unsafe fn join(low: __m256, high: __m256) -> __m512 {
    // SAFETY: the features of `run`, which every caller has.
    unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high) }
}

#[inline(always)]
pub(super) unsafe fn halves(x: __m512) -> (__m256, __m256) {
    // SAFETY: the features of `run`, which every caller has.
    unsafe { (_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)) }
}

#[inline(always)]
pub(super) fn masks(low: __mmask8, high: __mmask8) -> __mmask16 {
    u16::from(low) | u16::from(high) << 8
}

/// `x` within the finite range of a type; NaN lanes as they are.
#[inline(always)]
unsafe fn clamp(x: __m512, max: f32) -> __m512 {
    // SAFETY: the features of `run`, which every caller has. Both take the second operand where either is NaN.
    unsafe { _mm512_max_ps(_mm512_set1_ps(-max), _mm512_min_ps(_mm512_set1_ps(max), x)) }
}

/// What becomes of a NaN on its way to a 16-bit float.
mod nan {
    /// None comes.
    pub const NEVER: u8 = 0;
    /// It becomes the canonical one of its sign.
    pub const CANONICAL: u8 = 1;
    /// It keeps the top of its payload.
    pub const PAYLOAD: u8 = 2;
}

struct ToF16<const SATURATE: bool, const NAN: u8>;

impl<const SATURATE: bool, const NAN: u8> ToF16<SATURATE, NAN> {
    #[inline(always)]
    unsafe fn convert(x: __m512) -> __m256i {
        // SAFETY: the features of `run`, which every caller has.
        unsafe {
            let h = _mm512_cvtps_ph::<_MM_FROUND_NO_EXC>(if SATURATE { clamp(x, 65504.0) } else { x });
            if NAN == nan::NEVER {
                return h;
            }
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            if is_nan == 0 {
                return h;
            }
            let bits = _mm512_castps_si512(x);
            let sign = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(0x8000));
            let payload = if NAN == nan::CANONICAL {
                _mm512_set1_epi32(0x0200)
            } else {
                let top = _mm512_and_si512(_mm512_srli_epi32::<13>(bits), _mm512_set1_epi32(0x03ff));
                _mm512_max_epu32(top, _mm512_set1_epi32(1))
            };
            let code = _mm512_or_si512(_mm512_or_si512(sign, payload), _mm512_set1_epi32(0x7c00));
            _mm256_mask_mov_epi16(h, is_nan, _mm512_cvtepi32_epi16(code))
        }
    }
}

impl<const SATURATE: bool, const NAN: u8> Put for ToF16<SATURATE, NAN> {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: __m512) {
        // SAFETY: the caller's guarantee.
        unsafe { _mm256_storeu_si256(dst.cast(), Self::convert(x)) };
    }
    #[inline(always)]
    unsafe fn checked(dst: *mut u8, x: __m512) -> __mmask16 {
        // SAFETY: the caller's guarantee.
        unsafe {
            let h = Self::convert(x);
            _mm256_storeu_si256(dst.cast(), h);
            _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_cvtph_ps(h), x)
        }
    }
}

struct ToBf16<const SATURATE: bool, const NAN: u8>;

impl<const SATURATE: bool, const NAN: u8> ToBf16<SATURATE, NAN> {
    /// In the low half of each lane.
    #[inline(always)]
    unsafe fn convert(x: __m512) -> __m512i {
        // SAFETY: the features of `run`, which every caller has.
        unsafe {
            let bits = _mm512_castps_si512(if SATURATE { clamp(x, f32::from_bits(0x7f7f_0000)) } else { x });
            let high = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let code = _mm512_srli_epi32::<16>(rounded);
            if NAN == nan::NEVER {
                return code;
            }
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            if is_nan == 0 {
                return code;
            }
            let sign = _mm512_and_si512(high, _mm512_set1_epi32(0x8000));
            _mm512_mask_or_epi32(code, is_nan, sign, _mm512_set1_epi32(0x7fc0))
        }
    }
}

impl<const SATURATE: bool, const NAN: u8> Put for ToBf16<SATURATE, NAN> {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: __m512) {
        // SAFETY: the caller's guarantee.
        unsafe { _mm256_storeu_si256(dst.cast(), _mm512_cvtepi32_epi16(Self::convert(x))) };
    }
    #[inline(always)]
    unsafe fn checked(dst: *mut u8, x: __m512) -> __mmask16 {
        // SAFETY: the caller's guarantee.
        unsafe {
            let code = Self::convert(x);
            _mm256_storeu_si256(dst.cast(), _mm512_cvtepi32_epi16(code));
            _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(code)), x)
        }
    }
}

struct ToF32;

impl Put for ToF32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: __m512) {
        // SAFETY: the caller's guarantee.
        unsafe { _mm512_storeu_ps(dst.cast(), x) };
    }
    #[inline(always)]
    unsafe fn checked(dst: *mut u8, x: __m512) -> __mmask16 {
        // SAFETY: the caller's guarantee.
        unsafe { Self::put(dst, x) };
        0
    }
}

struct ToF64;

impl Put for ToF64 {
    const SIZE: usize = 8;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: __m512) {
        // SAFETY: the caller's guarantee.
        unsafe {
            let (low, high) = halves(x);
            _mm512_storeu_pd(dst.cast(), _mm512_cvtps_pd(low));
            _mm512_storeu_pd(dst.add(64).cast(), _mm512_cvtps_pd(high));
        }
    }
    #[inline(always)]
    unsafe fn checked(dst: *mut u8, x: __m512) -> __mmask16 {
        // SAFETY: the caller's guarantee.
        unsafe { Self::put(dst, x) };
        0
    }
}

/// `f64` to `f16`, rounded once: first to `f32` toward zero with a bit that says "and more", which the second
/// rounding then sees. A NaN keeps the top of its payload.
struct F64ToF16<const SATURATE: bool>;

impl<const SATURATE: bool> Body for F64ToF16<SATURATE> {
    const N: usize = 16;
    const SRC: usize = 8;
    const DST: usize = 2;
    #[inline(always)]
    unsafe fn step(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let x = [_mm512_loadu_pd(src.cast()), _mm512_loadu_pd(src.add(64).cast())];
            let odd = |x: __m512d| {
                let y = _mm512_cvt_roundpd_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x);
                let inexact = _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(_mm512_cvtps_pd(y), x);
                let bits = _mm256_castps_si256(y);
                _mm256_castsi256_ps(_mm256_mask_or_epi32(bits, inexact, bits, _mm256_set1_epi32(1)))
            };
            ToF16::<SATURATE, { nan::NEVER }>::put(dst, join(odd(x[0]), odd(x[1])));
            if _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(x[0], x[0]) | _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(x[1], x[1]) != 0 {
                each::<ops::F64ToF16<SATURATE>>(dst, src);
            }
            0
        }
    }
}

/// `f16` to `f64`; a NaN keeps its payload and whether it signals.
struct F16ToF64;

impl Body for F16ToF64 {
    const N: usize = 16;
    const SRC: usize = 2;
    const DST: usize = 8;
    #[inline(always)]
    unsafe fn step(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let x = F16Quiet::get(src);
            ToF64::put(dst, x);
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x) != 0 {
                each::<ops::F16ToF64>(dst, src);
            }
            0
        }
    }
}

/// The values of one step, one by one.
///
/// # Safety
///
/// As for [`Body::step`], of sixteen values.
#[cold]
#[inline(never)]
unsafe fn each<O: Op>(dst: *mut u8, src: *const u8) {
    for i in 0..16 {
        // SAFETY: value `i` of sixteen, at any alignment.
        unsafe {
            let value = O::Src::get(src.cast::<<O::Src as Prim>::Bytes>().add(i).read_unaligned());
            dst.cast::<<O::Dst as Prim>::Bytes>().add(i).write_unaligned(O::convert(value).put());
        }
    }
}

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    use Scalar::{BF16, F16 as Half, F32 as Single, F64 as Double, Int};
    let Mode { checked, saturate } = mode;
    Some(match (from, to) {
        (Single, Half) => to_f16::<F32, { nan::PAYLOAD }>(mode),
        (BF16, Half) => to_f16::<Bf16, { nan::CANONICAL }>(mode),
        (Double, Half) => pick(saturate, run::<F64ToF16<false>>, run::<F64ToF16<true>>),
        (Single, BF16) => to_bf16::<F32, { nan::CANONICAL }>(mode),
        (Half, BF16) => to_bf16::<F16Quiet, { nan::CANONICAL }>(mode),
        (Double, BF16) => to_bf16::<F64, { nan::CANONICAL }>(mode),
        (Int(signed, bits), Half | BF16) => {
            let half = to == Half;
            match (signed, bits) {
                (true, 8) => from_int::<I8>(half, mode),
                (true, 16) => from_int::<I16>(half, mode),
                (true, 32) => from_int::<I32>(half, mode),
                (true, 64) => from_int::<I64>(half, mode),
                (false, 8) => from_int::<U8>(half, mode),
                (false, 16) => from_int::<U16>(half, mode),
                (false, 32) => from_int::<U32>(half, mode),
                (false, 64) => from_int::<U64>(half, mode),
                _ => return None,
            }
        }
        (Half, Single) => run::<Via<F16, ToF32, false>>,
        (Half, Double) => run::<F16ToF64>,
        (BF16, Single) => run::<Via<Bf16, ToF32, false>>,
        (BF16, Double) => run::<Via<Bf16, ToF64, false>>,
        (Single | Half | BF16 | Double, Int(signed, bits)) => match (signed, bits) {
            (true, 8) => to_int::<i8>(from, checked),
            (true, 16) => to_int::<i16>(from, checked),
            (true, 32) => to_int::<i32>(from, checked),
            (true, 64) => to_int::<i64>(from, checked),
            (false, 8) => to_int::<u8>(from, checked),
            (false, 16) => to_int::<u16>(from, checked),
            (false, 32) => to_int::<u32>(from, checked),
            (false, 64) => to_int::<u64>(from, checked),
            _ => return None,
        },
        _ => return None,
    })
}

fn pick(second: bool, a: Kernel, b: Kernel) -> Kernel {
    if second { b } else { a }
}

fn to_f16<G: Get, const NAN: u8>(mode: Mode) -> Kernel {
    match mode {
        Mode { checked: true, .. } => run::<Via<G, ToF16<false, NAN>, true>>,
        Mode { saturate: true, .. } => run::<Via<G, ToF16<true, NAN>, false>>,
        _ => run::<Via<G, ToF16<false, NAN>, false>>,
    }
}

fn to_bf16<G: Get, const NAN: u8>(mode: Mode) -> Kernel {
    match mode {
        Mode { checked: true, .. } => run::<Via<G, ToBf16<false, NAN>, true>>,
        Mode { saturate: true, .. } => run::<Via<G, ToBf16<true, NAN>, false>>,
        _ => run::<Via<G, ToBf16<false, NAN>, false>>,
    }
}

fn from_int<G: Get>(half: bool, mode: Mode) -> Kernel {
    if half { to_f16::<G, { nan::NEVER }>(mode) } else { to_bf16::<G, { nan::NEVER }>(mode) }
}

fn to_int<I: Integer>(from: Scalar, checked: bool) -> Kernel {
    match from {
        Scalar::F64 => pick(checked, run::<FromF64<I, false>>, run::<FromF64<I, true>>),
        Scalar::F16 => pick(checked, run::<Via<F16Quiet, To<I>, false>>, run::<Via<F16Quiet, To<I>, true>>),
        Scalar::BF16 => pick(checked, run::<Via<Bf16, To<I>, false>>, run::<Via<Bf16, To<I>, true>>),
        _ => pick(checked, run::<Via<F32, To<I>, false>>, run::<Via<F32, To<I>, true>>),
    }
}
