//! What a handover costs: `cargo run --release -p freehold-ledger --example cost`.
//!
//! One handover is an `open` with an edge and the `close` of it. The machine this is run on matters more than the
//! digits: compare levels, and one thread with two, within one run.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use freehold_ledger::{Edge, HolderDesc, HolderFlags, HolderId, Label, Ledger, Level, Role, Sync};
use freehold_tensor::{DType, Device, Steps, StrideUnit, Verdict};

static LEDGER: Ledger = Ledger::new(Level::Records);

const ROUNDS: u32 = 100_000;

fn holder(address: u64) -> HolderDesc<'static> {
    HolderDesc {
        role: Role::Holder,
        framework: Label::TORCH,
        site: Label::NONE,
        device: Device::CPU,
        address,
        dtype: DType::F32,
        padded: false,
        unit: StrideUnit::Elements,
        shape: &[32, 3, 224, 224],
        strides: &[150_528, 50_176, 224, 1],
        alloc: Some((address, 19_267_584)),
        flags: HolderFlags::empty(),
    }
}

fn edge(from: HolderId) -> Edge<'static> {
    Edge {
        from,
        from_framework: Label::NUMPY,
        to: Label::NONE,
        verdict: Verdict::Share,
        steps: Steps::empty(),
        reasons: &[],
        bytes: 0,
        sync: Sync::None,
    }
}

/// Nanoseconds of one round, the best of many short runs, since other programs only ever add to it.
fn best(mut run: impl FnMut()) -> f64 {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
    };
    (0..100).map(|_| time(&mut run)).fold(f64::MAX, f64::min)
}

fn handovers(rounds: u32) {
    for i in 0..rounds {
        let id = LEDGER.open(black_box(&holder(u64::from(i) << 8)), Some(black_box(&edge(HolderId::NONE))));
        LEDGER.close(black_box(id));
    }
}

/// Nanoseconds of one round on each of two threads that run at the same time: from the first start to the last end,
/// the best of many bursts, so short that both are on a processor for the whole of some.
fn two_threads() -> f64 {
    const BURST: u32 = 5000;
    const BURSTS: u32 = 1000;
    // Both spin until both are there: a thread that sleeps may be woken on the other's processor.
    let arrived = AtomicU32::new(0);
    let burst = |i: u32| {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < 2 * (i + 1) {
            std::hint::spin_loop();
        }
        let began = Instant::now();
        handovers(BURST);
        (began, Instant::now())
    };
    let bursts = || (0..BURSTS).map(burst).collect::<Vec<_>>();
    let times =
        std::thread::scope(|scope| [scope.spawn(bursts), scope.spawn(bursts)].map(|t| t.join().expect("no panic")));
    let span = |(a, b): (&(Instant, Instant), &(Instant, Instant))| a.1.max(b.1).duration_since(a.0.min(b.0));
    let best = times[0].iter().zip(&times[1]).map(span).min().expect("there are bursts");
    best.as_nanos() as f64 / f64::from(BURST)
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

fn main() {
    for level in [Level::Off, Level::Counters, Level::Records] {
        LEDGER.set_level(level);
        let one = best(|| handovers(ROUNDS));
        let two = two_threads();
        println!("level {} ({level}): open + close {one:.1} ns", level as u8);
        println!("  two threads: {two:.1} ns each, throughput x{:.2}", 2.0 * one / two);
    }

    // Opened on one thread, closed on another.
    let across = best(|| {
        let (send, receive) = sync_channel::<Vec<HolderId>>(8);
        std::thread::scope(|scope| {
            scope.spawn(move || receive.into_iter().flatten().for_each(|id| assert!(LEDGER.close(id))));
            for chunk in 0..ROUNDS / 1000 {
                let open = |i| LEDGER.open(&holder(u64::from(chunk * 1000 + i) << 8), Some(&edge(HolderId::NONE)));
                send.send((0..1000).map(open).collect()).expect("the other thread receives until the end");
            }
            drop(send);
        });
    });
    println!("opened on one thread, closed on another: {across:.1} ns");

    let copies = best(|| {
        for i in 0..ROUNDS {
            let edge = Edge { verdict: Verdict::Copy, bytes: 80, steps: Steps::FRESH, ..edge(HolderId::NONE) };
            LEDGER.close(LEDGER.open(&holder(u64::from(i) << 8), Some(&edge)));
        }
    });
    println!("a copy: {copies:.1} ns");

    million();
}

/// Nanoseconds of one call, the best of many short runs of `n` calls.
fn best_of(runs: u64, n: u64, mut call: impl FnMut(u64)) -> f64 {
    let mut best = f64::MAX;
    for run in 0..runs {
        let start = Instant::now();
        (run * n..(run + 1) * n).for_each(&mut call);
        best = best.min(start.elapsed().as_nanos() as f64 / n as f64);
    }
    best
}

fn million() {
    let live: u64 = 1_000_000;
    let mut ids = vec![HolderId::NONE; live as usize];
    let before = resident_bytes();
    let open = best_of(live / 5000, 5000, |i| ids[i as usize] = LEDGER.open(&holder(i << 26), None));
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        // The ids themselves are this program's.
        let each = (after - before) as f64 / live as f64 - size_of::<HolderId>() as f64;
        println!("{live} live records: {each:.0} bytes each, {open:.1} ns to open into new memory");
    }
    let find = best_of(3, 1, |i| {
        // Something changed, so the buffers are found again.
        LEDGER.close(LEDGER.open(&holder(i), None));
        assert!(LEDGER.owner(Device::CPU, 5 << 26).is_some());
    });
    println!("first owner lookup (finds the buffers): {:.0} ms", find / 1e6);
    let lookup = best_of(200, 500, |i| {
        let address = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % live) << 26;
        assert!(black_box(LEDGER.owner(Device::CPU, address)).is_some());
    });
    println!("owner lookup at {live} live, at random: {lookup:.0} ns");
    let close = best_of(live / 5000, 5000, |i| assert!(LEDGER.close(ids[i as usize])));
    println!("close: {close:.1} ns each");
}
