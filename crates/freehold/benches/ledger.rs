//! What the ledger costs, beside the primitives that could hold its records: `cargo bench -p freehold --bench ledger`.
//!
//! One JSON object a line, as `tests/bench/report.py` reads them: times in ns (the fastest of many batches), memory in bytes,
//! rates as a ratio; and what design.md asks for.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

use freehold::dlpack::{DLManagedTensorVersioned, DLPackVersion, DLTensor, device_to, dtype_to};
use freehold::ledger::{Edge, HolderDesc, HolderFlags, Ledger, Level, Role, Sync};
use freehold::{
    DType, Device, ExportOptions, HolderId, ImportOptions, Label, Runtime, Steps, StrideUnit, Tensor, Verdict,
};

const BATCH: u32 = 20_000;
const BATCHES: u32 = 60;
const MILLION: u64 = 1_000_000;

fn time_of(calls: u32, batches: u32, mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..batches {
        let start = Instant::now();
        for _ in 0..calls {
            f();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    best
}

fn time(f: impl FnMut()) -> f64 {
    time_of(BATCH, BATCHES, f)
}

fn line(table: &str, row: &str, unit: &str, value: f64, aim: &str) {
    println!(r#"{{"table": "{table}", "row": "{row}", "{unit}": {value:.2}, "aim": "{aim}"}}"#);
}

/// What a record holds, as a plain value for the other containers.
type Plain = [u64; 16];

fn holder(address: u64) -> HolderDesc<'static> {
    HolderDesc {
        role: Role::Owner,
        framework: Label::NUMPY,
        site: Label::NONE,
        device: Device::CPU,
        address,
        dtype: DType::F32,
        padded: false,
        unit: StrideUnit::Elements,
        shape: &[4, 4],
        strides: &[4, 1],
        alloc: Some((address, 64)),
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

static LEDGER: Ledger = Ledger::new(Level::Records);

fn primitives() {
    const TABLE: &str = "A record opened and closed";
    let arc = Arc::new([0u64; 16]);
    line(TABLE, "Arc clone + drop", "ns", time(|| drop(black_box(Arc::clone(black_box(&arc))))), "");
    let plain: Plain = [7; 16];
    let slab = sharded_slab::Slab::<Plain>::new();
    let ns = time(|| {
        let key = slab.insert(black_box(plain)).expect("room");
        slab.remove(black_box(key));
    });
    line(TABLE, "sharded-slab insert + remove", "ns", ns, "");
    let map = dashmap::DashMap::<u64, Plain>::new();
    let mut key = 0;
    let ns = time(|| {
        key += 64;
        map.insert(black_box(key), plain);
        map.remove(&key);
    });
    line(TABLE, "DashMap insert + remove", "ns", ns, "");
    let map = Mutex::new(HashMap::<u64, Plain>::new());
    let ns = time(|| {
        key += 64;
        map.lock().expect("not poisoned").insert(black_box(key), plain);
        map.lock().expect("not poisoned").remove(&key);
    });
    line(TABLE, "Mutex of a HashMap, insert + remove", "ns", ns, "");
    let ns = time(|| {
        let id = LEDGER.open(black_box(&holder(0x1000)), None);
        LEDGER.close(black_box(id));
    });
    line(TABLE, "ledger open + close, an owner", "ns", ns, "");
    let owner = LEDGER.open(&holder(0x1000), None);
    let ns = time(|| {
        let id = LEDGER.open(black_box(&HolderDesc { role: Role::Holder, ..holder(0x1000) }), Some(&edge(owner)));
        LEDGER.close(black_box(id));
    });
    line(TABLE, "ledger open + close, a holder with its edge", "ns", ns, "");
    LEDGER.close(owner);
}

unsafe extern "C" fn no_deleter(_: *mut DLManagedTensorVersioned) {}

static SHAPE: [i64; 2] = [4, 4];
static STRIDES: [i64; 2] = [4, 1];
static DATA: [f32; 16] = [0.0; 16];

fn capsule() -> DLManagedTensorVersioned {
    // SAFETY: a flags word and plain fields; all are valid as zero.
    let mut m: DLManagedTensorVersioned = unsafe { std::mem::zeroed() };
    m.version = DLPackVersion { major: 1, minor: 3 };
    m.deleter = Some(no_deleter);
    m.dl_tensor = DLTensor {
        data: DATA.as_ptr().cast_mut().cast(),
        device: device_to(Device::CPU),
        ndim: 2,
        dtype: dtype_to(DType::F32),
        shape: SHAPE.as_ptr().cast_mut(),
        strides: STRIDES.as_ptr().cast_mut(),
        byte_offset: 0,
    };
    m
}

fn import(foreign: &mut DLManagedTensorVersioned, options: &ImportOptions) -> Tensor {
    // SAFETY: the capsule is valid and its deleter does nothing, so it can be taken again and again.
    unsafe { Tensor::from_versioned(&raw mut *foreign, options) }.expect("valid")
}

fn handovers() {
    const TABLE: &str = "What a handover takes, by level";
    let ledger = Runtime::global();
    let (mut foreign, options, export) = (capsule(), ImportOptions::default(), ExportOptions::default());
    let mut at = [[0.0; 4]; 2];
    for level in [Level::Off, Level::Counters, Level::Records, Level::Sites] {
        ledger.ledger().set_level(level);
        let held = import(&mut foreign, &options);
        at[0][level as usize] = time(|| drop(black_box(import(&mut foreign, &options))));
        at[1][level as usize] = time(|| drop(black_box(held.to_versioned(&export).expect("describable"))));
    }
    ledger.ledger().set_level(Level::Records);
    for (what, ns) in ["import + release", "export + release"].into_iter().zip(at) {
        for (level, ns) in ns.iter().enumerate() {
            line(TABLE, &format!("{what}, level {level}"), "ns", *ns, "");
        }
        line(TABLE, &format!("{what}, level 2 above level 0"), "ns", ns[2] - ns[0], "at most 20 ns");
    }
}

/// How many handovers a thread makes in a second, with so many threads at once.
fn rate(threads: usize) -> f64 {
    const EACH: u32 = 400_000;
    let mut best = 0f64;
    for _ in 0..7 {
        let barrier = Barrier::new(threads);
        let slowest = std::thread::scope(|scope| {
            let run = || {
                let (mut foreign, options) = (capsule(), ImportOptions::default());
                let export = ExportOptions::default();
                drop(import(&mut foreign, &options));
                barrier.wait();
                let start = Instant::now();
                for _ in 0..EACH {
                    let tensor = import(&mut foreign, &options);
                    drop(black_box(tensor.to_versioned(&export).expect("describable")));
                }
                start.elapsed().as_secs_f64()
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).fold(0f64, f64::max)
        });
        best = best.max(threads as f64 * f64::from(EACH) / slowest);
    }
    best
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn a_million() {
    const TABLE: &str = "A million live records";
    let before = resident();
    let owners: Vec<HolderId> = (0..MILLION).map(|i| LEDGER.open(&holder(0x1_0000 + i * 64), None)).collect();
    let ids = (MILLION * size_of::<HolderId>() as u64) as f64;
    line(TABLE, "resident memory", "bytes", resident().saturating_sub(before) as f64 - ids, "at most 160 MB");
    let start = Instant::now();
    assert!(LEDGER.owner(Device::CPU, 0x1_0000).is_some());
    line(TABLE, "the first question, which builds the index", "ns", start.elapsed().as_nanos() as f64, "");
    let mut at = 0u64;
    let mut next = || {
        at = (at + 7919) % MILLION;
        0x1_0000 + at * 64 + 8
    };
    let ns = time_of(1000, 30, || assert!(black_box(LEDGER.owner(Device::CPU, next())).is_some()));
    line(TABLE, "owner by pointer", "ns", ns, "at most 1 µs");
    let ns = time_of(1000, 30, || assert_eq!(black_box(LEDGER.holders(Device::CPU, next())).len(), 1));
    line(TABLE, "holders by pointer", "ns", ns, "at most 1 µs");
    let ns = time_of(1000, 30, || assert!(black_box(LEDGER.aliases(owners[(next() / 64 % 1000) as usize])).is_empty()));
    line(TABLE, "aliases of a holder", "ns", ns, "at most 1 µs");
    // Kept current: a question after every change.
    let ns = time_of(500, 30, || {
        let id = LEDGER.open(&holder(0x10), None);
        assert!(black_box(LEDGER.owner(Device::CPU, next())).is_some());
        LEDGER.close(id);
    });
    line(TABLE, "open, owner by pointer, close", "ns", ns, "");
    let start = Instant::now();
    let snapshot = LEDGER.snapshot();
    line(TABLE, "a snapshot", "ns", start.elapsed().as_nanos() as f64, "at most 1 s");
    drop(snapshot);
    let start = Instant::now();
    for id in owners {
        LEDGER.close(id);
    }
    line(TABLE, "closing one of them", "ns", start.elapsed().as_nanos() as f64 / MILLION as f64, "");
}

fn main() {
    primitives();
    handovers();
    let (one, two) = (rate(1), rate(2));
    let table = "Import + export + both releases, level 2, threads at once";
    line(table, "one thread, a handover", "ns", 1e9 / one, "");
    line(table, "two threads, a handover", "ns", 1e9 / two, "");
    line(table, "two threads beside one", "ratio", two / one, "at least 1.8");
    a_million();
}
