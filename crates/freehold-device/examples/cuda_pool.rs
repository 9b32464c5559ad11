//! Device memory from our pool beside the driver's, timed: one line of JSON for each figure. Needs a GPU with 4 GiB free;
//! takes about ten seconds.
//!
//! `cargo run --release -p freehold-device --example cuda_pool [--quick]`
//!
//! A figure is the time of one request and one free on one stream, in ns, among many blocks that live. The contestants of a
//! row take turns, round after round, the best round counts, and every round ends when the stream is done. `cuMemAllocAsync`
//! and `cuMemFreeAsync`, which are what `cudaMallocAsync` and `cudaFreeAsync` call, are called as a framework does: on the
//! device's default pool, which keeps what it has, with the context current.

#![allow(dead_code, reason = "a test runs the measurements without `main`")]

use std::hint::black_box;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_device::cuda::memory::{AsyncMemory, DeviceMemory, PoolMemory, PoolOptions};
use freehold_device::cuda::{Context, Pools, Status, StreamRef, sys};
use freehold_device::{AllocError, AllocReason, MemoryResource, Stream};
use freehold_tensor::{Device, DeviceKind};

type Failure = Box<dyn std::error::Error>;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// How much is measured.
pub struct Plan {
    /// Blocks that live, and the largest of them in bytes: their sizes are random.
    pub live: &'static [(usize, usize)],
    /// How many turns each contestant of a row has.
    pub rounds: u32,
    /// How long a contestant has in a round.
    pub turn: Duration,
}

fn main() -> Result<(), Failure> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, turn) = if quick { (3, Duration::from_millis(10)) } else { (5, Duration::from_millis(30)) };
    let live = &[(1_000, MIB), (100_000, 16 * KIB)];
    run(Context::of(0)?, &Plan { live, rounds, turn }, &mut |line| println!("{line}"))
}

/// Measures everything, and gives each line to `print`.
pub fn run(context: &'static Context, plan: &Plan, print: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let _entered = context.enter()?;
    let stream = context.new_stream()?;
    for &(live, largest) in plan.live {
        let mut all = [
            Contestant::new("cuMemAllocAsync", Box::new(DefaultPool::new(context)?), stream, live),
            Contestant::new("Freehold, cuda-async", Box::new(AsyncMemory::new(context)?), stream, live),
            Contestant::new("Freehold, cuda-pool", Box::new(pool(context)), stream, live),
        ];
        for contestant in &mut all {
            contestant.fill(live, largest)?;
        }
        let mut row = |name: &str, claims: bool, turn: fn(&mut Contestant, usize) -> Result<(), Failure>, bytes| {
            let best = rounds(context, stream, plan, &mut all, &|contestant| turn(contestant, bytes))?;
            let values: Vec<String> =
                all.iter().zip(&best).map(|(c, ns)| format!(r#""{}": {ns:.1}"#, c.name)).collect();
            let values = values.join(", ");
            print(format!(
                r#"{{"table": "a request and a free, {live} live blocks", "row": "{name}", "unit": "ns", "values": {{{values}}}}}"#
            ));
            let (driver, ours) = (best[0], best[2]);
            if claims {
                print(format!(r#"{{"claim": "pool-{live}", "value": {ours:.1}, "of": "{name}"}}"#));
            }
            let of = format!("{name}, {live} live: {ours:.0} of {driver:.0} ns");
            print(format!(r#"{{"claim": "pool-async", "value": {:.4}, "of": "{of}"}}"#, ours / driver));
            Ok::<(), Failure>(())
        };
        for (name, bytes) in [("256 B", 256), ("64 KiB", 64 * KIB), ("1 MiB", MIB)] {
            row(name, true, Contestant::hit, bytes)?;
        }
        // As in RMM's benchmark of random allocations. Which block goes is a miss of the processor's caches to everybody.
        let name = format!("random, 256 B to {} KiB", largest / KIB);
        row(&name, false, Contestant::exchange, largest)?;
        for contestant in &mut all {
            contestant.clear();
        }
        context.synchronize(stream)?;
    }
    Ok(())
}

fn pool(context: &'static Context) -> PoolMemory {
    PoolMemory::on(context, Arc::new(DeviceMemory::new(context)), PoolOptions::default())
}

/// The best time of a call by each, in ns.
fn rounds(
    context: &'static Context,
    stream: StreamRef,
    plan: &Plan,
    all: &mut [Contestant],
    call: &dyn Fn(&mut Contestant) -> Result<(), Failure>,
) -> Result<Vec<f64>, Failure> {
    let timed = |contestant: &mut Contestant, count: u32| {
        let start = Instant::now();
        for _ in 0..count {
            call(contestant)?;
        }
        context.synchronize(stream)?;
        Ok::<f64, Failure>(start.elapsed().as_secs_f64() * 1e9 / f64::from(count))
    };
    let mut counts = Vec::new();
    for contestant in &mut *all {
        // The first calls warm up; the next ones say how many make a turn.
        timed(contestant, 64)?;
        let one = timed(contestant, 256)?;
        counts.push((plan.turn.as_nanos() as f64 / one).clamp(64.0, 1e6) as u32);
    }
    let mut best = vec![f64::INFINITY; all.len()];
    for _ in 0..plan.rounds {
        for ((contestant, &count), best) in all.iter_mut().zip(&counts).zip(&mut best) {
            *best = best.min(timed(contestant, count)?);
        }
    }
    Ok(best)
}

/// A resource, and the blocks of it that live.
struct Contestant {
    name: &'static str,
    memory: Box<dyn MemoryResource>,
    on: Stream,
    blocks: Vec<(NonNull<u8>, usize)>,
    random: u64,
}

impl Contestant {
    fn new(name: &'static str, memory: Box<dyn MemoryResource>, stream: StreamRef, live: usize) -> Contestant {
        Contestant { name, memory, on: stream.number(), blocks: Vec::with_capacity(live), random: 1 }
    }

    /// The same numbers for everybody, in an order without a pattern.
    fn below(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % below
    }

    fn take(&self, bytes: usize) -> Result<(NonNull<u8>, usize), AllocError> {
        Ok((self.memory.allocate(black_box(bytes), 256, self.on)?, bytes))
    }

    fn give(&self, (block, bytes): (NonNull<u8>, usize)) {
        // SAFETY: `take` allocated it with this size, alignment and stream, and each is given back once.
        unsafe { self.memory.deallocate(block, bytes, 256, self.on) };
    }

    fn random_size(&mut self, largest: usize) -> usize {
        256 + self.below(largest - 255)
    }

    fn fill(&mut self, live: usize, largest: usize) -> Result<(), Failure> {
        for _ in 0..live {
            let bytes = self.random_size(largest);
            let block = self.take(bytes)?;
            self.blocks.push(block);
        }
        Ok(())
    }

    fn clear(&mut self) {
        for block in std::mem::take(&mut self.blocks) {
            self.give(block);
        }
    }

    /// A request that is met with what was given back last, and its free.
    fn hit(&mut self, bytes: usize) -> Result<(), Failure> {
        self.give(self.take(bytes)?);
        Ok(())
    }

    /// A random block goes, and one of a random size comes.
    fn exchange(&mut self, largest: usize) -> Result<(), Failure> {
        let (victim, bytes) = (self.below(self.blocks.len()), self.random_size(largest));
        self.give(self.blocks[victim]);
        self.blocks[victim] = self.take(bytes)?;
        Ok(())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // Where a measurement failed half way.
        self.clear();
    }
}

/// The device's default pool, as `cudaMallocAsync` uses it, with nothing of ours around.
struct DefaultPool {
    context: &'static Context,
    pools: Pools,
    pool: sys::CuMemoryPool,
    /// What the threshold was.
    before: u64,
}

// SAFETY: the driver lets any thread use a pool.
unsafe impl Send for DefaultPool {}
// SAFETY: as above.
unsafe impl Sync for DefaultPool {}

impl DefaultPool {
    fn new(context: &'static Context) -> Result<DefaultPool, Failure> {
        let pools = context.api().pools.ok_or("the driver has no pools")?;
        let (mut pool, mut before) = (ptr::null_mut(), 0_u64);
        // SAFETY: both places are ours, and the attribute is a `u64`.
        let statuses = unsafe {
            let found = (pools.default_pool)(&raw mut pool, context.device());
            [found, (pools.get_attribute)(pool, sys::MEMPOOL_RELEASE_THRESHOLD, (&raw mut before).cast())]
        };
        if let Some(status) = statuses.into_iter().find(|status| *status != Status::SUCCESS) {
            return Err(format!("the device's default pool: {status}").into());
        }
        let made = DefaultPool { context, pools, pool, before };
        // Otherwise it gives all back whenever the stream is waited for.
        made.set_threshold(u64::MAX);
        Ok(made)
    }

    fn set_threshold(&self, mut bytes: u64) {
        // SAFETY: the attribute is a `u64`, and the value is one of ours.
        unsafe { (self.pools.set_attribute)(self.pool, sys::MEMPOOL_RELEASE_THRESHOLD, (&raw mut bytes).cast()) };
    }
}

impl Drop for DefaultPool {
    fn drop(&mut self) {
        self.set_threshold(self.before);
    }
}

// SAFETY: the driver's allocations are exclusive and 256-byte aligned, which is all that is asked for here; any thread may free
// them, in the order of a stream; no request is for zero bytes.
unsafe impl MemoryResource for DefaultPool {
    fn device(&self) -> Device {
        Device::new(DeviceKind::CUDA, self.context.ordinal())
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let mut address = 0;
        let stream = ptr::with_exposed_provenance_mut(stream.0 as usize);
        // SAFETY: the place is ours, the stream that of the measurement; the context is current.
        let status = unsafe { (self.pools.alloc_async)(&raw mut address, bytes, stream) };
        let block = NonNull::new(ptr::with_exposed_provenance_mut(address as usize));
        block.filter(|_| status == Status::SUCCESS).ok_or_else(|| {
            let reason = AllocReason::Driver { function: "cuMemAllocAsync", status };
            AllocError::new(bytes, align, self.device(), reason)
        })
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, _bytes: usize, _align: usize, stream: Stream) {
        let stream = ptr::with_exposed_provenance_mut(stream.0 as usize);
        // SAFETY: the caller gives back what it took, and the stream is that of the measurement.
        unsafe { (self.pools.free_async)(block.addr().get() as u64, stream) };
    }

    fn name(&self) -> &str {
        "cuda-default-pool"
    }
}
