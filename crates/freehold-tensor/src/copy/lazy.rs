//! Resolves what an operand leaves unsaid in its bytes: the other byte order, a conjugation, a negation.

use bitflags::bitflags;

use super::format::{MINI, Specials};
use crate::DType;

bitflags! {
    /// How the bytes of an operand differ from the values they stand for.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Lazy: u8 {
        /// Bytes are in the other byte order; a complex element has two such words.
        const SWAPPED = 1;
        /// Values are the complex conjugates of the bytes (PyTorch's conjugate bit). Nothing for a real dtype.
        const CONJ = 2;
        /// Values are the negations of the bytes (PyTorch's negative bit).
        const NEG = 4;
        /// A sub-byte element fills whole bytes, its value in the low bits (`IS_SUBBYTE_TYPE_PADDED`). Nothing for
        /// other dtypes.
        const PADDED = 8;
    }
}

impl Lazy {
    /// Whether a copy can turn such bytes of a dtype into values: some dtypes have no sign to change.
    pub fn resolves(self, dtype: DType) -> bool {
        Resolve::new(dtype, self, 0).is_some()
    }
}

/// How a word changes its sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flip {
    /// The top bit of a float word.
    Top,
    /// This bit of a one-byte float.
    Bit(u8),
    /// The top bit of a byte, except where only the top bit may be set: `fnuz` formats have no negative zero.
    NoNegativeZero,
    /// Two's complement, wrapping like NumPy; bits above the value's width become zero in a sub-byte value.
    Integer(u8),
}

/// Changes to make to a compact run of elements, in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Resolve {
    /// Bytes of a word: an element, or a component of a complex one.
    word: usize,
    /// Words of an element.
    words: usize,
    swap: bool,
    neg: Option<Flip>,
    conj: Option<Flip>,
}

impl Resolve {
    /// What `traits` asks for on scalars of `dtype` (lanes are not looked at); `None` for a sign change that the
    /// dtype does not have. `word` bytes make up one word of a block element.
    pub(super) fn new(dtype: DType, traits: Lazy, size: usize) -> Option<Resolve> {
        let words = if dtype.is_complex() { 2 } else { 1 };
        let word = size / words;
        let flip = || match (dtype.code, dtype.bits) {
            (DType::CODE_INT, bits @ (8 | 16 | 32 | 64)) => Some(Flip::Integer(bits)),
            (DType::CODE_INT, bits @ 1..8) => Some(Flip::Integer(bits)),
            (DType::CODE_FLOAT, 16 | 32 | 64) | (DType::CODE_BFLOAT, 16) | (DType::CODE_COMPLEX, 32 | 64 | 128) => {
                Some(Flip::Top)
            }
            (code @ 7..=17, _) => match MINI[usize::from(code - 7)].specials {
                Specials::Exponent => None,
                Specials::Fnuz => Some(Flip::NoNegativeZero),
                _ => Some(Flip::Bit(MINI[usize::from(code - 7)].sign_bit() as u8)),
            },
            _ => None,
        };
        Some(Resolve {
            word,
            words,
            swap: traits.contains(Lazy::SWAPPED) && word > 1,
            neg: if traits.contains(Lazy::NEG) { Some(flip()?) } else { None },
            conj: if traits.contains(Lazy::CONJ) && words == 2 { Some(flip()?) } else { None },
        })
    }

    /// The same elements, left as they are.
    pub(super) fn nothing(&self) -> Resolve {
        Resolve { swap: false, neg: None, conj: None, ..*self }
    }

    /// Whether nothing has to be done.
    pub(super) fn is_nothing(&self) -> bool {
        !self.swap && self.neg.is_none() && self.conj.is_none()
    }

    /// From the bytes of a source to its values: `n` elements from `at`.
    ///
    /// # Safety
    ///
    /// `at` is readable and writable for `n` compact elements, initialised.
    pub(super) unsafe fn decode(&self, at: *mut u8, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe {
            self.swap(at, n);
            self.signs(at, n);
        }
    }

    /// From values to the bytes of a destination: `n` elements from `at`.
    ///
    /// # Safety
    ///
    /// As for [`Resolve::decode`].
    pub(super) unsafe fn encode(&self, at: *mut u8, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe {
            self.signs(at, n);
            self.swap(at, n);
        }
    }

    /// # Safety
    ///
    /// As for [`Resolve::decode`].
    unsafe fn swap(&self, at: *mut u8, n: usize) {
        if !self.swap {
            return;
        }
        // SAFETY: `n` elements of `words` words are the caller's; byte arrays have alignment 1.
        let bytes = unsafe { std::slice::from_raw_parts_mut(at, n * self.words * self.word) };
        match self.word {
            2 => reverse_each::<2>(bytes),
            4 => reverse_each::<4>(bytes),
            8 => reverse_each::<8>(bytes),
            word => bytes.chunks_exact_mut(word).for_each(<[u8]>::reverse),
        }
    }

    /// # Safety
    ///
    /// As for [`Resolve::decode`].
    unsafe fn signs(&self, at: *mut u8, n: usize) {
        if self.neg.is_none() && self.conj.is_none() {
            return;
        }
        // SAFETY: as in `swap`.
        let bytes = unsafe { std::slice::from_raw_parts_mut(at, n * self.words * self.word) };
        if let Some(flip) = self.neg {
            flip_each(bytes, self.word, 1, 0, flip);
        }
        if let Some(flip) = self.conj {
            flip_each(bytes, self.word, 2, 1, flip);
        }
    }
}

fn reverse_each<const N: usize>(bytes: &mut [u8]) {
    for word in bytes.as_chunks_mut::<N>().0 {
        word.reverse();
    }
}

/// Changes the sign of every `every`-th word, from word `first` on.
fn flip_each(bytes: &mut [u8], word: usize, every: usize, first: usize, flip: Flip) {
    macro_rules! words {
        ($n:literal, $t:ident) => {{
            let words = bytes.as_chunks_mut::<$n>().0;
            for bytes in words.iter_mut().skip(first).step_by(every) {
                let value = <$t>::from_ne_bytes(*bytes);
                let changed = match flip {
                    Flip::Top => value ^ 1 << ($t::BITS - 1),
                    Flip::Bit(bit) => value ^ bit as $t,
                    Flip::NoNegativeZero if value & 0x7f == 0 => value,
                    Flip::NoNegativeZero => value ^ 0x80,
                    Flip::Integer(bits) if u32::from(bits) < $t::BITS => value.wrapping_neg() & ((1 << bits) - 1),
                    Flip::Integer(_) => value.wrapping_neg(),
                };
                *bytes = changed.to_ne_bytes();
            }
        }};
    }
    match word {
        1 => words!(1, u8),
        2 => words!(2, u16),
        4 => words!(4, u32),
        _ => words!(8, u64),
    }
}
