//! A tensor walks out: one allocation holds the managed tensor, its shape and strides, and what keeps the memory
//! alive.
//!
//! What every consumer needs is always true of our exports, whoever produced the memory: strides are written,
//! `deleter` and `manager_ctx` are not NULL, the byte offset is folded into the pointer on devices with addresses,
//! size-0 tensors have NULL data, flags are true, and read-only memory never leaves through a legacy capsule, unless its
//! consumer promises that it never writes.

use std::alloc::Layout as AllocLayout;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use freehold_ledger::{Counter, Edge, HolderFlags, HolderId, Party};

use crate::block;
use crate::canary;
use crate::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor, dtype_to};
use crate::{Code, Decision, Error, Label, Message, Result, Runtime, Sync, Tensor, Traits, Verdict, trace};

/// Who takes the capsule.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions<'a> {
    /// The consumer, for the ledger.
    pub consumer: Label,
    /// The caller's label for the ledger.
    pub site: Label,
    /// The highest version the consumer reads; the capsule carries the lower of this and ours.
    pub max_version: (u32, u32),
    /// The decision that this export carries out, for the ledger's edge.
    pub decision: Option<&'a Decision>,
    /// Whether the consumer takes the capsule in the same call (a C exchange table), so that it cannot be left lying
    /// about unconsumed.
    pub taken: bool,
    /// Whether the consumer promises that it never writes, so that read-only memory may leave through a legacy capsule.
    pub never_writes: bool,
    /// Called with the address of the first element when the consumer lets go, before the memory is given back: from any
    /// thread, and must not panic.
    pub let_go: Option<fn(usize)>,
}

impl Default for ExportOptions<'_> {
    fn default() -> Self {
        Self {
            consumer: Label::UNKNOWN,
            site: Label::NONE,
            max_version: dlpack::VERSION,
            decision: None,
            taken: false,
            never_writes: false,
            let_go: None,
        }
    }
}

/// A versioned capsule that nobody has taken yet: dropping it calls its deleter.
pub struct VersionedCapsule(NonNull<DLManagedTensorVersioned>);

/// A legacy capsule that nobody has taken yet: dropping it calls its deleter.
pub struct LegacyCapsule(NonNull<DLManagedTensor>);

// SAFETY: the block is plain memory behind a deleter that any thread may call.
unsafe impl Send for VersionedCapsule {}
// SAFETY: as above.
unsafe impl Send for LegacyCapsule {}

impl VersionedCapsule {
    /// Hands the capsule over: whoever holds the pointer must call its deleter once.
    pub fn into_raw(self) -> *mut DLManagedTensorVersioned {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl LegacyCapsule {
    /// Hands the capsule over: whoever holds the pointer must call its deleter once.
    pub fn into_raw(self) -> *mut DLManagedTensor {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl Drop for VersionedCapsule {
    fn drop(&mut self) {
        // SAFETY: the block is ours and unreleased; `into_raw` forgets instead of dropping.
        unsafe {
            if let Some(deleter) = self.0.as_ref().deleter {
                deleter(self.0.as_ptr());
            }
        }
    }
}

impl Drop for LegacyCapsule {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            if let Some(deleter) = self.0.as_ref().deleter {
                deleter(self.0.as_ptr());
            }
        }
    }
}

/// The one allocation of an export. `managed` is first, so that a pointer to it is a pointer to the block; `ndim` is
/// kept here because a consumer may write to its struct.
#[repr(C)]
struct Block<M> {
    managed: M,
    tensor: Tensor,
    holder: HolderId,
    ndim: usize,
    let_go: Option<fn(usize)>,
    // shape and strides follow: 2 * ndim values.
}

#[inline]
fn block_layout<M>(ndim: usize) -> AllocLayout {
    let size = size_of::<Block<M>>() + ndim * 2 * size_of::<i64>();
    // SAFETY: the alignment is a power of two, and the size of at most 64 dimensions is far from overflow.
    unsafe { AllocLayout::from_size_align_unchecked(size, align_of::<Block<M>>()) }
}

impl Tensor {
    /// A versioned capsule over this tensor's memory.
    ///
    /// # Errors
    ///
    /// `LZ01`, `BO01`, `ST03`: the bytes are not the values, or strides are not in elements. [`crate::execute`]
    /// resolves all three.
    pub fn to_versioned(&self, options: &ExportOptions<'_>) -> Result<VersionedCapsule> {
        self.check_describable()?;
        let (major, minor) = if options.max_version.0 == dlpack::VERSION.0 {
            options.max_version.min(dlpack::VERSION)
        } else {
            dlpack::VERSION
        };
        let flags = if self.0.traits.is_empty() { 0 } else { self.capsule_flags() };
        let make = |context, dl_tensor| DLManagedTensorVersioned {
            version: DLPackVersion { major, minor },
            manager_ctx: context,
            deleter: Some(RELEASE_VERSIONED),
            flags: dlpack::flags_to(flags),
            dl_tensor,
        };
        let watch = |managed: &mut DLManagedTensorVersioned| managed.deleter = Some(RELEASE_VERSIONED_WATCHED);
        Ok(VersionedCapsule(self.block(options, make, watch)))
    }

    fn capsule_flags(&self) -> u64 {
        let mut flags = 0;
        for (bit, flag) in [
            (Traits::READ_ONLY, dlpack::FLAG_READ_ONLY),
            (Traits::IMMUTABLE, dlpack::FLAG_READ_ONLY),
            (Traits::IS_COPIED, dlpack::FLAG_IS_COPIED),
            (Traits::PADDED, dlpack::FLAG_SUBBYTE_PADDED),
        ] {
            if self.0.traits.contains(bit) {
                flags |= flag;
            }
        }
        if !self.is_sole() {
            // dlpack.h: the consumer of a copy is its sole owner. While another export or handle lives it is not.
            flags &= !dlpack::FLAG_IS_COPIED;
        }
        flags
    }

    /// A legacy capsule over this tensor's memory.
    ///
    /// # Errors
    ///
    /// As [`Tensor::to_versioned`]; and `RO01` for read-only memory, which a legacy capsule cannot mark, unless
    /// [`ExportOptions::never_writes`].
    pub fn to_legacy(&self, options: &ExportOptions<'_>) -> Result<LegacyCapsule> {
        self.check_describable()?;
        if !self.is_writable() && !options.never_writes {
            let mut message = Message::plain(
                Code::RO01,
                format!("export({} -> legacy capsule) would lose READ_ONLY.", self.desc()),
                "ask for a versioned capsule: __dlpack__(max_version=(1, 0)) or later",
            );
            message
                .lines
                .push("a legacy capsule cannot say that memory is read-only; its consumer could write.".into());
            message.fixes.push("copy it first".into());
            return Err(Error::rejected(message, None));
        }
        let make =
            |context, dl_tensor| DLManagedTensor { dl_tensor, manager_ctx: context, deleter: Some(RELEASE_LEGACY) };
        let watch = |managed: &mut DLManagedTensor| managed.deleter = Some(RELEASE_LEGACY_WATCHED);
        Ok(LegacyCapsule(self.block(options, make, watch)))
    }

    /// A `DLTensor` that borrows this tensor's shape and strides: valid while the tensor is.
    pub fn as_dltensor(&self) -> DLTensor {
        self.dltensor(self.shape().as_ptr().cast_mut(), self.strides().as_ptr().cast_mut())
    }

    fn dltensor(&self, shape: *mut i64, strides: *mut i64) -> DLTensor {
        let inner = &*self.0;
        let empty = self.layout().is_empty();
        DLTensor {
            data: if empty { ptr::null_mut() } else { inner.data.cast() },
            device: dlpack::device_to(inner.device),
            ndim: self.shape().len() as i32,
            dtype: dtype_to(inner.dtype),
            shape,
            strides,
            byte_offset: if empty { 0 } else { inner.byte_offset },
        }
    }

    /// A capsule describes bytes: what only traits can say must be resolved before.
    #[inline]
    fn check_describable(&self) -> Result<()> {
        const MORE: Traits = Traits::CONJ.union(Traits::NEG).union(Traits::SWAPPED).union(Traits::BYTE_STRIDES);
        if self.0.traits.intersects(MORE) { self.refuse_bytes() } else { Ok(()) }
    }

    #[cold]
    fn refuse_bytes(&self) -> Result<()> {
        let (code, what) = if self.0.traits.intersects(Traits::CONJ | Traits::NEG) {
            (Code::LZ01, "lazy conj or neg bits")
        } else if self.0.traits.contains(Traits::SWAPPED) {
            (Code::BO01, "the other byte order")
        } else {
            (Code::ST03, "byte strides that are not multiples of the item size")
        };
        let text = format!("export({}): a capsule cannot carry {what}.", self.desc());
        Err(Error::rejected(Message::plain(code, text, "convert it first: the copy resolves it"), None))
    }

    #[inline]
    fn open_holder(&self, options: &ExportOptions<'_>) -> HolderId {
        let inner = &*self.0;
        // A copy's own edge was written when it was made; what leaves here is always a share of what we hold.
        let codes = options.decision.filter(|d| d.verdict == Verdict::Share).map(Decision::codes);
        let edge = Edge {
            from: inner.holder,
            from_framework: inner.framework,
            to: Label::NONE,
            verdict: Verdict::Share,
            steps: freehold_tensor::Steps::empty(),
            reasons: codes.as_deref().unwrap_or_default(),
            bytes: 0,
            sync: Sync::None,
        };
        self.lend(options.consumer, options.site, options.taken, &edge)
    }

    /// Fills a new block; `make` builds the managed tensor from its context and tensor, `watch` gives it the deleter of
    /// level 4.
    #[inline]
    fn block<M>(
        &self,
        options: &ExportOptions<'_>,
        make: impl FnOnce(*mut c_void, DLTensor) -> M,
        watch: impl FnOnce(&mut M),
    ) -> NonNull<M> {
        let holder = self.open_holder(options);
        let (shape, strides) = (self.shape(), self.strides());
        let ndim = shape.len();
        let block = block::acquire(block_layout::<M>(ndim)).cast::<Block<M>>();
        // SAFETY: `2 * ndim` values fit behind the block by its layout; both sources have `ndim` values, and the new block
        // overlaps neither.
        let dims = unsafe {
            let dims = block.as_ptr().add(1).cast::<i64>();
            for i in 0..ndim {
                dims.add(i).write(shape[i]);
                dims.add(ndim + i).write(strides[i]);
            }
            dims
        };
        // SAFETY: `ndim` values of shape lie before the strides.
        let dl_tensor = self.dltensor(dims, unsafe { dims.add(ndim) });
        let managed = make(block.as_ptr().cast(), dl_tensor);
        // SAFETY: the block is ours, large enough and aligned for `Block<M>`.
        unsafe { block.as_ptr().write(Block { managed, tensor: self.clone(), holder, ndim, let_go: options.let_go }) };
        if self.0.watch.is_some() || self.0.runtime.ledger().watches() {
            // SAFETY: it was just filled, and nobody else has it yet.
            unsafe { &mut *block.as_ptr() }.watch(options, watch);
        }
        if trace::listens() {
            trace::export(self, holder, options);
        }
        block.cast()
    }
}

impl<M> Block<M> {
    /// Has a new export watched, or what it keeps if the memory is frozen.
    #[cold]
    #[inline(never)]
    fn watch(&mut self, options: &ExportOptions<'_>, watch: impl FnOnce(&mut M)) {
        if self.tensor.runtime().ledger().watches() {
            watch(&mut self.managed);
            let runtime = self.tensor.runtime();
            let to = Party { id: self.holder, framework: options.consumer, site: options.site };
            let parties = [runtime.ledger().party(self.tensor.id()), to];
            canary::exports::add(ptr::from_ref(self).addr(), parties, runtime.clone());
        }
        self.tensor = self.tensor.clone().lent_to(self.holder, options.consumer, options.site);
    }
}

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
pub(crate) unsafe fn returned_versioned(managed: NonNull<DLManagedTensorVersioned>) -> Option<Returned> {
    // SAFETY: by the caller's word.
    let (context, deleter) = unsafe { ((*managed.as_ptr()).manager_ctx, (*managed.as_ptr()).deleter) };
    if !ptr::eq(context, managed.as_ptr().cast()) {
        return None;
    }
    // SAFETY: as above.
    unsafe { returned(managed, deleter, [RELEASE_VERSIONED, RELEASE_VERSIONED_WATCHED]) }
}

/// As [`returned_versioned`].
///
/// # Safety
///
/// * As for [`returned_versioned`].
#[inline]
pub(crate) unsafe fn returned_legacy(managed: NonNull<DLManagedTensor>) -> Option<Returned> {
    // SAFETY: by the caller's word.
    let (context, deleter) = unsafe { ((*managed.as_ptr()).manager_ctx, (*managed.as_ptr()).deleter) };
    if !ptr::eq(context, managed.as_ptr().cast()) {
        return None;
    }
    // SAFETY: as above.
    unsafe { returned(managed, deleter, [RELEASE_LEGACY, RELEASE_LEGACY_WATCHED]) }
}

/// For a managed tensor that is its own context, as ours are and hardly another's.
///
/// # Safety
///
/// * As for [`returned_versioned`].
#[cold]
#[inline(never)]
unsafe fn returned<M>(managed: NonNull<M>, deleter: Option<Deleter<M>>, ours: [Deleter<M>; 2]) -> Option<Returned> {
    let deleter = deleter?;
    if !ours.iter().any(|own| ptr::fn_addr_eq(deleter, *own)) {
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

/// Notes that the owner of a capsule frees it although nobody took it, and calls its deleter.
///
/// # Safety
///
/// * `managed` came from [`VersionedCapsule::into_raw`], its deleter was not called, and it is given up.
pub unsafe fn drop_unconsumed_versioned(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: a block of ours that lives, by the caller's word.
    unsafe {
        note_unconsumed(managed.cast::<Block<DLManagedTensorVersioned>>());
        if let Some(deleter) = (*managed).deleter {
            deleter(managed);
        }
    }
}

/// As [`drop_unconsumed_versioned`], for a legacy capsule.
///
/// # Safety
///
/// * `managed` came from [`LegacyCapsule::into_raw`], its deleter was not called, and it is given up.
pub unsafe fn drop_unconsumed_legacy(managed: *mut DLManagedTensor) {
    // SAFETY: as above.
    unsafe {
        note_unconsumed(managed.cast::<Block<DLManagedTensor>>());
        if let Some(deleter) = (*managed).deleter {
            deleter(managed);
        }
    }
}

/// # Safety
///
/// * `block` points to a block that lives.
unsafe fn note_unconsumed<M>(block: *const Block<M>) {
    // SAFETY: forwarded from the caller.
    let (tensor, holder) = unsafe { (&(*block).tensor, (*block).holder) };
    canary::unconsumed(tensor.runtime(), holder);
}

type Deleter<M> = unsafe extern "C" fn(*mut M);
// One function each, so that an export of ours that comes back is known by it.
static RELEASE_VERSIONED: Deleter<DLManagedTensorVersioned> = release_versioned;
static RELEASE_VERSIONED_WATCHED: Deleter<DLManagedTensorVersioned> = release_versioned_watched;
static RELEASE_LEGACY: Deleter<DLManagedTensor> = release_legacy;
static RELEASE_LEGACY_WATCHED: Deleter<DLManagedTensor> = release_legacy_watched;

unsafe extern "C" fn release_versioned(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: forwarded from the consumer.
    unsafe { release(managed) }
}

unsafe extern "C" fn release_legacy(managed: *mut DLManagedTensor) {
    // SAFETY: as above.
    unsafe { release(managed) }
}

/// At level 4: what cannot be released is not touched.
unsafe extern "C" fn release_versioned_watched(managed: *mut DLManagedTensorVersioned) {
    if !managed.is_null() && canary::exports::may_release(managed.addr()) {
        // SAFETY: as above.
        unsafe { release_versioned(managed) }
    }
}

unsafe extern "C" fn release_legacy_watched(managed: *mut DLManagedTensor) {
    if !managed.is_null() && canary::exports::may_release(managed.addr()) {
        // SAFETY: as above.
        unsafe { release_legacy(managed) }
    }
}

/// The deleter of every export: any thread, no GIL, after a panic, in a forked child.
///
/// Closes the ledger record before the memory is given back, frees the block, then drops the tensor, which may run a
/// foreign deleter or an owner's drop. A panic there is caught, since it cannot cross into C.
///
/// # Safety
///
/// * `managed` is NULL or what `Tensor::block` made for this `M`, and is given up.
#[inline(always)]
unsafe fn release<M>(managed: *mut M) {
    let Some(block) = NonNull::new(managed.cast::<Block<M>>()) else { return };
    // SAFETY: DLPack gives the deleter the pointer that `block` returned, once; nobody else reads the block now.
    let Block { tensor, holder, ndim, let_go, .. } = unsafe { block.as_ptr().read() };
    // SAFETY: acquired in `Tensor::block` with this layout.
    unsafe { block::release(block.cast(), block_layout::<M>(ndim)) };
    if trace::listens() {
        quietly(&tensor.0.runtime, || trace::release(&tensor, holder));
    }
    tensor.0.runtime.ledger().close(holder);
    if let Some(let_go) = let_go {
        quietly(&tensor.0.runtime, || let_go(tensor.data_ptr().addr()));
    }
    if let Some(last) = tensor.0.let_go() {
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
