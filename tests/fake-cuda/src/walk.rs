//! Freehold's own kernels (crates/freehold-device/kernels), an element at a time. What casts mean is asked of the processor's
//! engine, one value each; which elements there are is walked here, without the planner that chose the kernel.

use freehold_tensor::copy::{self, CopyOptions, Lazy, OnLoss, Operand};
use freehold_tensor::{DType, Layout, StrideUnit};

use crate::memory::Launch;
use crate::status::{Outcome, Status};

/// The bytes of a `Walk`, the one parameter of every kernel.
pub(crate) const SIZES: &[usize] = &[240];
const MAX_AXES: usize = 8;

/// `Walk` in kernels/walk.cuh, read field by field.
struct Walk {
    dst: u64,
    src: u64,
    count: u64,
    lost: u64,
    src_kind: u32,
    dst_kind: u32,
    flags: u32,
    shape: Vec<i64>,
    dst_step: Vec<i64>,
    src_step: Vec<i64>,
}

impl Walk {
    fn read(bytes: &[u8]) -> Option<Walk> {
        let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let axes = word(44)? as usize;
        if axes == 0 || axes > MAX_AXES {
            return None;
        }
        let list = |at: usize| (0..axes).map(|i| long(at + 8 * i).map(u64::cast_signed)).collect::<Option<Vec<i64>>>();
        Some(Walk {
            dst: long(0)?,
            src: long(8)?,
            count: long(16)?,
            lost: long(24)?,
            src_kind: word(32)?,
            dst_kind: word(36)?,
            flags: word(40)?,
            shape: list(48)?,
            dst_step: list(48 + 64)?,
            src_step: list(48 + 128)?,
        })
    }

    /// Calls `each` with the addresses of every element, and its index along the last axis.
    fn each(&self, mut each: impl FnMut(u64, u64, i64) -> Outcome) -> Outcome {
        if self.shape.iter().product::<i64>().unsigned_abs() != self.count {
            return Err(Status::INVALID_VALUE);
        }
        let mut index = vec![0_i64; self.shape.len()];
        for _ in 0..self.count {
            let offset = |steps: &[i64]| index.iter().zip(steps).map(|(i, step)| i * step).sum::<i64>();
            let (dst, src) = (offset(&self.dst_step), offset(&self.src_step));
            let last = index.last().copied().unwrap_or(0);
            each(self.dst.wrapping_add_signed(dst), self.src.wrapping_add_signed(src), last)?;
            for (i, n) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *n {
                    break;
                }
                *i = 0;
            }
        }
        Ok(())
    }
}

/// `Kind` in kernels/cast.cuh.
const KINDS: [DType; 21] = [
    DType::BOOL,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
    DType::F8_E3M4,
    DType::F8_E4M3,
    DType::F8_E4M3B11FNUZ,
    DType::F8_E4M3FN,
    DType::F8_E4M3FNUZ,
    DType::F8_E5M2,
    DType::F8_E5M2FNUZ,
    DType::F8_E8M0FNU,
];

const SATURATE: u32 = 1;
const SWAP_SRC: u32 = 2;
const NEG: u32 = 4;
const CONJ: u32 = 8;
const ZERO_IMAG: u32 = 16;
const ANY_PART: u32 = 32;

/// Whether a name is one of these kernels'.
pub(crate) fn knows(name: &str) -> bool {
    ["fh_cast_", "fh_fill_", "fh_move_", "fh_resolve_", "fh_stride_", "fh_walk_", "fh_turn_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Runs one of them.
pub(crate) fn run(launch: &Launch<'_>) -> Outcome {
    let walk = Walk::read(launch.params.bytes(0)?).ok_or(Status::INVALID_VALUE)?;
    if launch.block != [256, 1, 1] || launch.grid[0] == 0 || launch.grid[1..] != [1, 1] {
        return Err(Status::INVALID_VALUE);
    }
    if launch.name.starts_with("fh_fill_") {
        return fill(launch, &walk);
    }
    let digits = launch.name.rsplit('_').next().and_then(|part| part.parse::<usize>().ok());
    match digits {
        Some(size) if !launch.name.starts_with("fh_resolve_") => walk.each(|dst, src, _| {
            // The real kernel loads whole elements.
            if dst % size as u64 != 0 || src % size as u64 != 0 {
                return Err(Status::ILLEGAL_ADDRESS);
            }
            let mut bytes = vec![0; size];
            launch.memory.read(src, &mut bytes)?;
            launch.memory.write(dst, &bytes)
        }),
        _ => cast(launch, &walk),
    }
}

/// Writes one value everywhere: elements, or runs of bytes, of which the last axis counts the 16 bytes that each touches.
fn fill(launch: &Launch<'_>, walk: &Walk) -> Outcome {
    let mut value = [0_u8; 16];
    value[..8].copy_from_slice(&walk.src.to_ne_bytes());
    value[8..].copy_from_slice(&walk.lost.to_ne_bytes());
    if launch.name == "fh_fill_elements" {
        let size = walk.src_kind as usize;
        let value = value.get(..size).ok_or(Status::INVALID_VALUE)?;
        return walk.each(|dst, _, _| {
            // The real kernel stores whole elements.
            if dst % size as u64 != 0 {
                return Err(Status::ILLEGAL_ADDRESS);
            }
            launch.memory.write(dst, value)
        });
    }
    let touched = walk.shape.last().copied().unwrap_or(0);
    let bytes = usize::try_from((touched - 2) * 16 + i64::from(walk.src_kind)).map_err(|_| Status::INVALID_VALUE)?;
    let run: Vec<u8> = value.into_iter().cycle().take(bytes).collect();
    walk.each(|dst, _, k| if k == 0 { launch.memory.write(dst, &run) } else { Ok(()) })
}

fn cast(launch: &Launch<'_>, walk: &Walk) -> Outcome {
    let kind = |number: u32| KINDS.get(number as usize).copied().ok_or(Status::INVALID_VALUE);
    let (from, to) = (kind(walk.src_kind)?, kind(walk.dst_kind)?);
    let mut lost = false;
    walk.each(|dst, src, last| {
        let mut result = vec![0_u8; to.padded_size()];
        if walk.flags & ZERO_IMAG != 0 && last % 2 == 1 {
            return launch.memory.write(dst, &result);
        }
        let parts = if walk.flags & ANY_PART != 0 { 2 } else { 1 };
        let mut traits = Lazy::empty();
        traits.set(Lazy::SWAPPED, walk.flags & SWAP_SRC != 0);
        traits.set(Lazy::NEG, (walk.flags & NEG != 0) != (walk.flags & CONJ != 0 && last % 2 == 1));
        let mut value = vec![0_u8; from.padded_size()];
        for part in 0..parts {
            // The second part counts where the first is not true.
            if part == 0 || result.iter().all(|&byte| byte == 0) {
                launch.memory.read(src + part * value.len() as u64, &mut value)?;
                lost |= one(&mut result, to, &mut value, from, traits, walk.flags & SATURATE != 0)?;
            }
        }
        launch.memory.write(dst, &result)
    })?;
    if lost && walk.lost != 0 {
        launch.memory.store(walk.lost, 1_u32)?;
    }
    Ok(())
}

/// Casts one value, and says whether it was lost.
fn one(
    result: &mut [u8],
    to: DType,
    value: &mut [u8],
    from: DType,
    traits: Lazy,
    saturate: bool,
) -> Result<bool, Status> {
    let layout = Layout::new(&[], &[]);
    let side = |data: *mut u8, dtype, traits| Operand { data, dtype, layout, unit: StrideUnit::Elements, traits };
    let (target, source) = (side(result.as_mut_ptr(), to, Lazy::empty()), side(value.as_mut_ptr(), from, traits));
    let copy = |on_loss| {
        let options = CopyOptions { saturate, ..CopyOptions::new(on_loss) };
        // SAFETY: both are one element of ours.
        unsafe { copy::copy(&target, &source, &options) }
    };
    let lost = matches!(copy(OnLoss::Error), Err(copy::CopyError::Loss(_)));
    copy(OnLoss::Allow).map_err(|_| Status::INVALID_VALUE)?;
    Ok(lost)
}
