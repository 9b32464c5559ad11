//! Copies between host and device, on the driver of tests/fake-cuda: its device memory faults when the host touches it, and its
//! streams run late. The processor's engine is the oracle.
#![cfg(all(target_os = "linux", not(miri)))]

use std::sync::Arc;

use freehold_device::cuda::transfer::{self, Road, Side, TransferError};
use freehold_device::cuda::{self, Context, StreamRef};
use freehold_device::{Buffer, MemoryResource, Stream, host};
use freehold_fake_cuda::control::{self, Control};
use freehold_tensor::copy::{self, CopyError, CopyOptions, Lazy, OnLoss, Operand};
use freehold_tensor::{DType, Device, DeviceKind, Dims, Layout, Order, StrideUnit, compact_strides};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The driver of this process: nextest gives each test a process of its own, and a test that shares one shares the driver.
fn driver() -> (Control, &'static Context) {
    let path = control::path();
    // SAFETY: the variable is read when the driver is first looked for, which comes after; tests of one process set the same.
    unsafe { std::env::set_var(cuda::LIBRARY_VARIABLE, &path) };
    let context = Context::of(0).expect("the fake driver has devices");
    (Control::open(&path), context)
}

/// A tensor of its own on a device, or on the host.
struct Tensor {
    dtype: DType,
    shape: Dims,
    strides: Dims,
    buffer: Buffer,
    device: Device,
    /// Bytes before the first element.
    before: usize,
}

impl Tensor {
    fn side(&self) -> Side<'_> {
        let operand = Operand {
            data: self.buffer.as_ptr().wrapping_add(self.before),
            dtype: self.dtype,
            layout: Layout::new(&self.shape, &self.strides),
            unit: StrideUnit::Elements,
            traits: Lazy::empty(),
        };
        Side { operand, device: self.device }
    }
}

fn resource(device: Device) -> Arc<dyn MemoryResource> {
    freehold_device::default_resource(device).unwrap_or_else(|| host().clone())
}

/// Memory with room for a layout whose strides may be negative or have gaps.
fn place(dtype: DType, shape: &[i64], strides: &[i64], device: Device) -> Tensor {
    let extent = Layout::new(shape, strides).extent(dtype, false, StrideUnit::Elements).expect("small");
    let resource = resource(device);
    let buffer = Buffer::new(&resource, extent.len() as usize + 16, 256, Stream::NONE).expect("memory");
    Tensor {
        dtype,
        shape: Dims::from_slice(shape),
        strides: Dims::from_slice(strides),
        buffer,
        device,
        before: extent.lo.unsigned_abs() as usize,
    }
}

/// Every byte of the buffer, brought to the host by the driver alone.
fn bytes(context: &'static Context, tensor: &Tensor) -> Vec<u8> {
    let mut out = vec![0_u8; tensor.buffer.len()];
    let stream = context.work_stream().expect("a stream");
    let _entered = context.enter().expect("a context");
    // SAFETY: both sides have this many bytes; pageable memory is complete on return.
    let status = unsafe {
        (context.api().memory.memcpy_async)(
            out.as_mut_ptr().addr() as u64,
            tensor.buffer.as_ptr().addr() as u64,
            out.len(),
            stream.raw(),
        )
    };
    assert_eq!(status.0, 0);
    context.synchronize(stream).expect("done");
    out
}

fn fill(context: &'static Context, tensor: &Tensor, with: &[u8]) {
    let stream = context.work_stream().expect("a stream");
    let _entered = context.enter().expect("a context");
    // SAFETY: as above.
    let status = unsafe {
        (context.api().memory.memcpy_async)(
            tensor.buffer.as_ptr().addr() as u64,
            with.as_ptr().addr() as u64,
            with.len().min(tensor.buffer.len()),
            stream.raw(),
        )
    };
    assert_eq!(status.0, 0);
    context.synchronize(stream).expect("done");
}

const HOST: Device = Device::CPU;
const PINNED: Device = Device::new(DeviceKind::CUDA_HOST, 0);
const GPU: Device = Device::new(DeviceKind::CUDA, 0);
const GPU1: Device = Device::new(DeviceKind::CUDA, 1);
const MANAGED: Device = Device::new(DeviceKind::CUDA_MANAGED, 0);

/// A layout from a seed: axes in any order, gaps, negative strides; a stride of 0 where the side is a source.
fn layout(shape: &[i64], seed: u64, source: bool) -> Dims {
    let mut rest = seed;
    let mut next = |n: u64| {
        rest = rest.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (rest >> 33) % n
    };
    let order = if next(2) == 0 { Order::C } else { Order::F };
    if next(3) == 0 {
        return compact_strides(shape, order).expect("small");
    }
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    for i in (1..axes.len()).rev() {
        axes.swap(i, next(i as u64 + 1) as usize);
    }
    let mut strides: Dims = shape.iter().map(|_| 0).collect();
    let mut step = if next(4) == 0 { 2 } else { 1 };
    for &axis in &axes {
        strides[axis] = if next(5) == 0 { -step } else { step };
        if source && next(8) == 0 {
            strides[axis] = 0;
        } else {
            step *= shape[axis].max(1) + i64::from(next(5) == 0);
        }
    }
    strides
}

#[derive(Debug, Clone)]
struct Case {
    shape: Vec<i64>,
    from: usize,
    to: usize,
    ends: (Device, Device),
    seeds: (u64, u64),
    allow: bool,
}

const DTYPES: [DType; 14] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::U8,
    DType::I32,
    DType::I64,
    DType::BOOL,
    DType::C64,
    DType::C128,
    DType::U64,
    DType::I16,
    DType::F8_E4M3FN,
    DType::F4_E2M1FN,
];

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

fn run(context: &'static Context, case: &Case) {
    let (to_device, from_device) = case.ends;
    let (from, to) = (DTYPES[case.from], DTYPES[case.to]);
    let (src_strides, dst_strides) =
        (layout(&case.shape, case.seeds.0, true), layout(&case.shape, case.seeds.1, false));
    let source = place(from, &case.shape, &src_strides, from_device);
    let target = place(to, &case.shape, &dst_strides, to_device);
    // The same, on the host.
    let host_source = place(from, &case.shape, &src_strides, HOST);
    let host_target = place(to, &case.shape, &dst_strides, HOST);
    let mut x = case.seeds.0 | 1;
    let noise: Vec<u8> = (0..source.buffer.len())
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
            if from == DType::BOOL { (x >> 40) as u8 & 1 } else { (x >> 40) as u8 }
        })
        .collect();
    let before = vec![0x11_u8; target.buffer.len()];
    for (tensor, with) in [(&source, &noise), (&host_source, &noise), (&target, &before), (&host_target, &before)] {
        fill(context, tensor, with);
    }
    let options = CopyOptions::new(if case.allow { OnLoss::Allow } else { OnLoss::Error });
    // SAFETY: both are memory of their own.
    let want = unsafe { copy::copy(&host_target.side().operand, &host_source.side().operand, &options) };
    let side = if target.side().device.kind == DeviceKind::CPU || to_device == PINNED { &source } else { &target };
    let at = Context::of(side.device.id).expect("a context");
    let stream = at.work_stream().expect("a stream");
    // SAFETY: both are memory of their own, of the devices that they say, filled and waited for.
    let got = unsafe { transfer::copy(&target.side(), &source.side(), &options, stream) };
    match (want, got) {
        (Ok(()), Ok(done)) => {
            if let Some(event) = done.event {
                event.synchronize().expect("done");
            }
            at.synchronize(stream).expect("done");
            let (got, want) = (bytes(context, &target), bytes(context, &host_target));
            assert_eq!(got, want, "{case:?} {:?}", done.road);
        }
        // As text: a lost NaN is not equal to itself.
        (Err(want), Err(TransferError::Copy(got))) => assert_eq!(format!("{got:?}"), format!("{want:?}"), "{case:?}"),
        (want, got) => panic!("{case:?}: {want:?}, {:?}", got.map(|done| done.road)),
    }
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
    let shape = [400, 300];
    let ends = [(GPU, HOST), (HOST, GPU), (GPU, PINNED), (GPU, GPU), (GPU1, GPU)];
    let dtypes = [(DType::F32, DType::F32), (DType::F32, DType::F16), (DType::I64, DType::I32)];
    for ((to_device, from_device), (from, to)) in
        ends.into_iter().flat_map(|ends| dtypes.into_iter().map(move |pair| (ends, pair)))
    {
        let source = place(from, &shape, &compact_strides(&shape, Order::F).expect("small"), from_device);
        let target = place(to, &shape, &compact_strides(&shape, Order::C).expect("small"), to_device);
        fill(context, &source, &vec![0; source.buffer.len()]);
        let side = if to_device == HOST { &source } else { &target };
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
    let done =
        unsafe { transfer::copy(&target.side(), &source.side(), &CopyOptions::default(), stream) }.expect("queued");
    let event = done.event.expect("page-locked memory is read later");
    assert!(!event.is_done().expect("a question"), "the copy runs late, and nobody waited for it");
    event.synchronize().expect("done");
    control.set_delay(std::time::Duration::ZERO);
    assert_eq!(bytes(context, &target)[..400_000], vec![5; 400_000]);
    assert_ne!(stream, StreamRef::LEGACY);
}
