//! Conversions to and from other crates' tensors, each behind the feature of its name.
//!
//! What another crate owns as a vector comes in without a copy. Out of here goes a copy, made in one pass, because these crates own
//! their memory; views without a copy are there where a borrow or the caller's word keeps writers away.

#[cfg(feature = "candle")]
mod candle;
#[cfg(feature = "ndarray")]
mod ndarray;

use crate::{
    Asked, Caps, Code, DType, Device, Dialect, Error, ImportOptions, Label, Message, Owner, Policy, RawTensor, Request,
    Result, Tensor, copy_into,
};

/// The elements in C order, copied in one pass. Lazy bits and the byte order are resolved on the way.
///
/// # Errors
///
/// `DT02` another dtype; what [`copy_into`] refuses.
pub(crate) fn collect<T: Copy + 'static>(tensor: &Tensor, dtype: DType) -> Result<Vec<T>> {
    debug_assert_eq!(size_of::<T>(), dtype.padded_size());
    expect_dtype(tensor, dtype)?;
    let n = usize::try_from(tensor.numel()).map_err(|_| Error::argument("shape", tensor.numel(), "fit in memory"))?;
    let mut values: Vec<T> = Vec::with_capacity(n);
    let raw = RawTensor {
        data: values.as_mut_ptr().cast(),
        shape: tensor.shape(),
        strides: None,
        dtype,
        device: Device::CPU,
        owner: Owner::Borrowed,
    };
    let options = ImportOptions {
        runtime: tensor.runtime().clone(),
        framework: Label::intern("rust"),
        quiet: true,
        ..Default::default()
    };
    // SAFETY: the vector has room for every element, and outlives the tensor, which ends with this function.
    let target = unsafe { Tensor::from_raw(raw, &options) }?;
    let (request, policy) = (Request::copy(), Policy::default());
    let asked = Asked::new(tensor.desc(), &request, &Caps::FREEHOLD, &policy, Dialect::Rust);
    // SAFETY: nobody else knows the vector's memory.
    unsafe { copy_into(tensor, &target, &asked, Label::NONE) }?;
    drop(target);
    // SAFETY: the capacity is `n` or more, and the copy has written each of the `n` elements of a compact tensor.
    unsafe { values.set_len(n) };
    Ok(values)
}

/// `DT02` where the tensor has another dtype: a conversion between types does not cast behind one's back.
fn expect_dtype(tensor: &Tensor, dtype: DType) -> Result<()> {
    if tensor.dtype() == dtype {
        return Ok(());
    }
    let text = format!("{} is asked for as {dtype}.", tensor.desc());
    let fix = format!("convert(&x, &Request::convert().dtype({dtype:?}), ..) first");
    Err(Error::rejected(Message::plain(Code::DT02, text, &fix), None))
}
