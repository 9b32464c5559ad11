//! Copies between layouts, on one thread and on two, beside `memcpy` of as many bytes and a loop over elements.
//!
//! `cargo bench -p freehold-tensor --bench layouts -- transpose` measures the cases whose name has that in it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use freehold_tensor::copy::{CopyOptions, Lazy, OnLoss, Operand, copy, describe, set_num_threads};
use freehold_tensor::{DType, Layout, Order, StrideUnit, compact_strides};

/// A copy into C order.
struct Case {
    name: String,
    from: DType,
    to: DType,
    shape: Vec<i64>,
    strides: Vec<i64>,
    /// Element 0, in elements from the start of the source's memory.
    first: i64,
}

/// A C-ordered source whose axes are taken in another order.
fn permuted(name: &str, from: DType, to: DType, shape: &[i64], order: &[usize]) -> Case {
    let strides = compact_strides(shape, Order::C).expect("small");
    let (shape, strides) = order.iter().map(|&i| (shape[i], strides[i])).unzip();
    Case { name: name.to_owned(), from, to, shape, strides, first: 0 }
}

fn strided(name: &str, from: DType, to: DType, shape: &[i64], strides: &[i64]) -> Case {
    let first = shape.iter().zip(strides).map(|(n, s)| if *s < 0 { (1 - n) * s } else { 0 }).sum();
    Case { name: name.to_owned(), from, to, shape: shape.to_vec(), strides: strides.to_vec(), first }
}

fn cases() -> Vec<Case> {
    let (u8, f32, bf16, f64, c64) = (DType::U8, DType::F32, DType::BF16, DType::F64, DType::C64);
    let mut cases = Vec::new();
    for (rows, cols) in [(32, 32), (256, 256), (1024, 1024), (4096, 4096), (8192, 8192), (5000, 3000)] {
        for to in [f32, bf16] {
            cases.push(permuted(&format!("transpose {rows}x{cols}"), f32, to, &[rows, cols], &[1, 0]));
        }
    }
    for size in [u8, DType::F16, f64, DType::C128] {
        cases.push(permuted("transpose 2048x2048", size, size, &[2048, 2048], &[1, 0]));
    }
    for c in [1, 2, 3, 4, 16, 64] {
        cases.push(permuted(&format!("NHWC to NCHW, {c} channels"), u8, u8, &[8, 224, 224, c], &[0, 3, 1, 2]));
        cases.push(permuted(&format!("NHWC to NCHW, {c} channels"), u8, f32, &[8, 224, 224, c], &[0, 3, 1, 2]));
        cases.push(permuted(&format!("NCHW to NHWC, {c} channels"), u8, u8, &[8, c, 224, 224], &[0, 2, 3, 1]));
    }
    cases.push(permuted("5-D (4, 2, 0, 3, 1)", f32, f32, &[24, 25, 24, 25, 26], &[4, 2, 0, 3, 1]));
    cases.push(permuted("heads (0, 2, 1, 3)", f32, f32, &[8, 512, 16, 64], &[0, 2, 1, 3]));
    cases.push(permuted("matrices of 3x3", f32, f32, &[100_000, 3, 3], &[0, 2, 1]));
    let n = 1 << 20;
    for to in [f32, bf16] {
        cases.push(strided("every second", f32, to, &[n], &[2]));
        cases.push(strided("every seventh", f32, to, &[n], &[7]));
        cases.push(strided("reversed", f32, to, &[n], &[-1]));
        cases.push(strided("row repeated", f32, to, &[1024, 1024], &[0, 1]));
        cases.push(strided("column repeated", f32, to, &[1024, 1024], &[1, 0]));
        cases.push(strided("cropped rows", f32, to, &[1024, 1000], &[1024, 1]));
    }
    cases.push(strided("RGB of RGBA", u8, f32, &[n, 3], &[4, 1]));
    cases.push(strided("every second", c64, c64, &[n], &[2]));
    for n in [16, 1024, 1 << 16, 1 << 20, 1 << 24] {
        cases.push(strided(&format!("run of {n}"), f32, f32, &[n], &[1]));
    }
    cases
}

/// What somebody would write in their place: a loop over elements of four bytes, the last axis inside.
fn naive(dst: &mut [u32], src: &[u32], case: &Case) {
    let (inner, outer) = (case.shape.len() - 1, case.shape[..case.shape.len() - 1].iter().product::<i64>());
    let mut to = dst.iter_mut();
    for linear in 0..outer {
        let (mut rest, mut at) = (linear, case.first);
        for axis in (0..inner).rev() {
            at += rest % case.shape[axis] * case.strides[axis];
            rest /= case.shape[axis];
        }
        for (i, d) in to.by_ref().take(case.shape[inner] as usize).enumerate() {
            *d = src[(at + i as i64 * case.strides[inner]) as usize];
        }
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let n = case.shape.iter().product::<i64>() as usize;
    let reach: i64 = case.shape.iter().zip(&case.strides).map(|(n, s)| (n - 1) * s.abs()).sum();
    let (read, written) = (case.from.size().expect("whole bytes"), case.to.size().expect("whole bytes"));
    // Vectors of words, so that the loop below may take them as such.
    let mut source = vec![0x3f80_0000u32; (reach as usize + 1) * read / 4 + 1];
    let mut target = vec![1u32; n * written / 4 + 1];
    let compact = compact_strides(&case.shape, Order::C).expect("small");
    let operand = |data: *mut u32, dtype, strides| Operand {
        data: data.cast(),
        dtype,
        layout: Layout::new(&case.shape, strides),
        unit: StrideUnit::Elements,
        traits: Lazy::empty(),
    };
    let src = operand(source.as_mut_ptr(), case.from, &case.strides);
    let src = Operand { data: src.data.wrapping_add(case.first as usize * read), ..src };
    let dst = operand(target.as_mut_ptr(), case.to, &compact);
    let options = CopyOptions::new(OnLoss::Allow);
    let read = if case.strides.contains(&0) { source.len() * 4 } else { n * read };
    group.throughput(Throughput::Bytes((read + n * written) as u64));
    for threads in [1, 2] {
        set_num_threads(threads);
        let description = describe(&dst, &src, &options).expect("can be copied");
        if threads > description.threads() {
            continue;
        }
        group.bench_function(format!("{}: {description}", case.name), |bencher| {
            // SAFETY: both vectors hold their layout's elements, initialised, and are apart.
            bencher.iter(|| unsafe { copy(black_box(&dst), black_box(&src), &options) });
        });
    }
    if case.from == DType::F32 && case.to == DType::F32 && n <= 1 << 22 {
        group.bench_function(format!("{}: loop", case.name), |bencher| {
            bencher.iter(|| naive(black_box(&mut target), black_box(&source), case));
        });
    }
    let half = (read + n * written) / 2;
    let (from, mut to) = (vec![1u8; half], vec![2u8; half]);
    group.bench_function(format!("{}: memcpy", case.name), |bencher| {
        bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from)));
    });
}

fn layouts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layouts");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800)).sample_size(10);
    for case in cases() {
        measure(&mut group, &case);
    }
}

criterion_group!(benches, layouts);
criterion_main!(benches);
