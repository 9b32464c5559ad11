//! Float formats by their parameters, and the exact or once-rounded conversions between `f32`, `f64` and the
//! narrow ones.
//!
//! Every conversion is branch-free integer code (plus one exact FPU addition for subnormals), so that the loops
//! in [`super::kernel`] vectorise. But for `f32 <-> f64`, which is the processor's, none depends on the subnormal
//! mode that `torch.set_flush_denormal` sets.
//!
//! What NumPy 2.4 and ml_dtypes 0.6 were found to do, and what is done here bit for bit:
//!
//! * `f64 -> f16` rounds once. `f64 -> bf16`, f8, f6, f4 (and integer -> any of them) round to `f32` first and then
//!   again. PyTorch does too, and to `f16` as well: there it differs from NumPy, and so from here. It shows only
//!   within a relative 2^-25 of a tie.
//! * `f32/f64 -> f16` and `f16 -> f32/f64` keep the NaN payload and do **not** quieten a signalling NaN (NumPy does
//!   them in software). `f32 <-> f64` are the processor's, which quietens. `-> bf16` and the f8 kinds give their one
//!   canonical NaN, with the sign where the format has one; `bf16 -> f16` does too.
//! * Overflow goes to infinity where there is one, else to NaN (f8 `fn`, `fnuz`), else to the largest value (f6, f4).
//! * f6 and f4 have no NaN: a positive NaN becomes `-0`, a negative one `+0`.
//! * `f8_e8m0fnu` is a power of two: zero and negative values become NaN, a tie (1.5 x 2^k) rounds up, and below
//!   2^-126, where `f32` is subnormal, everything above 2^-127 rounds up to 2^-126.

/// How a format spends its top codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Specials {
    /// Infinities and NaNs at the largest exponent.
    Ieee,
    /// One NaN a sign, all ones; no infinity.
    Fn,
    /// One NaN at the code of negative zero; no infinity, no negative zero.
    Fnuz,
    /// Neither NaN nor infinity.
    Finite,
    /// `f8_e8m0fnu`: an exponent and nothing else; all ones is NaN.
    Exponent,
}

/// The parameters of a binary float format.
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub exp_bits: u32,
    pub man_bits: u32,
    pub bias: i32,
    pub specials: Specials,
}

const fn format(exp_bits: u32, man_bits: u32, bias: i32, specials: Specials) -> Format {
    Format { exp_bits, man_bits, bias, specials }
}

pub(super) const F16: Format = format(5, 10, 15, Specials::Ieee);
pub(super) const BF16: Format = format(8, 7, 127, Specials::Ieee);
pub(super) const F32: Format = format(8, 23, 127, Specials::Ieee);
pub(super) const F64: Format = format(11, 52, 1023, Specials::Ieee);

/// The formats that fit a byte, in the order of their DLPack codes from 7 on.
pub(super) const MINI: [Format; 11] = [
    format(3, 4, 3, Specials::Ieee),       // f8_e3m4
    format(4, 3, 7, Specials::Ieee),       // f8_e4m3
    format(4, 3, 11, Specials::Fnuz),      // f8_e4m3b11fnuz
    format(4, 3, 7, Specials::Fn),         // f8_e4m3fn
    format(4, 3, 8, Specials::Fnuz),       // f8_e4m3fnuz
    format(5, 2, 15, Specials::Ieee),      // f8_e5m2
    format(5, 2, 16, Specials::Fnuz),      // f8_e5m2fnuz
    format(8, 0, 127, Specials::Exponent), // f8_e8m0fnu
    format(2, 3, 1, Specials::Finite),     // f6_e2m3fn
    format(3, 2, 3, Specials::Finite),     // f6_e3m2fn
    format(2, 1, 1, Specials::Finite),     // f4_e2m1fn
];

impl Format {
    pub(super) const fn has_inf(&self) -> bool {
        matches!(self.specials, Specials::Ieee)
    }

    pub(super) const fn has_nan(&self) -> bool {
        !matches!(self.specials, Specials::Finite)
    }

    pub(super) const fn has_zero(&self) -> bool {
        !matches!(self.specials, Specials::Exponent)
    }

    /// Whether the format has a sign, and a zero of each sign.
    pub(super) const fn has_negative_zero(&self) -> bool {
        matches!(self.specials, Specials::Ieee | Specials::Fn | Specials::Finite)
    }

    /// The sign bit, or 0 for the format without one.
    pub(super) const fn sign_bit(&self) -> u32 {
        if matches!(self.specials, Specials::Exponent) { 0 } else { 1 << (self.exp_bits + self.man_bits) }
    }

    /// Mask of the bits a code occupies.
    pub(super) const fn mask(&self) -> u32 {
        if matches!(self.specials, Specials::Exponent) { 0xff } else { self.sign_bit() * 2 - 1 }
    }

    /// The code of the largest finite value (formats up to 16 bits).
    pub(super) const fn max_code(&self) -> u32 {
        let all = (1u32 << (self.exp_bits + self.man_bits)) - 1;
        match self.specials {
            Specials::Ieee => all - (1 << self.man_bits),
            Specials::Fn | Specials::Exponent => all - 1,
            Specials::Fnuz | Specials::Finite => all,
        }
    }

    /// The exponent of the least bit of a subnormal value: every value is a multiple of 2 to this power.
    pub(super) const fn quantum(&self) -> i32 {
        match self.specials {
            Specials::Exponent => -127,
            _ => 1 - self.bias - self.man_bits as i32,
        }
    }

    /// The exponent of the largest finite value.
    pub(super) const fn max_exponent(&self) -> i32 {
        let top = (1 << self.exp_bits) - 1 - self.bias;
        match self.specials {
            Specials::Ieee | Specials::Exponent => top - 1,
            // With no mantissa bits to spare, the NaN would take the whole top exponent; no such format is listed.
            Specials::Fn | Specials::Fnuz | Specials::Finite => top,
        }
    }

    /// The mantissa of the largest finite value, as an integer below 2^(man_bits + 1).
    pub(super) const fn max_mantissa(&self) -> u64 {
        let full = (1u64 << (self.man_bits + 1)) - 1;
        if matches!(self.specials, Specials::Fn) { full - 1 } else { full }
    }

    /// The bits of the `f32` that equals a code; bits above the format's width are ignored.
    pub(super) const fn decode(&self, code: u8) -> u32 {
        let code = code as u32 & self.mask();
        if matches!(self.specials, Specials::Exponent) {
            return match code {
                0xff => 0x7fc0_0000,
                0 => 0x0040_0000,
                _ => code << 23,
            };
        }
        let sign = if code & self.sign_bit() != 0 { 0x8000_0000u32 } else { 0 };
        let magnitude = code & (self.sign_bit() - 1);
        let all = self.sign_bit() - 1;
        let top = ((1u32 << self.exp_bits) - 1) << self.man_bits;
        match self.specials {
            Specials::Ieee if magnitude == top => return sign | 0x7f80_0000,
            Specials::Ieee if magnitude > top => return sign | 0x7fc0_0000,
            Specials::Fn if magnitude == all => return sign | 0x7fc0_0000,
            Specials::Fnuz if code == self.sign_bit() => return 0xffc0_0000,
            _ => {}
        }
        let (mut exp, mut man) = ((magnitude >> self.man_bits) as i32, magnitude & ((1 << self.man_bits) - 1));
        if exp == 0 {
            if man == 0 {
                return sign;
            }
            // Every subnormal of these formats is a normal f32: shift the leading one into place.
            exp = 1;
            while man >> self.man_bits == 0 {
                man <<= 1;
                exp -= 1;
            }
            man &= (1 << self.man_bits) - 1;
        }
        sign | (((exp - self.bias + 127) as u32) << 23) | (man << (23 - self.man_bits))
    }

    /// The 256 values of [`Format::decode`].
    pub(super) const fn table(&self) -> [f32; 256] {
        let mut table = [0.0; 256];
        let mut i = 0;
        while i < 256 {
            table[i] = f32::from_bits(self.decode(i as u8));
            i += 1;
        }
        table
    }

    /// An `f32` rounded to this format (at most 16 bits), ties to even; with `saturate`, overflow and infinities
    /// become the largest finite value. NaN becomes the format's canonical one.
    #[inline(always)]
    pub(super) const fn encode(&self, x: f32, saturate: bool) -> u32 {
        let bits = x.to_bits();
        let a = bits & 0x7fff_ffff;
        let nan = a > 0x7f80_0000;
        if matches!(self.specials, Specials::Exponent) {
            let rounded = if a < 0x0080_0000 { (a > 0x0040_0000) as u32 } else { (a + 0x0040_0000) >> 23 };
            let rounded = if saturate && !nan && rounded > 0xfe { 0xfe } else { rounded };
            return if bits >> 31 != 0 || a == 0 || nan || rounded > 0xfe { 0xff } else { rounded };
        }
        let drop = 23 - self.man_bits;
        // Normal results: round the bits, then rebase the exponent; a carry runs into the exponent as it should.
        let normal = (a + ((1 << (drop - 1)) - 1) + (a >> drop & 1)) >> drop;
        let normal = normal.wrapping_sub(((127 - self.bias) as u32) << self.man_bits);
        // Subnormal results: adding a power of two whose ulp is the format's quantum makes the FPU round to it.
        let magic = ((self.quantum() + 23 + 127) as u32) << 23;
        let subnormal = if self.bias == 127 {
            normal // same exponent range as f32: the first path is right for subnormals too
        } else {
            (f32::from_bits(a) + f32::from_bits(magic)).to_bits().wrapping_sub(magic)
        };
        let code = if a < ((127 - self.bias + 1) as u32) << 23 { subnormal } else { normal };
        let max = self.max_code();
        // Compared as f32 bits too: above 2^128 / 2^bias the rebased exponent has no room to wrap, but inf has.
        let over = code > max;
        let beyond = match self.specials {
            _ if saturate => max,
            Specials::Ieee => max + 1,
            Specials::Finite => max,
            _ => self.nan_code(),
        };
        let code = if over { beyond } else { code };
        let sign = if bits >> 31 != 0 { self.sign_bit() } else { 0 };
        match self.specials {
            Specials::Fnuz => {
                // No negative zero: its code is NaN, which has no sign.
                let signed = if code == 0 { 0 } else { code | sign };
                if nan { self.sign_bit() } else { signed }
            }
            Specials::Finite => {
                if nan {
                    self.sign_bit() ^ sign
                } else {
                    code | sign
                }
            }
            _ => {
                if nan {
                    self.nan_code() | sign
                } else {
                    code | sign
                }
            }
        }
    }

    /// The canonical NaN without its sign.
    pub(super) const fn nan_code(&self) -> u32 {
        match self.specials {
            Specials::Ieee => (((1 << self.exp_bits) - 1) << self.man_bits) | (1 << (self.man_bits - 1)),
            Specials::Fn => self.sign_bit() - 1,
            Specials::Fnuz => self.sign_bit(),
            Specials::Finite => 0,
            Specials::Exponent => 0xff,
        }
    }
}

/// `f16` bits to `f32`, exactly; a NaN keeps its payload and its signalling bit.
#[inline(always)]
pub(super) fn f16_to_f32(h: u16) -> f32 {
    let h = u32::from(h);
    let (sign, a) = ((h & 0x8000) << 16, (h & 0x7fff) << 13);
    let normal = a + (112 << 23);
    let special = a | 0x7f80_0000;
    // (1 + m) 2^-14 - 2^-14: exact, and neither operand is subnormal.
    let subnormal = (f32::from_bits(a + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let bits = if a >= 0x7c00 << 13 {
        special
    } else if a < 0x0400 << 13 {
        subnormal
    } else {
        normal
    };
    f32::from_bits(bits | sign)
}

/// `f16` bits to `f64`, exactly; a NaN keeps its payload and its signalling bit.
#[inline(always)]
pub(super) fn f16_to_f64(h: u16) -> f64 {
    let h64 = u64::from(h);
    if h & 0x7fff > 0x7c00 {
        return f64::from_bits((h64 & 0x8000) << 48 | 0x7ff0_0000_0000_0000 | (h64 & 0x03ff) << 42);
    }
    f64::from(f16_to_f32(h))
}

/// `f32` to `f16` bits, rounded once; a NaN keeps the top of its payload.
#[inline(always)]
pub(super) fn f32_to_f16(x: f32, saturate: bool) -> u16 {
    let bits = x.to_bits();
    let code = F16.encode(x, saturate);
    let payload = bits >> 13 & 0x03ff;
    let nan = (bits >> 16 & 0x8000) | 0x7c00 | if payload == 0 { 1 } else { payload };
    (if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { code }) as u16
}

/// `f64` to `f16` bits, rounded once; a NaN keeps the top of its payload.
#[inline(always)]
pub(super) fn f64_to_f16(x: f64, saturate: bool) -> u16 {
    let bits = x.to_bits();
    let a = bits & 0x7fff_ffff_ffff_ffff;
    let normal = (a + ((1 << 41) - 1) + (a >> 42 & 1)) >> 42;
    let normal = normal.wrapping_sub((1023 - 15) << 10);
    const MAGIC: u64 = (1023 + 52 - 24) << 52;
    let subnormal = (f64::from_bits(a) + f64::from_bits(MAGIC)).to_bits().wrapping_sub(MAGIC);
    let code = if a < (1023 - 14) << 52 { subnormal } else { normal };
    let code = if code >= 0x7c00 { if saturate { 0x7bff } else { 0x7c00 } } else { code };
    let payload = a >> 42 & 0x03ff;
    let nan = 0x7c00 | if payload == 0 { 1 } else { payload };
    let code = if a > 0x7ff0_0000_0000_0000 { nan } else { code };
    (code | (bits >> 48 & 0x8000)) as u16
}

/// `bf16` bits to `f32`, exactly.
#[inline(always)]
pub(super) fn bf16_to_f32(b: u16) -> f32 {
    f32::from_bits(u32::from(b) << 16)
}

/// `bf16` bits to `f16` bits: unlike from `f32`, ml_dtypes makes every NaN the canonical one.
#[inline(always)]
pub(super) fn bf16_to_f16(b: u16, saturate: bool) -> u16 {
    F16.encode(bf16_to_f32(b), saturate) as u16
}

/// `f64` to `f32`; with `saturate`, overflow and infinities become the largest finite value.
#[inline(always)]
pub(super) fn f64_to_f32(x: f64, saturate: bool) -> f32 {
    let y = x as f32;
    if saturate && y.is_infinite() { f32::MAX.copysign(y) } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::tests::{nearest_f16, power};

    #[test]
    fn f16_agrees_with_the_half_crate_on_every_code() {
        for h in (0..=u16::MAX).step_by(if cfg!(miri) { 251 } else { 1 }) {
            let ours = f16_to_f32(h);
            let theirs = half::f16::from_bits(h).to_f32();
            if theirs.is_nan() {
                // half quietens, NumPy does not.
                assert_eq!(ours.to_bits() | 0x0040_0000, theirs.to_bits(), "{h:#x}");
                assert!(f16_to_f64(h).is_nan());
            } else {
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{h:#x}");
                assert_eq!(f16_to_f64(h), f64::from(theirs));
            }
            assert_eq!(f32_to_f16(ours, false), h, "{h:#x}");
            assert_eq!(f64_to_f16(f16_to_f64(h), false), h, "{h:#x}");
            assert_eq!(bf16_to_f32(h).to_bits(), u32::from(h) << 16);
        }
    }

    #[test]
    fn narrowing_agrees_with_the_half_crate() {
        let mut x: u64 = 0x9e37_79b9_7f4a_7c15;
        for i in 0..if cfg!(miri) { 500 } else { 400_000 } {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            // Half of the samples near the range of f16, so that subnormals and ties are met.
            let wide = if i % 2 == 0 { f64::from_bits(x) } else { (x as i64) as f64 * power(-40 - (i % 50)) };
            let single = wide as f32;
            if wide.is_nan() || single.is_nan() {
                continue;
            }
            assert_eq!(f64_to_f16(wide, false), nearest_f16(wide), "{wide:e}");
            assert_eq!(f32_to_f16(single, false), half::f16::from_f32(single).to_bits(), "{single:e}");
            assert_eq!(BF16.encode(single, false) as u16, half::bf16::from_f32(single).to_bits(), "{single:e}");
        }
    }

    #[test]
    fn every_mini_code_survives_f32_and_saturation_clamps() {
        for format in &MINI {
            for code in 0..=format.mask() {
                let x = f32::from_bits(format.decode(code as u8));
                if x.is_nan() || (format.specials == Specials::Finite && x.is_nan()) {
                    assert!(f32::from_bits(format.decode(format.encode(x, true) as u8)).is_nan());
                    continue;
                }
                assert_eq!(format.encode(x, false), code);
            }
            let max = f32::from_bits(format.decode(format.max_code() as u8));
            assert_eq!(format.encode(f32::INFINITY, true), format.max_code());
            assert_eq!(format.encode(f32::MAX, true), format.max_code());
            assert_eq!(
                max,
                (format.max_mantissa() as f32 * power(format.max_exponent() - format.man_bits as i32) as f32)
            );
            if format.sign_bit() != 0 {
                assert_eq!(format.encode(f32::NEG_INFINITY, true), format.max_code() | format.sign_bit());
            }
        }
        assert_eq!(f32_to_f16(1e9, true), 0x7bff);
        assert_eq!(f64_to_f16(f64::NEG_INFINITY, true), 0xfbff);
        assert_eq!(BF16.encode(f32::MAX, true), 0x7f7f);
        assert_eq!(f64_to_f32(1e300, true), f32::MAX);
    }

    #[test]
    fn the_corner_cases_of_ml_dtypes() {
        let e8m0 = &MINI[7];
        for (x, code) in [(0.0, 0xff), (-1.0, 0xff), (1e-45, 0), (5.9e-39, 1), (1.5, 0x80), (3.4e38, 0xff), (3.0, 0x81)]
        {
            assert_eq!(e8m0.encode(x, false), code, "{x:e}");
        }
        let e4m3fn = &MINI[3];
        assert_eq!(e4m3fn.encode(464.0, false), 0x7e); // a tie between 448 and the code that NaN took
        assert_eq!(e4m3fn.encode(464.1, false), 0x7f);
        let f6 = &MINI[8];
        assert_eq!((f6.encode(f32::NAN, false), f6.encode(-f32::NAN, false)), (0x20, 0));
        assert_eq!(MINI[4].encode(-1e-30, false), 0);
    }
}
