//! The end of a tensor: its record first, then its memory.

use super::{Inner, Owner};
use crate::{Device, Label, Layout};

impl Inner {
    /// Whether it is a capsule or a view on the process's own ledger, of which nothing else is to be given back.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.flow.is_none()
            && self.watch.is_none()
            && self.runtime.is_global()
            && matches!(self.owner, Owner::Capsule(_) | Owner::Borrowed)
    }

    /// Whether it is a view of host memory that nobody frees, without a record, of which nothing but the address, the dtype, the
    /// traits and the dimensions differs from any other. A caller in C looks at it: others have faster ways to look.
    #[inline(always)]
    pub(crate) fn is_look(&self) -> bool {
        self.is_plain()
            && matches!(self.owner, Owner::Borrowed)
            && !self.owns_record
            && self.holder.is_none()
            && self.framework == Label::C
            && self.device == Device::CPU
            && self.byte_offset == 0
            && self.alloc.known().is_none()
    }

    /// Ends and drops what [`Inner::is_plain`]. It cannot panic: a deleter is a function of C.
    ///
    /// # Safety
    ///
    /// * `inner` is plain, may be dropped, and is not used any more.
    #[inline(always)]
    pub(crate) unsafe fn end_plain(inner: *mut Inner) {
        // SAFETY: the caller gives it up. `Owner::drop` does nothing for a capsule and for a view, and nothing beside the capsule needs
        // a drop.
        unsafe {
            (*inner).close();
            if let Owner::Capsule(capsule) = &mut (*inner).owner {
                std::ptr::drop_in_place(capsule);
            }
        }
    }

    /// Closes the record, if it is the tensor's own.
    // Erase before free: once the owner is dropped the address may be another buffer's.
    #[inline(always)]
    fn close(&self) {
        if self.owns_record {
            // SAFETY: who owns a record opened it on this runtime's ledger.
            unsafe { self.runtime.ledger().close_opened(self.holder) };
        }
    }

    /// The end of any tensor, before it is dropped and its memory given back.
    pub(crate) fn end(&mut self, shape: &[i64], strides: &[i64]) {
        if let Some(watch) = self.watch.take() {
            watch.end(self, Layout::new(shape, strides));
        }
        self.close();
        // The memory is given back when the streams that use it are done. A view has none to give back.
        if let Some(flow) = self.flow.take()
            && !matches!(self.owner, Owner::Parent(_))
        {
            flow.release(std::mem::replace(&mut self.owner, Owner::Borrowed));
        }
    }
}
