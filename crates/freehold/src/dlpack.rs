//! The DLPack ABI, and the only module that names `dlpark`.
//!
//! What is taken from `dlpark` 0.10: the `#[repr(C)]` structs with their size and offset assertions, and
//! [`dlpark::Managed`], which calls a foreign deleter exactly once. What is not, and why:
//!
//! * its builders (`metadata::{Fixed, Dynamic}`) put the owner in a second allocation, and accept a context that is
//!   not `'static`, which is a use-after-free from safe code ([`crate::Owner`] demands `'static`);
//! * its `is_compact` calls a size-1 dimension with an odd stride non-contiguous (see
//!   [`crate::Layout::is_c_contiguous`]);
//! * its validation refuses NULL strides from 1.2 on, which ONNX Runtime still exports;
//! * its drop of a panicking owner aborts the process (`export::release` catches).
//!
//! ```
//! use freehold::dlpack::{CAPSULE_VERSIONED, FLAG_READ_ONLY, VERSION, flags_of};
//! use freehold::{ExportOptions, Tensor};
//!
//! let t = Tensor::from(vec![1.0f32]).read_only();
//! let capsule = t.to_versioned(&ExportOptions::default())?.into_raw();
//! // SAFETY: the capsule is ours until its deleter is called.
//! let managed = unsafe { &mut *capsule };
//! assert_eq!((managed.version.major, managed.version.minor), VERSION);
//! assert_eq!((flags_of(managed), managed.dl_tensor.ndim), (FLAG_READ_ONLY, 1));
//! assert_eq!(CAPSULE_VERSIONED, c"dltensor_versioned"); // its name where Python holds it
//! // SAFETY: as above; this is the one call.
//! unsafe { managed.deleter.expect("ours is never NULL")(capsule) };
//! # Ok::<(), freehold::Error>(())
//! ```

use std::ptr::NonNull;

use dlpark::DlpackFlags;
pub use dlpark::ffi::{
    DLDataType, DLDevice, DLDeviceType, DLManagedTensor, DLManagedTensorVersioned, DLPackExchangeAPI,
    DLPackExchangeAPIHeader, DLPackVersion, DLTensor,
};

use crate::{DType, Device, DeviceKind};

/// Highest DLPack version this build speaks.
pub const VERSION: (u32, u32) = (dlpark::ffi::DLPACK_MAJOR_VERSION, dlpark::ffi::DLPACK_MINOR_VERSION);
/// `DLPACK_FLAG_BITMASK_READ_ONLY`
pub const FLAG_READ_ONLY: u64 = dlpark::ffi::DLPACK_FLAG_BITMASK_READ_ONLY as u64;
/// `DLPACK_FLAG_BITMASK_IS_COPIED`
pub const FLAG_IS_COPIED: u64 = dlpark::ffi::DLPACK_FLAG_BITMASK_IS_COPIED as u64;
/// `DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED`
pub const FLAG_SUBBYTE_PADDED: u64 = dlpark::ffi::DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED as u64;

/// Name of a versioned capsule that nobody has consumed.
pub const CAPSULE_VERSIONED: &std::ffi::CStr = c"dltensor_versioned";
/// Name of a versioned capsule after its consumer took it.
pub const CAPSULE_VERSIONED_USED: &std::ffi::CStr = c"used_dltensor_versioned";
/// Name of a legacy capsule that nobody has consumed.
pub const CAPSULE_LEGACY: &std::ffi::CStr = c"dltensor";
/// Name of a legacy capsule after its consumer took it.
pub const CAPSULE_LEGACY_USED: &std::ffi::CStr = c"used_dltensor";

/// The owner of a foreign capsule: drops by calling its deleter once, or does nothing where the deleter is NULL
/// (the producer keeps the memory).
#[derive(Debug)]
pub(crate) enum ForeignCapsule {
    Versioned(#[expect(dead_code, reason = "held for its drop")] Capsule<DLManagedTensorVersioned>),
    Legacy(#[expect(dead_code, reason = "held for its drop")] Capsule<DLManagedTensor>),
}

/// One foreign managed tensor.
pub(crate) struct Capsule<M: dlpark::ManagedTensorBase>(dlpark::Managed<M>);

impl<M: dlpark::ManagedTensorBase> std::fmt::Debug for Capsule<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capsule({:p})", self.0.as_ptr())
    }
}

impl ForeignCapsule {
    /// Takes ownership of a versioned managed tensor whose major version was checked.
    ///
    /// # Safety
    ///
    /// * `raw` is an initialised managed tensor that the caller owns and gives up.
    /// * Its deleter, if any, may be called from any thread.
    #[inline(always)]
    pub(crate) unsafe fn versioned(raw: NonNull<DLManagedTensorVersioned>) -> Option<Self> {
        // SAFETY: forwarded from the caller.
        unsafe { dlpark::Managed::from_raw(raw.as_ptr()) }.ok().map(|m| Self::Versioned(Capsule(m)))
    }

    /// Takes ownership of a legacy managed tensor.
    ///
    /// # Safety
    ///
    /// As [`ForeignCapsule::versioned`].
    #[inline]
    pub(crate) unsafe fn legacy(raw: NonNull<DLManagedTensor>) -> Option<Self> {
        // SAFETY: forwarded from the caller.
        unsafe { dlpark::Managed::from_raw(raw.as_ptr()) }.ok().map(|m| Self::Legacy(Capsule(m)))
    }
}

/// Our dtype from the struct's.
///
/// ```
/// use freehold::DType;
/// use freehold::dlpack::{dtype_from, dtype_to};
///
/// assert_eq!(dtype_from(dtype_to(DType::BF16)), DType::BF16);
/// ```
pub fn dtype_from(raw: DLDataType) -> DType {
    DType { code: raw.code.0, bits: raw.bits, lanes: raw.lanes }
}

/// The struct's dtype from ours.
///
/// ```
/// use freehold::{DType, dlpack::dtype_to};
///
/// let raw = dtype_to(DType::F32);
/// assert_eq!((raw.code.0, raw.bits, raw.lanes), (2, 32, 1)); // kDLFloat
/// ```
pub fn dtype_to(dtype: DType) -> DLDataType {
    DLDataType { code: dlpark::ffi::DLDataTypeCode(dtype.code), bits: dtype.bits, lanes: dtype.lanes }
}

/// Our device from the struct's. The integer is kept as it is, known or not.
///
/// ```
/// use freehold::dlpack::{DLDevice, DLDeviceType, device_from};
///
/// let raw = DLDevice { device_type: DLDeviceType(2), device_id: 1 };
/// assert_eq!(device_from(raw).to_string(), "cuda:1");
/// ```
pub fn device_from(raw: DLDevice) -> Device {
    Device { kind: DeviceKind(raw.device_type.0.cast_signed()), id: raw.device_id }
}

/// The struct's device from ours.
///
/// ```
/// use freehold::Device;
/// use freehold::dlpack::{device_from, device_to};
///
/// assert_eq!(device_from(device_to(Device::CPU)), Device::CPU);
/// ```
pub fn device_to(device: Device) -> DLDevice {
    DLDevice { device_type: DLDeviceType(device.kind.0.cast_unsigned()), device_id: device.id }
}

/// The flags word of a versioned managed tensor, unknown bits included.
///
/// ```
/// use freehold::dlpack::{FLAG_READ_ONLY, flags_of};
/// use freehold::{ExportOptions, ImportOptions, Tensor};
///
/// let t = Tensor::from(vec![1.0f32]);
/// let raw = t.read_only().to_versioned(&ExportOptions::default())?.into_raw();
/// // SAFETY: the capsule is ours until it is taken over.
/// assert_eq!(flags_of(unsafe { &*raw }), FLAG_READ_ONLY);
/// // SAFETY: it is given up.
/// let back = unsafe { Tensor::from_versioned(raw, &ImportOptions::default())? };
/// assert!(!back.is_writable());
/// # Ok::<(), freehold::Error>(())
/// ```
pub fn flags_of(managed: &DLManagedTensorVersioned) -> u64 {
    managed.flags.bits()
}

/// A flags word.
pub(crate) fn flags_to(bits: u64) -> DlpackFlags {
    DlpackFlags::from_bits_retain(bits)
}

// Our plain types are read through the struct's fields by C callers too: the layouts must be the same.
const _: () = {
    assert!(size_of::<DType>() == size_of::<DLDataType>() && align_of::<DType>() == align_of::<DLDataType>());
    assert!(size_of::<Device>() == size_of::<DLDevice>() && align_of::<Device>() == align_of::<DLDevice>());
    assert!(size_of::<DLTensor>() == 48 && size_of::<DLManagedTensor>() == 64);
    assert!(size_of::<DLManagedTensorVersioned>() == 80 && size_of::<DLPackExchangeAPI>() == 56);
    assert!(std::mem::offset_of!(DLManagedTensorVersioned, dl_tensor) == 32);
    assert!(std::mem::offset_of!(DLManagedTensorVersioned, flags) == 24);
    assert!(std::mem::offset_of!(DLTensor, byte_offset) == 40);
};
