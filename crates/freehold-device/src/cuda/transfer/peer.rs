//! Copies between devices: over their own link where they have one; the driver goes by way of the host where they do not.

use std::collections::HashSet;
use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use freehold_tensor::copy::{CopyError, CopyOptions, Lazy, Operand};
use freehold_tensor::{Layout, compact_strides};

use super::device::{self, Temporary};
use super::roads::order_of;
use super::{Done, Road, Side, TransferError, host};
use crate::cuda::error::check;
use crate::cuda::memory::Relaxed;
use crate::cuda::{Context, Status, StreamRef, order};

/// The devices that a context was asked to reach.
#[derive(Default)]
struct Asked(Mutex<HashSet<i32>>);

/// Lets one device reach the memory of another, once. Copies work without it, by way of the host.
fn reach(context: &'static Context, other: &'static Context) {
    let asked = context.room(Asked::default);
    if !asked.0.lock().unwrap_or_else(PoisonError::into_inner).insert(other.ordinal()) {
        return;
    }
    let Ok(_entered) = context.enter() else { return };
    // A stream of this thread may be captured, which forbids such calls.
    let _relaxed = Relaxed::begin(context);
    let mut can: c_int = 0;
    let core = &context.api().core;
    // SAFETY: the place is an int of ours; both are devices of this driver.
    let status = unsafe { (core.can_access_peer)(&raw mut can, context.device(), other.device()) };
    if status == Status::SUCCESS && can != 0 {
        // SAFETY: the context is current, and the other one is retained for ever. A framework may have done it before, which
        // the driver says, and which is as good.
        unsafe { (core.enable_peer_access)(other.raw(), 0) };
    }
}

/// One range of bytes from device to device.
///
/// # Safety
///
/// * Both ranges are memory of their devices until the copy is done.
unsafe fn copy_bytes(
    to: (&'static Context, u64),
    from: (&'static Context, u64),
    bytes: u64,
    stream: StreamRef,
) -> Result<(), TransferError> {
    reach(to.0, from.0);
    reach(from.0, to.0);
    let _entered = to.0.enter()?;
    let copy = to.0.api().memory.memcpy_peer_async;
    let (there, here) = (to.0.raw(), from.0.raw());
    // SAFETY: by the caller's word; the context is current and a `StreamRef` is a live stream.
    let status = unsafe { copy(to.1, there, from.1, here, bytes as usize, stream.raw()) };
    Ok(check("cuMemcpyPeerAsync", status)?)
}

/// A copy between two devices, of the same bytes in the same order.
///
/// # Safety
///
/// As [`super::copy`], on a stream of the destination's device.
pub(super) unsafe fn copy_same(
    dst: &Side<'_>,
    src: &Side<'_>,
    stream: StreamRef,
    captured: bool,
) -> Result<Done, TransferError> {
    let (to, from) = (host::extent(dst)?, host::extent(src)?);
    let (here, there) = (Context::of(dst.device.id)?, Context::of(src.device.id)?);
    let (to, bytes, from) = (host::first(dst, to), to.len(), host::first(src, from));
    // SAFETY: forwarded from the caller.
    unsafe { copy_bytes((here, to), (there, from), bytes, stream) }?;
    let event = if captured { None } else { Some(super::after(here, stream)?) };
    Ok(Done { road: Road::Peer, link_bytes: bytes, event })
}

/// A copy between two devices that casts or lays out: packed and narrowed on the source's, then over the link, then widened and
/// laid out on the destination's. `None` where no kernel does it.
///
/// # Safety
///
/// As [`super::copy`], on a stream of the destination's device, which is not captured.
pub(super) unsafe fn copy(
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Option<Done>, TransferError> {
    let (here, there) = (Context::of(dst.device.id)?, Context::of(src.device.id)?);
    let work = there.work_stream()?;
    let (shape, strides) = (dst.operand.layout.shape, compact_strides(dst.operand.layout.shape, order_of(dst)));
    let strides = strides.map_err(CopyError::from)?;
    let (to, from) = (dst.operand.dtype, src.operand.dtype);
    let dtype = if to.padded_size() <= from.padded_size() { to } else { from };
    let link = |data: *mut u8| Operand {
        data,
        dtype,
        layout: Layout::new(shape, &strides),
        unit: Default::default(),
        traits: Lazy::empty(),
    };
    let bytes = dst.operand.layout.numel().map_err(CopyError::from)?.unsigned_abs() * dtype.padded_size() as u64;
    // What the destination's stream waits for, the source's device must wait for too.
    order(here, stream, there, work)?;
    let packed = Temporary::new(there, bytes as usize, work)?;
    let place = Side { operand: link(packed.as_ptr()), device: src.device };
    // SAFETY: the room is compact and as long; the source is the caller's.
    if unsafe { device::copy(&place, src, options, work) }?.is_none() {
        return Ok(None);
    }
    order(there, work, here, stream)?;
    let from = (there, packed.as_ptr().addr() as u64);
    // SAFETY: the packed values are there when the stream gets to it; the destination is the caller's.
    let done = unsafe { unpack(here, dst, &place.operand, from, bytes, options, stream) };
    // The packed values are freed in the order of the source's stream, and are read in that of the destination's.
    if order(here, stream, there, work).or_else(|_| here.synchronize(stream)).is_err() {
        std::mem::forget(packed);
    }
    done
}

/// The second half: over the link, and into the destination as it wants it.
///
/// # Safety
///
/// As [`copy`]; `from` is the address of the packed values, and `packed` says what they are.
unsafe fn unpack(
    here: &'static Context,
    dst: &Side<'_>,
    packed: &Operand<'_>,
    from: (&'static Context, u64),
    bytes: u64,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Option<Done>, TransferError> {
    let done = |event| Ok(Some(Done { road: Road::PeerWithKernels, link_bytes: bytes, event: Some(event) }));
    if host::is_same(dst, &Side { operand: *packed, device: dst.device }) {
        let first = host::first(dst, host::extent(dst)?);
        // SAFETY: the destination is compact, in this order and of this dtype.
        unsafe { copy_bytes((here, first), from, bytes, stream) }?;
        return done(super::after(here, stream)?);
    }
    let arrived = Temporary::new(here, bytes as usize, stream)?;
    // SAFETY: both rooms are as long.
    unsafe { copy_bytes((here, arrived.as_ptr().addr() as u64), from, bytes, stream) }?;
    let side = Side { operand: Operand { data: arrived.as_ptr(), ..*packed }, device: dst.device };
    // SAFETY: the room holds the values, and the destination is the caller's.
    if unsafe { device::copy(dst, &side, options, stream) }?.is_none() {
        return Ok(None);
    }
    done(super::after(here, stream)?)
}
