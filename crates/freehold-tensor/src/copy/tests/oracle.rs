//! The naive answer: one element at a time, in `i128` and `f64`, sharing no code with the kernels but the tables
//! that decode narrow floats (which the suite in `tests/interop` checks against ml_dtypes).

use crate::copy::format::{MINI, Specials};
use crate::copy::{CastKind, CopyOptions, Lazy, LossValue, OnLoss, Operand, cast_kind};
use crate::{DType, StrideUnit};

/// A real value, with the bits it came from where it is a NaN.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Int(i128),
    Float(f64),
    Nan { negative: bool, from: DType, bits: u128 },
}

/// Where lane `lane` of the element at `index` lies: its first bit, relative to the operand's address.
pub fn bit_of(operand: &Operand<'_>, index: &[i64], lane: u16) -> i64 {
    let dtype = operand.dtype;
    let padded = operand.traits.contains(Lazy::PADDED) && dtype.is_sub_byte();
    let step = match operand.unit {
        StrideUnit::Bytes => 8,
        StrideUnit::Elements if padded => dtype.padded_size() as i64 * 8,
        StrideUnit::Elements => i64::from(dtype.element_bits()),
    };
    let element: i64 = index.iter().zip(operand.layout.strides).map(|(i, s)| i * s * step).sum();
    element + i64::from(lane) * i64::from(dtype.bits)
}

/// Reads `bits` bits from bit `at` of `bytes`: little-endian, except that whole-byte values are in native order.
pub fn read_bits(bytes: &[u8], at: i64, bits: u8) -> u128 {
    let mut value = 0;
    for i in 0..u32::from(bits) {
        let bit = at as usize + i as usize;
        value |= u128::from(bytes[bit / 8] >> (bit % 8) & 1) << i;
    }
    if bits.is_multiple_of(8) && cfg!(target_endian = "big") { reverse(value, bits) } else { value }
}

/// Writes what [`read_bits`] reads.
pub fn write_bits(bytes: &mut [u8], at: i64, bits: u8, value: u128) {
    let value = if bits.is_multiple_of(8) && cfg!(target_endian = "big") { reverse(value, bits) } else { value };
    for i in 0..u32::from(bits) {
        let bit = at as usize + i as usize;
        bytes[bit / 8] = bytes[bit / 8] & !(1 << (bit % 8)) | ((value >> i & 1) as u8) << (bit % 8);
    }
}

fn reverse(value: u128, bits: u8) -> u128 {
    value.swap_bytes() >> (128 - u32::from(bits))
}

/// Applies or undoes the traits of an operand on one lane's bits; `None` where the dtype cannot.
pub fn resolve(dtype: DType, traits: Lazy, bits: u128, encode: bool) -> Option<u128> {
    let word = dtype.bits / if dtype.is_complex() { 2 } else { 1 };
    let swap = |bits: u128| -> u128 {
        if !traits.contains(Lazy::SWAPPED) || !word.is_multiple_of(8) {
            return bits;
        }
        let (low, high) = split(bits, dtype);
        join(reverse(low, word), high.map(|high| reverse(high, word)), word)
    };
    let mut value = if encode { bits } else { swap(bits) };
    let (mut low, mut high) = split(value, dtype);
    if traits.contains(Lazy::NEG) {
        low = negate(dtype, low, word)?;
        high = match high {
            Some(high) => Some(negate(dtype, high, word)?),
            None => None,
        };
    }
    if traits.contains(Lazy::CONJ) {
        high = match high {
            Some(high) => Some(negate(dtype, high, word)?),
            None => None,
        };
    }
    value = join(low, high, word);
    Some(if encode { swap(value) } else { value })
}

fn split(bits: u128, dtype: DType) -> (u128, Option<u128>) {
    if dtype.is_complex() {
        let word = u32::from(dtype.bits) / 2;
        // Memory order: the real part lies first, which is the low half only on a little-endian machine.
        let (a, b) = (bits & ((1 << word) - 1), bits >> word);
        if cfg!(target_endian = "big") { (b, Some(a)) } else { (a, Some(b)) }
    } else {
        (bits, None)
    }
}

fn join(low: u128, high: Option<u128>, word: u8) -> u128 {
    match high {
        Some(high) if cfg!(target_endian = "big") => low << word | high,
        Some(high) => high << word | low,
        None => low,
    }
}

fn negate(dtype: DType, bits: u128, word: u8) -> Option<u128> {
    let top = 1u128 << (word - 1);
    match dtype.code {
        DType::CODE_INT if word <= 8 || word.is_power_of_two() => Some(bits.wrapping_neg() & (top * 2 - 1)),
        DType::CODE_FLOAT if word > 64 => None,
        DType::CODE_FLOAT | DType::CODE_BFLOAT | DType::CODE_COMPLEX => Some(bits ^ top),
        7..=17 => match MINI[usize::from(dtype.code - 7)].specials {
            Specials::Exponent => None,
            Specials::Fnuz if bits & 0x7f == 0 => Some(bits),
            _ => Some(bits ^ top),
        },
        _ => None,
    }
}

/// The value of a real scalar's bits.
pub fn decode(dtype: DType, bits: u128) -> Value {
    let float = |x: f64| {
        if x.is_nan() { Value::Nan { negative: x.is_sign_negative(), from: dtype, bits } } else { Value::Float(x) }
    };
    match (dtype.code, dtype.bits) {
        (DType::CODE_BOOL, _) => Value::Int(i128::from(bits != 0)),
        (DType::CODE_UINT, _) => Value::Int(bits as i128),
        (DType::CODE_INT, width) => {
            let unused = 128 - u32::from(width);
            Value::Int((bits << unused) as i128 >> unused)
        }
        (DType::CODE_FLOAT, 16) => float(half::f16::from_bits(bits as u16).to_f64()),
        (DType::CODE_FLOAT, 32) => float(f64::from(f32::from_bits(bits as u32))),
        (DType::CODE_FLOAT, _) => float(f64::from_bits(bits as u64)),
        (DType::CODE_BFLOAT, _) => float(half::bf16::from_bits(bits as u16).to_f64()),
        (code, _) => float(f64::from(f32::from_bits(MINI[usize::from(code - 7)].decode(bits as u8)))),
    }
}

/// The bits of a value in a dtype, and whether it was lost on the way (integers only).
pub fn encode(value: Value, dtype: DType, saturate: bool) -> (u128, bool) {
    let range = |signed: bool| -> (i128, i128) {
        let bits = u32::from(dtype.bits);
        if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
    };
    match dtype.code {
        DType::CODE_BOOL => (u128::from(!matches!(value, Value::Int(0) | Value::Float(0.0))), false),
        DType::CODE_INT | DType::CODE_UINT => {
            let (lo, hi) = range(dtype.code == DType::CODE_INT);
            let (whole, lost) = match value {
                Value::Int(v) => (v.clamp(lo, hi), v < lo || v > hi),
                Value::Nan { .. } => (0, true),
                Value::Float(x) => {
                    let whole = (x.trunc() as i128).clamp(lo, hi);
                    (
                        whole,
                        x.trunc() != x || x.trunc() < lo as f64 || x.trunc() > hi as f64 || x.trunc() as i128 != whole,
                    )
                }
            };
            (whole as u128 & (u128::MAX >> (128 - u32::from(dtype.bits))), lost)
        }
        _ => {
            let bits = match value {
                Value::Nan { negative, from, bits } => nan(negative, from, bits, dtype),
                Value::Int(v) => to_float(v as f64, v as f32, dtype, saturate),
                Value::Float(x) => to_float(x, x as f32, dtype, saturate),
            };
            let lost = match value {
                Value::Int(v) => match decode(dtype, bits) {
                    // 2^128 and above saturate to MAX, which no source type holds.
                    Value::Float(x) => x as i128 != v,
                    _ => true,
                },
                _ => false,
            };
            (bits, lost)
        }
    }
}

/// A number in a float dtype: from `f64` where that is rounded once, else from `f32`.
fn to_float(x: f64, single: f32, dtype: DType, saturate: bool) -> u128 {
    let sign = u128::from(x.is_sign_negative());
    match (dtype.code, dtype.bits) {
        (DType::CODE_FLOAT, 64) => u128::from(x.to_bits()),
        (DType::CODE_FLOAT, 32) if saturate && single.is_infinite() => u128::from(f32::MAX.copysign(single).to_bits()),
        (DType::CODE_FLOAT, 32) => u128::from(single.to_bits()),
        (DType::CODE_FLOAT, _) => {
            let bits = nearest_f16(x);
            u128::from(if saturate && bits & 0x7fff == 0x7c00 { bits - 1 } else { bits })
        }
        (DType::CODE_BFLOAT, _) => {
            let bits = half::bf16::from_f32(single).to_bits();
            u128::from(if saturate && bits & 0x7fff == 0x7f80 { bits - 1 } else { bits })
        }
        (code, bits) => {
            let format = MINI[usize::from(code - 7)];
            if format.specials == Specials::Exponent {
                return power_of_two(single, saturate);
            }
            // Nearest of all finite codes, ties to the even one; beyond half a step above the largest: overflow.
            let magnitude = f64::from(single.abs());
            let value = |code: u32| f64::from(f32::from_bits(format.decode(code as u8)));
            let max = format.max_code();
            let near = (0..=max)
                .min_by(|&a, &b| {
                    let (da, db) = ((value(a) - magnitude).abs(), (value(b) - magnitude).abs());
                    da.total_cmp(&db).then((a & 1).cmp(&(b & 1)))
                })
                .expect("a format has finite codes");
            let half_step = (value(max) - value(max - 1)) / 2.0;
            let limit = value(max) + half_step;
            // At the limit itself the tie goes to the even code: up, out of range, if the largest is odd.
            let over = magnitude > limit || magnitude == limit && max & 1 == 1;
            let sign_bit = 1u128 << (bits - 1);
            match format.specials {
                _ if over && (saturate || format.specials == Specials::Finite) => u128::from(max) | (sign * sign_bit),
                Specials::Ieee if over => u128::from(max + 1) | (sign * sign_bit),
                Specials::Fn if over => 0x7f | (sign * sign_bit),
                Specials::Fnuz if over => 0x80,
                Specials::Fnuz if near == 0 => 0,
                _ => u128::from(near) | (sign * sign_bit),
            }
        }
    }
}

/// The `f16` nearest to a number, ties to even. Not `half::f16::from_f64`: on processors with F16C that rounds to
/// `f32` first.
pub fn nearest_f16(x: f64) -> u16 {
    // Scaled by a power of two so that the last bit of the result is 1: only the rounding is inexact.
    let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).clamp(-14, 16);
    let rounded = (x * power(10 - exponent)).round_ties_even() * power(exponent - 10);
    half::f16::from_f64(rounded).to_bits()
}

/// A power of two, exactly; `powi` promises no precision, and has none under Miri.
pub fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `f8_e8m0fnu`, as ml_dtypes rounds to it.
fn power_of_two(x: f32, saturate: bool) -> u128 {
    if x <= 0.0 {
        return 0xff;
    }
    if x < f32::MIN_POSITIVE {
        return u128::from(x > f32::MIN_POSITIVE / 2.0);
    }
    if x.is_infinite() {
        return if saturate { 0xfe } else { 0xff };
    }
    let mut exponent = -126;
    let x = f64::from(x);
    while exponent < 127 && power(exponent + 1) <= x {
        exponent += 1;
    }
    let up = x >= 1.5 * power(exponent);
    let code = (exponent + 127 + i32::from(up)) as u128;
    if code == 0xff && saturate { 0xfe } else { code }
}

fn nan(negative: bool, from: DType, bits: u128, to: DType) -> u128 {
    let sign = u128::from(negative);
    let payload = |bits: u128| if bits == 0 { 1 } else { bits };
    match (from, to) {
        (DType::F16, DType::F32) => sign << 31 | 0x7f80_0000 | (bits & 0x3ff) << 13,
        (DType::F16, DType::F64) => sign << 63 | 0x7ff << 52 | (bits & 0x3ff) << 42,
        (DType::F32, DType::F16) => sign << 15 | 0x7c00 | payload(bits >> 13 & 0x3ff),
        (DType::F64, DType::F16) => sign << 15 | 0x7c00 | payload(bits >> 42 & 0x3ff),
        (DType::BF16, DType::F32) => bits << 16,
        (DType::BF16, DType::F64) => sign << 63 | 0x7ff8 << 48 | (bits & 0x7f) << 45,
        (DType::F32, DType::F64) => sign << 63 | 0x7ff8 << 48 | (bits & 0x3f_ffff) << 29,
        (DType::F64, DType::F32) => sign << 31 | 0x7fc0_0000 | bits >> 29 & 0x3f_ffff,
        (_, DType::F64) => sign << 63 | 0x7ff8 << 48,
        (_, DType::F32) => sign << 31 | 0x7fc0_0000,
        (_, DType::F16) => sign << 15 | 0x7e00,
        (_, DType::BF16) => sign << 15 | 0x7fc0,
        _ => match MINI[usize::from(to.code - 7)].specials {
            Specials::Ieee => sign << 7 | [0x78, 0x7c, 0, 0, 0, 0x7e][usize::from(to.code - 7)],
            Specials::Fn => sign << 7 | 0x7f,
            Specials::Fnuz => 0x80,
            Specials::Exponent => 0xff,
            Specials::Finite => (1 - sign) << (to.bits - 1),
        },
    }
}

/// One lane, cast: its bits in the target, whether it was lost, and its value.
pub fn cast(from: DType, to: DType, bits: u128, options: &CopyOptions) -> (u128, bool, LossValue) {
    let component = |dtype: DType| match (DType { lanes: 1, ..dtype }) {
        DType::C32 => DType::F16,
        DType::C64 => DType::F32,
        DType::C128 => DType::F64,
        real => real,
    };
    let (a, b) = (component(from), component(to));
    let saturate = options.saturate && cast_kind(a, b) != CastKind::Exact;
    let counted = options.on_loss == OnLoss::Error;
    let (real, imag) = split(bits, from);
    let value = decode(a, real);
    let shown = match value {
        Value::Int(v) => LossValue::Int(v),
        Value::Float(x) => LossValue::Float(x),
        Value::Nan { .. } => LossValue::Float(f64::NAN),
    };
    let convert = |bits: u128| if a == b { (bits, false) } else { encode(decode(a, bits), b, saturate) };
    if let (Some(imag), true) = (imag, to.is_bool()) {
        let any = encode(value, to, false).0 | encode(decode(a, imag), to, false).0;
        return (any, false, shown);
    }
    let (low, lost) = convert(real);
    let high = match (imag, to.is_complex()) {
        (_, false) => None,
        (None, true) => Some(0),
        (Some(imag), true) => Some(convert(imag).0),
    };
    (join(low, high, b.bits), lost && counted, shown)
}
