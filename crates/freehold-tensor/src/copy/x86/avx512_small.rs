//! 16-bit floats to the byte-sized float formats with AVX-512 VBMI, in lanes of 16 bits: twice as many at once as by way of
//! `f32`, bit for bit as [`Format::encode`] does.
//!
//! What a value is rounded by depends on its exponent alone, of which only some thirty matter: below, everything becomes zero,
//! and above, everything is the same as the least value that is too large. So the numbers come out of tables of one or two
//! vectors.
//!
//! The loop is one for all formats, and what a format is, data: a loop for each would be a tenth of a megabyte.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use crate::copy::ahead;
use crate::copy::find::{Mode, pick};
use crate::copy::format::{self, BF16, F16, Format, MINI, Specials};
use crate::copy::kernel::{Cut, Kernel, Loops};
use crate::copy::kind::Scalar;

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

/// What the loop has to know of a pair of formats.
struct Pair {
    table: &'static Table,
    /// The largest magnitude that is told from others.
    most: u16,
    /// What is below is zero.
    base: u16,
    /// Magnitudes above are NaN to be mended.
    infinity: u16,
    sign: u8,
    /// Ones where a zero keeps its sign.
    signed_zero: u64,
    format: usize,
    saturate: bool,
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
    /// What NaN are above: nothing, where one becomes what is beyond the largest code.
    const INFINITY: u16 = {
        let beyond = !SATURATE && matches!(Self::FORMAT.specials, Specials::Fn | Specials::Fnuz);
        if beyond {
            0x7fff
        } else if HALF {
            0x7c00
        } else {
            0x7f80
        }
    };
    const PAIR: &Pair = &Pair {
        table: &Numbers::<HALF, F, false>::TABLE,
        most: Self::MOST,
        base: (Self::BASE as u16) << Self::SOURCE.man_bits,
        infinity: Self::INFINITY,
        sign: Self::FORMAT.sign_bit() as u8,
        // No negative zero where its code is NaN.
        signed_zero: if matches!(Self::FORMAT.specials, Specials::Fnuz) { 0 } else { !0 },
        format: F,
        saturate: SATURATE,
    };
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

/// A [`Pair`] in registers: what a loop stores may be any memory, so that it would read a pair's again in every step.
struct Loaded {
    above: [__m512i; 2],
    drop: [__m512i; 2],
    half: [__m512i; 2],
    most: __m512i,
    base: __m512i,
    infinity: __m512i,
    sign: __m512i,
    signed_zero: u64,
}

impl Loaded {
    /// # Safety
    ///
    /// The machine has the features of [`convert`].
    #[inline(always)]
    unsafe fn new(pair: &Pair) -> Loaded {
        // SAFETY: the caller's guarantee; a table is two vectors long.
        unsafe {
            let two = |table: &[u16; 64]| {
                [_mm512_loadu_si512(table.as_ptr().cast()), _mm512_loadu_si512(table.as_ptr().add(32).cast())]
            };
            let all = |bits: u16| _mm512_set1_epi16(bits as i16);
            Loaded {
                above: two(&pair.table.above),
                drop: two(&pair.table.drop),
                half: two(&pair.table.half),
                most: all(pair.most),
                base: all(pair.base),
                infinity: all(pair.infinity),
                sign: _mm512_set1_epi8(pair.sign as i8),
                signed_zero: pair.signed_zero,
            }
        }
    }
}

/// Codes of 32 values, without signs.
///
/// # Safety
///
/// The machine has the features of [`convert`].
#[inline(always)]
unsafe fn encode<const HALF: bool, const WIDE: bool>(x: __m512i, pair: &Loaded) -> __m512i {
    // SAFETY: the caller's guarantee.
    unsafe {
        let magnitude = _mm512_min_epu16(_mm512_and_si512(x, _mm512_set1_epi16(0x7fff)), pair.most);
        let magnitude = _mm512_subs_epu16(magnitude, pair.base);
        let exponent = if HALF { _mm512_srli_epi16::<10>(magnitude) } else { _mm512_srli_epi16::<7>(magnitude) };
        let of = |table: [__m512i; 2]| {
            if WIDE {
                _mm512_permutex2var_epi16(table[0], exponent, table[1])
            } else {
                _mm512_permutexvar_epi16(exponent, table[0])
            }
        };
        let mantissa = _mm512_sub_epi16(magnitude, of(pair.above));
        let drop = of(pair.drop);
        // To nearest, and a tie to even.
        let odd = _mm512_and_si512(_mm512_srlv_epi16(mantissa, drop), _mm512_set1_epi16(1));
        let rounded = _mm512_add_epi16(_mm512_add_epi16(mantissa, of(pair.half)), odd);
        _mm512_srlv_epi16(rounded, drop)
    }
}

/// Returns whether some value is a NaN to be mended.
///
/// # Safety
///
/// `src` is readable for 64 values and `dst` writable for them, at any alignment, on a machine with the features of [`convert`].
#[inline(always)]
unsafe fn step<const HALF: bool, const WIDE: bool>(dst: *mut u8, src: *const u8, pair: &Loaded) -> bool {
    // SAFETY: the caller's guarantees; loads and stores take any alignment.
    unsafe {
        let x = [_mm512_loadu_si512(src.cast()), _mm512_loadu_si512(src.add(64).cast())];
        let narrow = |x: [__m512i; 2], order: &[u8; 64]| {
            _mm512_permutex2var_epi8(x[0], _mm512_loadu_si512(order.as_ptr().cast()), x[1])
        };
        let codes = [encode::<HALF, WIDE>(x[0], pair), encode::<HALF, WIDE>(x[1], pair)];
        let codes = narrow(codes, const { &bytes(false) });
        let signs = _mm512_movepi8_mask(narrow(x, const { &bytes(true) }));
        let signs = signs & (_mm512_test_epi8_mask(codes, codes) | pair.signed_zero);
        let signed = _mm512_or_si512(codes, _mm512_maskz_mov_epi8(signs, pair.sign));
        _mm512_storeu_si512(dst.cast(), signed);
        let magnitude = |x| _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
        let largest = _mm512_max_epu16(magnitude(x[0]), magnitude(x[1]));
        _mm512_cmpgt_epu16_mask(largest, pair.infinity) != 0
    }
}

/// Converts `n` values.
///
/// # Safety
///
/// As for `Loops::run`, on a machine that has these features.
#[inline(never)]
#[target_feature(
    enable = "avx512vbmi,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn convert<const HALF: bool, const WIDE: bool>(dst: *mut u8, src: *const u8, n: usize, pair: &Pair) {
    const N: usize = 64;
    let ahead = ahead::distance(n * 3);
    // SAFETY: the caller's guarantee.
    let loaded = unsafe { Loaded::new(pair) };
    // SAFETY: 64 of the caller's values; mended where they lie, not in registers, which would be written to memory for that.
    let all = |dst: *mut u8, src: *const u8| unsafe {
        if step::<HALF, WIDE>(dst, src, &loaded) {
            mend::<HALF>(dst, src, pair);
        }
    };
    let mut i = 0;
    // SAFETY: steps of 64 of the caller's values, the last of which may reach into the one before it; where there are fewer, they
    // pass through buffers, of which all that is read is initialised.
    unsafe {
        while i + N <= n {
            if ahead != 0 {
                ahead::near(src.wrapping_add(i * 2), N * 2, ahead);
            }
            all(dst.add(i), src.add(i * 2));
            i += N;
        }
        if i < n && n >= N {
            all(dst.add(n - N), src.add((n - N) * 2));
        } else if i < n {
            let (mut values, mut codes) = ([0u16; N], [MaybeUninit::<u8>::uninit(); N]);
            std::ptr::copy_nonoverlapping(src, values.as_mut_ptr().cast(), n * 2);
            all(codes.as_mut_ptr().cast(), values.as_ptr().cast());
            std::ptr::copy_nonoverlapping(codes.as_ptr().cast(), dst, n);
        }
    }
}

/// # Safety
///
/// As for [`convert`].
unsafe fn all<const HALF: bool, const WIDE: bool, const F: usize, const SATURATE: bool>(
    dst: *mut u8,
    src: *const u8,
    n: usize,
) -> usize {
    // SAFETY: the caller's guarantees.
    unsafe { convert::<HALF, WIDE>(dst, src, n, Numbers::<HALF, F, SATURATE>::PAIR) };
    0
}

fn run<const HALF: bool, const WIDE: bool, const F: usize, const SATURATE: bool>() -> Kernel {
    const { &Loops { convert: all::<HALF, WIDE, F, SATURATE>, count: None, sizes: (2, 1), cut: Cut::Whole, masks: false } }
}

fn from_bf16<const F: usize, const SATURATE: bool>() -> Kernel {
    if const { Numbers::<false, F, SATURATE>::WIDE } {
        run::<false, true, F, SATURATE>()
    } else {
        run::<false, false, F, SATURATE>()
    }
}

/// The codes of all NaN among 64 values.
///
/// # Safety
///
/// `src` is readable for 64 values, initialised, and `dst` writable for them, at any alignment.
#[cold]
#[inline(never)]
unsafe fn mend<const HALF: bool>(dst: *mut u8, src: *const u8, pair: &Pair) {
    for i in 0..64 {
        // SAFETY: value `i` of the caller's 64.
        let x = unsafe { src.cast::<u16>().add(i).read_unaligned() };
        let value = if HALF { format::f16_to_f32(x) } else { format::bf16_to_f32(x) };
        if value.is_nan() {
            // SAFETY: byte `i` of the caller's 64.
            unsafe { dst.add(i).write(MINI[pair.format].encode(value, pair.saturate) as u8) };
        }
    }
}

/// The kernel of this module for a pair, where there is one.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    let Scalar::Mini(format) = to else { return None };
    if mode.checked {
        return None;
    }
    // All but e8m0, which rounds otherwise.
    by_format!(format, from_half: 0 1 2 3 4 5 6 8 9 10, (from, mode))
}

fn from_half<const F: usize>(from: Scalar, mode: Mode) -> Option<Kernel> {
    let Mode { saturate, .. } = mode;
    Some(match from {
        Scalar::F16 => pick(saturate, run::<true, false, F, false>(), run::<true, false, F, true>()),
        Scalar::BF16 => pick(saturate, from_bf16::<F, false>(), from_bf16::<F, true>()),
        _ => return None,
    })
}
