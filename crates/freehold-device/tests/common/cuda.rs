//! Tensors of devices, on the driver of tests/fake-cuda.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::sync::Arc;

use freehold_device::cuda::transfer::{self, Road, Side, TransferError, Tuning, set_tuning};
use freehold_device::cuda::{self, Context};
use freehold_device::{Buffer, MemoryResource, Stream, host};
use freehold_fake_cuda::control::{self, Control};
use freehold_tensor::copy::{self, CopyOptions, Lazy, OnLoss, Operand};
use freehold_tensor::{DType, Device, DeviceKind, Dims, Layout, Order, StrideUnit, compact_strides};

/// The driver of this process: nextest gives each test a process of its own, and a test that shares one shares the driver.
pub fn driver() -> (Control, &'static Context) {
    let path = control::path();
    // SAFETY: the variable is read when the driver is first looked for, which comes after; tests of one process set the same.
    unsafe { std::env::set_var(cuda::LIBRARY_VARIABLE, &path) };
    let context = Context::of(0).expect("the fake driver has devices");
    (Control::open(&path), context)
}

/// A tensor of its own on a device, or on the host.
pub struct Tensor {
    pub dtype: DType,
    pub shape: Dims,
    pub strides: Dims,
    pub buffer: Buffer,
    pub device: Device,
    /// Bytes before the first element.
    pub before: usize,
}

impl Tensor {
    pub fn side(&self) -> Side<'_> {
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

pub fn resource(device: Device) -> Arc<dyn MemoryResource> {
    freehold_device::default_resource(device).unwrap_or_else(|| host().clone())
}

/// Memory with room for a layout whose strides may be negative or have gaps.
pub fn place(dtype: DType, shape: &[i64], strides: &[i64], device: Device) -> Tensor {
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
pub fn bytes(context: &'static Context, tensor: &Tensor) -> Vec<u8> {
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

pub fn fill(context: &'static Context, tensor: &Tensor, with: &[u8]) {
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

pub const HOST: Device = Device::CPU;
pub const PINNED: Device = Device::new(DeviceKind::CUDA_HOST, 0);
pub const GPU: Device = Device::new(DeviceKind::CUDA, 0);
pub const GPU1: Device = Device::new(DeviceKind::CUDA, 1);
pub const MANAGED: Device = Device::new(DeviceKind::CUDA_MANAGED, 0);

/// A layout from a seed: axes in any order, gaps, negative strides; a stride of 0 where the side is a source.
pub fn layout(shape: &[i64], seed: u64, source: bool) -> Dims {
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

/// Lets small copies take the roads of large ones, in several pieces by two threads.
pub fn make_small(context: &'static Context) {
    let mut tuning = Tuning::default();
    (tuning.staged_from, tuning.piece, tuning.threads) = (256, 4096, 2);
    (tuning.pitched_from, tuning.batched_from) = (16, 40);
    set_tuning(context, tuning);
}

/// What a compact tensor of bytes holds: a number for each.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let next = |_| {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
        (x >> 40) as u8
    };
    (0..len).map(next).collect()
}

/// One copy between two layouts.
#[derive(Debug, Clone)]
pub struct Case {
    pub shape: Vec<i64>,
    pub from: usize,
    pub to: usize,
    pub ends: (Device, Device),
    pub seeds: (u64, u64),
    pub allow: bool,
}

pub const DTYPES: [DType; 14] = [
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

/// Copies and compares with what the processor's engine makes of it. `None`: both refuse, in the same words.
pub fn run(context: &'static Context, case: &Case) -> Option<Road> {
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
            Some(done.road)
        }
        // As text: a lost NaN is not equal to itself.
        (Err(want), Err(TransferError::Copy(got))) => {
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{case:?}");
            None
        }
        (want, got) => panic!("{case:?}: {want:?}, {:?}", got.map(|done| done.road)),
    }
}
