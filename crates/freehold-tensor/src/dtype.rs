//! Element types: the DLPack 1.3 type codes, their names in the field, and sets of them.

use std::fmt;

use crate::FieldError;

/// An element type exactly as DLPack carries it (`DLDataType`): code, bits of one lane, lanes.
///
/// ```
/// use freehold_tensor::DType;
///
/// assert_eq!(DType::from_name("bfloat16"), Some(DType::BF16));
/// assert_eq!(DType::BF16.to_string(), "bf16");
/// assert!(DType { code: 2, bits: 24, lanes: 1 }.validate().is_err()); // no float has 24 bits
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct DType {
    /// Type code (`DLDataTypeCode`), an open set.
    pub code: u8,
    /// Bits of one lane.
    pub bits: u8,
    /// Lanes of a vector element; 1 for a scalar.
    pub lanes: u16,
}

macro_rules! dtypes {
    ($($index:literal $name:ident = ($code:literal, $bits:literal), $long:literal, $short:literal;)*) => {
        /// By bits, the codes with which they make a plain element, each a bit. A table, as this is asked at every hand-over.
static PLAIN: [u8; 256] = {
    // By code: the widths in bytes, each a bit of its own value.
    const WIDTHS: [u8; PLAIN_CODES] = [0b1111, 0b1111, 0b1110, 0, 0b0010, 0b11100, 0b0001, 0];
    let mut codes = [0; 256];
    let mut code = 0;
    while code < WIDTHS.len() {
        let mut size = 1;
        while size <= 16 {
            if WIDTHS[code] & size != 0 {
                codes[size as usize * 8] |= 1 << code;
            }
            size *= 2;
        }
        code += 1;
    }
    codes
};
const PLAIN_CODES: usize = 8;

impl DType {
            $(#[doc = concat!("`", $long, "`")] pub const $name: DType = DType::new($code, $bits);)*

            /// The position of a scalar dtype in [`KNOWN_DTYPES`], for sets and dispatch tables.
            #[inline]
            pub const fn index(self) -> Option<u8> {
                if self.lanes != 1 {
                    return None;
                }
                match (self.code, self.bits) { $(($code, $bits) => Some($index),)* _ => None }
            }

            /// The full name that `dtype=` takes: `float32`, `bfloat16`, `float8_e4m3fn`.
            pub const fn name(self) -> Option<&'static str> {
                if self.lanes != 1 {
                    return None;
                }
                match (self.code, self.bits) { $(($code, $bits) => Some($long),)* _ => None }
            }

            /// The short name of messages: `f32`, `bf16`, `f8_e4m3fn`.
            pub const fn short_name(self) -> Option<&'static str> {
                if self.lanes != 1 {
                    return None;
                }
                match (self.code, self.bits) { $(($code, $bits) => Some($short),)* _ => None }
            }

            /// The dtype with this full or short name.
            pub fn from_name(name: &str) -> Option<DType> {
                match name { $($long | $short => Some(DType::new($code, $bits)),)* _ => None }
            }
        }

        /// Every scalar dtype with a name, in the order of [`DType::index`].
        ///
        /// ```
        /// use freehold_tensor::{DType, KNOWN_DTYPES};
        ///
        /// let names: Vec<_> = KNOWN_DTYPES.iter().take(3).filter_map(|dtype| dtype.name()).collect();
        /// assert_eq!(names, ["bool", "int8", "int16"]);
        /// assert_eq!(DType::I16.index(), Some(2));
        /// ```
        pub const KNOWN_DTYPES: &[DType] = &[$(DType::$name),*];
    };
}

dtypes! {
    0 BOOL = (6, 8), "bool", "bool_";
    1 I8 = (0, 8), "int8", "i8";
    2 I16 = (0, 16), "int16", "i16";
    3 I32 = (0, 32), "int32", "i32";
    4 I64 = (0, 64), "int64", "i64";
    5 U8 = (1, 8), "uint8", "u8";
    6 U16 = (1, 16), "uint16", "u16";
    7 U32 = (1, 32), "uint32", "u32";
    8 U64 = (1, 64), "uint64", "u64";
    9 F16 = (2, 16), "float16", "f16";
    10 BF16 = (4, 16), "bfloat16", "bf16";
    11 F32 = (2, 32), "float32", "f32";
    12 F64 = (2, 64), "float64", "f64";
    13 C32 = (5, 32), "complex32", "c32";
    14 C64 = (5, 64), "complex64", "c64";
    15 C128 = (5, 128), "complex128", "c128";
    16 F8_E3M4 = (7, 8), "float8_e3m4", "f8_e3m4";
    17 F8_E4M3 = (8, 8), "float8_e4m3", "f8_e4m3";
    18 F8_E4M3B11FNUZ = (9, 8), "float8_e4m3b11fnuz", "f8_e4m3b11fnuz";
    19 F8_E4M3FN = (10, 8), "float8_e4m3fn", "f8_e4m3fn";
    20 F8_E4M3FNUZ = (11, 8), "float8_e4m3fnuz", "f8_e4m3fnuz";
    21 F8_E5M2 = (12, 8), "float8_e5m2", "f8_e5m2";
    22 F8_E5M2FNUZ = (13, 8), "float8_e5m2fnuz", "f8_e5m2fnuz";
    23 F8_E8M0FNU = (14, 8), "float8_e8m0fnu", "f8_e8m0fnu";
    24 F6_E2M3FN = (15, 6), "float6_e2m3fn", "f6_e2m3fn";
    25 F6_E3M2FN = (16, 6), "float6_e3m2fn", "f6_e3m2fn";
    26 F4_E2M1FN = (17, 4), "float4_e2m1fn", "f4_e2m1fn";
    27 I4 = (0, 4), "int4", "i4";
    28 U4 = (1, 4), "uint4", "u4";
    29 I2 = (0, 2), "int2", "i2";
    30 U2 = (1, 2), "uint2", "u2";
    31 U1 = (1, 1), "uint1", "u1";
}

/// DLPack type codes by name; see [`DType::code`].
impl DType {
    /// `kDLInt`
    pub const CODE_INT: u8 = 0;
    /// `kDLUInt`
    pub const CODE_UINT: u8 = 1;
    /// `kDLFloat`
    pub const CODE_FLOAT: u8 = 2;
    /// `kDLOpaqueHandle`
    pub const CODE_OPAQUE: u8 = 3;
    /// `kDLBfloat`
    pub const CODE_BFLOAT: u8 = 4;
    /// `kDLComplex`
    pub const CODE_COMPLEX: u8 = 5;
    /// `kDLBool`
    pub const CODE_BOOL: u8 = 6;
    /// The last code DLPack 1.3 assigns (`kDLFloat4_e2m1fn`).
    pub const CODE_LAST: u8 = 17;

    /// A scalar dtype.
    pub const fn new(code: u8, bits: u8) -> Self {
        Self { code, bits, lanes: 1 }
    }

    /// The same element with `lanes` lanes.
    pub const fn with_lanes(self, lanes: u16) -> Self {
        Self { lanes, ..self }
    }

    /// Bits of one element, all lanes.
    #[inline]
    pub const fn element_bits(self) -> u32 {
        self.bits as u32 * self.lanes as u32
    }

    /// Bytes of one element, where it fills whole bytes.
    ///
    /// ```
    /// use freehold_tensor::DType;
    ///
    /// assert_eq!(DType::F32.with_lanes(4).size(), Some(16));
    /// assert_eq!(DType::F4_E2M1FN.size(), None); // two share a byte
    /// assert_eq!(DType::F4_E2M1FN.padded_size(), 1);
    /// ```
    #[inline]
    pub const fn size(self) -> Option<usize> {
        let bits = self.element_bits();
        if bits != 0 && bits.is_multiple_of(8) { Some(bits as usize / 8) } else { None }
    }

    /// Bytes of one element when each element is padded to whole bytes (`SUBBYTE_PADDED`).
    #[inline]
    pub const fn padded_size(self) -> usize {
        self.element_bits().div_ceil(8) as usize
    }

    /// Whether several elements share a byte when packed.
    #[inline]
    pub const fn is_sub_byte(self) -> bool {
        !self.element_bits().is_multiple_of(8)
    }

    /// Whether values are signed or unsigned integers (bool is not).
    pub const fn is_integer(self) -> bool {
        matches!(self.code, Self::CODE_INT | Self::CODE_UINT)
    }

    /// Whether values are real floating point, of any width.
    pub const fn is_float(self) -> bool {
        matches!(self.code, Self::CODE_FLOAT | Self::CODE_BFLOAT | 7..=17)
    }

    /// Whether values are complex.
    pub const fn is_complex(self) -> bool {
        self.code == Self::CODE_COMPLEX
    }

    /// Whether values are truth values.
    pub const fn is_bool(self) -> bool {
        self.code == Self::CODE_BOOL
    }

    /// Whether this is a float format narrower than 32 bits that most host languages lack (bf16, f8, f6, f4). At
    /// the boundary a request for the unsigned integer of the same width reads such an element as its bits.
    pub const fn is_carried_as_bits(self) -> bool {
        matches!(self.code, Self::CODE_BFLOAT | 7..=17)
    }

    /// The unsigned integer with the same number of bits, for raw views.
    ///
    /// ```
    /// use freehold_tensor::DType;
    ///
    /// assert!(DType::BF16.is_float() && DType::BF16.is_carried_as_bits());
    /// assert_eq!(DType::BF16.bits_dtype(), Some(DType::U16));
    /// assert_eq!(DType::C128.bits_dtype(), None); // no integer has 128 bits
    /// ```
    pub const fn bits_dtype(self) -> Option<DType> {
        match (self.element_bits(), self.lanes) {
            (8, 1) => Some(DType::U8),
            (16, 1) => Some(DType::U16),
            (32, 1) => Some(DType::U32),
            (64, 1) => Some(DType::U64),
            _ => None,
        }
    }

    /// The dtype whose fields, in the order of `DLDataType`, are the bytes of a word in memory, if it is one of those that nearly
    /// every tensor has and that need no further check: one lane of an integer, float, bfloat, complex or bool of a power of two
    /// bytes, of which there are at most 16. `None` says nothing.
    ///
    /// ```
    /// use freehold_tensor::DType;
    ///
    /// let [one, more] = 1u16.to_ne_bytes();
    /// assert_eq!(DType::plain_from_word(u32::from_ne_bytes([2, 32, one, more])), Some(DType::F32));
    /// assert_eq!(DType::plain_from_word(u32::from_ne_bytes([2, 24, one, more])), None);
    /// ```
    #[inline]
    pub const fn plain_from_word(word: u32) -> Option<DType> {
        const ONE: [u8; 2] = 1_u16.to_ne_bytes();
        // The same numbers on every machine, but for the lanes.
        let fields = u32::from_le(word);
        // No code is above the last plain one, and there is one lane.
        if fields & u32::from_le_bytes([!(PLAIN_CODES as u8 - 1), 0, 0xFF, 0xFF])
            != u32::from_le_bytes([0, 0, ONE[0], ONE[1]])
            || PLAIN[(fields >> 8 & 0xFF) as usize] as u32 >> (fields & (u32::BITS - 1)) & 1 == 0
        {
            return None;
        }
        // SAFETY: four bytes without padding, of which every value is one.
        Some(unsafe { std::mem::transmute::<u32, DType>(word) })
    }

    /// Checks the fields of a dtype that came from a foreign struct: known code, bits that the code allows, at
    /// least one lane (DLPack 1.3, `DLDataType`).
    ///
    /// ```
    /// use freehold_tensor::DType;
    ///
    /// let error = DType { lanes: 0, ..DType::F32 }.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "dtype.lanes is 0; it must be at least 1");
    /// ```
    pub fn validate(self) -> Result<(), FieldError> {
        if self.code > Self::CODE_LAST {
            return Err(FieldError::new("dtype.code", self.code, "be one that DLPack 1.3 assigns (0 to 17)"));
        }
        if self.lanes == 0 {
            return Err(FieldError::new("dtype.lanes", self.lanes, "be at least 1"));
        }
        if self.bits == 0 {
            return Err(FieldError::new("dtype.bits", self.bits, "be at least 1"));
        }
        let allowed = match self.code {
            Self::CODE_BOOL => self.bits == 8,
            Self::CODE_FLOAT => matches!(self.bits, 16 | 32 | 64 | 80 | 96 | 128),
            Self::CODE_BFLOAT => self.bits == 16,
            Self::CODE_COMPLEX => matches!(self.bits, 32 | 64 | 128),
            7..=14 => self.bits == 8,
            15 | 16 => self.bits == 6,
            17 => self.bits == 4,
            _ => true,
        };
        if allowed {
            Ok(())
        } else {
            Err(FieldError::new("dtype.bits", self.bits, "be a width that its type code allows"))
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scalar = DType { lanes: 1, ..*self };
        match scalar.short_name() {
            Some("bool_") => f.write_str("bool")?,
            Some(name) => f.write_str(name)?,
            None => write!(f, "dtype<code {}, {} bits>", self.code, self.bits)?,
        }
        if self.lanes != 1 { write!(f, "x{}", self.lanes) } else { Ok(()) }
    }
}

impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of scalar dtypes, one bit each in the order of [`KNOWN_DTYPES`].
///
/// ```
/// use freehold_tensor::{DType, DTypeSet};
///
/// let floats = DTypeSet::of(&[DType::F64, DType::F32]);
/// assert!(floats.contains(DType::F32) && !floats.contains(DType::F32.with_lanes(2)));
/// let more = floats.union(DTypeSet::of(&[DType::I8]));
/// assert_eq!(more.iter().collect::<Vec<_>>(), [DType::I8, DType::F32, DType::F64]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DTypeSet(pub u64);

impl DTypeSet {
    /// No dtype.
    pub const EMPTY: DTypeSet = DTypeSet(0);
    /// Every dtype with a name.
    pub const ALL: DTypeSet = DTypeSet((1 << KNOWN_DTYPES.len()) - 1);

    /// The set of these dtypes; those without a name are ignored.
    pub const fn of(list: &[DType]) -> DTypeSet {
        let mut bits = 0;
        let mut i = 0;
        while i < list.len() {
            if let Some(index) = list[i].index() {
                bits |= 1 << index;
            }
            i += 1;
        }
        DTypeSet(bits)
    }

    /// Whether a dtype is in the set; one without a name never is.
    #[inline]
    pub const fn contains(self, dtype: DType) -> bool {
        match dtype.index() {
            Some(index) => self.0 >> index & 1 == 1,
            None => false,
        }
    }

    /// The union of two sets.
    pub const fn union(self, other: DTypeSet) -> DTypeSet {
        DTypeSet(self.0 | other.0)
    }

    /// The dtypes of the set, in the order of [`KNOWN_DTYPES`].
    pub fn iter(self) -> impl Iterator<Item = DType> {
        KNOWN_DTYPES.iter().copied().filter(move |dtype| self.contains(*dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_dtype_validates_and_round_trips_by_name() {
        for (i, dtype) in KNOWN_DTYPES.iter().enumerate() {
            assert_eq!(dtype.index().map(usize::from), Some(i));
            assert_eq!(dtype.validate(), Ok(()));
            assert_eq!(DType::from_name(dtype.name().expect("known")), Some(*dtype));
            assert_eq!(DType::from_name(dtype.short_name().expect("known")), Some(*dtype));
            assert!(DTypeSet::ALL.contains(*dtype));
        }
    }

    #[test]
    fn fields_that_break_a_rule_are_named() {
        assert_eq!(DType { code: 18, bits: 16, lanes: 1 }.validate().unwrap_err().field, "dtype.code");
        assert_eq!(DType { code: 2, bits: 32, lanes: 0 }.validate().unwrap_err().field, "dtype.lanes");
        assert_eq!(DType { code: 6, bits: 1, lanes: 1 }.validate().unwrap_err().field, "dtype.bits");
        assert_eq!(DType::F32.with_lanes(4).to_string(), "f32x4");
        assert_eq!(DType::BOOL.to_string(), "bool");
    }

    #[test]
    fn what_is_plain_is_valid_and_of_whole_bytes() {
        let mut plain = Vec::new();
        // Interpreted, of the codes and widths that are none only some.
        let step = if cfg!(miri) { 7 } else { 1 };
        let all = (0..=7).chain((8..=u8::MAX).step_by(step)).flat_map(|code| {
            (0..=64)
                .step_by(step.min(4))
                .chain((65..=u8::MAX).step_by(step))
                .chain([8, 128])
                .map(move |bits| (code, bits))
        });
        for (code, bits) in all {
            for lanes in [0, 1, 2, 256, 257, u16::MAX] {
                let [low, high] = u16::to_ne_bytes(lanes);
                let Some(dtype) = DType::plain_from_word(u32::from_ne_bytes([code, bits, low, high])) else { continue };
                assert_eq!(dtype, DType { code, bits, lanes });
                assert_eq!(dtype.validate(), Ok(()));
                assert!(dtype.size().is_some_and(|size| size * 8 == bits.into() && size <= 16));
                plain.push(dtype);
            }
        }
        let expected = KNOWN_DTYPES.iter().filter(|dtype| dtype.code < 7 && !dtype.is_sub_byte());
        assert!(expected.clone().all(|dtype| plain.contains(dtype)), "{plain:?}");
    }

    #[test]
    fn sub_byte_sizes() {
        assert_eq!(DType::F4_E2M1FN.size(), None);
        assert_eq!(DType::F4_E2M1FN.padded_size(), 1);
        assert_eq!(DType::F4_E2M1FN.with_lanes(2).size(), Some(1));
        assert!(!DType::F4_E2M1FN.with_lanes(2).is_sub_byte());
        assert_eq!(DType::C128.size(), Some(16));
    }
}
