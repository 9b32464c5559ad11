//! Finds the first value that a failed copy would have changed.

use std::mem::MaybeUninit;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::convert::Convert;
use super::error::{Loss, LossValue};
use super::plan::{Axes, Axis, Plan, join, step_over, walk};
use super::run::{Steps, Unit};
use super::{Job, OnLoss, Operand};
use crate::{DType, Dims};

/// Elements that are looked at together.
const CHUNK: usize = 256;

/// The largest block element: two components of 8 bytes.
type Scratch = [MaybeUninit<[u64; 2]>; CHUNK];

/// The report on a copy that lost `count` values.
///
/// # Safety
///
/// As for [`super::copy`], for the source; and the copy that `job` describes lost something.
pub(super) unsafe fn describe(job: &Job, src: &Operand<'_>, to: DType, count: u64) -> Loss {
    let lanes = job.lanes as u64;
    let total = src.layout.numel().map_or(0, i64::unsigned_abs) * lanes;
    // SAFETY: the caller's guarantee.
    let (linear, first_value) = unsafe { first(job, src.data) };
    let mut rest = linear / job.lanes;
    let mut first_index: Dims = SmallVec::from_elem(0, src.layout.ndim());
    for (index, &n) in first_index.iter_mut().zip(src.layout.shape).rev() {
        *index = (rest % n as usize) as i64;
        rest /= n as usize;
    }
    Loss { count, total, first_index, first_value, from: src.dtype, to }
}

/// The position in C order and the value of the first loss.
///
/// # Safety
///
/// As for [`describe`].
unsafe fn first(job: &Job, src: *const u8) -> (usize, LossValue) {
    // In C order, so only neighbours that the source itself joins may be joined.
    let mut axes: Axes = job.axes.iter().copied().filter(|axis| axis.n > 1).collect();
    join(&mut axes, |outer, inner| Some(outer.src) == step_over(inner.src, inner.n));
    let (col, outer) = axes.split_last().expect("join leaves at least one axis");
    let mut position = 0;
    let found = walk(outer, 0, 0, |_, start| {
        for c in (0..col.n).step_by(CHUNK) {
            let n = CHUNK.min(col.n - c);
            // SAFETY: `n` elements of the source's layout, read as the copy read them.
            if let Some((i, value)) = unsafe { first_of_run(job, src, start + c as isize * col.src, col.src, n) } {
                return ControlFlow::Break((position + i, value));
            }
            position += n;
        }
        ControlFlow::Continue(())
    });
    // A source that another thread repaired meanwhile has no loss left; the copy's count still stands.
    found.unwrap_or((0, LossValue::Int(0)))
}

/// # Safety
///
/// `n` elements from `at`, `step` apart, are readable, and `n` is at most [`CHUNK`].
unsafe fn first_of_run(job: &Job, src: *const u8, at: isize, step: isize, n: usize) -> Option<(usize, LossValue)> {
    let convert = job.steps.convert?;
    let mut values: Scratch = [MaybeUninit::uninit(); CHUNK];
    let mut results: Scratch = [MaybeUninit::uninit(); CHUNK];
    let (values, results) = (values.as_mut_ptr().cast::<u8>(), results.as_mut_ptr().cast::<u8>());
    let size = job.steps.src_unit.block_size();
    // SAFETY: the source is read where the caller allows; both scratch arrays hold CHUNK elements of 16 bytes.
    unsafe {
        read_run(&job.steps, values, src, at, step, n);
        if convert.run(results, values, n) == 0 {
            return None;
        }
        let i = (0..n).find(|i| convert.run(results, values.add(i * size), 1) != 0)?;
        Some((i, value_of(job.from, values.add(i * size))))
    }
}

/// Reads a run of source values into `out`, compact and resolved.
///
/// # Safety
///
/// As for [`first_of_run`]; `out` has room for `n` elements.
unsafe fn read_run(steps: &Steps, out: *mut u8, src: *const u8, at: isize, step: isize, n: usize) {
    let size = steps.src_unit.block_size();
    let axis = Axis { n, dst: size as isize, src: step };
    let gather = Steps { dst_unit: Unit::Bytes(size), convert: None, encode: steps.encode.nothing(), ..*steps };
    let mut plan = Plan::new(&[axis]);
    plan.src_start += at;
    // SAFETY: the plan reaches the caller's elements and `n` compact ones of `out`.
    unsafe { gather.run(out, src, &plan) };
}

/// The value of one element in native bytes.
///
/// # Safety
///
/// `at` is readable for one scalar of `dtype`, as it is in a block.
unsafe fn value_of(dtype: DType, at: *const u8) -> LossValue {
    let scalar = DType { lanes: 1, ..dtype };
    let wide = if scalar.is_float() {
        DType::F64
    } else if scalar.code == DType::CODE_INT {
        DType::I64
    } else {
        DType::U64
    };
    let mut bytes = [0u8; 8];
    if let Some(convert) = Convert::new(scalar, wide, OnLoss::Allow, false) {
        // SAFETY: one scalar is readable, and every wide type has 8 bytes.
        unsafe { convert.run(bytes.as_mut_ptr(), at, 1) };
    }
    match wide {
        DType::F64 => LossValue::Float(f64::from_ne_bytes(bytes)),
        DType::I64 => LossValue::Int(i64::from_ne_bytes(bytes).into()),
        _ => LossValue::Int(u64::from_ne_bytes(bytes).into()),
    }
}
