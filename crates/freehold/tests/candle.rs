//! Tensors of candle in and out, behind the feature of that name.
#![cfg(feature = "candle")]

use candle_core::{DType as Theirs, Device, Tensor as Candle};
use freehold::{Code, DType, Tensor};

#[test]
fn every_dtype_that_both_have_goes_there_and_back() {
    let source = Candle::new(&[[1f32, 2., 3.], [4., 5., 6.]], &Device::Cpu).unwrap();
    for (theirs, ours) in [
        (Theirs::U8, DType::U8),
        (Theirs::U32, DType::U32),
        (Theirs::I16, DType::I16),
        (Theirs::I32, DType::I32),
        (Theirs::I64, DType::I64),
        (Theirs::BF16, DType::BF16),
        (Theirs::F16, DType::F16),
        (Theirs::F32, DType::F32),
        (Theirs::F64, DType::F64),
    ] {
        let there = source.to_dtype(theirs).unwrap().t().unwrap();
        let copied = Tensor::try_from(&there).unwrap();
        assert_eq!((copied.dtype(), copied.shape(), copied.strides()), (ours, &[3, 2][..], &[2, 1][..]));
        // SAFETY: nothing here writes to `there` in place.
        let shared = unsafe { Tensor::from_candle(there.clone()) }.unwrap();
        assert_eq!((shared.dtype(), shared.strides(), shared.is_writable()), (ours, &[1, 3][..], false));
        for tensor in [&copied, &shared] {
            let back = Candle::try_from(tensor).unwrap();
            assert_eq!((back.dtype(), back.dims()), (theirs, &[3, 2][..]));
            let values = back.to_dtype(Theirs::F32).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(values, [[1., 4.], [2., 5.], [3., 6.]]);
        }
    }
}

#[test]
fn a_shared_one_is_candles_memory_and_keeps_it() {
    let source = Candle::arange(0f32, 6., &Device::Cpu).unwrap().narrow(0, 2, 3).unwrap();
    // SAFETY: nothing here writes to `source` in place.
    let (a, b) = unsafe { (Tensor::from_candle(source.clone()), Tensor::from_candle(source.clone())) };
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.data_ptr(), b.data_ptr());
    assert_eq!(a.allocation().map(|(base, len)| (a.data_ptr().addr() as u64 - base, len)), Some((8, 24)));
    drop((source, b));
    assert_eq!(a.view::<f32>().unwrap().to_vec(), [2., 3., 4.]);
}

#[test]
fn a_dtype_that_candle_lacks_is_refused() {
    assert_eq!(Candle::try_from(&Tensor::from(vec![1i8])).unwrap_err().code(), Code::DT02);
}
