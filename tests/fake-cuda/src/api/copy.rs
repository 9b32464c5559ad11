//! Copies and fills on streams.

use std::ffi::c_void;

use crate::abi::{Copy2D, Copy3D, CopyAttributes, DevicePtr, Handle, memory_type};
use crate::copy::{Order, Said, Shape, Side};
use crate::entry::{driver, give};
use crate::state::lock;
use crate::status::{Outcome, Status};
use crate::stream::{Op, wait};

/// Queues one copy. Returns when the copy is done if its destination is ordinary host memory.
///
/// # Safety
///
/// * Ordinary host memory on either side is there as `cuda.h` asks.
unsafe fn copy(from: Side, to: Side, shape: Shape, stream: usize) -> Outcome {
    let mut state = lock();
    state.current()?;
    let key = state.stream_key(stream)?;
    // SAFETY: a source is read now; a destination is written before this returns.
    let (job, waits) = unsafe { state.copy_job(from, to, shape, Order::Now) }?;
    let Some(job) = job else { return Ok(()) };
    if job.is_pageable() && state.streams[&key].capture.is_some() {
        return state.not_captured(key);
    }
    let point = state.enqueue(key, Op::Copy(vec![job]), Vec::new())?;
    if waits {
        let device = state.streams[&key].device;
        return wait(state, &[point])?.usable(device);
    }
    Ok(())
}

/// One side of a copy in two or three dimensions.
fn side(
    kind: u32,
    host: u64,
    device: u64,
    array: Handle,
    offset: Option<usize>,
    pitch: usize,
    slice: usize,
) -> Outcome<Side> {
    let (said, base) = match kind {
        memory_type::HOST => (Said::Host, host),
        memory_type::DEVICE => (Said::Device, device),
        memory_type::UNIFIED => (Said::Unified, device),
        _ => return Err(Status::INVALID_VALUE),
    };
    let address = offset.and_then(|offset| base.checked_add(offset as u64));
    if !array.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    Ok(Side { said, address: address.ok_or(Status::INVALID_VALUE)?, pitch, slice })
}

/// `a + b * c`, or nothing.
fn offset(a: usize, b: usize, c: usize) -> Option<usize> {
    b.checked_mul(c)?.checked_add(a)
}

driver! {
    /// Between whatever memory.
    fn cuMemcpyAsync(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        let (to, from) = (Side::line(Said::Unified, to), Side::line(Said::Unified, from));
        // SAFETY: as the caller vouches.
        unsafe { copy(from, to, Shape::line(bytes), stream.addr()) }
    }

    /// From the host to a device.
    fn cuMemcpyHtoDAsync_v2(to: DevicePtr, from: *const c_void, bytes: usize, stream: Handle) {
        let (to, from) = (Side::line(Said::Device, to), Side::line(Said::Host, from.addr() as u64));
        // SAFETY: as the caller vouches.
        unsafe { copy(from, to, Shape::line(bytes), stream.addr()) }
    }

    /// From a device to the host.
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: DevicePtr, bytes: usize, stream: Handle) {
        let (to, from) = (Side::line(Said::Host, to.addr() as u64), Side::line(Said::Device, from));
        // SAFETY: as the caller vouches.
        unsafe { copy(from, to, Shape::line(bytes), stream.addr()) }
    }

    /// Between devices, or within one.
    fn cuMemcpyDtoDAsync_v2(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        let (to, from) = (Side::line(Said::Device, to), Side::line(Said::Device, from));
        // SAFETY: no side is ordinary host memory.
        unsafe { copy(from, to, Shape::line(bytes), stream.addr()) }
    }

    /// Between devices, whose contexts are named.
    fn cuMemcpyPeerAsync(
        to: DevicePtr,
        to_context: Handle,
        from: DevicePtr,
        from_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        {
            let state = lock();
            for (context, address) in [(to_context, to), (from_context, from)] {
                let device = state.context_of(context.addr())?;
                state.usable(device)?;
                let block = state.block(address).ok_or(Status::INVALID_VALUE)?;
                if block.kind == crate::state::Kind::Device && block.device != device {
                    return Err(Status::INVALID_VALUE);
                }
            }
        }
        let (to, from) = (Side::line(Said::Device, to), Side::line(Said::Device, from));
        // SAFETY: no side is ordinary host memory.
        unsafe { copy(from, to, Shape::line(bytes), stream.addr()) }
    }

    /// Rows.
    fn cuMemcpy2DAsync_v2(copy_of: *const Copy2D, stream: Handle) {
        if copy_of.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as the caller vouches.
        let c = unsafe { copy_of.read_unaligned() };
        // A pitch may be 0 where there is one row.
        let too_narrow = |pitch: usize, x: usize| c.height > 1 && x.checked_add(c.width).is_none_or(|end| pitch < end);
        if too_narrow(c.src_pitch, c.src_x) || too_narrow(c.dst_pitch, c.dst_x) {
            return Err(Status::INVALID_VALUE);
        }
        let at = offset(c.src_x, c.src_y, c.src_pitch);
        let from = side(c.src_type, c.src_host.addr() as u64, c.src_device, c.src_array, at, c.src_pitch, 0)?;
        let at = offset(c.dst_x, c.dst_y, c.dst_pitch);
        let to = side(c.dst_type, c.dst_host.addr() as u64, c.dst_device, c.dst_array, at, c.dst_pitch, 0)?;
        let shape = Shape { width: c.width, height: c.height, depth: 1 };
        // SAFETY: as the caller vouches.
        unsafe { copy(from, to, shape, stream.addr()) }
    }

    /// Slices of rows.
    fn cuMemcpy3DAsync_v2(copy_of: *const Copy3D, stream: Handle) {
        if copy_of.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: as the caller vouches.
        let c = unsafe { copy_of.read_unaligned() };
        if c.src_lod != 0 || c.dst_lod != 0 || !c.reserved0.is_null() || !c.reserved1.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let bad = |pitch: usize, height: usize, x: usize, y: usize| {
            let rows = c.height > 1 || c.depth > 1;
            let narrow = rows && x.checked_add(c.width).is_none_or(|end| pitch < end);
            narrow || (c.depth > 1 && y.checked_add(c.height).is_none_or(|end| height < end))
        };
        if bad(c.src_pitch, c.src_height, c.src_x, c.src_y) || bad(c.dst_pitch, c.dst_height, c.dst_x, c.dst_y) {
            return Err(Status::INVALID_VALUE);
        }
        let slice = |pitch: usize, height: usize| pitch.checked_mul(height).ok_or(Status::INVALID_VALUE);
        let (from_slice, to_slice) = (slice(c.src_pitch, c.src_height)?, slice(c.dst_pitch, c.dst_height)?);
        let at = offset(c.src_x, c.src_y, c.src_pitch).and_then(|row| offset(row, c.src_z, from_slice));
        let host = c.src_host.addr() as u64;
        let from = side(c.src_type, host, c.src_device, c.src_array, at, c.src_pitch, from_slice)?;
        let at = offset(c.dst_x, c.dst_y, c.dst_pitch).and_then(|row| offset(row, c.dst_z, to_slice));
        let host = c.dst_host.addr() as u64;
        let to = side(c.dst_type, host, c.dst_device, c.dst_array, at, c.dst_pitch, to_slice)?;
        let shape = Shape { width: c.width, height: c.height, depth: c.depth };
        // SAFETY: as the caller vouches.
        unsafe { copy(from, to, shape, stream.addr()) }
    }

    /// Sets bytes of a device.
    fn cuMemsetD8Async(start: DevicePtr, byte: u8, count: usize, stream: Handle) {
        let mut state = lock();
        state.current()?;
        let key = state.stream_key(stream.addr())?;
        if count == 0 {
            return Ok(());
        }
        let block = state.block(start).ok_or(Status::INVALID_VALUE)?;
        if count as u64 > block.len - (start - block.start) {
            return Err(Status::INVALID_VALUE);
        }
        state.enqueue(key, Op::Set { start, len: count as u64, byte }, Vec::new()).map(drop)
    }

    /// Many copies at once, in no order among themselves. Not on the legacy default stream, and not in a capture.
    fn cuMemcpyBatchAsync(
        to: *mut DevicePtr,
        from: *mut DevicePtr,
        bytes: *mut usize,
        count: usize,
        attributes: *mut CopyAttributes,
        first_of: *mut usize,
        kinds: usize,
        failed: *mut usize,
        stream: Handle,
    ) {
        // What fails before any copy is looked at fails the whole batch.
        if !failed.is_null() {
            // SAFETY: as the caller vouches.
            unsafe { give(failed, usize::MAX) }?;
        }
        let missing = to.is_null() || from.is_null() || bytes.is_null() || attributes.is_null() || first_of.is_null();
        if missing || count == 0 || kinds == 0 || kinds > count || stream.addr() < 2 {
            return Err(Status::INVALID_VALUE);
        }
        let mut state = lock();
        state.current()?;
        let key = state.stream_key(stream.addr())?;
        if state.streams[&key].capture.is_some() {
            return state.not_captured(key);
        }
        // SAFETY: the caller gives as many attributes, and first copies of each, as it says.
        let kind = |i: usize| unsafe { (first_of.add(i).read(), attributes.add(i).read().src_access_order) };
        let kinds: Vec<(usize, u32)> = (0..kinds).map(kind).collect();
        let ascending = kinds[0].0 == 0 && kinds.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascending || kinds.iter().any(|&(first, order)| first >= count || !(1..=3).contains(&order)) {
            return Err(Status::INVALID_VALUE);
        }
        let (mut jobs, mut waits) = (Vec::new(), false);
        for i in 0..count {
            // SAFETY: the caller gives `count` of each.
            let (to, from, bytes) = unsafe { (to.add(i).read(), from.add(i).read(), bytes.add(i).read()) };
            let access = kinds.iter().rev().find(|&&(first, _)| first <= i).map_or(1, |&(_, order)| order);
            // In stream order (1) or at any time (3), the source is read late here; during the call (2), now.
            let order = if access == 2 { Order::Now } else { Order::Stream };
            let (to, from) = (Side::line(Said::Unified, to), Side::line(Said::Unified, from));
            // SAFETY: as the caller vouches: a source that is read late is there until the copy is done.
            let made = unsafe { state.copy_job(from, to, Shape::line(bytes), order) };
            let (job, late) = match made {
                Ok((Some(job), late)) => (job, late),
                Ok((None, _)) | Err(_) => {
                    if !failed.is_null() {
                        // SAFETY: as the caller vouches.
                        unsafe { give(failed, i) }?;
                    }
                    return Err(made.err().unwrap_or(Status::INVALID_VALUE));
                }
            };
            waits |= late;
            jobs.push(job);
        }
        let point = state.enqueue(key, Op::Copy(jobs), Vec::new())?;
        if waits {
            let device = state.streams[&key].device;
            return wait(state, &[point])?.usable(device);
        }
        Ok(())
    }
}
