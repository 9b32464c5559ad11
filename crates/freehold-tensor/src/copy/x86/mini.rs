//! What conversions to a byte-sized float format need to know of it, at any width of vectors.

use crate::copy::format::{Format, MINI, Specials};

/// The numbers of a format.
pub(super) struct Numbers<const F: usize, const SATURATE: bool>;

impl<const F: usize, const SATURATE: bool> Numbers<F, SATURATE> {
    const FORMAT: Format = MINI[F];
    /// Bits of an `f32` mantissa that there is no room for.
    pub const DROP: u32 = 23 - Self::FORMAT.man_bits;
    /// The exponent of the least normal value, as an `f32` has it.
    pub const LEAST: u32 = (128 - Self::FORMAT.bias) as u32;
    /// The bits of the `f32` whose code is the largest that comes of a number: beyond [`Format::max_code`] by one where
    /// that is infinity or NaN.
    pub const MOST: u32 = {
        let clamped = SATURATE || matches!(Self::FORMAT.specials, Specials::Finite);
        let code = Self::FORMAT.max_code() + !clamped as u32;
        let exponent = (code >> Self::FORMAT.man_bits) + Self::LEAST - 1;
        exponent << 23 | (code & ((1 << Self::FORMAT.man_bits) - 1)) << Self::DROP
    };
    /// Whether a NaN becomes what is beyond the largest code.
    pub const NAN_IS_BEYOND: bool = !SATURATE && matches!(Self::FORMAT.specials, Specials::Fn | Specials::Fnuz);
}
