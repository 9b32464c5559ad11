//! Memory of a device to and from users of the crate `cudarc`, without a copy. Feature `cudarc`.
//!
//! * [`take`]: a `CudaSlice` becomes a [`Buffer`]; the slice is dropped when the buffer is.
//! * [`lend`]: a [`Buffer`] is used as a `CudaSlice` for a while.
//! * [`give`]: a [`Buffer`] of the driver's pool becomes a `CudaSlice`, which frees it.
//!
//! Streams are ordered on each way, and `cudarc` finds its context current, which the drop of a slice on a default stream
//! needs; whatever was current on the thread before is current again after.
//!
//! # The version of CUDA
//!
//! `cudarc` is built for one version of CUDA in a whole program, and its users choose it. This feature chooses none: name one
//! beside it, or `cudarc` does not compile and says so (the environment variable `CUDARC_CUDA_VERSION` does as well).
//!
//! ```toml
//! freehold-device = { version = "0.1", features = ["cudarc"] }
//! cudarc = { version = "0.19.10", features = ["cuda-12080"] }
//! ```
//!
//! `cudarc` finds the driver by itself, and panics where there is none: ask [`probe`] first. Both must find the
//! same library, which they do unless `FREEHOLD_CUDA_LIBRARY` names another.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtrMut, DriverError};
use freehold_tensor::{Device, DeviceKind};

use super::memory::{self, OneBlock};
use super::{Context, CudaError, Status, StreamRef, order, probe};
use crate::{Buffer, MemoryResource, Stream};

/// Why memory is not handed over.
///
/// ```
/// use freehold_device::cuda::slices::SliceError;
///
/// let error = SliceError::Elements { bytes: 10, size: 4 };
/// assert_eq!(
///     error.to_string(),
///     "10 bytes at this address are no elements of 4 bytes; there must be one or more, aligned"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SliceError {
    /// The driver, or what is not possible with it.
    Cuda(CudaError),
    /// The slice, or the stream, is of a context that is not the primary one of its device, or of another driver.
    OtherContext {
        /// The index of the device that `cudarc` says.
        ordinal: usize,
    },
    /// The buffer is of another device than the stream.
    OtherDevice {
        /// Where the buffer is.
        buffer: Device,
        /// The index of the stream's device.
        ordinal: usize,
    },
    /// The bytes are no elements: none, not a whole number of them, or not aligned to one.
    Elements {
        /// Bytes of the buffer.
        bytes: usize,
        /// Bytes of an element.
        size: usize,
    },
    /// Only what comes from [`memory::resource`], where that is a pool of the driver, is freed as `cudarc` frees.
    Resource {
        /// The name of the resource.
        name: String,
    },
}

impl fmt::Display for SliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SliceError::Cuda(error) => error.fmt(f),
            SliceError::OtherContext { ordinal } => {
                write!(
                    f,
                    "it is not of the primary context of cuda:{ordinal}; make it from `CudaContext::new({ordinal})`"
                )
            }
            SliceError::OtherDevice { buffer, ordinal } => {
                write!(f, "the buffer is on {buffer}, and the stream is one of cuda:{ordinal}")
            }
            SliceError::Elements { bytes, size } => {
                write!(
                    f,
                    "{bytes} bytes at this address are no elements of {size} bytes; there must be one or more, aligned"
                )
            }
            SliceError::Resource { name } => write!(
                f,
                "memory from {name} is not freed by cuMemFreeAsync, as a slice frees it; lend it, or allocate from the \
                 device's default resource"
            ),
        }
    }
}

impl std::error::Error for SliceError {}

impl From<CudaError> for SliceError {
    fn from(error: CudaError) -> SliceError {
        SliceError::Cuda(error)
    }
}

/// A slice that was not taken, and why.
#[derive(Debug)]
pub struct NotTaken<T> {
    /// The slice, as it was.
    pub slice: CudaSlice<T>,
    /// Why.
    pub error: SliceError,
}

/// A buffer that was not given, and why.
#[derive(Debug)]
pub struct NotGiven {
    /// The buffer, as it was.
    pub buffer: Buffer,
    /// Why.
    pub error: SliceError,
}

/// Takes a slice over. `stream` is made to wait for what `cudarc` has queued on the slice so far, and is the stream on which the
/// buffer is given back ([`Buffer::set_stream`] names another): then the slice's own stream waits for it, and the slice is
/// dropped. Any thread may do that. A slice whose own stream is captured by then is never freed.
///
/// ```no_run
/// use cudarc::driver::CudaContext;
/// use freehold_device::cuda::StreamRef;
/// use freehold_device::cuda::slices::take;
///
/// let slice = CudaContext::new(0)?.default_stream().clone_htod(&[1.0_f32, 2.0])?;
/// let buffer = take(slice, StreamRef::LEGACY).map_err(|not_taken| not_taken.error)?;
/// assert_eq!((buffer.len(), buffer.resource().name()), (8, "cudarc"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SliceError::OtherContext`], [`CudaError::Capturing`], or what the driver says; the slice comes back.
pub fn take<T: 'static>(mut slice: CudaSlice<T>, stream: StreamRef) -> Result<Buffer, NotTaken<T>> {
    let (context, address) = match settle(&mut slice, stream) {
        Ok(found) => found,
        Err(error) => return Err(NotTaken { slice, error }),
    };
    let bytes = slice.num_bytes();
    let device = Device::new(DeviceKind::CUDA, context.ordinal());
    // SAFETY: the slice's memory is the slice's alone, and stays until it is dropped, which any thread may do; `settle` made the
    // stream wait for what used it before.
    match unsafe { OneBlock::buffer("cudarc", device, address, bytes, stream.number()) } {
        Ok((block, buffer)) => {
            block.owned(move |stream| drop_after(context, slice, stream));
            Ok(buffer)
        }
        Err(_) => Err(NotTaken { slice, error: SliceError::Elements { bytes, size: size_of::<T>() } }),
    }
}

/// Drops a slice whose memory was used on a stream.
fn drop_after<T>(context: &'static Context, slice: CudaSlice<T>, stream: Stream) {
    let ordered = || -> Result<(), SliceError> {
        let own = stream_of(context, slice.stream())?;
        // SAFETY: whoever gives memory back names a stream that lives (`MemoryResource`).
        let used = unsafe { context.stream(stream) }?;
        // A stream that is captured has run nothing: whoever replays the graph keeps what it uses.
        if used != own && context.is_capturing(used)? && !context.is_capturing(own)? {
            return Ok(());
        }
        plain(context, [used, own])?;
        Ok(order(context, used, context, own)?)
    };
    // Once more where it fails: memory that may still be in use is never freed, and none is freed into a graph.
    if let Ok(_entered) = context.enter()
        && (ordered().is_ok() || ordered().is_ok())
    {
        // With its context current, which it does not see to on the way of stream-ordered memory.
        drop(slice);
    } else {
        std::mem::forget(slice);
    }
}

/// Makes a stream wait for all that `cudarc` knows to use a slice.
fn settle<T>(slice: &mut CudaSlice<T>, stream: StreamRef) -> Result<(&'static Context, u64), SliceError> {
    let context = context_of(slice.context())?;
    let _entered = context.enter()?;
    let own = Arc::clone(slice.stream());
    let from = stream_of(context, &own)?;
    plain(context, [from, stream])?;
    // Waits, on the slice's own stream, for the uses on others that are noted in its events.
    let (address, used) = slice.device_ptr_mut(&own);
    drop(used);
    // What failed there is told by the next call, which this is.
    own.context().bind_to_thread().map_err(failed)?;
    order(context, from, context, stream)?;
    Ok((context, address))
}

/// A buffer that `cudarc` uses for a while, as a slice. When this goes, the buffer's stream waits for what `cudarc` has queued.
pub struct Lent<'a, T> {
    context: &'static Context,
    slice: ManuallyDrop<CudaSlice<T>>,
    back: StreamRef,
    buffer: PhantomData<&'a mut Buffer>,
}

/// Lends a buffer, of whatever resource, of the stream's device. `stream` is made to wait for the buffer's.
///
/// ```no_run
/// use cudarc::driver::CudaContext;
/// use freehold_device::Buffer;
/// use freehold_device::cuda::{StreamRef, memory, slices::lend};
///
/// let stream = CudaContext::new(0)?.default_stream();
/// let mut buffer = Buffer::new(memory::resource(0)?, 8, 256, StreamRef::LEGACY.number())?;
/// // SAFETY: written before it is read; nobody else uses it.
/// let mut lent = unsafe { lend::<f32>(&mut buffer, &stream) }?;
/// stream.memcpy_htod(&[1.0, 2.0], &mut lent.as_view_mut())?;
/// assert_eq!(stream.clone_dtoh(&lent.as_view())?, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SliceError::OtherContext`], [`SliceError::OtherDevice`], [`SliceError::Elements`], [`CudaError::Capturing`], or what the
/// driver says.
///
/// # Safety
///
/// * The bytes are values of `T`, or are written before they are read as such.
/// * Nobody else uses the memory until what is returned is dropped (not forgotten).
/// * Work that `cudarc` does not track (on a borrowed stream, or with its event tracking off) is ordered with `stream` before,
///   and no capture of the buffer's stream or of `stream` has begun by then.
pub unsafe fn lend<'a, T>(buffer: &'a mut Buffer, stream: &Arc<CudaStream>) -> Result<Lent<'a, T>, SliceError> {
    let context = for_stream(buffer, stream)?;
    let len = elements::<T>(buffer)?;
    let _entered = context.enter()?;
    let back = home(context, buffer, stream)?;
    // SAFETY: the memory is the caller's for as long; the slice never frees it, because it is leaked in the end.
    let slice = unsafe { upgrade::<T>(stream, buffer, len) }?;
    Ok(Lent { context, slice: ManuallyDrop::new(slice), back, buffer: PhantomData })
}

impl<T> Lent<'_, T> {
    /// The memory, to be read.
    pub fn as_view(&self) -> CudaView<'_, T> {
        self.slice.as_view()
    }

    /// The memory, to be written. There is no `&mut CudaSlice`: swapped with another, it would be freed by `cudarc`.
    pub fn as_view_mut(&mut self) -> CudaViewMut<'_, T> {
        self.slice.as_view_mut()
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = CudaSlice<T>;

    fn deref(&self) -> &CudaSlice<T> {
        &self.slice
    }
}

impl<T> fmt::Debug for Lent<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("len", &self.slice.len()).finish_non_exhaustive()
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        // SAFETY: taken once, in the drop.
        let slice = unsafe { ManuallyDrop::take(&mut self.slice) };
        let Ok(_entered) = self.context.enter() else {
            std::mem::forget(slice);
            return;
        };
        let own = Arc::clone(slice.stream());
        // Its stream waits for the uses on others that it has noted; the memory is not freed.
        slice.leak();
        let ordered = stream_of(self.context, &own)
            .and_then(|own| Ok(order(self.context, own, self.context, self.back)?))
            .or_else(|_| own.synchronize().map_err(failed));
        #[cfg(feature = "tracing")]
        if let Err(error) = &ordered {
            tracing::error!(%error, "what cudarc queued on a lent buffer cannot be waited for");
        }
        let _ = ordered;
    }
}

/// Gives a buffer away: the slice frees it, on `stream`, which is made to wait for the buffer's.
///
/// ```no_run
/// use cudarc::driver::CudaContext;
/// use freehold_device::cuda::{StreamRef, memory, slices::give};
/// use freehold_device::{Buffer, host};
///
/// let stream = CudaContext::new(0)?.default_stream();
/// let buffer = Buffer::new(memory::resource(0)?, 8, 256, StreamRef::LEGACY.number())?;
/// // SAFETY: `f32`s that nobody reads before they are written; nobody else uses the memory.
/// let slice = unsafe { give::<f32>(buffer, &stream) }.map_err(|not_given| not_given.error)?;
/// assert_eq!(slice.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`lend`]; [`SliceError::Resource`] for memory that a slice cannot free: it is of other resources than the device's default,
/// or the driver has no pools. The buffer comes back.
///
/// # Safety
///
/// * The bytes are values of `T`, or are written before they are read as such.
/// * Nobody else uses the memory any more.
pub unsafe fn give<T>(buffer: Buffer, stream: &Arc<CudaStream>) -> Result<CudaSlice<T>, NotGiven> {
    let upgraded = || -> Result<CudaSlice<T>, SliceError> {
        let context = for_stream(&buffer, stream)?;
        let len = elements::<T>(&buffer)?;
        let resource = memory::resource(context.ordinal())?;
        // This very resource: another of the same name may count what it gave out, or cut it from larger blocks.
        let same = Arc::ptr_eq(resource, buffer.resource()) && resource.name() == "cuda-async";
        if !same || !stream.context().has_async_alloc() {
            return Err(SliceError::Resource { name: buffer.resource().name().to_owned() });
        }
        let _entered = context.enter()?;
        home(context, &buffer, stream)?;
        // SAFETY: a whole allocation of `cuMemAllocFromPoolAsync`, which the slice frees by `cuMemFreeAsync`, once: the buffer
        // does not any more. The caller vouches for the values.
        unsafe { upgrade(stream, &buffer, len) }
    };
    match upgraded() {
        Ok(slice) => {
            buffer.leak();
            Ok(slice)
        }
        Err(error) => Err(NotGiven { buffer, error }),
    }
}

/// Our context of the same device, if it is the same.
fn context_of(theirs: &CudaContext) -> Result<&'static Context, SliceError> {
    let other = SliceError::OtherContext { ordinal: theirs.ordinal() };
    let ordinal = i32::try_from(theirs.ordinal()).map_err(|_| other.clone())?;
    let driver = probe().map_err(CudaError::from)?;
    // A primary context is made for nobody here: where theirs is one, it is there.
    if !Context::is_active(driver, ordinal)? {
        return Err(other);
    }
    let context = Context::of(ordinal)?;
    if context.raw().addr() == theirs.cu_ctx().addr() { Ok(context) } else { Err(other) }
}

fn for_stream(buffer: &Buffer, stream: &CudaStream) -> Result<&'static Context, SliceError> {
    let context = context_of(stream.context())?;
    let device = buffer.device();
    let reached = matches!(device.kind, DeviceKind::CUDA | DeviceKind::CUDA_MANAGED) && device.id == context.ordinal();
    let other = SliceError::OtherDevice { buffer: device, ordinal: stream.context().ordinal() };
    if reached { Ok(context) } else { Err(other) }
}

fn elements<T>(buffer: &Buffer) -> Result<usize, SliceError> {
    let (bytes, size) = (buffer.len(), size_of::<T>());
    let whole = size > 0 && bytes > 0 && bytes.is_multiple_of(size) && buffer.as_ptr().cast::<T>().is_aligned();
    if whole { Ok(bytes / size) } else { Err(SliceError::Elements { bytes, size }) }
}

/// The buffer's stream, which `stream` was made to wait for.
fn home(context: &'static Context, buffer: &Buffer, stream: &CudaStream) -> Result<StreamRef, SliceError> {
    // SAFETY: a buffer's stream lives until the buffer is given back (`MemoryResource`).
    let back = unsafe { context.stream(buffer.stream()) }?;
    let then = stream_of(context, stream)?;
    plain(context, [back, then])?;
    order(context, back, context, then)?;
    Ok(back)
}

/// `upgrade_device_ptr`, whose panic (the driver may refuse an event) is an error.
///
/// # Safety
///
/// As `upgrade_device_ptr`: the slice frees the memory, unless it is leaked.
unsafe fn upgrade<T>(stream: &Arc<CudaStream>, buffer: &Buffer, len: usize) -> Result<CudaSlice<T>, SliceError> {
    let address = buffer.as_ptr().expose_provenance() as u64;
    let no_event = CudaError::Failed { function: "cuEventCreate", status: Status::UNKNOWN };
    catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the buffer has so many elements; the rest is the caller's.
        unsafe { stream.upgrade_device_ptr(address, len) }
    }))
    .map_err(|_| no_event.into())
}

/// Whether streams may wait for each other: a wait would draw the one into the graph that the other is captured into.
fn plain(context: &'static Context, streams: [StreamRef; 2]) -> Result<(), SliceError> {
    for stream in streams {
        if context.is_capturing(stream)? {
            return Err(CudaError::Capturing { what: "handing memory over" }.into());
        }
    }
    Ok(())
}

/// A stream of `cudarc` as one of ours. Its default stream has no handle.
fn stream_of(context: &Context, stream: &CudaStream) -> Result<StreamRef, SliceError> {
    let handle = stream.cu_stream();
    if handle.is_null() {
        return Ok(StreamRef::LEGACY);
    }
    // SAFETY: the stream lives as long as the reference, and those who hold a slice hold it; it is of this context.
    Ok(unsafe { context.stream(Stream(handle.expose_provenance() as i64)) }?)
}

fn failed(error: DriverError) -> SliceError {
    // Not printed by `cudarc`, which asks the driver for the text.
    CudaError::Failed { function: "a call by cudarc", status: Status(error.0 as i32) }.into()
}
