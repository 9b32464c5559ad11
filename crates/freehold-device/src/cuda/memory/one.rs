//! One block that came from elsewhere, as a resource of its own.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use freehold_tensor::Device;

use super::DRIVER_ALIGNMENT;
use crate::resource::{dangling, layout_for};
use crate::{AllocError, AllocReason, Buffer, MemoryResource, Stream};

type GiveBack = Box<dyn FnOnce(Stream) + Send>;

/// A block that is handed out once, and what becomes of it.
pub(in crate::cuda) struct OneBlock {
    name: &'static str,
    device: Device,
    address: u64,
    bytes: usize,
    out: AtomicBool,
    give_back: Mutex<Option<GiveBack>>,
}

impl OneBlock {
    /// The block as a buffer, which is given back on a stream. Until [`owned`](Self::owned), by nobody.
    ///
    /// # Safety
    ///
    /// * The block is memory of the device, of this size, and the caller's alone. It stays until it is given back; any thread may
    ///   do that.
    /// * Work that is queued on the stream from now on may use it.
    pub(in crate::cuda) unsafe fn buffer(
        name: &'static str,
        device: Device,
        address: u64,
        bytes: usize,
        stream: Stream,
    ) -> Result<(Arc<OneBlock>, Buffer), AllocError> {
        let (out, give_back) = (AtomicBool::new(false), Mutex::default());
        let block = Arc::new(OneBlock { name, device, address, bytes, out, give_back });
        // What begins in the middle of an allocation of the driver may be aligned to less.
        let align = 1 << address.trailing_zeros().min(DRIVER_ALIGNMENT.trailing_zeros());
        let resource: Arc<dyn MemoryResource> = Arc::clone(&block) as _;
        let buffer = Buffer::new(&resource, bytes, align, stream)?;
        Ok((block, buffer))
    }

    /// Says how it is given back: once, with the stream after whose work that is.
    pub(in crate::cuda) fn owned(&self, give_back: impl FnOnce(Stream) + Send + 'static) {
        *self.give_back.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(give_back));
    }
}

// SAFETY: `buffer` was promised memory that is its caller's alone, which any thread may give back; it is handed out once, where
// it is; zero bytes give a dangling pointer.
unsafe impl MemoryResource for OneBlock {
    fn device(&self) -> Device {
        self.device
    }

    fn allocate(&self, bytes: usize, align: usize, _stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let layout = layout_for(bytes, align, self.device)?;
        let once =
            || AllocError::new(bytes, align, self.device, AllocReason::Unusable("there is one block, handed out once"));
        let fits = bytes == self.bytes && self.address.is_multiple_of(align as u64);
        if !fits || self.out.swap(true, Ordering::AcqRel) {
            return Err(once());
        }
        if bytes == 0 {
            return Ok(dangling(layout));
        }
        NonNull::new(ptr::with_exposed_provenance_mut(self.address as usize)).ok_or_else(once)
    }

    unsafe fn deallocate(&self, _ptr: NonNull<u8>, _bytes: usize, _align: usize, stream: Stream) {
        // Not under the lock: it is foreign code.
        let give_back = self.give_back.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(give_back) = give_back {
            give_back(stream);
        }
    }

    fn name(&self) -> &str {
        self.name
    }
}
