//! Sixteen values at a time with AVX-512: read as `f32` (or `f64`), written as another type.
//!
//! The values are those of `format` and `ops`, bit for bit. Where the processor differs, by the quiet bit and the
//! payload of a NaN, one comparison a step finds out, and a rare branch mends the lanes.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512_half::{ToBf16, ToF16, nan, round};
use super::avx512_int::{FromF64, Integer, To};
use super::avx512_loss::{Any, Each, Losses, Quick};
use crate::copy::find::{Mode, pick};
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
pub(super) trait Get {
    const SIZE: usize;
    /// Rounded to nearest even where an integer has no equal.
    unsafe fn get(src: *const u8) -> __m512;
    /// Also tells which lanes have no equal.
    #[inline(always)]
    unsafe fn checked<L: Losses>(src: *const u8, _lost: &mut L) -> __m512 {
        // SAFETY: the caller's guarantee.
        unsafe { Self::get(src) }
    }
}

/// A type that `f32` are written as: 64 bytes at once, so 64, 32 or 16 values.
///
/// # Safety of its functions
///
/// `dst` is writable for as many values, at any alignment, on a machine with the features of [`run`]. As many vectors
/// of `x` are looked at as hold them.
pub(super) trait Put {
    const SIZE: usize;
    /// Integers nearer to zero than this are `f32`, and in the range of the type.
    const LIMIT: f32 = 16_777_216.0;
    unsafe fn put(dst: *mut u8, x: [__m512; 4]);
    /// Also tells which lanes have no equal.
    unsafe fn checked<L: Losses>(dst: *mut u8, x: [__m512; 4], lost: &mut [L; 4]);
}

/// Vectors that fill 64 bytes of a type of `size` bytes, or one where that fills more.
pub(super) const fn vectors(size: usize) -> usize {
    if size >= 4 { 1 } else { 4 / size }
}

/// From one type to another by way of `f32`.
pub(super) struct Via<G, P, const CHECKED: bool>(PhantomData<(G, P)>);

impl<G: Get, P: Put, const CHECKED: bool> Body for Via<G, P, CHECKED> {
    const N: usize = 16 * vectors(P::SIZE);
    const SRC: usize = G::SIZE;
    const DST: usize = P::SIZE;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { if COUNT { via::<G, P, Each, CHECKED, 1>(dst, src) } else { via::<G, P, Any, CHECKED, 1>(dst, src) } }
    }
    #[inline(always)]
    unsafe fn four(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; one step after the other.
        unsafe {
            if via::<G, P, Quick, CHECKED, 4>(dst, src) == 0 {
                return 0;
            }
            let step = |k: usize| Self::step::<false>(dst.add(k * Self::N * P::SIZE), src.add(k * Self::N * G::SIZE));
            step(0) | step(1) | step(2) | step(3)
        }
    }
}

/// So many steps, and what they lost together: 0 if nothing is checked.
///
/// All is read before anything is written. A Zen 4 takes a load for one that needs an earlier store if their addresses have the
/// same low twelve bits, as they do in two large blocks of one allocator, which start one header apart: f32 to i32 in its own cache
/// runs at 69 GB/s, one vector after the other, and at 99 so.
///
/// # Safety
///
/// As for as many calls of [`Body::step`] of [`Via`].
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "what iterators over arrays call is not inlined, nor intrinsics into it"
)]
unsafe fn via<G: Get, P: Put, L: Losses, const CHECKED: bool, const STEPS: usize>(dst: *mut u8, src: *const u8) -> u64 {
    // SAFETY: the caller's guarantees.
    unsafe {
        let (mut x, mut lost) = ([[_mm512_setzero_ps(); 4]; STEPS], [L::none(); 4]);
        let per_step = vectors(P::SIZE);
        for step in 0..STEPS {
            for k in 0..per_step {
                let at = src.add((step * per_step + k) * 16 * G::SIZE);
                x[step][k] = if CHECKED { G::checked(at, &mut lost[k]) } else { G::get(at) };
            }
        }
        for step in 0..STEPS {
            let at = dst.add(step * per_step * 16 * P::SIZE);
            if CHECKED { P::checked(at, x[step], &mut lost) } else { P::put(at, x[step]) }
        }
        if CHECKED { L::all(lost, P::LIMIT) } else { 0 }
    }
}

macro_rules! get {
    ($($(#[$doc:meta])* $name:ident $size:literal $src:ident $get:expr $(, $lost:ident $checked:expr)?;)*) => { $(
        $(#[$doc])*
        pub(super) struct $name;
        impl Get for $name {
            const SIZE: usize = $size;
            #[inline(always)]
            unsafe fn get($src: *const u8) -> __m512 {
                // SAFETY: the caller's guarantee; every load takes any alignment.
                unsafe { $get }
            }
            $(#[inline(always)]
            unsafe fn checked<L: Losses>($src: *const u8, $lost: &mut L) -> __m512 {
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
    I32 4 src _mm512_cvtepi32_ps(_mm512_loadu_si512(src.cast())), lost {
        let x = _mm512_loadu_si512(src.cast());
        let y = _mm512_cvtepi32_ps(x);
        if L::QUICK {
            lost.magnitude(y);
        } else {
            // 2^31, which MAX rounds to, converts back to MIN.
            lost.unequal_32(_mm512_cvttps_epi32(y), x);
        }
        y
    };
    U32 4 src _mm512_cvtepu32_ps(_mm512_loadu_si512(src.cast())), lost {
        let x = _mm512_loadu_si512(src.cast());
        let y = _mm512_cvtepu32_ps(x);
        if L::QUICK {
            lost.magnitude(y);
        } else {
            // 2^32, which MAX rounds to, converts back to MAX.
            lost.unequal_32(_mm512_cvttps_epu32(y), x);
            lost.lanes(_mm512_cmpeq_epi32_mask(x, _mm512_set1_epi32(-1)));
        }
        y
    };
    I64 8 src {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        join(_mm512_cvtepi64_ps(a), _mm512_cvtepi64_ps(b))
    }, lost {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        let (x, y) = (_mm512_cvtepi64_ps(a), _mm512_cvtepi64_ps(b));
        if L::QUICK {
            lost.magnitude(join(x, y));
        } else {
            lost.unequal_64([_mm512_cvttps_epi64(x), _mm512_cvttps_epi64(y)], [a, b]);
        }
        join(x, y)
    };
    U64 8 src {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        join(_mm512_cvtepu64_ps(a), _mm512_cvtepu64_ps(b))
    }, lost {
        let (a, b) = (_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast()));
        let (x, y) = (_mm512_cvtepu64_ps(a), _mm512_cvtepu64_ps(b));
        if L::QUICK {
            lost.magnitude(join(x, y));
        } else {
            lost.unequal_64([_mm512_cvttps_epu64(x), _mm512_cvttps_epu64(y)], [a, b]);
            let max = _mm512_set1_epi64(-1);
            lost.lanes(masks(_mm512_cmpeq_epi64_mask(a, max), _mm512_cmpeq_epi64_mask(b, max)));
        }
        join(x, y)
    };
    /// A NaN comes out quiet.
    F16Quiet 2 src _mm512_cvtph_ps(_mm256_loadu_si256(src.cast()));
    Bf16 2 src _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(src.cast()))));
    F32 4 src _mm512_loadu_ps(src.cast());
    F64 8 src join(_mm512_cvtpd_ps(_mm512_loadu_pd(src.cast())), _mm512_cvtpd_ps(_mm512_loadu_pd(src.add(64).cast())));
}

/// `f16` to `f32`; a signalling NaN stays one.
struct F16ToF32;

impl Body for F16ToF32 {
    const N: usize = 32;
    const SRC: usize = 2;
    const DST: usize = 4;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let (x, y) = (F16Quiet::get(src), F16Quiet::get(src.add(32)));
            _mm512_storeu_ps(dst.cast(), x);
            _mm512_storeu_ps(dst.add(64).cast(), y);
            // Either is a NaN.
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, y) != 0 {
                each::<ops::F16ToF32>(dst, src, 32);
            }
            0
        }
    }
}

#[inline(always)]
pub(super) unsafe fn join(low: __m256, high: __m256) -> __m512 {
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

struct ToF32;

impl Put for ToF32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: [__m512; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe { _mm512_storeu_ps(dst.cast(), x[0]) };
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(dst: *mut u8, x: [__m512; 4], _: &mut [L; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe { Self::put(dst, x) };
    }
}

struct ToF64;

impl Put for ToF64 {
    const SIZE: usize = 8;
    #[inline(always)]
    unsafe fn put(dst: *mut u8, x: [__m512; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe {
            let (low, high) = halves(x[0]);
            _mm512_storeu_pd(dst.cast(), _mm512_cvtps_pd(low));
            _mm512_storeu_pd(dst.add(64).cast(), _mm512_cvtps_pd(high));
        }
    }
    #[inline(always)]
    unsafe fn checked<L: Losses>(dst: *mut u8, x: [__m512; 4], _: &mut [L; 4]) {
        // SAFETY: the caller's guarantee.
        unsafe { Self::put(dst, x) };
    }
}

/// `f64` to `f16`, rounded once: what an `f32` has no room for becomes one last bit that says "and more", which the
/// rounding to `f16` then sees. A NaN keeps the top of its payload.
struct F64ToF16<const SATURATE: bool>;

impl<const SATURATE: bool> F64ToF16<SATURATE> {
    #[inline(always)]
    unsafe fn odd(src: *const u8) -> __m256 {
        // SAFETY: the caller's guarantees; the load takes any alignment.
        unsafe {
            let bits = _mm512_loadu_si512(src.cast());
            const MORE: i64 = (1 << 29) - 1;
            let more = _mm512_test_epi64_mask(bits, _mm512_set1_epi64(MORE));
            // In the range of f16 the f32 is exact now; below it, anything rounds to zero.
            const AND_OR: i32 = 0xea; // a & b | c
            let (keep, one) = (_mm512_set1_epi64(!MORE), _mm512_set1_epi64(MORE + 1));
            let odd = _mm512_mask_ternarylogic_epi64::<AND_OR>(bits, more, keep, one);
            _mm512_cvtpd_ps(_mm512_castsi512_pd(odd))
        }
    }
}

impl<const SATURATE: bool> Body for F64ToF16<SATURATE> {
    const N: usize = 32;
    const SRC: usize = 8;
    const DST: usize = 2;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let x = join(Self::odd(src), Self::odd(src.add(64)));
            let y = join(Self::odd(src.add(128)), Self::odd(src.add(192)));
            ToF16::<SATURATE, { nan::NEVER }>::put(dst, [x, y, x, y]);
            // Either is a NaN.
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, y) != 0 {
                each::<ops::F64ToF16<SATURATE>>(dst, src, 32);
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
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let x = F16Quiet::get(src);
            ToF64::put(dst, [x; 4]);
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x) != 0 {
                each::<ops::F16ToF64>(dst, src, 16);
            }
            0
        }
    }
}

/// The values of one step, one by one.
///
/// # Safety
///
/// As for [`Body::step`], of `n` values.
#[cold]
#[inline(never)]
unsafe fn each<O: Op>(dst: *mut u8, src: *const u8, n: usize) {
    for i in 0..n {
        // SAFETY: value `i` of `n`, at any alignment.
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
        (Single, BF16) => to_bf16::<F32>(mode),
        (Half, BF16) => to_bf16::<F16Quiet>(mode),
        (Double, BF16) => to_bf16::<F64>(mode),
        (Int(true, 8), BF16) => run::<Via<I8, ToBf16<{ round::EXACT }>, false>>,
        (Int(false, 8), BF16) => run::<Via<U8, ToBf16<{ round::EXACT }>, false>>,
        (Int(signed, bits), Half | BF16) => {
            let half = to == Half;
            by_integer!(signed, bits, from_int: I8 I16 I32 I64 U8 U16 U32 U64, (half, mode))
        }
        (Int(true, 32), Single) if checked => run::<Via<I32, ToF32, true>>,
        (Int(false, 32), Single) if checked => run::<Via<U32, ToF32, true>>,
        (Int(true, 64), Single) if checked => run::<Via<I64, ToF32, true>>,
        (Int(false, 64), Single) if checked => run::<Via<U64, ToF32, true>>,
        (Half, Single) => run::<F16ToF32>,
        (Half, Double) => run::<F16ToF64>,
        (BF16, Single) => run::<Via<Bf16, ToF32, false>>,
        (BF16, Double) => run::<Via<Bf16, ToF64, false>>,
        (Single | Half | BF16 | Double, Int(signed, bits)) => {
            by_integer!(signed, bits, to_int: i8 i16 i32 i64 u8 u16 u32 u64, (from, checked))
        }
        _ => return None,
    })
}

fn to_f16<G: Get, const NAN: u8>(mode: Mode) -> Kernel {
    match mode {
        Mode { checked: true, .. } => run::<Via<G, ToF16<false, NAN>, true>>,
        Mode { saturate: true, .. } => run::<Via<G, ToF16<true, NAN>, false>>,
        _ => run::<Via<G, ToF16<false, NAN>, false>>,
    }
}

fn to_bf16<G: Get>(mode: Mode) -> Kernel {
    let Mode { saturate, .. } = mode;
    pick(saturate, run::<Via<G, ToBf16<{ round::ALL }>, false>>, run::<Via<G, ToBf16<{ round::SATURATE }>, false>>)
}

fn from_int<G: Get>(half: bool, mode: Mode) -> Kernel {
    if half {
        let small = G::SIZE <= 2;
        return if small { to_f16::<G, { nan::NEVER }>(mode) } else { to_f16::<G, { nan::NEVER_LARGE }>(mode) };
    }
    // No integer overflows.
    pick(mode.checked, run::<Via<G, ToBf16<{ round::FINITE }>, false>>, run::<Via<G, ToBf16<{ round::FINITE }>, true>>)
}

fn to_int<I: Integer>(from: Scalar, checked: bool) -> Kernel {
    match from {
        Scalar::F64 => pick(checked, run::<FromF64<I, false>>, run::<FromF64<I, true>>),
        Scalar::F16 => pick(checked, run::<Via<F16Quiet, To<I>, false>>, run::<Via<F16Quiet, To<I>, true>>),
        Scalar::BF16 => pick(checked, run::<Via<Bf16, To<I>, false>>, run::<Via<Bf16, To<I>, true>>),
        _ => pick(checked, run::<Via<F32, To<I>, false>>, run::<Via<F32, To<I>, true>>),
    }
}
