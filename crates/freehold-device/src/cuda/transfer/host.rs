//! One copy by the driver, and the road that always works: bytes move as they lie, and the processor casts and lays out.
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
    let compact = d.layout.is_c_contiguous() || d.layout.is_f_contiguous();
    let bits = d.layout.numel().unwrap_or(0).wrapping_mul(i64::from(d.dtype.element_bits()));
    // The last byte of packed elements may be shared with what is no part of the destination.
    let whole = d.traits.contains(Lazy::PADDED) || bits % 8 == 0;
    d.dtype == s.dtype && d.traits == s.traits && d.unit == s.unit && compact && whole && same_steps(dst, src)
}

/// Whether elements lie in the same order on both sides. Axes of one element have any stride.
pub(super) fn same_steps(dst: &Side<'_>, src: &Side<'_>) -> bool {
    let (d, s) = (dst.operand.layout, src.operand.layout);
    d.shape == s.shape && d.shape.iter().zip(d.strides.iter().zip(s.strides)).all(|(n, (a, b))| *n <= 1 || a == b)
}

/// Whether a copy writes every bit of the bytes that it reaches, so that nothing there must be kept.
pub(super) fn is_written_whole(dst: &Side<'_>) -> bool {
    let layout = dst.operand.layout;
    (layout.is_c_contiguous() || layout.is_f_contiguous()) && !dst.operand.dtype.is_sub_byte()
}

/// The same bytes in the same places, in one copy by the driver. In a captured stream it becomes part of the graph.
///
/// # Safety
///
/// As [`super::copy`], where both sides are [the same](is_same).
pub(super) unsafe fn copy_same(
    context: &'static Context,
    dst: &Side<'_>,
    src: &Side<'_>,
    stream: StreamRef,
    captured: bool,
) -> Result<Done, TransferError> {
    let (to, from) = (extent(dst)?, extent(src)?);
    let bytes = to.len();
    // SAFETY: both sides are valid for their extent, which is as long for both.
    unsafe { driver_copy(context, first(dst, to), first(src, from), bytes as usize, stream) }?;
    let crosses = dst.is_on_device() != src.is_on_device();
    // The driver has read pageable memory when it returns, and has filled it.
    let now = crosses && [dst, src].iter().any(|side| side.device.kind == DeviceKind::CPU);
    let event = if now || captured { None } else { Some(super::after(context, stream)?) };
    Ok(Done { road: Road::Driver, link_bytes: if crosses { bytes } else { 0 }, event })
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
        if !is_written_whole(dst) {
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
pub(super) fn first(side: &Side<'_>, extent: Extent) -> u64 {
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
