//! Validation of a foreign `DLTensor`: every field, before it is used.

use std::mem::ManuallyDrop;

use freehold_tensor::{MAX_NDIM, compact_strides};

use crate::dlpack::{DLTensor, device_from, dtype_from};
use crate::handle::{Draft, Ground, Loan, look};
use crate::tensor::unit_of;
use crate::{DType, Device, DeviceKind, FieldError, Layout, Traits};

/// A tensor's fields after every rule held.
pub(crate) struct Valid<Dims = Draft> {
    pub(crate) data: *mut u8,
    pub(crate) byte_offset: u64,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    pub(crate) dims: Dims,
}

impl Valid {
    pub(crate) fn layout(&self) -> Layout<'_> {
        Layout::new(self.dims.shape(), self.dims.strides())
    }
}

impl Valid<Loan> {
    /// Takes the block that its dimensions are in.
    ///
    /// # Safety
    ///
    /// * As for [`Loan::take`].
    #[inline(always)]
    pub(crate) unsafe fn take(self) -> Valid {
        let Valid { data, byte_offset, device, dtype, dims } = self;
        // SAFETY: forwarded from the caller.
        Valid { data, byte_offset, device, dtype, dims: unsafe { dims.take() } }
    }
}

/// Devices whose `data` is an opaque handle: an offset cannot be added to it.
fn is_opaque(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::OPENCL | DeviceKind::VULKAN | DeviceKind::METAL | DeviceKind::WEBGPU)
}

/// Facts with which a tensor's layout is not the usual one.
pub(crate) const NOT_PLAIN: Traits = Traits::PADDED.union(Traits::BYTE_STRIDES);

/// What nearly every tensor is, in a third of the time: a plain dtype, host memory, no offset, sizes and strides that are
/// positive and fit 28 bits. `None` says nothing: [`validate`] decides then, and says the same of what is accepted here.
///
/// # Safety
///
/// As [`validate`].
#[inline(always)]
pub(crate) unsafe fn plain<Dims: Ground>(t: *const DLTensor) -> Option<Valid<Dims>> {
    /// The sum of as many products of two such numbers, times the largest element, is below 2^63.
    const BITS: u32 = 28;
    /// Bytes of the largest plain element.
    const LARGEST: i64 = 16;
    /// A kept block has room for them.
    const MAX_PLAIN_NDIM: usize = look::MAX_NDIM;
    /// By dimensions: such sizes, and one more, make less than 2^63 elements.
    const SMALL: [u32; MAX_PLAIN_NDIM + 1] = [1 << BITS, 1 << BITS, 1 << BITS, 1 << 20, 1 << 15, 1 << 12, 1 << 10];
    // No field is read twice, and each when it is needed: all of them at once do not fit the registers.
    // SAFETY: forwarded from the caller.
    let (device, byte_offset) = unsafe { (device_from((*t).device), (*t).byte_offset) };
    // Both numbers of the device at once.
    if u64::from(device.kind.0 as u32) | u64::from(device.id as u32) << 32 != DeviceKind::CPU.0 as u64
        || byte_offset != 0
    {
        return None;
    }
    // SAFETY: as above.
    let (ndim, shape, strides) = unsafe { ((*t).ndim as u32 as usize, (*t).shape, (*t).strides) };
    if ndim > MAX_PLAIN_NDIM {
        return None;
    }
    // One sign for both: NULL, and an address above 2^63.
    let before = |p: *const i64| p.addr().wrapping_sub(1);
    if (before(shape) | before(strides)) >> (usize::BITS - 1) != 0 {
        return None;
    }
    // SAFETY: at most as many dimensions as a block has. All are written before the draft leaves the block, and a draft that is
    // dropped is not read.
    let mut draft = ManuallyDrop::new(unsafe { Dims::room(ndim) }?);
    let place = draft.place();
    let (mut steps, mut strides_seen, mut last) = (0, 0, 0_i64);
    // Ended in the middle, because a loop that is not is made one of vectors, which costs more than two or three dimensions.
    for i in 0..MAX_PLAIN_NDIM {
        if i >= ndim {
            break;
        }
        // SAFETY: shape and strides have `ndim` values by the caller's word, and the draft room for them.
        let (n, s) = unsafe {
            let (n, s) = (shape.add(i).read_unaligned(), strides.add(i).read_unaligned());
            place.add(i).write(n);
            place.add(ndim + i).write(s);
            (n, s)
        };
        // How many steps there are along the dimension: -1 where there are no elements. A negative number has high bits.
        let n = n.wrapping_sub(1);
        steps |= n;
        strides_seen |= s;
        last = last.wrapping_add(n.wrapping_mul(s));
    }
    // By value, so that what is accepted stays in registers.
    let dims = ManuallyDrop::into_inner(draft);
    if (steps | strides_seen) >> BITS != 0 {
        dims.abandon();
        return None;
    }
    // SAFETY: forwarded from the caller.
    let (data, dtype) = unsafe { ((*t).data, (&raw const (*t).dtype).cast::<u32>().read_unaligned()) };
    let dtype = DType::plain_from_word(dtype);
    let start = data.addr() as i64;
    // The sign of each says no: of NULL, and of what would not end below 2^63 if its elements were the largest.
    let wrong = start.wrapping_sub(1) | start.wrapping_add(LARGEST).wrapping_add(last * LARGEST);
    // Whether the elements can be counted; without a look at each size where all are small.
    let counted = || dims.shape().iter().try_fold(1, |n: i64, &m| n.checked_mul(m)).is_some();
    let Some(dtype) = dtype.filter(|_| wrong >= 0 && ((steps as u32) < SMALL[ndim] || counted())) else {
        dims.abandon();
        return None;
    };
    Some(Valid { data: data.cast(), byte_offset: 0, device: Device::CPU, dtype, dims })
}

/// Checks a foreign tensor, by the short way where that is enough: see [`validate`].
///
/// # Safety
///
/// As [`validate`].
#[inline]
pub(crate) unsafe fn check(t: *const DLTensor, traits: Traits) -> Result<Valid, FieldError> {
    let short = !traits.intersects(NOT_PLAIN);
    // SAFETY: forwarded from the caller.
    match if short { unsafe { plain(t) } } else { None } {
        Some(valid) => Ok(valid),
        // SAFETY: forwarded from the caller.
        None => unsafe { validate(t, traits) },
    }
}

/// Checks a foreign tensor against DLPack 1.3 and copies its shape and strides out. NULL strides are accepted from
/// any version as compact row-major (forbidden to producers since 1.2; ONNX Runtime and MXNet still do it).
///
/// # Safety
///
/// * `t` points to a readable `DLTensor`.
/// * Where `ndim` is between 1 and 64, a non-NULL `shape` and a non-NULL `strides` point to `ndim` readable `i64`.
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
unsafe fn copied(shape: *const i64, strides: *const i64, ndim: usize) -> Draft {
    // SAFETY: both halves are written here. `i < ndim`: readable by the caller's word, and the draft has room for `ndim` twice.
    unsafe {
        Draft::written(ndim, |place| {
            for i in 0..ndim {
                place.add(i).write(shape.add(i).read_unaligned());
                place.add(ndim + i).write(strides.add(i).read_unaligned());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlpack::{device_to, dtype_to};

    #[test]
    fn the_short_way_says_what_the_long_one_does() {
        let sizes = [-1, 0, 3, 1 << 28, i64::MAX, 1, 2, 1 << 27, (1 << 28) + 1, 1 << 30, 1 << 61, i64::MIN];
        // Interpreted, three of a hundred.
        let sizes = &sizes[..if cfg!(miri) { 4 } else { sizes.len() }];
        let mut memory = 0_u64;
        let data = (&raw mut memory).cast();
        let high = std::ptr::without_provenance_mut(i64::MAX as usize - 64);
        let dtypes =
            [DType::F32, DType::C128, DType::U8, DType::new(0, 4), DType::new(6, 16), DType::F32.with_lanes(2)];
        let devices = [
            Device::CPU,
            Device { id: 3, ..Device::CPU },
            Device { id: -1, ..Device::CPU },
            Device::new(DeviceKind::CUDA, 1),
        ];
        let (mut short, mut long) = (0, 0);
        let mut compare = |shape: &mut [i64], strides: &mut [i64], data, byte_offset, dtype, device| {
            let t = DLTensor {
                data,
                device: device_to(device),
                ndim: shape.len() as i32,
                dtype: dtype_to(dtype),
                shape: shape.as_mut_ptr(),
                strides: strides.as_mut_ptr(),
                byte_offset,
            };
            // SAFETY: shape and strides have `ndim` values.
            let Some(valid) = (unsafe { plain::<Draft>(&t) }) else { return long += 1 };
            short += 1;
            // SAFETY: as above.
            let same = unsafe { validate(&t, Traits::empty()) }.expect("what the short way takes is valid");
            assert_eq!((valid.data, valid.byte_offset, valid.device, valid.dtype), (same.data, 0, same.device, dtype));
            assert_eq!(valid.layout(), same.layout());
        };
        for &a in sizes {
            for &b in sizes {
                for &s in sizes {
                    compare(&mut [a, b], &mut [s, 1], data, 0, DType::F32, Device::CPU);
                    compare(&mut [b, a], &mut [1, s], high, 0, DType::F64, Device::CPU);
                }
            }
        }
        for dtype in dtypes {
            for device in devices {
                for (data, offset) in [(data, 0), (data, 8), (std::ptr::null_mut(), 0)] {
                    compare(&mut [2, 3], &mut [3, 1], data, offset, dtype, device);
                    compare(&mut [], &mut [], data, offset, dtype, device);
                }
            }
        }
        for ndim in 1..=9 {
            for bits in [1, 9, 10, 11, 12, 13, 15, 16, 20, 21, 22, 27, 28] {
                for n in [(1 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                    for stride in [0, 1, 1 << 27, 1 << 28] {
                        compare(&mut vec![n; ndim], &mut vec![stride; ndim], data, 0, DType::C128, Device::CPU);
                    }
                }
            }
        }
        assert!(short > 400 && long > 400, "{short} {long}");
    }
}
