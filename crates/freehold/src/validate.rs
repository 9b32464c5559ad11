//! Validation of a foreign `DLTensor`: every field, before it is used.

use freehold_tensor::{MAX_NDIM, compact_strides};

use crate::dlpack::{DLTensor, device_from, dtype_from};
use crate::handle::Draft;
use crate::tensor::unit_of;
use crate::{DType, Device, DeviceKind, FieldError, Layout, Traits};

/// A tensor's fields after every rule held.
pub(crate) struct Valid {
    pub(crate) data: *mut u8,
    pub(crate) byte_offset: u64,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    pub(crate) dims: Draft,
}

impl Valid {
    pub(crate) fn layout(&self) -> Layout<'_> {
        Layout::new(self.dims.shape(), self.dims.strides())
    }
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
    if ndim > 0 && t.shape.is_null() {
        return Err(FieldError::new("shape", 0, "not be NULL when ndim > 0"));
    }
    // SAFETY: forwarded from the caller; both are not NULL where there is a dimension.
    let dims = unsafe {
        if ndim > 0 && t.strides.is_null() {
            let shape: freehold_tensor::Dims = (0..ndim).map(|i| t.shape.add(i).read_unaligned()).collect();
            Draft::copied(&shape, &compact_strides(&shape, crate::Order::C)?)
        } else {
            copied(t.shape, t.strides, ndim)
        }
    };
    let padded = traits.contains(Traits::PADDED);
    let extent = Layout::new(dims.shape(), dims.strides()).validate(dtype, padded, unit_of(traits))?;

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
            (data.addr() as u64)
                .checked_add(t.byte_offset)
                .filter(|first| fits(*first, extent.lo).is_some() && fits(*first, extent.hi).is_some())
                .ok_or_else(wraps)?;
            data = data.wrapping_add(usize::try_from(t.byte_offset).map_err(|_| wraps())?);
        }
    }
    Ok(Valid { data, byte_offset, device, dtype, dims })
}

/// Shape and strides, read once: the producer may change its own meanwhile.
///
/// # Safety
///
/// * `shape` and `strides` point to `ndim` readable values; nothing promises alignment.
#[inline]
unsafe fn copied(shape: *const i64, strides: *const i64, ndim: usize) -> Draft {
    let fill = |dims: *mut i64| {
        for i in 0..ndim {
            // SAFETY: `i < ndim`: readable by the caller's word, and the draft has room for `ndim` twice.
            unsafe {
                dims.add(i).write(shape.add(i).read_unaligned());
                dims.add(ndim + i).write(strides.add(i).read_unaligned());
            }
        }
    };
    // SAFETY: `fill` writes both halves.
    unsafe { Draft::new(ndim, fill) }
}
