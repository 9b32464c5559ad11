//! The loop that converts a run of values from one type to another: written once, monomorphised for each conversion
//! of one value and compiled for each instruction set, so that the compiler vectorises it.

use std::mem::MaybeUninit;

use super::ahead;
use super::level::Level;

/// Converts `n` consecutive values and returns how many of them lost something; unchecked loops return 0.
///
/// # Safety
///
/// * `src` is readable for `n` source values, all bytes initialised, at any alignment.
/// * `dst` is writable for `n` target values, at any alignment, and does not overlap `src`.
pub(super) type Kernel = unsafe fn(dst: *mut u8, src: *const u8, n: usize) -> usize;

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

/// Values of a part of a long run: many enough for a loop over four of the widest vectors on either side, and for what
/// goes before and after a loop not to count.
const fn part<O: Op>() -> usize {
    let (size, step) = (size_of::<O::Dst>(), size_of::<O::Src>());
    let widest = if size < step { step } else { size };
    // What a loop marked is gathered from narrow lanes in as many operations as some vectors take.
    let bytes = if O::CHECKED && widest <= 2 { 8192 } else { 2048 };
    bytes / widest
}

/// # Safety
///
/// As for [`Kernel`].
#[inline(always)]
unsafe fn run<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let (size, step) = (size_of::<O::Dst>(), size_of::<O::Src>());
    let piece = |start: usize, len: usize| {
        debug_assert!(start + len <= n);
        // SAFETY: the caller guarantees `n` values on each side, initialised in `src`, without overlap, and a piece
        // lies in 0..n; byte arrays have alignment 1, so any address is aligned.
        let (dst, src) = unsafe {
            (
                std::slice::from_raw_parts_mut(dst.add(start * size).cast(), len),
                std::slice::from_raw_parts(src.add(start * step).cast(), len),
            )
        };
        each::<O>(dst, src)
    };
    let whole = const { part::<O>() };
    let short = dst.addr().wrapping_neg() % LINE;
    // Whole vectors from the start, from the next cache line of the target, and up to the end. They overlap, so some values
    // are converted twice, which is cheaper than one by one. A run that is too short for that is one part. There is one
    // call for all of them, since the code of each of the hundreds of kernels is in it.
    let one = n < 2 * whole || !short.is_multiple_of(size);
    let (part, last) = if one { (n, 0) } else { (whole, n - whole) };
    let (mut at, mut next) = (0, if short == 0 { part } else { short / size });
    let ahead = if one { 0 } else { ahead::distance(n * step, n * size) };
    let mut lost = O::Mark::NONE;
    loop {
        if ahead != 0 {
            ahead::near(src.wrapping_add(at * step), part * step, ahead);
        }
        lost = lost.or(piece(at, part));
        if at == last {
            break;
        }
        at = next.min(last);
        next = at + part;
    }
    if !lost.any() {
        return 0;
    }
    // Counted apart, so that the loop above keeps one mark instead of a counter wider than its values.
    // SAFETY: as above, for all of the source.
    let src: &[Source<O>] = unsafe { std::slice::from_raw_parts(src.cast(), n) };
    let is_lost = |bytes: &&Source<O>| {
        let value = O::Src::get(**bytes);
        O::mark(value, O::convert(value)).any()
    };
    src.iter().filter(is_lost).count()
}

/// The loop of an op, compiled for an instruction set.
pub(super) fn kernel<O: Op>(level: Level) -> Kernel {
    match level {
        Level::Baseline => baseline::<O>,
        #[cfg(target_arch = "x86_64")]
        _ if const { O::BY_HAND } => baseline::<O>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::<O>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vbmi => avx512::<O>,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => baseline::<O>, // the target has it everywhere
    }
}

/// # Safety
///
/// As for [`Kernel`].
unsafe fn baseline<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees.
    unsafe { run::<O>(dst, src, n) }
}

/// # Safety
///
/// As for [`Kernel`], on a machine that has these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn avx2<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees.
    unsafe { run::<O>(dst, src, n) }
}

/// # Safety
///
/// As for [`Kernel`], on a machine that has these features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,f16c,fma,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn avx512<O: Op>(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: the caller's guarantees.
    unsafe { run::<O>(dst, src, n) }
}
