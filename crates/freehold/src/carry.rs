//! Copies that involve a CUDA device: which stream they run on, who waits, and what is kept until they are done.

use freehold_device::cuda::transfer::{self, Side, TransferError};
use freehold_device::cuda::{self, Context, StreamRef};
use freehold_tensor::copy::{CopyError, CopyOptions, Operand};

use crate::flow::{Flow, has_streams};
use crate::{Decision, Device, DeviceKind, Error, Tensor};

/// One end of a copy.
pub(crate) struct End<'a> {
    pub(crate) operand: Operand<'a>,
    pub(crate) device: Device,
    pub(crate) flow: Option<&'a Flow>,
}

impl<'a> End<'a> {
    fn side(&self) -> Side<'a> {
        Side { operand: self.operand, device: self.device }
    }
}

/// Why it failed.
pub(crate) enum CarryError {
    /// As a copy on the host would.
    Copy(CopyError),
    /// The device, a stream or memory.
    Failed(Error),
}

impl From<Error> for CarryError {
    fn from(error: Error) -> CarryError {
        CarryError::Failed(error)
    }
}

impl From<TransferError> for CarryError {
    fn from(error: TransferError) -> CarryError {
        match error {
            TransferError::Copy(error) => CarryError::Copy(error),
            TransferError::Cuda(error) => CarryError::Failed(Error::device(&error)),
            TransferError::Alloc(error) => CarryError::Failed(Error::allocation(&error)),
            other => CarryError::Failed(Error::internal(&other.to_string())),
        }
    }
}

/// Whether the processor copies: both ends are its own memory.
pub(crate) fn is_on_host(to: &End<'_>, from: &End<'_>) -> bool {
    to.device.kind.is_host() && from.device.kind.is_host()
}

/// Whether there is a way to a tensor's memory: the host's own, or through the driver.
pub(crate) fn reaches(tensor: &Tensor) -> bool {
    tensor.device().kind.is_host() || tensor.0.flow.is_some()
}

/// The stream that a copy runs on: the destination's, else the source's. `None` where a device has no driver here.
fn stream_of(to: &End<'_>, from: &End<'_>) -> Option<(&'static Context, StreamRef)> {
    to.flow.or(from.flow).map(|flow| (flow.context(), flow.ready()))
}

/// Copies between a device and anything else. The destination's stream waits for the source's. A host destination is
/// complete on return; a host source is kept until it was read.
///
/// # Safety
///
/// * As [`freehold_tensor::copy::copy`], each end with the memory of its device.
/// * `source` keeps the memory of `from`.
pub(crate) unsafe fn copy(
    to: &End<'_>,
    from: &End<'_>,
    source: &Tensor,
    options: &CopyOptions,
) -> Result<(), CarryError> {
    let none = |end: &End<'_>| has_streams(end.device.kind) && end.flow.is_none();
    if let Some(end) = [to, from].into_iter().find(|end| none(end)) {
        return Err(no_driver(end.device).into());
    }
    let Some((context, stream)) = stream_of(to, from) else {
        return Err(no_driver(to.device).into());
    };
    if let Some(flow) = from.flow {
        flow.hand_to(context, stream)?;
    }
    let (target, filled) = (as_it_is(to.side(), context), as_it_is(from.side(), context));
    // SAFETY: forwarded from the caller; the stream waits for the source's producer, and is the destination's own.
    let done = unsafe { transfer::copy(&target, &filled, options, stream) }?;
    if let Some(event) = done.event {
        if to.device.kind.is_host() {
            event.synchronize().map_err(|error| CarryError::Failed(Error::device(&error)))?;
        } else if from.device.kind.is_host() {
            // Read later than now: page-locked memory, of whoever it is.
            let kept = source.clone();
            cuda::release_after(&[(context, stream)], None, Box::new(move || drop(kept)));
        }
    }
    Ok(())
}

/// Below this many bytes it is not worth the question.
const ASKED_FROM: u64 = 256 << 10;

/// An end on the host, as the driver knows it: frameworks pass page-locked memory on as ordinary one, and it is read and
/// written without a detour.
fn as_it_is<'a>(side: Side<'a>, context: &Context) -> Side<'a> {
    let Operand { layout, dtype, unit, traits, data } = side.operand;
    let padded = traits.contains(freehold_tensor::copy::Lazy::PADDED);
    let Ok(extent) = layout.extent(dtype, padded, unit) else { return side };
    if side.device.kind != DeviceKind::CPU || extent.len() < ASKED_FROM {
        return side;
    }
    let at = |offset: i64| cuda::pointer(context.driver(), (data.addr() as u64).wrapping_add_signed(offset));
    match (at(extent.lo), at(extent.hi - 1)) {
        // One allocation from end to end.
        (Ok(first), Ok(last)) if first.kind == cuda::MemoryKind::Pinned && first == last => {
            Side { device: Device::new(DeviceKind::CUDA_HOST, 0), ..side }
        }
        _ => side,
    }
}

/// The road of the copy that was decided, and its bytes over the link, where a device is involved.
pub(crate) fn road(tensor: &Tensor, decision: &Decision, source: Operand<'_>) -> Option<String> {
    let strides = freehold_tensor::compact_strides(tensor.shape(), decision.order).ok()?;
    let target = Operand {
        // Nothing is read or written; new memory begins at such an address.
        data: std::ptr::without_provenance_mut(256),
        dtype: decision.dtype,
        layout: freehold_tensor::Layout::new(tensor.shape(), &strides),
        unit: freehold_tensor::StrideUnit::Elements,
        traits: freehold_tensor::copy::Lazy::empty(),
    };
    let to = Side { operand: target, device: decision.device };
    let from = Side { operand: source, device: tensor.device() };
    transfer::road(&to, &from, &CopyOptions::new(decision.on_loss)).ok().map(|plan| plan.to_string())
}

fn no_driver(device: Device) -> Error {
    match cuda::probe() {
        Err(why) if has_streams(device.kind) || device.kind == DeviceKind::CUDA_HOST => Error::device(&why.into()),
        _ => Error::internal(&format!("{device} has no driver here")),
    }
}
