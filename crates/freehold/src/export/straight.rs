//! The straight line of an export: what nearly every one is, without a call.

use std::ptr::NonNull;

use freehold_ledger::HolderId;

use super::{Block, block_layout, dims, versioned};
use crate::block::Kept;
use crate::dlpack::{self, DLManagedTensorVersioned};
use crate::{Label, Tensor, Traits, trace};

impl Tensor {
    /// As [`Tensor::to_versioned`] for a consumer of such a version and with default options, for a C interface, where the thread
    /// keeps a block for it: it makes no call but to open the record. `None` says nothing.
    #[doc(hidden)]
    #[inline(always)]
    pub fn export_at_hand(
        &self,
        max_version: (u32, u32),
        consumer: Label,
    ) -> Option<NonNull<DLManagedTensorVersioned>> {
        let inner = &*self.0;
        if trace::listens() || !inner.traits.difference(Traits::READ_ONLY).is_empty() {
            return None;
        }
        if inner.flow.is_some() || inner.watch.is_some() || inner.runtime.ledger().watches() {
            return None;
        }
        let (shape, strides) = (self.shape(), self.strides());
        let kept = Kept::peek(block_layout::<DLManagedTensorVersioned>(shape.len()))?;
        let block = kept.block().cast::<Block<_>>();
        for (i, (&n, &stride)) in shape.iter().zip(strides).enumerate() {
            // Of what is empty the capsule says other things. At once, as in `validate::plain`.
            if n == 0 {
                return None;
            }
            // SAFETY: twice as many values fit behind the block by its layout, and so behind the word of the list that it is on.
            unsafe { dims(block).add(i).write(n) };
            // SAFETY: as above.
            unsafe { dims(block).add(shape.len() + i).write(stride) };
        }
        // SAFETY: nothing was called since.
        unsafe { kept.take() };
        let flags = if inner.traits.is_empty() { 0 } else { dlpack::FLAG_READ_ONLY };
        let make = |context, dl_tensor| versioned(max_version, flags, context, dl_tensor);
        // SAFETY: a kept block is what `acquire` returns for this layout; it was just taken, and the dimensions are written.
        unsafe { self.fill(block, false, HolderId::NONE, None, make) };
        if !inner.runtime.ledger().is_off() {
            // SAFETY: it was just filled, and nobody else has it yet.
            unsafe { &mut *block.as_ptr() }.lend(consumer);
        }
        Some(block.cast())
    }
}

impl Block<DLManagedTensorVersioned> {
    /// Opens the record of an export that has none yet.
    #[inline(never)]
    fn lend(&mut self, consumer: Label) {
        let level = self.tensor.runtime().ledger().level();
        self.holder = self.tensor.lend_here(level, consumer, Label::NONE, false);
    }
}
