//! Floats to integers with AVX2: truncated toward zero, saturated, NaN to 0.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2::{Floats, MAGIC, Put};
use super::avx2_loss::{Losses, Step};

/// The limits of what is not limited.
const ALL: (i32, i32) = (i32::MIN, i32::MAX);

/// Four vectors of four.
pub(super) type Doubles = [__m256d; 4];

/// An integer type that floats are written as, one or two groups of sixteen as [`Put`] says.
///
/// # Safety of its functions
///
/// `dst` is writable for as many values, at any alignment, on a machine with the features of `avx2::run`.
pub(super) trait Integer {
    const SIZE: usize;
    /// As [`Put::put`].
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, x: [Floats; 2], lost: &mut L);
    /// Sixteen values, of `f64`: of more, what is read does not stay in registers.
    unsafe fn put_wide<L: Losses, const CHECKED: bool>(dst: *mut u8, x: Doubles, lost: &mut L);
}

/// An integer as the target of `f32`.
pub(super) struct To<I>(PhantomData<I>);

impl<I: Integer> Put for To<I> {
    const SIZE: usize = I::SIZE;
    #[inline(always)]
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, x: [Floats; 2], lost: &mut L) {
        // SAFETY: the caller's guarantee.
        unsafe { I::put::<L, CHECKED>(dst, x, lost) }
    }
}

/// From `f64` to an integer.
pub(super) struct FromF64<I, const CHECKED: bool>(PhantomData<I>);

impl<I: Integer, const CHECKED: bool> Step for FromF64<I, CHECKED> {
    const N: usize = 16;
    const SRC: usize = 8;
    const DST: usize = I::SIZE;
    const CHECKED: bool = CHECKED;
    #[inline(always)]
    unsafe fn step<L: Losses>(dst: *mut u8, src: *const u8, lost: &mut L) {
        // SAFETY: the caller's guarantees; loads take any alignment.
        unsafe {
            let mut x = [_mm256_setzero_pd(); 4];
            for (k, x) in x.iter_mut().enumerate() {
                *x = _mm256_loadu_pd(src.add(k * 32).cast());
            }
            I::put_wide::<L, CHECKED>(dst, x, lost);
        }
    }
}

#[inline(always)]
unsafe fn widen(x: Floats) -> Doubles {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        [
            _mm256_cvtps_pd(_mm256_castps256_ps128(x[0])),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x[0])),
            _mm256_cvtps_pd(_mm256_castps256_ps128(x[1])),
            _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x[1])),
        ]
    }
}

/// Integers of 32 bits; what an `i32` has no room for is saturated, NaN 0, and packing does the same for narrower types. Where losses
/// are checked, integers of all that is not lost: within `lo` and `hi`. `at` counts groups of sixteen.
///
/// Truncated, NaN and what is out of range become MIN, which is no other's equal when it is converted back.
#[inline(always)]
unsafe fn narrow<L: Losses, const CHECKED: bool>(
    x: Floats,
    at: usize,
    (lo, hi): (i32, i32),
    lost: &mut L,
) -> [__m256i; 2] {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let i = [_mm256_cvttps_epi32(x[0]), _mm256_cvttps_epi32(x[1])];
        if CHECKED {
            for k in 0..2 {
                lost.floats(2 * at + k, _mm256_cvtepi32_ps(i[k]), x[k]);
                outside(i[k], 2 * at + k, (lo, hi), lost);
            }
        } else if any_least(i) {
            return saturated(&{ x });
        }
        i
    }
}

/// As [`narrow`], of `f64`. Where losses are checked, as [`pairs`] leaves them.
#[inline(always)]
unsafe fn narrow_wide<L: Losses, const CHECKED: bool>(x: Doubles, limits: (i32, i32), lost: &mut L) -> [__m256i; 2] {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        if CHECKED {
            return pairs(sums(x, limits, lost));
        }
        let mut i = [_mm256_setzero_si256(); 2];
        for k in 0..2 {
            i[k] = _mm256_set_m128i(_mm256_cvttpd_epi32(x[2 * k + 1]), _mm256_cvttpd_epi32(x[2 * k]));
        }
        if any_least(i) {
            return saturated_wide(&{ x });
        }
        i
    }
}

/// Saturated, NaN as 0. A function of its own: most loops never need it.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
fn saturated(x: &Floats) -> [__m256i; 2] {
    // By loops, here and below: closures are not always inlined.
    let mut i = [_mm256_setzero_si256(); 2];
    for k in 0..2 {
        let number = _mm256_and_ps(x[k], _mm256_cmp_ps::<_CMP_ORD_Q>(x[k], x[k]));
        // MIN is what the processor gives for all that is out of range; its complement is MAX.
        let over = _mm256_cmp_ps::<_CMP_GE_OQ>(x[k], _mm256_set1_ps(2_147_483_648.0));
        i[k] = _mm256_xor_si256(_mm256_cvttps_epi32(number), _mm256_castps_si256(over));
    }
    i
}

/// As [`saturated`], of `f64`.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2")]
fn saturated_wide(x: &Doubles) -> [__m256i; 2] {
    let mut i = [_mm_setzero_si128(); 4];
    for k in 0..4 {
        let number = _mm256_and_pd(x[k], _mm256_cmp_pd::<_CMP_ORD_Q>(x[k], x[k]));
        i[k] = _mm256_cvttpd_epi32(_mm256_min_pd(number, _mm256_set1_pd(i32::MAX.into())));
    }
    [_mm256_set_m128i(i[1], i[0]), _mm256_set_m128i(i[3], i[2])]
}

/// Whether some integer is MIN, which is what the processor gives for NaN and for all that is out of range.
#[inline(always)]
unsafe fn any_least(i: [__m256i; 2]) -> bool {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let least = _mm256_set1_epi32(i32::MIN);
        let any = _mm256_or_si256(_mm256_cmpeq_epi32(i[0], least), _mm256_cmpeq_epi32(i[1], least));
        _mm256_testz_si256(any, any) == 0
    }
}

/// To add 1.5 x 2^52 rounds to an integer and leaves it in the low bits; what is out of range, infinite or NaN leaves other bits
/// above. To convert there and back takes twice as long.
#[inline(always)]
unsafe fn sums<L: Losses>(x: Doubles, (lo, hi): (i32, i32), lost: &mut L) -> Doubles {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let (mut sum, magic) = (x, _mm256_set1_pd(MAGIC));
        for k in 0..4 {
            sum[k] = _mm256_add_pd(x[k], magic);
            lost.doubles(k, _mm256_sub_pd(sum[k], magic), x[k]);
            let least = _mm256_set1_epi64x(MAGIC.to_bits() as i64 + i64::from(lo));
            let above = _mm256_sub_epi64(_mm256_castpd_si256(sum[k]), least);
            lost.bits_64(k, above, !u64::from(hi.wrapping_sub(lo) as u32));
        }
        sum
    }
}

/// The low 32 bits of each, two of a vector and two of the next at a time.
#[inline(always)]
unsafe fn pairs(x: Doubles) -> [__m256i; 2] {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let mut pairs = [_mm256_setzero_si256(); 2];
        for k in 0..2 {
            let (a, b) = (_mm256_castpd_ps(x[2 * k]), _mm256_castpd_ps(x[2 * k + 1]));
            pairs[k] = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
        }
        pairs
    }
}

/// The low 32 bits of each, in their own order.
#[inline(always)]
unsafe fn low_halves(x: Doubles) -> [__m256i; 2] {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let [a, b] = pairs(x);
        [_mm256_permute4x64_epi64::<0b11_01_10_00>(a), _mm256_permute4x64_epi64::<0b11_01_10_00>(b)]
    }
}

/// Lanes outside the integers of a type, from `lo` to `hi`, are lost; all of 32 bits are in the widest one.
#[inline(always)]
unsafe fn outside<L: Losses>(i: __m256i, k: usize, (lo, hi): (i32, i32), lost: &mut L) {
    let range = hi.wrapping_sub(lo) as u32;
    if range == u32::MAX {
        return;
    }
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let from_lo = if lo == 0 { i } else { _mm256_sub_epi32(i, _mm256_set1_epi32(lo)) };
        lost.bits(k, from_lo, !range);
    }
}

macro_rules! narrow {
    ($($t:ident $dst:ident $i:ident $lost:ident $store:expr, $one:ident $store_one:expr;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline(always)]
            unsafe fn put<L: Losses, const CHECKED: bool>($dst: *mut u8, x: [Floats; 2], $lost: &mut L) {
                // The limits of a byte are looked at once it is a word.
                let limits = if size_of::<$t>() == 1 { ALL } else { ($t::MIN.into(), $t::MAX.into()) };
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let $i = [narrow::<L, CHECKED>(x[0], 0, limits, $lost), narrow::<L, CHECKED>(x[1], 1, limits, $lost)];
                    $store;
                }
            }
            #[inline(always)]
            unsafe fn put_wide<L: Losses, const CHECKED: bool>($dst: *mut u8, x: Doubles, lost: &mut L) {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    let $one = narrow_wide::<L, CHECKED>(x, ($t::MIN.into(), $t::MAX.into()), lost);
                    $store_one;
                }
            }
        }
    )* };
}

/// Sixteen signed words, which hold any byte, in the order that packing within the halves of a vector leaves.
#[inline(always)]
unsafe fn words(i: [__m256i; 2]) -> __m256i {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe { _mm256_packs_epi32(i[0], i[1]) }
}

/// As [`words`], where those that are no bytes are lost. `at` counts groups of sixteen.
#[inline(always)]
unsafe fn bytes<L: Losses, const CHECKED: bool, const SIGNED: bool>(
    i: [__m256i; 2],
    at: usize,
    lost: &mut L,
) -> __m256i {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe {
        let words = words(i);
        if CHECKED {
            let above = if SIGNED { _mm256_sub_epi16(words, _mm256_set1_epi16(i8::MIN.into())) } else { words };
            lost.packed_16(at, above, 0xff00);
        }
        words
    }
}

/// As [`words`], unsigned.
#[inline(always)]
unsafe fn unsigned_words(i: [__m256i; 2]) -> __m256i {
    // SAFETY: the features of `avx2::run`, which every caller has.
    unsafe { _mm256_packus_epi32(i[0], i[1]) }
}

/// Stores words in their own order.
#[inline(always)]
unsafe fn store_words(dst: *mut u8, words: __m256i) {
    // SAFETY: 32 bytes of the caller's, at any alignment, on a machine with the features of `avx2::run`.
    unsafe { _mm256_storeu_si256(dst.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(words)) }
}

/// Stores bytes that were packed out of words twice in their own order.
#[inline(always)]
unsafe fn store_bytes(dst: *mut u8, bytes: __m256i) {
    // SAFETY: 32 bytes of the caller's, at any alignment, on a machine with the features of `avx2::run`.
    unsafe {
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256(dst.cast(), _mm256_permutevar8x32_epi32(bytes, order));
    }
}

/// The same of sixteen, which come twice: out of words that were packed out of [`narrow_wide`]'s integers.
#[inline(always)]
unsafe fn store_half<const CHECKED: bool>(dst: *mut u8, bytes: __m256i) {
    // SAFETY: 16 bytes of the caller's, at any alignment, on a machine with the features of `avx2::run`.
    unsafe {
        let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
        let all = if CHECKED { _mm_unpacklo_epi16(low, high) } else { _mm_unpacklo_epi32(low, high) };
        _mm_storeu_si128(dst.cast(), all);
    }
}

/// Stores words that were packed out of [`narrow_wide`]'s integers.
#[inline(always)]
unsafe fn store_few<const CHECKED: bool>(dst: *mut u8, words: __m256i) {
    // SAFETY: the caller's guarantee; pairs of words lie as bytes do that were packed twice.
    unsafe { if CHECKED { store_bytes(dst, words) } else { store_words(dst, words) } }
}

narrow! {
    i8 dst i lost store_bytes(dst, _mm256_packs_epi16(bytes::<L, CHECKED, true>(i[0], 0, lost), bytes::<L, CHECKED, true>(i[1], 1, lost))),
        one store_half::<CHECKED>(dst, _mm256_packs_epi16(words(one), words(one)));
    u8 dst i lost store_bytes(dst, _mm256_packus_epi16(bytes::<L, CHECKED, false>(i[0], 0, lost), bytes::<L, CHECKED, false>(i[1], 1, lost))),
        one store_half::<CHECKED>(dst, _mm256_packus_epi16(words(one), words(one)));
    i16 dst i lost {
        store_words(dst, words(i[0]));
        store_words(dst.add(32), words(i[1]));
    }, one store_few::<CHECKED>(dst, words(one));
    u16 dst i lost {
        store_words(dst, unsigned_words(i[0]));
        store_words(dst.add(32), unsigned_words(i[1]));
    }, one store_few::<CHECKED>(dst, unsigned_words(one));
}

#[inline(always)]
unsafe fn store(dst: *mut u8, i: [__m256i; 2]) {
    // SAFETY: 64 bytes of the caller's, at any alignment, on a machine with the features of `avx2::run`.
    unsafe {
        _mm256_storeu_si256(dst.cast(), i[0]);
        _mm256_storeu_si256(dst.add(32).cast(), i[1]);
    }
}

impl Integer for i32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, [x, _]: [Floats; 2], lost: &mut L) {
        // SAFETY: the caller's guarantee.
        unsafe { store(dst, narrow::<L, CHECKED>(x, 0, ALL, lost)) }
    }
    #[inline(always)]
    unsafe fn put_wide<L: Losses, const CHECKED: bool>(dst: *mut u8, x: Doubles, lost: &mut L) {
        // SAFETY: the caller's guarantee.
        unsafe {
            if CHECKED {
                return store(dst, low_halves(sums(x, ALL, lost)));
            }
            store(dst, narrow_wide::<L, CHECKED>(x, ALL, lost))
        }
    }
}

impl Integer for u32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, [x, _]: [Floats; 2], lost: &mut L) {
        // SAFETY: the caller's guarantee.
        unsafe { Self::put_wide::<L, CHECKED>(dst, widen(x), lost) }
    }
    #[inline(always)]
    unsafe fn put_wide<L: Losses, const CHECKED: bool>(dst: *mut u8, x: Doubles, lost: &mut L) {
        // SAFETY: the caller's guarantee.
        unsafe {
            if CHECKED {
                // All bits: as many as there are from 0 to -1.
                return store(dst, low_halves(sums(x, (0, -1), lost)));
            }
            let mut bits = x;
            for k in 0..4 {
                // The second operand where x is NaN: 0.
                let inside = _mm256_min_pd(_mm256_max_pd(x[k], _mm256_setzero_pd()), _mm256_set1_pd(u32::MAX.into()));
                let whole = _mm256_round_pd::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(inside);
                bits[k] = _mm256_add_pd(whole, _mm256_set1_pd(MAGIC));
            }
            store(dst, low_halves(bits));
        }
    }
}

macro_rules! long {
    ($($t:ident;)*) => { $(
        impl Integer for $t {
            const SIZE: usize = 8;
            #[inline(always)]
            unsafe fn put<L: Losses, const CHECKED: bool>(dst: *mut u8, [x, _]: [Floats; 2], lost: &mut L) {
                // SAFETY: the caller's guarantee.
                unsafe { Self::put_wide::<L, CHECKED>(dst, widen(x), lost) }
            }
            #[inline(always)]
            unsafe fn put_wide<L: Losses, const CHECKED: bool>(dst: *mut u8, x: Doubles, lost: &mut L) {
                // SAFETY: the caller's guarantee; stores take any alignment.
                unsafe {
                    // All within 2^51 (and not negative, for the unsigned type): one flag for sixteen lanes.
                    let limit = _mm256_set1_pd((1u64 << 51) as f64);
                    let sign = _mm256_set1_pd(if $t::MIN == 0 { 0.0 } else { -0.0 });
                    let mut all = _mm256_castsi256_pd(_mm256_set1_epi64x(-1));
                    for x in x {
                        let below = _mm256_cmp_pd::<_CMP_LT_OQ>(_mm256_andnot_pd(sign, x), limit);
                        let below = if $t::MIN == 0 {
                            _mm256_and_pd(below, _mm256_cmp_pd::<_CMP_GE_OQ>(x, _mm256_setzero_pd()))
                        } else {
                            below
                        };
                        all = _mm256_and_pd(all, below);
                    }
                    if _mm256_movemask_pd(all) != 0xf {
                        let mut lanes = [0f64; 16];
                        for k in 0..4 {
                            _mm256_storeu_pd(lanes.as_mut_ptr().add(k * 4), x[k]);
                        }
                        let mut found = 0;
                        for (i, x) in lanes.into_iter().enumerate() {
                            dst.cast::<$t>().add(i).write_unaligned(x as $t);
                            // MAX as a float is the first that is too large.
                            let kept = (x as $t) as f64 == x && x != $t::MAX as f64;
                            found |= u64::from(CHECKED && !kept) << i;
                        }
                        return lost.lanes(found);
                    }
                    let magic = _mm256_set1_pd(MAGIC);
                    for k in 0..4 {
                        let sum = if CHECKED {
                            // What is rounded is lost.
                            let sum = _mm256_add_pd(x[k], magic);
                            lost.doubles(k, _mm256_sub_pd(sum, magic), x[k]);
                            sum
                        } else {
                            _mm256_add_pd(_mm256_round_pd::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(x[k]), magic)
                        };
                        let i = _mm256_sub_epi64(_mm256_castpd_si256(sum), _mm256_set1_epi64x(MAGIC.to_bits() as i64));
                        _mm256_storeu_si256(dst.add(k * 32).cast(), i);
                    }
                }
            }
        }
    )* };
}
long! { i64; u64; }
