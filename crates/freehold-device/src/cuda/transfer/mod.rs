//! Copies between host and device memory, and between devices: which road, and the copy itself.

mod device;
mod host;
mod ring;
mod roads;
mod staged;

pub use roads::road;

use std::fmt;

use freehold_tensor::copy::{CopyError, CopyOptions, Operand};
use freehold_tensor::{Device, DeviceKind};

use super::{CudaError, Event, StreamRef};
use crate::AllocError;

/// One side of a copy: a tensor's memory and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Address, layout, dtype and how the bytes differ from the values.
    pub operand: Operand<'a>,
    /// `CPU`, `CUDA_HOST`, `CUDA` or `CUDA_MANAGED`.
    pub device: Device,
}

impl Side<'_> {
    /// Whether the device works on the memory, and not the processor.
    fn is_on_device(&self) -> bool {
        matches!(self.device.kind, DeviceKind::CUDA | DeviceKind::CUDA_MANAGED)
    }
}

/// The way that bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Road {
    /// There is nothing to copy.
    Nothing,
    /// One copy by the driver.
    Driver,
    /// In pieces through page-locked slots, cast and laid out by the processor on the way where that is asked.
    Staged,
    /// As it lies over the link, then a kernel on the device, or the other way round.
    WithKernel,
    /// As [`Road::Staged`], and a kernel on the device.
    StagedWithKernel,
    /// A kernel, or a copy, on the device.
    Kernel,
    /// Cast and laid out by the processor, between two copies by the driver.
    Host,
    /// From device to device by way of the host.
    ThroughHost,
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Road::Nothing => "nothing to copy",
            Road::Driver => "one copy by the driver",
            Road::Staged => "through page-locked slots",
            Road::WithKernel => "over the link as it lies, and a kernel",
            Road::StagedWithKernel => "through page-locked slots, and a kernel",
            Road::Kernel => "a kernel on the device",
            Road::Host => "cast and laid out on the host",
            Road::ThroughHost => "by way of the host",
        })
    }
}

/// A copy that was queued, or is done.
#[must_use]
pub struct Done {
    /// The way it went.
    pub road: Road,
    /// Bytes that crossed the link between host and device.
    pub link_bytes: u64,
    /// After it the source may be reused and the target is complete. `None`: already so, but that a target on a device is
    /// ordered on the stream in any case.
    pub event: Option<Event>,
}

/// Why a copy failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransferError {
    /// As a copy on the host would.
    Copy(CopyError),
    /// The driver, or what is not possible with it.
    Cuda(CudaError),
    /// Memory for a step on the way.
    Alloc(AllocError),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Copy(error) => error.fmt(f),
            TransferError::Cuda(error) => error.fmt(f),
            TransferError::Alloc(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TransferError {}

impl From<CopyError> for TransferError {
    fn from(error: CopyError) -> Self {
        TransferError::Copy(error)
    }
}

impl From<CudaError> for TransferError {
    fn from(error: CudaError) -> Self {
        TransferError::Cuda(error)
    }
}

impl From<AllocError> for TransferError {
    fn from(error: AllocError) -> Self {
        TransferError::Alloc(error)
    }
}

/// Copies, casting and laying out anew where the sides differ, on a stream of the device: of the destination's, where both
/// sides are on one. Waits for the host's part of the work only, save where the values must be looked at.
///
/// # Errors
///
/// [`TransferError::Copy`] as [`freehold_tensor::copy::copy`]; [`CudaError::Capturing`] where the stream is captured and the
/// road is not one that a graph can hold.
///
/// # Safety
///
/// * As [`freehold_tensor::copy::copy`], each side with memory of its device, until the event of the result.
/// * `stream` is a stream of the device, and work that it is given now comes after what filled the source.
pub unsafe fn copy(
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Done, TransferError> {
    // SAFETY: forwarded from the caller.
    unsafe { roads::copy(dst, src, options, stream) }
}
