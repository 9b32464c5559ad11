//! Every conversion of one value that is a kernel of its own, in branch-free code that vectorises.

use std::marker::PhantomData;

use super::format::{self, BF16, MINI};
use super::kernel::{Mark, Op, Prim};

/// A cast between whole-byte integers, `f32` and `f64`.
pub(super) trait CastTo<D: Prim>: Prim {
    /// Whether no value is ever lost, so that checking is never needed.
    const EXACT: bool;
    /// As [`Op::BY_HAND`].
    const BY_HAND: bool = false;
    /// As [`Op::BY_HAND_AVX2`], checked or not.
    const BY_HAND_AVX2: bool = false;
    /// As [`Op::BY_HAND_AVX2`], where losses are checked.
    const CHECKED_BY_HAND_AVX2: bool = false;
    /// Rounds to nearest even, or truncates toward zero and saturates; NaN to integer is 0.
    fn cast(self) -> D;
    /// As [`CastTo::cast`] where losses are marked: the result for a value that is lost may be anything.
    #[inline(always)]
    fn cast_checked(self) -> D {
        self.cast()
    }
    type Mark: Mark;
    /// Marks a `result` of [`CastTo::cast`] that is not the value's equal.
    fn mark(self, result: D) -> Self::Mark;
}

macro_rules! int_to_int {
    ($s:ident $mark:ident: $($d:ident)*) => { $(impl CastTo<$d> for $s {
        const EXACT: bool = <$s>::MIN as i128 >= <$d>::MIN as i128 && <$s>::MAX as i128 <= <$d>::MAX as i128;
        const BY_HAND_AVX2: bool = <$s>::BITS == 64 && <$d>::BITS < 64;
        const CHECKED_BY_HAND_AVX2: bool = <$s>::BITS > <$d>::BITS;
        #[inline(always)]
        fn cast(self) -> $d {
            const LO: $s = if (<$d>::MIN as i128) < <$s>::MIN as i128 { <$s>::MIN } else { <$d>::MIN as $s };
            const HI: $s = if (<$d>::MAX as i128) > <$s>::MAX as i128 { <$s>::MAX } else { <$d>::MAX as $s };
            self.clamp(LO, HI) as $d
        }
        #[inline(always)]
        fn cast_checked(self) -> $d { self as $d }
        type Mark = $mark;
        #[inline(always)]
        fn mark(self, _: $d) -> $mark {
            // The range that both types have is 2^k values from its least on: a value is in it if no higher bit is
            // left. Cheaper than a comparison, and needs no result.
            const LO: i128 = if (<$d>::MIN as i128) < <$s>::MIN as i128 { <$s>::MIN as i128 } else { <$d>::MIN as i128 };
            const HI: i128 = if (<$d>::MAX as i128) > <$s>::MAX as i128 { <$s>::MAX as i128 } else { <$d>::MAX as i128 };
            self.wrapping_sub(LO as $s) as $mark & !((HI - LO) as $mark)
        }
    })* };
}

macro_rules! int_to_float {
    ($s:ident: $($d:ident)*) => { $(impl CastTo<$d> for $s {
        const EXACT: bool = <$s>::BITS - (<$s>::MIN != 0) as u32 <= <$d>::MANTISSA_DIGITS;
        const BY_HAND_AVX2: bool = !<Self as CastTo<$d>>::EXACT && <$s>::BITS >= 32;
        #[inline(always)]
        fn cast(self) -> $d { self as $d }
        type Mark = bool;
        #[inline(always)]
        fn mark(self, result: $d) -> bool {
            if <Self as CastTo<$d>>::EXACT {
                return false;
            }
            // Converted back. Only MAX and what rounds up with it leave the range, as 2^k: 0 is not their equal.
            let inside = if result == <$s>::MAX as $d { 0.0 } else { result };
            // SAFETY: `result` is a rounded `$s`, so it lies between MIN and MAX rounded up, which was excluded.
            // (Unlike `as`, this vectorises.)
            unsafe { inside.to_int_unchecked::<$s>() != self }
        }
    })* };
}

macro_rules! float_to_int {
    ($s:ident: $($d:ident)*) => { $(impl CastTo<$d> for $s {
        const EXACT: bool = false;
        const BY_HAND: bool = true;
        #[inline(always)]
        fn cast(self) -> $d {
            // `self as $d`, spelled so that it vectorises. LO is exact; HI is the largest `$s` not above MAX.
            const LO: $s = <$d>::MIN as $s;
            const HI: $s = {
                let max = <$d>::MAX as $s;
                if max as u128 > <$d>::MAX as u128 { max.next_down() } else { max }
            };
            let inside = if self > LO { self } else { LO };
            let inside = if inside < HI { inside } else { HI };
            // SAFETY: LO <= inside <= HI, NaN excluded, and both are within `$d`.
            let whole = unsafe { inside.to_int_unchecked::<$d>() };
            let whole = if self > HI { <$d>::MAX } else { whole };
            if self.is_nan() { 0 } else { whole }
        }
        type Mark = bool;
        #[inline(always)]
        fn mark(self, result: $d) -> bool {
            const MAX_IS_EXACT: bool = <$d>::BITS - (<$d>::MIN != 0) as u32 <= <$s>::MANTISSA_DIGITS;
            // NaN differs from 0, a fraction from its truncation, infinity from a limit.
            result as $s != self || !MAX_IS_EXACT && self == <$d>::MAX as $s
        }
    })* };
}

macro_rules! each_int {
    ($($s:ident $mark:ident)*) => { $(
        int_to_int!($s $mark: i8 i16 i32 i64 u8 u16 u32 u64);
        int_to_float!($s: f32 f64);
    )* };
}
each_int!(i8 u8 i16 u16 i32 u32 i64 u64 u8 u8 u16 u16 u32 u32 u64 u64);
float_to_int!(f32: i8 i16 i32 i64 u8 u16 u32 u64);
float_to_int!(f64: i8 i16 i32 i64 u8 u16 u32 u64);

macro_rules! float_to_float {
    ($($s:ident $d:ident)*) => { $(impl CastTo<$d> for $s {
        const EXACT: bool = true; // narrowing rounds, which is no loss
        #[inline(always)]
        fn cast(self) -> $d { self as $d }
        type Mark = bool;
        #[inline(always)]
        fn mark(self, _: $d) -> bool { false }
    })* };
}
float_to_float!(f32 f32 f32 f64 f64 f32 f64 f64);

pub(super) struct Cast<S, D, const CHECKED: bool>(PhantomData<(S, D)>);

impl<S: CastTo<D>, D: Prim, const CHECKED: bool> Op for Cast<S, D, CHECKED> {
    type Src = S;
    type Dst = D;
    const CHECKED: bool = CHECKED && !S::EXACT;
    const BY_HAND: bool = S::BY_HAND;
    const BY_HAND_AVX2: bool = S::BY_HAND_AVX2 || CHECKED && S::CHECKED_BY_HAND_AVX2;
    #[inline(always)]
    fn convert(value: S) -> D {
        if CHECKED { value.cast_checked() } else { value.cast() }
    }
    type Mark = S::Mark;
    #[inline(always)]
    fn mark(value: S, result: D) -> S::Mark {
        value.mark(result)
    }
}

/// Declares conversions that have a name of their own, with intrinsics or without; the last part, where there is one, is the
/// loss test.
macro_rules! op {
    (by_hand = $hand:expr; $($(#[$doc:meta])* $name:ident [$($p:ident: $t:ty),*] $src:ty => $dst:ty, $convert:expr $(, $checked:expr, $lossy:expr)?;)*) => { $(
        $(#[$doc])*
        pub(super) struct $name<$(const $p: $t),*>;
        impl<$(const $p: $t),*> Op for $name<$($p),*> {
            type Src = $src;
            type Dst = $dst;
            type Mark = bool;
            const CHECKED: bool = false $(|| $checked)?;
            const BY_HAND: bool = $hand;
            #[inline(always)]
            fn convert(value: $src) -> $dst { ($convert)(value) }
            #[inline(always)]
            fn mark(_value: $src, _result: $dst) -> bool { false $(|| ($lossy)(_value, _result))? }
        }
    )* };
}

op! {
    by_hand = true;
    F64ToF16 [SATURATE: bool] f64 => u16, |x| format::f64_to_f16(x, SATURATE);
    F16ToF32 [] u16 => f32, format::f16_to_f32;
    F16ToF64 [] u16 => f64, format::f16_to_f64;
    Bf16ToF16 [SATURATE: bool] u16 => u16, |x| format::bf16_to_f16(x, SATURATE);
    /// `CHECKED` is for integers on their way through `f32`: a result that is not the integer is a loss.
    F32ToF16 [SATURATE: bool, CHECKED: bool] f32 => u16, |x| format::f32_to_f16(x, SATURATE),
        CHECKED, |x, y| format::f16_to_f32(y) != x;
    F32ToBf16 [SATURATE: bool, CHECKED: bool] f32 => u16, |x| BF16.encode(x, SATURATE) as u16,
        CHECKED, |x, y| format::bf16_to_f32(y) != x;
}

op! {
    by_hand = false;
    F64ToF32Saturating [] f64 => f32, |x| format::f64_to_f32(x, true);
    Bf16ToF32 [] u16 => f32, format::bf16_to_f32;
    BoolToF16 [] u8 => u16, |x| if x != 0 { 0x3c00 } else { 0 };
    BoolToBf16 [] u8 => u16, |x| if x != 0 { 0x3f80 } else { 0 };
    /// Truth of 16-bit floats, where only the zero of either sign is false.
    HalfToBool [] u16 => u8, |x: u16| u8::from(x & 0x7fff != 0);
    BitsToI32 [SIGNED: bool, BITS: u32] u8 => i32, expand::<SIGNED, BITS>;
    BitsToF32 [SIGNED: bool, BITS: u32] u8 => f32, |x| expand::<SIGNED, BITS>(x) as f32;
    I32ToBits [SIGNED: bool, BITS: u32, CHECKED: bool] i32 => u8, shrink::<SIGNED, BITS>,
        CHECKED, |x, y| expand::<SIGNED, BITS>(y) != x;
    F32ToBits [SIGNED: bool, BITS: u32, CHECKED: bool] f32 => u8, |x: f32| shrink::<SIGNED, BITS>(CastTo::<i8>::cast(x).into()),
        CHECKED, |x, y| expand::<SIGNED, BITS>(y) as f32 != x;
}

op! {
    // As below, and not where losses are looked for.
    by_hand = F < 7 && !CHECKED;
    F32ToMini [F: usize, SATURATE: bool, CHECKED: bool] f32 => u8, |x| MINI[F].encode(x, SATURATE) as u8,
        CHECKED, |x, y: u8| Tables::<F>::VALUES[usize::from(y)] != x;
}

op! {
    // All but e8m0 and those of fewer than eight bits.
    by_hand = F < 7;
    MiniToF32 [F: usize] u8 => f32, |x: u8| Tables::<F>::VALUES[usize::from(x)];
}

/// Truth values: anything that is not zero, NaN included.
pub(super) struct Truth<S>(PhantomData<S>);

impl<S: Prim + PartialEq + Default> Op for Truth<S> {
    type Src = S;
    type Dst = u8;
    #[inline(always)]
    fn convert(value: S) -> u8 {
        u8::from(value != S::default())
    }
    type Mark = bool;
    const CHECKED: bool = false;
    const BY_HAND: bool = false;
    #[inline(always)]
    fn mark(_: S, _: u8) -> bool {
        false
    }
}

/// The number 0 or 1 of a truth value, of which any byte but 0 is true.
pub(super) struct OfBool<D>(PhantomData<D>);

impl<D: Prim> Op for OfBool<D>
where
    u8: CastTo<D>,
{
    type Src = u8;
    type Dst = D;
    #[inline(always)]
    fn convert(value: u8) -> D {
        u8::from(value != 0).cast()
    }
    type Mark = bool;
    const CHECKED: bool = false;
    const BY_HAND: bool = false;
    #[inline(always)]
    fn mark(_: u8, _: D) -> bool {
        false
    }
}

struct Tables<const F: usize>;

impl<const F: usize> Tables<F> {
    const VALUES: &[f32; 256] = &MINI[F].table();
}

/// The integer in the low bits of a byte; the rest of the byte is ignored.
#[inline(always)]
fn expand<const SIGNED: bool, const BITS: u32>(x: u8) -> i32 {
    let low = i32::from(x) << (32 - BITS);
    if SIGNED { low >> (32 - BITS) } else { (low as u32 >> (32 - BITS)) as i32 }
}

/// An integer saturated to the low bits of a byte, the rest zero, as ml_dtypes stores it.
#[inline(always)]
fn shrink<const SIGNED: bool, const BITS: u32>(x: i32) -> u8 {
    let (lo, hi) = if SIGNED { (-(1 << (BITS - 1)), (1 << (BITS - 1)) - 1) } else { (0, (1 << BITS) - 1) };
    x.clamp(lo, hi) as u8 & ((1u16 << BITS) - 1) as u8
}
