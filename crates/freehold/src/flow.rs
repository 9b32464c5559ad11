//! Which streams a tensor of a device is used on: who waits for whom, from the producer to the last consumer and back.
//!
//! DLPack orders one way only: the producer makes the consumer's stream wait. The way back is ours: memory is given back
//! when everything that was queued on the streams it went to is done, or, where the producer's own stream is known, after
//! that stream was told to wait.

use std::sync::{Arc, Mutex, PoisonError};

use freehold_device::Stream;
use freehold_device::cuda::{self, Context, CudaError, MemoryKind, StreamRef};
use smallvec::SmallVec;

use crate::decision::{Detail, Reason};
use crate::import::{ImportOptions, Place};
use crate::tensor::Owner;
use crate::{Code, Decision, Device, DeviceKind, Error, Message, Result};

/// The streams of one buffer of a CUDA device.
pub(crate) struct Flow {
    context: &'static Context,
    /// What runs on this stream after now sees the values.
    ready: StreamRef,
    /// The stream on which the memory is freed, where it is known: it can wait, so that nobody else has to.
    home: Option<StreamRef>,
    uses: Mutex<SmallVec<[(&'static Context, StreamRef); 2]>>,
}

/// A stream of a thread has no name for other threads, and the last holder may let go on any: the legacy default stream
/// stands for it, which waits for every thread's own.
fn shared(stream: StreamRef) -> StreamRef {
    if stream == StreamRef::PER_THREAD { StreamRef::LEGACY } else { stream }
}

/// Whether a kind of device has streams here.
pub(crate) fn has_streams(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::CUDA | DeviceKind::CUDA_MANAGED)
}

/// A stream by DLPack's number: none is the legacy default stream, as the array API standard has it.
///
/// The handles that callers give are taken to live, as in every framework: the driver cannot tell.
pub(crate) fn stream_of(context: &Context, stream: Option<Stream>) -> Result<StreamRef> {
    match stream {
        None | Some(Stream::NONE) => Ok(StreamRef::LEGACY),
        // SAFETY: whoever passes a stream says that it is one of this device's and lives while the tensor is used on it
        // (`Request::stream`, `ImportOptions::stream`, `ExportOptions::stream`).
        Some(stream) => unsafe { context.stream(stream) }.map_err(|error| Error::device(&error)),
    }
}

impl Flow {
    /// The flow of memory that comes in, and what the driver says of its address: base and length of the allocation.
    /// `None` where no driver can be asked.
    ///
    /// # Errors
    ///
    /// `DV03` the address is not the device's; `AR01` a number that is no stream; `DV02` the driver failed.
    pub(crate) fn import(device: Device, address: u64, options: &ImportOptions) -> Result<Option<Place>> {
        let Ok(driver) = cuda::probe() else { return Ok(None) };
        let failed = |error: CudaError| Error::device(&error);
        let context = Context::on(driver, device.id).map_err(failed)?;
        let mut alloc = None;
        if address != 0 {
            let pointer = cuda::pointer(driver, address).map_err(failed)?;
            let belongs = match pointer.kind {
                MemoryKind::Managed => true,
                MemoryKind::Device => pointer.ordinal == device.id,
                // Page-locked memory has an address that the device reads too, but it is not the device's.
                _ => false,
            };
            if !belongs {
                return Err(wrong_device(device, address, &pointer));
            }
            alloc = (pointer.base != 0).then_some((pointer.base, pointer.len));
        }
        let ready = shared(stream_of(context, options.stream)?);
        let home = options.home.map(|stream| stream_of(context, Some(stream))).transpose()?.map(shared);
        let flow = Flow { context, ready, home, uses: Mutex::default() };
        // What is let go of later may have to wait: whoever waits is started now, and not by a deleter.
        cuda::prepare_release(context).map_err(failed)?;
        Ok(Some(Place { flow: Some(Arc::new(flow)), alloc }))
    }

    /// The flow of new memory that is filled on a stream.
    ///
    /// # Errors
    ///
    /// `DV02` there is no such device; `AR01` a number that is no stream.
    pub(crate) fn for_new(device: Device, stream: Option<Stream>) -> Result<Flow> {
        let context = Context::of(device.id).map_err(|error| Error::device(&error))?;
        let stream = shared(stream_of(context, stream)?);
        Ok(Flow { context, ready: stream, home: Some(stream), uses: Mutex::default() })
    }

    /// Zeroes new memory.
    pub(crate) fn zero(&self, to: *mut u8, bytes: usize) -> Result<()> {
        // SAFETY: the memory is new, of this device, and of this length; it is freed on this stream.
        let done = unsafe { cuda::zero(self.context, to.addr() as u64, bytes, self.ready) };
        done.map_err(|error| Error::device(&error))
    }

    /// The context of the device.
    pub(crate) fn context(&self) -> &'static Context {
        self.context
    }

    /// The stream on which the values are in order.
    pub(crate) fn ready(&self) -> StreamRef {
        self.ready
    }

    /// Notes that work on a stream uses the memory from now on.
    pub(crate) fn used_on(&self, context: &'static Context, stream: StreamRef) {
        let used = (context, shared(stream));
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if !uses.iter().any(|(at, on)| at.ordinal() == context.ordinal() && *on == used.1) {
            uses.push(used);
        }
    }

    /// Makes a stream wait until the values are there, and notes that it uses them.
    pub(crate) fn hand_to(&self, context: &'static Context, stream: StreamRef) -> Result<()> {
        cuda::order(self.context, self.ready, context, stream).map_err(|error| Error::device(&error))?;
        self.used_on(context, stream);
        Ok(())
    }

    /// As [`Flow::hand_to`], by DLPack's number: -1 orders nothing.
    pub(crate) fn hand_to_number(&self, stream: Option<Stream>) -> Result<()> {
        if stream == Some(Stream::NONE) {
            return Ok(());
        }
        self.hand_to(self.context, stream_of(self.context, stream)?)
    }

    /// Waits on the host until the values are there.
    pub(crate) fn wait(&self) -> Result<()> {
        let done = cuda::Event::recorded(self.context, self.ready).and_then(|event| event.synchronize());
        done.map_err(|error| Error::device(&error))
    }

    /// Gives the memory back when its uses are done.
    pub(crate) fn release(&self, owner: Owner) {
        let uses = std::mem::take(&mut *self.uses.lock().unwrap_or_else(PoisonError::into_inner));
        cuda::release_after(&uses, self.home.map(|stream| (self.context, stream)), Box::new(move || drop(owner)));
    }
}

fn wrong_device(says: Device, address: u64, pointer: &cuda::Pointer) -> Error {
    let belongs = match pointer.kind {
        MemoryKind::Device => format!("cuda:{}", pointer.ordinal),
        MemoryKind::Managed => format!("cuda_managed:{}", pointer.ordinal),
        MemoryKind::Pinned => "cuda_host (page-locked host memory)".to_owned(),
        _ => "no device (ordinary host memory, or freed)".to_owned(),
    };
    let text = format!("the capsule says {says}, the pointer {address:#x} belongs to {belongs}");
    let message = Message::plain(Code::DV03, format!("import: {text}."), "report it to the producer");
    Error::rejected(message, Some(Decision::reject(Reason { code: Code::DV03, detail: Detail::Text(text.into()) })))
}
