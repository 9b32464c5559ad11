//! candle: its tensors own their memory as vectors behind a lock, so what goes in is copied, once.

use candle_core::{CpuStorage, Layout, Storage};

use super::collect;
use crate::{DType, Device, Error, ImportOptions, Label, Owner, RawTensor, Result, Tensor};

/// What candle has no memory for, or says.
fn failed(error: &candle_core::Error) -> Error {
    Error::argument("the tensor", "refused by candle", &error.to_string())
}

/// First element, whole allocation in bytes, dtype; `None` for storage that is not on the host or whose elements DLPack lacks.
fn parts(storage: &Storage, offset: usize) -> Option<(*const u8, (u64, u64), DType)> {
    fn of<T>(values: &[T], offset: usize, dtype: DType) -> Option<(*const u8, (u64, u64), DType)> {
        let first = values.as_ptr().wrapping_add(offset).cast();
        Some((first, (values.as_ptr().addr() as u64, size_of_val(values) as u64), dtype))
    }
    let Storage::Cpu(storage) = storage else { return None };
    match storage {
        CpuStorage::U8(v) => of(v, offset, DType::U8),
        CpuStorage::U32(v) => of(v, offset, DType::U32),
        CpuStorage::I16(v) => of(v, offset, DType::I16),
        CpuStorage::I32(v) => of(v, offset, DType::I32),
        CpuStorage::I64(v) => of(v, offset, DType::I64),
        CpuStorage::BF16(v) => of(v, offset, DType::BF16),
        CpuStorage::F16(v) => of(v, offset, DType::F16),
        CpuStorage::F32(v) => of(v, offset, DType::F32),
        CpuStorage::F64(v) => of(v, offset, DType::F64),
        _ => None,
    }
}

/// candle's elements as they lie, read-only.
///
/// # Safety
///
/// * The elements stay where they are, and nobody writes to them, while the result or anything made from it lives.
unsafe fn import(storage: &Storage, layout: &Layout, owner: Owner, options: ImportOptions) -> Result<Tensor> {
    let Some((first, alloc, dtype)) = parts(storage, layout.start_offset()) else {
        let got = format!("{:?} on {:?}", storage.dtype(), storage.device());
        return Err(Error::argument("the tensor", got, "be on the host, of a dtype that both have"));
    };
    let shape: Vec<i64> = layout.dims().iter().map(|&n| n as i64).collect();
    let strides: Vec<i64> = layout.stride().iter().map(|&n| n as i64).collect();
    let (data, device) = (first.cast_mut(), Device::CPU);
    let raw = RawTensor { data, shape: &shape, strides: Some(&strides), dtype, device, owner };
    let (framework, traits) = (Label::intern("candle"), crate::Traits::READ_ONLY);
    let options = ImportOptions { framework, traits, alloc: Some(alloc), ..options };
    // SAFETY: forwarded from the caller; the layout is that of the storage.
    unsafe { Tensor::from_raw(raw, &options) }
}

impl Tensor {
    /// candle's memory as a tensor, without a copy, read-only. The candle tensor is kept while it is shared.
    ///
    /// # Errors
    ///
    /// `AR01` for a tensor on another device than the host, or of a dtype that is not among u8, u32, i16, i32, i64, bf16, f16, f32, f64.
    ///
    /// # Safety
    ///
    /// * Nobody changes the memory in place while the result or anything made from it lives: no `slice_set`, `scatter_set`,
    ///   in-place operation or `Var::set` on it or on a tensor that shares its storage. candle's lock does not cover our readers.
    pub unsafe fn from_candle(tensor: candle_core::Tensor) -> Result<Tensor> {
        let (storage, layout) = tensor.storage_and_layout();
        let owner = Owner::Value(Box::new(tensor.clone()));
        // SAFETY: the elements are in a vector behind the tensor's lock, which candle never grows; the owner keeps it; that nobody
        // writes is the caller's promise.
        unsafe { import(&storage, layout, owner, ImportOptions::default()) }
    }
}

/// A copy in C order, made in one pass.
impl TryFrom<&candle_core::Tensor> for Tensor {
    type Error = Error;

    /// # Errors
    ///
    /// As [`Tensor::from_candle`]; `ME01` no memory.
    fn try_from(tensor: &candle_core::Tensor) -> Result<Tensor> {
        // While candle's lock is held for reading nobody writes, and the copy is done before it is let go.
        let (storage, layout) = tensor.storage_and_layout();
        let options = ImportOptions { quiet: true, ..ImportOptions::default() };
        // SAFETY: the lock is held until the copy is made, and the borrowed tensor ends before it.
        let borrowed = unsafe { import(&storage, layout, Owner::Borrowed, options) }?;
        let request = crate::Request::copy().order(crate::Order::C);
        crate::convert(&borrowed, &request, &crate::Caps::FREEHOLD, &crate::Policy::default())
    }
}

/// A copy in C order, made in one pass, on candle's CPU device.
impl TryFrom<&Tensor> for candle_core::Tensor {
    type Error = Error;

    /// # Errors
    ///
    /// `DT02` where candle lacks the dtype: convert it first; `DV01` where the memory cannot be read from here.
    fn try_from(tensor: &Tensor) -> Result<Self> {
        let shape: Vec<usize> = tensor.shape().iter().map(|&n| n as usize).collect();
        macro_rules! made {
            ($($dtype:ident => $t:ty),*) => {
                match tensor.dtype() {
                    $(DType::$dtype => {
                        let values = collect::<$t>(tensor, DType::$dtype)?;
                        candle_core::Tensor::from_vec(values, shape, &candle_core::Device::Cpu)
                    })*
                    _ => {
                        let text = format!("{}: candle lacks the dtype.", tensor.desc());
                        let fix = "convert(&x, &Request::convert().dtype(DType::F32), ..) first";
                        return Err(Error::rejected(crate::Message::plain(crate::Code::DT02, text, fix), None));
                    }
                }
            };
        }
        made!(U8 => u8, U32 => u32, I16 => i16, I32 => i32, I64 => i64, BF16 => half::bf16, F16 => half::f16, F32 => f32, F64 => f64)
            .map_err(|e| failed(&e))
    }
}
