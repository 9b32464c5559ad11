//! Validation of a foreign `DLTensor`: every field, before it is used.

use freehold_tensor::{Dims, MAX_NDIM, compact_strides};
use smallvec::SmallVec;

use crate::dlpack::{DLTensor, device_from, dtype_from};
use crate::tensor::unit_of;
use crate::{DType, Device, DeviceKind, FieldError, Layout, Traits};

/// A tensor's fields after every rule held.
#[derive(Debug)]
pub(crate) struct Valid {
    pub(crate) data: *mut u8,
    pub(crate) byte_offset: u64,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    pub(crate) shape: Dims,
    pub(crate) strides: Dims,
}

/// Devices whose `data` is an opaque handle: an offset cannot be added to it.
fn is_opaque(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::OPENCL | DeviceKind::VULKAN | DeviceKind::METAL | DeviceKind::WEBGPU)
}

/// Checks a foreign tensor against DLPack 1.3 and copies its shape and strides out. NULL strides are accepted from
/// any version as compact row-major (forbidden to producers since 1.2; ONNX Runtime and MXNet still do it).
///
/// # Safety
///
/// * `t` points to a readable `DLTensor`.
/// * Where `ndim` is between 1 and 64, a non-NULL `shape` and a non-NULL `strides` point to `ndim` readable `i64`.
#[inline]
pub(crate) unsafe fn validate(t: *const DLTensor, traits: Traits) -> Result<Valid, FieldError> {
    // SAFETY: the caller says that it is readable; copying it out means that no field is read twice.
    let t = unsafe { t.read() };
    let ndim = usize::try_from(t.ndim).map_err(|_| FieldError::new("ndim", t.ndim, "be at least 0"))?;
    if ndim > MAX_NDIM {
        return Err(FieldError::new("ndim", t.ndim, "be at most 64"));
    }
    let dtype = dtype_from(t.dtype);
    dtype.validate()?;
    let mut device = device_from(t.device);
    if device.kind.name().is_none() {
        return Err(FieldError::new("device.device_type", device.kind.0, "be one that DLPack 1.3 assigns (1 to 18)"));
    }
    if device.id < 0 {
        return Err(FieldError::new("device.device_id", device.id, "be at least 0"));
    }
    if device.kind == DeviceKind::CPU {
        // dlpack.h: "for vanilla CPU memory, pinned memory, or managed memory, this is set to 0". There is one host.
        device.id = 0;
    }
    // SAFETY: forwarded from the caller.
    let shape = unsafe { dims(t.shape, ndim) };
    let shape = shape.ok_or(FieldError::new("shape", 0, "not be NULL when ndim > 0"))?;
    // SAFETY: forwarded from the caller.
    let strides = match unsafe { dims(t.strides, ndim) } {
        Some(strides) => strides,
        None => compact_strides(&shape, crate::Order::C)?,
    };
    let padded = traits.contains(Traits::PADDED);
    let extent = Layout::new(&shape, &strides).validate(dtype, padded, unit_of(traits))?;

    let mut data = t.data.cast::<u8>();
    let mut byte_offset = 0;
    if !extent.is_empty() {
        if data.is_null() {
            return Err(FieldError::new("data", 0, "not be NULL when the tensor has elements"));
        }
        if is_opaque(device.kind) {
            byte_offset = t.byte_offset;
        } else {
            let fits = |at: u64, by: i64| at.checked_add_signed(by).filter(|a| *a <= i64::MAX.cast_unsigned());
            let wraps = || FieldError::new("byte_offset", t.byte_offset, "keep every element inside the address space");
            let first = (data.addr() as u64)
                .checked_add(t.byte_offset)
                .filter(|first| fits(*first, extent.lo).is_some() && fits(*first, extent.hi).is_some())
                .ok_or_else(wraps)?;
            let _ = first;
            data = data.wrapping_add(usize::try_from(t.byte_offset).map_err(|_| wraps())?);
        }
    }
    Ok(Valid { data, byte_offset, device, dtype, shape, strides })
}

/// # Safety
///
/// `pointer` is NULL or points to `ndim` readable values.
unsafe fn dims(pointer: *const i64, ndim: usize) -> Option<Dims> {
    if ndim == 0 {
        return Some(SmallVec::new());
    }
    if pointer.is_null() {
        return None;
    }
    if pointer.is_aligned() {
        // SAFETY: `ndim` values are readable by the caller's word, and the pointer is aligned.
        return Some(Dims::from_slice(unsafe { std::slice::from_raw_parts(pointer, ndim) }));
    }
    // SAFETY: `i < ndim`, which the caller says is readable; nothing promises alignment here.
    Some((0..ndim).map(|i| unsafe { pointer.add(i).read_unaligned() }).collect())
}
