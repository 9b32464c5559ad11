//! Tensors that come without a capsule: memory of a caller with an owner, a Rust vector, new memory.

use std::sync::Arc;

use freehold_device::{Buffer, Stream};
use freehold_tensor::{Dims, compact_strides};

use super::{ImportOptions, Place};
use crate::flow::{self, Flow};
use crate::handle::Draft;
use crate::tensor::{Owner, Tensor, unit_of};
use crate::validate::Valid;
use crate::view::Element;
use crate::{Code, DType, Device, Error, Label, Layout, Message, Order, Result, Runtime, Traits, trace};

/// A tensor without a capsule: pointer, metadata, owner.
///
/// ```
/// use freehold::{DType, Device, ImportOptions, Owner, RawTensor, Tensor};
///
/// let mut pixels = vec![0u8, 1, 2, 3, 4, 5];
/// let raw = RawTensor {
///     data: pixels.as_mut_ptr(),
///     shape: &[2],
///     strides: Some(&[3]), // every third
///     dtype: DType::U8,
///     device: Device::CPU,
///     owner: Owner::Value(Box::new(pixels)),
/// };
/// // SAFETY: the elements are in the vector, which the owner keeps.
/// let red = unsafe { Tensor::from_raw(raw, &ImportOptions::default())? };
/// assert_eq!(red.view::<u8>()?.to_vec(), [0, 3]);
/// # Ok::<(), freehold::Error>(())
/// ```
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
///
/// ```
/// use freehold::{DType, Device, ImportOptions, OwnedTensor, Owner, Tensor, tensor_algebra::Dims};
///
/// let mut values = vec![1.0f32, 2.0, 3.0, 4.0];
/// let owned = OwnedTensor {
///     data: values.as_mut_ptr().cast(),
///     shape: Dims::from_slice(&[2, 2]),
///     strides: Dims::from_slice(&[1, 2]),
///     dtype: DType::F32,
///     device: Device::CPU,
///     owner: Owner::Value(Box::new(values)),
/// };
/// // SAFETY: the elements are in the vector, which the owner keeps.
/// let t = unsafe { Tensor::from_owned(owned, &ImportOptions::default())? };
/// assert_eq!(t.view::<f32>()?.to_vec(), [1.0, 3.0, 2.0, 4.0]);
/// # Ok::<(), freehold::Error>(())
/// ```
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
        if trace::listens() { Self::traced_owned(owned, options) } else { Self::owned(owned, options) }
    }

    #[cold]
    #[inline(never)]
    fn traced_owned(owned: OwnedTensor, options: &ImportOptions) -> Result<Tensor> {
        let _span = trace::import_span(options).entered();
        Self::owned(owned, options)
    }

    /// What the caller of [`Tensor::from_owned`] says is believed.
    #[inline(always)]
    fn owned(owned: OwnedTensor, options: &ImportOptions) -> Result<Tensor> {
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
    /// ```
    /// use freehold::{DType, Runtime, Tensor};
    ///
    /// let t = Tensor::zeros(DType::I16, &[2, 2], &Runtime::global())?;
    /// assert_eq!(t.view::<i16>()?.to_vec(), [0; 4]);
    /// # Ok::<(), freehold::Error>(())
    /// ```
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
    /// ```
    /// use freehold::{Code, DType, Device, DeviceKind, ImportOptions, Tensor};
    ///
    /// let metal = Device::new(DeviceKind::METAL, 0);
    /// let error = Tensor::zeros_on(metal, DType::F32, &[2], &ImportOptions::default()).unwrap_err();
    /// assert_eq!(error.code(), Code::DV02); // nobody registered memory of it
    /// ```
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
    /// ```
    /// use freehold::Tensor;
    ///
    /// let t = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?;
    /// assert_eq!((t.shape(), t.strides(), t.nbytes()), (&[2, 3][..], &[3, 1][..], 24));
    /// # Ok::<(), freehold::Error>(())
    /// ```
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
