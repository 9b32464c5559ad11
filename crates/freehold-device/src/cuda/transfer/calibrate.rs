//! Measures where one road becomes faster than another on this machine.

use std::fmt;
use std::time::{Duration, Instant};

use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
use freehold_tensor::{DType, Device, DeviceKind, Layout};

use super::device::Temporary;
use super::rows::Rows;
use super::tuning::{self, Tuning};
use super::{Side, TransferError, host, staged};
use crate::cuda::{Context, StreamRef, memory};
use crate::{Buffer, HOST_ALIGNMENT, Stream};

/// Bytes of the large copies that are measured.
const LARGE: usize = 64 << 20;

/// What was measured.
///
/// See [`calibrate`].
///
/// ```no_run
/// use freehold_device::cuda::Context;
/// use freehold_device::cuda::transfer::calibrate;
///
/// let measured = calibrate(Context::of(0)?)?;
/// assert!(measured.to_string().starts_with("page-locked "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Calibration {
    /// What copies go by from now on.
    pub tuning: Tuning,
    /// Page-locked memory to the device, in bytes a second.
    pub pinned_rate: f64,
    /// Pageable memory to the device through page-locked slots, in bytes a second.
    pub staged_rate: f64,
    /// Whether it is kept in a file for the next processes.
    pub kept: bool,
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tuning { staged_from, piece, threads, pitched_from, batched_from } = self.tuning;
        write!(
            f,
            "page-locked {:.1} GB/s, pageable {:.1} GB/s with {threads} threads and pieces of {piece} bytes, from {staged_from} \
             bytes on; rows from {pitched_from} bytes on, batches from {batched_from}",
            self.pinned_rate / 1e9,
            self.staged_rate / 1e9,
        )
    }
}

/// Measures transfers on a context and goes by that from now on, here and (by a file in the user's cache directory, or in
/// `FREEHOLD_CACHE_DIR`) in later processes on this machine. Takes about a second, 64 MiB of each kind of memory, and the link
/// for itself: other work makes the figures worse. No copy ever does this by itself.
///
/// ```no_run
/// use freehold_device::cuda::Context;
/// use freehold_device::cuda::transfer::{calibrate, tuning};
///
/// let context = Context::of(0)?;
/// let measured = calibrate(context)?;
/// assert_eq!(tuning(context), measured.tuning);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// No memory, or what the driver says. Nothing is changed then.
pub fn calibrate(context: &'static Context) -> Result<Calibration, TransferError> {
    let bench = Bench::new(context)?;
    let mut best = Tuning::default();
    let pinned_rate = LARGE as f64 / bench.time(4, || bench.driver(true, LARGE))?.as_secs_f64();
    // Threads and pieces: the fewest and the smallest of those within 3 %.
    let most = freehold_tensor::copy::num_threads().min(super::lanes::LANES);
    let mut staged = Duration::MAX;
    for threads in [1, 2, 4, 6, 8, 12, 16].into_iter().filter(|n| *n == 1 || *n <= most) {
        for piece in [1 << 20, 2 << 20, 4 << 20] {
            let tried = Tuning { threads, piece, ..best };
            let took = bench.time(3, || bench.staged(LARGE, &tried))?;
            if took.as_secs_f64() < 0.97 * staged.as_secs_f64() {
                (staged, best) = (took, tried);
            }
        }
    }
    // Where staging begins to win, and keeps winning.
    best.staged_from = LARGE as u64;
    for shift in (14..=24).rev() {
        let bytes = 1 << shift;
        let ours = bench.time(9, || bench.staged(bytes, &best))?;
        if ours > bench.time(9, || bench.driver(false, bytes))? {
            break;
        }
        best.staged_from = bytes as u64;
    }
    best.pitched_from = bench.shortest(&best, |rows| {
        // SAFETY: the rows lie within memory of the bench, which outlives the copies.
        unsafe { rows.copy(context, &bench.side(true), &bench.side(false), bench.stream) }
    })?;
    if context.api().batch.is_some() {
        best.batched_from = bench.shortest(&best, |rows| {
            // SAFETY: as above; the stream is not captured.
            unsafe { rows.copy_batch(context, bench.stream) }
        })?;
    }
    let kept = tuning::keep(context, best);
    Ok(Calibration { tuning: best, pinned_rate, staged_rate: LARGE as f64 / staged.as_secs_f64(), kept })
}

/// Memory to measure with.
struct Bench {
    context: &'static Context,
    stream: StreamRef,
    device: Temporary,
    pinned: Buffer,
    pageable: Buffer,
}

impl Bench {
    fn new(context: &'static Context) -> Result<Bench, TransferError> {
        let stream = context.work_stream()?;
        let device = Temporary::new(context, LARGE, stream)?;
        let pinned = Buffer::new(memory::pinned()?, LARGE, HOST_ALIGNMENT, Stream::NONE)?;
        let pageable = Buffer::host(LARGE)?;
        for host in [&pinned, &pageable] {
            // SAFETY: the block has so many bytes, and nobody else has it. Pages that were never touched are no memory yet.
            unsafe { host.as_ptr().write_bytes(1, LARGE) };
        }
        Ok(Bench { context, stream, device, pinned, pageable })
    }

    /// The shortest of some times, each with a wait for the stream; one more to warm up.
    fn time(&self, times: usize, queue: impl Fn() -> Result<(), TransferError>) -> Result<Duration, TransferError> {
        let mut best = Duration::MAX;
        for _ in 0..=times {
            let start = Instant::now();
            queue()?;
            self.context.synchronize(self.stream)?;
            best = best.min(start.elapsed());
        }
        Ok(best)
    }

    fn driver(&self, pinned: bool, bytes: usize) -> Result<(), TransferError> {
        let from = if pinned { &self.pinned } else { &self.pageable };
        let (to, from) = (self.device.as_ptr().addr() as u64, from.as_ptr().addr() as u64);
        // SAFETY: both have so many bytes, and are waited for before they go.
        unsafe { host::driver_copy(self.context, to, from, bytes, self.stream) }
    }

    fn staged(&self, bytes: usize, tuning: &Tuning) -> Result<(), TransferError> {
        let (shape, strides) = ([bytes as i64], [1]);
        let operand = |data| Operand {
            data,
            dtype: DType::U8,
            layout: Layout::new(&shape, &strides),
            unit: Default::default(),
            traits: Lazy::empty(),
        };
        let (to, from) = (operand(self.device.as_ptr()), operand(self.pageable.as_ptr()));
        let options = CopyOptions::default();
        // SAFETY: both have so many bytes, the device's without gaps; the stream is ours and not captured.
        unsafe { staged::upload(self.context, &to, &from, &options, self.stream, tuning) }
    }

    /// A side of no elements: which kind of memory rows are in.
    fn side(&self, on_device: bool) -> Side<'static> {
        let (kind, data) = if on_device {
            (DeviceKind::CUDA, self.device.as_ptr())
        } else {
            (DeviceKind::CUDA_HOST, self.pinned.as_ptr())
        };
        let layout = Layout::new(&[0], &[1]);
        let operand = Operand { data, dtype: DType::U8, layout, unit: Default::default(), traits: Lazy::empty() };
        Side { operand, device: Device::new(kind, self.context.ordinal()) }
    }

    /// The shortest row with which page-locked rows, every other one, go faster as they lie than packed.
    fn shortest(
        &self,
        tuning: &Tuning,
        copy: impl Fn(&Rows) -> Result<(), TransferError>,
    ) -> Result<u64, TransferError> {
        /// Bytes that are copied: a few milliseconds even for the shortest rows.
        const BYTES: usize = 4 << 20;
        let mut best = u64::MAX;
        for shift in (6..=16).rev() {
            let width = 1 << shift;
            // No more rows than one batch takes.
            let height = (BYTES >> shift).min(8 << 10) as i64;
            let (shape, dense, gaps) = ([height, width], [width, 1], [2 * width, 1]);
            let operand = |data, strides| Operand {
                data,
                dtype: DType::U8,
                layout: Layout::new(&shape, strides),
                unit: Default::default(),
                traits: Lazy::empty(),
            };
            let (to, from) = (operand(self.device.as_ptr(), &dense), operand(self.pinned.as_ptr(), &gaps));
            let Some(rows) = Rows::new(&to, &from) else { break };
            let options = CopyOptions::default();
            let packed = self.time(3, || {
                // SAFETY: as in `staged`.
                unsafe { staged::upload(self.context, &to, &from, &options, self.stream, tuning) }
            })?;
            if self.time(3, || copy(&rows))? > packed {
                break;
            }
            best = width as u64;
        }
        Ok(best)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // After a failure something may still run.
        let _ = self.context.synchronize(self.stream);
    }
}
