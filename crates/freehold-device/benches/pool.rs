//! The pool's own part: a request that is met and its free, among many blocks that live, over the host. On a device, beside the
//! driver's own pool: examples/cuda_pool.rs.

use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use freehold_device::cuda::memory::{PoolMemory, PoolOptions};
use freehold_device::{HostMemory, MemoryResource, Stream};

/// Sizes from 256 bytes to 64 KiB, in an order without a pattern.
struct Sizes(u64);

impl Sizes {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

fn measure(c: &mut Criterion, name: &str, memory: &dyn MemoryResource, on: Stream) {
    for live in [1_000, 100_000] {
        let mut random = Sizes(1);
        let take = |bytes: usize| (memory.allocate(bytes, 256, on).expect("memory"), bytes);
        // SAFETY: each block is given back once, with its size.
        let give = |(block, bytes): (NonNull<u8>, usize)| unsafe { memory.deallocate(block, bytes, 256, on) };
        let mut blocks: Vec<_> = (0..live).map(|_| take(256 + random.next(65_280))).collect();
        c.bench_function(&format!("{name}/hit+free/{live}"), |b| {
            b.iter(|| give(take(black_box(4096))));
        });
        c.bench_function(&format!("{name}/random free+hit/{live}"), |b| {
            b.iter(|| {
                let victim = random.next(live);
                give(blocks[victim]);
                blocks[victim] = take(256 + random.next(65_280));
            });
        });
        blocks.into_iter().for_each(give);
    }
}

fn pools(c: &mut Criterion) {
    let mut options = PoolOptions::default();
    options.smallest_region = 8 << 30;
    options.largest_region = 8 << 30;
    // Never touched, so that the host gives addresses only.
    measure(c, "host pool", &PoolMemory::new(Arc::new(HostMemory), options), Stream::NONE);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1)).warm_up_time(std::time::Duration::from_millis(300));
    targets = pools
}
criterion_main!(benches);
