//! Copies between host and device, on the driver of tests/fake-cuda: its device memory faults when the host touches it, and its
//! streams run late. The processor's engine is the oracle.
#![cfg(all(target_os = "linux", not(miri)))]

mod common {
    pub mod cuda;
}

use common::cuda::{Case, DTYPES, GPU, GPU1, HOST, MANAGED, PINNED, bytes, driver, fill, place, run};
use freehold_device::cuda::transfer::{self, Road, TransferError};
use freehold_device::cuda::{Context, StreamRef};
use freehold_tensor::copy::{CopyError, CopyOptions};
use freehold_tensor::{DType, Order, compact_strides};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn cases() -> impl Strategy<Value = Case> {
    let ends = prop::sample::select(vec![
        (GPU, HOST),
        (HOST, GPU),
        (GPU, PINNED),
        (PINNED, GPU),
        (GPU, GPU),
        (GPU1, GPU),
        (GPU, MANAGED),
        (MANAGED, GPU),
    ]);
    let shape = prop_oneof![
        prop::collection::vec(0..9_i64, 0..5),
        Just(vec![400, 300]),
        Just(vec![3, 40_000]),
        Just(vec![150_000]),
        (1..40_i64, 1..40_i64, 1..9_i64).prop_map(|(a, b, c)| vec![a, b, c]),
    ];
    (shape, 0..DTYPES.len(), 0..DTYPES.len(), ends, any::<(u64, u64)>(), any::<bool>(), 0..3).prop_map(
        |(shape, from, to, ends, seeds, allow, same)| Case {
            shape,
            from,
            to: if same == 0 { from } else { to },
            ends,
            seeds,
            allow,
        },
    )
}

#[test]
fn every_road_gives_what_the_processor_gives() {
    let (control, context) = driver();
    let mut runner = TestRunner::new(Config { cases: 250, failure_persistence: None, ..Config::default() });
    let result = runner.run(&cases(), |case| {
        run(context, &case);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    drop(control);
}

/// The ways of large copies, by what they ask.
#[test]
fn roads_are_those_that_cost_least() {
    let (_control, _context) = driver();
    let c = |dtype, device| {
        let shape = [1000, 900];
        place(dtype, &shape, &compact_strides(&shape, Order::C).expect("small"), device)
    };
    let f = |dtype, device| {
        let shape = [1000, 900];
        place(dtype, &shape, &compact_strides(&shape, Order::F).expect("small"), device)
    };
    let cases = [
        (c(DType::F32, GPU), c(DType::F32, PINNED), Road::Driver),
        (c(DType::F32, GPU), c(DType::F32, HOST), Road::Staged),
        (c(DType::F32, HOST), c(DType::F32, GPU), Road::Staged),
        // Narrow on the link: cast where the wide form is.
        (c(DType::F16, GPU), c(DType::F32, HOST), Road::Staged),
        (c(DType::F32, GPU), c(DType::F16, HOST), Road::StagedWithKernel),
        (c(DType::F16, HOST), c(DType::F32, GPU), Road::StagedWithKernel),
        (c(DType::F32, HOST), c(DType::F16, GPU), Road::Staged),
        // The device lays out, where the source has no gaps.
        (c(DType::F32, GPU), f(DType::F32, HOST), Road::StagedWithKernel),
        (c(DType::F16, GPU), f(DType::F32, HOST), Road::StagedWithKernel),
        (c(DType::F32, GPU), f(DType::F32, PINNED), Road::WithKernel),
        (c(DType::F32, GPU), f(DType::F32, GPU), Road::Kernel),
        (c(DType::F32, GPU1), f(DType::F32, GPU), Road::PeerWithKernels),
        (c(DType::F32, GPU1), c(DType::F32, GPU), Road::Peer),
    ];
    for (dst, src, road) in &cases {
        let plan = transfer::road(&dst.side(), &src.side(), &CopyOptions::default()).expect("a road");
        assert_eq!(plan.road, *road, "{:?} {:?}", dst.side(), src.side());
    }
}

/// What happens when each call of the driver fails once.
#[test]
fn a_call_that_fails_is_an_error_and_nothing_is_left() {
    let (control, context) = driver();
    // Little ones take the roads of large ones, in several pieces.
    common::cuda::make_small(context);
    let shape = [60, 50];
    let ends = [(GPU, HOST), (HOST, GPU), (GPU, PINNED), (PINNED, GPU), (GPU, GPU), (GPU1, GPU)];
    let dtypes = [(DType::F32, DType::F32), (DType::F32, DType::F16), (DType::I64, DType::I32)];
    for ((to_device, from_device), (from, to)) in
        ends.into_iter().flat_map(|ends| dtypes.into_iter().map(move |pair| (ends, pair)))
    {
        let source = place(from, &shape, &compact_strides(&shape, Order::F).expect("small"), from_device);
        let target = place(to, &shape, &compact_strides(&shape, Order::C).expect("small"), to_device);
        fill(context, &source, &vec![0; source.buffer.len()]);
        let side = if to_device == HOST || to_device == PINNED { &source } else { &target };
        let at = Context::of(side.device.id).expect("a context");
        let stream = at.work_stream().expect("a stream");
        let copy = || -> Result<(), TransferError> {
            // SAFETY: both are memory of their own.
            let done = unsafe { transfer::copy(&target.side(), &source.side(), &CopyOptions::default(), stream) }?;
            if let Some(event) = done.event {
                event.synchronize()?;
            }
            Ok(())
        };
        copy().expect("nothing fails yet");
        at.synchronize(stream).expect("done");
        let (settled, mut failures) = (control.live(), 0);
        for n in 1..200 {
            control.fail_at(n, 999);
            let result = copy();
            let reached = control.live().failures_left == 0;
            control.forget_failures();
            at.synchronize(stream).expect("the next call works");
            if !reached {
                break;
            }
            if let Err(error) = result {
                failures += 1;
                assert!(error.to_string().contains("999"), "{error}");
            }
            copy().unwrap_or_else(|error| panic!("after call {n} failed: {error}"));
            at.synchronize(stream).expect("done");
        }
        assert!(failures > 0, "{to_device} <- {from_device}");
        let live = control.live();
        // Slots are kept for the next copy, so that only results and steps on the way count.
        assert_eq!(live.pool_used, settled.pool_used, "{to_device} <- {from_device}");
    }
}

/// Missing values of a loss are told as the processor tells them, wherever they are found.
#[test]
fn a_loss_names_the_first_value() {
    let (_control, context) = driver();
    for (to_device, from_device) in [(GPU, HOST), (HOST, GPU), (GPU, GPU), (GPU, PINNED)] {
        let shape = [500, 400];
        let strides = compact_strides(&shape, Order::C).expect("small");
        let source = place(DType::I64, &shape, &strides, from_device);
        let target = place(DType::I32, &shape, &strides, to_device);
        let mut values = vec![7_i64; 200_000];
        (values[123_456], values[150_000]) = (1 << 40, -(1 << 40));
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        fill(context, &source, &raw);
        let stream = context.work_stream().expect("a stream");
        // SAFETY: both are memory of their own.
        let error = unsafe { transfer::copy(&target.side(), &source.side(), &CopyOptions::default(), stream) };
        let Err(TransferError::Copy(CopyError::Loss(loss))) = error.map(|done| done.road) else { panic!("a loss") };
        assert_eq!(
            (loss.count, loss.total, loss.first_index.as_slice()),
            (2, 200_000, [308_usize, 256].map(|i| i as u64).map(|i| i.try_into().expect("small")).as_slice())
        );
    }
}

/// The stream that a copy is given orders it: nothing waits for the device but what must.
#[test]
fn copies_are_queued_behind_what_the_stream_has() {
    let (control, context) = driver();
    let shape = [100_000];
    let source = place(DType::F32, &shape, &[1], PINNED);
    let target = place(DType::F32, &shape, &[1], GPU);
    fill(context, &source, &vec![5; source.buffer.len()]);
    control.set_delay(std::time::Duration::from_millis(5));
    let stream = context.new_stream().expect("a stream");
    // SAFETY: both are memory of their own, which live until the event below.
    let done = unsafe { transfer::copy(&target.side(), &source.side(), &CopyOptions::default(), stream) };
    let event = done.expect("queued").event.expect("page-locked memory is read later");
    assert!(!event.is_done().expect("a question"), "the copy runs late, and nobody waited for it");
    event.synchronize().expect("done");
    control.set_delay(std::time::Duration::ZERO);
    assert_eq!(bytes(context, &target)[..400_000], vec![5; 400_000]);
    assert_ne!(stream, StreamRef::LEGACY);
}

/// Values of every size, in runs and with steps; every byte of one run by the driver itself.
#[test]
fn memory_of_a_device_is_filled() {
    let (control, context) = driver();
    let stream = context.work_stream().expect("a stream");
    let mut roads = Vec::new();
    for device in [GPU, MANAGED] {
        for dtype in [DType::U8, DType::F16, DType::F32, DType::F64, DType::C128] {
            for (shape, strides) in
                [([7, 40], [40, 1]), ([7, 40], [1, 7]), ([7, 5], [10, 2]), ([1, 1], [1, 1]), ([0, 3], [3, 1])]
            {
                for value in [(1..=16).collect::<Vec<u8>>(), vec![9; 16]] {
                    let value = &value[..dtype.padded_size()];
                    let target = place(dtype, &shape, &strides, device);
                    fill(context, &target, &vec![0xa5; target.buffer.len()]);
                    // SAFETY: the tensor is memory of its own, and is waited for below.
                    let done = unsafe { transfer::fill(&target.side(), value, stream) }.expect("filled");
                    roads.push(done.road);
                    let mut expected = vec![0xa5; target.buffer.len()];
                    for (i, j) in (0..shape[0]).flat_map(|i| (0..shape[1]).map(move |j| (i, j))) {
                        let at = (i * strides[0] + j * strides[1]) as usize * value.len();
                        expected[at..at + value.len()].copy_from_slice(value);
                    }
                    assert!(bytes(context, &target) == expected, "{dtype} {shape:?} {strides:?} {value:?}");
                }
            }
        }
    }
    assert!([Road::Kernel, Road::Driver, Road::Nothing].iter().all(|road| roads.contains(road)), "{roads:?}");
    assert_eq!(control.live().races, 0);
}

/// What is no memory of a device, or no value of it, is said before anything is queued; so is what the driver refuses.
#[test]
fn a_fill_that_cannot_be_is_refused() {
    let (control, context) = driver();
    let stream = context.work_stream().expect("a stream");
    let target = place(DType::F32, &[50, 30], &[60, 2], GPU);
    let try_fill = |target: &common::cuda::Tensor, value: &[u8]| {
        // SAFETY: the tensor is memory of its own, and lives until the stream was waited for.
        let done = unsafe { transfer::fill(&target.side(), value, stream) };
        let done =
            done.and_then(|done| Ok(done.event.map_or(Ok(()), |event| event.synchronize()).map(|()| done.road)?));
        done.map_err(|error| error.to_string())
    };
    let said = try_fill(&target, &[1, 2]).expect_err("two bytes are no f32");
    assert!(said.contains("value is 2; it must have as many bytes as an element"), "{said}");
    let said = try_fill(&place(DType::F32, &[4], &[1], HOST), &[0; 4]).expect_err("memory of the host");
    assert!(said.contains("device_type is 1; it must"), "{said}");
    assert_eq!(try_fill(&target, &[1, 2, 3, 4]), Ok(Road::Kernel));
    let settled = control.live();
    for n in 1..50 {
        control.fail_at(n, 999);
        let result = try_fill(&target, &[1, 2, 3, 4]);
        let reached = control.live().failures_left == 0;
        control.forget_failures();
        context.synchronize(stream).expect("the next call works");
        if !reached {
            assert!(n > 3, "the calls of a fill fail one after the other");
            break;
        }
        assert!(result.is_ok() || result.clone().is_err_and(|said| said.contains("999")), "{result:?}");
        assert_eq!(try_fill(&target, &[1, 2, 3, 4]), Ok(Road::Kernel), "after call {n} failed");
    }
    assert_eq!(control.live().blocks, settled.blocks);
}
