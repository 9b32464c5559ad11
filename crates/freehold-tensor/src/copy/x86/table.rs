//! Byte-sized floats and integers by table, with the byte permutations of AVX-512 VBMI: 64 codes are looked up at once in 256
//! entries of 16 bits.

use std::arch::x86_64::*;

use crate::copy::format::{F16, MINI};
use crate::copy::kernel::Kernel;
use crate::copy::kind::Scalar;
use crate::copy::vector::{Body, kernels};

kernels!("avx512vbmi,avx512vbmi2,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2", "popcnt,lzcnt");

/// Sources that are integers, after the formats of [`MINI`].
const U8: usize = MINI.len();
const I8: usize = MINI.len() + 1;

/// The low and the high bytes of 256 entries.
#[repr(align(64))]
struct Table {
    low: [u8; 256],
    high: [u8; 256],
}

impl Table {
    const fn new(source: usize, half: bool) -> Table {
        let mut table = Table { low: [0; 256], high: [0; 256] };
        let mut i = 0;
        while i < 256 {
            let value = match source {
                U8 => (i as f32).to_bits(),
                I8 => (i as u8 as i8 as f32).to_bits(),
                format => MINI[format].decode(i as u8),
            };
            // Every value has its equal in bf16, as the upper half of the f32 that it equals.
            let code = if half { F16.encode(f32::from_bits(value), false) } else { value >> 16 };
            table.low[i] = code as u8;
            table.high[i] = (code >> 8) as u8;
            i += 1;
        }
        table
    }
}

struct Tables<const F: usize>;

impl<const F: usize> Tables<F> {
    const F16: &Table = &Table::new(F, true);
    const BF16: &Table = &Table::new(F, false);
}

/// Looks 64 codes up in a table of 256 bytes.
///
/// # Safety
///
/// The machine has the features of [`run`].
#[inline(always)]
unsafe fn look_up(table: &[u8; 256], codes: __m512i) -> __m512i {
    // SAFETY: the caller's guarantee; the table is four vectors long.
    unsafe {
        let part = |i: usize| _mm512_loadu_si512(table.as_ptr().add(i * 64).cast());
        // A permutation of two vectors takes seven bits of an index.
        let lower = _mm512_permutex2var_epi8(part(0), codes, part(1));
        let upper = _mm512_permutex2var_epi8(part(2), codes, part(3));
        _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(codes), upper)
    }
}

/// To `f16` or `bf16`.
struct ToHalf<const F: usize, const HALF: bool>;

impl<const F: usize, const HALF: bool> Body for ToHalf<F, HALF> {
    const N: usize = 64;
    const SRC: usize = 1;
    const DST: usize = 2;
    const MASKS: bool = true;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        let table = if HALF { Tables::<F>::F16 } else { Tables::<F>::BF16 };
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            // Unpacking works within quarters of a vector: this order of eights comes out in the order of the source.
            let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
            let codes = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(src.cast()));
            let (low, high) = (look_up(&table.low, codes), look_up(&table.high, codes));
            _mm512_storeu_si512(dst.cast(), _mm512_unpacklo_epi8(low, high));
            _mm512_storeu_si512(dst.add(64).cast(), _mm512_unpackhi_epi8(low, high));
        }
        0
    }
}

/// To `f32`, whose upper half is the `bf16` of the same value.
struct ToF32<const F: usize>;

impl<const F: usize> Body for ToF32<F> {
    const N: usize = 64;
    const SRC: usize = 1;
    const DST: usize = 4;
    const MASKS: bool = true;
    #[inline(always)]
    unsafe fn step<const COUNT: bool>(dst: *mut u8, src: *const u8) -> u64 {
        let table = Tables::<F>::BF16;
        // SAFETY: the caller's guarantees; loads and stores take any alignment.
        unsafe {
            // As above, for two unpackings in a row: groups of four, turned like a 4 x 4 matrix.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let codes = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(src.cast()));
            let (low, high) = (look_up(&table.low, codes), look_up(&table.high, codes));
            let (a, b) = (_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high));
            let zero = _mm512_setzero_si512();
            _mm512_storeu_si512(dst.cast(), _mm512_unpacklo_epi16(zero, a));
            _mm512_storeu_si512(dst.add(64).cast(), _mm512_unpackhi_epi16(zero, a));
            _mm512_storeu_si512(dst.add(128).cast(), _mm512_unpacklo_epi16(zero, b));
            _mm512_storeu_si512(dst.add(192).cast(), _mm512_unpackhi_epi16(zero, b));
        }
        0
    }
}

/// `f8_e8m0fnu`, which reaches beyond `f16` and so overflows as the caller says.
const E8M0: u8 = 7;

macro_rules! formats {
    ($($f:literal)*) => {
        /// The kernel of this module for a pair, where there is one.
        pub(super) fn direct(from: Scalar, to: Scalar) -> Option<Kernel> {
            let format = match (from, to) {
                (Scalar::Mini(format), _) => format,
                (Scalar::Int(false, 8), Scalar::F16) => return Some(run::<ToHalf<U8, true>>()),
                (Scalar::Int(true, 8), Scalar::F16) => return Some(run::<ToHalf<I8, true>>()),
                (Scalar::Int(false, 8), Scalar::BF16) => return Some(run::<ToHalf<U8, false>>()),
                (Scalar::Int(true, 8), Scalar::BF16) => return Some(run::<ToHalf<I8, false>>()),
                _ => return None,
            };
            Some(match (format, to) {
                $(($f, Scalar::F32) => run::<ToF32<$f>>(),
                ($f, Scalar::BF16) => run::<ToHalf<$f, false>>(),
                ($f, Scalar::F16) if format != E8M0 => run::<ToHalf<$f, true>>(),)*
                _ => return None,
            })
        }
    };
}
formats!(0 1 2 3 4 5 6 7 8 9 10);
