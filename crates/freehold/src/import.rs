//! A tensor walks in: a foreign capsule, a foreign pointer, a Rust vector.
//!
//! Ownership passes on success only. On an error the caller still owns what it passed, with one exception that
//! DLPack demands: a capsule of an unknown major version is released at once, because nothing but its deleter may be
//! touched.

use std::ptr::NonNull;
use std::sync::Arc;

use freehold_device::{Buffer, Stream};
use freehold_ledger::HolderId;
use freehold_tensor::{Dims, compact_strides};

use crate::canary::Watch;
use crate::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor, ForeignCapsule};
use crate::export::{self, Returned};
use crate::flow::{self, Flow};
use crate::handle::Draft;
use crate::tensor::{Allocation, CapsuleOwner, Inner, Owner, Tensor, unit_of};
use crate::validate::{Valid, check};
use crate::view::Element;
use crate::{
    Code, DType, Decision, Device, Error, Label, Layout, Message, Order, Reason, Result, Runtime, Traits, trace,
};

/// What the caller knows of a tensor beside its capsule.
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

/// A tensor without a capsule: pointer, metadata, owner.
#[derive(Debug)]
pub struct RawTensor<'a> {
    /// First element.
    pub data: *mut u8,
    /// Dimensions.
    pub shape: &'a [i64],
    /// Strides in elements (in bytes with [`Traits::BYTE_STRIDES`]); `None` is compact row-major.
    pub strides: Option<&'a [i64]>,
    /// Element type.
    pub dtype: DType,
    /// Device.
    pub device: Device,
    /// Who frees it.
    pub owner: Owner,
}

/// As [`RawTensor`], with shape and strides that are moved in instead of copied.
#[derive(Debug)]
pub struct OwnedTensor {
    /// First element.
    pub data: *mut u8,
    /// Dimensions.
    pub shape: Dims,
    /// Strides in elements (in bytes with [`Traits::BYTE_STRIDES`]).
    pub strides: Dims,
    /// Element type.
    pub dtype: DType,
    /// Device.
    pub device: Device,
    /// Who frees it.
    pub owner: Owner,
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
    #[inline]
    pub unsafe fn from_versioned(raw: *mut DLManagedTensorVersioned, options: &ImportOptions) -> Result<Tensor> {
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
        Ok(Self::build_from(valid, place, traits, Owner::Capsule(CapsuleOwner(capsule)), options, returned))
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
        Ok(Self::build_from(valid, place, traits, Owner::Capsule(CapsuleOwner(capsule)), options, returned))
    }

    /// Wraps a `DLTensor` view with an owner.
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
        let mut traits = options.traits;
        let tensor = match checked_pointer(tensor.cast_mut()) {
            Ok(tensor) => tensor,
            Err(error) => return Err((error, owner)),
        };
        let padded = traits.contains(Traits::PADDED);
        // SAFETY: forwarded from the caller.
        let checked = unsafe { checked_tensor(tensor.as_ptr(), padded, &mut traits) };
        match checked.and_then(|valid| Place::of(&valid, options).map(|place| (valid, place))) {
            Ok((valid, place)) => Ok(Self::build(valid, place, traits, owner, options)),
            Err(error) => Err((error, owner)),
        }
    }

    /// Wraps a pointer, its metadata and an owner.
    ///
    /// # Errors
    ///
    /// `CP02`: a field breaks a rule. The owner is dropped.
    ///
    /// # Safety
    ///
    /// * The extent of shape and strides around `data` is readable, and writable unless [`Traits::READ_ONLY`] is
    ///   among `options.traits`, until `owner` is dropped.
    /// * `owner` as in [`Tensor::from_dltensor`].
    pub unsafe fn from_raw(raw: RawTensor<'_>, options: &ImportOptions) -> Result<Tensor> {
        let RawTensor { data, shape, strides, dtype, device, owner } = raw;
        let strides = match strides {
            Some(strides) if strides.len() == shape.len() => Dims::from_slice(strides),
            Some(strides) => {
                return Err(Error::argument("strides", format!("{} long", strides.len()), "have ndim entries"));
            }
            None => compact_strides(shape, Order::C).map_err(Error::capsule)?,
        };
        let owned = OwnedTensor { data, shape: Dims::from_slice(shape), strides, dtype, device, owner };
        // SAFETY: forwarded from the caller.
        unsafe { Self::from_owned(owned, options) }
    }

    /// As [`Tensor::from_raw`], from shape and strides of one length.
    ///
    /// # Errors
    ///
    /// `CP02`: a field breaks a rule. The owner is dropped.
    ///
    /// # Safety
    ///
    /// * As [`Tensor::from_raw`].
    #[inline]
    pub unsafe fn from_owned(owned: OwnedTensor, options: &ImportOptions) -> Result<Tensor> {
        let OwnedTensor { data, shape, strides, dtype, device, owner } = owned;
        let mut traits = options.traits;
        dtype.validate().map_err(Error::capsule)?;
        if !dtype.is_sub_byte() {
            traits.remove(Traits::PADDED);
        }
        if shape.len() != strides.len() {
            return Err(Error::argument("strides", format!("{} long", strides.len()), "have ndim entries"));
        }
        let extent = Layout::new(&shape, &strides)
            .validate(dtype, traits.contains(Traits::PADDED), unit_of(traits))
            .map_err(Error::capsule)?;
        if data.is_null() && !extent.is_empty() {
            let error = crate::FieldError::new("data", 0, "not be NULL when the tensor has elements");
            return Err(Error::capsule(error));
        }
        let valid = Valid { data, byte_offset: 0, device, dtype, dims: Draft::copied(&shape, &strides) };
        let place = Place::of(&valid, options)?;
        Ok(Self::build(valid, place, traits, owner, options))
    }

    /// New, zeroed host memory in C order.
    ///
    /// # Errors
    ///
    /// `AR01` the shape is not valid, `ME01` no memory.
    pub fn zeros(dtype: DType, shape: &[i64], runtime: &Runtime) -> Result<Tensor> {
        let options =
            ImportOptions { runtime: runtime.clone(), framework: Label::FREEHOLD, ..ImportOptions::default() };
        Self::zeros_on(Device::CPU, dtype, shape, &options)
    }

    /// As [`Tensor::zeros`], on a device, with the caller's labels. Memory of a device is zeroed on `options.stream`.
    ///
    /// # Errors
    ///
    /// As [`Tensor::zeros`]; `DV02` where there is no such device, or nobody registered memory of it.
    pub fn zeros_on(device: Device, dtype: DType, shape: &[i64], options: &ImportOptions) -> Result<Tensor> {
        let room = Room { device, align: 0, padded: false, stream: options.stream };
        let (valid, place, buffer) = Self::allocate(dtype, shape, Order::C, room, &options.runtime)?;
        match &place.flow {
            Some(flow) => flow.zero(buffer.as_ptr(), buffer.len())?,
            None if buffer.is_empty() => {}
            // SAFETY: the buffer has this length, the host can write it, and nobody else has it yet.
            None => unsafe { std::ptr::write_bytes(buffer.as_ptr(), 0, buffer.len()) },
        }
        Ok(Self::build(valid, place, Traits::empty(), Owner::Buffer(buffer), options))
    }

    /// A buffer for a compact tensor, and its valid metadata.
    pub(crate) fn allocate(
        dtype: DType,
        shape: &[i64],
        order: Order,
        room: Room,
        runtime: &Runtime,
    ) -> Result<(Valid, Place, Buffer)> {
        let Room { device, align, padded, stream } = room;
        let argument = |e: crate::FieldError| Error::argument(e.field, e.value, e.rule);
        dtype.validate().map_err(argument)?;
        let strides = compact_strides(shape, order).map_err(argument)?;
        let unit = crate::StrideUnit::Elements;
        let extent = Layout::new(shape, &strides).validate(dtype, padded, unit).map_err(argument)?;
        let len = usize::try_from(extent.len()).map_err(|_| Error::argument("shape", "too large", "fit in memory"))?;
        let align = freehold_device::HOST_ALIGNMENT.max(align as usize);
        let flow = if flow::has_streams(device.kind) { Some(Flow::for_new(device, stream)?) } else { None };
        let on = flow.as_ref().map_or(Stream::NONE, |flow| flow.ready().number());
        let made =
            if device.kind.is_host() || flow.is_some() { runtime.allocate(device, len, align, on) } else { None };
        let made = made.ok_or_else(|| {
            let text = format!("{device}: there is no memory of that device here.");
            Error::rejected(Message::plain(Code::DV02, text, "use cpu, or register an allocator for the device"), None)
        })?;
        let buffer = made.map_err(|e| Error::allocation(&e))?;
        let valid =
            Valid { data: buffer.as_ptr(), byte_offset: 0, device, dtype, dims: Draft::copied(shape, &strides) };
        let alloc = Some((buffer.as_ptr().addr() as u64, buffer.len() as u64));
        Ok((valid, Place { flow: flow.map(Arc::new), alloc }, buffer))
    }

    /// A tensor over a vector, without a copy.
    ///
    /// # Errors
    ///
    /// `AR01`: the shape is not valid, or does not have as many elements as the vector.
    pub fn from_vec<T: Element>(values: Vec<T>, shape: &[i64]) -> Result<Tensor> {
        let layout = Layout::new(shape, shape);
        let numel = layout.numel().map_err(|e| Error::argument(e.field, e.value, e.rule))?;
        if usize::try_from(numel) != Ok(values.len()) {
            return Err(Error::argument("shape", format!("{shape:?}"), &format!("hold {} elements", values.len())));
        }
        let mut values = values;
        let data = values.as_mut_ptr().cast::<u8>();
        let bytes = (values.capacity() * size_of::<T>()) as u64;
        let raw = RawTensor {
            data,
            shape,
            strides: None,
            dtype: T::DTYPE,
            device: Device::CPU,
            owner: Owner::Value(Box::new(values)),
        };
        let options = ImportOptions {
            framework: Label::intern("rust"),
            alloc: Some((data.addr() as u64, bytes)),
            ..ImportOptions::default()
        };
        // SAFETY: the vector's elements are behind `data` until the vector is dropped; moving a `Vec` does not move
        // its elements.
        unsafe { Self::from_raw(raw, &options) }
    }

    #[inline]
    pub(crate) fn build(valid: Valid, place: Place, traits: Traits, owner: Owner, options: &ImportOptions) -> Tensor {
        Self::build_from(valid, place, traits, owner, options, || None)
    }

    /// As [`Tensor::build`]; `returned` tells, if there is a record to open, whether the memory is an export of ours that
    /// came back.
    #[inline]
    fn build_from(
        valid: Valid,
        place: Place,
        traits: Traits,
        owner: Owner,
        options: &ImportOptions,
        returned: impl FnOnce() -> Option<Returned>,
    ) -> Tensor {
        let Valid { data, byte_offset, device, dtype, dims } = valid;
        let mut tensor = Tensor(dims.finish(Inner {
            data,
            byte_offset,
            device,
            dtype,
            traits,
            framework: options.framework,
            owns_record: false,
            holder: HolderId::NONE,
            alloc: Allocation::new(options.alloc.or(place.alloc)),
            flow: place.flow,
            watch: if matches!(owner, Owner::Buffer(_)) { Watch::ours(&options.runtime) } else { None },
            runtime: options.runtime.clone(),
            owner,
        }));
        if !options.quiet {
            tensor.record_import(options.site, returned);
            if trace::listens() {
                trace::import(&tensor, options.site);
            }
        }
        tensor
    }
}

/// One dimension, without a copy.
///
/// ```
/// let t = freehold::Tensor::from(vec![1.0f32, 2.0, 3.0]);
/// assert_eq!(t.shape(), [3]);
/// ```
impl<T: Element> From<Vec<T>> for Tensor {
    fn from(values: Vec<T>) -> Tensor {
        let shape = [values.len() as i64];
        // A vector has at most `isize::MAX` bytes, so the one shape that can be wrong is another than its own.
        Tensor::from_vec(values, &shape).unwrap_or_else(|error| unreachable!("{error}"))
    }
}

/// Where a new tensor goes.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) device: Device,
    /// In bytes; 0 for the allocator's.
    pub(crate) align: u32,
    /// Whether sub-byte elements fill a byte each.
    pub(crate) padded: bool,
    /// The stream that fills it, on a device.
    pub(crate) stream: Option<Stream>,
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

#[cold]
fn bad_pointer<T>(pointer: *mut T) -> Error {
    match NonNull::new(pointer) {
        None => Error::argument("the capsule pointer", "NULL", "point to a managed tensor"),
        Some(p) => Error::argument("the capsule pointer", format!("{p:p}"), "be aligned to 8 bytes"),
    }
}

#[cold]
fn refused(error: crate::FieldError) -> Error {
    trace::refused(error.field, &error.value);
    Error::capsule(error)
}

/// # Safety
///
/// As [`check`].
#[inline]
unsafe fn checked_tensor(tensor: *const DLTensor, padded: bool, traits: &mut Traits) -> Result<Valid> {
    // The flag says something only of elements that do not fill bytes.
    // SAFETY: forwarded from the caller; the dtype is plain data.
    let padded = padded && dlpack::dtype_from(unsafe { (*tensor).dtype }).is_sub_byte();
    traits.set(Traits::PADDED, padded);
    // SAFETY: forwarded from the caller.
    unsafe { check(tensor, *traits) }.map_err(refused)
}

/// # Safety
///
/// `raw` is a versioned managed tensor that the caller gives up, of a major version that is not ours.
#[cold]
unsafe fn refuse_major(raw: NonNull<DLManagedTensorVersioned>, version: DLPackVersion) -> Error {
    // SAFETY: dlpack.h keeps version, manager_ctx, deleter and flags where they are in every major version, so that
    // the deleter can be called.
    let deleter = unsafe { (&raw const (*raw.as_ptr()).deleter).read() };
    if let Some(deleter) = deleter {
        // SAFETY: the caller gives the capsule up, and this is the only call.
        unsafe { deleter(raw.as_ptr()) };
    }
    let DLPackVersion { major, minor } = version;
    let mut message = Message::plain(
        Code::VE01,
        format!("DLPack {major}.{minor}: unknown major version; contents not read, deleter called."),
        "upgrade Freehold, or ask the producer for version 1 (max_version=(1, 3))",
    );
    message.lines.push(format!("this build reads {}.x", dlpack::VERSION.0));
    let reason = Reason::text(Code::VE01, format!("{major}.{minor}; this build reads {}.x", dlpack::VERSION.0));
    Error::rejected(message, Some(Decision::reject(reason)))
}
