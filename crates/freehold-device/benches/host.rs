//! Host memory: the pool beside the program's allocator (glibc's, as a user has it).

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::ptr::NonNull;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freehold_device::{MemoryResource, Stream, host_pool};

/// Writes one byte a page, as the first copy into a block would.
fn touch(block: NonNull<u8>, bytes: usize) {
    for at in (0..bytes).step_by(4096) {
        // SAFETY: inside a block of this size.
        unsafe { block.add(at).write_volatile(1) };
    }
}

fn host(c: &mut Criterion) {
    for (name, touched) in [("alloc+free", false), ("alloc+touch+free", true)] {
        let mut group = c.benchmark_group(name);
        for bytes in [256, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20] {
            if touched {
                group.throughput(Throughput::Bytes(bytes as u64));
            }
            group.bench_function(BenchmarkId::new("pool", bytes), |b| {
                b.iter(|| {
                    let block = host_pool().allocate(black_box(bytes), 256, Stream::NONE).expect("memory");
                    if touched {
                        touch(block, bytes);
                    }
                    // SAFETY: allocated above, with the same size and alignment.
                    unsafe { host_pool().deallocate(block, black_box(bytes), 256, Stream::NONE) };
                });
            });
            let layout = Layout::from_size_align(bytes, 256).expect("valid");
            group.bench_function(BenchmarkId::new("glibc", bytes), |b| {
                b.iter(|| {
                    // SAFETY: the size is not zero; freed with the same layout.
                    unsafe {
                        let block = NonNull::new(alloc(black_box(layout))).expect("memory");
                        if touched {
                            touch(block, bytes);
                        }
                        dealloc(black_box(block).as_ptr(), layout);
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = host
}
criterion_main!(benches);
