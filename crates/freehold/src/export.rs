//! A tensor walks out: one allocation holds the managed tensor, its shape and strides, and what keeps the memory
//! alive.
//!
//! What every consumer needs is always true of our exports, whoever produced the memory: strides are written,
//! `deleter` and `manager_ctx` are not NULL, the byte offset is folded into the pointer on devices with addresses,
//! size-0 tensors have NULL data, flags are true, and read-only memory never leaves through a legacy capsule, unless its
//! consumer promises that it never writes.

use std::alloc::{Layout as AllocLayout, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use freehold_ledger::{Counter, Edge, HolderDesc, HolderFlags, HolderId, Role};

use crate::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor, dtype_to};
use crate::tensor::unit_of;
use crate::{Code, Decision, Error, Label, Message, Result, Sync, Tensor, Traits, Verdict};

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
        unsafe { release::<DLManagedTensorVersioned>(self.0.as_ptr()) }
    }
}

impl Drop for LegacyCapsule {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { release::<DLManagedTensor>(self.0.as_ptr()) }
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

fn block_layout<M>(ndim: usize) -> (AllocLayout, usize) {
    let dims = AllocLayout::array::<i64>(2 * ndim).expect("ndim is at most 64");
    let (layout, offset) = AllocLayout::new::<Block<M>>().extend(dims).expect("ndim is at most 64");
    (layout.pad_to_align(), offset)
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
        let holder = self.open_holder(options);
        Ok(VersionedCapsule(self.block(holder, options, |context, dl_tensor| DLManagedTensorVersioned {
            version: DLPackVersion { major, minor },
            manager_ctx: context,
            deleter: Some(release::<DLManagedTensorVersioned>),
            flags: dlpack::flags_to(flags),
            dl_tensor,
        })))
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
        let holder = self.open_holder(options);
        Ok(LegacyCapsule(self.block(holder, options, |context, dl_tensor| DLManagedTensor {
            dl_tensor,
            manager_ctx: context,
            deleter: Some(release::<DLManagedTensor>),
        })))
    }

    /// A `DLTensor` that borrows this tensor's shape and strides: valid while the tensor is.
    pub fn as_dltensor(&self) -> DLTensor {
        let inner = &*self.0;
        self.dltensor(inner.shape.as_ptr().cast_mut(), inner.strides.as_ptr().cast_mut())
    }

    fn dltensor(&self, shape: *mut i64, strides: *mut i64) -> DLTensor {
        let inner = &*self.0;
        let empty = self.layout().is_empty();
        DLTensor {
            data: if empty { std::ptr::null_mut() } else { inner.data.cast() },
            device: dlpack::device_to(inner.device),
            ndim: inner.shape.len() as i32,
            dtype: dtype_to(inner.dtype),
            shape,
            strides,
            byte_offset: if empty { 0 } else { inner.byte_offset },
        }
    }

    /// A capsule describes bytes: what only traits can say must be resolved before.
    fn check_describable(&self) -> Result<()> {
        let (code, what) = if self.0.traits.intersects(Traits::CONJ | Traits::NEG) {
            (Code::LZ01, "lazy conj or neg bits")
        } else if self.0.traits.contains(Traits::SWAPPED) {
            (Code::BO01, "the other byte order")
        } else if self.0.traits.contains(Traits::BYTE_STRIDES) {
            (Code::ST03, "byte strides that are not multiples of the item size")
        } else {
            return Ok(());
        };
        let text = format!("export({}): a capsule cannot carry {what}.", self.desc());
        Err(Error::rejected(Message::plain(code, text, "convert it first: the copy resolves it"), None))
    }

    fn open_holder(&self, options: &ExportOptions<'_>) -> HolderId {
        let inner = &*self.0;
        let ledger = inner.runtime.ledger();
        let mut flags = if options.taken { HolderFlags::CONSUMED } else { HolderFlags::EXPORTED };
        flags.set(HolderFlags::READ_ONLY, !self.is_writable());
        flags.set(HolderFlags::DETACHED, inner.traits.contains(Traits::DETACHED));
        flags.set(HolderFlags::FROZEN, inner.traits.contains(Traits::FROZEN));
        let desc = HolderDesc {
            role: Role::Holder,
            framework: options.consumer,
            site: options.site,
            device: inner.device,
            address: inner.data.addr() as u64,
            dtype: inner.dtype,
            padded: inner.traits.contains(Traits::PADDED),
            unit: unit_of(inner.traits),
            shape: &inner.shape,
            strides: &inner.strides,
            alloc: inner.alloc,
            flags,
        };
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
        ledger.open(&desc, Some(&edge))
    }

    /// Fills a new block; `make` builds the managed tensor from its context and tensor.
    fn block<M>(
        &self,
        holder: HolderId,
        options: &ExportOptions<'_>,
        make: impl FnOnce(*mut c_void, DLTensor) -> M,
    ) -> NonNull<M> {
        let ndim = self.0.shape.len();
        let (layout, offset) = block_layout::<M>(ndim);
        // SAFETY: the layout has a size: the block itself is not zero-sized.
        let raw = unsafe { alloc(layout) };
        let Some(block) = NonNull::new(raw.cast::<Block<M>>()) else { handle_alloc_error(layout) };
        // SAFETY: `offset` is inside the allocation, and `2 * ndim` values fit behind it by its layout.
        let dims = unsafe { raw.add(offset) }.cast::<i64>();
        // SAFETY: as above; both sources have `ndim` values, and the block overlaps neither.
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.shape.as_ptr(), dims, ndim);
            std::ptr::copy_nonoverlapping(self.0.strides.as_ptr(), dims.add(ndim), ndim);
        }
        // SAFETY: `ndim` values of shape lie before the strides.
        let dl_tensor = self.dltensor(dims, unsafe { dims.add(ndim) });
        let managed = make(block.as_ptr().cast(), dl_tensor);
        // SAFETY: the block is ours, large enough and aligned for `Block<M>`.
        unsafe { block.as_ptr().write(Block { managed, tensor: self.clone(), holder, ndim, let_go: options.let_go }) };
        block.cast()
    }
}

/// The deleter of every export: any thread, no GIL, after a panic, in a forked child.
///
/// Closes the ledger record before anything is freed, frees the block, then drops the tensor, which may run a
/// foreign deleter or an owner's drop. A panic there is caught, since it cannot cross into C.
unsafe extern "C" fn release<M>(managed: *mut M) {
    let Some(block) = NonNull::new(managed.cast::<Block<M>>()) else { return };
    // SAFETY: DLPack gives the deleter the pointer that `block` returned, once; nobody else reads the block now.
    let Block { tensor, holder, ndim, let_go, .. } = unsafe { block.as_ptr().read() };
    // SAFETY: allocated in `Tensor::block` with this layout.
    unsafe { dealloc(block.as_ptr().cast(), block_layout::<M>(ndim).0) };
    let runtime = tensor.0.runtime.clone();
    runtime.ledger().close(holder);
    let give_back = || {
        if let Some(let_go) = let_go {
            let_go(tensor.data_ptr().addr());
        }
        drop(tensor);
    };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(give_back)) {
        runtime.ledger().count(Counter::PanicsCaught);
        // Dropping the payload could panic again; the few bytes of that second one are leaked.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
    }
}
