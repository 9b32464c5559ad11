//! A tensor walks out: one allocation holds the managed tensor, its shape and strides, and what keeps the memory
//! alive.
//!
//! What every consumer needs is always true of our exports, whoever produced the memory: strides are written,
//! `deleter` and `manager_ctx` are not NULL, the byte offset is folded into the pointer on devices with addresses,
//! size-0 tensors have NULL data, flags are true, and read-only memory never leaves through a legacy capsule, unless its
//! consumer promises that it never writes.

use std::alloc::Layout as AllocLayout;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use freehold_ledger::{HolderId, Level, Party};

use crate::block;
use crate::canary;
use crate::dialect::Advice;
use crate::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor, dtype_to};
use crate::{Code, Decision, Dialect, Error, Label, Message, Result, Tensor, Traits, trace};

mod back;
mod straight;

pub(crate) use back::{Returned, returned};
pub use back::{drop_unconsumed_legacy, drop_unconsumed_versioned};

use back::{Kind, Managed};

/// Who takes the capsule.
///
/// ```
/// use freehold::{ExportOptions, Label, Runtime, Tensor};
///
/// let options = ExportOptions { consumer: Label::TORCH, site: Label::intern("train.rs:12"), ..Default::default() };
/// let t = Tensor::from(vec![1.0f32]);
/// let capsule = t.to_versioned(&options)?;
/// let holder = &Runtime::global().ledger().live()[0].holders[0];
/// assert_eq!((holder.framework, holder.site), ("torch", "train.rs:12"));
/// # drop(capsule);
/// # Ok::<(), freehold::Error>(())
/// ```
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
    /// The consumer's stream, for memory of a device: it is made to wait until the values are there, and the memory is kept
    /// until what was queued on it when the consumer lets go is done. `None` is the default stream; -1, which is the
    /// default here, leaves both to the caller.
    pub stream: Option<freehold_device::Stream>,
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
            stream: Some(freehold_device::Stream::NONE),
            let_go: None,
        }
    }
}

/// Of [`ExportOptions`], what the ledger is told.
#[derive(Clone, Copy)]
pub(crate) struct Taker {
    pub(crate) consumer: Label,
    pub(crate) site: Label,
    pub(crate) taken: bool,
}

/// A versioned capsule that nobody has taken yet: dropping it calls its deleter.
///
/// ```
/// use freehold::{ExportOptions, ImportOptions, Tensor};
///
/// let t = Tensor::from(vec![1.0f32, 2.0]);
/// let raw = t.to_versioned(&ExportOptions::default())?.into_raw();
/// // SAFETY: the capsule was just made, and is given up.
/// let back = unsafe { Tensor::from_versioned(raw, &ImportOptions::default())? };
/// assert_eq!(back.data_ptr(), t.data_ptr());
/// # Ok::<(), freehold::Error>(())
/// ```
pub struct VersionedCapsule(NonNull<DLManagedTensorVersioned>);

/// A legacy capsule that nobody has taken yet: dropping it calls its deleter.
///
/// ```
/// use freehold::{Code, ExportOptions, ImportOptions, Tensor, Traits};
///
/// let t = Tensor::from(vec![1.0f32, 2.0]);
/// let raw = t.to_legacy(&ExportOptions::default())?.into_raw();
/// // SAFETY: the capsule was just made, and is given up.
/// let back = unsafe { Tensor::from_legacy(raw, &ImportOptions::default())? };
/// assert!(back.traits().contains(Traits::LEGACY));
/// let refused = t.read_only().to_legacy(&ExportOptions::default()).err().expect("it cannot say read-only");
/// assert_eq!(refused.code(), Code::RO01);
/// # Ok::<(), freehold::Error>(())
/// ```
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
        unsafe { back::give(self.0.as_ptr()) }
    }
}

impl Drop for LegacyCapsule {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { back::give(self.0.as_ptr()) }
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
    #[inline]
    pub fn to_versioned(&self, options: &ExportOptions<'_>) -> Result<VersionedCapsule> {
        let make = || self.make_versioned(options);
        if trace::listens() { self.traced(options, make) } else { make() }.map(VersionedCapsule)
    }

    /// Makes a capsule while somebody listens.
    #[cold]
    fn traced<M: Managed>(
        &self,
        options: &ExportOptions<'_>,
        make: impl FnOnce() -> Result<NonNull<M>>,
    ) -> Result<NonNull<M>> {
        trace::export_span(self, options).in_scope(|| {
            let made = make()?;
            // SAFETY: a block that was just filled, and that nobody else has yet.
            trace::export(self, unsafe { made.cast::<Block<M>>().as_ref() }.holder, options);
            Ok(made)
        })
    }

    fn make_versioned(&self, options: &ExportOptions<'_>) -> Result<NonNull<DLManagedTensorVersioned>> {
        self.make_plain(options)
    }

    #[inline(always)]
    fn make_plain(&self, options: &ExportOptions<'_>) -> Result<NonNull<DLManagedTensorVersioned>> {
        self.check_describable()?;
        self.use_on(options.stream)?;
        let flags = if self.0.traits.is_empty() { 0 } else { self.capsule_flags() };
        Ok(self.block(options, |context, dl_tensor| versioned(options.max_version, flags, context, dl_tensor)))
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
    #[inline]
    pub fn to_legacy(&self, options: &ExportOptions<'_>) -> Result<LegacyCapsule> {
        let make = || self.make_legacy(options);
        if trace::listens() { self.traced(options, make) } else { make() }.map(LegacyCapsule)
    }

    fn make_legacy(&self, options: &ExportOptions<'_>) -> Result<NonNull<DLManagedTensor>> {
        self.check_describable()?;
        if !self.is_writable() && !options.never_writes {
            let mut message = Message::plain(
                Code::RO01,
                format!("export({} -> legacy capsule) would lose READ_ONLY.", self.desc()),
                Advice::VersionedCapsule.say(Dialect::Rust),
            );
            message
                .lines
                .push("a legacy capsule cannot say that memory is read-only; its consumer could write.".into());
            message.fixes.push("copy it first".into());
            return Err(Error::rejected(message, None));
        }
        self.use_on(options.stream)?;
        let make = |context, dl_tensor| DLManagedTensor {
            dl_tensor,
            manager_ctx: context,
            deleter: Some(DLManagedTensor::ours(Kind::Plain)),
        };
        Ok(self.block(options, make))
    }

    /// A `DLTensor` that borrows this tensor's shape and strides: valid while the tensor is.
    ///
    /// ```
    /// let t = freehold::Tensor::from(vec![1.0f32, 2.0]);
    /// let raw = t.as_dltensor();
    /// assert_eq!((raw.ndim, raw.data.cast(), raw.shape.cast_const()), (1, t.data_ptr(), t.shape().as_ptr()));
    /// ```
    pub fn as_dltensor(&self) -> DLTensor {
        let (shape, strides) = (self.shape().as_ptr().cast_mut(), self.strides().as_ptr().cast_mut());
        self.dltensor(shape, strides, self.layout().is_empty())
    }

    #[inline]
    fn dltensor(&self, shape: *mut i64, strides: *mut i64, empty: bool) -> DLTensor {
        let inner = &*self.0;
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

    #[inline(always)]
    fn open_holder(&self, level: Level, options: &ExportOptions<'_>) -> HolderId {
        let ExportOptions { consumer, site, taken, .. } = *options;
        match options.decision {
            _ if level == Level::Off => HolderId::NONE,
            None => self.lend(level, consumer, site, taken),
            Some(decision) => self.lend_decided(level, Taker { consumer, site, taken }, decision),
        }
    }

    /// Fills a new block; `make` builds the managed tensor from its context and tensor.
    #[inline]
    fn block<M: Managed>(
        &self,
        options: &ExportOptions<'_>,
        make: impl FnOnce(*mut c_void, DLTensor) -> M,
    ) -> NonNull<M> {
        let level = self.0.runtime.ledger().level();
        let holder = self.open_holder(level, options);
        let (shape, strides) = (self.shape(), self.strides());
        let block = block::acquire(block_layout::<M>(shape.len())).cast();
        let mut empty = false;
        for (i, (&n, &stride)) in shape.iter().zip(strides).enumerate() {
            empty |= n == 0;
            // SAFETY: twice as many values fit behind the block by its layout.
            unsafe { dims(block).add(i).write(n) };
            // SAFETY: as above.
            unsafe { dims(block).add(shape.len() + i).write(stride) };
        }
        // SAFETY: it was just acquired, and the dimensions are written.
        unsafe { self.fill(block, empty, holder, options.let_go, make) };
        if self.0.watch.is_some() || level >= Level::Canaries {
            // SAFETY: it was just filled, and nobody else has it yet.
            unsafe { &mut *block.as_ptr() }.watch(*options, level);
        }
        block.cast()
    }

    /// Fills a block.
    ///
    /// # Safety
    ///
    /// * The block has the layout of [`block_layout`] for this tensor's dimensions, which are written behind it, and nobody else has it.
    #[inline(always)]
    unsafe fn fill<M: Managed>(
        &self,
        block: NonNull<Block<M>>,
        empty: bool,
        holder: HolderId,
        let_go: Option<fn(usize)>,
        make: impl FnOnce(*mut c_void, DLTensor) -> M,
    ) {
        let (shape, ndim) = (dims(block), self.shape().len());
        // Inside the block, or at its end.
        let dl_tensor = self.dltensor(shape, shape.wrapping_add(ndim), empty);
        let managed = make(block.as_ptr().cast(), dl_tensor);
        // SAFETY: by the caller's word; blocks are aligned for all that is in them.
        unsafe { block.as_ptr().write(Block { managed, tensor: self.clone(), holder, ndim, let_go }) };
    }
}

/// Where the dimensions of a block are: the shape, then the strides.
#[inline(always)]
fn dims<M>(block: NonNull<Block<M>>) -> *mut i64 {
    block.as_ptr().wrapping_add(1).cast()
}

/// What a capsule says beside its tensor, in the lower of a consumer's version and ours.
#[inline(always)]
fn versioned(
    max_version: (u32, u32),
    flags: u64,
    context: *mut c_void,
    dl_tensor: DLTensor,
) -> DLManagedTensorVersioned {
    let ours = dlpack::VERSION;
    let (major, minor) = if max_version.0 == ours.0 { max_version.min(ours) } else { ours };
    DLManagedTensorVersioned {
        version: DLPackVersion { major, minor },
        manager_ctx: context,
        deleter: Some(DLManagedTensorVersioned::ours(Kind::Plain)),
        flags: dlpack::flags_to(flags),
        dl_tensor,
    }
}

impl<M: Managed> Block<M> {
    /// Has a new export watched, or what it keeps if the memory is frozen.
    #[cold]
    #[inline(never)]
    fn watch(&mut self, options: ExportOptions<'_>, level: Level) {
        if level >= Level::Canaries {
            self.managed.set_deleter(M::ours(Kind::Watched));
            let runtime = self.tensor.runtime();
            let to = Party { id: self.holder, framework: options.consumer, site: options.site };
            let parties = [runtime.ledger().party(self.tensor.id()), to];
            canary::exports::add(ptr::from_ref(self).addr(), parties, runtime.clone());
        }
        self.tensor = self.tensor.clone().lent_to(self.holder, options.consumer, options.site);
    }
}
