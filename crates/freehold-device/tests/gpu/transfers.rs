//! Copies over the link and on the device, against the copy engine of the processor.

use freehold_device::Buffer;
use freehold_device::cuda::transfer::{self, Road, Side, TransferError};
use freehold_device::cuda::walk::Kind;
use freehold_device::cuda::{StreamRef, memory};
use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, OnLoss, Operand, copy};
use freehold_tensor::{DType, Device, DeviceKind, Layout, Order, compact_strides};

use crate::common::{address, bytes_of, context, device_memory, download, fill_host, pinned_memory, stream, upload};

/// Where a side of a copy is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    Pageable,
    Pinned,
    Device,
}

/// How a side lies in its memory.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Lie {
    Compact,
    Transposed,
    EveryOther,
    Reversed,
}

/// Shape and strides in elements, where element 0 is, and how many elements the memory has.
struct Placed {
    shape: [i64; 2],
    strides: [i64; 2],
    first: usize,
    count: usize,
}

impl Placed {
    fn new([rows, columns]: [i64; 2], lie: Lie) -> Placed {
        let count = (rows * columns) as usize;
        let (strides, first, count) = match lie {
            Lie::Compact => ([columns, 1], 0, count),
            Lie::Transposed => ([1, rows], 0, count),
            Lie::EveryOther => ([2 * columns, 2], 0, 2 * count),
            Lie::Reversed => ([columns, -1], columns as usize - 1, count),
        };
        Placed { shape: [rows, columns], strides, first, count }
    }

    fn operand(&self, base: *mut u8, dtype: DType) -> Operand<'_> {
        Operand {
            data: base.wrapping_add(self.first * dtype.padded_size()),
            dtype,
            layout: Layout::new(&self.shape, &self.strides),
            unit: Default::default(),
            traits: Lazy::empty(),
        }
    }
}

fn host(bytes: usize) -> Buffer {
    Buffer::host(bytes).expect("host memory")
}

fn room(at: At, bytes: usize, stream: StreamRef) -> Buffer {
    match at {
        At::Pageable => host(bytes),
        At::Pinned => pinned_memory(bytes),
        At::Device => device_memory(bytes, stream),
    }
}

fn device_of(at: At) -> Device {
    match at {
        At::Pageable => Device::CPU,
        At::Pinned => Device::new(DeviceKind::CUDA_HOST, 0),
        At::Device => Device::new(DeviceKind::CUDA, 0),
    }
}

/// What the processor makes of small whole numbers: every dtype here holds most of them.
fn values(placed: &Placed, dtype: DType) -> Buffer {
    let numbers: Vec<i32> = (0..placed.count as i32).map(|i| i * 7 % 101).collect();
    let made = host(placed.count * dtype.padded_size());
    let shape = [placed.count as i64];
    let strides = compact_strides(&shape, Order::C).expect("a shape");
    let layout = Layout::new(&shape, &strides);
    let operand = |data, dtype| Operand { data, dtype, layout, unit: Default::default(), traits: Lazy::empty() };
    let from = operand(numbers.as_ptr().cast_mut().cast(), DType::I32);
    // SAFETY: both are compact and as long.
    unsafe { copy(&operand(made.as_ptr(), dtype), &from, &CopyOptions::new(OnLoss::Allow)) }.expect("a cast");
    made
}

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: [i64; 2],
    from: (At, DType, Lie),
    to: (At, DType, Lie),
}

/// Runs a case and compares every byte of the destination's memory, gaps too. Gives the road.
fn check(case: Case) -> Road {
    let Case { shape, from: (from_at, from, from_lie), to: (to_at, to, to_lie) } = case;
    let options = CopyOptions::new(OnLoss::Allow);
    let stream = stream();
    let (source, target) = (Placed::new(shape, from_lie), Placed::new(shape, to_lie));
    let filled = values(&source, from);
    let expected = host(target.count * to.padded_size());
    fill_host(&expected, 0x5A);
    // SAFETY: both are host memory of the size that the layouts reach.
    unsafe {
        copy(&target.operand(expected.as_ptr(), to), &source.operand(filled.as_ptr(), from), &options).expect("a copy");
    }
    let (src, dst) = (room(from_at, filled.len(), stream), room(to_at, expected.len(), stream));
    context().synchronize(stream).expect("allocated");
    upload(address(&src), bytes_of(&filled));
    upload(address(&dst), &vec![0x5A; dst.len()]);
    let to_side = Side { operand: target.operand(dst.as_ptr(), to), device: device_of(to_at) };
    let from_side = Side { operand: source.operand(src.as_ptr(), from), device: device_of(from_at) };
    // SAFETY: both are memory of their devices that the layouts reach, until the stream was waited for.
    let done = unsafe { transfer::copy(&to_side, &from_side, &options, stream) };
    let done = done.unwrap_or_else(|error| panic!("{case:?}: {error}"));
    context().synchronize(stream).expect("the copy");
    let found = download(address(&dst), dst.len());
    let wrong = found.iter().zip(bytes_of(&expected)).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "{case:?} by {}: the first wrong byte", done.road);
    if done.road == Road::Kernel {
        assert_eq!(done.link_bytes, 0);
    }
    done.road
}

const SMALL: [i64; 2] = [5, 7];
/// Beyond what the driver does alone, with edges in every tile.
const LARGE: [i64; 2] = [1031, 517];
/// As large, where there are many cases.
const MEDIUM: [i64; 2] = [517, 263];
const WAYS: [(At, At); 5] = [
    (At::Pageable, At::Device),
    (At::Pinned, At::Device),
    (At::Device, At::Pageable),
    (At::Device, At::Pinned),
    (At::Device, At::Device),
];

#[test]
fn bytes_arrive_over_every_road() {
    let mut roads = Vec::new();
    for (from, to) in WAYS {
        for shape in [SMALL, LARGE, [1, 1]] {
            for dtype in [DType::U8, DType::F32, DType::C128] {
                roads.push(check(Case { shape, from: (from, dtype, Lie::Compact), to: (to, dtype, Lie::Compact) }));
            }
        }
    }
    for road in [Road::Driver, Road::Staged, Road::Kernel] {
        assert!(roads.contains(&road), "{roads:?}");
    }
}

#[test]
fn layouts_are_laid_out_anew() {
    for (from, to) in WAYS {
        for shape in [SMALL, MEDIUM] {
            for dtype in [DType::U8, DType::F16, DType::F32, DType::F64] {
                for lie in [Lie::Transposed, Lie::EveryOther, Lie::Reversed] {
                    check(Case { shape, from: (from, dtype, lie), to: (to, dtype, Lie::Compact) });
                    check(Case { shape, from: (from, dtype, Lie::Compact), to: (to, dtype, lie) });
                }
            }
        }
    }
}

#[test]
fn values_are_cast_on_the_way() {
    const PAIRS: [(DType, DType); 12] = [
        (DType::F64, DType::F32),
        (DType::F32, DType::F64),
        (DType::F32, DType::F16),
        (DType::F32, DType::BF16),
        (DType::BF16, DType::F32),
        (DType::F32, DType::F8_E4M3FN),
        (DType::F8_E5M2, DType::F32),
        (DType::I64, DType::I32),
        (DType::U8, DType::F32),
        (DType::F32, DType::I8),
        (DType::C64, DType::C128),
        (DType::F64, DType::BOOL),
    ];
    for (from, to) in WAYS {
        for (a, b) in PAIRS {
            for lie in [Lie::Compact, Lie::Transposed, Lie::EveryOther] {
                for shape in [SMALL, MEDIUM] {
                    check(Case { shape, from: (from, a, lie), to: (to, b, Lie::Compact) });
                }
            }
        }
    }
}

/// On the device, where it is the kernels that cast: every pair, compact and not.
#[test]
fn kernels_cast_every_pair_as_the_processor_does() {
    let all: Vec<DType> = Kind::ALL.map(Kind::dtype).into_iter().chain([DType::C64, DType::C128]).collect();
    for &a in &all {
        for &b in &all {
            for lie in [Lie::Compact, Lie::EveryOther] {
                let (from, to) = ((At::Device, a, lie), (At::Device, b, Lie::Compact));
                let road = check(Case { shape: [33, 65], from, to });
                assert_eq!(road, Road::Kernel, "{a:?} to {b:?}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_said() {
    for (from_at, to_at) in WAYS {
        for shape in [SMALL, LARGE] {
            let stream = stream();
            let placed = Placed::new(shape, Lie::Compact);
            let filled = values(&placed, DType::F64);
            let mut bytes = bytes_of(&filled).to_vec();
            let at = placed.count / 2 * 8;
            bytes[at..at + 8].copy_from_slice(&1e300_f64.to_ne_bytes());
            let (src, dst) = (room(from_at, bytes.len(), stream), room(to_at, placed.count * 4, stream));
            context().synchronize(stream).expect("allocated");
            upload(address(&src), &bytes);
            let to = Side { operand: placed.operand(dst.as_ptr(), DType::I32), device: device_of(to_at) };
            let from = Side { operand: placed.operand(src.as_ptr(), DType::F64), device: device_of(from_at) };
            // SAFETY: both are memory of their devices that the layouts reach, until the stream was waited for.
            let failed = unsafe { transfer::copy(&to, &from, &CopyOptions::default(), stream) }.err();
            context().synchronize(stream).expect("the stream works on");
            let is_loss = matches!(failed, Some(TransferError::Copy(CopyError::Loss(_))));
            assert!(is_loss, "{from_at:?} to {to_at:?}: {failed:?}");
        }
    }
}

#[test]
fn managed_memory_is_copied_by_the_device() {
    context();
    let managed = memory::managed(0).expect("managed memory");
    let stream = stream();
    let placed = Placed::new(LARGE, Lie::Compact);
    let filled = values(&placed, DType::F32);
    let dst = Buffer::new(managed, filled.len(), 64, stream.number()).expect("managed memory");
    let device = Device::new(DeviceKind::CUDA_MANAGED, 0);
    let to = Side { operand: placed.operand(dst.as_ptr(), DType::F32), device };
    let from = Side { operand: placed.operand(filled.as_ptr(), DType::F32), device: Device::CPU };
    // SAFETY: as above.
    let done = unsafe { transfer::copy(&to, &from, &CopyOptions::default(), stream) }.expect("the copy");
    assert_eq!(done.link_bytes, filled.len() as u64);
    context().synchronize(stream).expect("the copy");
    assert!(download(address(&dst), dst.len()) == bytes_of(&filled));
}

/// One value everywhere, by the kernels: runs at every place, and steps; what lies between stays.
#[test]
fn values_are_written_everywhere() {
    for dtype in [DType::U8, DType::F16, DType::F32, DType::F64, DType::C128] {
        let value: Vec<u8> = (1..=dtype.padded_size() as u8).collect();
        for (shape, lie) in [SMALL, MEDIUM].into_iter().flat_map(|s| [Lie::Compact, Lie::EveryOther].map(|l| (s, l))) {
            for shift in [0, 1, 4, 13] {
                let (placed, stream) = (Placed::new(shape, lie), stream());
                let size = dtype.padded_size();
                let dst = device_memory(placed.count * size + 16, stream);
                context().synchronize(stream).expect("allocated");
                upload(address(&dst), &vec![0x5A; dst.len()]);
                let operand = placed.operand(dst.as_ptr().wrapping_add(shift), dtype);
                let side = Side { operand, device: device_of(At::Device) };
                // SAFETY: memory of the device that the layout reaches, until the stream was waited for.
                let done = unsafe { transfer::fill(&side, &value, stream) }.expect("a fill");
                context().synchronize(stream).expect("the fill");
                let one_byte = size == 1 && lie == Lie::Compact;
                assert_eq!(done.road, if one_byte { Road::Driver } else { Road::Kernel });
                let mut expected = vec![0x5A; dst.len()];
                let step = if lie == Lie::Compact { 1 } else { 2 };
                for element in expected[shift..shift + placed.count * size].chunks_exact_mut(size).step_by(step) {
                    element.copy_from_slice(&value);
                }
                let found = download(address(&dst), dst.len());
                let wrong = found.iter().zip(&expected).position(|(a, b)| a != b);
                assert_eq!(wrong, None, "{dtype} {shape:?} {lie:?} at {shift}: the first wrong byte");
            }
        }
    }
}
