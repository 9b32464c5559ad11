//! Casts of compact runs on one thread, every pair of real dtypes, beside `memcpy` of as many bytes.
//!
//! `cargo bench -p freehold-tensor --bench casts -- 'memory/f32'`; sizes are `cache` (16 Ki elements) and `memory`
//! (32 Mi elements). `FREEHOLD_SIMD` chooses the instruction set.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freehold_tensor::copy::{CastKind, CopyOptions, Lazy, OnLoss, Operand, cast_kind, copy, set_num_threads};
use freehold_tensor::{DType, Layout, StrideUnit};

const REAL: [DType; 13] = [
    DType::BOOL,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
];
const NARROW: [DType; 5] = [DType::F8_E4M3FN, DType::F8_E5M2, DType::F8_E4M3FNUZ, DType::F8_E8M0FNU, DType::F4_E2M1FN];

/// Memory that begins at a cache line, as results do.
struct Memory(Vec<u8>, usize);

impl Memory {
    fn new(bytes: usize) -> Memory {
        let memory = vec![1; bytes + 64];
        let start = memory.as_ptr().align_offset(64);
        Memory(memory, start)
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[self.1..]
    }
}

fn operand<'a>(memory: &mut Memory, dtype: DType, shape: &'a [i64]) -> Operand<'a> {
    Operand {
        data: memory.bytes().as_mut_ptr(),
        dtype,
        layout: Layout { shape, strides: &[1] },
        unit: StrideUnit::Elements,
        traits: Lazy::PADDED,
    }
}

fn casts(c: &mut Criterion) {
    set_num_threads(1);
    for (size, n) in [("cache", 16 << 10), ("memory", 32 << 20)] {
        let mut group = c.benchmark_group(size);
        group.sample_size(10).warm_up_time(Duration::from_millis(20)).measurement_time(Duration::from_millis(100));
        let (mut source, mut target) = (Memory::new(n * 8), Memory::new(n * 8));
        for bytes in 1..=8 {
            group.throughput(Throughput::Bytes((n * bytes * 2) as u64));
            group.bench_function(BenchmarkId::new("memcpy", bytes * 2), |b| {
                b.iter(|| {
                    black_box(target.bytes())[..n * bytes].copy_from_slice(&black_box(source.bytes())[..n * bytes])
                });
            });
        }
        let shape = [n as i64];
        let mut pair = |from: DType, to: DType| {
            // Ones and zeros, which every type holds.
            target.bytes()[..n].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 2) as u8);
            let bits = operand(&mut target, DType::BOOL, &shape);
            let src = operand(&mut source, from, &shape);
            // SAFETY: both hold `n` elements of at most 8 bytes, and do not overlap.
            unsafe { copy(&src, &bits, &CopyOptions { on_loss: OnLoss::Allow, ..CopyOptions::default() }) }
                .expect("truth values are numbers");
            let dst = operand(&mut target, to, &shape);
            group.throughput(Throughput::Bytes((n * (from.padded_size() + to.padded_size())) as u64));
            for (name, on_loss) in [("allow", OnLoss::Allow), ("error", OnLoss::Error)] {
                let options = CopyOptions { on_loss, ..CopyOptions::default() };
                // Checked where something can be lost; e8m0 has no zero.
                let checked = cast_kind(from, to) == CastKind::MayLose && to != DType::F8_E8M0FNU;
                if on_loss == OnLoss::Allow || checked {
                    group.bench_function(BenchmarkId::new(format!("{from} -> {to}"), name), |b| {
                        // SAFETY: as above.
                        b.iter(|| unsafe { copy(&dst, &src, &options) }.expect("nothing is lost"));
                    });
                }
            }
        };
        for from in REAL {
            REAL.into_iter().filter(|to| *to != from).for_each(|to| pair(from, to));
        }
        for narrow in NARROW {
            for wide in [DType::F16, DType::BF16, DType::F32] {
                pair(narrow, wide);
                pair(wide, narrow);
            }
        }
    }
}

criterion_group!(benches, casts);
criterion_main!(benches);
