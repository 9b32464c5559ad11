//! A tensor walks in: a foreign capsule or a foreign struct. `fresh` has what comes without one, `refuse` the refusals.
//!
//! Ownership passes on success only. On an error the caller still owns what it passed, with one exception that
//! DLPack demands: a capsule of an unknown major version is released at once, because nothing but its deleter may be
//! touched.
//!
//! What nearly every tensor is goes by a straight line (`plain_*`): each field is checked once and written where it stays. What
//! it does not take, it has not touched, and the whole way (`versioned`, `legacy`, `described`) says why or takes it.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use freehold_device::Stream;
use freehold_ledger::HolderId;

use crate::canary::Watch;
use crate::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLTensor, ForeignCapsule};
use crate::export::{self, Returned};
use crate::flow::{self, Flow};
use crate::handle::look::EndedLook;
use crate::handle::{Draft, Ground, Loan};
use crate::tensor::{Allocation, CapsuleOwner, Inner, Owner, Tensor};
use crate::validate::{self, Valid};
use crate::{Error, Label, Result, Runtime, Traits, trace};

mod fresh;
mod refuse;

pub(crate) use fresh::Room;
pub use fresh::{OwnedTensor, RawTensor};
use refuse::{bad_pointer, refuse_major, refused};

/// What the caller knows of a tensor beside its capsule.
///
/// ```
/// use freehold::{ExportOptions, ImportOptions, Label, Tensor, Traits};
///
/// let raw = Tensor::from(vec![1.0f32]).to_versioned(&ExportOptions::default())?.into_raw();
/// let options = ImportOptions { framework: Label::JAX, traits: Traits::IMMUTABLE, ..Default::default() };
/// // SAFETY: the capsule was just made, and is given up.
/// let t = unsafe { Tensor::from_versioned(raw, &options)? };
/// assert_eq!((t.framework(), t.is_writable()), (Label::JAX, false));
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The runtime whose ledger it goes on.
    pub runtime: Runtime,
    /// Who produced it.
    pub framework: Label,
    /// The caller's label for the ledger.
    pub site: Label,
    /// Facts that the capsule cannot carry: lazy bits, immutability, a graph.
    pub traits: Traits,
    /// The allocation that the memory is part of: base and length.
    pub alloc: Option<(u64, u64)>,
    /// Opens no record, and asks no driver: for a look at metadata that ends before control returns.
    pub quiet: bool,
    /// Memory of a device: the stream on which the values are in order, because the producer works on it or has made it wait.
    /// `None` and -1 are the default stream. A handle must live until the tensor's memory is given back.
    pub stream: Option<Stream>,
    /// Memory of a device: the producer's own stream, where it is known. When the tensor is let go of, that stream is made to
    /// wait for its uses, and the memory is given back at once. Otherwise that waits until the uses are done.
    pub home: Option<Stream>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            runtime: Runtime::global(),
            framework: Label::UNKNOWN,
            site: Label::NONE,
            traits: Traits::empty(),
            alloc: None,
            quiet: false,
            stream: None,
            home: None,
        }
    }
}

impl Tensor {
    /// Takes over a versioned capsule.
    ///
    /// # Errors
    ///
    /// `AR01` NULL or misaligned pointer; `CP02` a field breaks a rule: in both the caller still owns the capsule.
    /// `VE01` unknown major version: the deleter was called, nothing else was read.
    ///
    /// # Safety
    ///
    /// * `raw` is NULL or points to an initialised `DLManagedTensorVersioned` that the caller owns.
    /// * Where `ndim` is between 1 and 64, non-NULL `shape` and `strides` point to `ndim` values.
    /// * The memory it describes stays valid until its deleter is called, which may happen on any thread.
    pub unsafe fn from_versioned(raw: *mut DLManagedTensorVersioned, options: &ImportOptions) -> Result<Tensor> {
        // SAFETY: forwarded from the caller; what the first does not take, it has not touched.
        unsafe {
            straight::<Draft>(raw, options.traits)
                .map_or_else(|| versioned(raw, options), |s| Ok(s.build(options.lean())))
        }
    }

    /// The straight line of [`Tensor::from_versioned`] with default options, for a C interface, where the thread keeps a block for
    /// it: it makes no call but to open the record. `None` says nothing, and nothing was taken.
    ///
    /// # Safety
    ///
    /// As [`Tensor::from_versioned`].
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn versioned_at_hand(raw: *mut DLManagedTensorVersioned, framework: Label) -> Option<Tensor> {
        // SAFETY: forwarded from the caller; nothing is called in between.
        let straight = unsafe { straight::<Loan>(raw, Traits::empty())?.take() };
        let (runtime, site) = (Runtime::global(), Label::NONE);
        Some(straight.build(Lean { runtime, framework, site, alloc: &None, quiet: false }))
    }

    /// Takes over a legacy (unversioned) capsule. It cannot say that memory is read-only.
    ///
    /// # Errors
    ///
    /// `AR01`, `CP02`: the caller still owns the capsule.
    ///
    /// # Safety
    ///
    /// As [`Tensor::from_versioned`], for a `DLManagedTensor`.
    pub unsafe fn from_legacy(raw: *mut DLManagedTensor, options: &ImportOptions) -> Result<Tensor> {
        let _span = trace::import_span(options).entered();
        let raw = checked_pointer(raw)?;
        let mut traits = options.traits | Traits::LEGACY;
        // SAFETY: forwarded from the caller.
        let valid = unsafe { checked_tensor(&raw const (*raw.as_ptr()).dl_tensor, false, &mut traits) }?;
        let place = Place::of(&valid, options)?;
        // SAFETY: the caller gives the capsule up now that every field is valid.
        let capsule = unsafe { ForeignCapsule::legacy(raw) };
        let capsule = capsule.ok_or_else(|| Error::internal("a checked capsule was refused"))?;
        // SAFETY: as above.
        let returned = || unsafe { export::returned(raw) };
        Ok(Self::build_heard(valid, place, traits, Owner::Capsule(CapsuleOwner(capsule)), options, returned))
    }

    /// Wraps a `DLTensor` view with an owner.
    ///
    /// ```
    /// use freehold::{ImportOptions, Owner, Tensor};
    ///
    /// let t = Tensor::from(vec![1.0f32, 2.0]);
    /// let options = ImportOptions { quiet: true, ..Default::default() }; // a look, which is no handover
    /// // SAFETY: `t` outlives the look.
    /// let look = unsafe { Tensor::from_dltensor(&t.as_dltensor(), Owner::Borrowed, &options) };
    /// assert!(look.is_ok_and(|look| look.data_ptr() == t.data_ptr() && look.id().is_none()));
    /// ```
    ///
    /// # Errors
    ///
    /// `AR01`, `CP02`. The owner is given back beside the error, undropped.
    ///
    /// # Safety
    ///
    /// * `tensor` is NULL or points to a readable `DLTensor`; its `shape` and `strides` as in
    ///   [`Tensor::from_versioned`].
    /// * `owner` keeps the memory valid until it is dropped, on any thread; [`Owner::Callback`] and [`Owner::Raw`]
    ///   carry a function that may be called once with their context, on any thread.
    pub unsafe fn from_dltensor(
        tensor: *const DLTensor,
        owner: Owner,
        options: &ImportOptions,
    ) -> Result<Tensor, (Error, Owner)> {
        if !trace::listens()
            // SAFETY: forwarded from the caller.
            && let Some(valid) = unsafe { plain_view(tensor, options.traits) }
        {
            return Ok(Self::build(valid, Place::default(), options.traits, owner, options));
        }
        let _span = trace::import_span(options).entered();
        // SAFETY: forwarded from the caller.
        match unsafe { described(tensor, options) } {
            Ok((valid, place, traits)) => Ok(Self::build(valid, place, traits, owner, options)),
            Err(error) => Err((error, owner)),
        }
    }

    /// The straight line of [`Tensor::from_dltensor`] for a look at memory that nobody frees, on the process's own runtime, where
    /// the thread keeps one that [`Tensor::release_at_hand`] ended: it makes no call. `None` says nothing.
    ///
    /// # Safety
    ///
    /// * As [`Tensor::from_dltensor`]; `tensor` is not NULL, and aligned.
    /// * `traits` has neither [`Traits::PADDED`] nor [`Traits::BYTE_STRIDES`].
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn borrowed_at_hand(tensor: *const DLTensor, traits: Traits) -> Option<Tensor> {
        debug_assert!(
            !tensor.is_null() && tensor.is_aligned() && !traits.intersects(validate::NOT_PLAIN),
            "the caller's word"
        );
        // SAFETY: forwarded from the caller; nothing is called in between.
        unsafe {
            let Valid { data, dtype, dims, .. } = validate::plain::<EndedLook>(tensor)?;
            Some(Tensor(dims.again(data, dtype, traits)))
        }
    }

    #[inline]
    pub(crate) fn build(valid: Valid, place: Place, traits: Traits, owner: Owner, options: &ImportOptions) -> Tensor {
        Self::build_heard(valid, place, traits, owner, options, || None)
    }

    /// As [`Tensor::build_from`], for whoever listens too.
    #[inline]
    fn build_heard(
        valid: Valid,
        place: Place,
        traits: Traits,
        owner: Owner,
        options: &ImportOptions,
        returned: impl FnOnce() -> Option<Returned>,
    ) -> Tensor {
        let tensor = Self::build_from(valid, place, traits, owner, options.lean(), returned);
        if !options.quiet && trace::listens() {
            trace::import(&tensor, options.site);
        }
        tensor
    }

    /// As [`Tensor::build`]; `returned` tells, if there is a record to open, whether the memory is an export of ours that
    /// came back.
    #[inline(always)]
    fn build_from(
        valid: Valid,
        place: Place,
        traits: Traits,
        owner: Owner,
        lean: Lean<'_>,
        returned: impl FnOnce() -> Option<Returned>,
    ) -> Tensor {
        let Valid { data, byte_offset, device, dtype, dims } = valid;
        let tensor = Tensor(dims.finish(Inner {
            data,
            byte_offset,
            device,
            dtype,
            traits,
            framework: lean.framework,
            owns_record: false,
            holder: HolderId::NONE,
            alloc: Allocation::new((*lean.alloc).or(place.alloc)),
            flow: place.flow,
            watch: if matches!(owner, Owner::Buffer(_)) { Watch::ours(&lean.runtime) } else { None },
            runtime: lean.runtime,
            owner,
        }));
        if lean.quiet { tensor } else { tensor.record_import(lean.site, returned) }
    }
}

/// What the driver says of memory that comes in, or what is known of new memory.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) flow: Option<Arc<Flow>>,
    pub(crate) alloc: Option<(u64, u64)>,
}

impl Place {
    #[inline]
    fn of(valid: &Valid, options: &ImportOptions) -> Result<Place> {
        if flow::has_streams(valid.device.kind) && !options.quiet {
            Place::ask(valid, options)
        } else {
            Ok(Place::default())
        }
    }

    #[cold]
    fn ask(valid: &Valid, options: &ImportOptions) -> Result<Place> {
        let address = if valid.layout().is_empty() { 0 } else { valid.data.addr() as u64 };
        Ok(Flow::import(valid.device, address, options)?.unwrap_or_default())
    }
}

/// Whether the ledger knows a holder of the memory: a producer that says it made a copy for us alone is not believed
/// against that.
#[cold]
fn somebody_has(valid: &Valid, options: &ImportOptions) -> bool {
    options.runtime.ledger().owner(valid.device, valid.data.addr() as u64).is_some()
}

#[inline]
fn checked_pointer<T>(pointer: *mut T) -> Result<NonNull<T>> {
    match NonNull::new(pointer) {
        Some(p) if p.is_aligned() => Ok(p),
        _ => Err(bad_pointer(pointer)),
    }
}

/// What the straight line needs to know of an import: all of it fits the registers.
struct Lean<'a> {
    runtime: Runtime,
    framework: Label,
    site: Label,
    alloc: &'a Option<(u64, u64)>,
    quiet: bool,
}

impl ImportOptions {
    #[inline(always)]
    fn lean(&self) -> Lean<'_> {
        let ImportOptions { runtime, framework, site, alloc, quiet, .. } = self;
        Lean { runtime: runtime.clone(), framework: *framework, site: *site, alloc, quiet: *quiet }
    }
}

/// A capsule that was taken over, every field of it checked.
struct Straight<Dims = Draft> {
    raw: NonNull<DLManagedTensorVersioned>,
    valid: Valid<Dims>,
    traits: Traits,
    owner: Owner,
}

impl Straight<Loan> {
    /// # Safety
    ///
    /// As for [`Valid::take`].
    #[inline(always)]
    unsafe fn take(self) -> Straight {
        let Straight { raw, valid, traits, owner } = self;
        // SAFETY: forwarded from the caller.
        Straight { raw, valid: unsafe { valid.take() }, traits, owner }
    }
}

impl Straight {
    #[inline(always)]
    fn build(self, lean: Lean<'_>) -> Tensor {
        let Straight { raw, valid, traits, owner } = self;
        // SAFETY: the new tensor, which asks, owns the capsule.
        let returned = || unsafe { export::returned(raw) };
        Tensor::build_from(valid, Place::default(), traits, owner, lean, returned)
    }
}

/// What nearly every versioned capsule is; `None` says nothing, and nothing was taken.
///
/// # Safety
///
/// As [`Tensor::from_versioned`].
#[inline(always)]
unsafe fn straight<Dims: Ground>(raw: *mut DLManagedTensorVersioned, mut traits: Traits) -> Option<Straight<Dims>> {
    let raw = NonNull::new(raw).filter(|raw| raw.is_aligned())?;
    let at = raw.as_ptr();
    // SAFETY: the caller says that a managed tensor is there. Its flags are read where the major version is ours.
    let flags = unsafe {
        if (&raw const (*at).version.major).read() != dlpack::VERSION.0 {
            return None;
        }
        dlpack::flags_of(&*at)
    };
    // Who listens hears of the whole way.
    if trace::listens() {
        return None;
    }
    if flags & !dlpack::FLAG_READ_ONLY != 0 || traits.intersects(validate::NOT_PLAIN | Traits::IS_COPIED) {
        return None;
    }
    traits.set(Traits::READ_ONLY, traits.contains(Traits::READ_ONLY) || flags != 0);
    // SAFETY: the caller gives the capsule up if every field is valid; until then it is not dropped.
    let capsule = ManuallyDrop::new(unsafe { ForeignCapsule::versioned(raw) }?);
    // SAFETY: forwarded from the caller.
    let valid = unsafe { validate::plain(&raw const (*at).dl_tensor) }?;
    let owner = Owner::Capsule(CapsuleOwner(ManuallyDrop::into_inner(capsule)));
    Some(Straight { raw, valid, traits, owner })
}

/// A versioned capsule of any kind.
///
/// # Safety
///
/// As [`Tensor::from_versioned`].
#[inline(never)]
unsafe fn versioned(raw: *mut DLManagedTensorVersioned, options: &ImportOptions) -> Result<Tensor> {
    let _span = trace::import_span(options).entered();
    let raw = checked_pointer(raw)?;
    // SAFETY: the version is the first field, and readable whatever the major version is.
    let version = unsafe { (&raw const (*raw.as_ptr()).version).read() };
    if version.major != dlpack::VERSION.0 {
        // SAFETY: forwarded from the caller.
        return Err(unsafe { refuse_major(raw, version) });
    }
    // SAFETY: the major version is ours, so flags and tensor are where we think they are.
    let (flags, tensor) = unsafe { (dlpack::flags_of(&*raw.as_ptr()), &raw const (*raw.as_ptr()).dl_tensor) };
    let mut traits = options.traits;
    traits.set(Traits::READ_ONLY, traits.contains(Traits::READ_ONLY) || flags & dlpack::FLAG_READ_ONLY != 0);
    traits.set(Traits::IS_COPIED, flags & dlpack::FLAG_IS_COPIED != 0);
    // SAFETY: forwarded from the caller.
    let valid = unsafe { checked_tensor(tensor, flags & dlpack::FLAG_SUBBYTE_PADDED != 0, &mut traits) }?;
    if traits.contains(Traits::IS_COPIED) && somebody_has(&valid, options) {
        traits.remove(Traits::IS_COPIED);
    }
    let place = Place::of(&valid, options)?;
    // SAFETY: the caller gives the capsule up now that every field is valid.
    let capsule = unsafe { ForeignCapsule::versioned(raw) };
    let capsule = capsule.ok_or_else(|| Error::internal("a checked version was refused"))?;
    // SAFETY: the new tensor, which asks, owns the capsule.
    let returned = || unsafe { export::returned(raw) };
    Ok(Tensor::build_heard(valid, place, traits, Owner::Capsule(CapsuleOwner(capsule)), options, returned))
}

/// What is to be known of a struct of any kind.
///
/// # Safety
///
/// As [`Tensor::from_dltensor`].
#[inline(never)]
unsafe fn described(tensor: *const DLTensor, options: &ImportOptions) -> Result<(Valid, Place, Traits)> {
    let tensor = checked_pointer(tensor.cast_mut())?;
    let mut traits = options.traits;
    let padded = traits.contains(Traits::PADDED);
    // SAFETY: forwarded from the caller.
    let valid = unsafe { checked_tensor(tensor.as_ptr(), padded, &mut traits) }?;
    let place = Place::of(&valid, options)?;
    Ok((valid, place, traits))
}

/// # Safety
///
/// As [`Tensor::from_dltensor`].
#[inline(always)]
unsafe fn plain_view(tensor: *const DLTensor, traits: Traits) -> Option<Valid> {
    if tensor.is_null() || !tensor.is_aligned() || traits.intersects(validate::NOT_PLAIN) {
        return None;
    }
    // SAFETY: forwarded from the caller; not NULL and aligned.
    unsafe { validate::plain(tensor) }
}

/// # Safety
///
/// As [`validate::check`].
#[inline]
unsafe fn checked_tensor(tensor: *const DLTensor, padded: bool, traits: &mut Traits) -> Result<Valid> {
    // The flag says something only of elements that do not fill bytes.
    // SAFETY: forwarded from the caller; the dtype is plain data.
    let padded = padded && dlpack::dtype_from(unsafe { (*tensor).dtype }).is_sub_byte();
    traits.set(Traits::PADDED, padded);
    // SAFETY: forwarded from the caller.
    unsafe { validate::check(tensor, *traits) }.map_err(refused)
}
