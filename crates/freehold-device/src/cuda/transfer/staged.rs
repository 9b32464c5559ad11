//! Pageable memory, casts and layouts on the way over the link: in pieces, through lanes of page-locked slots.
//!
//! What crosses the link is compact, in the order of the destination: a piece is one range of bytes on the device's side. Each
//! thread packs, casts or unpacks pieces of its own while others of them are on the link; nobody waits for anybody else.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use freehold_tensor::copy::{self, CopyOptions, Operand};
use freehold_tensor::{Dims, Layout, StrideUnit};

use super::lanes::{LANES, Lane};
use super::tuning::Tuning;
use super::{TransferError, host::driver_copy};
use crate::cuda::memory::Relaxed;
use crate::cuda::{Context, StreamRef};

/// The shortest piece that repays another thread, in bytes.
const SHORTEST: u64 = 256 << 10;

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
    /// Pieces of at most so many bytes, of a compact layout of elements that fill bytes.
    pub(super) fn new(layout: Layout<'_>, size: usize, most: usize) -> Pieces {
        // The largest strides first.
        let mut order: Vec<usize> = Vec::with_capacity(layout.ndim());
        for i in (0..layout.ndim()).filter(|&i| layout.shape[i] != 1) {
            order.insert(order.partition_point(|&other| layout.strides[other] >= layout.strides[i]), i);
        }
        // Bytes below each axis.
        let mut below: Vec<u64> = vec![size as u64; order.len()];
        for k in (0..order.len().saturating_sub(1)).rev() {
            below[k] = below[k + 1] * layout.shape[order[k + 1]].unsigned_abs();
        }
        let outer = below.iter().position(|bytes| *bytes <= most as u64).unwrap_or(order.len().saturating_sub(1));
        let step = match (order.get(outer), below.get(outer)) {
            (Some(&axis), Some(bytes)) => {
                // As many as are needed, and all about as long.
                let n = layout.shape[axis].unsigned_abs();
                n.div_ceil(n.div_ceil((most as u64 / bytes).max(1))) as i64
            }
            _ => 1,
        };
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
        StrideUnit::Bytes => 1,
        StrideUnit::Elements => whole.dtype.padded_size() as i64,
    };
    let steps = start.iter().zip(whole.layout.strides).map(|(i, stride)| i * stride * unit).sum::<i64>();
    Operand {
        data: whole.data.wrapping_offset(steps as isize),
        layout: Layout::new(shape, whole.layout.strides),
        ..*whole
    }
}

/// The most threads for so many bytes on the link. Where the host's side reaches several times as many, with gaps or with wider
/// elements, several times the threads keep the link busy.
fn threads_for(tuning: &Tuning, host: &Operand<'_>, link: u64) -> usize {
    let reached = host.layout.validate(host.dtype, true, host.unit).map_or(0, |extent| extent.len());
    let times = reached.saturating_add(link / 2) / link.max(1);
    tuning.threads.saturating_mul(times.clamp(1, LANES as u64) as usize).min(LANES)
}

/// One copy in pieces, by several threads.
struct Job<'a> {
    context: &'static Context,
    pieces: Pieces,
    link: Operand<'a>,
    host: Operand<'a>,
    options: CopyOptions,
    stream: StreamRef,
    next: AtomicU64,
    stop: AtomicBool,
    failed: Mutex<Option<TransferError>>,
}

// SAFETY: pieces are apart on both sides, each is one thread's, and the caller of the copy lends the memory until it returns.
unsafe impl Sync for Job<'_> {}

impl<'a> Job<'a> {
    /// The job, and how many threads it repays.
    fn new(
        context: &'static Context,
        link: &Operand<'a>,
        host: &Operand<'a>,
        options: &CopyOptions,
        stream: StreamRef,
        tuning: &Tuning,
    ) -> (Job<'a>, usize) {
        let size = link.dtype.padded_size();
        let total = link.layout.numel().unwrap_or(0).unsigned_abs() * size as u64;
        let most = options
            .threads
            .map_or_else(|| copy::num_threads().min(threads_for(tuning, host, total)), NonZeroUsize::get);
        // The number 2 is another stream in another thread.
        let most = if stream == StreamRef::PER_THREAD { 1 } else { most.max(1) };
        let piece = (total / most as u64).max(SHORTEST).min(tuning.piece as u64) as usize;
        let pieces = Pieces::new(link.layout, size, piece);
        let threads = (most as u64).min(pieces.len()) as usize;
        let options = if most > 1 { CopyOptions { threads: NonZeroUsize::new(1), ..*options } } else { *options };
        let (next, stop, failed) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(None));
        (Job { context, pieces, link: *link, host: *host, options, stream, next, stop, failed }, threads)
    }

    /// The next piece that nobody has: its number.
    fn next(&self) -> Option<u64> {
        // Relaxed: the end of all threads orders what they did before what the caller does next.
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < self.pieces.len())
    }

    /// Where a piece lies on the device, and how long it is.
    fn range(&self, start: &[i64], shape: &[i64]) -> (u64, usize) {
        let size = self.link.dtype.padded_size() as i64;
        let steps = start.iter().zip(self.link.layout.strides).map(|(i, stride)| i * stride * size).sum::<i64>();
        ((self.link.data.addr() as u64).wrapping_add_signed(steps), self.pieces.bytes(shape))
    }

    /// Runs one of two ways on a thread for each lane.
    fn run(
        self,
        lanes: Vec<Lane>,
        way: fn(&Job<'a>, &mut Lane) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let (threads, lanes) = (lanes.len(), Mutex::new(lanes));
        copy::on_threads(threads, || {
            let Some(mut lane) = lanes.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return };
            if let Err(error) = way(&self, &mut lane) {
                self.stop.store(true, Ordering::Relaxed);
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Pieces go up while there are any.
    fn up(&self, lane: &mut Lane) -> Result<(), TransferError> {
        let _relaxed = self.relaxed()?;
        let mut turn = 0;
        while let Some(i) = self.next() {
            let (start, shape) = self.pieces.get(i);
            let slot = lane.free(turn)?;
            let staged = Operand { data: slot, layout: Layout::new(&shape, self.link.layout.strides), ..self.link };
            // SAFETY: a piece is compact and at most as long as a slot, which the device is done with; the source's part lies
            // within the source.
            unsafe { copy::copy(&staged, &part(&self.host, &start, &shape), &self.options) }?;
            let (to, bytes) = self.range(&start, &shape);
            // SAFETY: the piece lies within the device's memory, and the slot is not touched before the copy is done.
            unsafe { driver_copy(self.context, to, slot.addr() as u64, bytes, self.stream) }?;
            lane.used(turn, self.stream)?;
            turn += 1;
        }
        Ok(())
    }

    /// Pieces come down, one on the link while another is unpacked.
    fn down(&self, lane: &mut Lane) -> Result<(), TransferError> {
        let _relaxed = self.relaxed()?;
        let fetch = |lane: &mut Lane, turn: usize| -> Result<Option<u64>, TransferError> {
            let Some(i) = self.next() else { return Ok(None) };
            let (start, shape) = self.pieces.get(i);
            let slot = lane.free(turn)?;
            let (from, bytes) = self.range(&start, &shape);
            // SAFETY: the piece lies within the device's memory, and the slot is as long and not in use.
            unsafe { driver_copy(self.context, slot.addr() as u64, from, bytes, self.stream) }?;
            lane.used(turn, self.stream)?;
            Ok(Some(i))
        };
        let (mut turn, mut coming) = (0, fetch(lane, 0)?);
        while let Some(i) = coming {
            coming = fetch(lane, turn + 1)?;
            let (start, shape) = self.pieces.get(i);
            let slot = lane.free(turn)?;
            let staged = Operand { data: slot, layout: Layout::new(&shape, self.link.layout.strides), ..self.link };
            // SAFETY: the slot holds the piece; the destination's part lies within the destination.
            unsafe { copy::copy(&part(&self.host, &start, &shape), &staged, &self.options) }?;
            turn += 1;
        }
        Ok(())
    }

    /// What others capture into graphs does not forbid to wait for slots: the stream of the copy is not captured.
    fn relaxed(&self) -> Result<Relaxed, TransferError> {
        let _entered = self.context.enter()?;
        Ok(Relaxed::begin(self.context))
    }
}

/// Fills compact memory of the device from the host, casting on the way. The host's memory was read on return.
///
/// # Safety
///
/// * `link` is memory of the context's device, compact, without negative strides, in elements of whole bytes; `src` is host
///   memory; otherwise as [`copy::copy`].
/// * The stream is not captured.
pub(super) unsafe fn upload(
    context: &'static Context,
    link: &Operand<'_>,
    src: &Operand<'_>,
    options: &CopyOptions,
    stream: StreamRef,
    tuning: &Tuning,
) -> Result<(), TransferError> {
    let (job, threads) = Job::new(context, link, src, options, stream, tuning);
    let lanes = Lane::take(context, threads, tuning.piece)?;
    job.run(lanes, Job::up)
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
    tuning: &Tuning,
) -> Result<(), TransferError> {
    let (job, threads) = Job::new(context, link, dst, options, stream, tuning);
    let lanes = Lane::take(context, threads, tuning.piece)?;
    job.run(lanes, Job::down)
}

#[cfg(test)]
mod tests {
    use freehold_tensor::copy::Lazy;
    use freehold_tensor::{DType, Order, compact_strides};

    use super::*;

    #[test]
    fn memory_with_gaps_has_more_threads() {
        let tuning = Tuning { threads: 3, ..Tuning::default() };
        let threads = |dtype: DType, shape: &[i64], strides: &[i64], link: u64| {
            let layout = Layout::new(shape, strides);
            let (data, unit) = (std::ptr::dangling_mut(), StrideUnit::Elements);
            threads_for(&tuning, &Operand { data, dtype, layout, unit, traits: Lazy::empty() }, link)
        };
        assert_eq!(threads(DType::F32, &[1000], &[1], 4000), 3);
        assert_eq!(threads(DType::F32, &[1000], &[2], 4000), 6);
        assert_eq!(threads(DType::F64, &[1000], &[1], 4000), 6);
        assert_eq!(threads(DType::F64, &[1000], &[2], 4000), 12);
        assert_eq!(threads(DType::F16, &[1000], &[1], 4000), 3);
        assert_eq!(threads(DType::U8, &[1000], &[1000], 4000), 16);
        assert_eq!(threads(DType::F32, &[1000, 1000], &[0, 1], 4_000_000), 3, "broadcast");
        assert_eq!(threads(DType::F32, &[0], &[1], 0), 3);
    }

    #[test]
    #[cfg_attr(miri, ignore = "arithmetic on thousands of pieces")]
    fn pieces_cover_every_element_once_and_fit() {
        let shapes: [&[i64]; 7] = [&[], &[1], &[1000], &[3, 700], &[7, 1, 5, 3], &[2, 2, 2, 2, 2], &[1, 513]];
        for shape in shapes {
            for order in [Order::C, Order::F] {
                for most in [4, 12, 64, 100, 1 << 20] {
                    let strides = compact_strides(shape, order).expect("small");
                    let pieces = Pieces::new(Layout::new(shape, &strides), 4, most);
                    let numel = shape.iter().product::<i64>();
                    let mut seen = vec![0; numel as usize];
                    for i in 0..pieces.len() {
                        let (start, part) = pieces.get(i);
                        let bytes = pieces.bytes(&part);
                        assert!(bytes > 0 && bytes <= most, "{shape:?} {order:?} {most}: {part:?}");
                        // One range of memory.
                        let first = start.iter().zip(&strides).map(|(i, s)| i * s).sum::<i64>() as usize;
                        seen[first..first + bytes / 4].iter_mut().for_each(|n| *n += 1);
                    }
                    assert!(seen.iter().all(|n| *n == 1), "{shape:?} {order:?} {most}");
                }
            }
        }
    }
}
