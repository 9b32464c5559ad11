//! Copies between two places that a device reaches: by a kernel, which casts and lays out on the way.

use freehold_tensor::copy::CopyOptions;

use super::{Done, Road, Side, TransferError, host};
use crate::cuda::error::check;
use crate::cuda::launch::{Launch, Module, plan};
use crate::cuda::{Context, CudaError, Event, StreamRef, launch, memory};
use crate::{AllocError, Buffer};

/// A flag in the device's memory that a kernel sets, and the host reads: page-locked, so that no copy is needed.
struct Flag {
    memory: Buffer,
}

impl Flag {
    fn new() -> Result<Flag, TransferError> {
        let pinned = memory::pinned()?;
        let memory = Buffer::new(pinned, size_of::<u32>(), align_of::<u32>(), crate::Stream::NONE)?;
        // SAFETY: the block is page-locked host memory of this size, and nobody else has it.
        unsafe { memory.as_ptr().cast::<u32>().write_volatile(0) };
        Ok(Flag { memory })
    }

    fn address(&self) -> u64 {
        self.memory.as_ptr().addr() as u64
    }

    /// Whether it was set, once the kernel is done.
    fn is_set(&self) -> bool {
        // SAFETY: as above; the caller has waited for whoever writes to it.
        unsafe { self.memory.as_ptr().cast::<u32>().read_volatile() != 0 }
    }
}

/// A copy on one device, as [`super::copy`]. `None` where no kernel does it.
///
/// # Safety
///
/// As [`super::copy`].
pub(super) unsafe fn copy(
    dst: &Side<'_>,
    src: &Side<'_>,
    options: &CopyOptions,
    stream: StreamRef,
) -> Result<Option<Done>, TransferError> {
    let context = Context::of(dst.device.id)?;
    let mut launch_plan = match plan(&dst.operand, &src.operand, options) {
        Ok(Some(launch)) => launch,
        Ok(None) => return Ok(Some(Done { road: Road::Nothing, link_bytes: 0, event: None })),
        Err(freehold_tensor::copy::CopyError::Unsupported { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if let Some(bytes) = run(&launch_plan) {
        let _entered = context.enter()?;
        let (to, from) = (launch_plan.walk.dst, launch_plan.walk.src);
        // SAFETY: the run is what both layouts reach, which the caller vouches for.
        let status = unsafe { (context.api().memory.memcpy_dtod_async)(to, from, bytes, stream.raw()) };
        check("cuMemcpyDtoDAsync_v2", status)?;
    } else if launch_plan.checks {
        if context.is_capturing(stream)? {
            return Err(CudaError::Capturing { what: "looking for values that do not fit" }.into());
        }
        let flag = Flag::new()?;
        let event = Event::new(context)?;
        launch_plan.walk.lost = flag.address();
        // SAFETY: the caller's, and the flag lives until the kernel is done.
        unsafe { launch(context, &launch_plan, stream) }?;
        if let Err(error) = event.record(stream).and_then(|()| event.synchronize()) {
            // The kernel may still run and write to the flag.
            std::mem::forget(flag);
            return Err(error.into());
        }
        if flag.is_set() {
            // The host says which value was lost, in the words that it has for it; it is an error, and may be slow.
            // SAFETY: forwarded from the caller.
            return unsafe { host::copy(dst, src, options, stream) }.map(Some);
        }
    } else {
        // SAFETY: the caller's.
        unsafe { launch(context, &launch_plan, stream) }?;
    }
    let event = if context.is_capturing(stream)? { None } else { Some(super::after(context, stream)?) };
    Ok(Some(Done { road: Road::Kernel, link_bytes: 0, event }))
}

/// The bytes of a copy that is one run of both sides, which the driver does as well as a kernel.
fn run(launch: &Launch) -> Option<usize> {
    let walk = &launch.walk;
    let moves = launch.module == Module::Strided && launch.kernel.starts_with("fh_move_");
    let size: i64 = launch.kernel.strip_prefix("fh_move_")?.parse().ok()?;
    let compact = walk.axes == 1 && (walk.shape[0] == 1 || (walk.dst_step[0] == size && walk.src_step[0] == size));
    (moves && compact).then(|| usize::try_from(walk.shape[0] * size).ok()).flatten()
}

/// Memory of a device for a step on the way, freed in the order of the stream.
pub(super) struct Temporary(Buffer);

impl Temporary {
    pub(super) fn new(context: &'static Context, bytes: usize, stream: StreamRef) -> Result<Temporary, TransferError> {
        let resource = memory::resource(context.ordinal())?;
        let made: Result<Buffer, AllocError> = Buffer::new(resource, bytes, 256, stream.number());
        Ok(Temporary(made?))
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}
