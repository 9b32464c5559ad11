//! The loop that converts a run of values from one type to another: written once, monomorphised for each conversion
//! of one value and compiled for each instruction set, so that the compiler vectorises it.
//!
//! Only the loop is there hundreds of times. What is around it (the alignment of the target, memory that is asked for ahead,
//! the counting of losses) took three quarters of each when it was part of it, and is one code for all, behind a call.

use std::mem::MaybeUninit;

use super::ahead;
use super::level::Level;
#[cfg(target_arch = "x86_64")]
use super::vector;

/// A loop over values: converts `n` of them.
///
/// # Safety
///
/// * `src` is readable for `n` source values, all bytes initialised, at any alignment.
/// * `dst` is writable for `n` target values, at any alignment, and does not overlap `src`.
/// * The machine has the instructions that the loop is compiled for.
pub(super) type Values = unsafe fn(dst: *mut u8, src: *const u8, n: usize) -> usize;

/// Converts a run of values.
pub(super) type Kernel = &'static Loops;

/// What there are hundreds of; how a run is cut into what they take is one code for all.
pub(super) struct Loops {
    /// Returns 0 if nothing was lost.
    pub convert: Values,
    /// Converts again and returns how many lost something; none where nothing can be lost.
    pub count: Option<Values>,
    /// Bytes of a source value and of a target value: powers of two.
    pub sizes: (u8, u8),
    pub cut: Cut,
    /// Whether it is for a machine with AVX-512 BW, so that fewer values than a step has can be moved by masks.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "read where such machines are"))]
    pub masks: bool,
}

/// How many values the loops of a kernel take.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    /// As many as there are, in one call.
    #[cfg(target_arch = "x86_64")]
    Whole,
    /// Any number.
    Pieces,
    /// Multiples of this, a power of two.
    #[cfg(target_arch = "x86_64")]
    Steps(u8),
}

impl Loops {
    /// Converts `n` consecutive values and returns how many of them lost something; unchecked kernels return 0.
    ///
    /// # Safety
    ///
    /// As for [`Values`].
    #[inline]
    pub(super) unsafe fn run(&self, dst: *mut u8, src: *const u8, n: usize) -> usize {
        // SAFETY: the caller's guarantees.
        unsafe {
            match self.cut {
                #[cfg(target_arch = "x86_64")]
                Cut::Whole => (self.convert)(dst, src, n),
                Cut::Pieces => self.pieces(dst, src, n),
                #[cfg(target_arch = "x86_64")]
                Cut::Steps(step) => vector::steps(self, step.into(), dst, src, n),
            }
        }
    }
}

/// A type that moves to and from memory as plain bytes.
pub(super) trait Prim: Copy {
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

/// What a loop gathers about losses: any bit set means that there was one.
pub(super) trait Mark: Copy {
    const NONE: Self;
    fn or(self, other: Self) -> Self;
    fn any(self) -> bool;
}

macro_rules! mark {
    ($($t:ident $none:literal)*) => { $(impl Mark for $t {
        const NONE: $t = $none;
        #[inline(always)]
        fn or(self, other: $t) -> $t { self | other }
        #[inline(always)]
        fn any(self) -> bool { self != $none }
    })* };
}
mark!(bool false u8 0 u16 0 u32 0 u64 0);

/// One conversion of one value.
pub(super) trait Op {
    type Src: Prim;
    type Dst: Prim;
    /// Of the source's width where that is cheaper to gather than a flag.
    type Mark: Mark;
    /// Whether [`Op::mark`] is asked at all.
    const CHECKED: bool;
    /// Whether [`super::x86`] has intrinsics for it from AVX2 on, so that the loop is compiled for older processors only.
    const BY_HAND: bool;
    /// The same with AVX2 only: AVX-512 has the loop.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "asked only where there is AVX2"))]
    const BY_HAND_AVX2: bool = false;
    fn convert(value: Self::Src) -> Self::Dst;
    /// Marks a `result`, which `convert` made of `value`, that is not its equal.
    fn mark(value: Self::Src, result: Self::Dst) -> Self::Mark;
}

type Target<O> = MaybeUninit<<<O as Op>::Dst as Prim>::Bytes>;
type Source<O> = <<O as Op>::Src as Prim>::Bytes;

/// The loop of every op. Slices of byte arrays have alignment 1, and as parameters tell the optimiser that they do
/// not overlap.
#[inline(always)]
fn each<O: Op>(dst: &mut [Target<O>], src: &[Source<O>]) -> O::Mark {
    let mut lost = O::Mark::NONE;
    for (d, s) in dst.iter_mut().zip(src) {
        let value = O::Src::get(*s);
        let result = O::convert(value);
        if O::CHECKED {
            lost = lost.or(O::mark(value, result));
        }
        d.write(result.put());
    }
    lost
}

/// Bytes that a store fills at most: one that crosses a cache line takes twice as long.
const LINE: usize = 64;

impl Loops {
    /// [`Loops::run`] for [`Cut::Pieces`].
    ///
    /// # Safety
    ///
    /// As for [`Values`].
    unsafe fn pieces(&self, dst: *mut u8, src: *const u8, n: usize) -> usize {
        let (step, size) = (usize::from(self.sizes.0), usize::from(self.sizes.1));
        // SAFETY: the caller's guarantees: a piece lies in 0..n.
        let piece = |at: usize, len: usize| unsafe { (self.convert)(dst.add(at * size), src.add(at * step), len) };
        let widest = size.max(step);
        // Bytes of a part of a long run: many enough for a loop over four of the widest vectors on either side, and for what
        // goes before and after a loop not to count. What it marked is gathered from narrow lanes in as many operations as
        // some vectors take.
        let part = if self.count.is_some() && widest <= 2 { 8192 } else { 2048 };
        let short = dst.addr().wrapping_neg() % LINE;
        // Whole vectors from the start, from the next cache line of the target, and up to the end. They overlap, so some
        // values are converted twice, which is cheaper than one by one. A run that is too short for that is one part.
        let mut lost = 0;
        if n * widest < 2 * part || !is_multiple(short, size) {
            lost |= piece(0, n);
        } else {
            let (whole, ahead) = (part >> widest.trailing_zeros(), ahead::distance(n * (step + size)));
            let last = n - whole;
            let (mut at, mut next) = (0, if short == 0 { whole } else { short >> size.trailing_zeros() });
            loop {
                if ahead != 0 {
                    ahead::near(src.wrapping_add(at * step), whole * step, ahead);
                }
                lost |= piece(at, whole);
                if at == last {
                    break;
                }
                at = next.min(last);
                next = at + whole;
            }
        }
        match self.count {
            // SAFETY: the caller's guarantees.
            Some(count) if lost != 0 => unsafe { count(dst, src, n) },
            _ => 0,
        }
    }
}

/// Whether a number is a multiple of a power of two. A small copy has not the time for a division.
#[inline]
pub(super) fn is_multiple(n: usize, of: usize) -> bool {
    debug_assert!(of.is_power_of_two());
    n & (of - 1) == 0
}

/// The kernel of an op for an instruction set.
pub(super) fn kernel<O: Op>(level: Level) -> Kernel {
    match level {
        Level::Baseline => const { &loops::<O>(plain::<O>) },
        _ if const { cfg!(target_arch = "x86_64") && O::BY_HAND } => const { &loops::<O>(plain::<O>) },
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 if O::BY_HAND_AVX2 => const { &loops::<O>(plain::<O>) },
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => const { &loops::<O>(avx2::<O>) },
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vbmi => const { &loops::<O>(avx512::<O>) },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => const { &loops::<O>(neon::<O>) },
    }
}

const fn loops<O: Op>(convert: Values) -> Loops {
    let (step, size) = (size_of::<O::Src>(), size_of::<O::Dst>());
    assert!(step.is_power_of_two() && size.is_power_of_two());
    let count: Option<Values> = if O::CHECKED { Some(plain::<O>) } else { None };
    Loops { convert, count, sizes: (step as u8, size as u8), cut: Cut::Pieces, masks: false }
}

/// One value after the other, for processors without AVX2 and to count losses, so that the loops for newer ones keep one
/// mark instead of a counter wider than their values. Returns how many lost something.
///
/// Not vectorised, which would make each of these hundreds of loops ten times larger.
///
/// # Safety
///
/// As for [`Values`].
unsafe fn plain<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let mut lost = 0;
    for i in 0..n {
        // SAFETY: value `i` of the caller's; byte arrays have alignment 1.
        unsafe {
            let value = O::Src::get(src.cast::<Source<O>>().add(i).read());
            let result = O::convert(value);
            lost += usize::from(O::CHECKED && O::mark(value, result).any());
            dst.cast::<<O::Dst as Prim>::Bytes>().add(i).write(result.put());
        }
        #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
        // SAFETY: no instruction; the compiler must leave it in its place in the loop.
        unsafe {
            std::arch::asm!("", options(nomem, nostack, preserves_flags));
        }
    }
    lost
}

/// The loop of an op, for a function that is compiled for an instruction set.
///
/// # Safety
///
/// As for [`Values`].
#[inline(always)]
unsafe fn vectorised<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller guarantees `n` values on each side, initialised in `src`, without overlap; byte arrays have
    // alignment 1, so any address is aligned.
    unsafe {
        let (dst, src) = (std::slice::from_raw_parts_mut(dst.cast(), n), std::slice::from_raw_parts(src.cast(), n));
        each::<O>(dst, src).any().into()
    }
}

/// # Safety
///
/// As for [`Values`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn avx2<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees.
    unsafe { vectorised::<O>(dst, src, n) }
}

/// # Safety
///
/// As for [`Values`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn avx512<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees.
    unsafe { vectorised::<O>(dst, src, n) }
}

/// The target has it everywhere.
///
/// # Safety
///
/// As for [`Values`].
#[cfg(target_arch = "aarch64")]
unsafe fn neon<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees.
    unsafe { vectorised::<O>(dst, src, n) }
}
