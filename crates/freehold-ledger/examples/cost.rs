//! What a handover costs: `cargo run --release -p freehold-ledger --example cost`.
//!
//! One handover is an `open` with an edge and the `close` of it. The machine this is run on matters more than the
//! digits: compare levels, and one thread with two, within one run.

use std::hint::black_box;
use std::sync::Barrier;
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

fn handovers() {
    for i in 0..ROUNDS {
        let id = LEDGER.open(black_box(&holder(u64::from(i) << 8)), Some(black_box(&edge(HolderId::NONE))));
        LEDGER.close(black_box(id));
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

fn main() {
    for level in [Level::Off, Level::Counters, Level::Records] {
        LEDGER.set_level(level).expect("a level of this version");
        let one = best(handovers);
        let two = best(|| {
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        handovers();
                    });
                }
            });
        });
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

    let live: u64 = 1_000_000;
    let before = resident_bytes();
    let start = Instant::now();
    let ids: Vec<HolderId> = (0..live).map(|i| LEDGER.open(&holder(i << 26), None)).collect();
    let open = start.elapsed().as_nanos() as f64 / live as f64;
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        // The ids themselves are this program's.
        let each = (after - before) as f64 / live as f64 - size_of::<HolderId>() as f64;
        println!("{live} live records: {each:.0} bytes each, {open:.1} ns to open into new memory");
    }
    let start = Instant::now();
    let found = LEDGER.owner(Device::CPU, 5 << 26);
    println!("first owner lookup (finds the buffers): {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    assert!(found.is_some());
    let start = Instant::now();
    for i in 0..100_000u64 {
        let address = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % live) << 26;
        assert!(black_box(LEDGER.owner(Device::CPU, address)).is_some());
    }
    println!("owner lookup at {live} live: {:.0} ns", start.elapsed().as_nanos() as f64 / 1e5);
    let start = Instant::now();
    ids.into_iter().for_each(|id| assert!(LEDGER.close(id)));
    println!("close of all: {:.1} ns each", start.elapsed().as_nanos() as f64 / live as f64);
}
