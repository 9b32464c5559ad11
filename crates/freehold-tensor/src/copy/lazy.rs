//! Resolves what an operand leaves unsaid in its bytes: the other byte order, a conjugation, a negation.

use bitflags::bitflags;

use super::format::{MINI, Specials};
use super::level::Level;
use super::line::swapped;
use crate::DType;

bitflags! {
    /// How the bytes of an operand differ from the values they stand for.
    ///
    /// ```
    /// use freehold_tensor::DType;
    /// use freehold_tensor::copy::Lazy;
    ///
    /// assert!((Lazy::SWAPPED | Lazy::CONJ).resolves(DType::C64));
    /// assert!(!Lazy::NEG.resolves(DType::BOOL)); // no sign to change
    /// ```
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
    conj: bool,
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
            conj: traits.contains(Lazy::CONJ) && words == 2,
        })
    }

    /// The same elements, left as they are.
    pub(super) fn nothing(&self) -> Resolve {
        Resolve { swap: false, neg: None, conj: false, ..*self }
    }

    /// Whether nothing has to be done.
    pub(super) fn is_nothing(&self) -> bool {
        !self.swap && self.neg.is_none() && !self.conj
    }

    /// From the bytes of a source to its values: `n` elements from `at`.
    ///
    /// # Safety
    ///
    /// `at` is readable and writable for `n` compact elements, initialised.
    pub(super) unsafe fn decode(&self, at: *mut u8, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { self.apply(at, n, false) };
    }

    /// [`Resolve::decode`] of a copy: `n` elements from `src`, to `at`.
    ///
    /// # Safety
    ///
    /// `n` compact elements are readable from `src`, initialised, and writable from `at`, without overlap.
    pub(super) unsafe fn decode_from(&self, at: *mut u8, src: *const u8, n: usize) {
        let size = self.words * self.word;
        let only_swaps = self.swap && self.neg.is_none() && !self.conj && matches!(self.word, 2 | 4 | 8);
        // SAFETY: the caller's elements; a level that is the best one is one that the machine has. What is swapped ends with a
        // whole vector, and so with an element.
        unsafe {
            let done = if only_swaps { swapped(Level::best(), self.word, at, src, n * size) } else { 0 };
            std::ptr::copy_nonoverlapping(src.add(done), at.add(done), n * size - done);
            self.decode(at.add(done), n - done / size);
        }
    }

    /// From values to the bytes of a destination: `n` elements from `at`.
    ///
    /// # Safety
    ///
    /// As for [`Resolve::decode`].
    pub(super) unsafe fn encode(&self, at: *mut u8, n: usize) {
        // SAFETY: the caller's guarantee.
        unsafe { self.apply(at, n, true) };
    }

    /// # Safety
    ///
    /// As for [`Resolve::decode`].
    #[inline]
    unsafe fn apply(&self, at: *mut u8, n: usize, encode: bool) {
        if self.is_nothing() {
            return;
        }
        // SAFETY: `n` elements of `words` words are the caller's; byte arrays have alignment 1.
        let bytes = unsafe { std::slice::from_raw_parts_mut(at, n * self.words * self.word) };
        match Level::best() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a level that is the best one is one that the machine has.
            Level::Avx2 => unsafe { avx2(self, bytes, encode) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx512 | Level::Avx512Vbmi => unsafe { avx512(self, bytes, encode) },
            _ => baseline(self, bytes, encode),
        }
    }

    #[inline(always)]
    fn all(&self, bytes: &mut [u8], encode: bool) {
        if self.swap && !encode {
            swap_each(bytes, self.word);
        }
        if let Some(flip) = self.neg {
            flip_each(bytes, self.word, flip);
        }
        if self.conj {
            conjugate_each(bytes, self.word);
        }
        if self.swap && encode {
            swap_each(bytes, self.word);
        }
    }
}

fn baseline(resolve: &Resolve, bytes: &mut [u8], encode: bool) {
    resolve.all(bytes, encode);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
fn avx2(resolve: &Resolve, bytes: &mut [u8], encode: bool) {
    resolve.all(bytes, encode);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
fn avx512(resolve: &Resolve, bytes: &mut [u8], encode: bool) {
    resolve.all(bytes, encode);
}

macro_rules! each_word {
    ($bytes:ident, $t:ident, $change:expr) => {
        for word in $bytes.as_chunks_mut().0 {
            *word = $change($t::from_ne_bytes(*word)).to_ne_bytes();
        }
    };
}

#[inline(always)]
fn swap_each(bytes: &mut [u8], word: usize) {
    match word {
        2 => each_word!(bytes, u16, u16::swap_bytes),
        4 => each_word!(bytes, u32, u32::swap_bytes),
        8 => each_word!(bytes, u64, u64::swap_bytes),
        word => bytes.chunks_exact_mut(word).for_each(<[u8]>::reverse),
    }
}

/// Changes the sign of every word.
#[inline(always)]
fn flip_each(bytes: &mut [u8], word: usize, flip: Flip) {
    macro_rules! width {
        ($t:ident) => {
            match flip {
                Flip::Top => each_word!(bytes, $t, |x: $t| x ^ 1 << ($t::BITS - 1)),
                Flip::Bit(bit) => each_word!(bytes, $t, |x: $t| x ^ bit as $t),
                Flip::NoNegativeZero => {
                    each_word!(bytes, $t, |x: $t| if x & 0x7f == 0 { x } else { x ^ 0x80 })
                }
                Flip::Integer(bits) if u32::from(bits) < $t::BITS => {
                    each_word!(bytes, $t, |x: $t| x.wrapping_neg() & ((1 << bits) - 1))
                }
                Flip::Integer(_) => each_word!(bytes, $t, $t::wrapping_neg),
            }
        };
    }
    match word {
        1 => width!(u8),
        2 => width!(u16),
        4 => width!(u32),
        _ => width!(u64),
    }
}

/// Changes the sign of the second float of every pair.
#[inline(always)]
fn conjugate_each(bytes: &mut [u8], word: usize) {
    // One pattern of sign bits for a whole vector: pairs of any size fill it.
    let sign = if cfg!(target_endian = "little") { 2 * word - 1 } else { word };
    let pattern: [u8; 64] = std::array::from_fn(|i| if i % (2 * word) == sign { 0x80 } else { 0 });
    let (blocks, rest) = bytes.as_chunks_mut::<64>();
    for block in blocks {
        for (byte, change) in block.iter_mut().zip(pattern) {
            *byte ^= change;
        }
    }
    for (byte, change) in rest.iter_mut().zip(pattern) {
        *byte ^= change;
    }
}
