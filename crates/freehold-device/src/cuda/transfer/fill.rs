//! One value everywhere.

use freehold_tensor::FieldError;
use freehold_tensor::copy::CopyError;

use super::{Done, Road, Side, TransferError};
use crate::cuda::error::check;
use crate::cuda::launch::{one_byte, plan_fill};
use crate::cuda::{Context, StreamRef, launch};

/// Fills memory of a device with one value, on a stream: `value` is the bytes of an element as they lie in memory, 1, 2, 4, 8 or
/// 16. Waits for nothing; a graph can hold it.
///
/// ```no_run
/// use freehold_device::cuda::memory::managed;
/// use freehold_device::cuda::transfer::{Side, fill};
/// use freehold_device::cuda::{Context, StreamRef};
/// use freehold_device::{Buffer, Stream};
/// use freehold_tensor::copy::{Lazy, Operand};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let buffer = Buffer::new(managed(0)?, 400, 256, Stream::NONE)?;
/// let (data, layout) = (buffer.as_ptr(), Layout::new(&[100], &[1]));
/// let operand = Operand { data, dtype: DType::F32, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let dst = Side { operand, device: buffer.device() };
/// // SAFETY: the buffer is as long as the layout reaches, and nothing else uses it.
/// let _done = unsafe { fill(&dst, &1.5_f32.to_ne_bytes(), StreamRef::LEGACY) }?;
/// Context::of(0)?.synchronize(StreamRef::LEGACY)?;
/// // SAFETY: written above, and the host may read it now.
/// assert_eq!(unsafe { *data.cast::<f32>() }, 1.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Copy`]: [`CopyError::Unsupported`] for elements that share bytes or are of another size, [`CopyError::Shape`]
/// for a value of another size than an element, a stride of 0, or memory that no device fills.
///
/// # Safety
///
/// * All that the layout reaches is memory of the device, which nobody else uses until the event of the result.
/// * `stream` is a stream of the device, and work that it is given now comes after what used the memory before.
pub unsafe fn fill(dst: &Side<'_>, value: &[u8], stream: StreamRef) -> Result<Done, TransferError> {
    if !dst.is_on_device() {
        let kind = i64::from(dst.device.kind.0);
        let error = FieldError::new("device_type", kind, "be that of CUDA or managed memory, which a device fills");
        return Err(CopyError::from(error).into());
    }
    let Some(plan) = plan_fill(&dst.operand, value)? else {
        return Ok(Done { road: Road::Nothing, link_bytes: 0, event: None });
    };
    let context = Context::of(dst.device.id)?;
    let road = match one_byte(&plan) {
        Some((at, byte, bytes)) => {
            let _entered = context.enter()?;
            // SAFETY: the run is what the layout reaches, which the caller vouches for; the context is current.
            let status = unsafe { (context.api().memory.memset_d8_async)(at, byte, bytes, stream.raw()) };
            check("cuMemsetD8Async", status)?;
            Road::Driver
        }
        None => {
            // SAFETY: the caller's; a fill reads nothing.
            unsafe { launch(context, &plan, stream) }?;
            Road::Kernel
        }
    };
    let event = if context.is_capturing(stream)? { None } else { Some(super::after(context, stream)?) };
    Ok(Done { road, link_bytes: 0, event })
}
