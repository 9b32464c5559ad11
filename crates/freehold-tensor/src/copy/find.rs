//! Finds the kernel for a pair of scalars.

use super::kernel::{Kernel, kernel};
use super::kind::Scalar;
use super::level::Level;
use super::ops::*;

/// How a kernel treats what does not fit.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// Count values that have no equal.
    pub checked: bool,
    /// Overflow to a float type goes to its largest finite value.
    pub saturate: bool,
}

/// The kernel from one scalar to another, where there is one without a detour; `None` for the same scalar.
pub(super) fn direct(from: Scalar, to: Scalar, mode: Mode, level: Level) -> Option<Kernel> {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = super::x86::direct(from, to, mode, level) {
        return Some(kernel);
    }
    use Scalar::{BF16 as Bf16, Bits, Bool, F16, F32, F64, Int, Mini};
    Some(match (from, to) {
        (F64, F32) if mode.saturate => kernel::<F64ToF32Saturating>(level),
        (Int(..) | F32 | F64, Int(..) | F32 | F64) => return wide(from, to, mode.checked, level),
        (Int(..) | F32 | F64, Bool) => return truth(from, level),
        (Bool, F16) => kernel::<BoolToF16>(level),
        (Bool, Bf16) => kernel::<BoolToBf16>(level),
        (Bool, _) => return of_bool(to, level),
        (F16 | Bf16, Bool) => kernel::<HalfToBool>(level),
        (F16, F32) => kernel::<F16ToF32>(level),
        (F16, F64) => kernel::<F16ToF64>(level),
        (Bf16, F32) => kernel::<Bf16ToF32>(level),
        (Bf16, F16) => pick(mode.saturate, kernel::<Bf16ToF16<false>>(level), kernel::<Bf16ToF16<true>>(level)),
        (F64, F16) => pick(mode.saturate, kernel::<F64ToF16<false>>(level), kernel::<F64ToF16<true>>(level)),
        (F32, F16) => match mode {
            Mode { checked: true, .. } => kernel::<F32ToF16<false, true>>(level),
            Mode { saturate, .. } => {
                pick(saturate, kernel::<F32ToF16<false, false>>(level), kernel::<F32ToF16<true, false>>(level))
            }
        },
        (F32, Bf16) => match mode {
            Mode { checked: true, .. } => kernel::<F32ToBf16<false, true>>(level),
            Mode { saturate, .. } => {
                pick(saturate, kernel::<F32ToBf16<false, false>>(level), kernel::<F32ToBf16<true, false>>(level))
            }
        },
        (Mini(format), F32) => return mini_to_f32(format, level),
        (F32, Mini(format)) => return f32_to_mini(format, mode, level),
        (Bits(signed, bits), Int(true, 32)) => return bits_to_i32(signed, bits, level),
        (Bits(signed, bits), F32) => return bits_to_f32(signed, bits, level),
        (Int(true, 32), Bits(signed, bits)) => return i32_to_bits(signed, bits, mode.checked, level),
        (F32, Bits(signed, bits)) => return f32_to_bits(signed, bits, mode.checked, level),
        _ => return None,
    })
}

/// One of two kernels.
pub(super) fn pick(second: bool, a: Kernel, b: Kernel) -> Kernel {
    if second { b } else { a }
}

macro_rules! wide_table {
    ($($t:ident = $pattern:pat),*) => {
        fn wide(from: Scalar, to: Scalar, checked: bool, level: Level) -> Option<Kernel> {
            if from == to {
                return None;
            }
            match from { $($pattern => wide_from::<$t>(to, checked, level),)* _ => None }
        }

        fn wide_from<S: $(CastTo<$t> +)*>(to: Scalar, checked: bool, level: Level) -> Option<Kernel> {
            Some(match to {
                $($pattern => pick(checked, kernel::<Cast<S, $t, false>>(level), kernel::<Cast<S, $t, true>>(level)),)*
                _ => return None,
            })
        }

        fn of_bool(to: Scalar, level: Level) -> Option<Kernel> {
            Some(match to { $($pattern => kernel::<OfBool<$t>>(level),)* _ => return None })
        }

        fn truth(from: Scalar, level: Level) -> Option<Kernel> {
            Some(match from { $($pattern => kernel::<Truth<$t>>(level),)* _ => return None })
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
        fn mini_to_f32(format: u8, level: Level) -> Option<Kernel> {
            Some(match format { $($f => kernel::<MiniToF32<$f>>(level),)* _ => return None })
        }

        fn f32_to_mini(format: u8, mode: Mode, level: Level) -> Option<Kernel> {
            Some(match (format, mode) {
                $(($f, Mode { checked: true, .. }) => kernel::<F32ToMini<$f, false, true>>(level),
                ($f, Mode { saturate, .. }) => {
                    pick(saturate, kernel::<F32ToMini<$f, false, false>>(level), kernel::<F32ToMini<$f, true, false>>(level))
                })*
                _ => return None,
            })
        }
    };
}
mini_table!(0 1 2 3 4 5 6 7 8 9 10);

macro_rules! bits_table {
    ($($signed:literal $bits:literal),*) => {
        fn bits_to_i32(signed: bool, bits: u8, level: Level) -> Option<Kernel> {
            Some(match (signed, bits) { $(($signed, $bits) => kernel::<BitsToI32<$signed, $bits>>(level),)* _ => return None })
        }

        fn bits_to_f32(signed: bool, bits: u8, level: Level) -> Option<Kernel> {
            Some(match (signed, bits) { $(($signed, $bits) => kernel::<BitsToF32<$signed, $bits>>(level),)* _ => return None })
        }

        fn i32_to_bits(signed: bool, bits: u8, checked: bool, level: Level) -> Option<Kernel> {
            Some(match (signed, bits) {
                $(($signed, $bits) => pick(
                    checked,
                    kernel::<I32ToBits<$signed, $bits, false>>(level),
                    kernel::<I32ToBits<$signed, $bits, true>>(level),
                ),)*
                _ => return None,
            })
        }

        fn f32_to_bits(signed: bool, bits: u8, checked: bool, level: Level) -> Option<Kernel> {
            Some(match (signed, bits) {
                $(($signed, $bits) => pick(
                    checked,
                    kernel::<F32ToBits<$signed, $bits, false>>(level),
                    kernel::<F32ToBits<$signed, $bits, true>>(level),
                ),)*
                _ => return None,
            })
        }
    };
}
bits_table!(true 1, true 2, true 4, false 1, false 2, false 4);

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// A loop that is not compiled for new processors, because intrinsics stand in for it, is never what they get.
    #[test]
    fn what_is_said_to_be_by_hand_is() {
        let mut all = vec![Scalar::Bool, Scalar::F16, Scalar::BF16, Scalar::F32, Scalar::F64];
        for signed in [true, false] {
            all.extend([8, 16, 32, 64].map(|bits| Scalar::Int(signed, bits)));
            all.extend([1, 2, 4].map(|bits| Scalar::Bits(signed, bits)));
        }
        all.extend((0..11).map(Scalar::Mini));
        for (from, to) in all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))) {
            for (checked, saturate) in [(false, false), (false, true), (true, false), (true, true)] {
                let mode = Mode { checked, saturate };
                let at = |level| direct(from, to, mode, level).map(|kernel| kernel.convert as usize);
                let Some(oldest) = at(Level::Baseline) else { continue };
                for level in [Level::Avx2, Level::Avx512, Level::Avx512Vbmi] {
                    assert_ne!(at(level), Some(oldest), "{from:?} -> {to:?}");
                }
            }
        }
    }
}
