//! Copies between host and device memory, and between devices: which road, and the copy itself.

mod calibrate;
mod device;
mod fill;
mod host;
mod lanes;
mod many;
mod peer;
mod roads;
mod rows;
mod run;
mod staged;
mod tuning;

pub use calibrate::{Calibration, calibrate};
pub use fill::fill;
pub use lanes::{staging_bytes, trim_staging};
pub use many::{Piece, copy_many};
pub use roads::road;
pub use tuning::{CACHE_VARIABLE, Tuning, set_tuning, tuning};

use std::fmt;

use freehold_tensor::copy::{CopyError, CopyOptions, Operand};
use freehold_tensor::{DType, Device, DeviceKind};

use super::{Context, CudaError, Event, StreamRef};
use crate::AllocError;

/// One side of a copy: a tensor's memory and where it is.
///
/// See [`road`].
///
/// ```
/// use freehold_device::cuda::transfer::{Road, Side, road};
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
/// use freehold_tensor::{DType, Device, Layout, StrideUnit};
///
/// let layout = Layout::new(&[0], &[1]);
/// let (dtype, data) = (DType::F32, std::ptr::null_mut());
/// let operand = Operand { data, dtype, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let side = Side { operand, device: Device::CPU };
/// assert_eq!(road(&side, &side, &CopyOptions::default())?.road, Road::Nothing);
/// # Ok::<(), freehold_device::cuda::transfer::TransferError>(())
/// ```
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
///
/// ```
/// use freehold_device::cuda::transfer::Road;
///
/// assert_eq!(Road::Staged.to_string(), "through page-locked slots");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Road {
    /// There is nothing to copy.
    Nothing,
    /// One copy by the driver.
    Driver,
    /// Rows and slices at a pitch, by the driver.
    Pitched,
    /// Many runs in one call of the driver.
    Batched,
    /// In pieces through page-locked slots, cast and laid out by the processor on the way where that is asked.
    Staged,
    /// As it lies over the link, then a kernel on the device, or the other way round.
    WithKernel,
    /// As [`Road::Staged`], and a kernel on the device.
    StagedWithKernel,
    /// A kernel, or a copy, on the device.
    Kernel,
    /// From device to device, by the driver.
    Peer,
    /// From device to device, packed by a kernel before and laid out by one after.
    PeerWithKernels,
    /// Cast and laid out by the processor, before or after a copy by the driver.
    Host,
    /// From device to device by way of the host.
    ThroughHost,
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Road::Nothing => "nothing to copy",
            Road::Driver => "one copy by the driver",
            Road::Pitched => "rows at a pitch, by the driver",
            Road::Batched => "runs in one batch, by the driver",
            Road::Staged => "through page-locked slots",
            Road::WithKernel => "over the link as it lies, and a kernel",
            Road::StagedWithKernel => "through page-locked slots, and a kernel",
            Road::Kernel => "a kernel on the device",
            Road::Peer => "from device to device",
            Road::PeerWithKernels => "from device to device, with kernels on both",
            Road::Host => "cast and laid out on the host",
            Road::ThroughHost => "by way of the host",
        })
    }
}

/// What a copy would do. Its `Display` reads like `through page-locked slots, 1048576 bytes over the link`.
///
/// Made by [`road`]:
///
/// ```
/// use freehold_device::cuda::transfer::{Side, road};
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
/// use freehold_tensor::{DType, Device, DeviceKind, Layout, StrideUnit};
///
/// let (data, layout) = (std::ptr::without_provenance_mut(4096), Layout::new(&[1000], &[1]));
/// let operand = Operand { data, dtype: DType::I16, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let src = Side { operand, device: Device::new(DeviceKind::CUDA_HOST, 0) };
/// let dst = Side { device: Device::new(DeviceKind::CUDA, 0), ..src };
/// let plan = road(&dst, &src, &CopyOptions::default())?;
/// assert_eq!(plan.to_string(), "one copy by the driver, 2000 bytes over the link");
/// # Ok::<(), freehold_device::cuda::transfer::TransferError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The way it goes.
    pub road: Road,
    /// Bytes that cross the link between host and device, or between devices.
    pub link_bytes: u64,
    /// The dtype that crosses, on the roads that stage or use kernels.
    link: DType,
    /// Whether it crosses in the order of the source, which has no gaps.
    lies: bool,
}

impl Plan {
    fn new(road: Road, link_bytes: u64) -> Plan {
        Plan { road, link_bytes, link: DType::U8, lies: false }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.link_bytes {
            0 => self.road.fmt(f),
            1 => write!(f, "{}, 1 byte over the link", self.road),
            bytes => write!(f, "{}, {bytes} bytes over the link", self.road),
        }
    }
}

/// A copy that was queued, or is done.
///
/// ```no_run
/// use freehold_device::cuda::transfer::{Piece, copy_many};
/// use freehold_device::cuda::{Context, StreamRef, memory};
/// use freehold_device::{Buffer, Stream};
///
/// let buffer = Buffer::new(memory::managed(0)?, 512, 256, Stream::NONE)?;
/// let src = buffer.as_ptr().addr() as u64;
/// let piece = Piece { dst: src + 256, src, bytes: 256 };
/// // SAFETY: both halves are of the buffer, which nothing else uses.
/// let done = unsafe { copy_many(Context::of(0)?, &[piece], StreamRef::LEGACY) }?;
/// let event = done.event.expect("no graph is captured");
/// event.synchronize()?; // now the first half may be written again
/// assert!(event.is_done()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Done {
    /// The way it went.
    pub road: Road,
    /// Bytes that crossed the link between host and device.
    pub link_bytes: u64,
    /// After it the source may be reused and the target is complete. `None`: already so, but that a target on a device is
    /// ordered on the stream in any case; or the stream is captured, and the copy happens whenever the graph runs.
    pub event: Option<Event>,
}

/// Why a copy failed.
///
/// ```
/// use freehold_device::cuda::transfer::{Side, TransferError, road};
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
/// use freehold_tensor::{DType, Device, DeviceKind, Layout, StrideUnit};
///
/// let (data, layout) = (std::ptr::null_mut(), Layout::new(&[3], &[1]));
/// let operand = Operand { data, dtype: DType::I16, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let dst = Side { operand, device: Device::new(DeviceKind::CUDA, 0) };
/// let error = road(&dst, &dst, &CopyOptions::default()).unwrap_err();
/// assert!(matches!(error, TransferError::Copy(_)));
/// assert_eq!(error.to_string(), "data is 0; it must not be NULL for a tensor that has elements");
/// ```
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
/// ```no_run
/// use freehold_device::Buffer;
/// use freehold_device::cuda::memory::resource;
/// use freehold_device::cuda::transfer::{Side, copy};
/// use freehold_device::cuda::{Context, StreamRef};
/// use freehold_tensor::copy::{CopyOptions, Lazy, Operand};
/// use freehold_tensor::{DType, Device, DeviceKind, Layout, StrideUnit};
///
/// let (there, mut back) = ([1.0_f32, 2.0, 3.0], [0.0_f64; 3]);
/// let buffer = Buffer::new(resource(0)?, 12, 256, StreamRef::LEGACY.number())?;
/// let layout = Layout::new(&[3], &[1]);
/// let side = |data, dtype, device| Side {
///     operand: Operand { data, dtype, layout, unit: StrideUnit::Elements, traits: Lazy::empty() },
///     device,
/// };
/// let host = side(there.as_ptr().cast_mut().cast(), DType::F32, Device::CPU);
/// let device = side(buffer.as_ptr(), DType::F32, Device::new(DeviceKind::CUDA, 0));
/// let result = side(back.as_mut_ptr().cast(), DType::F64, Device::CPU);
/// let options = CopyOptions::default();
/// // SAFETY: each side has three elements, which live until the stream was waited for.
/// let go = |dst, src| unsafe { copy(dst, src, &options, StreamRef::LEGACY) };
/// let _up = go(&device, &host)?;
/// let _down = go(&result, &device)?;
/// Context::of(0)?.synchronize(StreamRef::LEGACY)?;
/// assert_eq!(back, [1.0, 2.0, 3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Copy`] as [`freehold_tensor::copy::copy`]; [`CudaError::Capturing`] where the stream is captured and the
/// road is not one that a graph can hold: pageable memory, a host destination, or what needs memory of ours on the way.
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
    roads::plain(dst, src, |dst, src| {
        // SAFETY: forwarded from the caller: the same bytes.
        unsafe { run::copy(dst, src, options, stream) }
    })
}

/// An event after what was queued on a stream. Where there can be none, the stream is waited for instead: the caller is told
/// of the failure, and gives memory back that the device may use.
fn after(context: &'static Context, stream: StreamRef) -> Result<Event, TransferError> {
    Event::recorded(context, stream).map_err(|error| {
        let _ = context.synchronize(stream);
        error.into()
    })
}
