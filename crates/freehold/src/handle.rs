//! One allocation for a tensor: the count of its handles, what it is, its shape and strides.

use std::alloc::Layout as AllocLayout;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use crate::block::{self, Kept};
use crate::count::Count;
use crate::tensor::Inner;

pub(crate) mod look;

/// What handles point to. Shape and strides, `ndim` values each, follow.
#[repr(C)]
struct Node {
    count: Count,
    ndim: u8,
    /// Whether it is a look ([`Inner::is_look`]) of few dimensions. Whoever may change its facts says that it is none.
    look: bool,
    /// For a C interface that must tell its handles apart; nothing here reads it.
    kind: u16,
    inner: Inner,
}

/// What says that a node is a node, and where: how [`crate::Tensor::into_handle`]'s pointers are told from others.
pub(crate) const KIND: u16 = 0x4654;
pub(crate) const KIND_OFFSET: usize = std::mem::offset_of!(Node, kind);

const _: () = assert!(align_of::<Node>() == 8);

const fn layout(ndim: usize) -> AllocLayout {
    let size = size_of::<Node>() + ndim * 2 * size_of::<i64>();
    // SAFETY: the alignment is a power of two, and the size of at most 64 dimensions is far from overflow.
    unsafe { AllocLayout::from_size_align_unchecked(size, align_of::<Node>()) }
}

/// The shape behind a node, with the strides behind it.
///
/// # Safety
///
/// * `node` points to a block of `layout(ndim)` for some `ndim`.
#[inline]
unsafe fn dims(node: NonNull<Node>) -> *mut i64 {
    // SAFETY: the node is followed by the dimensions, or by nothing, inside its block.
    unsafe { node.as_ptr().add(1).cast() }
}

/// A block in which shape and strides are looked at before it is a tensor's.
pub(crate) trait Ground: Sized {
    /// A block for `ndim` dimensions that are still to be written; `None` if this kind has none.
    ///
    /// # Safety
    ///
    /// * Shape and strides are written before they are read, and before the draft is finished.
    unsafe fn room(ndim: usize) -> Option<Self>;

    /// Where the dimensions go: the shape, then the strides.
    fn place(&mut self) -> *mut i64;

    fn shape(&self) -> &[i64];

    /// Gives it up.
    fn abandon(self);
}

/// A block that the thread keeps and that is still on its list: to get it, and to give it up, takes no call.
pub(crate) struct Loan {
    kept: Kept<'static>,
    ndim: usize,
}

impl Ground for Loan {
    #[inline(always)]
    unsafe fn room(ndim: usize) -> Option<Loan> {
        Some(Loan { kept: Kept::peek(layout(ndim))?, ndim })
    }

    #[inline(always)]
    fn place(&mut self) -> *mut i64 {
        // SAFETY: the block has room for `layout(ndim)`; what is written lies behind the node, and so behind the list's word.
        unsafe { dims(self.kept.block().cast()) }
    }

    #[inline(always)]
    fn shape(&self) -> &[i64] {
        // SAFETY: `ndim` values are there, by the word of who called `room`.
        unsafe { std::slice::from_raw_parts(dims(self.kept.block().cast()), self.ndim) }
    }

    #[inline(always)]
    fn abandon(self) {}
}

impl Loan {
    /// Takes the block.
    ///
    /// # Safety
    ///
    /// * As for [`Kept::take`], since `room`.
    #[inline(always)]
    pub(crate) unsafe fn take(self) -> Draft {
        // SAFETY: forwarded from the caller. A kept block is what `acquire` returns for this layout.
        Draft { node: unsafe { self.kept.take() }.cast(), ndim: self.ndim }
    }
}

/// Shape and strides in a block that becomes a tensor's.
pub(crate) struct Draft {
    node: NonNull<Node>,
    ndim: usize,
}

impl Ground for Draft {
    #[inline(always)]
    unsafe fn room(ndim: usize) -> Option<Draft> {
        Some(Draft::acquire(ndim))
    }

    #[inline]
    fn place(&mut self) -> *mut i64 {
        // SAFETY: the block was acquired for `ndim` dimensions.
        unsafe { dims(self.node) }
    }

    #[inline]
    fn shape(&self) -> &[i64] {
        // SAFETY: `ndim` values are there, by the word of who called `room`.
        unsafe { std::slice::from_raw_parts(dims(self.node), self.ndim) }
    }

    #[cold]
    #[inline(never)]
    fn abandon(self) {}
}

impl Draft {
    #[inline(always)]
    fn acquire(ndim: usize) -> Draft {
        debug_assert!(ndim <= freehold_tensor::MAX_NDIM, "callers check");
        Draft { node: block::acquire(layout(ndim)).cast(), ndim }
    }

    /// A draft whose dimensions `write` writes: both halves, from the place that it is given.
    ///
    /// # Safety
    ///
    /// * It does.
    #[inline(always)]
    pub(crate) unsafe fn written(ndim: usize, write: impl FnOnce(*mut i64)) -> Draft {
        let mut draft = Draft::acquire(ndim);
        write(draft.place());
        draft
    }

    /// A copy of a shape and strides of one length.
    #[inline]
    pub(crate) fn copied(shape: &[i64], strides: &[i64]) -> Draft {
        let ndim = shape.len();
        assert!(strides.len() == ndim && ndim <= freehold_tensor::MAX_NDIM, "callers check");
        // SAFETY: both halves are written here: both slices have `ndim` values, for which the new block has room twice.
        unsafe {
            Draft::written(ndim, |place| {
                ptr::copy_nonoverlapping(shape.as_ptr(), place, ndim);
                ptr::copy_nonoverlapping(strides.as_ptr(), place.add(ndim), ndim);
            })
        }
    }

    #[inline]
    pub(crate) fn strides(&self) -> &[i64] {
        // SAFETY: as for the shape, which comes before.
        unsafe { std::slice::from_raw_parts(dims(self.node).add(self.ndim), self.ndim) }
    }

    /// The first handle.
    #[inline(always)]
    pub(crate) fn finish(self, inner: Inner) -> Handle {
        let Draft { node, ndim } = self;
        std::mem::forget(self);
        const { assert!(freehold_tensor::MAX_NDIM <= u8::MAX as usize) };
        let look = ndim <= look::MAX_NDIM && inner.is_look();
        // SAFETY: the block is ours, large enough and aligned for a node.
        unsafe { node.as_ptr().write(Node { count: Count::one(), ndim: ndim as u8, look, kind: KIND, inner }) };
        Handle(node)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // SAFETY: acquired, or taken from what is kept, for `ndim`; `finish` forgets the draft.
        unsafe { block::release(self.node.cast(), layout(self.ndim)) }
    }
}

/// A counted pointer to a tensor's facts, as an `Arc` of a struct with the dimensions in the same allocation.
pub(crate) struct Handle(NonNull<Node>);

// SAFETY: a handle shares an `Inner`, which is `Send + Sync`, and any thread may be the last to let go of it: the owner in
// it is `Send` too. The dimensions of a finished draft are never written to.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    #[inline]
    fn node(&self) -> &Node {
        // SAFETY: a handle counts, so the node lives; it is only changed through `get_mut`.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn shape(&self) -> &[i64] {
        // SAFETY: a finished draft: `ndim` values of shape follow the node.
        unsafe { std::slice::from_raw_parts(dims(self.0), self.node().ndim as usize) }
    }

    #[inline]
    pub(crate) fn strides(&self) -> &[i64] {
        let ndim = self.node().ndim as usize;
        // SAFETY: as above, and `ndim` strides after them.
        unsafe { std::slice::from_raw_parts(dims(self.0).add(ndim), ndim) }
    }

    /// Whether this is the only handle.
    #[inline]
    pub(crate) fn is_sole(&self) -> bool {
        self.node().count.is_one()
    }

    /// The facts, while this is the only handle.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut Inner> {
        if !self.is_sole() {
            return None;
        }
        // SAFETY: the only handle is borrowed exclusively, so that nobody reads the node and no other handle can be made.
        let node = unsafe { &mut *self.0.as_ptr() };
        node.look = false;
        Some(&mut node.inner)
    }

    /// Lets go; gives the handle back if it is the last, for a caller who must do so where a panic cannot pass.
    #[inline]
    pub(crate) fn let_go(self) -> Option<LastHandle> {
        let node = self.0;
        let last = self.node().count.sub();
        std::mem::forget(self);
        last.then(|| LastHandle(node))
    }

    /// As a pointer that keeps the count.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<u8> {
        let raw = self.0.cast();
        std::mem::forget(self);
        raw
    }

    /// The handle of a pointer.
    ///
    /// # Safety
    ///
    /// * `raw` came from [`Handle::into_raw`], and its count is passed on.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<u8>) -> Handle {
        Handle(raw.cast())
    }
}

impl Deref for Handle {
    type Target = Inner;

    #[inline]
    fn deref(&self) -> &Inner {
        &self.node().inner
    }
}

impl Clone for Handle {
    #[inline]
    fn clone(&self) -> Handle {
        self.node().count.add();
        Handle(self.0)
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        if self.node().count.sub() {
            end(LastHandle(self.0));
        }
    }
}

/// In one place for all who drop a handle.
#[inline(never)]
pub(crate) fn end(last: LastHandle) {
    drop(last.end_plain());
}

/// What the last handle leaves: dropping it ends the tensor.
#[repr(transparent)]
pub(crate) struct LastHandle(NonNull<Node>);

impl LastHandle {
    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        // SAFETY: the last handle is gone and this is its only successor, so the node lives and nobody changes it.
        unsafe { &self.0.as_ref().inner }
    }

    /// The end of a capsule or a view of which nothing else is to be given back, which cannot panic. What is another comes back,
    /// to be dropped.
    #[inline(always)]
    pub(crate) fn end_plain(self) -> Option<LastHandle> {
        if !self.inner().is_plain() {
            return Some(self);
        }
        let node = std::mem::ManuallyDrop::new(self).0;
        // SAFETY: this was the only access, and the contents, which are plain, are given up once. The block was acquired by a
        // draft for `ndim`.
        unsafe {
            Inner::end_plain(&raw mut (*node.as_ptr()).inner);
            block::release(node.cast(), layout((*node.as_ptr()).ndim as usize));
        }
        None
    }
}

impl Drop for LastHandle {
    #[cold]
    fn drop(&mut self) {
        // Also if the owner's drop panics.
        struct Free(NonNull<Node>);
        impl Drop for Free {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: acquired by a draft for `ndim`, and its contents are dropped.
                unsafe { block::release(self.0.cast(), layout((*self.0.as_ptr()).ndim as usize)) }
            }
        }
        let free = Free(self.0);
        // SAFETY: the count reached zero, so this is the only access, and the contents are dropped once. The shape and the
        // strides, which the end of a tensor looks at, stay until `free`.
        unsafe {
            let ndim = free.0.as_ref().ndim as usize;
            let shape = std::slice::from_raw_parts(dims(free.0), ndim);
            let strides = std::slice::from_raw_parts(dims(free.0).add(ndim), ndim);
            let inner = &raw mut (*free.0.as_ptr()).inner;
            (*inner).end(shape, strides);
            ptr::drop_in_place(inner);
        }
    }
}
