//! What a handover costs in Rust, beside the primitives it is made of: `cargo bench -p freehold`.
//!
//! Each line is the fastest of many batches, in ns a call, as one JSON object that `tests/bench/report.py` reads; the
//! first row of a table is what the others are compared with.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use freehold::dlpack::{DLManagedTensorVersioned, DLPackVersion, DLTensor, device_to, dtype_to};
use freehold::ledger::Level;
use freehold::{Caps, DType, Device, ExportOptions, ImportOptions, Policy, Request, Runtime, Tensor, decide};

const BATCH: u32 = 20_000;
const BATCHES: u32 = 60;

fn time(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..BATCH {
            f();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(BATCH));
    }
    best
}

static SHAPE: [i64; 2] = [4, 4];
static STRIDES: [i64; 2] = [4, 1];
static DATA: [f32; 16] = [0.0; 16];

unsafe extern "C" fn no_deleter(_: *mut DLManagedTensorVersioned) {}

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

fn main() {
    let arc = Arc::new([0u64; 16]);
    let floor = time(|| drop(black_box(Arc::clone(black_box(&arc)))));
    let line = |name: &str, ns: f64| {
        println!("{{\"table\": \"Rust, beside an Arc clone and drop\", \"row\": \"{name}\", \"ns\": {ns:.1}}}");
    };
    line("Arc clone + drop", floor);
    line("malloc 128 B + free", time(|| drop(black_box(Vec::<u8>::with_capacity(black_box(128))))));

    let t = Tensor::from_vec(vec![0.0f32; 16], &[4, 4]).expect("valid");
    let (request, policy) = (Request::share(), Policy::DEFAULT);
    for caps in [&Caps::TORCH, &Caps::NUMPY, &Caps::FREEHOLD] {
        let name = format!("decide, share path, to {}", caps.name);
        line(&name, time(|| drop(black_box(decide(black_box(&t.desc()), &request, caps, &policy)))));
    }

    let mut foreign = capsule();
    for level in [Level::Off, Level::Counters, Level::Records] {
        let rt = Runtime::new(level);
        let options = ImportOptions { runtime: rt, ..ImportOptions::default() };
        let export = ExportOptions::default();
        let raw = &raw mut foreign;
        // SAFETY: the capsule is valid and its deleter does nothing, so it can be taken again and again.
        let import = || unsafe { Tensor::from_versioned(raw, &options) }.expect("valid");
        let n = level as u8;
        line(&format!("import + release, ledger level {n}"), time(|| drop(black_box(import()))));
        line(
            &format!("import + decide + export + both releases, level {n}"),
            time(|| {
                let t = import();
                black_box(decide(&t.desc(), &request, &Caps::TORCH, &policy));
                let out = t.to_versioned(&export).expect("describable");
                drop(t);
                drop(black_box(out));
            }),
        );
    }
    let mut bad = capsule();
    bad.dl_tensor.ndim = -1;
    let raw = &raw mut bad;
    let options = ImportOptions::default();
    // SAFETY: refused before anything is followed.
    line("a rejected import", time(|| drop(black_box(unsafe { Tensor::from_versioned(raw, &options) }))));
}
