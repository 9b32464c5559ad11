//! Arrays of ndarray in and out, behind the feature of that name.
#![cfg(feature = "ndarray")]

use freehold::{Code, DType, Request, Tensor};
use ndarray::{Array, Array2, ArrayD, Axis, Dimension, IxDyn, array, s};

/// The array's elements, read through the tensor that has taken it over, are the array's; nothing has moved.
fn taken<D: Dimension>(array: Array<i32, D>) -> freehold::Result<Tensor> {
    let (first, copy) = (array.as_ptr().addr(), array.clone().into_dyn());
    let t = Tensor::try_from(array)?;
    if !copy.is_empty() {
        assert_eq!(t.data_ptr().addr(), first);
    }
    assert_eq!(t.view::<i32>()?.to_vec(), copy.iter().copied().collect::<Vec<_>>());
    // SAFETY: this thread holds the only handle, and does not write.
    assert_eq!(unsafe { t.as_ndarray::<i32>() }?, copy);
    assert_eq!(ArrayD::<i32>::try_from(&t)?, copy);
    Ok(t)
}

#[test]
fn every_layout_comes_in_without_a_copy() {
    let a = Array::from_shape_fn((3, 4), |(i, j)| (10 * i + j) as i32);
    assert_eq!(taken(a.clone()).unwrap().strides(), [4, 1]);
    assert_eq!(taken(a.clone().reversed_axes()).unwrap().strides(), [1, 4]);
    let mut backwards = a.clone();
    backwards.invert_axis(Axis(0));
    assert_eq!(taken(backwards).unwrap().strides(), [-4, 1]);
    let part = a.clone().slice_move(s![1.., ..;2]);
    assert_eq!(taken(part).unwrap().strides(), [4, 2]);
    let mut both = a.slice_move(s![.., 1..]);
    both.invert_axis(Axis(0));
    both.invert_axis(Axis(1));
    assert_eq!(taken(both).unwrap().strides(), [-4, -1]);
    taken(ndarray::arr0(7)).unwrap();
    taken(Array2::<i32>::zeros((0, 3))).unwrap();
    taken(Array2::<i32>::zeros((3, 0))).unwrap();
}

#[test]
fn the_vector_is_the_allocation_and_goes_with_the_last_handle() {
    let t = Tensor::try_from(array![1.0f32, 2.0, 3.0].slice_move(s![1..])).unwrap();
    let (base, bytes) = t.allocation().unwrap();
    assert_eq!((t.data_ptr().addr() as u64 - base, bytes), (4, 12));
    assert_eq!(t.framework().as_str(), "ndarray");
    let view = t.clone();
    drop(t);
    assert_eq!(view.view::<f32>().unwrap().to_vec(), [2.0, 3.0]);
}

#[test]
fn out_of_here_goes_a_copy_in_c_order() {
    let t = Tensor::try_from(array![[1u8, 2], [3, 4]].reversed_axes()).unwrap();
    let out = Array2::<u8>::try_from(&t).unwrap();
    assert_eq!(out, array![[1, 3], [2, 4]]);
    assert_ne!(out.as_ptr().addr(), t.data_ptr().addr());
    assert!(out.is_standard_layout());
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let t = Tensor::from(vec![1.5f32, 2.5]);
    assert_eq!(ArrayD::<f64>::try_from(&t).unwrap_err().code(), Code::DT02);
    let error = Array2::<f32>::try_from(&t).unwrap_err();
    assert_eq!(error.code(), Code::AR01);
    assert!(error.to_string().contains("1 dimensions"), "{error}");
    // SAFETY: refused before anything is read.
    assert_eq!(unsafe { t.as_ndarray::<i32>() }.unwrap_err().code(), Code::DT02);
    let many = ArrayD::<f32>::zeros(IxDyn(&[1; 65]));
    assert_eq!(Tensor::try_from(many).unwrap_err().code(), Code::CP02);
}

#[test]
fn a_sole_writable_tensor_is_written_through_an_array() {
    let mut t = Tensor::try_from(array![[1.0f64, 2.0], [3.0, 4.0]]).unwrap();
    let mut view = t.view_mut::<f64>().unwrap().into_ndarray();
    view[[1, 0]] = 30.0;
    view.index_axis_mut(Axis(0), 0).fill(0.0);
    assert_eq!(t.view::<f64>().unwrap().to_vec(), [0.0, 0.0, 30.0, 4.0]);
    let second = t.clone();
    assert_eq!(t.view_mut::<f64>().unwrap_err().code(), Code::RO01);
    drop(second);
    let mut none = Tensor::zeros(DType::F32, &[0, 3], t.runtime()).unwrap();
    assert_eq!(none.view_mut::<f32>().unwrap().into_ndarray().len(), 0);
    // What a request converts is an array like any other.
    let wide = freehold::convert(
        &t,
        &Request::convert().dtype(DType::I32),
        &freehold::Caps::FREEHOLD,
        &freehold::Policy::default(),
    );
    assert_eq!(Array2::<i32>::try_from(&wide.unwrap()).unwrap(), array![[0, 0], [30, 4]]);
}
