//! Short ways for copies so small that to plan them would cost more than to make them.

use std::mem::MaybeUninit;

use super::convert::Known;
use super::flat::{Flat, is_run, make_run, nest, place};
use super::kernel::Kernel;
use super::level::Level;
use super::plan::{Axes, Axis};
use super::{CastKind, CopyOptions, Lazy, OnLoss, Operand, straight};
use crate::StrideUnit;
use crate::layout::MAX_NDIM;

/// Bytes of a run that needs no plan: at most this, neither threads nor streams come into question.
const RUN: usize = 256 << 10;

/// Bytes of the larger side of a copy whose rows, or elements, may be walked without a plan.
const SMALL: usize = 4 << 10;

/// Makes a copy if there is a short way for it, and says whether it did. What it did not make may be wrong, or lose
/// something; then nothing was touched, or what was will be written again.
///
/// # Safety
///
/// As for [`super::copy`].
#[inline]
pub(super) unsafe fn copy(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> bool {
    #[cfg(test)]
    if super::way::tuning::get().no_short {
        return false;
    }
    if dst.traits != src.traits || dst.data.is_null() || src.data.is_null() {
        return false;
    }
    let (Some(to), Some(from)) = (dst.dtype.size(), src.dtype.size()) else { return false };
    let Some(n) = run_length(dst, src, (to, from)) else {
        // SAFETY: elements of whole bytes; the caller's guarantees.
        return unsafe { apart(dst, src, (to, from), options) };
    };
    if n * to.max(from) > RUN {
        return false;
    }
    if dst.dtype == src.dtype {
        // SAFETY: `n` elements on both sides, apart.
        unsafe { std::ptr::copy_nonoverlapping(src.data.cast_const(), dst.data, n * to) };
        return true;
    }
    if !(src.traits - Lazy::PADDED).is_empty() {
        return false;
    }
    // SAFETY: `n` elements on both sides, apart.
    unsafe {
        match straight::kernel((dst.dtype, src.dtype), (to, from), options) {
            Some(kernel) => kernel.run(dst.data, src.data, n) == 0,
            None => Cast { kernel: None, dst, src, options }.run_other(dst.data, src.data, n),
        }
    }
}

/// Elements of a pair of layouts with one shape, where both are one run in C order; `None` for those of more than [`RUN`].
///
/// A loop of its own beside [`Flat::new`]: its variables fit in registers.
#[inline]
fn run_length(dst: &Operand<'_>, src: &Operand<'_>, (to, from): (usize, usize)) -> Option<usize> {
    let (d, s) = (&dst.layout, &src.layout);
    let ndim = d.shape.len();
    if ndim > MAX_NDIM || s.shape.len() != ndim || d.strides.len() != ndim || s.strides.len() != ndim {
        return None;
    }
    let scale = |unit: StrideUnit, size: usize| if unit == StrideUnit::Bytes { size as i64 } else { 1 };
    let (d_step, s_step) = (scale(dst.unit, to), scale(src.unit, from));
    let mut n = 1;
    for i in (0..ndim).rev() {
        let size = d.shape[i];
        let moves = size != 1;
        if size != s.shape[i] || size < 1 || moves && (d.strides[i] != n * d_step || s.strides[i] != n * s_step) {
            return None;
        }
        // No product overflows: either is at most `RUN` here.
        if size > RUN as i64 {
            return None;
        }
        n *= size;
        if n > RUN as i64 {
            return None;
        }
    }
    Some(n as usize)
}

/// The conversion of a cast for which there is nothing else to do.
#[derive(Clone, Copy)]
struct Cast<'a> {
    /// `None` where it takes more than one.
    kernel: Option<Kernel>,
    dst: &'a Operand<'a>,
    src: &'a Operand<'a>,
    options: &'a CopyOptions,
}

impl<'a> Cast<'a> {
    /// `None` where values need more than to be converted.
    #[inline(always)]
    fn new(
        dst: &'a Operand<'a>,
        src: &'a Operand<'a>,
        sizes: (usize, usize),
        options: &'a CopyOptions,
    ) -> Option<Cast<'a>> {
        if !(src.traits - Lazy::PADDED).is_empty() {
            return None;
        }
        let kernel = straight::kernel((dst.dtype, src.dtype), sizes, options);
        Some(Cast { kernel, dst, src, options })
    }

    /// Converts `n` elements and says whether that is allowed and loses nothing. (What is lost is counted again by the long way.)
    ///
    /// # Safety
    ///
    /// As for `Loops::run`, in elements.
    #[inline(always)]
    unsafe fn run(&self, dst: *mut u8, src: *const u8, n: usize) -> bool {
        match self.kernel {
            // SAFETY: the caller's guarantees are the kernel's.
            Some(kernel) => unsafe { kernel.run(dst, src, n) == 0 },
            // SAFETY: the caller's guarantees.
            None => unsafe { self.run_other(dst, src, n) },
        }
    }

    /// # Safety
    ///
    /// As for [`Cast::run`].
    #[inline(never)]
    unsafe fn run_other(&self, dst: *mut u8, src: *const u8, n: usize) -> bool {
        let (from, to, options) = (self.src.dtype, self.dst.dtype, self.options);
        if from.lanes != 1 || to.lanes != 1 {
            return false;
        }
        let known = Known::of(from, to, options.on_loss, options.saturate);
        let forbidden = known.kind == CastKind::TruthOrReal && options.on_loss == OnLoss::Error;
        // SAFETY: the caller's guarantees.
        !forbidden && known.convert.is_some_and(|convert| unsafe { convert.run(dst, src, n) } == 0)
    }
}

/// Room for all elements of one side.
#[repr(align(64))]
struct Room([MaybeUninit<u8>; SMALL]);

impl Room {
    const fn new() -> Room {
        Room([MaybeUninit::uninit(); SMALL])
    }

    fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// A small copy of what is not one run on both sides: elements are moved without a plan, and a cast converts them all at once.
///
/// # Safety
///
/// As for [`super::copy`], for elements of these sizes.
#[inline(never)] // keeps the room out of the stack frame of copies that need none
unsafe fn apart(dst: &Operand<'_>, src: &Operand<'_>, sizes: (usize, usize), options: &CopyOptions) -> bool {
    let (to, from) = sizes;
    let Some(flat) = Flat::new(dst, src, sizes, SMALL) else { return false };
    let n = flat.n;
    let Some(mut plane) = flat.plane() else {
        // SAFETY: the caller's guarantees.
        return unsafe { deep(&flat, dst, src, sizes, options) };
    };
    let level = Level::best();
    if dst.dtype == src.dtype {
        // SAFETY: the caller's guarantees.
        return unsafe { place(level, to, dst.data, src.data, &plane) };
    }
    let Some(cast) = Cast::new(dst, src, sizes, options) else { return false };
    let mut room = Room::new();
    let (mut values, read) = (src.data.cast_const(), room.start());
    // SAFETY: the caller's guarantees; there is room for what `SMALL` bytes hold, and it is read where it was written.
    unsafe {
        if is_run(&plane, to, |axis| axis.dst) {
            if !is_run(&plane, from, |axis| axis.src) {
                make_run(&mut plane, from, |axis| &mut axis.dst);
                if !place(level, from, read, values, &plane) {
                    return false;
                }
                values = read;
            }
            return cast.run(dst.data, values, n);
        }
        by_way_of(&cast, dst.data, values, &plane, n, sizes)
    }
}

/// [`apart`] of more than two axes.
///
/// # Safety
///
/// As for [`apart`].
#[inline(never)]
unsafe fn deep(
    flat: &Flat<'_>,
    dst: &Operand<'_>,
    src: &Operand<'_>,
    sizes: (usize, usize),
    options: &CopyOptions,
) -> bool {
    let Some(axes) = flat.axes() else { return false };
    // SAFETY: the caller's guarantees.
    unsafe {
        if dst.dtype == src.dtype {
            return nest(Level::best(), sizes.0, dst.data, src.data, &axes);
        }
        let Some(cast) = Cast::new(dst, src, sizes, options) else { return false };
        by_way_of(&cast, dst.data, src.data, &axes, flat.n, sizes)
    }
}

/// Reads, converts and writes elements, those that are not a run by way of one.
///
/// # Safety
///
/// As for [`apart`], with these axes of `n` elements, of which each side has at most [`SMALL`] bytes.
unsafe fn by_way_of(
    cast: &Cast<'_>,
    dst: *mut u8,
    src: *const u8,
    axes: &[Axis],
    n: usize,
    (to, from): (usize, usize),
) -> bool {
    let (mut read, mut made, level) = (Room::new(), Room::new(), Level::best());
    let mut run = Axes::from_slice(axes);
    // SAFETY: the caller's guarantees; there is room for what `SMALL` bytes hold, and it is read where it was written.
    unsafe {
        let mut values = src;
        if !is_run(axes, from, |axis| axis.src) {
            make_run(&mut run, from, |axis| &mut axis.dst);
            if !nest(level, from, read.start(), src, &run) {
                return false;
            }
            values = read.start();
        }
        if is_run(axes, to, |axis| axis.dst) {
            return cast.run(dst, values, n);
        }
        run.copy_from_slice(axes);
        make_run(&mut run, to, |axis| &mut axis.src);
        cast.run(made.start(), values, n) && nest(level, to, dst, made.start(), &run)
    }
}
