//! The way back of an export: to us in a capsule, or to its end by its deleter.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use freehold_ledger::{Counter, HolderFlags, HolderId};

use super::{Block, block_layout};
use crate::dlpack::{DLManagedTensor, DLManagedTensorVersioned};
use crate::handle::LastHandle;
use crate::{Label, Runtime, Tensor, block, canary, trace};

type Deleter<M> = unsafe extern "C" fn(*mut M);

/// Which of our deleters an export has.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Plain,
    /// At level 4: what cannot be released is not touched.
    Watched,
}

/// The two structs of DLPack that hold a tensor and its deleter.
pub(super) trait Managed: Sized + 'static {
    fn context(&self) -> *mut c_void;
    fn deleter(&self) -> Option<Deleter<Self>>;
    fn set_deleter(&mut self, deleter: Deleter<Self>);
    /// The deleter of our exports: one address each, so that an export that comes back is known by it.
    fn ours(kind: Kind) -> Deleter<Self>;
}

macro_rules! managed {
    ($struct:ty, $plain:ident, $watched:ident) => {
        unsafe extern "C" fn $plain(managed: *mut $struct) {
            // SAFETY: forwarded from the consumer.
            unsafe { release(managed) }
        }

        unsafe extern "C" fn $watched(managed: *mut $struct) {
            // SAFETY: as above.
            unsafe { release_watched(managed) }
        }

        impl Managed for $struct {
            fn context(&self) -> *mut c_void {
                self.manager_ctx
            }

            fn deleter(&self) -> Option<Deleter<Self>> {
                self.deleter
            }

            fn set_deleter(&mut self, deleter: Deleter<Self>) {
                self.deleter = Some(deleter);
            }

            #[inline]
            fn ours(kind: Kind) -> Deleter<Self> {
                // In statics: a function that is named twice may have two addresses.
                static PLAIN: Deleter<$struct> = $plain;
                static WATCHED: Deleter<$struct> = $watched;
                match kind {
                    Kind::Plain => PLAIN,
                    Kind::Watched => WATCHED,
                }
            }
        }
    };
}

managed!(DLManagedTensorVersioned, release_versioned, release_versioned_watched);
managed!(DLManagedTensor, release_legacy, release_legacy_watched);

/// The holder of an export of ours that comes back in a capsule, and whom it was for.
#[derive(Clone, Copy)]
pub(crate) struct Returned {
    pub(crate) holder: HolderId,
    pub(crate) consumer: Label,
}

/// Whether a capsule is an export of ours.
///
/// # Safety
///
/// * `managed` points to a managed tensor whose deleter was not called.
#[inline]
#[expect(private_bounds, reason = "callers name the two structs, not what they have in common")]
pub(crate) unsafe fn returned<M: Managed>(managed: NonNull<M>) -> Option<Returned> {
    // SAFETY: by the caller's word.
    let itself = unsafe { managed.as_ref() }.context();
    // A managed tensor that is its own context, as ours are and hardly another's.
    // SAFETY: as above.
    if ptr::eq(itself, managed.as_ptr().cast()) { unsafe { returned_to_itself(managed) } } else { None }
}

/// # Safety
///
/// * As for [`returned`].
#[cold]
#[inline(never)]
unsafe fn returned_to_itself<M: Managed>(managed: NonNull<M>) -> Option<Returned> {
    // SAFETY: by the caller's word.
    let deleter = unsafe { managed.as_ref() }.deleter()?;
    if ![Kind::Plain, Kind::Watched].into_iter().any(|kind| ptr::fn_addr_eq(deleter, M::ours(kind))) {
        return None;
    }
    let block = managed.cast::<Block<M>>();
    // SAFETY: only our blocks have our deleters, and it lives by the caller's word.
    let (tensor, holder) = unsafe { (&(*block.as_ptr()).tensor, (*block.as_ptr()).holder) };
    let ledger = tensor.runtime().ledger();
    let consumer = ledger.party(holder).framework;
    ledger.update_flags(holder, HolderFlags::CONSUMED, HolderFlags::EXPORTED);
    Some(Returned { holder, consumer })
}

/// Calls the deleter.
///
/// # Safety
///
/// * `managed` points to a managed tensor whose deleter was not called, and is given up.
pub(super) unsafe fn give<M: Managed>(managed: *mut M) {
    // SAFETY: by the caller's word; the borrow ends before the call.
    unsafe {
        if let Some(deleter) = (*managed).deleter() {
            deleter(managed);
        }
    }
}

/// Notes that the owner of a capsule frees it although nobody took it, and calls its deleter.
///
/// ```
/// use freehold::{ExportOptions, Runtime, Tensor, drop_unconsumed_versioned, ledger::Counter};
///
/// let raw = Tensor::from(vec![1.0f32]).to_versioned(&ExportOptions::default())?.into_raw();
/// // SAFETY: nobody took the capsule, and it is given up.
/// unsafe { drop_unconsumed_versioned(raw) };
/// let runtime = Runtime::global();
/// assert_eq!(runtime.ledger().counted(Counter::UnconsumedCapsules), 1);
/// assert!(runtime.ledger().live().is_empty());
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// # Safety
///
/// * `managed` came from [`VersionedCapsule::into_raw`](crate::VersionedCapsule::into_raw), its deleter was not called, and
///   it is given up.
pub unsafe fn drop_unconsumed_versioned(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: forwarded from the caller.
    unsafe { drop_unconsumed(managed) }
}

/// As [`drop_unconsumed_versioned`], for a legacy capsule.
///
/// ```
/// use freehold::{ExportOptions, Runtime, Tensor, drop_unconsumed_legacy, ledger::Counter};
///
/// let raw = Tensor::from(vec![1.0f32]).to_legacy(&ExportOptions::default())?.into_raw();
/// // SAFETY: nobody took the capsule, and it is given up.
/// unsafe { drop_unconsumed_legacy(raw) };
/// let runtime = Runtime::global();
/// assert_eq!(runtime.ledger().counted(Counter::UnconsumedCapsules), 1);
/// assert!(runtime.ledger().live().is_empty());
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// # Safety
///
/// * `managed` came from [`LegacyCapsule::into_raw`](crate::LegacyCapsule::into_raw), its deleter was not called, and it is
///   given up.
pub unsafe fn drop_unconsumed_legacy(managed: *mut DLManagedTensor) {
    // SAFETY: forwarded from the caller.
    unsafe { drop_unconsumed(managed) }
}

/// # Safety
///
/// * `managed` is a block of ours that lives, and is given up.
unsafe fn drop_unconsumed<M: Managed>(managed: *mut M) {
    let block = managed.cast::<Block<M>>();
    // SAFETY: forwarded from the caller; the tensor is not used after its deleter.
    unsafe {
        canary::unconsumed((*block).tensor.runtime(), (*block).holder);
        give(managed);
    }
}

/// # Safety
///
/// * As for [`release`], or anything else, which is not touched.
#[inline(always)]
unsafe fn release_watched<M>(managed: *mut M) {
    if !managed.is_null() && canary::exports::may_release(managed.addr()) {
        // SAFETY: an export that was not released before.
        unsafe { release(managed) }
    }
}

/// The deleter of every export: any thread, no GIL, after a panic, in a forked child.
///
/// Closes the ledger record before the memory is given back, frees the block, then drops the tensor, which may run a
/// foreign deleter or an owner's drop. A panic there is caught, since it cannot cross into C.
///
/// # Safety
///
/// * `managed` is NULL or what `Tensor::fill` filled for this `M`, and is given up.
#[inline(always)]
unsafe fn release<M>(managed: *mut M) {
    let Some(block) = NonNull::new(managed.cast::<Block<M>>()) else { return };
    // SAFETY: DLPack gives the deleter the pointer that it was exported with, once; nobody else reads the block now.
    let Block { tensor, holder, ndim, let_go, .. } = unsafe { block.as_ptr().read() };
    // SAFETY: acquired, or taken from what is kept, with this layout.
    unsafe { block::release(block.cast(), block_layout::<M>(ndim)) };
    if trace::listens() { heard(tensor, holder, let_go) } else { give_back(tensor, holder, let_go) }
}

/// Gives the memory back while somebody listens, whatever becomes of the listener.
#[cold]
#[inline(never)]
fn heard(tensor: Tensor, holder: HolderId, let_go: Option<fn(usize)>) {
    let runtime = tensor.0.runtime.clone();
    let mut span = None;
    quietly(&runtime, || span = Some(trace::release_span(&tensor, holder).entered()));
    quietly(&runtime, || trace::release(&tensor, holder));
    give_back(tensor, holder, let_go);
    quietly(&runtime, || drop(span));
}

#[inline(always)]
fn give_back(tensor: Tensor, holder: HolderId, let_go: Option<fn(usize)>) {
    // SAFETY: the export's record was opened on the ledger of its tensor's runtime.
    unsafe { tensor.0.runtime.ledger().close_opened(holder) };
    if let Some(let_go) = let_go {
        quietly(&tensor.0.runtime, || let_go(tensor.data_ptr().addr()));
    }
    if let Some(last) = tensor.0.let_go().and_then(LastHandle::end_plain) {
        let runtime = last.inner().runtime.clone();
        quietly(&runtime, || drop(last));
    }
}

/// Runs what may panic where a panic cannot pass.
fn quietly(runtime: &Runtime, run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        runtime.ledger().count(Counter::PanicsCaught);
        // Dropping the payload could panic again; the few bytes of that second one are leaked.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
    }
}
