//! Loops that convert a run of values from one type to another, monomorphised so that the compiler vectorises
//! them, and the table that finds one.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::format::{self, BF16, MINI};
use super::kind::Scalar;

/// Converts `n` consecutive values and returns how many of them lost something; unchecked loops return 0.
///
/// # Safety
///
/// * `src` is readable for `n` source values, all bytes initialised, at any alignment.
/// * `dst` is writable for `n` target values, at any alignment, and does not overlap `src`.
pub(super) type Kernel = unsafe fn(dst: *mut u8, src: *const u8, n: usize) -> usize;

/// A type that moves to and from memory as plain bytes.
trait Prim: Copy {
    type Bytes: Copy;
    fn get(bytes: Self::Bytes) -> Self;
    fn put(self) -> Self::Bytes;
}

macro_rules! prim {
    ($($t:ty)*) => { $(impl Prim for $t {
        type Bytes = [u8; size_of::<$t>()];
        #[inline(always)]
        fn get(bytes: Self::Bytes) -> Self { <$t>::from_ne_bytes(bytes) }
        #[inline(always)]
        fn put(self) -> Self::Bytes { self.to_ne_bytes() }
    })* };
}
prim!(i8 i16 i32 i64 u8 u16 u32 u64 f32 f64);

/// One conversion of one value.
trait Op {
    type Src: Prim;
    type Dst: Prim;
    /// Whether [`Op::lossy`] is asked at all.
    const CHECKED: bool = false;
    fn convert(value: Self::Src) -> Self::Dst;
    /// Whether `result`, which `convert` made of `value`, is not its equal.
    #[inline(always)]
    fn lossy(_value: Self::Src, _result: Self::Dst) -> bool {
        false
    }
}

/// The loop of every [`Kernel`]. Slices of byte arrays have alignment 1, and as parameters tell the optimiser that
/// they do not overlap.
#[inline(always)]
fn each<O: Op>(dst: &mut [MaybeUninit<<O::Dst as Prim>::Bytes>], src: &[<O::Src as Prim>::Bytes]) -> usize {
    let mut lost = false;
    for (d, s) in dst.iter_mut().zip(src) {
        let value = O::Src::get(*s);
        let result = O::convert(value);
        if O::CHECKED {
            lost |= O::lossy(value, result);
        }
        d.write(result.put());
    }
    if !lost {
        return 0;
    }
    // Counted apart, so that the loop above keeps one flag instead of a counter wider than its values.
    src.iter().filter(|s| O::lossy(O::Src::get(**s), O::convert(O::Src::get(**s)))).count()
}

unsafe fn kernel<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller guarantees `n` values on each side, initialised in `src`, without overlap; byte arrays
    // have alignment 1, so any address is aligned.
    let (dst, src) =
        unsafe { (std::slice::from_raw_parts_mut(dst.cast(), n), std::slice::from_raw_parts(src.cast(), n)) };
    each::<O>(dst, src)
}

/// A cast between whole-byte integers, `f32` and `f64`.
trait CastTo<D: Prim>: Prim {
    /// Whether no value is ever lost, so that checking is never needed.
    const EXACT: bool;
    /// Rounds to nearest even, or truncates toward zero and saturates; NaN to integer is 0.
    fn cast(self) -> D;
    fn lossy(self, result: D) -> bool;
}

macro_rules! int_to_int {
    ($s:ident: $($d:ident)*) => { $(impl CastTo<$d> for $s {
        const EXACT: bool = <$s>::MIN as i128 >= <$d>::MIN as i128 && <$s>::MAX as i128 <= <$d>::MAX as i128;
        #[inline(always)]
        fn cast(self) -> $d {
            const LO: $s = if (<$d>::MIN as i128) < <$s>::MIN as i128 { <$s>::MIN } else { <$d>::MIN as $s };
            const HI: $s = if (<$d>::MAX as i128) > <$s>::MAX as i128 { <$s>::MAX } else { <$d>::MAX as $s };
            self.clamp(LO, HI) as $d
        }
        #[inline(always)]
        fn lossy(self, result: $d) -> bool {
            // A clamped value differs from the original in the source's own type.
            result as $s != self
        }
    })* };
}

macro_rules! int_to_float {
    ($s:ident: $($d:ident)*) => { $(impl CastTo<$d> for $s {
        const EXACT: bool = <$s>::BITS - (<$s>::MIN != 0) as u32 <= <$d>::MANTISSA_DIGITS;
        #[inline(always)]
        fn cast(self) -> $d { self as $d }
        #[inline(always)]
        fn lossy(self, result: $d) -> bool {
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
        #[inline(always)]
        fn lossy(self, result: $d) -> bool {
            const MAX_IS_EXACT: bool = <$d>::BITS - (<$d>::MIN != 0) as u32 <= <$s>::MANTISSA_DIGITS;
            // NaN differs from 0, a fraction from its truncation, infinity from a limit.
            result as $s != self || !MAX_IS_EXACT && self == <$d>::MAX as $s
        }
    })* };
}

macro_rules! each_int { ($m:ident: $($s:ident)*) => { $($m!($s: i8 i16 i32 i64 u8 u16 u32 u64);)* }; }
each_int!(int_to_int: i8 i16 i32 i64 u8 u16 u32 u64);
each_int!(float_to_int: f32 f64);
macro_rules! each_int_to_float { ($($s:ident)*) => { $(int_to_float!($s: f32 f64);)* }; }
each_int_to_float!(i8 i16 i32 i64 u8 u16 u32 u64);

macro_rules! float_to_float {
    ($($s:ident $d:ident)*) => { $(impl CastTo<$d> for $s {
        const EXACT: bool = true; // narrowing rounds, which is no loss
        #[inline(always)]
        fn cast(self) -> $d { self as $d }
        #[inline(always)]
        fn lossy(self, _: $d) -> bool { false }
    })* };
}
float_to_float!(f32 f32 f32 f64 f64 f32 f64 f64);

struct Cast<S, D, const CHECKED: bool>(PhantomData<(S, D)>);

impl<S: CastTo<D>, D: Prim, const CHECKED: bool> Op for Cast<S, D, CHECKED> {
    type Src = S;
    type Dst = D;
    const CHECKED: bool = CHECKED && !S::EXACT;
    #[inline(always)]
    fn convert(value: S) -> D {
        value.cast()
    }
    #[inline(always)]
    fn lossy(value: S, result: D) -> bool {
        CHECKED && value.lossy(result)
    }
}

/// Declares conversions that have a name of their own; the last part, where there is one, is the loss test.
macro_rules! op {
    ($($(#[$doc:meta])* $name:ident [$($p:ident: $t:ty),*] $src:ty => $dst:ty, $convert:expr $(, $checked:expr, $lossy:expr)?;)*) => { $(
        $(#[$doc])*
        struct $name<$(const $p: $t),*>;
        impl<$(const $p: $t),*> Op for $name<$($p),*> {
            type Src = $src;
            type Dst = $dst;
            $(const CHECKED: bool = $checked;)?
            #[inline(always)]
            fn convert(value: $src) -> $dst { ($convert)(value) }
            $(#[inline(always)]
            fn lossy(value: $src, result: $dst) -> bool { ($lossy)(value, result) })?
        }
    )* };
}

op! {
    F64ToF32Saturating [] f64 => f32, |x| format::f64_to_f32(x, true);
    F64ToF16 [SATURATE: bool] f64 => u16, |x| format::f64_to_f16(x, SATURATE);
    F16ToF32 [] u16 => f32, format::f16_to_f32;
    F16ToF64 [] u16 => f64, format::f16_to_f64;
    Bf16ToF32 [] u16 => f32, format::bf16_to_f32;
    Bf16ToF16 [SATURATE: bool] u16 => u16, |x| format::bf16_to_f16(x, SATURATE);
    /// `CHECKED` is for integers on their way through `f32`: a result that is not the integer is a loss.
    F32ToF16 [SATURATE: bool, CHECKED: bool] f32 => u16, |x| format::f32_to_f16(x, SATURATE),
        CHECKED, |x, y| format::f16_to_f32(y) != x;
    F32ToBf16 [SATURATE: bool, CHECKED: bool] f32 => u16, |x| BF16.encode(x, SATURATE) as u16,
        CHECKED, |x, y| format::bf16_to_f32(y) != x;
    F32ToMini [F: usize, SATURATE: bool, CHECKED: bool] f32 => u8, |x| MINI[F].encode(x, SATURATE) as u8,
        CHECKED, |x, y: u8| f32::from_bits(MINI[F].decode(y)) != x;
    MiniToF32 [F: usize] u8 => f32, |x: u8| Tables::<F>::VALUES[usize::from(x)];
    BoolToU8 [] u8 => u8, |x| u8::from(x != 0);
    BoolToI32 [] u8 => i32, |x| i32::from(x != 0);
    BoolToF32 [] u8 => f32, |x| f32::from(u8::from(x != 0));
    BitsToI32 [SIGNED: bool, BITS: u32] u8 => i32, expand::<SIGNED, BITS>;
    BitsToF32 [SIGNED: bool, BITS: u32] u8 => f32, |x| expand::<SIGNED, BITS>(x) as f32;
    I32ToBits [SIGNED: bool, BITS: u32, CHECKED: bool] i32 => u8, shrink::<SIGNED, BITS>,
        CHECKED, |x, y| expand::<SIGNED, BITS>(y) != x;
    F32ToBits [SIGNED: bool, BITS: u32, CHECKED: bool] f32 => u8, |x| shrink::<SIGNED, BITS>(x as i32),
        CHECKED, |x, y| expand::<SIGNED, BITS>(y) as f32 != x;
}

/// Truth values: anything that is not zero, NaN included.
struct Truth<S>(PhantomData<S>);

impl<S: Prim + PartialEq + Default> Op for Truth<S> {
    type Src = S;
    type Dst = u8;
    #[inline(always)]
    fn convert(value: S) -> u8 {
        u8::from(value != S::default())
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

/// How a kernel treats what does not fit.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// Count values that have no equal.
    pub checked: bool,
    /// Overflow to a float type goes to its largest finite value.
    pub saturate: bool,
}

/// The kernel from one scalar to another, where there is one without a detour; `None` for the same scalar.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode) -> Option<Kernel> {
    use Scalar::{BF16 as Bf16, Bits, Bool, F16, F32, F64, Int, Mini};
    Some(match (from, to) {
        (F64, F32) if mode.saturate => kernel::<F64ToF32Saturating>,
        (Int(..) | F32 | F64, Int(..) | F32 | F64) => return wide(from, to, mode.checked),
        (Int(..) | F32 | F64, Bool) => return truth(from),
        (Bool, Int(_, 8)) => kernel::<BoolToU8>,
        (Bool, Int(true, 32)) => kernel::<BoolToI32>,
        (Bool, F32) => kernel::<BoolToF32>,
        (F16, F32) => kernel::<F16ToF32>,
        (F16, F64) => kernel::<F16ToF64>,
        (Bf16, F32) => kernel::<Bf16ToF32>,
        (Bf16, F16) => pick(mode.saturate, kernel::<Bf16ToF16<false>>, kernel::<Bf16ToF16<true>>),
        (F64, F16) => pick(mode.saturate, kernel::<F64ToF16<false>>, kernel::<F64ToF16<true>>),
        (F32, F16) => match mode {
            Mode { checked: true, .. } => kernel::<F32ToF16<false, true>>,
            Mode { saturate, .. } => pick(saturate, kernel::<F32ToF16<false, false>>, kernel::<F32ToF16<true, false>>),
        },
        (F32, Bf16) => match mode {
            Mode { checked: true, .. } => kernel::<F32ToBf16<false, true>>,
            Mode { saturate, .. } => {
                pick(saturate, kernel::<F32ToBf16<false, false>>, kernel::<F32ToBf16<true, false>>)
            }
        },
        (Mini(format), F32) => return mini_to_f32(format),
        (F32, Mini(format)) => return f32_to_mini(format, mode),
        (Bits(signed, bits), Int(true, 32)) => return bits_to_i32(signed, bits),
        (Bits(signed, bits), F32) => return bits_to_f32(signed, bits),
        (Int(true, 32), Bits(signed, bits)) => return i32_to_bits(signed, bits, mode.checked),
        (F32, Bits(signed, bits)) => return f32_to_bits(signed, bits, mode.checked),
        _ => return None,
    })
}

fn pick(second: bool, a: Kernel, b: Kernel) -> Kernel {
    if second { b } else { a }
}

macro_rules! wide_table {
    ($($t:ident = $pattern:pat),*) => {
        fn wide(from: Scalar, to: Scalar, checked: bool) -> Option<Kernel> {
            if from == to {
                return None;
            }
            match from { $($pattern => wide_from::<$t>(to, checked),)* _ => None }
        }

        fn wide_from<S: $(CastTo<$t> +)*>(to: Scalar, checked: bool) -> Option<Kernel> {
            Some(match to {
                $($pattern => pick(checked, kernel::<Cast<S, $t, false>>, kernel::<Cast<S, $t, true>>),)*
                _ => return None,
            })
        }

        fn truth(from: Scalar) -> Option<Kernel> {
            Some(match from { $($pattern => kernel::<Truth<$t>>,)* _ => return None })
        }
    };
}
wide_table! {
    i8 = Scalar::Int(true, 8), i16 = Scalar::Int(true, 16), i32 = Scalar::Int(true, 32), i64 = Scalar::Int(true, 64),
    u8 = Scalar::Int(false, 8), u16 = Scalar::Int(false, 16), u32 = Scalar::Int(false, 32),
    u64 = Scalar::Int(false, 64), f32 = Scalar::F32, f64 = Scalar::F64
}

macro_rules! mini_table {
    ($($f:literal)*) => {
        fn mini_to_f32(format: u8) -> Option<Kernel> {
            Some(match format { $($f => kernel::<MiniToF32<$f>>,)* _ => return None })
        }

        fn f32_to_mini(format: u8, mode: Mode) -> Option<Kernel> {
            Some(match (format, mode) {
                $(($f, Mode { checked: true, .. }) => kernel::<F32ToMini<$f, false, true>>,
                ($f, Mode { saturate, .. }) => {
                    pick(saturate, kernel::<F32ToMini<$f, false, false>>, kernel::<F32ToMini<$f, true, false>>)
                })*
                _ => return None,
            })
        }
    };
}
mini_table!(0 1 2 3 4 5 6 7 8 9 10);

macro_rules! bits_table {
    ($($signed:literal $bits:literal),*) => {
        fn bits_to_i32(signed: bool, bits: u8) -> Option<Kernel> {
            Some(match (signed, bits) { $(($signed, $bits) => kernel::<BitsToI32<$signed, $bits>>,)* _ => return None })
        }

        fn bits_to_f32(signed: bool, bits: u8) -> Option<Kernel> {
            Some(match (signed, bits) { $(($signed, $bits) => kernel::<BitsToF32<$signed, $bits>>,)* _ => return None })
        }

        fn i32_to_bits(signed: bool, bits: u8, checked: bool) -> Option<Kernel> {
            Some(match (signed, bits) {
                $(($signed, $bits) => pick(
                    checked,
                    kernel::<I32ToBits<$signed, $bits, false>>,
                    kernel::<I32ToBits<$signed, $bits, true>>,
                ),)*
                _ => return None,
            })
        }

        fn f32_to_bits(signed: bool, bits: u8, checked: bool) -> Option<Kernel> {
            Some(match (signed, bits) {
                $(($signed, $bits) => pick(
                    checked,
                    kernel::<F32ToBits<$signed, $bits, false>>,
                    kernel::<F32ToBits<$signed, $bits, true>>,
                ),)*
                _ => return None,
            })
        }
    };
}
bits_table!(true 1, true 2, true 4, false 1, false 2, false 4);
