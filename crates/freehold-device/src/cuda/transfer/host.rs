//! The road that always works: bytes move as they lie, and the processor casts and lays out.
//!
//! What a strided tensor reaches is moved with the gaps in it. It is the fallback of the faster roads, and the only one for
//! elements that share bytes.

use freehold_tensor::copy::{self, CopyOptions, Lazy, Operand};
use freehold_tensor::{DeviceKind, Extent};

use super::{Done, Road, Side, TransferError};
use crate::cuda::error::check;
use crate::cuda::{Context, CudaError, Event, StreamRef};
use crate::{Buffer, HOST_ALIGNMENT};

/// The bytes that a side reaches, from its first element.
pub(super) fn extent(side: &Side<'_>) -> Result<Extent, TransferError> {
    let Operand { layout, dtype, unit, traits, .. } = side.operand;
    Ok(layout.validate(dtype, traits.contains(Lazy::PADDED), unit).map_err(copy::CopyError::from)?)
}

/// Whether two sides hold the same bytes in the same places, without gaps.
pub(super) fn is_same(dst: &Side<'_>, src: &Side<'_>) -> bool {
    let (d, s) = (&dst.operand, &src.operand);
    // The last byte may be half somebody else's.
    let bits = d.layout.numel().unwrap_or(0).unsigned_abs() * u64::from(d.dtype.element_bits());
    let whole = !d.dtype.is_sub_byte() || d.traits.contains(Lazy::PADDED) || bits.is_multiple_of(8);
    let compact = whole && (d.layout.is_c_contiguous() || d.layout.is_f_contiguous());
    d.dtype == s.dtype && d.traits == s.traits && d.unit == s.unit && compact && same_steps(dst, src)
}

/// Axes of one element have any stride.
fn same_steps(dst: &Side<'_>, src: &Side<'_>) -> bool {
    let (d, s) = (dst.operand.layout, src.operand.layout);
    d.shape == s.shape && d.shape.iter().zip(d.strides.iter().zip(s.strides)).all(|(n, (a, b))| *n <= 1 || a == b)
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
    let (to, from) = (extent(dst)?, extent(src)?);
    if to.is_empty() {
        return Ok(Done { road: Road::Nothing, link_bytes: 0, event: None });
    }
    let side = if dst.is_on_device() { dst } else { src };
    let context = Context::of(side.device.id)?;
    if is_same(dst, src) {
        let bytes = to.len();
        let event = Event::new(context)?;
        // SAFETY: both sides are valid for their extent, which is as long for both.
        unsafe { driver_copy(context, first(dst, to), first(src, from), bytes as usize, stream) }?;
        let crosses = dst.is_on_device() != src.is_on_device();
        let host = if crosses { Some(if dst.is_on_device() { src } else { dst }) } else { None };
        // The driver has read pageable memory when it returns, and has filled it.
        let later = host.is_none_or(|host| host.device.kind == DeviceKind::CUDA_HOST);
        if later && let Err(error) = event.record(stream) {
            // Nobody would know when it is done, and the caller gives the memory back.
            let _ = context.synchronize(stream);
            return Err(error.into());
        }
        let event = later.then_some(event);
        return Ok(Done { road: Road::Driver, link_bytes: if crosses { bytes } else { 0 }, event });
    }
    if context.is_capturing(stream)? {
        return Err(CudaError::Capturing { what: "a copy that casts or lays out on the host" }.into());
    }
    // The device's side of the copy, as it lies, in host memory.
    let (mut link_bytes, mut fetched, mut placed) = (0, None, None);
    let mut source = src.operand;
    if src.is_on_device() {
        let room = Buffer::host_aligned(from.len() as usize, HOST_ALIGNMENT)?;
        let at = Context::of(src.device.id)?;
        let on = if at.ordinal() == context.ordinal() { stream } else { at.work_stream()? };
        if at.ordinal() != context.ordinal() {
            // Another device's stream waits for the one that waits for the source.
            Event::recorded(context, stream)?.hold_back(at, on)?;
        }
        // SAFETY: the room is as long as the extent, and nobody else has it.
        unsafe { driver_copy(at, room.as_ptr().addr() as u64, first(src, from), from.len() as usize, on) }?;
        at.synchronize(on)?;
        link_bytes += from.len();
        source.data = room.as_ptr().wrapping_offset(from.lo.unsigned_abs() as isize);
        fetched = Some(room);
    }
    let mut target = dst.operand;
    if dst.is_on_device() {
        let room = Buffer::host_aligned(to.len() as usize, HOST_ALIGNMENT)?;
        // Gaps keep what is in them, and so do the other bits of shared bytes.
        let whole = dst.operand.layout.is_c_contiguous() || dst.operand.layout.is_f_contiguous();
        if !whole || dst.operand.dtype.is_sub_byte() {
            // SAFETY: as above.
            unsafe { driver_copy(context, room.as_ptr().addr() as u64, first(dst, to), to.len() as usize, stream) }?;
            context.synchronize(stream)?;
            link_bytes += to.len();
        }
        target.data = room.as_ptr().wrapping_offset(to.lo.unsigned_abs() as isize);
        placed = Some(room);
    }
    // SAFETY: each operand is the caller's, or memory of ours that has its whole extent and holds its values.
    unsafe { copy::copy(&target, &source, options) }?;
    drop(fetched);
    if let Some(room) = placed {
        // SAFETY: the room holds the extent of the destination.
        unsafe { driver_copy(context, first(dst, to), room.as_ptr().addr() as u64, to.len() as usize, stream) }?;
        // Pageable memory was read when the driver returns (see `driver_copy`), so the room can go.
        link_bytes += to.len();
    }
    let road = if dst.is_on_device() && src.is_on_device() { Road::ThroughHost } else { Road::Host };
    Ok(Done { road, link_bytes, event: None })
}

/// The address of the first byte that a side reaches.
fn first(side: &Side<'_>, extent: Extent) -> u64 {
    (side.operand.data.addr() as u64).wrapping_add_signed(extent.lo)
}

/// One copy by the driver, which finds out whose memory each address is. From pageable memory it returns when that was read;
/// into pageable memory, when that is filled.
///
/// # Safety
///
/// * Both addresses are valid for so many bytes until the copy is done.
pub(super) unsafe fn driver_copy(
    context: &Context,
    to: u64,
    from: u64,
    bytes: usize,
    stream: StreamRef,
) -> Result<(), TransferError> {
    let _entered = context.enter()?;
    // SAFETY: by the caller's word; a `StreamRef` is a live stream and the context is current.
    let status = unsafe { (context.api().memory.memcpy_async)(to, from, bytes, stream.raw()) };
    Ok(check("cuMemcpyAsync", status)?)
}
