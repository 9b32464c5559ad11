//! Short ways for copies so small that to plan them would cost more than to make them.

use super::convert::Convert;
use super::{CastKind, CopyOptions, OnLoss, Operand, cast_kind};
use crate::StrideUnit;

/// Bytes of a run that needs no plan: at most this, neither threads nor streams come into question.
const RUN: usize = 256 << 10;

/// Elements that a loop has moved before a plan would be made.
const LOOP: usize = 96;

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
            n <= LOOP && dst.dtype == src.dtype && elements(dst, src, to)
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
    let kind = cast_kind(src.dtype, dst.dtype);
    let forbidden = kind == CastKind::TruthOrReal && options.on_loss == OnLoss::Error;
    if forbidden || !src.traits.is_empty() || src.dtype.lanes != 1 || dst.dtype.lanes != 1 {
        return false;
    }
    let Some(convert) = Convert::new(src.dtype, dst.dtype, options.on_loss, options.saturate) else { return false };
    // What is lost is counted again by the long way.
    // SAFETY: `n` elements on both sides, apart.
    let lost = unsafe { convert.run(dst.data, src.data, n) };
    lost == 0
}

/// Copies elements one by one.
///
/// # Safety
///
/// As for [`super::copy`], for one dtype of `size` bytes and a shape of at most [`LOOP`] elements.
unsafe fn elements(dst: &Operand<'_>, src: &Operand<'_>, size: usize) -> bool {
    let mut axes = [(0usize, 0isize, 0isize); NDIM];
    let mut used = 0;
    for ((&n, &d), &s) in dst.layout.shape.iter().zip(dst.layout.strides).zip(src.layout.strides) {
        if n == 1 {
            continue;
        }
        let scale = |unit: StrideUnit| if unit == StrideUnit::Bytes { 1 } else { size as i64 };
        let (Some(d), Some(s)) = (d.checked_mul(scale(dst.unit)), s.checked_mul(scale(src.unit))) else { return false };
        let far = |step: i64| step.unsigned_abs() > 1 << 40;
        if d == 0 || far(d) || far(s) {
            return false; // to be refused by name
        }
        axes[used] = (n as usize, d as isize, s as isize);
        used += 1;
    }
    let axes = &axes[..used];
    // SAFETY: the caller's guarantees, with elements as plain words of the same size.
    unsafe {
        match size {
            1 => nest::<u8>(dst.data, src.data, axes),
            2 => nest::<u16>(dst.data, src.data, axes),
            4 => nest::<u32>(dst.data, src.data, axes),
            8 => nest::<u64>(dst.data, src.data, axes),
            16 => nest::<[u64; 2]>(dst.data, src.data, axes),
            _ => return false,
        }
    }
    true
}

/// # Safety
///
/// Every element of the axes, with steps in bytes, is readable from `src` and writable from `dst`.
unsafe fn nest<T: Copy>(dst: *mut u8, src: *const u8, axes: &[(usize, isize, isize)]) {
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
