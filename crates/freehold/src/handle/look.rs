//! Looks: views of plain host memory that nobody frees, without a record. They come and go in a few nanoseconds, so that a thread
//! keeps those that ended with most of their facts, and only what differs from one to the next is written.

use std::mem::offset_of;
use std::ptr::NonNull;

use super::{Ground, Handle, KIND, Node, dims, layout};
use crate::block;
use crate::count::Count;
use crate::{DType, Traits};

/// The most dimensions of a look: those for which a kept block has room.
pub(super) const MAX_NDIM: usize = 6;
const _: () = assert!(layout(MAX_NDIM).size() <= block::SIZE && layout(MAX_NDIM + 1).size() > block::SIZE);

/// What a node tells of itself beside its count, as one word: that of a look of so many dimensions.
const fn word(ndim: u8) -> u32 {
    let [first, second] = KIND.to_ne_bytes();
    u32::from_le_bytes([ndim, true as u8, first, second])
}

/// Where that word is.
///
/// # Safety
///
/// * A node's block is there, or eight other bytes.
#[inline(always)]
unsafe fn word_of(node: NonNull<Node>) -> *mut u32 {
    const AT: usize = offset_of!(Node, ndim);
    const _: () = assert!(AT.is_multiple_of(4) && offset_of!(Node, look) == AT + 1 && offset_of!(Node, kind) == AT + 2);
    // SAFETY: within eight bytes.
    unsafe { node.as_ptr().byte_add(AT).cast() }
}

/// Keeps the look behind a handle, if it is one, the handle is the last, and the thread has room for it; else nothing is done.
///
/// # Safety
///
/// * A tensor is there, and the handle is the caller's, who gives it up if `true` comes back; or eight other readable bytes, aligned.
#[inline(always)]
pub(crate) unsafe fn keep(handle: NonNull<u8>) -> bool {
    let node = handle.cast::<Node>();
    // SAFETY: the word of a node that has other handles is not written to.
    let word_there = u32::from_le(unsafe { word_of(node).read() });
    // SAFETY: only a node has this kind, and a look's has so few dimensions. Nobody else has a handle, and nothing needs a drop.
    word_there.wrapping_sub(word(0)) <= MAX_NDIM as u32
        && unsafe { (*node.as_ptr()).count.is_one() && block::keep_view(handle) }
}

/// A look that ended, off the thread's list, with the facts that all have in common.
pub(crate) struct EndedLook {
    node: NonNull<Node>,
    ndim: usize,
}

impl Ground for EndedLook {
    #[inline(always)]
    unsafe fn room(ndim: usize) -> Option<EndedLook> {
        if ndim > MAX_NDIM {
            return None;
        }
        Some(EndedLook { node: block::take_view()?.cast(), ndim })
    }

    #[inline(always)]
    fn place(&mut self) -> *mut i64 {
        // SAFETY: the block has room for `MAX_NDIM` dimensions; what is written lies behind the node, and so behind the list's word.
        unsafe { dims(self.node) }
    }

    #[inline(always)]
    fn shape(&self) -> &[i64] {
        // SAFETY: `ndim` values are there, by the word of who called `room`.
        unsafe { std::slice::from_raw_parts(dims(self.node), self.ndim) }
    }

    #[inline(always)]
    fn abandon(self) {
        // SAFETY: it was on the list, which has room for it, and its node is as it was but for the dimensions.
        unsafe { block::keep_view(self.node.cast()) };
    }
}

impl EndedLook {
    /// The first handle of a new one.
    #[inline(always)]
    pub(crate) fn again(self, data: *mut u8, dtype: DType, traits: Traits) -> Handle {
        let node = self.node;
        // SAFETY: `keep` kept the node of a look: what is not written here is as all looks have it, which `Inner::is_look` says, and
        // the rest is plain data. Nobody else knows of the block.
        unsafe {
            (&raw mut (*node.as_ptr()).count).write(Count::one());
            word_of(node).write(word(self.ndim as u8).to_le());
            let inner = &raw mut (*node.as_ptr()).inner;
            (*inner).data = data;
            (*inner).dtype = dtype;
            (*inner).traits = traits;
            Handle(node)
        }
    }
}
