//! Copies between host and device, timed: one line of JSON for each figure. Needs a GPU; takes about half a minute at most.
//!
//! `cargo run --release -p freehold-device --example cuda_transfers [--quick] [--calibrate]`
//!
//! Rates are bytes of the device's side a second, the best of a few runs, each waited for. `driver` is one call of the driver
//! with page-locked memory, in the same run: what the others are measured against.

use std::time::{Duration, Instant};

use freehold_device::cuda::transfer::{self, Piece, Side};
use freehold_device::cuda::{self, Context, StreamRef, memory};
use freehold_device::{Buffer, Stream, host};
use freehold_tensor::copy::{CopyOptions, Lazy, OnLoss, Operand};
use freehold_tensor::{DType, Device, DeviceKind, Layout};

type Failure = Box<dyn std::error::Error>;

const MIB: usize = 1 << 20;

fn main() -> Result<(), Failure> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let context = Context::of(0)?;
    let driver = context.driver();
    let name = &driver.devices[0].name;
    let threads = freehold_tensor::copy::num_threads();
    println!(r#"{{"what": "machine", "device": "{name}", "cuda": "{}", "threads": {threads}}}"#, driver.version);
    if std::env::args().any(|argument| argument == "--calibrate") {
        println!(r#"{{"what": "calibration", "text": "{}"}}"#, transfer::calibrate(context)?);
    }
    let bench = Bench::new(context, if quick { 64 } else { 1024 } * MIB)?;
    let sizes: &[usize] = if quick { &[1, 16, 64] } else { &[1, 4, 16, 64, 256, 1024] };
    for &mib in sizes {
        bench.straight(mib * MIB)?;
    }
    bench.cast(if quick { 64 } else { 256 } * MIB)?;
    bench.many()?;
    bench.fill(if quick { 16 } else { 256 } * MIB)?;
    println!(r#"{{"what": "slots", "bytes": {}}}"#, transfer::staging_bytes(context));
    Ok(())
}

struct Bench {
    context: &'static Context,
    stream: StreamRef,
    device: Buffer,
    pinned: Buffer,
    pageable: Buffer,
}

/// A tensor in one of the buffers.
struct View<'a> {
    buffer: &'a Buffer,
    kind: DeviceKind,
    dtype: DType,
    shape: &'a [i64],
    strides: &'a [i64],
}

impl View<'_> {
    fn side(&self) -> Side<'_> {
        let operand = Operand {
            data: self.buffer.as_ptr(),
            dtype: self.dtype,
            layout: Layout::new(self.shape, self.strides),
            unit: Default::default(),
            traits: Lazy::empty(),
        };
        Side { operand, device: Device::new(self.kind, 0) }
    }
}

impl Bench {
    fn new(context: &'static Context, bytes: usize) -> Result<Bench, Failure> {
        let stream = context.work_stream()?;
        let device = Buffer::new(memory::resource(0)?, bytes, 256, Stream::NONE)?;
        let pinned = Buffer::new(memory::pinned()?, bytes, 4096, Stream::NONE)?;
        let pageable = Buffer::new(host(), bytes, 4096, Stream::NONE)?;
        for host in [&pinned, &pageable] {
            // SAFETY: the buffer has so many bytes, and nobody else has it. Pages that were never touched are no memory yet.
            unsafe { host.as_ptr().write_bytes(0, bytes) };
        }
        Ok(Bench { context, stream, device, pinned, pageable })
    }

    /// The best of some runs: as many as fit into a fifth of a second, and three at least.
    fn time(&self, mut run: impl FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
        let begin = Instant::now();
        let (mut best, mut runs) = (Duration::MAX, 0);
        while runs < 4 || (begin.elapsed() < Duration::from_millis(200) && runs < 200) {
            let start = Instant::now();
            run()?;
            self.context.synchronize(self.stream)?;
            // The first run warms up.
            if runs > 0 {
                best = best.min(start.elapsed());
            }
            runs += 1;
        }
        Ok(best)
    }

    fn copy(&self, dst: &View<'_>, src: &View<'_>) -> Result<Duration, Failure> {
        let options = CopyOptions::new(OnLoss::Allow);
        self.time(|| {
            // SAFETY: both lie within buffers of this bench, which are waited for before they go, and are apart.
            let done = unsafe { transfer::copy(&dst.side(), &src.side(), &options, self.stream) }?;
            drop(done);
            Ok(())
        })
    }

    /// One call of the driver.
    fn driver(&self, to: &Buffer, from: &Buffer, bytes: usize) -> Result<Duration, Failure> {
        self.time(|| {
            let _entered = self.context.enter()?;
            let (to, from) = (to.as_ptr().addr() as u64, from.as_ptr().addr() as u64);
            // SAFETY: both buffers have so many bytes and are waited for before they go.
            let status = unsafe { (self.context.api().memory.memcpy_async)(to, from, bytes, self.stream.raw()) };
            if status == cuda::Status::SUCCESS { Ok(()) } else { Err(format!("cuMemcpyAsync: {status}").into()) }
        })
    }

    /// The same bytes, up and down, from page-locked and from pageable memory.
    fn straight(&self, bytes: usize) -> Result<(), Failure> {
        let (shape, strides) = ([bytes as i64], [1]);
        let view = |buffer, kind| View { buffer, kind, dtype: DType::U8, shape: &shape, strides: &strides };
        let device = view(&self.device, DeviceKind::CUDA);
        for (memory, buffer, kind) in
            [("pinned", &self.pinned, DeviceKind::CUDA_HOST), ("pageable", &self.pageable, DeviceKind::CPU)]
        {
            let host = view(buffer, kind);
            for (way, dst, src) in [("h2d", &device, &host), ("d2h", &host, &device)] {
                let ours = self.copy(dst, src)?;
                let plain = self.driver(dst.buffer, src.buffer, bytes)?;
                let pinned = if way == "h2d" {
                    self.driver(&self.device, &self.pinned, bytes)?
                } else {
                    self.driver(&self.pinned, &self.device, bytes)?
                };
                let road = transfer::road(&dst.side(), &src.side(), &CopyOptions::default())?.road;
                println!(
                    r#"{{"what": "{memory} {way}", "bytes": {bytes}, "gbs": {:.2}, "driver_gbs": {:.2}, "of_driver": {:.3}, "of_pinned": {:.3}, "road": "{road}"}}"#,
                    rate(bytes, ours),
                    rate(bytes, plain),
                    plain.as_secs_f64() / ours.as_secs_f64(),
                    pinned.as_secs_f64() / ours.as_secs_f64(),
                );
            }
        }
        Ok(())
    }

    /// Strided and wide on the host, compact and narrow on the device, against the same narrow bytes from pageable memory.
    fn cast(&self, bytes: usize) -> Result<(), Failure> {
        let n = ((bytes / 4) as f64).sqrt() as i64 / 64 * 64;
        let shape = [n, n / 2];
        let (compact, turned, sliced) = ([n / 2, 1], [1, n], [n, 2]);
        let narrow = n as usize * (n / 2) as usize * 2;
        let (flat, one) = ([narrow as i64], [1]);
        let device =
            View { buffer: &self.device, kind: DeviceKind::CUDA, dtype: DType::F16, shape: &shape, strides: &compact };
        let wide =
            |strides| View { buffer: &self.pageable, kind: DeviceKind::CPU, dtype: DType::F32, shape: &shape, strides };
        let plain = self.copy(
            &View { buffer: &self.device, kind: DeviceKind::CUDA, dtype: DType::U8, shape: &flat, strides: &one },
            &View { buffer: &self.pageable, kind: DeviceKind::CPU, dtype: DType::U8, shape: &flat, strides: &one },
        )?;
        for (layout, strides) in [("compact", &compact), ("turned", &turned), ("sliced", &sliced)] {
            for way in ["h2d", "d2h"] {
                let host = wide(strides);
                let (dst, src) = if way == "h2d" { (&device, &host) } else { (&host, &device) };
                let took = self.copy(dst, src)?;
                let road = transfer::road(&dst.side(), &src.side(), &CopyOptions::new(OnLoss::Allow))?.road;
                println!(
                    r#"{{"what": "{layout} f32 {way} f16", "bytes": {narrow}, "gbs": {:.2}, "times_narrow": {:.3}, "road": "{road}"}}"#,
                    rate(narrow, took),
                    took.as_secs_f64() / plain.as_secs_f64(),
                );
            }
        }
        Ok(())
    }

    /// One value everywhere, beside the driver's fill with a byte.
    fn fill(&self, bytes: usize) -> Result<(), Failure> {
        let memset = self.time(|| {
            // SAFETY: within a buffer of this bench, which is waited for before it goes.
            Ok(unsafe { cuda::zero(self.context, self.device.as_ptr().addr() as u64, bytes, self.stream) }?)
        })?;
        let value: Vec<u8> = (1..=16).collect();
        for (name, dtype, shift, step) in [
            ("fill u8", DType::U8, 0, 1),
            ("fill f32", DType::F32, 0, 1),
            ("fill f32, at an odd address", DType::F32, 1, 1),
            ("fill c128", DType::C128, 0, 1),
            ("fill every other f32", DType::F32, 0, 2),
        ] {
            let size = dtype.padded_size();
            let (shape, strides) = ([(bytes / size) as i64 / step - 1], [step]);
            let view = View { buffer: &self.device, kind: DeviceKind::CUDA, dtype, shape: &shape, strides: &strides };
            let mut side = view.side();
            side.operand.data = side.operand.data.wrapping_add(shift);
            let value = if size == 1 { &[7] } else { &value[..size] };
            let took = self.time(|| {
                // SAFETY: as above; the last element is left out for the shift.
                drop(unsafe { transfer::fill(&side, value, self.stream) }?);
                Ok(())
            })?;
            let written = shape[0] as usize * size;
            println!(
                r#"{{"what": "{name}", "bytes": {written}, "gbs": {:.2}, "memset_gbs": {:.2}}}"#,
                rate(written, took),
                rate(bytes, memset),
            );
        }
        Ok(())
    }

    /// A thousand small copies in one call, and in a loop.
    fn many(&self) -> Result<(), Failure> {
        for bytes in [256, 4096, 65536] {
            let pieces: Vec<Piece> = (0..1000_u64)
                .map(|i| Piece {
                    dst: self.device.as_ptr().addr() as u64 + i * bytes,
                    src: self.pinned.as_ptr().addr() as u64 + (999 - i) * bytes,
                    bytes: bytes as usize,
                })
                .filter(|piece| piece.src + bytes <= (self.pinned.as_ptr().addr() + self.pinned.len()) as u64)
                .collect();
            let together = self.time(|| {
                // SAFETY: the pieces lie within two buffers of this bench, which are waited for before they go.
                drop(unsafe { transfer::copy_many(self.context, &pieces, self.stream) }?);
                Ok(())
            })?;
            let one_by_one = self.time(|| {
                let _entered = self.context.enter()?;
                for piece in &pieces {
                    // SAFETY: as above.
                    let status = unsafe {
                        (self.context.api().memory.memcpy_async)(piece.dst, piece.src, piece.bytes, self.stream.raw())
                    };
                    if status != cuda::Status::SUCCESS {
                        return Err(format!("cuMemcpyAsync: {status}").into());
                    }
                }
                Ok(())
            })?;
            println!(
                r#"{{"what": "many", "pieces": {}, "bytes": {bytes}, "batch_us": {:.1}, "loop_us": {:.1}}}"#,
                pieces.len(),
                together.as_secs_f64() * 1e6,
                one_by_one.as_secs_f64() * 1e6,
            );
        }
        Ok(())
    }
}

fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e9
}
