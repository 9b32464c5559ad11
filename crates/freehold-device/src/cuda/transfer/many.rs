//! Many small copies at once.

use super::{Done, Road, TransferError, rows};
use crate::cuda::{Context, StreamRef};

/// One of many copies: addresses, of page-locked, managed or a device's memory, and a length in bytes.
///
/// ```no_run
/// use freehold_device::cuda::transfer::{Piece, Road, copy_many};
/// use freehold_device::cuda::{Context, StreamRef};
///
/// let none = Piece { dst: 0, src: 0, bytes: 0 };
/// // SAFETY: nothing is copied.
/// let done = unsafe { copy_many(Context::of(0)?, &[none], StreamRef::LEGACY) }?;
/// assert_eq!(done.road, Road::Nothing);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Where to.
    pub dst: u64,
    /// Where from.
    pub src: u64,
    /// How many bytes.
    pub bytes: usize,
}

/// Queues many copies on a stream, in one call of the driver where it has that (CUDA 12.8), in no order among themselves.
///
/// ```no_run
/// use freehold_device::cuda::memory::{managed, resource};
/// use freehold_device::cuda::transfer::{Piece, Road, copy_many};
/// use freehold_device::cuda::{Context, StreamRef};
/// use freehold_device::{Buffer, Stream};
///
/// let context = Context::of(0)?;
/// let stream = StreamRef::LEGACY;
/// let from = Buffer::new(managed(0)?, 512, 256, Stream::NONE)?;
/// let to = Buffer::new(resource(0)?, 512, 256, stream.number())?;
/// let (src, dst) = (from.as_ptr().addr() as u64, to.as_ptr().addr() as u64);
/// let halves = [Piece { dst: dst + 256, src, bytes: 256 }, Piece { dst, src: src + 256, bytes: 256 }];
/// // SAFETY: all within the two buffers, which nothing else uses.
/// let done = unsafe { copy_many(context, &halves, stream) }?;
/// assert_eq!((done.road, done.link_bytes), (Road::Batched, 512));
/// context.synchronize(stream)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// What the driver says: some of the copies may have been made then. A batch on a captured stream is not possible.
///
/// # Safety
///
/// * Every range is memory that the device reaches, and not ordinary host memory, until the event of the result; no
///   destination overlaps another range.
/// * `stream` is a stream of the context, and work that it is given now comes after what filled the sources.
pub unsafe fn copy_many(context: &'static Context, pieces: &[Piece], stream: StreamRef) -> Result<Done, TransferError> {
    let pieces = pieces.iter().filter(|piece| piece.bytes != 0);
    let (mut to, mut from): (Vec<u64>, Vec<u64>) = pieces.clone().map(|piece| (piece.dst, piece.src)).unzip();
    let mut bytes: Vec<usize> = pieces.map(|piece| piece.bytes).collect();
    if bytes.is_empty() {
        return Ok(Done { road: Road::Nothing, link_bytes: 0, event: None });
    }
    let link_bytes = bytes.iter().map(|bytes| *bytes as u64).sum();
    // SAFETY: forwarded from the caller.
    unsafe { rows::batch(context, &mut to, &mut from, &mut bytes, stream) }.inspect_err(|_| {
        // Some may be queued, and the caller gives the memory back.
        let _ = context.synchronize(stream);
    })?;
    Ok(Done { road: Road::Batched, link_bytes, event: Some(super::after(context, stream)?) })
}
