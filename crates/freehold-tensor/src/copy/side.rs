//! One operand's strides in the unit its offsets are counted in.

use super::Operand;
use super::lazy::Lazy;
use super::plan::{Axes, Axis};
use super::run::Unit;
use crate::{FieldError, StrideUnit};

/// How an operand's elements lie in memory.
pub(super) struct Side {
    pub unit: Unit,
    /// What a stride is multiplied by.
    scale: i64,
    /// Values of an element that are moved one by one, and the step between them; 1 where it moves whole.
    pub lanes: usize,
    lane_step: isize,
}

impl Side {
    /// `whole`: elements of several lanes may move as one, because nothing happens to their values.
    #[inline]
    pub(super) fn new(operand: &Operand<'_>, whole: bool) -> Result<Side, FieldError> {
        let (dtype, padded) = (operand.dtype, operand.traits.contains(Lazy::PADDED));
        let in_bytes = operand.unit == StrideUnit::Bytes;
        let bits = i64::from(dtype.element_bits());
        if let Some(size) = dtype.size()
            && (whole || dtype.lanes == 1 || dtype.bits.is_multiple_of(8))
        {
            let lanes = if whole { 1 } else { usize::from(dtype.lanes) };
            let scale = if in_bytes { 1 } else { size as i64 };
            let lane = if lanes == 1 { size } else { size / lanes };
            return Ok(Side { unit: Unit::Bytes(lane), scale, lanes, lane_step: lane as isize });
        }
        if padded && bits < 8 && dtype.lanes == 1 {
            return Ok(Side { unit: Unit::Bytes(1), scale: 1, lanes: 1, lane_step: 1 });
        }
        // Packed: offsets in bits. An element wider than a byte (three lanes of 4 bits, one of 12) is moved in the
        // widest equal pieces that a byte holds.
        let piece = if dtype.bits < 8 { dtype.bits } else { largest_divisor(dtype.bits) };
        let stride_bits = if padded { dtype.padded_size() as i64 * 8 } else { bits };
        Ok(Side {
            unit: Unit::Bits(u32::from(piece)),
            scale: if in_bytes { 8 } else { stride_bits },
            lanes: (bits / i64::from(piece)) as usize,
            lane_step: isize::from(piece),
        })
    }

    /// A stride in this side's unit.
    #[inline]
    fn step(&self, operand: &Operand<'_>, i: usize) -> Result<isize, FieldError> {
        let stride = operand.layout.strides[i];
        stride
            .checked_mul(self.scale)
            .and_then(|step| isize::try_from(step).ok())
            .filter(|step| {
                // All offsets along the axis are representable, in bits too.
                step.checked_mul(operand.layout.shape[i] as isize).is_some_and(|all| all.unsigned_abs() < 1 << 62)
            })
            .ok_or_else(|| FieldError::at("strides", i, stride, "keep the tensor's extent below 2^59 bytes"))
    }
}

/// The largest divisor of `bits` below 8.
fn largest_divisor(bits: u8) -> u8 {
    (1..8).rev().find(|d| bits.is_multiple_of(*d)).unwrap_or(1)
}

/// Pushes the axes of a copy in the order of the shape, a last one for lanes.
#[inline]
pub(super) fn push_axes(
    axes: &mut Axes,
    dst: &Side,
    src: &Side,
    d: &Operand<'_>,
    s: &Operand<'_>,
) -> Result<(), FieldError> {
    // Where there is no element, strides mean nothing and may be anything.
    let moves = !s.layout.is_empty();
    for (i, &n) in s.layout.shape.iter().enumerate() {
        let (dst, src) = if moves && n > 1 { (dst.step(d, i)?, src.step(s, i)?) } else { (0, 0) };
        axes.push(Axis { n: n as usize, dst, src });
    }
    if src.lanes > 1 {
        axes.push(Axis { n: src.lanes, dst: dst.lane_step, src: src.lane_step });
    }
    Ok(())
}
