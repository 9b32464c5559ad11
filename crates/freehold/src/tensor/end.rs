//! The end of a tensor: its record first, then its memory.

use super::{Inner, Owner};
use crate::Layout;

impl Inner {
    /// Whether its end is nobody's business: a look at memory that nobody frees.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.owner, Owner::Borrowed)
            && !self.owns_record
            && self.flow.is_none()
            && self.watch.is_none()
            && self.runtime.is_global()
    }

    /// The end of the tensor, before anything is given back.
    #[inline(always)]
    pub(crate) fn end(&mut self, shape: &[i64], strides: &[i64]) {
        if self.watch.is_some() {
            self.end_watch(Layout::new(shape, strides));
        }
        // Erase before free: once the owner is dropped the address may be another buffer's.
        if self.owns_record {
            self.runtime.ledger().close(self.holder);
        }
        if self.flow.is_some() {
            self.end_flow();
        }
    }

    /// Drops the facts; for a capsule or a view, of which there is nothing else to give back, without a look at what is not there.
    ///
    /// # Safety
    ///
    /// * `inner` may be dropped, and is not used any more.
    #[inline(always)]
    pub(crate) unsafe fn drop_at(inner: *mut Inner) {
        // SAFETY: the caller gives it up. `Owner::drop` does nothing for these two kinds, so that what is in them is all.
        unsafe {
            if (*inner).flow.is_none() && (*inner).watch.is_none() && (*inner).runtime.is_global() {
                match &mut (*inner).owner {
                    Owner::Capsule(capsule) => return std::ptr::drop_in_place(capsule),
                    Owner::Borrowed => return,
                    _ => {}
                }
            }
            std::ptr::drop_in_place(inner);
        }
    }

    /// Has the memory given back when the streams that use it are done. A view has none to give back.
    #[cold]
    #[inline(never)]
    fn end_flow(&mut self) {
        if let Some(flow) = self.flow.take()
            && !matches!(self.owner, Owner::Parent(_))
        {
            flow.release(std::mem::replace(&mut self.owner, Owner::Borrowed));
        }
    }

    #[cold]
    #[inline(never)]
    fn end_watch(&mut self, layout: Layout<'_>) {
        if let Some(watch) = self.watch.take() {
            watch.end(self, layout);
        }
    }
}
