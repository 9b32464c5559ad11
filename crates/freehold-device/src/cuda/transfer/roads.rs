//! Which road a copy takes, and the copy.

use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, Operand};
use freehold_tensor::{DType, DeviceKind, Order, compact_strides};

use super::device::{self, Temporary};
use super::{Done, Road, Side, TransferError, host, staged};
use crate::cuda::{Context, CudaError, Event, StreamRef};

/// Below this many bytes the driver's own way for pageable memory is as fast.
const STAGED_FROM: u64 = 256 << 10;

/// The road of a copy between host and device whose bytes are the same on both sides, or of any other, from metadata alone.
pub fn road(dst: &Side<'_>, src: &Side<'_>) -> Result<Road, TransferError> {
    let bytes = host::extent(dst)?.len();
    if bytes == 0 {
        return Ok(Road::Nothing);
    }
    Ok(match (dst.is_on_device(), src.is_on_device()) {
        (true, true) if dst.device.id == src.device.id && !shares_bytes(dst, src) => Road::Kernel,
        (true, true) if host::is_same(dst, src) => Road::Driver,
        (true, true) => Road::ThroughHost,
        _ => {
            let host_side = if dst.is_on_device() { src } else { dst };
            let pinned = host_side.device.kind == DeviceKind::CUDA_HOST;
            let same = host::is_same(dst, src);
            if same && (pinned || bytes < STAGED_FROM) {
                Road::Driver
            } else if shares_bytes(dst, src) || bytes < STAGED_FROM {
                Road::Host
            } else if same {
                Road::Staged
            } else {
                link_road(dst, src, pinned)
            }
        }
    })
}

/// The road of a large copy over the link that casts or lays out anew.
fn link_road(dst: &Side<'_>, src: &Side<'_>, pinned: bool) -> Road {
    let (to, from) = (dst.operand.dtype.padded_size(), src.operand.dtype.padded_size());
    if dst.is_on_device() {
        if pinned && is_dense(src) {
            Road::WithKernel
        } else if to <= from && is_compact(dst) {
            Road::Staged
        } else {
            Road::StagedWithKernel
        }
    } else if to > from && is_compact(src) && same_order(dst, src) {
        Road::Staged
    } else if pinned && to <= from && is_compact(dst) {
        Road::WithKernel
    } else {
        Road::StagedWithKernel
    }
}

/// Elements that a kernel cannot address, or cannot cast.
fn shares_bytes(dst: &Side<'_>, src: &Side<'_>) -> bool {
    let odd = |side: &Side<'_>| {
        side.operand.dtype.is_sub_byte() || side.operand.traits.contains(Lazy::PADDED) || side.operand.dtype.lanes != 1
    };
    odd(dst) || odd(src) || !dst.operand.traits.is_empty()
}

fn is_compact(side: &Side<'_>) -> bool {
    let layout = side.operand.layout;
    side.operand.unit == freehold_tensor::StrideUnit::Elements && (layout.is_c_contiguous() || layout.is_f_contiguous())
}

/// Whether the bytes that a side reaches are its elements, in any order of the axes.
fn is_dense(side: &Side<'_>) -> bool {
    let numel = side.operand.layout.numel().unwrap_or(0).unsigned_abs();
    let dense = host::extent(side).is_ok_and(|extent| extent.len() == numel * side.operand.dtype.padded_size() as u64);
    dense && side.operand.layout.first_not_packed().is_none()
}

fn same_order(dst: &Side<'_>, src: &Side<'_>) -> bool {
    let (d, s) = (dst.operand.layout, src.operand.layout);
    (d.is_c_contiguous() && s.is_c_contiguous()) || (d.is_f_contiguous() && s.is_f_contiguous())
}

/// As [`super::copy`].
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
    let road = road(dst, src)?;
    let on_host = || {
        // SAFETY: forwarded from the caller.
        unsafe { host::copy(dst, src, options, stream) }
    };
    let done = match road {
        // SAFETY: forwarded from the caller.
        Road::Kernel => match unsafe { device::copy(dst, src, options, stream) }? {
            Some(done) => return Ok(done),
            None => return on_host(),
        },
        Road::Staged | Road::WithKernel | Road::StagedWithKernel => {
            let context = Context::of(if dst.is_on_device() { dst } else { src }.device.id)?;
            if context.is_capturing(stream)? {
                let what = "a copy of pageable memory, or one that casts on the host";
                return Err(CudaError::Capturing { what }.into());
            }
            if dst.is_on_device() {
                // SAFETY: forwarded from the caller.
                unsafe { up(context, road, dst, src, options, stream) }
            } else {
                // SAFETY: forwarded from the caller.
                unsafe { down(context, road, dst, src, options, stream) }
            }
        }
        Road::Nothing => {
            // SAFETY: no element is reached; it is asked for what it has against the dtypes.
            unsafe { freehold_tensor::copy::copy(&dst.operand, &src.operand, options) }?;
            return Ok(Done { road, link_bytes: 0, event: None });
        }
        _ => return on_host(),
    };
    match done {
        // What was lost is said of the whole, and what no kernel does the processor does.
        Err(TransferError::Copy(CopyError::Loss(_) | CopyError::Unsupported { .. })) => on_host(),
        done => done,
    }
}

/// Memory of a device in the order of a side, compact, for elements of a dtype.
fn temporary<'a>(
    context: &'static Context,
    like: &Side<'a>,
    dtype: DType,
    strides: &'a [i64],
    stream: StreamRef,
) -> Result<(Temporary, Operand<'a>), TransferError> {
    let bytes = like.operand.layout.numel().unwrap_or(0) as usize * dtype.padded_size();
    let room = Temporary::new(context, bytes, stream)?;
    let layout = freehold_tensor::Layout::new(like.operand.layout.shape, strides);
    let operand = Operand { data: room.as_ptr(), dtype, layout, unit: Default::default(), traits: Lazy::empty() };
    Ok((room, operand))
}

fn order_of(side: &Side<'_>) -> Order {
    let layout = side.operand.layout;
    if layout.is_f_contiguous() && !layout.is_c_contiguous() { Order::F } else { Order::C }
}

/// # Safety
///
/// As [`super::copy`], from the host.
unsafe fn up(
    context: &'static Context,
    road: Road,
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Done, TransferError> {
    let strides = compact_strides(dst.operand.layout.shape, order_of(dst)).map_err(CopyError::from)?;
    let kernel = |from: Operand<'_>| {
        let from = Side { operand: from, device: dst.device };
        // SAFETY: the temporary holds the values, and the destination is the caller's.
        let done = unsafe { device::copy(dst, &from, options, stream) }?;
        done.ok_or(CopyError::Unsupported { from: from.operand.dtype, to: dst.operand.dtype })
            .map_err(TransferError::from)
    };
    match road {
        Road::WithKernel => {
            // As it lies: the temporary has the source's strides.
            let extent = host::extent(src)?;
            let room = Temporary::new(context, extent.len() as usize, stream)?;
            let first = (src.operand.data.addr() as u64).wrapping_add_signed(extent.lo);
            let (to, bytes) = (room.as_ptr().addr() as u64, extent.len());
            // SAFETY: the room is as long as the source's extent.
            unsafe { host::driver_copy(context, to, first, bytes as usize, stream) }?;
            let data = room.as_ptr().wrapping_offset(extent.lo.unsigned_abs() as isize);
            let queued = Event::recorded(context, stream);
            match kernel(Operand { data, ..src.operand }) {
                Ok(done) => Ok(Done { road, link_bytes: bytes, event: done.event }),
                Err(error) => {
                    // The link may still read the source.
                    let _ = queued.and_then(|event| event.synchronize());
                    Err(error)
                }
            }
        }
        Road::Staged => {
            // SAFETY: the destination is compact, and the source the caller's.
            unsafe { staged::upload(context, &dst.operand, &src.operand, options, stream) }?;
            let link_bytes = host::extent(dst)?.len();
            Ok(Done { road, link_bytes, event: None })
        }
        _ => {
            // The narrower dtype crosses the link, in the destination's order.
            let (to, from) = (dst.operand.dtype, src.operand.dtype);
            let narrow = if to.padded_size() <= from.padded_size() { to } else { from };
            let (room, link) = temporary(context, dst, narrow, &strides, stream)?;
            // SAFETY: the room is compact and as long as the pieces.
            unsafe { staged::upload(context, &link, &src.operand, options, stream) }?;
            let _ordered = kernel(link)?;
            drop(room);
            let link_bytes = link.layout.numel().unwrap_or(0).unsigned_abs() * narrow.padded_size() as u64;
            Ok(Done { road, link_bytes, event: None })
        }
    }
}

/// # Safety
///
/// As [`super::copy`], into the host.
unsafe fn down(
    context: &'static Context,
    road: Road,
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Done, TransferError> {
    if road == Road::Staged {
        // SAFETY: the source is compact, and in the destination's order.
        unsafe { staged::download(context, &dst.operand, &src.operand, options, stream) }?;
        return Ok(Done { road, link_bytes: host::extent(src)?.len(), event: None });
    }
    let (to, from) = (dst.operand.dtype, src.operand.dtype);
    let narrow = if to.padded_size() <= from.padded_size() { to } else { from };
    let strides = compact_strides(dst.operand.layout.shape, order_of(dst)).map_err(CopyError::from)?;
    let (room, link) = temporary(context, dst, narrow, &strides, stream)?;
    let place = Side { operand: link, device: src.device };
    // Lazy bits are resolved by the kernel, so that what crosses is values.
    // SAFETY: the room is compact, and the source the caller's.
    if unsafe { device::copy(&place, src, options, stream) }?.is_none() {
        return Err(CopyError::Unsupported { from, to: narrow }.into());
    }
    let link_bytes = link.layout.numel().unwrap_or(0).unsigned_abs() * narrow.padded_size() as u64;
    let event = if road == Road::WithKernel {
        let event = Event::new(context)?;
        let (host, from) = (dst.operand.data.addr() as u64, room.as_ptr().addr() as u64);
        // SAFETY: the destination is compact and as long.
        unsafe { host::driver_copy(context, host, from, link_bytes as usize, stream) }?;
        if let Err(error) = event.record(stream) {
            let _ = context.synchronize(stream);
            return Err(error.into());
        }
        Some(event)
    } else {
        // SAFETY: the link's side is compact and in the destination's order.
        unsafe { staged::download(context, &dst.operand, &link, options, stream) }?;
        None
    };
    drop(room);
    Ok(Done { road, link_bytes, event })
}
