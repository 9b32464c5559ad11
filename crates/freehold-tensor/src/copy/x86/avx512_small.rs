//! 16-bit floats to the byte-sized float formats with AVX-512 VBMI, in lanes of 16 bits: twice as many at once as by way of
//! `f32`, bit for bit as [`Format::encode`] does.
//!
//! What a value is rounded by depends on its exponent alone, of which only some thirty matter: below, everything becomes zero,
//! and above, everything is the same as the least value that is too large. So the numbers come out of tables of one or two
//! vectors.

use std::arch::x86_64::*;

use crate::copy::find::{Mode, pick};
use crate::copy::format::{self, BF16, F16, Format, MINI, Specials};
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::{Body, drive};

/// # Safety
///
/// As for [`Kernel`], on a machine that has these features.
#[target_feature(
    enable = "avx512vbmi,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn run<B: Body>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees; bodies of this module need no other features.
    unsafe { drive::<B>(dst, src, n) }
}

/// For each exponent that matters, counted from [`Numbers::base`].
#[repr(align(64))]
struct Table {
    /// What is taken off a magnitude to leave its mantissa with the bit that a normal value does not store and, of what becomes
    /// normal, the exponent above the least.
    above: [u16; 64],
    /// Bits of that mantissa that there is no room for.
    drop: [u16; 64],
    /// Just less than half of what they can say.
    half: [u16; 64],
}

/// The numbers of a pair of formats.
struct Numbers<const HALF: bool, const F: usize, const SATURATE: bool>;

impl<const HALF: bool, const F: usize, const SATURATE: bool> Numbers<HALF, F, SATURATE> {
    const SOURCE: Format = if HALF { F16 } else { BF16 };
    const FORMAT: Format = MINI[F];
    /// The source's exponent of the least normal value.
    const LEAST: i32 = 1 - Self::FORMAT.bias + Self::SOURCE.bias;
    /// The largest exponent below which there are only values nearer to zero than half the least one; or 0.
    const BASE: i32 = {
        let base = Self::LEAST - Self::FORMAT.man_bits as i32 - 2;
        if base < 0 { 0 } else { base }
    };
    /// The bits of the value whose code is the largest that comes of a number: beyond [`Format::max_code`] by one where
    /// that is infinity or NaN.
    const MOST: u16 = {
        let clamped = SATURATE || matches!(Self::FORMAT.specials, Specials::Finite);
        let code = Self::FORMAT.max_code() + !clamped as u32;
        let exponent = (code >> Self::FORMAT.man_bits) as i32 + Self::LEAST - 1;
        let mantissa = code & ((1 << Self::FORMAT.man_bits) - 1);
        (exponent << Self::SOURCE.man_bits) as u16
            | (mantissa << (Self::SOURCE.man_bits - Self::FORMAT.man_bits)) as u16
    };
    /// Whether the exponents that matter are too many for tables of one vector.
    const WIDE: bool = (Self::MOST >> Self::SOURCE.man_bits) as i32 - Self::BASE >= 32;
    /// Whether a NaN becomes what is beyond the largest code.
    const NAN_IS_BEYOND: bool = !SATURATE && matches!(Self::FORMAT.specials, Specials::Fn | Specials::Fnuz);
    const TABLE: Table = {
        let mut table = Table { above: [0; 64], drop: [0; 64], half: [0; 64] };
        let (bits, keep) = (Self::SOURCE.man_bits as i32, Self::FORMAT.man_bits as i32);
        let mut i = 0;
        while i < 64 {
            let exponent = Self::BASE + i;
            // What is subnormal counts as if it had the least exponent.
            let own = if exponent > 1 { exponent } else { 1 };
            let grid = if exponent > Self::LEAST { exponent } else { Self::LEAST };
            let drop = grid - keep - own + bits;
            let zero = i == 0 && Self::BASE > 0 || drop > bits + 1;
            if zero {
                table.drop[i as usize] = 16;
            } else {
                table.drop[i as usize] = drop as u16;
                table.half[i as usize] = (1 << (drop - 1)) - 1;
            }
            // Of the exponent, counted from the base, one stays as the mantissa's top bit, unless the value is subnormal.
            let least = if exponent < Self::LEAST { exponent } else { Self::LEAST };
            let goes = least - Self::BASE - if exponent > 0 { 1 } else { 0 };
            table.above[i as usize] = ((goes as u32) << bits) as u16;
            i += 1;
        }
        table
    };
}

struct ToMini<const HALF: bool, const F: usize, const SATURATE: bool>;

impl<const HALF: bool, const F: usize, const SATURATE: bool> ToMini<HALF, F, SATURATE> {
    /// Codes of 32 values, without signs.
    ///
    /// # Safety
    ///
    /// The machine has the features of [`run`].
    #[inline(always)]
    unsafe fn encode(x: __m512i) -> __m512i {
        let table = const { &Numbers::<HALF, F, SATURATE>::TABLE };
        let most = const { Numbers::<HALF, F, SATURATE>::MOST };
        let base =
            const { (Numbers::<HALF, F, SATURATE>::BASE as u16) << Numbers::<HALF, F, SATURATE>::SOURCE.man_bits };
        // SAFETY: the caller's guarantee; a table is two vectors long.
        unsafe {
            let constant = |bits: u16| _mm512_set1_epi16(bits as i16);
            let magnitude = _mm512_min_epu16(_mm512_and_si512(x, constant(0x7fff)), constant(most));
            let magnitude = if base == 0 { magnitude } else { _mm512_subs_epu16(magnitude, constant(base)) };
            let exponent = if HALF { _mm512_srli_epi16::<10>(magnitude) } else { _mm512_srli_epi16::<7>(magnitude) };
            let of = |table: &[u16; 64]| {
                let low = _mm512_loadu_si512(table.as_ptr().cast());
                if const { Numbers::<HALF, F, SATURATE>::WIDE } {
                    _mm512_permutex2var_epi16(low, exponent, _mm512_loadu_si512(table.as_ptr().add(32).cast()))
                } else {
                    _mm512_permutexvar_epi16(exponent, low)
                }
            };
            let mantissa = _mm512_sub_epi16(magnitude, of(&table.above));
            let drop = of(&table.drop);
            // To nearest, and a tie to even.
            let odd = _mm512_and_si512(_mm512_srlv_epi16(mantissa, drop), constant(1));
            let rounded = _mm512_add_epi16(_mm512_add_epi16(mantissa, of(&table.half)), odd);
            _mm512_srlv_epi16(rounded, drop)
        }
    }
}

/// The low or the high byte of every lane of two vectors.
const fn bytes(high: bool) -> [u8; 64] {
    let mut order = [0; 64];
    let mut i = 0;
    while i < 64 {
        order[i] = i as u8 * 2 + high as u8;
        i += 1;
    }
    order
}

impl<const HALF: bool, const F: usize, const SATURATE: bool> Body for ToMini<HALF, F, SATURATE> {
    const N: usize = 64;
    const SRC: usize = 2;
    const DST: usize = 1;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { convert::<HALF, F, SATURATE>(dst, src, 1) };
        0
    }
    #[inline(always)]
    unsafe fn four(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees.
        unsafe { convert::<HALF, F, SATURATE>(dst, src, 4) };
        0
    }
}

/// So many times 64 values.
///
/// A function of its own, or its code would be in every kernel several times.
///
/// # Safety
///
/// As for so many calls of [`Body::step`] of [`ToMini`], on a machine that has these features.
#[inline(never)]
#[target_feature(
    enable = "avx512vbmi,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn convert<const HALF: bool, const F: usize, const SATURATE: bool>(dst: *mut u8, src: *const u8, steps: usize) {
    let format = const { MINI[F] };
    for step in 0..steps {
        let (dst, src) = (dst.wrapping_add(step * 64), src.wrapping_add(step * 128));
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            let x = [_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast())];
            let code = |x| ToMini::<HALF, F, SATURATE>::encode(x);
            let narrow = |x: [__m512i; 2], order: &[u8; 64]| {
                _mm512_permutex2var_epi8(x[0], _mm512_loadu_si512(order.as_ptr().cast()), x[1])
            };
            let codes = narrow([code(x[0]), code(x[1])], const { &bytes(false) });
            let tops = narrow(x, const { &bytes(true) });
            let sign = _mm512_set1_epi8(format.sign_bit() as i8);
            const AND_OR: i32 = 0xea; // a & b | c
            let signed = if matches!(format.specials, Specials::Fnuz) {
                // No negative zero where its code is NaN.
                let not_zero = _mm512_test_epi8_mask(codes, codes);
                _mm512_or_si512(codes, _mm512_maskz_mov_epi8(not_zero & _mm512_movepi8_mask(tops), sign))
            } else if format.sign_bit() == 0x80 {
                _mm512_ternarylogic_epi64::<AND_OR>(tops, sign, codes)
            } else {
                _mm512_or_si512(codes, _mm512_maskz_mov_epi8(_mm512_movepi8_mask(tops), sign))
            };
            _mm512_storeu_si512(dst.cast(), signed);
            if !(const { Numbers::<HALF, F, SATURATE>::NAN_IS_BEYOND }) {
                let infinity = _mm512_set1_epi16(if HALF { 0x7c00 } else { 0x7f80 });
                let magnitude = |x| _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
                let largest = _mm512_max_epu16(magnitude(x[0]), magnitude(x[1]));
                if _mm512_cmpgt_epu16_mask(largest, infinity) != 0 {
                    mend::<HALF, F, SATURATE>(dst, x);
                }
            }
        }
    }
}

/// The codes of all NaN among 64 values.
///
/// # Safety
///
/// `dst` is writable for 64 bytes.
#[cold]
#[inline(never)]
unsafe fn mend<const HALF: bool, const F: usize, const SATURATE: bool>(dst: *mut u8, x: [__m512i; 2]) {
    // SAFETY: all bits of vectors are values of integers.
    let x: [u16; 64] = unsafe { std::mem::transmute(x) };
    for (i, x) in x.into_iter().enumerate() {
        let value = if HALF { format::f16_to_f32(x) } else { format::bf16_to_f32(x) };
        if value.is_nan() {
            // SAFETY: byte `i` of the caller's 64.
            unsafe { dst.add(i).write(MINI[F].encode(value, SATURATE) as u8) };
        }
    }
}

macro_rules! formats {
    ($($f:literal)*) => {
        /// The kernel of this module for a pair, where there is one.
        pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
            let Scalar::Mini(format) = to else { return None };
            if mode.checked {
                return None;
            }
            let saturate = mode.saturate;
            Some(match (from, format) {
                $((Scalar::F16, $f) => pick(saturate, run::<ToMini<true, $f, false>>, run::<ToMini<true, $f, true>>),
                (Scalar::BF16, $f) => pick(saturate, run::<ToMini<false, $f, false>>, run::<ToMini<false, $f, true>>),)*
                _ => return None,
            })
        }
    };
}
// All but e8m0, which rounds otherwise.
formats!(0 1 2 3 4 5 6 8 9 10);
