//! Pageable memory, casts and layouts on the way over the link: in pieces, through a ring of page-locked slots.
//!
//! What crosses the link is the narrower of both dtypes, compact, in the order of the destination: a piece is one range of
//! bytes on the device's side. The processor packs, casts or unpacks a piece while others are on the link.

use freehold_tensor::copy::{self, CopyOptions, Operand};
use freehold_tensor::{Dims, Layout};

use super::ring::{Ring, SLOT, SLOTS};
use super::{TransferError, host::driver_copy};
use crate::cuda::{Context, StreamRef};

/// A compact tensor in pieces that follow each other in memory.
pub(super) struct Pieces {
    /// Axes by their strides, the outermost first.
    order: Vec<usize>,
    shape: Dims,
    /// Axes that are walked one by one, before the one that is cut.
    outer: usize,
    /// Elements of the cut axis in a piece.
    step: i64,
    /// Bytes of an element on the link.
    size: usize,
}

impl Pieces {
    /// Pieces of at most a slot, of a compact layout of elements that fill bytes.
    pub(super) fn new(layout: Layout<'_>, size: usize) -> Pieces {
        let mut order: Vec<usize> = (0..layout.ndim()).filter(|&i| layout.shape[i] != 1).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(layout.strides[i]));
        // Bytes below each axis.
        let mut below: Vec<u64> = vec![size as u64; order.len()];
        for k in (0..order.len().saturating_sub(1)).rev() {
            below[k] = below[k + 1] * layout.shape[order[k + 1]].unsigned_abs();
        }
        let outer = below.iter().position(|bytes| *bytes <= SLOT as u64).unwrap_or(0);
        let step = below.get(outer).map_or(1, |bytes| (SLOT as u64 / bytes).max(1) as i64);
        Pieces { order, shape: Dims::from_slice(layout.shape), outer, step, size }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        let outer: u64 = self.order[..self.outer].iter().map(|&i| self.shape[i].unsigned_abs()).product();
        outer * self.cuts()
    }

    fn cuts(&self) -> u64 {
        self.order.get(self.outer).map_or(1, |&i| self.shape[i].unsigned_abs().div_ceil(self.step.unsigned_abs()))
    }

    /// The index of the first element of a piece along each axis, and its shape.
    pub(super) fn get(&self, piece: u64) -> (Dims, Dims) {
        let mut start: Dims = self.shape.iter().map(|_| 0).collect();
        let mut shape: Dims = self.shape.clone();
        let (mut rest, cut) = (piece / self.cuts(), (piece % self.cuts()) as i64);
        for &axis in self.order[..self.outer].iter().rev() {
            let n = self.shape[axis].unsigned_abs();
            start[axis] = (rest % n) as i64;
            shape[axis] = 1;
            rest /= n;
        }
        if let Some(&axis) = self.order.get(self.outer) {
            start[axis] = cut * self.step;
            shape[axis] = (self.shape[axis] - start[axis]).min(self.step);
        }
        (start, shape)
    }

    /// Bytes of a piece, from its shape.
    fn bytes(&self, shape: &[i64]) -> usize {
        shape.iter().product::<i64>() as usize * self.size
    }
}

/// The part of an operand that a piece is.
fn part<'a>(whole: &Operand<'a>, start: &[i64], shape: &'a [i64]) -> Operand<'a> {
    let unit = match whole.unit {
        freehold_tensor::StrideUnit::Bytes => 1,
        freehold_tensor::StrideUnit::Elements => whole.dtype.padded_size() as i64,
    };
    let steps = start.iter().zip(whole.layout.strides).map(|(i, stride)| i * stride * unit).sum::<i64>();
    Operand {
        data: whole.data.wrapping_offset(steps as isize),
        layout: Layout::new(shape, whole.layout.strides),
        ..*whole
    }
}

/// Where a piece begins on the link's side, in bytes.
fn offset(link: &Operand<'_>, start: &[i64]) -> u64 {
    let size = link.dtype.padded_size() as i64;
    start.iter().zip(link.layout.strides).map(|(i, stride)| i * stride * size).sum::<i64>().unsigned_abs()
}

/// Fills compact memory of the device from the host, casting on the way. The host's memory was read on return.
///
/// # Safety
///
/// * `link` is memory of the context's device, compact, without negative strides; `src` is host memory; otherwise as
///   [`copy::copy`].
pub(super) unsafe fn upload(
    context: &'static Context,
    link: &Operand<'_>,
    src: &Operand<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<u64, TransferError> {
    let pieces = Pieces::new(link.layout, link.dtype.padded_size());
    let mut ring = Ring::take(context)?;
    for i in 0..pieces.len() {
        let (start, shape) = pieces.get(i);
        let slot = ring.free(i as usize)?;
        let staged = Operand { data: slot, layout: Layout::new(&shape, link.layout.strides), ..*link };
        // SAFETY: a piece is compact and at most as long as a slot, which the device is done with; the source's part lies
        // within the source.
        unsafe { copy::copy(&staged, &part(src, &start, &shape), options) }?;
        let to = link.data.addr() as u64 + offset(link, &start);
        // SAFETY: the piece lies within the device's memory, and the slot is not touched before the copy is done.
        unsafe { driver_copy(context, to, slot.addr() as u64, pieces.bytes(&shape), stream) }?;
        ring.used(i as usize, stream)?;
    }
    Ok(pieces.len())
}

/// Fills host memory from compact memory of the device, casting on the way. The host's memory is complete on return.
///
/// # Safety
///
/// * As [`upload`], with the sides exchanged.
pub(super) unsafe fn download(
    context: &'static Context,
    dst: &Operand<'_>,
    link: &Operand<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<(), TransferError> {
    let pieces = Pieces::new(link.layout, link.dtype.padded_size());
    let mut ring = Ring::take(context)?;
    let count = pieces.len();
    let fetch = |ring: &mut Ring, i: u64| -> Result<(), TransferError> {
        let (start, shape) = pieces.get(i);
        let slot = ring.free(i as usize)?;
        let from = link.data.addr() as u64 + offset(link, &start);
        // SAFETY: the piece lies within the device's memory, and the slot is as long and not in use.
        unsafe { driver_copy(context, slot.addr() as u64, from, pieces.bytes(&shape), stream) }?;
        Ok(ring.used(i as usize, stream)?)
    };
    for i in 0..count.min(SLOTS as u64) {
        fetch(&mut ring, i)?;
    }
    for i in 0..count {
        let (start, shape) = pieces.get(i);
        let slot = ring.free(i as usize)?;
        let staged = Operand { data: slot, layout: Layout::new(&shape, link.layout.strides), ..*link };
        // SAFETY: the slot holds the piece; the destination's part lies within the destination.
        unsafe { copy::copy(&part(dst, &start, &shape), &staged, options) }?;
        if i + (SLOTS as u64) < count {
            fetch(&mut ring, i + SLOTS as u64)?;
        }
    }
    Ok(())
}
