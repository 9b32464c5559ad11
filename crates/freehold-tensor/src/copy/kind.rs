//! What kind of cast a pair of dtypes is, from the dtypes alone.

use super::format::{BF16, F16, F32, F64, Format, MINI};
use crate::DType;

/// What a cast between two dtypes can do to values.
///
/// ```
/// use freehold_tensor::DType;
/// use freehold_tensor::copy::{CastKind, cast_kind};
///
/// // Which dtypes hold every i16?
/// let holds = |to| matches!(cast_kind(DType::I16, to), CastKind::Same | CastKind::Exact);
/// assert!(holds(DType::I32) && holds(DType::F32));
/// assert!(!holds(DType::U32) && !holds(DType::F16));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CastKind {
    /// The same dtype: bits are copied.
    Same,
    /// Every value of the source has its equal in the target.
    Exact,
    /// Between float (or complex) types, rounding to nearest even. Never counted as a loss.
    Rounds,
    /// From or to an integer, where some values have no equal in the target: a loss that is counted.
    MayLose,
    /// Complex to real, or anything to bool: refused unless losses are allowed.
    TruthOrReal,
    /// Not a cast this engine has.
    Unsupported,
}

/// What the values of one lane are, for choosing a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scalar {
    Bool,
    /// Whole-byte integers of 8 to 64 bits: signed, bits.
    Int(bool, u8),
    /// Integers of 1, 2 or 4 bits, one in a byte by the time a kernel sees them: signed, bits.
    Bits(bool, u8),
    F16,
    BF16,
    F32,
    F64,
    /// A float format of at most 8 bits: its index in [`MINI`].
    Mini(u8),
}

impl Scalar {
    /// The kind of a real dtype's lane.
    pub(super) const fn of(dtype: DType) -> Option<Scalar> {
        Some(match (dtype.code, dtype.bits) {
            (DType::CODE_BOOL, 8) => Scalar::Bool,
            (DType::CODE_INT, bits @ (8 | 16 | 32 | 64)) => Scalar::Int(true, bits),
            (DType::CODE_UINT, bits @ (8 | 16 | 32 | 64)) => Scalar::Int(false, bits),
            (DType::CODE_INT, bits @ (1 | 2 | 4)) => Scalar::Bits(true, bits),
            (DType::CODE_UINT, bits @ (1 | 2 | 4)) => Scalar::Bits(false, bits),
            (DType::CODE_FLOAT, 16) => Scalar::F16,
            (DType::CODE_FLOAT, 32) => Scalar::F32,
            (DType::CODE_FLOAT, 64) => Scalar::F64,
            (DType::CODE_BFLOAT, 16) => Scalar::BF16,
            (code @ 7..=14, 8) | (code @ 15..=16, 6) | (code @ 17, 4) => Scalar::Mini(code - 7),
            _ => return None,
        })
    }

    /// The kind of each component of a complex dtype's lane.
    pub(super) const fn of_component(dtype: DType) -> Option<Scalar> {
        match (dtype.code, dtype.bits) {
            (DType::CODE_COMPLEX, 32) => Some(Scalar::F16),
            (DType::CODE_COMPLEX, 64) => Some(Scalar::F32),
            (DType::CODE_COMPLEX, 128) => Some(Scalar::F64),
            _ => None,
        }
    }

    /// Bytes of one value in a block, where a sub-byte value has a byte to itself.
    pub(super) const fn size(self) -> usize {
        match self {
            Scalar::Bool | Scalar::Bits(..) | Scalar::Mini(_) => 1,
            Scalar::Int(_, bits) => bits as usize / 8,
            Scalar::F16 | Scalar::BF16 => 2,
            Scalar::F32 => 4,
            Scalar::F64 => 8,
        }
    }

    pub(super) const fn float_format(self) -> Option<Format> {
        match self {
            Scalar::F16 => Some(F16),
            Scalar::BF16 => Some(BF16),
            Scalar::F32 => Some(F32),
            Scalar::F64 => Some(F64),
            Scalar::Mini(i) => Some(MINI[i as usize]),
            _ => None,
        }
    }

    /// Sign and bits of an integer; a truth value counts as an unsigned bit.
    const fn integer(self) -> Option<(bool, u8)> {
        match self {
            Scalar::Bool => Some((false, 1)),
            Scalar::Int(signed, bits) | Scalar::Bits(signed, bits) => Some((signed, bits)),
            _ => None,
        }
    }
}

/// Whether a cast can be done at all, and whether it may lose; decided from the dtypes alone.
///
/// ```
/// use freehold_tensor::DType;
/// use freehold_tensor::copy::{CastKind, cast_kind};
///
/// assert_eq!(cast_kind(DType::F64, DType::F32), CastKind::Rounds);
/// assert_eq!(cast_kind(DType::F32, DType::I64), CastKind::MayLose);
/// assert_eq!(cast_kind(DType::C64, DType::F32), CastKind::TruthOrReal);
/// assert_eq!(cast_kind(DType::F32, DType::F32.with_lanes(2)), CastKind::Unsupported);
/// ```
pub const fn cast_kind(from: DType, to: DType) -> CastKind {
    if from.code == to.code && from.bits == to.bits && from.lanes == to.lanes {
        // Any element can be moved as bits, opaque handles and 80-bit floats too.
        return if from.element_bits() == 0 { CastKind::Unsupported } else { CastKind::Same };
    }
    if from.lanes != to.lanes || from.lanes == 0 {
        return CastKind::Unsupported;
    }
    let (from_part, to_part) = (Scalar::of_component(from), Scalar::of_component(to));
    match (from_part, to_part, Scalar::of(from), Scalar::of(to)) {
        (Some(a), Some(b), ..) | (None, Some(b), Some(a), _) => real_kind(a, b),
        (Some(_), None, _, Some(_)) => CastKind::TruthOrReal,
        (None, None, Some(_), Some(Scalar::Bool)) => CastKind::TruthOrReal,
        (None, None, Some(a), Some(b)) => real_kind(a, b),
        _ => CastKind::Unsupported,
    }
}

const fn real_kind(from: Scalar, to: Scalar) -> CastKind {
    match (from.integer(), to.integer(), from.float_format(), to.float_format()) {
        (None, None, Some(a), Some(b)) => {
            if float_in_float(&a, &b) {
                CastKind::Exact
            } else {
                CastKind::Rounds
            }
        }
        (Some((a_signed, a)), Some((b_signed, b)), ..) => {
            let fits = match (a_signed, b_signed) {
                (false, true) => a < b,
                (true, false) => false,
                _ => a <= b,
            };
            if fits { CastKind::Exact } else { CastKind::MayLose }
        }
        (Some((signed, bits)), None, _, Some(f)) => {
            if integer_in_float(signed, bits, &f) {
                CastKind::Exact
            } else {
                CastKind::MayLose
            }
        }
        _ => CastKind::MayLose,
    }
}

/// Whether every code of `a`, infinities, NaN and both zeros included, has its equal in `b`.
const fn float_in_float(a: &Format, b: &Format) -> bool {
    let specials = (!a.has_inf() || b.has_inf())
        && (!a.has_nan() || b.has_nan())
        && (!a.has_zero() || b.has_zero())
        && (!a.has_negative_zero() || b.has_negative_zero());
    if !specials || a.man_bits > b.man_bits || a.quantum() < b.quantum() {
        return false;
    }
    a.max_exponent() < b.max_exponent()
        || a.max_exponent() == b.max_exponent() && (a.max_mantissa() << (b.man_bits - a.man_bits)) <= b.max_mantissa()
}

const fn integer_in_float(signed: bool, bits: u8, f: &Format) -> bool {
    // A signed minimum is a power of two: it needs one bit of precision, but the exponent `bits - 1`.
    let digits = if signed { bits - 1 } else { bits } as u32;
    let exponent = bits as i32 - 1;
    // The one format without a zero has no sign either.
    if digits > f.man_bits + 1 || f.quantum() > 0 || !f.has_zero() {
        return false;
    }
    // All ones at the top exponent: exact only if the format's own top mantissa is at least that.
    exponent < f.max_exponent()
        || exponent == f.max_exponent()
            && (signed || (((1u64 << bits) - 1) << (f.man_bits + 1 - digits)) <= f.max_mantissa())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KNOWN_DTYPES;

    /// Every value of a narrow dtype as `f64`, decoded by the tables that the bit-exact suite checks.
    fn values(dtype: DType) -> Option<Vec<f64>> {
        let scalar = Scalar::of(dtype)?;
        Some(match scalar {
            Scalar::Bool => vec![0.0, 1.0],
            Scalar::Int(signed, bits) | Scalar::Bits(signed, bits) if bits <= 16 => {
                let lo = if signed { -(1i64 << (bits - 1)) } else { 0 };
                (lo..lo + (1 << bits)).map(|v| v as f64).collect()
            }
            Scalar::Mini(i) => {
                let f = MINI[i as usize];
                (0..=f.mask()).map(|c| f64::from(f32::from_bits(f.decode(c as u8)))).collect()
            }
            Scalar::F16 => (0..=u16::MAX).map(|h| f64::from(super::super::format::f16_to_f32(h))).collect(),
            Scalar::BF16 => (0..=u16::MAX).map(|h| f64::from(super::super::format::bf16_to_f32(h))).collect(),
            _ => return None,
        })
    }

    #[test]
    #[cfg_attr(miri, ignore = "65 536 values a pair")]
    fn exact_means_that_every_value_of_the_source_is_a_value_of_the_target() {
        for &from in KNOWN_DTYPES {
            let Some(source) = values(from) else { continue };
            for &to in KNOWN_DTYPES {
                let Some(target) = values(to) else { continue };
                if from == to || to == DType::BOOL {
                    continue;
                }
                // -0.0 and 0.0 are different values of a float pair, one value where an integer is involved.
                let floats = from.is_float() && to.is_float();
                let key = |x: f64| {
                    if x.is_nan() {
                        u64::MAX
                    } else if floats {
                        x.to_bits()
                    } else {
                        (x + 0.0).to_bits()
                    }
                };
                let target: std::collections::HashSet<u64> = target.into_iter().map(key).collect();
                let exact = source.iter().all(|&x| target.contains(&key(x)));
                let expected = match (exact, floats) {
                    (true, _) => CastKind::Exact,
                    (false, true) => CastKind::Rounds,
                    (false, false) => CastKind::MayLose,
                };
                assert_eq!(cast_kind(from, to), expected, "{from} -> {to}");
            }
        }
    }

    #[test]
    fn wide_and_complex_pairs() {
        for (from, to, kind) in [
            (DType::I32, DType::F64, CastKind::Exact),
            (DType::I64, DType::F64, CastKind::MayLose),
            (DType::I32, DType::F32, CastKind::MayLose),
            (DType::F32, DType::F64, CastKind::Exact),
            (DType::F64, DType::F32, CastKind::Rounds),
            (DType::F32, DType::I64, CastKind::MayLose),
            (DType::C64, DType::C128, CastKind::Exact),
            (DType::C128, DType::C32, CastKind::Rounds),
            (DType::F64, DType::C64, CastKind::Rounds),
            (DType::I64, DType::C64, CastKind::MayLose),
            (DType::BOOL, DType::C32, CastKind::Exact),
            (DType::C64, DType::F64, CastKind::TruthOrReal),
            (DType::C64, DType::BOOL, CastKind::TruthOrReal),
            (DType::I8, DType::BOOL, CastKind::TruthOrReal),
            (DType::BOOL, DType::BOOL, CastKind::Same),
            (DType::F32.with_lanes(2), DType::F64.with_lanes(2), CastKind::Exact),
            (DType::F32.with_lanes(2), DType::F64, CastKind::Unsupported),
            (DType::new(DType::CODE_FLOAT, 80), DType::F64, CastKind::Unsupported),
            (DType::new(DType::CODE_FLOAT, 80), DType::new(DType::CODE_FLOAT, 80), CastKind::Same),
            (DType::new(DType::CODE_OPAQUE, 64), DType::U64, CastKind::Unsupported),
        ] {
            assert_eq!(cast_kind(from, to), kind, "{from} -> {to}");
        }
    }
}
