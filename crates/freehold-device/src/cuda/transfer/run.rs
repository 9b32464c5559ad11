//! A copy, along its road.

use freehold_tensor::copy::{self, CopyError, CopyOptions, Lazy, Operand};
use freehold_tensor::{DType, DeviceKind, Layout, compact_strides};

use super::device::{self, Temporary};
use super::roads::{self, is_dense, order_of};
use super::rows::Rows;
use super::tuning::tuning;
use super::{Done, Plan, Road, Side, TransferError, host, peer, staged};
use crate::cuda::{Context, CudaError, Event, StreamRef};

/// As [`super::copy`], of sides made [plain](roads::plain).
///
/// # Safety
///
/// As [`super::copy`].
pub(super) unsafe fn copy(
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Done, TransferError> {
    let context = match [dst, src].into_iter().find(|side| side.is_on_device()) {
        Some(side) => Some(Context::of(side.device.id)?),
        None => None,
    };
    let plan = roads::plan(dst, src, options)?;
    let (Some(context), false) = (context, plan.road == Road::Nothing) else {
        // SAFETY: forwarded from the caller: both sides are the host's, or nothing.
        unsafe { copy::copy(&dst.operand, &src.operand, options) }?;
        return Ok(Done { road: plan.road, link_bytes: 0, event: None });
    };
    let captured = context.is_capturing(stream)?;
    if captured {
        may_capture(dst, src, plan.road)?;
    }
    let on_host = || {
        // SAFETY: forwarded from the caller.
        unsafe { host::copy(dst, src, options, stream) }
    };
    // SAFETY: forwarded from the caller, here and in every road.
    let done = unsafe {
        match plan.road {
            Road::Driver => host::copy_same(context, dst, src, stream, captured),
            Road::Pitched | Road::Batched => rows(context, &plan, dst, src, stream, captured),
            Road::Kernel => match device::copy(dst, src, options, stream) {
                Ok(None) => on_host(),
                Ok(Some(done)) => return Ok(done),
                Err(error) => return Err(error),
            },
            Road::Peer => peer::copy_same(dst, src, stream, captured),
            Road::PeerWithKernels => match peer::copy(dst, src, options, stream) {
                Ok(None) => on_host(),
                Ok(Some(done)) => Ok(done),
                Err(error) => Err(error),
            },
            Road::Staged | Road::WithKernel | Road::StagedWithKernel if dst.is_on_device() => {
                up(context, &plan, dst, src, options, stream)
            }
            Road::Staged | Road::WithKernel | Road::StagedWithKernel => down(context, &plan, dst, src, options, stream),
            _ => on_host(),
        }
    };
    match done {
        // What was lost is said of the whole, in the words that the host has; what needs memory that there is none of can do
        // without.
        Err(TransferError::Copy(CopyError::Loss(_) | CopyError::Unsupported { .. }) | TransferError::Alloc(_))
            if !captured && plan.road != Road::Host =>
        {
            if host::is_same(dst, src) {
                // SAFETY: forwarded from the caller.
                return unsafe { host::copy_same(context, dst, src, stream, captured) };
            }
            on_host()
        }
        done => done,
    }
}

/// Whether a road can be part of a graph: nothing on it waits, and no memory on it is ours or may be gone at the replay.
fn may_capture(dst: &Side<'_>, src: &Side<'_>, road: Road) -> Result<(), CudaError> {
    if !dst.is_on_device() {
        return Err(CudaError::Capturing { what: "a copy into host memory, which must be waited for" });
    }
    let pageable = src.device.kind == DeviceKind::CPU;
    if matches!(road, Road::Driver | Road::Pitched | Road::Kernel | Road::Peer) && !pageable {
        return Ok(());
    }
    let what = if pageable { "a copy of pageable memory" } else { "a copy that casts or packs on the way" };
    Err(CudaError::Capturing { what })
}

/// Rows or runs, by the driver.
///
/// # Safety
///
/// As [`super::copy`].
unsafe fn rows(
    context: &'static Context,
    plan: &Plan,
    dst: &Side<'_>,
    src: &Side<'_>,
    stream: StreamRef,
    captured: bool,
) -> Result<Done, TransferError> {
    let (to, from) = (dst.operand.dtype, src.operand.dtype);
    let rows = Rows::new(&dst.operand, &src.operand).ok_or(CopyError::Unsupported { from, to })?;
    // SAFETY: the runs are what both layouts reach, which the caller vouches for; no side is pageable.
    let queued = unsafe {
        if plan.road == Road::Pitched { rows.copy(context, dst, src, stream) } else { rows.copy_batch(context, stream) }
    };
    if let Err(error) = queued {
        // Some may be queued, and the caller gives the memory back.
        if !captured {
            let _ = context.synchronize(stream);
        }
        return Err(error);
    }
    let event = if captured { None } else { Some(super::after(context, stream)?) };
    Ok(Done { road: plan.road, link_bytes: plan.link_bytes, event })
}

/// Memory of a device for elements of a dtype, with strides that leave no gaps.
fn temporary<'a>(
    context: &'static Context,
    shape: &'a [i64],
    strides: &'a [i64],
    dtype: DType,
    stream: StreamRef,
) -> Result<(Temporary, Operand<'a>), TransferError> {
    let layout = Layout::new(shape, strides);
    let bytes = layout.numel().map_err(CopyError::from)? as usize * dtype.padded_size();
    let room = Temporary::new(context, bytes, stream)?;
    let operand = Operand { data: room.as_ptr(), dtype, layout, unit: Default::default(), traits: Lazy::empty() };
    Ok((room, operand))
}

/// # Safety
///
/// As [`super::copy`], from the host.
unsafe fn up(
    context: &'static Context,
    plan: &Plan,
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Done, TransferError> {
    let done = |event| Ok(Done { road: plan.road, link_bytes: plan.link_bytes, event });
    let tuning = tuning(context);
    if plan.road == Road::Staged {
        // SAFETY: the destination has no gaps, and the source is the caller's.
        unsafe { staged::upload(context, &dst.operand, &src.operand, options, stream, &tuning) }?;
        return done(None);
    }
    let shape = dst.operand.layout.shape;
    let compact = compact_strides(shape, order_of(dst)).map_err(CopyError::from)?;
    let strides = if plan.lies { src.operand.layout.strides } else { &compact };
    let (room, link) = temporary(context, shape, strides, plan.link, stream)?;
    let kernel = |from: Operand<'_>| {
        let from = Side { operand: from, device: dst.device };
        // SAFETY: the temporary holds the values, and the destination is the caller's.
        let done = unsafe { device::copy(dst, &from, options, stream) }?;
        let unsupported = CopyError::Unsupported { from: from.operand.dtype, to: dst.operand.dtype };
        done.ok_or(TransferError::from(unsupported))
    };
    if plan.road == Road::StagedWithKernel {
        // SAFETY: the room has no gaps, and is as long as the pieces.
        unsafe { staged::upload(context, &link, &src.operand, options, stream, &tuning) }?;
        let _ordered = kernel(link)?;
        drop(room);
        return done(None);
    }
    // Page-locked, without gaps and as wide as the link: as it lies.
    let (to, from) = (room.as_ptr().addr() as u64, src.operand.data.addr() as u64);
    // SAFETY: the room is as long as the source, which has no gaps.
    unsafe { host::driver_copy(context, to, from, plan.link_bytes as usize, stream) }?;
    let read = super::after(context, stream)?;
    match kernel(Operand { traits: src.operand.traits, ..link }) {
        // The source was read before the kernel, but the destination is complete after it.
        Ok(kernel) => done(kernel.event),
        Err(error) => {
            // The link may still read the source, which the caller gives back.
            let _ = read.synchronize();
            Err(error)
        }
    }
}

/// # Safety
///
/// As [`super::copy`], into the host.
unsafe fn down(
    context: &'static Context,
    plan: &Plan,
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Done, TransferError> {
    let done = |event: Option<Event>| Ok(Done { road: plan.road, link_bytes: plan.link_bytes, event });
    let tuning = tuning(context);
    if plan.road == Road::Staged {
        // SAFETY: the source has no gaps, and the destination is the caller's.
        unsafe { staged::download(context, &dst.operand, &src.operand, options, stream, &tuning) }?;
        return done(None);
    }
    let shape = dst.operand.layout.shape;
    let compact = compact_strides(shape, order_of(dst)).map_err(CopyError::from)?;
    // In the destination's own order, where it has no gaps.
    let lies = is_dense(dst);
    let strides = if lies { dst.operand.layout.strides } else { &compact };
    let (room, link) = temporary(context, shape, strides, plan.link, stream)?;
    let place = Side { operand: link, device: src.device };
    // Lazy bits are resolved by the kernel, so that what crosses is values.
    // SAFETY: the room has no gaps, and the source is the caller's.
    if unsafe { device::copy(&place, src, options, stream) }?.is_none() {
        return Err(CopyError::Unsupported { from: src.operand.dtype, to: plan.link }.into());
    }
    if plan.road == Road::StagedWithKernel {
        // SAFETY: the link's side has no gaps.
        unsafe { staged::download(context, &dst.operand, &link, options, stream, &tuning) }?;
        drop(room);
        return done(None);
    }
    let (to, from) = (dst.operand.data.addr() as u64, room.as_ptr().addr() as u64);
    // SAFETY: the destination has no gaps and is as long.
    unsafe { host::driver_copy(context, to, from, plan.link_bytes as usize, stream) }?;
    let event = super::after(context, stream)?;
    drop(room);
    done(Some(event))
}
