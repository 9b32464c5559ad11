//! Short ways for copies so small that to plan them would cost more than to make them.

use std::mem::MaybeUninit;

use super::convert::{Convert, Known};
use super::{CastKind, CopyOptions, Lazy, OnLoss, Operand};
use crate::StrideUnit;

/// Bytes of a run that needs no plan: at most this, neither threads nor streams come into question.
const RUN: usize = 256 << 10;

/// Bytes of the larger side of a copy whose rows, or elements, may be walked without a plan.
const SMALL: usize = 4 << 10;

/// Bytes of a row that repays a call.
const ROW: usize = 32;

/// Elements that a loop has moved before a plan would be made.
const LOOP: usize = 512;

/// The most dimensions of such a loop.
const NDIM: usize = 8;

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
    let (d, s) = (&dst.layout, &src.layout);
    let ndim = d.shape.len();
    let fits = d.shape == s.shape && d.strides.len() == ndim && s.strides.len() == ndim && ndim <= NDIM;
    if !fits || dst.traits != src.traits || dst.data.is_null() || src.data.is_null() {
        return false;
    }
    let (Some(to), Some(from)) = (dst.dtype.size(), src.dtype.size()) else { return false };
    let Some(n) = count(d.shape) else { return false };
    // SAFETY: whole-byte elements of a shape that both sides have; the caller's guarantees.
    unsafe {
        if is_run(dst, to) && is_run(src, from) {
            run(dst, src, n, (to, from), options)
        } else {
            n * to.max(from) <= SMALL && scattered(dst, src, n, (to, from), options)
        }
    }
}

/// Elements of a shape, if there is one at least and no more than [`RUN`].
#[inline]
fn count(shape: &[i64]) -> Option<usize> {
    let mut n = 1;
    for &size in shape {
        if size < 1 || size > RUN as i64 {
            return None;
        }
        n *= size as usize;
        if n > RUN {
            return None;
        }
    }
    Some(n)
}

/// Whether an operand of few elements is one run in C order.
#[inline]
fn is_run(operand: &Operand<'_>, size: usize) -> bool {
    let mut step = if operand.unit == StrideUnit::Bytes { size as i64 } else { 1 };
    for (&n, &stride) in operand.layout.shape.iter().zip(operand.layout.strides).rev() {
        if n != 1 && stride != step {
            return false;
        }
        step *= n;
    }
    true
}

/// # Safety
///
/// As for [`super::copy`], for runs of `n` elements of these sizes.
#[inline]
unsafe fn run(
    dst: &Operand<'_>,
    src: &Operand<'_>,
    n: usize,
    (to, from): (usize, usize),
    options: &CopyOptions,
) -> bool {
    if n * to.max(from) > RUN {
        return false;
    }
    if dst.dtype == src.dtype {
        // SAFETY: `n` elements on both sides, apart.
        unsafe { std::ptr::copy_nonoverlapping(src.data.cast_const(), dst.data, n * to) };
        return true;
    }
    let Some(convert) = cast(dst, src, options) else { return false };
    // What is lost is counted again by the long way.
    // SAFETY: `n` elements on both sides, apart.
    let lost = unsafe { convert.run(dst.data, src.data, n) };
    lost == 0
}

/// The conversion of a cast for which there is nothing else to do, unless it is forbidden.
#[inline]
fn cast(dst: &Operand<'_>, src: &Operand<'_>, options: &CopyOptions) -> Option<Convert> {
    if !(src.traits - Lazy::PADDED).is_empty() || src.dtype.lanes != 1 || dst.dtype.lanes != 1 {
        return None;
    }
    let known = Known::of(src.dtype, dst.dtype, options.on_loss, options.saturate);
    let forbidden = known.kind == CastKind::TruthOrReal && options.on_loss == OnLoss::Error;
    if forbidden { None } else { known.convert }
}

/// An axis with its size and steps in bytes, the destination's first.
type Axis = (usize, isize, isize);

/// Room for all elements of one side.
#[repr(align(64))]
struct Block([MaybeUninit<u8>; SMALL]);

impl Block {
    const fn new() -> Block {
        Block([MaybeUninit::uninit(); SMALL])
    }

    fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// Moves elements without a plan; a cast converts them all at once, by way of blocks where they are not one run.
///
/// # Safety
///
/// As for [`super::copy`], for `n` elements of these sizes, of which each side has at most [`SMALL`] bytes.
#[inline(never)] // keeps the blocks out of the stack frame of copies that need none
unsafe fn scattered(
    dst: &Operand<'_>,
    src: &Operand<'_>,
    n: usize,
    (to, from): (usize, usize),
    options: &CopyOptions,
) -> bool {
    let mut all = [(0usize, 0isize, 0isize); NDIM];
    let mut used = 0;
    for ((&n, &d), &s) in dst.layout.shape.iter().zip(dst.layout.strides).zip(src.layout.strides) {
        if n == 1 {
            continue;
        }
        let scale = |unit: StrideUnit, size: usize| if unit == StrideUnit::Bytes { 1 } else { size as i64 };
        let steps = (d.checked_mul(scale(dst.unit, to)), s.checked_mul(scale(src.unit, from)));
        let (Some(d), Some(s)) = steps else { return false };
        let far = |step: i64| step.unsigned_abs() > 1 << 40;
        if d == 0 || far(d) || far(s) {
            return false; // to be refused by name
        }
        all[used] = (n as usize, d as isize, s as isize);
        used += 1;
    }
    let axes = &mut all[..used];
    if dst.dtype == src.dtype {
        // SAFETY: the caller's guarantees.
        return unsafe { place(dst.data, src.data, axes, n, to) };
    }
    let Some(convert) = cast(dst, src, options) else { return false };
    let (mut read, mut made) = (Block::new(), Block::new());
    let (read, made) = (read.start(), made.start());
    // The same elements as one run of this size, on the destination's side or the source's.
    let mut sides = [[0; NDIM]; 2];
    for (side, size) in sides.iter_mut().zip([from, to]) {
        axes.iter().zip(side.iter_mut()).rev().fold(size, |step, (axis, run)| {
            *run = step as isize;
            step * axis.0
        });
    }
    let [values, results] = sides;
    let src_run = axes.iter().zip(values).all(|(axis, run)| axis.2 == run);
    let dst_run = axes.iter().zip(results).all(|(axis, run)| axis.1 == run);
    let mut moved = all;
    let moved = &mut moved[..used];
    // SAFETY: the caller's guarantees; a block holds what `SMALL` bytes hold, and is read where it was written.
    unsafe {
        let mut from_run = src.data.cast_const();
        if !src_run {
            moved.iter_mut().zip(values).for_each(|(axis, run)| axis.1 = run);
            if !place(read, src.data, moved, n, from) {
                return false;
            }
            from_run = read;
        }
        if dst_run {
            return convert.run(dst.data, from_run, n) == 0;
        }
        if convert.run(made, from_run, n) != 0 {
            return false;
        }
        let axes = &all[..used];
        moved.iter_mut().zip(axes).zip(results).for_each(|((axis, own), run)| *axis = (own.0, own.1, run));
        place(dst.data, made, moved, n, to)
    }
}

/// Moves elements of `size` bytes: rows that are runs on both sides as such, others one by one, unless they are too
/// many.
///
/// # Safety
///
/// Every element of the axes, `n` in all, is readable from `src` and writable from `dst`, without overlap.
#[inline]
unsafe fn place(dst: *mut u8, src: *const u8, axes: &[Axis], n: usize, size: usize) -> bool {
    // SAFETY: the caller's guarantees, with elements as plain words of the same size.
    unsafe {
        if let [outer @ .., (cols, d, s)] = axes
            && (*d, *s) == (size as isize, size as isize)
            && cols * size >= ROW
        {
            rows(dst, src, outer, cols * size);
            return true;
        }
        if n > LOOP {
            return false;
        }
        match size {
            1 => nest::<u8>(dst, src, axes),
            2 => nest::<u16>(dst, src, axes),
            4 => nest::<u32>(dst, src, axes),
            8 => nest::<u64>(dst, src, axes),
            16 => nest::<[u64; 2]>(dst, src, axes),
            _ => return false,
        }
    }
    true
}

/// Copies a row of so many bytes from and to every position of the axes.
///
/// # Safety
///
/// As for [`place`], in rows.
unsafe fn rows(dst: *mut u8, src: *const u8, axes: &[Axis], bytes: usize) {
    // SAFETY: the caller's guarantees; two pieces of a row may overlap.
    unsafe {
        match axes {
            [(n, d, s)] if bytes <= 4 * ROW => {
                for i in 0..*n as isize {
                    let (dst, src) = (dst.offset(i * d), src.offset(i * s));
                    let piece =
                        |at: usize| dst.add(at).cast::<[u8; ROW]>().write(src.add(at).cast::<[u8; ROW]>().read());
                    (0..bytes / ROW).for_each(|k| piece(k * ROW));
                    piece(bytes - ROW);
                }
            }
            [(n, d, s)] => {
                for i in 0..*n as isize {
                    std::ptr::copy_nonoverlapping(src.offset(i * s), dst.offset(i * d), bytes);
                }
            }
            [(n, d, s), inner @ ..] => {
                (0..*n as isize).for_each(|i| rows(dst.offset(i * d), src.offset(i * s), inner, bytes));
            }
            [] => std::ptr::copy_nonoverlapping(src, dst, bytes),
        }
    }
}

/// # Safety
///
/// Every element of the axes, with steps in bytes, is readable from `src` and writable from `dst`.
unsafe fn nest<T: Copy>(dst: *mut u8, src: *const u8, axes: &[Axis]) {
    // SAFETY: elements of the caller's axes; unaligned on both sides.
    unsafe {
        match axes {
            [] => dst.cast::<T>().write_unaligned(src.cast::<T>().read_unaligned()),
            [(n, d, s)] => {
                for i in 0..*n as isize {
                    dst.offset(i * d).cast::<T>().write_unaligned(src.offset(i * s).cast::<T>().read_unaligned());
                }
            }
            [(n, d, s), inner @ ..] => {
                for i in 0..*n as isize {
                    nest::<T>(dst.offset(i * d), src.offset(i * s), inner);
                }
            }
        }
    }
}
