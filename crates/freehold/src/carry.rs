//! Copies that involve a CUDA device: which stream they run on, who waits, and what is kept until they are done.

use freehold_device::cuda::transfer::{self, Side, TransferError};
use freehold_device::cuda::{self, Context, StreamRef};
use freehold_tensor::copy::{CopyError, CopyOptions, Operand};

use crate::flow::{Flow, has_streams};
use crate::{Device, DeviceKind, Error, Tensor};

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
    // SAFETY: forwarded from the caller; the stream waits for the source's producer, and is the destination's own.
    let done = unsafe { transfer::copy(&to.side(), &from.side(), options, stream) }?;
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

fn no_driver(device: Device) -> Error {
    match cuda::probe() {
        Err(why) if has_streams(device.kind) || device.kind == DeviceKind::CUDA_HOST => Error::device(&why.into()),
        _ => Error::internal(&format!("{device} has no driver here")),
    }
}
