//! Each road of a copy, small: that all are taken, in several pieces, and give the same; what may be captured; what would be
//! seen if a wait were left out.
#![cfg(all(target_os = "linux", not(miri)))]

mod common {
    pub mod cuda;
}

use std::collections::HashMap;
use std::time::Duration;

use common::cuda::{
    Case, DTYPES, GPU, GPU1, HOST, MANAGED, PINNED, bytes, driver, fill, make_small, noise, place, run,
};
use freehold_device::cuda::transfer::{self, Done, Piece, Road, Side, TransferError};
use freehold_device::cuda::{Context, CudaError, Event, StreamRef};
use freehold_fake_cuda::control::Control;
use freehold_tensor::copy::CopyOptions;
use freehold_tensor::{DType, Order, compact_strides};

/// A generator that gives the same on every machine.
struct Seeds(u64);

impl Seeds {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 16
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[test]
fn every_road_is_taken_and_gives_what_the_processor_gives() {
    let (control, context) = driver();
    for ordinal in [0, 1] {
        make_small(Context::of(ordinal).expect("a device"));
    }
    let ends = [
        (GPU, HOST),
        (HOST, GPU),
        (GPU, PINNED),
        (PINNED, GPU),
        (GPU, GPU),
        (GPU1, GPU),
        (MANAGED, PINNED),
        (HOST, MANAGED),
    ];
    let mut seeds = Seeds(7);
    let mut seen: HashMap<String, u32> = HashMap::new();
    for i in 0..1200 {
        let shape = (0..seeds.below(5)).map(|_| 1 + seeds.below(14) as i64).collect();
        let from = seeds.below(DTYPES.len() as u64) as usize;
        let to = if i % 2 == 0 { from } else { seeds.below(DTYPES.len() as u64) as usize };
        let ends = ends[seeds.below(ends.len() as u64) as usize];
        let case = Case { shape, from, to, ends, seeds: (seeds.next(), seeds.next()), allow: i % 3 != 0 };
        if let Some(road) = run(context, &case) {
            *seen.entry(format!("{road:?}")).or_default() += 1;
        }
    }
    // Rows of slices of larger tensors, which random strides seldom are.
    let sliced =
        [(&[6, 5, 40][..], &[400, 80, 1][..]), (&[9, 64], &[100, 1]), (&[3, 2, 5, 4, 8], &[999, 400, 77, 16, 1])];
    for (shape, strides) in sliced {
        for (to, from) in [(GPU, PINNED), (PINNED, GPU)] {
            let source = place(DType::F32, shape, strides, from);
            let compact = compact_strides(shape, Order::C).expect("small");
            let target = place(DType::F32, shape, &compact, to);
            let values = noise(source.buffer.len(), 3);
            fill(context, &source, &values);
            let done = copy(context, &target.side(), &source.side(), StreamRef::LEGACY);
            context.synchronize(StreamRef::LEGACY).expect("done");
            *seen.entry(format!("{:?}", done.road)).or_default() += 1;
            assert_eq!(done.link_bytes, 4 * shape.iter().product::<i64>() as u64);
            let got = bytes(context, &target);
            let mut at = 0;
            walk(shape, strides, |element| {
                assert_eq!(got[at..at + 4], values[4 * element..4 * element + 4], "{shape:?} {at} {:?}", done.road);
                at += 4;
            });
        }
    }
    for road in ["Driver", "Pitched", "Batched", "Staged", "WithKernel", "StagedWithKernel", "Kernel", "Peer"] {
        assert!(seen.get(road).is_some_and(|n| *n > 1), "{road}: {seen:?}");
    }
    for road in ["PeerWithKernels", "Host", "ThroughHost"] {
        assert!(seen.contains_key(road), "{road}: {seen:?}");
    }
    assert_eq!(control.races(), "");
}

/// Calls `each` with the offset of every element, in C order.
fn walk(shape: &[i64], strides: &[i64], mut each: impl FnMut(usize)) {
    let count: i64 = shape.iter().product();
    for i in 0..count {
        let (mut rest, mut at) = (i, 0);
        for (n, stride) in shape.iter().zip(strides).rev() {
            at += rest % n * stride;
            rest /= n;
        }
        each(at as usize);
    }
}

/// A copy with default options, which succeeds.
fn copy(context: &'static Context, dst: &Side<'_>, src: &Side<'_>, stream: StreamRef) -> Done {
    assert!(!context.is_capturing(stream).expect("a question"));
    // SAFETY: tests give memory of their own, which lives until they have waited.
    unsafe { transfer::copy(dst, src, &CopyOptions::default(), stream) }.expect("a copy")
}

#[test]
fn many_small_copies_are_one_call() {
    let (control, context) = driver();
    for stream in [StreamRef::LEGACY, StreamRef::PER_THREAD, context.new_stream().expect("a stream")] {
        let source = place(DType::U8, &[1000], &[1], PINNED);
        let target = place(DType::U8, &[1000], &[1], GPU);
        let values = noise(1016, 9);
        fill(context, &source, &values);
        fill(context, &target, &[0; 1016]);
        let (to, from) = (target.buffer.as_ptr().addr() as u64, source.buffer.as_ptr().addr() as u64);
        let pieces: Vec<Piece> =
            (0..100).map(|i| Piece { dst: to + 10 * i, src: from + 10 * (99 - i), bytes: i as usize % 10 }).collect();
        control.clear_log();
        // SAFETY: the pieces lie within both, which live until the wait.
        let done = unsafe { transfer::copy_many(context, &pieces, stream) }.expect("queued");
        assert_eq!((done.road, done.link_bytes), (Road::Batched, 450));
        assert_eq!(control.calls_of("cuMemcpyBatchAsync"), 1);
        done.event.expect("later").synchronize().expect("done");
        let got = bytes(context, &target);
        for i in 0..100 {
            let n = i % 10;
            assert_eq!(got[10 * i..10 * i + n], values[10 * (99 - i)..10 * (99 - i) + n]);
            assert_eq!(got[10 * i + n..10 * i + 10], [0; 10][n..]);
        }
    }
    assert_eq!(control.races(), "");
}

/// What is queued on a captured stream is part of the graph, or is refused without breaking the capture.
#[test]
fn captures_hold_what_they_can_and_survive_the_rest() {
    let (control, context) = driver();
    make_small(context);
    let stream = context.new_stream().expect("a stream");
    let dense = |device, dtype| place(dtype, &[40, 32], &[32, 1], device);
    let rows = place(DType::F32, &[40, 32], &[64, 1], PINNED);
    let turned = place(DType::F32, &[40, 32], &[1, 40], GPU);
    // Kernels are loaded before, as a program that captures does; that it may also be done meanwhile is for the driver to say.
    let _ = copy(context, &dense(GPU, DType::F32).side(), &turned.side(), stream);
    context.synchronize(stream).expect("done");
    let (device, pinned, pageable) = (dense(GPU, DType::F32), dense(PINNED, DType::F32), dense(HOST, DType::F32));
    let narrow = dense(PINNED, DType::F16);
    let cases = [
        (&device, &pinned, Some(1)),
        (&device, &rows, Some(1)),
        (&device, &turned, Some(1)),
        (&device, &pageable, None),
        (&pageable, &device, None),
        (&pinned, &device, None),
        (&device, &narrow, None),
    ];
    for (dst, src, nodes) in cases {
        begin(&control, stream);
        // SAFETY: the memory lives until the end of the test; no graph is run.
        let done = unsafe { transfer::copy(&dst.side(), &src.side(), &CopyOptions::default(), stream) };
        match (nodes, done) {
            (Some(_), Ok(done)) => assert!(done.event.is_none(), "nobody can wait for a graph that did not run"),
            (None, Err(TransferError::Cuda(CudaError::Capturing { .. }))) => {}
            (_, done) => panic!("{:?} <- {:?}: {:?}", dst.device, src.device, done.map(|done| done.road)),
        }
        assert_eq!(end(&control, stream), nodes.or(Some(0)), "{:?} <- {:?}", dst.device, src.device);
    }
}

type Handle = *mut std::ffi::c_void;

fn begin(control: &Control, stream: StreamRef) {
    // SAFETY: the function has this signature in cuda.h, and the stream lives.
    let status = unsafe {
        let begin = control.library().get::<extern "C" fn(Handle, u32) -> i32>(b"cuStreamBeginCapture_v2\0");
        begin.expect("a function")(stream.raw(), 0)
    };
    assert_eq!(status, 0);
}

/// How many nodes were captured; `None` where the capture broke.
fn end(control: &Control, stream: StreamRef) -> Option<usize> {
    let mut graph: Handle = std::ptr::null_mut();
    // SAFETY: as above; the place is one of ours.
    let status = unsafe {
        let end = control.library().get::<extern "C" fn(Handle, *mut Handle) -> i32>(b"cuStreamEndCapture\0");
        end.expect("a function")(stream.raw(), &raw mut graph)
    };
    if status == 0 { control.graph_nodes(graph) } else { None }
}

/// Pieces in both directions and a copy between devices, on streams that run late.
fn late_copies() {
    let (control, context) = driver();
    make_small(context);
    let other = Context::of(1).expect("two devices");
    control.set_delay(Duration::from_millis(2));
    let shape = [20_000];
    let values = noise(80_016, 5);
    let up = || {
        let (source, target) = (place(DType::F32, &shape, &[1], HOST), place(DType::F32, &shape, &[1], GPU));
        fill(context, &source, &values);
        let stream = context.new_stream().expect("a stream");
        assert_eq!(copy(context, &target.side(), &source.side(), stream).road, Road::Staged);
        context.synchronize(stream).expect("done");
        assert_eq!(bytes(context, &target)[..80_000], values[..80_000], "up");
    };
    let down = || {
        let (source, target) = (place(DType::F32, &shape, &[1], GPU), place(DType::F32, &shape, &[1], HOST));
        fill(context, &source, &values);
        let stream = context.new_stream().expect("a stream");
        assert_eq!(copy(context, &target.side(), &source.side(), stream).road, Road::Staged);
        assert_eq!(bytes(context, &target)[..80_000], values[..80_000], "down");
    };
    let across = || {
        let (source, target) =
            (place(DType::F32, &[50, 40], &[1, 50], GPU), place(DType::F32, &[50, 40], &[40, 1], GPU1));
        fill(context, &source, &values);
        let stream = other.new_stream().expect("a stream");
        let done = copy(other, &target.side(), &source.side(), stream);
        assert_eq!(done.road, Road::PeerWithKernels);
        done.event.expect("later").synchronize().expect("done");
        let got = bytes(context, &target);
        for (i, j) in (0..50).flat_map(|i| (0..40).map(move |j| (i, j))) {
            let (at, from) = (4 * (40 * i + j), 4 * (50 * j + i));
            assert_eq!(got[at..at + 4], values[from..from + 4], "across");
        }
    };
    up();
    down();
    across();
    assert_eq!(control.races(), "");
}

/// The test of late streams is one that can fail: with each kind of wait left out, it does.
#[test]
fn a_wait_that_is_left_out_is_seen() {
    const CHILD: &str = "FREEHOLD_TEST_LATE_COPIES";
    if std::env::var_os(CHILD).is_some() {
        return late_copies();
    }
    let run = |dropped: &str| {
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = std::process::Command::new(program);
        child.args(["--exact", "a_wait_that_is_left_out_is_seen", "--nocapture"]).env(CHILD, "1");
        child.env("FREEHOLD_TEST_DROP_EVENTS", dropped).output().expect("a child")
    };
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let whole = run("");
    assert!(whole.status.success(), "{}", text(&whole));
    for dropped in ["slot", "order"] {
        let output = run(dropped);
        assert!(!output.status.success(), "without {dropped}, and nothing is wrong");
        assert!(text(&output).contains("assertion"), "{}", text(&output));
    }
}

/// Copies that run at once share the slots of a context; a caller that panics in between loses none.
#[test]
fn copies_at_once_share_slots_and_give_them_back() {
    let (control, context) = driver();
    make_small(context);
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || {
                let (up, down) = (place(DType::F32, &[9000], &[1], GPU), place(DType::F32, &[9000], &[1], HOST));
                let source = place(DType::F32, &[9000], &[1], HOST);
                let stream = context.new_stream().expect("a stream");
                for round in 0..5 {
                    let values = noise(source.buffer.len(), 100 * seed + round);
                    fill(context, &source, &values);
                    let _ = copy(context, &up.side(), &source.side(), stream);
                    let _ = copy(context, &down.side(), &up.side(), stream);
                    assert_eq!(bytes(context, &down)[..36_000], values[..36_000]);
                }
            });
        }
    });
    let kept = transfer::staging_bytes(context);
    assert!(kept > 0 && kept <= 16 * 2 * 4096, "{kept}");
    let before = control.live().pinned_bytes;
    transfer::trim_staging(context);
    assert_eq!(transfer::staging_bytes(context), 0);
    assert!(control.live().pinned_bytes <= before);
    // And without any page-locked memory to be had, copies go on.
    control.set_pinned_limit(0);
    freehold_device::cuda::memory::pinned().expect("a resource");
    for (to, from) in [(GPU, HOST), (HOST, GPU)] {
        let case = Case { shape: vec![30, 40], from: 0, to: 3, ends: (to, from), seeds: (1, 2), allow: true };
        assert!(run(context, &case).is_some());
    }
}

#[test]
fn what_is_measured_is_kept_for_the_next_process() {
    let folder = std::env::temp_dir().join(format!("freehold-transfers-{}", std::process::id()));
    // SAFETY: nextest gives each test a process; the variable is read when a context is first copied with.
    unsafe { std::env::set_var(transfer::CACHE_VARIABLE, &folder) };
    let (control, context) = driver();
    let found = transfer::calibrate(context).expect("a calibration");
    assert!(found.kept && found.pinned_rate > 0.0 && found.staged_rate > 0.0);
    assert_eq!(transfer::tuning(context), found.tuning);
    let files: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let text = std::fs::read_to_string(&files[0]).expect("a file");
    assert!(text.contains(&format!("\npiece {}\n", found.tuning.piece)), "{text}");
    // A folder that cannot be made is no failure.
    let blocked = folder.join("file");
    std::fs::write(&blocked, "").expect("a file");
    // SAFETY: as above.
    unsafe { std::env::set_var(transfer::CACHE_VARIABLE, blocked.join("below")) };
    control.reset();
    assert!(!transfer::calibrate(context).expect("a calibration").kept);
    std::fs::remove_dir_all(&folder).expect("a folder of ours");
}

#[test]
fn an_event_can_be_asked_for_after_any_copy() {
    let (_control, context) = driver();
    let (source, target) = (place(DType::F32, &[10], &[1], PINNED), place(DType::F32, &[10], &[1], GPU));
    fill(context, &source, &[1; 56]);
    let stream = context.new_stream().expect("a stream");
    let done = copy(context, &target.side(), &source.side(), stream);
    let event: Event = done.event.expect("page-locked memory is read later");
    event.synchronize().expect("done");
    assert_eq!((done.road, done.link_bytes), (Road::Driver, 40));
    let plan = transfer::road(&target.side(), &source.side(), &CopyOptions::default()).expect("a road");
    assert_eq!(plan.to_string(), "one copy by the driver, 40 bytes over the link");
}
