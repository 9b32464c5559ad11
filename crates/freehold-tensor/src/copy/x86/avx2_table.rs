//! Floats of eight bits to `f32`, `f16` and `bf16` with AVX2: a code's bits are moved to where the wider format has them, and a
//! table says which of them are wrong then.
//!
//! To look up 16 bits for each of 128 magnitudes takes sixteen shuffles of bytes, two for each sixteen magnitudes: that gave
//! 21 GB/s on a Zen 3, where this gives 53. Few magnitudes need it: shifted, and the difference of the biases added, all
//! normal numbers are right. Zero and the subnormal numbers are not what their exponents say, and neither are infinity
//! and NaN. They lie together where the magnitudes, taken as a ring, begin and end. Two shuffles look them up, and
//! give zeros for all others.

use std::arch::x86_64::*;

use crate::copy::format::{BF16, F16, MINI, Specials};
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::{Body, kernels};

kernels!("avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt");

/// Magnitudes in a row that one shuffle corrects.
#[derive(Clone, Copy)]
struct Window {
    /// What is added to a code, so that the first magnitude of the window becomes zero.
    turn: u8,
    /// What is added then: the high bit, for which a shuffle gives zero, is set for all magnitudes but those of the
    /// window.
    lift: u8,
    /// Whether the code of negative zero, which is NaN, has the place before the first.
    nan: bool,
    /// What is wrong in the low and in the high byte of an entry, by the place of its code.
    low: [u8; 16],
    high: [u8; 16],
}

impl Window {
    const fn new(turn: u8, magnitudes: u8, nan: bool) -> Window {
        Window { turn, lift: 0x80 - magnitudes, nan, low: [0; 16], high: [0; 16] }
    }

    /// The place of a code, if the window has it; found as in [`entries`].
    const fn place(&self, code: u8) -> Option<usize> {
        let index = (code.wrapping_add(self.turn) & 0x7f) + self.lift;
        let index = if self.nan && code == 0x80 { index - 1 } else { index };
        if index < 0x80 { Some(index as usize & 15) } else { None }
    }
}

/// How 16 bits are made of a code.
struct Rule {
    /// Where a magnitude begins.
    shift: u8,
    /// The difference of the biases, where the exponent is.
    bias: u16,
    windows: &'static [Window],
}

impl Rule {
    /// What a normal number becomes.
    const fn moved(&self, code: u8) -> u16 {
        let moved = (code as u16 & 0x80) << 8 | (code as u16 & 0x7f) << self.shift;
        moved.wrapping_add(self.bias)
    }
}

/// The `f16` of a code, or its `bf16`, which is the upper half of the `f32` that equals it.
const fn entry(format: usize, half: bool, code: u8) -> u16 {
    let value = MINI[format].decode(code);
    if half { F16.encode(f32::from_bits(value), false) as u16 } else { (value >> 16) as u16 }
}

/// The most windows of a format.
const WINDOWS: usize = 2;

/// The windows of a format, and how many they are. Eight magnitudes at either end are enough where the mantissa
/// has three bits or fewer. Where NaN is at negative zero, there are none at the upper end.
const fn windows(format: usize) -> ([Window; WINDOWS], usize) {
    let (lower, upper) = (Window::new(0, 16, false), Window::new(16, 16, false));
    match MINI[format].specials {
        Specials::Fnuz => ([Window::new(0, 8, true), lower], 1),
        _ if MINI[format].man_bits > 3 => ([lower, upper], 2),
        _ => ([Window::new(8, 16, false), lower], 1),
    }
}

struct Rules<const F: usize, const HALF: bool>;

impl<const F: usize, const HALF: bool> Rules<F, HALF> {
    /// Without windows.
    const PLAIN: Rule = {
        let wide = if HALF { F16 } else { BF16 };
        let (shift, bias) = (wide.man_bits - MINI[F].man_bits, wide.bias - MINI[F].bias);
        Rule { shift: shift as u8, bias: (bias << wide.man_bits) as u16, windows: &[] }
    };

    /// With what is wrong, found by taking every code the way that the vectors take it; does not compile where they would
    /// leave anything wrong.
    const WINDOWS: [Window; WINDOWS] = {
        let (mut windows, n) = windows(F);
        let mut code = 0;
        while code < 256 {
            let right = entry(F, HALF, code as u8);
            let mut wrong = right ^ Self::PLAIN.moved(code as u8);
            let mut k = 0;
            while k < n {
                if let Some(place) = windows[k].place(code as u8) {
                    // Both signs share a place: that what is wrong is the same for them is what the end below finds.
                    if code < 0x80 || windows[k].nan && code == 0x80 {
                        windows[k].low[place] = wrong as u8;
                        windows[k].high[place] = (wrong >> 8) as u8;
                    }
                    wrong ^= u16::from_le_bytes([windows[k].low[place], windows[k].high[place]]);
                }
                k += 1;
            }
            assert!(wrong == 0, "a code that no window corrects");
            code += 1;
        }
        windows
    };

    const RULE: &Rule = &Rule { windows: Self::WINDOWS.split_at(windows(F).1).0, ..Self::PLAIN };
}

/// A table in both halves of a vector.
///
/// # Safety
///
/// The machine has the features of [`run`].
#[inline(always)]
unsafe fn table(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: the caller's guarantee; a table is as long as the vector that is loaded.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}

/// The entries of 32 codes: those of the first and the third eight, then those of the others, as unpacking has it.
///
/// # Safety
///
/// The machine has the features of [`run`].
#[inline(always)]
unsafe fn entries<const F: usize, const HALF: bool>(codes: __m256i) -> [__m256i; 2] {
    let rule = Rules::<F, HALF>::RULE;
    // SAFETY: the caller's guarantee.
    unsafe {
        let zero = _mm256_setzero_si256();
        let (mut low, mut high) = (zero, zero);
        for window in rule.windows {
            let turned = _mm256_add_epi8(codes, _mm256_set1_epi8(window.turn as i8));
            let magnitudes = _mm256_and_si256(turned, _mm256_set1_epi8(0x7f));
            let mut index = _mm256_add_epi8(magnitudes, _mm256_set1_epi8(window.lift as i8));
            if window.nan {
                // All ones are minus one.
                index = _mm256_add_epi8(index, _mm256_cmpeq_epi8(codes, _mm256_set1_epi8(-0x80)));
            }
            low = _mm256_xor_si256(low, _mm256_shuffle_epi8(table(&window.low), index));
            high = _mm256_xor_si256(high, _mm256_shuffle_epi8(table(&window.high), index));
        }
        let wrong = [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)];
        let mut entries = [_mm256_unpacklo_epi8(zero, codes), _mm256_unpackhi_epi8(zero, codes)];
        for k in 0..2 {
            // From the upper byte down, which copies the sign, so that it stays where it is.
            let down = _mm256_sra_epi16(entries[k], _mm_cvtsi32_si128(8 - i32::from(rule.shift)));
            let moved = _mm256_and_si256(down, _mm256_set1_epi16((0x8000 | 0x7f << rule.shift) as i16));
            let plain = _mm256_add_epi16(moved, _mm256_set1_epi16(rule.bias as i16));
            entries[k] = _mm256_xor_si256(plain, wrong[k]);
        }
        entries
    }
}

/// Writes the lower halves of all vectors, then the upper ones: unpacking works within them, so that this is the order of the
/// source. To put the codes in another order first took an eighth more time, as it is shuffles that there are too many of.
///
/// # Safety
///
/// `dst` is writable for all of them, at any alignment, on a machine with the features of [`run`].
#[inline(always)]
unsafe fn put<const N: usize>(dst: *mut u8, vectors: [__m256i; N]) {
    for (k, vector) in vectors.into_iter().enumerate() {
        // SAFETY: the caller's guarantee: half `k` of the first N, and of the second; stores take any alignment.
        unsafe {
            _mm_storeu_si128(dst.add(k * 16).cast(), _mm256_castsi256_si128(vector));
            _mm_storeu_si128(dst.add((N + k) * 16).cast(), _mm256_extracti128_si256::<1>(vector));
        }
    }
}

/// To `f16` or `bf16`.
struct ToHalf<const F: usize, const HALF: bool>;

impl<const F: usize, const HALF: bool> Body for ToHalf<F, HALF> {
    const N: usize = 32;
    const SRC: usize = 1;
    const DST: usize = 2;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; the load takes any alignment.
        unsafe { put(dst, entries::<F, HALF>(_mm256_loadu_si256(src.cast()))) };
        0
    }
}

/// To `f32`, whose upper half is the `bf16` of the same value.
struct ToF32<const F: usize>;

impl<const F: usize> Body for ToF32<F> {
    const N: usize = 32;
    const SRC: usize = 1;
    const DST: usize = 4;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        // SAFETY: the caller's guarantees; the load takes any alignment.
        unsafe {
            let [a, b] = entries::<F, false>(_mm256_loadu_si256(src.cast()));
            let zero = _mm256_setzero_si256();
            let (a, c) = (_mm256_unpacklo_epi16(zero, a), _mm256_unpackhi_epi16(zero, a));
            let (b, d) = (_mm256_unpacklo_epi16(zero, b), _mm256_unpackhi_epi16(zero, b));
            put(dst, [a, c, b, d]);
        }
        0
    }
}

/// The kernel of this module for a pair, where there is one. These formats lie within `f16` and `bf16`, so that no mode makes a
/// difference.
pub(super) fn direct(from: Scalar, to: Scalar) -> Option<Kernel> {
    let Scalar::Mini(format) = from else { return None };
    by_format!(format, to_float: 0 1 2 3 4 5 6, (to))
}

fn to_float<const F: usize>(to: Scalar) -> Option<Kernel> {
    Some(match to {
        Scalar::F32 => run::<ToF32<F>>(),
        Scalar::BF16 => run::<ToHalf<F, false>>(),
        Scalar::F16 => run::<ToHalf<F, true>>(),
        _ => return None,
    })
}
