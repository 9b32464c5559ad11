//! The context of a device, shared with everybody in the process.

use std::ffi::{c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::driver::{Driver, is_exiting};
use super::error::{CudaError, check};
use super::event::Events;
use super::symbols::Api;
use super::sys::{self, CuContext, CuDevice, CuStream};
use super::{Status, probe};
use crate::Stream;

/// The contexts of a driver, made when first asked for.
pub(super) struct Contexts {
    each: Box<[OnceLock<Context>]>,
    /// Held while one is made, so that it is retained once.
    making: Mutex<()>,
}

impl Contexts {
    pub(super) fn new(count: usize) -> Contexts {
        Contexts { each: (0..count).map(|_| OnceLock::new()).collect(), making: Mutex::new(()) }
    }
}

/// The primary context of one device: the one that the CUDA runtime, and with it every framework, uses too.
///
/// It is retained when first asked for and never released: memory that left through DLPack may come back at any time.
///
/// ```no_run
/// use freehold_device::Stream;
/// use freehold_device::cuda::{Context, StreamRef, sys};
///
/// let context = Context::of(0)?;
/// assert_eq!((context.ordinal(), context.driver().devices.is_empty()), (0, false));
/// assert!(context.attribute(sys::DEVICE_MULTIPROCESSOR_COUNT)? > 0);
/// // SAFETY: a reserved number, and no handle.
/// assert_eq!(unsafe { context.stream(Stream(1)) }?, StreamRef::LEGACY);
/// let stream = context.work_stream()?;
/// assert!(!context.is_capturing(stream)?);
/// context.synchronize(stream)?;
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
pub struct Context {
    driver: &'static Driver,
    ordinal: i32,
    device: CuDevice,
    raw: CuContext,
    pub(super) events: Events,
    /// The stream for work that no caller gave a stream for.
    work: OnceLock<StreamRef>,
    /// What other rooms of this crate keep for each context: loaded modules, staging rings, pools.
    rooms: Mutex<Vec<(std::any::TypeId, &'static (dyn std::any::Any + Send + Sync))>>,
}

// SAFETY: a context handle may be used from any thread (`cuda.h`: contexts are made current per thread); the rest is.
unsafe impl Send for Context {}
// SAFETY: as above; nothing in it changes without a lock.
unsafe impl Sync for Context {}

impl Context {
    /// The context of a device of this machine's driver. The first call for a device makes it where no framework has,
    /// which takes some hundred megabytes of device memory and some tenths of a second.
    ///
    /// # Errors
    ///
    /// No driver, no such device, or what the driver says.
    pub fn of(ordinal: i32) -> Result<&'static Context, CudaError> {
        Context::on(probe()?, ordinal)
    }

    /// As [`Context::of`], of a given driver.
    ///
    /// # Errors
    ///
    /// As [`Context::of`].
    pub fn on(driver: &'static Driver, ordinal: i32) -> Result<&'static Context, CudaError> {
        let slot = usize::try_from(ordinal).ok().and_then(|i| driver.contexts.each.get(i));
        let slot = slot.ok_or(CudaError::NoDevice { ordinal, count: driver.devices.len() })?;
        if let Some(context) = slot.get() {
            return Ok(context);
        }
        alive(driver)?;
        let _making = driver.contexts.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = slot.get() {
            return Ok(context);
        }
        let mut device: CuDevice = 0;
        // SAFETY: the pointer is to an int of ours.
        check("cuDeviceGet", unsafe { (driver.api.core.device_get)(&raw mut device, ordinal) })?;
        let mut raw: CuContext = ptr::null_mut();
        // SAFETY: the pointer is to a handle of ours.
        check("cuDevicePrimaryCtxRetain", unsafe { (driver.api.core.primary_retain)(&raw mut raw, device) })?;
        Ok(slot.get_or_init(|| Context {
            driver,
            ordinal,
            device,
            raw,
            events: Events::default(),
            work: OnceLock::new(),
            rooms: Mutex::new(Vec::new()),
        }))
    }

    /// The contexts that were made so far, of this machine's driver; makes none and starts no driver that is not started.
    pub fn made(driver: &'static Driver) -> impl Iterator<Item = &'static Context> {
        driver.contexts.each.iter().filter_map(OnceLock::get)
    }

    /// Whether somebody has made the primary context of a device: asking makes none.
    ///
    /// # Errors
    ///
    /// No such device, or what the driver says.
    pub fn is_active(driver: &'static Driver, ordinal: i32) -> Result<bool, CudaError> {
        alive(driver)?;
        let mut device: CuDevice = 0;
        // SAFETY: the pointer is to an int of ours.
        check("cuDeviceGet", unsafe { (driver.api.core.device_get)(&raw mut device, ordinal) })?;
        let (mut flags, mut active): (c_uint, c_int) = (0, 0);
        // SAFETY: the pointers are to ints of ours.
        let status = unsafe { (driver.api.core.primary_state)(device, &raw mut flags, &raw mut active) };
        check("cuDevicePrimaryCtxGetState", status)?;
        Ok(active != 0)
    }

    /// The driver.
    pub fn driver(&self) -> &'static Driver {
        self.driver
    }

    /// The driver's functions.
    pub fn api(&self) -> &'static Api {
        &self.driver.api
    }

    /// The index of the device.
    pub fn ordinal(&self) -> i32 {
        self.ordinal
    }

    /// The driver's name for the device.
    pub fn device(&self) -> CuDevice {
        self.device
    }

    /// The driver's handle.
    pub fn raw(&self) -> CuContext {
        self.raw
    }

    /// Whether the driver can be called: not in a forked child, and not at exit.
    ///
    /// # Errors
    ///
    /// [`CudaError::Forked`], [`CudaError::Exiting`].
    pub fn check_alive(&self) -> Result<(), CudaError> {
        alive(self.driver)
    }

    /// Makes the context current on this thread until the guard goes, which puts back what was current before.
    ///
    /// # Errors
    ///
    /// In a forked child, at exit, or what the driver says.
    pub fn enter(&self) -> Result<Entered<'_>, CudaError> {
        alive(self.driver)?;
        let core = &self.driver.api.core;
        let mut before: CuContext = ptr::null_mut();
        // SAFETY: the pointer is to a handle of ours.
        check("cuCtxGetCurrent", unsafe { (core.ctx_get_current)(&raw mut before) })?;
        let changed = before != self.raw;
        if changed {
            // SAFETY: a context that is retained for ever.
            check("cuCtxSetCurrent", unsafe { (core.ctx_set_current)(self.raw) })?;
        }
        Ok(Entered { context: self, before: changed.then_some(before), thread: PhantomData })
    }

    /// An attribute of the device, `CU_DEVICE_ATTRIBUTE_...` in [`sys`](super::sys).
    ///
    /// # Errors
    ///
    /// What the driver says: an attribute that it does not know is an invalid value.
    pub fn attribute(&self, attribute: c_int) -> Result<i32, CudaError> {
        let mut value: c_int = 0;
        // SAFETY: the pointer is to an int of ours; the device is one of the driver's.
        let status = unsafe { (self.driver.api.core.device_get_attribute)(&raw mut value, attribute, self.device) };
        check("cuDeviceGetAttribute", status)?;
        Ok(value)
    }

    /// Free and total memory of the device, in bytes.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn memory_info(&self) -> Result<(usize, usize), CudaError> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the pointers are to sizes of ours; the context is current.
        let status = unsafe { (self.driver.api.core.mem_get_info)(&raw mut free, &raw mut total) };
        check("cuMemGetInfo_v2", status)?;
        Ok((free, total))
    }

    /// A stream by DLPack's number. [`Stream::NONE`] is the stream of ours that [`Context::work_stream`] gives.
    ///
    /// # Errors
    ///
    /// [`CudaError::BadStream`]: 0, or a negative number other than -1.
    ///
    /// # Safety
    ///
    /// * A handle is that of a stream on this device, in the primary context, which lives until the last use of what is
    ///   returned: the driver cannot tell a live handle from a dead one.
    pub unsafe fn stream(&self, stream: Stream) -> Result<StreamRef, CudaError> {
        match stream {
            Stream::NONE => self.work_stream(),
            Stream::LEGACY_DEFAULT => Ok(StreamRef::LEGACY),
            Stream::PER_THREAD_DEFAULT => Ok(StreamRef::PER_THREAD),
            Stream(handle) if stream.is_handle() => {
                let address = usize::try_from(handle).map_err(|_| CudaError::BadStream(handle))?;
                Ok(StreamRef(ptr::with_exposed_provenance_mut(address)))
            }
            Stream(number) => Err(CudaError::BadStream(number)),
        }
    }

    /// A non-blocking stream of ours: for work that nobody gave a stream for, ordered with others by events only.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn work_stream(&self) -> Result<StreamRef, CudaError> {
        if let Some(stream) = self.work.get() {
            return Ok(*stream);
        }
        let made = self.new_stream()?;
        Ok(*self.work.get_or_init(|| made))
    }

    /// A new non-blocking stream, kept for ever: what was queued on it may be waited for at any time. For the few streams
    /// that this crate works on.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn new_stream(&self) -> Result<StreamRef, CudaError> {
        let _entered = self.enter()?;
        let mut stream: CuStream = ptr::null_mut();
        // SAFETY: the pointer is to a handle of ours; the context is current.
        let status = unsafe { (self.driver.api.work.stream_create)(&raw mut stream, sys::STREAM_NON_BLOCKING) };
        check("cuStreamCreate", status)?;
        Ok(StreamRef(stream))
    }

    /// Whether a stream is being captured into a graph, so that nothing on it may be waited for.
    ///
    /// # Errors
    ///
    /// As [`Context::enter`].
    pub fn is_capturing(&self, stream: StreamRef) -> Result<bool, CudaError> {
        let _entered = self.enter()?;
        let mut state: c_uint = 0;
        // SAFETY: the pointer is to an int of ours; a `StreamRef` is a live stream.
        let status = unsafe { (self.driver.api.work.stream_is_capturing)(stream.0, &raw mut state) };
        // The legacy stream, while another stream captures, is refused by this code: anything on it would break that.
        if status == Status::STREAM_CAPTURE_IMPLICIT {
            return Ok(true);
        }
        check("cuStreamIsCapturing", status)?;
        Ok(state != sys::STREAM_CAPTURE_NONE)
    }

    /// Waits until everything that was queued on a stream is done.
    ///
    /// # Errors
    ///
    /// [`CudaError::Capturing`], and what the driver says (an earlier failure of the device comes out here too).
    pub fn synchronize(&self, stream: StreamRef) -> Result<(), CudaError> {
        if self.is_capturing(stream)? {
            return Err(CudaError::Capturing { what: "waiting for the stream" });
        }
        let _entered = self.enter()?;
        // SAFETY: the context is current; a `StreamRef` is a live stream.
        check("cuStreamSynchronize", unsafe { (self.driver.api.work.stream_synchronize)(stream.0) })
    }

    /// What a room of this crate keeps for the context, made by `make` when first asked for, and kept for ever. Two
    /// threads that ask first may both make one; one is kept, and `make` must not mind.
    pub fn room<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> &'static T {
        let kind = std::any::TypeId::of::<T>();
        let find = |rooms: &[(std::any::TypeId, &'static (dyn std::any::Any + Send + Sync))]| {
            rooms.iter().find(|room| room.0 == kind).and_then(|room| room.1.downcast_ref::<T>())
        };
        if let Some(found) = find(&self.rooms.lock().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        // Not under the lock: it may ask for another room.
        let made: &'static T = Box::leak(Box::new(make()));
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        find(&rooms).unwrap_or_else(|| {
            rooms.push((kind, made));
            made
        })
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("ordinal", &self.ordinal).finish_non_exhaustive()
    }
}

/// A stream that lives: one of the reserved ones, one of ours, or one that somebody vouched for ([`Context::stream`]).
///
/// ```
/// use freehold_device::Stream;
/// use freehold_device::cuda::StreamRef;
///
/// assert_eq!(StreamRef::PER_THREAD.number(), Stream::PER_THREAD_DEFAULT);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct StreamRef(CuStream);

// SAFETY: the driver lets any thread use a stream.
unsafe impl Send for StreamRef {}
// SAFETY: as above.
unsafe impl Sync for StreamRef {}

impl StreamRef {
    /// The legacy default stream, which waits for every blocking stream of the context.
    pub const LEGACY: StreamRef = StreamRef(sys::STREAM_LEGACY);
    /// The default stream of the calling thread.
    pub const PER_THREAD: StreamRef = StreamRef(sys::STREAM_PER_THREAD);

    /// The driver's handle.
    pub fn raw(self) -> CuStream {
        self.0
    }

    /// DLPack's number.
    pub fn number(self) -> Stream {
        Stream(self.0.expose_provenance() as i64)
    }
}

/// Zeroes memory of a device, on a stream.
///
/// ```no_run
/// use freehold_device::cuda::{Context, memory, zero};
/// use freehold_device::{Buffer, Stream};
///
/// let context = Context::of(0)?;
/// let memory = Buffer::new(memory::managed(0)?, 64, 64, Stream::NONE)?;
/// let stream = context.work_stream()?;
/// // SAFETY: all of the buffer, which nothing else uses.
/// unsafe { zero(context, memory.as_ptr().addr() as u64, memory.len(), stream) }?;
/// context.synchronize(stream)?;
/// // SAFETY: written above, and the host may read it now.
/// assert_eq!(unsafe { *memory.as_ptr() }, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`Context::enter`].
///
/// # Safety
///
/// * `bytes` bytes at `address` are memory of the device, or page-locked or managed memory, until the work is done.
/// * What is queued on other streams and uses the memory is ordered with this stream.
pub unsafe fn zero(context: &Context, address: u64, bytes: usize, stream: StreamRef) -> Result<(), CudaError> {
    if bytes == 0 {
        return Ok(());
    }
    let _entered = context.enter()?;
    // SAFETY: the caller vouches for the memory; a `StreamRef` is a live stream; the context is current.
    check("cuMemsetD8Async", unsafe { (context.api().memory.memset_d8_async)(address, 0, bytes, stream.raw()) })
}

/// Whether the host may read managed memory of a device while the device works.
///
/// ```
/// use freehold_device::cuda::reads_managed;
///
/// assert!(!reads_managed(-1)); // no such device
/// ```
pub fn reads_managed(ordinal: i32) -> bool {
    Context::of(ordinal).and_then(|context| context.attribute(sys::DEVICE_CONCURRENT_MANAGED_ACCESS)) == Ok(1)
}

/// Whether the driver can be called at all.
fn alive(driver: &Driver) -> Result<(), CudaError> {
    if is_exiting() {
        return Err(CudaError::Exiting);
    }
    if driver.forks != super::driver::forks() {
        return Err(CudaError::Forked);
    }
    Ok(())
}

/// A context that is current on this thread. Dropping it puts back the one before.
///
/// ```no_run
/// use freehold_device::cuda::Context;
///
/// let context = Context::of(0)?;
/// let (_entered, mut free, mut total) = (context.enter()?, 0, 0);
/// // SAFETY: the places are ours; the context is current.
/// let status = unsafe { (context.api().core.mem_get_info)(&raw mut free, &raw mut total) };
/// assert!(status.0 == 0 && free <= total);
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
#[must_use]
pub struct Entered<'a> {
    context: &'a Context,
    before: Option<CuContext>,
    /// Not `Send`: what is current belongs to a thread.
    thread: PhantomData<*mut c_void>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: what was current on this thread when it was entered, or none. Had its owner destroyed it since, the
            // driver would say so and leave ours, which is the best that can be done.
            unsafe { (self.context.driver.api.core.ctx_set_current)(before) };
        }
    }
}
