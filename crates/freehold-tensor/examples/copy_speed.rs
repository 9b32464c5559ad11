//! Prints the speed of a few copies and casts, as bytes read and written a second, next to `memcpy`.
//!
//! `cargo run --release -p freehold-tensor --example copy_speed`

use std::time::Instant;

use freehold_tensor::copy::{CopyOptions, Lazy, OnLoss, Operand, copy};
use freehold_tensor::{DType, Layout, Order, StrideUnit, compact_strides};

/// A tensor of zeros, written once more than `calloc` does, so that its pages are real.
struct Tensor {
    bytes: Vec<u8>,
    dtype: DType,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl Tensor {
    /// `order` lists the dimensions from the outermost in memory to the innermost.
    fn new(dtype: DType, shape: &[i64], order: &[usize]) -> Tensor {
        let in_memory: Vec<i64> = order.iter().map(|&i| shape[i]).collect();
        let compact = compact_strides(&in_memory, Order::C).expect("the shapes below are small");
        let mut strides = vec![0; shape.len()];
        for (&i, &stride) in order.iter().zip(&compact) {
            strides[i] = stride;
        }
        let bits = shape.iter().product::<i64>() as usize * dtype.element_bits() as usize;
        let mut bytes = vec![1; bits.div_ceil(8)];
        bytes.fill(0);
        Tensor { bytes, dtype, shape: shape.to_vec(), strides }
    }

    fn operand(&mut self) -> Operand<'_> {
        Operand {
            data: self.bytes.as_mut_ptr(),
            dtype: self.dtype,
            layout: Layout { shape: &self.shape, strides: &self.strides },
            unit: StrideUnit::Elements,
            traits: Lazy::empty(),
        }
    }
}

/// Seconds of the fastest of enough runs to fill a third of a second.
fn fastest(mut run: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed().as_secs_f64() < 0.3 {
        let one = Instant::now();
        run();
        best = best.min(one.elapsed().as_secs_f64());
    }
    best
}

fn report(name: &str, mut dst: Tensor, mut src: Tensor, on_loss: OnLoss) {
    let bytes = dst.bytes.len() + src.bytes.len();
    let (options, n) = (CopyOptions { on_loss, ..CopyOptions::default() }, src.shape.iter().product::<i64>());
    let (dst, src) = (dst.operand(), src.operand());
    // SAFETY: two compact tensors of the same shape, each with its own memory, filled when it was made.
    let seconds = fastest(|| unsafe { copy(&dst, &src, &options) }.expect("nothing is lost"));
    println!("{name:<34} {:>7.2} GB/s  {:>7.3} ns an element", bytes as f64 / seconds / 1e9, seconds / n as f64 * 1e9);
}

fn main() {
    for (title, n) in [("in the L2 cache", 32 << 10), ("in memory", 16 << 20)] {
        println!("{title}: {n} elements, compact");
        let (source, mut target) = (vec![1u8; n * 4], vec![1u8; n * 4]);
        let seconds = fastest(|| {
            target.copy_from_slice(std::hint::black_box(&source));
            std::hint::black_box(&mut target);
        });
        println!("{:<34} {:>7.2} GB/s", "memcpy of f32", 2.0 * source.len() as f64 / seconds / 1e9);
        for (from, to, on_loss) in [
            (DType::F32, DType::F32, OnLoss::Error),
            (DType::F32, DType::F64, OnLoss::Error),
            (DType::F64, DType::F32, OnLoss::Error),
            (DType::F32, DType::BF16, OnLoss::Error),
            (DType::BF16, DType::F32, OnLoss::Error),
            (DType::F32, DType::F16, OnLoss::Error),
            (DType::F16, DType::F32, OnLoss::Error),
            (DType::F32, DType::F8_E4M3FN, OnLoss::Error),
            (DType::F8_E4M3FN, DType::F32, OnLoss::Error),
            (DType::F8_E4M3FN, DType::BF16, OnLoss::Error),
            (DType::F4_E2M1FN, DType::F32, OnLoss::Error),
            (DType::F32, DType::F4_E2M1FN, OnLoss::Error),
            (DType::F4_E2M1FN, DType::F4_E2M1FN, OnLoss::Error),
            (DType::I64, DType::I32, OnLoss::Error),
            (DType::I64, DType::I32, OnLoss::Allow),
            (DType::I32, DType::F32, OnLoss::Error),
            (DType::F32, DType::I32, OnLoss::Error),
            (DType::F32, DType::I32, OnLoss::Allow),
            (DType::U8, DType::F32, OnLoss::Error),
            (DType::F32, DType::U8, OnLoss::Error),
            (DType::BOOL, DType::F32, OnLoss::Error),
            (DType::C64, DType::C128, OnLoss::Error),
        ] {
            let make = |dtype| Tensor::new(dtype, &[n as i64], &[0]);
            let note = if on_loss == OnLoss::Allow { " (allow)" } else { "" };
            report(&format!("{from} -> {to}{note}"), make(to), make(from), on_loss);
        }
    }
    println!("small: the cost of a call");
    for (from, to) in [(DType::F32, DType::F32), (DType::F32, DType::F64), (DType::I64, DType::F16)] {
        let make = |dtype| Tensor::new(dtype, &[2, 3, 4], &[0, 1, 2]);
        report(&format!("{from} -> {to}, 24 elements"), make(to), make(from), OnLoss::Error);
        let turned = Tensor::new(from, &[2, 3, 4], &[2, 1, 0]);
        report(&format!("{from} -> {to}, 24 elements turned"), make(to), turned, OnLoss::Error);
    }
    println!("layouts");
    let error = OnLoss::Error;
    for n in [512, 2048, 4096i64] {
        for (from, to) in
            [(DType::F32, DType::F32), (DType::F64, DType::F64), (DType::U8, DType::U8), (DType::F32, DType::BF16)]
        {
            let (dst, src) = (Tensor::new(to, &[n, n], &[0, 1]), Tensor::new(from, &[n, n], &[1, 0]));
            report(&format!("{from} -> {to} transposed {n} x {n}"), dst, src, error);
        }
    }
    let image = [8, 64, 224, 224];
    let nchw = |dtype| Tensor::new(dtype, &image, &[0, 1, 2, 3]);
    let nhwc = |dtype| Tensor::new(dtype, &image, &[0, 2, 3, 1]);
    report("f32 NHWC -> NCHW, 64 channels", nchw(DType::F32), nhwc(DType::F32), error);
    report("f32 NCHW -> NHWC, 64 channels", nhwc(DType::F32), nchw(DType::F32), error);
    let image = [8, 3, 512, 512];
    let planar = Tensor::new(DType::F32, &image, &[0, 1, 2, 3]);
    report("u8 HWC -> f32 CHW, 3 channels", planar, Tensor::new(DType::U8, &image, &[0, 2, 3, 1]), error);
}
