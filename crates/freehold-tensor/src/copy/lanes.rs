//! Vectors as rows of 16-byte lanes: the few operations that turning and splitting blocks need, for every
//! instruction set. Nothing crosses a lane, so a kernel that is written for one lane is right at any width.

/// One vector of [`Lanes::COUNT`] lanes of 16 bytes. An implementation other than the baseline's may only be used
/// where the machine has its instruction set.
pub(super) trait Lanes: Copy {
    const COUNT: usize;
    /// Whether [`Lanes::pick`] is an instruction, rather than a loop.
    const PICKS: bool;

    /// Lane `l` from `src + l * pitch`.
    ///
    /// # Safety
    ///
    /// * 16 bytes are readable at each of these places.
    /// * The machine has the instruction set.
    unsafe fn gather(src: *const u8, pitch: isize) -> Self;

    /// Lane `l` to `dst + l * pitch`.
    ///
    /// # Safety
    ///
    /// As for [`Lanes::gather`], writable.
    unsafe fn scatter(self, dst: *mut u8, pitch: isize);

    /// All lanes, next to each other, to any address.
    ///
    /// # Safety
    ///
    /// As for [`Lanes::scatter`] with a pitch of 16.
    unsafe fn store(self, dst: *mut u8);

    /// [`Lanes::store`] past the caches, where the instruction set has that, to a multiple of the vector's size.
    ///
    /// # Safety
    ///
    /// As for [`Lanes::store`]; `dst` is aligned, and a fence follows.
    #[inline(always)]
    unsafe fn stream(self, dst: *mut u8) {
        // SAFETY: the caller's guarantees.
        unsafe { self.store(dst) }
    }

    /// In each lane: the pieces of `WIDTH` bytes (1, 2, 4 or 8) of `a` and `b` in turn, of their low halves and of
    /// their high halves.
    ///
    /// # Safety
    ///
    /// The machine has the instruction set.
    unsafe fn zip<const WIDTH: usize>(a: Self, b: Self) -> (Self, Self);

    /// In each lane: byte `i` is byte `table[i]` of the lane, or 0 where that is 0x80.
    ///
    /// # Safety
    ///
    /// The machine has the instruction set.
    unsafe fn pick(self, table: &[u8; 16]) -> Self;

    /// # Safety
    ///
    /// The machine has the instruction set.
    unsafe fn or(self, other: Self) -> Self;
}

/// Any machine; what the compiler makes of it.
#[cfg(any(not(target_arch = "x86_64"), test))]
#[derive(Clone, Copy)]
pub(super) struct Plain([u8; 16]);

#[cfg(any(not(target_arch = "x86_64"), test))]
impl Lanes for Plain {
    const COUNT: usize = 1;
    const PICKS: bool = false;

    #[inline(always)]
    unsafe fn gather(src: *const u8, _: isize) -> Self {
        // SAFETY: the caller's guarantee.
        Plain(unsafe { src.cast::<[u8; 16]>().read() })
    }

    #[inline(always)]
    unsafe fn scatter(self, dst: *mut u8, _: isize) {
        // SAFETY: the caller's guarantee.
        unsafe { self.store(dst) }
    }

    #[inline(always)]
    unsafe fn store(self, dst: *mut u8) {
        // SAFETY: the caller's guarantee.
        unsafe { dst.cast::<[u8; 16]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn zip<const WIDTH: usize>(a: Self, b: Self) -> (Self, Self) {
        let half = |from: usize| {
            Plain(std::array::from_fn(|i| {
                let (piece, byte) = (i / WIDTH, i % WIDTH);
                let at = from + piece / 2 * WIDTH + byte;
                if piece % 2 == 0 { a.0[at] } else { b.0[at] }
            }))
        };
        (half(0), half(8))
    }

    #[inline(always)]
    unsafe fn pick(self, table: &[u8; 16]) -> Self {
        Plain(table.map(|i| if i < 16 { self.0[usize::from(i)] } else { 0 }))
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// `zip` out of an unpack instruction for each width.
    macro_rules! zip {
        ($a:ident $b:ident $width:ident: $($n:literal $lo:ident $hi:ident),*) => {
            match $width { $($n => ($lo($a, $b), $hi($a, $b)),)* _ => unreachable!("pieces have 1, 2, 4 or 8 bytes") }
        };
    }

    macro_rules! sse {
        ($name:ident, $picks:literal, $pick:item) => {
            #[derive(Clone, Copy)]
            pub(in crate::copy) struct $name(__m128i);

            // SAFETY (of every block): loads and stores make no claim of alignment and reach the caller's bytes;
            // the caller answers for the instruction set.
            impl Lanes for $name {
                const COUNT: usize = 1;
                const PICKS: bool = $picks;

                #[inline(always)]
                unsafe fn gather(src: *const u8, _: isize) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { _mm_loadu_si128(src.cast()) })
                }

                #[inline(always)]
                unsafe fn scatter(self, dst: *mut u8, _: isize) {
                    // SAFETY: as above.
                    unsafe { self.store(dst) }
                }

                #[inline(always)]
                unsafe fn store(self, dst: *mut u8) {
                    // SAFETY: as above.
                    unsafe { _mm_storeu_si128(dst.cast(), self.0) }
                }

                #[inline(always)]
                unsafe fn zip<const WIDTH: usize>(a: Self, b: Self) -> (Self, Self) {
                    let (a, b) = (a.0, b.0);
                    // SAFETY: as above.
                    let (lo, hi) = unsafe {
                        zip!(a b WIDTH: 1 _mm_unpacklo_epi8 _mm_unpackhi_epi8, 2 _mm_unpacklo_epi16 _mm_unpackhi_epi16,
                            4 _mm_unpacklo_epi32 _mm_unpackhi_epi32, 8 _mm_unpacklo_epi64 _mm_unpackhi_epi64)
                    };
                    (Self(lo), Self(hi))
                }

                #[inline(always)]
                $pick

                #[inline(always)]
                unsafe fn or(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { _mm_or_si128(self.0, other.0) })
                }
            }
        };
    }

    sse!(
        Sse2,
        false,
        unsafe fn pick(self, table: &[u8; 16]) -> Self {
            let mut bytes = [0u8; 16];
            // SAFETY: 16 bytes on both sides.
            unsafe {
                _mm_storeu_si128(bytes.as_mut_ptr().cast(), self.0);
                let picked = table.map(|i| if i < 16 { bytes[usize::from(i)] } else { 0 });
                Self(_mm_loadu_si128(picked.as_ptr().cast()))
            }
        }
    );
    // One lane where AVX2 is there: `pshufb` is, too.
    sse!(
        Ssse3,
        true,
        unsafe fn pick(self, table: &[u8; 16]) -> Self {
            // SAFETY: 16 bytes of table; the caller answers for the instruction set.
            unsafe { Self(_mm_shuffle_epi8(self.0, _mm_loadu_si128(table.as_ptr().cast()))) }
        }
    );

    #[derive(Clone, Copy)]
    pub(in crate::copy) struct Avx2(__m256i);

    impl Lanes for Avx2 {
        const COUNT: usize = 2;
        const PICKS: bool = true;

        #[inline(always)]
        unsafe fn gather(src: *const u8, pitch: isize) -> Self {
            // SAFETY: the caller's 16 bytes at both places, at any alignment; it answers for the instruction set.
            unsafe {
                let low = _mm256_castsi128_si256(_mm_loadu_si128(src.cast()));
                Self(_mm256_inserti128_si256::<1>(low, _mm_loadu_si128(src.offset(pitch).cast())))
            }
        }

        #[inline(always)]
        unsafe fn scatter(self, dst: *mut u8, pitch: isize) {
            // SAFETY: as for `gather`, writable.
            unsafe {
                _mm_storeu_si128(dst.cast(), _mm256_castsi256_si128(self.0));
                _mm_storeu_si128(dst.offset(pitch).cast(), _mm256_extracti128_si256::<1>(self.0));
            }
        }

        #[inline(always)]
        unsafe fn store(self, dst: *mut u8) {
            // SAFETY: the caller's 32 bytes, at any alignment.
            unsafe { _mm256_storeu_si256(dst.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn stream(self, dst: *mut u8) {
            // SAFETY: the caller's 32 bytes, aligned.
            unsafe { _mm256_stream_si256(dst.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn zip<const WIDTH: usize>(a: Self, b: Self) -> (Self, Self) {
            let (a, b) = (a.0, b.0);
            // SAFETY: the caller answers for the instruction set.
            let (lo, hi) = unsafe {
                zip!(a b WIDTH: 1 _mm256_unpacklo_epi8 _mm256_unpackhi_epi8,
                    2 _mm256_unpacklo_epi16 _mm256_unpackhi_epi16, 4 _mm256_unpacklo_epi32 _mm256_unpackhi_epi32,
                    8 _mm256_unpacklo_epi64 _mm256_unpackhi_epi64)
            };
            (Self(lo), Self(hi))
        }

        #[inline(always)]
        unsafe fn pick(self, table: &[u8; 16]) -> Self {
            // SAFETY: 16 bytes of table; the caller answers for the instruction set.
            unsafe {
                let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
                Self(_mm256_shuffle_epi8(self.0, table))
            }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            // SAFETY: the caller answers for the instruction set.
            Self(unsafe { _mm256_or_si256(self.0, other.0) })
        }
    }

    #[derive(Clone, Copy)]
    pub(in crate::copy) struct Avx512(__m512i);

    impl Lanes for Avx512 {
        const COUNT: usize = 4;
        const PICKS: bool = true;

        #[inline(always)]
        unsafe fn gather(src: *const u8, pitch: isize) -> Self {
            // SAFETY: the caller's 16 bytes at four places, at any alignment; it answers for the instruction set.
            unsafe {
                let at = |l: isize| _mm_loadu_si128(src.offset(l * pitch).cast());
                let v = _mm512_castsi128_si512(at(0));
                let v = _mm512_inserti32x4::<1>(v, at(1));
                let v = _mm512_inserti32x4::<2>(v, at(2));
                Self(_mm512_inserti32x4::<3>(v, at(3)))
            }
        }

        #[inline(always)]
        unsafe fn scatter(self, dst: *mut u8, pitch: isize) {
            // SAFETY: as for `gather`, writable.
            unsafe {
                _mm_storeu_si128(dst.cast(), _mm512_castsi512_si128(self.0));
                _mm_storeu_si128(dst.offset(pitch).cast(), _mm512_extracti32x4_epi32::<1>(self.0));
                _mm_storeu_si128(dst.offset(2 * pitch).cast(), _mm512_extracti32x4_epi32::<2>(self.0));
                _mm_storeu_si128(dst.offset(3 * pitch).cast(), _mm512_extracti32x4_epi32::<3>(self.0));
            }
        }

        #[inline(always)]
        unsafe fn store(self, dst: *mut u8) {
            // SAFETY: the caller's 64 bytes, at any alignment.
            unsafe { _mm512_storeu_si512(dst.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn stream(self, dst: *mut u8) {
            // SAFETY: the caller's 64 bytes, aligned.
            unsafe { _mm512_stream_si512(dst.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn zip<const WIDTH: usize>(a: Self, b: Self) -> (Self, Self) {
            let (a, b) = (a.0, b.0);
            // SAFETY: the caller answers for the instruction set.
            let (lo, hi) = unsafe {
                zip!(a b WIDTH: 1 _mm512_unpacklo_epi8 _mm512_unpackhi_epi8,
                    2 _mm512_unpacklo_epi16 _mm512_unpackhi_epi16, 4 _mm512_unpacklo_epi32 _mm512_unpackhi_epi32,
                    8 _mm512_unpacklo_epi64 _mm512_unpackhi_epi64)
            };
            (Self(lo), Self(hi))
        }

        #[inline(always)]
        unsafe fn pick(self, table: &[u8; 16]) -> Self {
            // SAFETY: 16 bytes of table; the caller answers for the instruction set.
            unsafe {
                let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
                Self(_mm512_shuffle_epi8(self.0, table))
            }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            // SAFETY: the caller answers for the instruction set.
            Self(unsafe { _mm512_or_si512(self.0, other.0) })
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) mod arm {
    use super::Lanes;
    use std::arch::aarch64::*;

    #[derive(Clone, Copy)]
    pub(in crate::copy) struct Neon(uint8x16_t);

    impl Lanes for Neon {
        const COUNT: usize = 1;
        const PICKS: bool = true;

        #[inline(always)]
        unsafe fn gather(src: *const u8, _: isize) -> Self {
            // SAFETY: the caller's 16 bytes, at any alignment.
            Self(unsafe { vld1q_u8(src) })
        }

        #[inline(always)]
        unsafe fn scatter(self, dst: *mut u8, _: isize) {
            // SAFETY: the caller's guarantee.
            unsafe { self.store(dst) }
        }

        #[inline(always)]
        unsafe fn store(self, dst: *mut u8) {
            // SAFETY: the caller's 16 bytes, at any alignment.
            unsafe { vst1q_u8(dst, self.0) }
        }

        #[inline(always)]
        unsafe fn zip<const WIDTH: usize>(a: Self, b: Self) -> (Self, Self) {
            macro_rules! zip {
                ($to:ident $lo:ident $hi:ident $from:ident) => {{
                    let (a, b) = ($to(a.0), $to(b.0));
                    (Self($from($lo(a, b))), Self($from($hi(a, b))))
                }};
            }
            // SAFETY: every aarch64 machine has these instructions.
            unsafe {
                match WIDTH {
                    1 => (Self(vzip1q_u8(a.0, b.0)), Self(vzip2q_u8(a.0, b.0))),
                    2 => zip!(vreinterpretq_u16_u8 vzip1q_u16 vzip2q_u16 vreinterpretq_u8_u16),
                    4 => zip!(vreinterpretq_u32_u8 vzip1q_u32 vzip2q_u32 vreinterpretq_u8_u32),
                    _ => zip!(vreinterpretq_u64_u8 vzip1q_u64 vzip2q_u64 vreinterpretq_u8_u64),
                }
            }
        }

        #[inline(always)]
        unsafe fn pick(self, table: &[u8; 16]) -> Self {
            // SAFETY: 16 bytes of table; an index of 0x80 is out of the register's range and gives 0.
            unsafe { Self(vqtbl1q_u8(self.0, vld1q_u8(table.as_ptr()))) }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            // SAFETY: every aarch64 machine has this instruction.
            Self(unsafe { vorrq_u8(self.0, other.0) })
        }
    }
}
